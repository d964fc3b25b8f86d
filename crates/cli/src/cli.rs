//! The command line as types: global options and the list of verbs.
//!
//! Each verb's own options are beside its code in [`crate::commands`].

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands;

/// Turn source code into OCI images with Cloud Native Buildpacks: no daemon, no root, no Dockerfile.
#[derive(Debug, Parser)]
#[command(
    name = "pannier",
    version,
    max_term_width = 100,
    propagate_version = false,
    arg_required_else_help = true
)]
#[command(after_help = "Examples:
  pannier build my-app --path .            build the folder with the default builder
  pannier run my-app                       run what was built
  pannier build registry.example/app --builder example/builder --publish
  pannier inspect my-app                   what is in it
  pannier doctor                           what this machine can do")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Options of every verb.
    #[command(flatten)]
    pub global: Global,
}

/// Options of every verb.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// Say more: debug lines too
    #[arg(short, long, global = true, conflicts_with = "quiet", help_heading = "Output")]
    pub verbose: bool,
    /// Say less: only warnings, errors and the result
    #[arg(short, long, global = true, help_heading = "Output")]
    pub quiet: bool,
    /// No colours (also: NO_COLOR set to anything)
    #[arg(long, global = true, help_heading = "Output")]
    pub no_color: bool,
    /// Put the time before each line
    #[arg(long, global = true, help_heading = "Output")]
    pub timestamps: bool,
    /// The folder that holds the store, caches and configuration (also: PANNIER_HOME)
    #[arg(long, global = true, value_name = "DIR", help_heading = "Output")]
    pub home: Option<PathBuf>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    Build(Box<commands::build::BuildArgs>),
    Run(Box<commands::run::RunArgs>),
    Inspect(commands::inspect::InspectArgs),
    Builder(Box<commands::builder::BuilderArgs>),
    Image(commands::image::ImageArgs),
    Prune(commands::prune::PruneArgs),
    Doctor(commands::doctor::DoctorArgs),
    Version(commands::version::VersionArgs),
}
