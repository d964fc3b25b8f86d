//! `pannier`: the command a person types.
//!
//! This crate is the only room that prints, reads the environment and exits. It parses arguments, builds the
//! values that the libraries below ask for, and turns what they return into text and an exit code.
//!
//! | module | what lives there |
//! |---|---|
//! | [`cli`] | the command line as types: global options and the list of verbs |
//! | [`commands`] | one file per verb |
//! | [`context`] | where the store, the configuration and the credentials are; made once from the environment |
//! | [`error`] | [`error::CommandError`]: what failed, the exit code, a hint |
//! | [`signals`] | Ctrl-C and SIGTERM: clean up, then end as the signal asks |
//! | [`ui`] | how events look: a live view on a terminal, plain lines elsewhere |

mod cli;
mod commands;
mod context;
mod error;
mod signals;
mod ui;

use std::io::Write as _;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};

/// Stock musl malloc is several times slower on the small allocations that JSON and maps make.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything else: this may be the copy of us that becomes a sandbox.
    sandbox::init_if_requested();
    // Modes of what we write are part of layers, and must not depend on who runs us.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.kind() == ErrorKind::MissingSubcommand => return help(),
        Err(error) => {
            usage(&error);
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    // For as long as the process lives: the thread that waits for signals writes to it too.
    let ui: &'static ui::Ui = Box::leak(Box::new(ui::Ui::new(&cli.global)));
    signals::report_to(ui);
    let result = commands::run(cli, ui);
    signals::ending();
    match result {
        Ok(code) => code,
        Err(error) => {
            ui.finish();
            ui.error(&error);
            ExitCode::from(error.exit_code)
        }
    }
}

/// Says what is wrong with what was typed, or the help that was asked for. What was typed may come from elsewhere.
fn usage(error: &clap::Error) {
    let painted = error.render().ansi().to_string();
    let arguments = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let arguments: Vec<String> = arguments.filter(|word| word.chars().any(ui::is_unsafe)).collect();
    let plain = anstream::adapter::strip_str(&painted).to_string();
    if arguments.is_empty() && !plain.chars().any(|c| c != '\n' && ui::is_unsafe(c)) {
        let _ = error.print();
        return;
    }
    // Before colours are taken out, which takes out parts of what was typed, too.
    let values = arguments.iter().flat_map(|word| [Some(word.as_str()), word.split_once('=').map(|it| it.1)]);
    let visible = values
        .flatten()
        .filter(|value| !value.is_empty())
        .fold(painted, |text, value| text.replace(value, &ui::escaped(value)));
    for line in anstream::adapter::strip_str(&visible).to_string().lines() {
        let _ = writeln!(std::io::stderr(), "{}", ui::escaped(line));
    }
}

/// Says what could follow on what was typed. clap does so by itself, but not where the environment stands for an
/// option.
fn help() -> ExitCode {
    let mut command = cli::Cli::command();
    command.build();
    let verb = std::env::args_os().skip(1).find_map(|word| command.find_subcommand(word).cloned());
    let mut command = verb.unwrap_or(command);
    let _ = write!(std::io::stderr(), "{}", command.render_help());
    ExitCode::from(2)
}
