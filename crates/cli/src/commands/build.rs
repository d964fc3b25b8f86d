//! `pannier build`: source code to an image.

mod dry_run;
mod explain;
mod extend;
mod request;
mod summary;

pub use explain::{document, module_hint, snippet, unavailable};
pub use request::{destination, has_a_place};

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::Network;
use crate::context::Context;
use crate::error::CommandError;

/// Build an image from source code with buildpacks
///
/// The image goes to the local store, or where its name says: `oci:DIR[:TAG]`, `oci-archive:FILE`,
/// `docker-archive:FILE`, `docker://NAME` (a registry). A plain name with --publish goes to its registry.
/// The folder is never written to: buildpacks work on a copy.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pannier build my-app                                   this folder, with the default builder
  pannier build my-app --path ./src --builder example/builder:22
  pannier build registry.example/team/app:v1 --publish   to a registry
  pannier build oci-archive:app.tar --path app.zip       to a file
  pannier build my-app --env BP_LOG=debug --volume ~/.m2:/home/cnb/.m2:rw")]
pub struct BuildArgs {
    /// Where the image goes: a name, or `oci:DIR`, `oci-archive:FILE`, `docker-archive:FILE`, `docker://NAME`
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// The app: a folder or a zip file
    #[arg(short, long, default_value = ".", value_name = "PATH", help_heading = "Source")]
    pub path: PathBuf,
    /// The project descriptor [default: project.toml in the app]
    #[arg(short, long, value_name = "FILE", help_heading = "Source")]
    pub descriptor: Option<PathBuf>,
    /// The app's folder in the image is /NAME
    #[arg(long, value_name = "NAME", help_heading = "Source")]
    pub workspace: Option<String>,

