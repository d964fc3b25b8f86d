//! `pannier version`: the plain version, as `pack version` prints it.

use std::process::ExitCode;

use clap::Args;

use crate::context::Context;
use crate::error::CommandError;

/// Print the version
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pannier version")]
pub struct VersionArgs {}

/// Prints the version.
pub fn run(context: &Context<'_>, _args: &VersionArgs) -> Result<ExitCode, CommandError> {
    context.ui.result(env!("CARGO_PKG_VERSION"));
    Ok(ExitCode::SUCCESS)
}
