//! `pannier run`: the program of an image in a sandbox.

mod terminal;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use clap::Args;
use events::Events as _;
use oci::{Image, ImageName, Platform, Sources};
use platform::env_file;
use platform::run::{ImageError, RunError, RunRequest};
use platform::volume::Volume;
use sandbox::{Failure, SpawnError};

use super::{Network, not_had};
use crate::context::Context;
use crate::error::CommandError;
use crate::signals;
use terminal::Terminal;

/// The exit code where pannier failed, not the program; as container engines have it.
const EXIT_OURS: u8 = 125;
/// The exit code for a program that cannot be executed.
const EXIT_NOT_EXECUTABLE: u8 = 126;
/// The exit code for a program that is not there.
const EXIT_NOT_FOUND: u8 = 127;

/// Run an image in a sandbox
///
/// The program sees the image's files, this machine's network and nothing else of this machine. What it writes is gone
/// when it ends, but for volumes. Signals are passed on to it, and its exit code is passed back: 128 and the signal's
/// number where a signal ended it; 125 where pannier itself failed, 126 and 127 where the program cannot be executed
/// or is not there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pannier run my-app                                   what was built
  pannier run my-app --env PORT=9000 -- --verbose      a variable and an argument
  pannier run my-app --entrypoint worker               another process of the app
  pannier run oci:layout:latest --entrypoint '' -- /bin/sh -c id
  pannier run registry.example/app --volume /srv/data:/data:rw")]
pub struct RunArgs {
    /// The image: a name (the local store, then its registry), or `docker://NAME`, `oci:DIR[:TAG]`,
    /// `oci-archive:FILE`, `docker-archive:FILE`
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Arguments for the program, instead of the image's own
    #[arg(last = true, value_name = "ARGS")]
    pub args: Vec<OsString>,

    /// Start this program, or process type of the app; '' for none, only ARGS
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// Set a variable: NAME=value, or NAME for its value here; may be repeated
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Variables from a file, one NAME[=value] a line
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Let the program see a folder or file of this machine, read-only unless `:rw`; may be repeated
    #[arg(long, value_name = "HOST:TARGET[:ro|rw]")]
    pub volume: Vec<String>,
    /// The network that the program sees
    #[arg(long, value_enum, default_value_t = Network::Host)]
    pub network: Network,
    /// Run as this user: names or numbers, looked up in the image
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Start in this folder of the image
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// Of an image for several platforms, take this one
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    #[command(flatten)]
    pub registry: super::RegistryArgs,
}

/// The exit code of the launcher when it cannot start a process (platform specification, "launcher").
const LAUNCH_FAILED: i32 = 82;

/// True when nobody says what to start: neither the image, whose entrypoint is the launcher itself, nor the user.
fn is_bare(image: &Image, args: &RunArgs) -> bool {
    let config = &image.config.config;
    let is_launcher = config.entrypoint == ["/cnb/lifecycle/launcher"] && config.cmd.is_empty();
    is_launcher && args.entrypoint.is_none() && args.args.is_empty()
}

/// Runs the program to its end.
pub fn run(context: &Context<'_>, args: &RunArgs) -> Result<ExitCode, CommandError> {
    start_and_wait(context, args).map_err(|error| match error.exit_code {
        1 => error.code(EXIT_OURS),
        _ => error,
    })
}