    /// The builder: an image from any source [default: configuration, project.toml, or the built-in one]
    #[arg(short = 'B', long, value_name = "IMAGE", help_heading = "Buildpacks")]
    pub builder: Option<String>,
    /// Use these buildpacks, in this order: an id[@version] of the builder, a folder, a .tgz or .cnb file, a
    /// URL, `docker://IMAGE`, `from=builder`; several with commas or by repeating
    #[arg(short, long, value_name = "BUILDPACK", value_delimiter = ',', help_heading = "Buildpacks")]
    pub buildpack: Vec<String>,
    /// Put this buildpack before each group of the builder
    #[arg(long, value_name = "BUILDPACK", help_heading = "Buildpacks")]
    pub pre_buildpack: Vec<String>,
    /// Put this buildpack after each group of the builder
    #[arg(long, value_name = "BUILDPACK", help_heading = "Buildpacks")]
    pub post_buildpack: Vec<String>,
    /// Use these image extensions, in this order, instead of the builder's: an id[@version] of the builder, a
    /// folder, a .tgz or .cnb file, a URL, `docker://IMAGE`; several with commas or by repeating
    #[arg(long, value_name = "EXTENSION", value_delimiter = ',', help_heading = "Buildpacks")]
    pub extension: Vec<String>,
    /// Set a variable for the buildpacks: NAME=value, or NAME for its value here
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = "Buildpacks")]
    pub env: Vec<String>,
    /// Variables from a file, one NAME[=value] a line
    #[arg(long, value_name = "FILE", help_heading = "Buildpacks")]
    pub env_file: Vec<PathBuf>,
    /// What the image is built for (CNB_EXEC_ENV)
    #[arg(long, value_name = "NAME", default_value = "production", help_heading = "Buildpacks")]
    pub exec_env: String,
    /// Leave out the builder's system buildpacks
    #[arg(long, help_heading = "Buildpacks")]
    pub disable_system_buildpacks: bool,
    /// Mount a host folder for the buildpacks: HOST:TARGET[:ro|rw]
    #[arg(long, value_name = "HOST:TARGET[:ro|rw]", help_heading = "Buildpacks")]
    pub volume: Vec<String>,
    /// The network that buildpacks see
    #[arg(long, value_enum, default_value_t = Network::Host, help_heading = "Buildpacks")]
    pub network: Network,
    /// Run as this user id instead of the builder's
    #[arg(long, value_name = "ID", help_heading = "Buildpacks")]
    pub uid: Option<u32>,
    /// Run as this group id instead of the builder's
    #[arg(long, value_name = "ID", help_heading = "Buildpacks")]
    pub gid: Option<u32>,

    /// Stop after detection and generation, and print what would be done: as text, or as JSON with --dry-run=json
    #[arg(long, value_enum, value_name = "FORMAT", num_args = 0..=1, require_equals = true,
          default_missing_value = "text", help_heading = "Extensions")]
    pub dry_run: Option<dry_run::Format>,
    /// A secret for `RUN --mount=type=secret` of extensions: id=NAME,src=FILE or id=NAME,env=VARIABLE
    #[arg(long, value_name = "SECRET", help_heading = "Extensions")]
    pub secret: Vec<String>,
    /// Apply instructions of extensions again that were applied longer ago: 90m, 336h, 14d, or 0 for all
    #[arg(long, value_name = "TIME", default_value = "14d", help_heading = "Extensions")]
    pub extend_cache_ttl: String,

    /// The image the app will run on [default: the builder's choice]
    #[arg(long, value_name = "IMAGE", help_heading = "Image")]
    pub run_image: Option<String>,
    /// An SBOM of the run image (CycloneDX, SPDX or Syft, in JSON): what it lists no extension has to install
    #[arg(long, value_name = "FILE", help_heading = "Image")]
    pub run_image_sbom: Option<PathBuf>,
    /// Run extensions even for packages that the images have already
    #[arg(long, help_heading = "Buildpacks")]
    pub no_base_packages: bool,
    /// Push to the registry that the name says
    #[arg(long, help_heading = "Image")]
    pub publish: bool,
    /// Another name for the image; may be repeated
    #[arg(short, long, value_name = "NAME", help_heading = "Image")]
    pub tag: Vec<String>,
    /// The process type that starts by default
    #[arg(short = 'D', long, value_name = "TYPE", help_heading = "Image")]
    pub default_process: Option<String>,
    /// The image's creation time: seconds since 1970, or `now` [default: 1980-01-01, which keeps digests stable]
    #[arg(long, value_name = "TIME", help_heading = "Image")]
    pub creation_time: Option<String>,
    /// Take unchanged layers from this image instead of the one that is being replaced
    #[arg(long, value_name = "IMAGE", help_heading = "Image")]
    pub previous_image: Option<String>,
    /// Compress new layers: gzip[:0-12], zstd[:1-22] or none [default: configuration, or gzip]
    #[arg(long, value_name = "KIND[:LEVEL]", help_heading = "Image")]
    pub compression: Option<String>,
    /// Build for this platform: os[/arch[/variant]]
    #[arg(long, value_name = "PLATFORM", help_heading = "Image")]
    pub platform: Option<String>,
    /// Put the SBOM files of the image in this folder
    #[arg(long, value_name = "DIR", help_heading = "Image")]
    pub sbom_output_dir: Option<PathBuf>,
    /// Put report.toml in this folder
    #[arg(long, value_name = "DIR", help_heading = "Image")]
    pub report_output_dir: Option<PathBuf>,

    /// Where layers are kept between builds: `type=build;format=volume|bind|image;name=…|source=…`
    #[arg(long, value_name = "SPEC", help_heading = "Cache")]
    pub cache: Vec<String>,
    /// Keep layers between builds in this image of a registry
    #[arg(long, value_name = "IMAGE", help_heading = "Cache")]
    pub cache_image: Option<String>,
    /// Forget the layers that were kept before building
    #[arg(long, help_heading = "Cache")]
    pub clear_cache: bool,
    /// How cached layers come back: mounted, or copied
    #[arg(long, value_enum, default_value_t = Restore::Auto, help_heading = "Cache")]
    pub restore: Restore,

    /// When to ask the registry: always, never, if-not-present [default: configuration, or if-not-present]
    #[arg(long, value_name = "POLICY", help_heading = "Registry")]
    pub pull_policy: Option<String>,
    #[command(flatten)]
    pub registry: super::RegistryArgs,
}

/// How cached layers come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Restore {
    /// Mounted where that works, else copied.
    Auto,
    /// Mounted; fails where that does not work.
    Overlay,
    /// Copied.
    Copy,
}

/// Builds.
pub fn run(context: &Context<'_>, args: &BuildArgs) -> Result<ExitCode, CommandError> {
    let request = request::from_args(context, args)?;
    if let Some(format) = args.dry_run {
        if format == dry_run::Format::Json {
            context.ui.leave_stdout();
        }
        let found = platform::build::dry_run(&request, context.ui)
            .map_err(|error| explain::failure(error, context.ui.is_quiet()))?;
        context.ui.finish();
        context.ui.take_stdout();
        dry_run::print(context.ui, &found, format)?;
        return Ok(ExitCode::SUCCESS);
    }
    let outcome = platform::build::build(&request, context.ui)
        .map_err(|error| explain::failure(error, context.ui.is_quiet()))?;
    context.ui.finish();
    summary::print(context.ui, args, &outcome);
    Ok(ExitCode::SUCCESS)
}
