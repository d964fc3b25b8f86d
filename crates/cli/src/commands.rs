//! One file per verb: its arguments, and what it does with the libraries.

pub mod build;
pub mod builder;
pub mod doctor;
pub mod image;
pub mod inspect;
pub mod prune;
mod registry_args;
pub mod run;
pub mod version;

pub use registry_args::RegistryArgs;

use std::process::ExitCode;

use clap::ValueEnum;
use oci::{Digest, ImageName};

use crate::cli::{Cli, Command};
use crate::context::Context;
use crate::error::CommandError;
use crate::ui::Ui;

/// How a verb prints what it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Human,
    /// For programs.
    Json,
}

/// `name@digest`, as a person can give it back to a verb: names in the local store without what goes without saying.
pub fn pinned(name: &ImageName, digest: Digest) -> String {
    match name {
        ImageName::Plain(reference) => format!("{}@{digest}", reference.familiar()),
        // As other programs take it, too.
        ImageName::Registry(reference) => format!("{reference}@{digest}"),
        // The image in it has Docker's manifest, which is made when it is read.
        ImageName::DockerArchive { .. } => name.to_string(),
        _ => format!("{name}@{digest}"),
    }
}

/// An image that cannot be had: a name that the store does not have may have been meant for it.
pub fn not_had(name: &ImageName, error: impl Into<CommandError>) -> CommandError {
    let error = error.into();
    match name {
        ImageName::Plain(reference) if error.is_of_registry() => {
            let name = reference.familiar();
            error.hint(format!("the local store has no such image `{name}`, so its registry was asked"))
        }
        _ => error,
    }
}

/// The network that a program in a sandbox sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Network {
    /// This machine's
    Host,
    /// Only a loopback of its own
    None,
}

/// Runs the verb that was asked for.
pub fn run(cli: Cli, ui: &'static Ui) -> Result<ExitCode, CommandError> {
    let context = Context::from_environment(&cli.global, ui)?;
    match cli.command {
        Command::Build(args) => build::run(&context, &args),
        Command::Builder(args) => builder::run(&context, &args),
        Command::Image(args) => image::run(&context, &args),
        Command::Inspect(args) => inspect::run(&context, &args),
        Command::Doctor(args) => doctor::run(&context, &args),
        Command::Prune(args) => prune::run(&context, &args),
        Command::Run(args) => run::run(&context, &args),
        Command::Version(args) => version::run(&context, &args),
    }
}
