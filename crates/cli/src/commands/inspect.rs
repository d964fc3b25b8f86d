//! `pannier inspect`: what is in an image.

pub mod human;

use std::process::ExitCode;

use clap::Args;
use oci::{ImageName, Platform, Sources};
use platform::inspect::{Inspection, inspect};
use serde::Serialize;

use super::{Format, RegistryArgs, not_had};
use crate::context::Context;
use crate::error::CommandError;

/// Show what is in an image
///
/// Its base, its buildpacks, its processes and layers; of a builder its order and run images. The image is not
/// pulled. A plain name is the local store's image, else the registry's.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pannier inspect my-app
  pannier inspect docker://registry.example/team/app:v1 --output json
  pannier inspect oci-archive:app.tar")]
pub struct InspectArgs {
    /// The image: a name, `docker://NAME`, `oci:DIR[:TAG]`, `oci-archive:FILE`, `docker-archive:FILE`
    image: String,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Format::Human)]
    output: Format,
    /// Of an image for several platforms, the one for this: os[/arch[/variant]] [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Serialize)]
struct Named<'a> {
    name: String,
    #[serde(flatten)]
    inspection: &'a Inspection,
}

/// Shows it.
pub fn run(context: &Context<'_>, args: &InspectArgs) -> Result<ExitCode, CommandError> {
    let name: ImageName = args.image.parse()?;
    let platform = args.platform.as_ref().map_or_else(|| Ok(Platform::host()), |text| text.parse())?;
    let sources = Sources { store: context.store()?, client: args.registry.client(context)? };
    let inspection = inspect(&sources.open(&name, &platform).map_err(|error| not_had(&name, error))?)?;
    context.ui.finish();
    let name = name.to_string();
    match args.output {
        Format::Json => {
            context.ui.json(&serde_json::to_string_pretty(&Named { name, inspection: &inspection })?)
        }
        Format::Human => {
            context.ui.results(human::show(context.ui.style(), &name, &inspection).split('\n'));
        }
    }
    Ok(ExitCode::SUCCESS)
}
