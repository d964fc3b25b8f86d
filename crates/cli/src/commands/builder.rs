//! `pannier builder`: making builders, and looking at them.

mod create;
mod inspect;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::context::Context;
use crate::error::CommandError;

/// Make and inspect builders
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "Examples:
  pannier builder create my-builder --config builder.toml
  pannier builder inspect my-builder
  pannier build my-app --builder my-builder")]
pub struct BuilderArgs {
    #[command(subcommand)]
    command: BuilderCommand,
}

#[derive(Debug, Subcommand)]
enum BuilderCommand {
    Create(create::CreateArgs),
    Inspect(inspect::InspectArgs),
}

/// Does one of them.
pub fn run(context: &Context<'_>, args: &BuilderArgs) -> Result<ExitCode, CommandError> {
    match &args.command {
        BuilderCommand::Create(args) => create::run(context, args),
        BuilderCommand::Inspect(args) => inspect::run(context, args),
    }
}
