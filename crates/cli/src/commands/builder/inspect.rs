//! `pannier builder inspect`.

use std::process::ExitCode;

use clap::Args;
use oci::{ImageName, Platform, Sources};
use platform::inspect::inspect;
use serde::Serialize;

use crate::commands::inspect::human;
use crate::commands::{Format, RegistryArgs, not_had};
use crate::context::Context;
use crate::error::CommandError;

/// Show what is in a builder
///
/// Its buildpacks, its order, its run images and its lifecycle. The image is not pulled. A plain name is the local
/// store's image, else the registry's.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pannier builder inspect my-builder
  pannier builder inspect docker://registry.example/team/builder:1 --output json
  pannier builder inspect oci:layout:builder")]
pub struct InspectArgs {
    /// The builder: a name, `docker://NAME`, `oci:DIR[:TAG]`, `oci-archive:FILE`, `docker-archive:FILE`
    image: String,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Format::Human)]
    output: Format,
    /// Of an image for several platforms, the one for this: os[/arch[/variant]] [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Serialize)]
struct Named<'a> {
    name: String,
    digest: oci::Digest,
    platform: String,
    #[serde(flatten)]
    builder: &'a platform::inspect::Builder,
}

/// Shows it.
pub fn run(context: &Context<'_>, args: &InspectArgs) -> Result<ExitCode, CommandError> {
    let name: ImageName = args.image.parse()?;
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let sources = Sources { store: context.store()?, client: args.registry.client(context)? };
    let image = inspect(&sources.open(&name, &platform).map_err(|error| not_had(&name, error))?)?;
    let Some(builder) = &image.builder else {
        return Err(CommandError::new(format!(
            "{name} is not a builder: it has no label `{}`",
            cnb::builder::BUILDER_METADATA
        ))
        .hint(format!("`pannier inspect {name}` shows what it is")));
    };
    context.ui.finish();
    let name = name.to_string();
    match args.output {
        Format::Json => {
            let platform = image.platform.clone();
            let named = Named { name, digest: image.digest, platform, builder };
            context.ui.json(&serde_json::to_string_pretty(&named)?);
        }
        Format::Human => {
            let text = human::show_builder(context.ui.style(), &name, &image, builder);
            context.ui.results(text.split('\n'));
        }
    }
    Ok(ExitCode::SUCCESS)
}
