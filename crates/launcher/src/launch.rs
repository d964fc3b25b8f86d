//! The launch itself, from the decision what to start to the system call that starts it.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cnb::ApiVersion;
use cnb::env::Env;
use cnb::launch::LaunchMetadata;

use crate::failure::{Context, Failure, quoted, reason};
use crate::files::{self, Kind};
use crate::layers::BuildpackLayers;
use crate::process::StartCommand;
use crate::{execd, layers, lookup, process, shell};

/// Where the links named after process types are; not in the PATH of a process.
const PROCESS_DIR: &str = "/cnb/process";
/// Where the launcher is; not in the PATH of a process.
const LIFECYCLE_DIR: &str = "/cnb/lifecycle";

/// Everything that decides what is started and how.
#[derive(Debug)]
pub struct Launch {
    /// The name under which the launcher was called.
    pub caller: OsString,
    /// The user's arguments.
    pub user_args: Vec<OsString>,
    /// What the build left in `config/metadata.toml`.
    pub metadata: LaunchMetadata,
    /// The Platform API of the app image.
    pub platform: ApiVersion,
    /// The execution environment, such as `production`.
    pub exec_env: String,
    /// The app folder.
    pub app_dir: PathBuf,
    /// The layers folder.
    pub layers_dir: PathBuf,
}

impl Launch {
    /// Becomes the process. Returns only when it cannot.
    pub fn start(&self) -> Result<Infallible, Failure> {
        let requested = process::requested_type(&self.caller, &self.metadata);
        let start = process::select(
            &self.metadata,
            self.platform,
            &self.exec_env,
            requested.as_deref(),
            &self.user_args,
        )
        .context("determine start command")?;
        change_dir(&self.app_dir).context("change to app directory")?;

        let mut env = Env::for_launch(environment(), Path::new(PROCESS_DIR), Path::new(LIFECYCLE_DIR));
        let layers = layers::list(&self.layers_dir, &self.metadata.buildpacks)
            .and_then(|layers| {
                layers::apply_environment(&layers, &start.process_type, &mut env)?;
                Ok(layers)
            })
            .context("modify env")?;
        self.run_execd(&layers, &start, &mut env).context("exec.d")?;

        let working_dir = start.working_dir.clone().unwrap_or_else(|| self.app_dir.clone());
        if start.direct {
            direct(&start, &working_dir, &env)
        } else {
            self.with_shell(&start, &working_dir, &layers, &env)
        }
    }

    fn run_execd(
        &self,
        layers: &[BuildpackLayers],
        start: &StartCommand,
        env: &mut Env,
    ) -> Result<(), Failure> {
        for folder in layers::folders(layers, "exec.d", &start.process_type) {
            for program in files::list(&folder, Kind::Other)? {
                execd::run(&program, env)?;
            }
        }
        Ok(())
    }

    fn with_shell(
        &self,
        start: &StartCommand,
        working_dir: &Path,
        layers: &[BuildpackLayers],
        env: &Env,
    ) -> Result<Infallible, Failure> {
        let profiles =
            shell::profiles(layers, &start.process_type, &self.app_dir).context("find profiles")?;
        shell::check_origin(start, &self.metadata)?;
        let arguments = shell::arguments(start, working_dir, &profiles, &self.caller);
        execute(Path::new(shell::BASH), &arguments, env).context("bash exec")
    }
}

fn direct(start: &StartCommand, working_dir: &Path, env: &Env) -> Result<Infallible, Failure> {
    let Some(name) = start.command.first() else {
        return Err(Failure::launch(format!(
            "no command provided for process type {}",
            quoted(&start.process_type)
        )));
    };
    let path = env.get("PATH").unwrap_or(OsStr::new(""));
    let program = lookup::find(name, path).context("path lookup")?;
    change_dir(working_dir).context("change directory")?;
    let arguments = [start.command.as_slice(), start.args.as_slice()].concat();
    execute(&program, &arguments, env).context("direct exec")
}

/// The environment we were started with; of a name that is there twice the first counts, as for getenv(3).
fn environment() -> impl Iterator<Item = (OsString, OsString)> {
    let mut variables: Vec<_> = std::env::vars_os().collect();
    variables.reverse();
    variables.into_iter()
}

fn change_dir(dir: &Path) -> Result<(), Failure> {
    std::env::set_current_dir(dir).map_err(|error| Failure::path("chdir", dir, &error))
}

/// Replaces this program. The standard library also undoes what its start-up did to SIGPIPE, which is why no system
/// call is made here directly.
fn execute(program: &Path, arguments: &[OsString], env: &Env) -> Result<Infallible, Failure> {
    let mut command = Command::new(program);
    if let [name, rest @ ..] = arguments {
        command.arg0(name).args(rest);
    }
    command.env_clear().envs(env.iter());
    Err(Failure::launch(reason(&command.exec())))
}
