//! One file per verb: its arguments, and what it does with the libraries.

pub mod build;
mod registry_args;
pub mod version;

pub use registry_args::RegistryArgs;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::context::Context;
use crate::error::CommandError;
use crate::ui::Ui;

/// Runs the verb that was asked for.
pub fn run(cli: Cli, ui: &Ui) -> Result<ExitCode, CommandError> {
    let context = Context::from_environment(&cli.global, ui)?;
    match cli.command {
        Command::Build(args) => build::run(&context, &args),
        Command::Version(args) => version::run(&context, &args),
    }
}
