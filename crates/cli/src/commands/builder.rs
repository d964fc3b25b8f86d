//! `pannier builder`: making builders, and looking at them.

mod create;
mod inspect;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::context::Context;
use crate::error::CommandError;

/// Make and inspect builders
#[derive(Debug, Args)]
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
