//! `pannier image`: the local store's images, and copying images from anywhere to anywhere.

mod copy;
mod list;
mod remove;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::context::Context;
use crate::error::CommandError;

/// List, copy and remove images
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "Examples:
  pannier image list
  pannier image copy my-app docker://registry.example/team/app:v1
  pannier image remove my-app")]
pub struct ImageArgs {
    #[command(subcommand)]
    command: ImageCommand,
}

#[derive(Debug, Subcommand)]
enum ImageCommand {
    List(list::ListArgs),
    Copy(copy::CopyArgs),
    Remove(remove::RemoveArgs),
}

/// Does one of them.
pub fn run(context: &Context<'_>, args: &ImageArgs) -> Result<ExitCode, CommandError> {
    match &args.command {
        ImageCommand::List(args) => list::run(context, args),
        ImageCommand::Copy(args) => copy::run(context, args),
        ImageCommand::Remove(args) => remove::run(context, args),
    }
}