fn start_and_wait(context: &Context<'_>, args: &RunArgs) -> Result<ExitCode, CommandError> {
    let (env, unset) = env_file::collect(&[], &args.env_file, &args.env, &|name| std::env::var_os(name))?;
    let volumes = args.volume.iter().map(|text| Volume::parse(text)).collect::<Result<_, _>>()?;
    let name: ImageName = args.image.parse()?;
    context.ui.leave_stdout();
    let entered = context.enter()?;
    for name in unset {
        context.ui.warning(&format!("{name} has no value here, so the program will not see it"));
    }
    let sources = Sources { store: context.store()?, client: args.registry.client(context)? };
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let (image, lowers) = platform::run::open(&sources, &name, &platform, entered.ids, context.ui)
        .map_err(|error| not_had(&name, explain_image(error)))?;
    context.ui.finish();

    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let mut request = RunRequest {
        config: image.config.config.clone(),
        lowers,
        scratch: sources.store.scratch_dir()?.to_owned(),
        entrypoint: args.entrypoint.clone(),
        args: args.args.clone(),
        env,
        volumes,
        network: match args.network {
            Network::Host => sandbox::Network::Host,
            Network::None => sandbox::Network::None,
        },
        user: args.user.clone(),
        working_dir: args.workdir.clone(),
        terminal,
        terminal_size: terminal::size(),
    };
    if let (true, Some(kind)) = (terminal, std::env::var_os("TERM")) {
        // What the program writes is read by this terminal, whatever the image thinks of.
        request.env.entry("TERM".to_owned()).or_insert(kind);
    }
    let delivery = Arc::new(OnceLock::<Box<dyn Fn(i32) + Send + Sync>>::new());
    // From here on a signal is the program's; one that comes too early waits for it.
    let waiting = Arc::clone(&delivery);
    signals::forward(move |signal| waiting.wait()(signal))?;
    let mut running = platform::run::start(request).map_err(|error| {
        let error = explain_start(error);
        let processes = platform::inspect::process_types(&image);
        other_processes(error, args.entrypoint.as_deref(), &processes)
    })?;
    let child = &mut running.child;
    let terminal = child.terminal.take().map(Terminal::attach).transpose()?;
    let (signaller, size) = (child.signaller(), terminal.as_ref().map(Terminal::size_follower).transpose()?);
    let _ = delivery.set(Box::new(move |signal| match &size {
        Some(follow) if signal == signal_hook::consts::SIGWINCH => follow(),
        _ => signaller.signal(signal),
    }));
    if let Some(terminal) = terminal {
        terminal.relay();
    }
    let status = child.wait()?;
    let code = status.shell_code();
    // Not before the program's root is gone.
    drop(running);
    let processes = platform::inspect::process_types(&image);
    if status.denied_call().is_some() {
        context.ui.warning(&format!("the program ended with {status}"));
    }
    if code == LAUNCH_FAILED && is_bare(&image, args) && !processes.is_empty() {
        let other = format!("--entrypoint {}", processes[0]);
        context
            .ui
            .warning(&format!("the app has no default process, but: {} ({other})", processes.join(", ")));
    }
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

fn explain_image(error: ImageError) -> CommandError {
    let hint = match &error {
        ImageError::Image { source, .. } => source.hint(),
        ImageError::Platform { .. } => {
            Some("choose another image, or another of its platforms with --platform".to_owned())
        }
        _ => None,
    };
    hint.into_iter().fold(CommandError::new(error), CommandError::hint)
}

fn explain_start(error: RunError) -> CommandError {
    let code = match &error {
        RunError::Spawn(SpawnError::Failure(failure)) => match failure {
            Failure::NotFound(_) => EXIT_NOT_FOUND,
            Failure::NotExecutable(_)
            | Failure::ExecFormat(_)
            | Failure::MissingInterpreter { .. }
            | Failure::WrongArchitecture { .. } => EXIT_NOT_EXECUTABLE,
            _ => EXIT_OURS,
        },
        _ => EXIT_OURS,
    };
    let hint = error.hint().map(str::to_owned);
    hint.into_iter().fold(CommandError::new(error).code(code), CommandError::hint)
}

/// Who asks for an entrypoint that is not there may have meant a process of the app.
fn other_processes(error: CommandError, entrypoint: Option<&str>, processes: &[String]) -> CommandError {
    let is_a_name = entrypoint.is_some_and(|name| !name.is_empty() && !name.contains('/'));
    if error.exit_code != EXIT_NOT_FOUND || !is_a_name || processes.is_empty() {
        return error;
    }
    error.hint(format!("the app has the processes: {}", processes.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entrypoint_that_is_not_there_names_the_processes() {
        let processes = ["web", "worker"].map(str::to_owned);
        let hints = |name: &str, code: u8| {
            let error = CommandError::new("x").code(code);
            other_processes(error, Some(name).filter(|name| *name != "none"), &processes).hints
        };
        assert_eq!(hints("nope", EXIT_NOT_FOUND), ["the app has the processes: web, worker"]);
        for (name, code) in [("nope", EXIT_OURS), ("/bin/nope", EXIT_NOT_FOUND), ("none", EXIT_NOT_FOUND)] {
            assert!(hints(name, code).is_empty(), "{name}");
        }
    }

    #[test]
    fn exit_codes_are_a_container_engines() {
        let code = |failure: Failure| explain_start(RunError::Spawn(failure.into())).exit_code;
        assert_eq!(code(Failure::NotFound("x".into())), 127);
        assert_eq!(code(Failure::NotExecutable("x".into())), 126);
        assert_eq!(
            code(Failure::WorkingDirectory { path: "x".into(), source: std::io::ErrorKind::NotFound.into() }),
            125
        );
        let error = explain_start(RunError::NoProgram);
        assert_eq!((error.exit_code, error.hints.len()), (125, 1));
    }
}
