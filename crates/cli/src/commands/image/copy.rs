//! `pannier image copy`.

use std::process::ExitCode;

use clap::Args;
use events::Events as _;
use oci::{ImageName, Platform, Reference, Sinks, Sources};

use crate::commands::RegistryArgs;
use crate::context::Context;
use crate::error::CommandError;

/// Copy an image from anywhere to anywhere
///
/// A plain name as FROM is the local store's image, else the registry's; as TO it is the local store. Layers that
/// are there already are not copied; within one registry they are mounted.
#[derive(Debug, Args)]
#[command(after_help = "Places:
  NAME                         the local store (as FROM: else the registry)
  docker://NAME                a registry
  oci:DIR[:TAG]                an OCI layout
  oci-archive:FILE[:TAG]       a tar of an OCI layout; `docker load` reads it too
  docker-archive:FILE[:NAME]   what `docker save` writes

Examples:
  pannier image copy my-app docker://registry.example/team/app:v1
  pannier image copy docker://debian:12 debian:12
  pannier image copy my-app oci-archive:app.tar --tag my-app:v2")]
pub struct CopyArgs {
    /// The image
    from: String,
    /// Where it goes
    to: String,
    /// Another name there; may be repeated
    #[arg(short, long, value_name = "NAME")]
    tag: Vec<String>,
    /// Of an image for several platforms, the one for this: os[/arch[/variant]] [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Copies.
pub fn run(context: &Context<'_>, args: &CopyArgs) -> Result<ExitCode, CommandError> {
    let (from, to): (ImageName, ImageName) = (args.from.parse()?, args.to.parse()?);
    let tags = args.tag.iter().map(|tag| tag.parse()).collect::<Result<Vec<Reference>, _>>()?;
    let platform = args.platform.as_ref().map_or_else(|| Ok(Platform::host()), |text| text.parse())?;
    crate::signals::install()?;
    let (store, client) = (context.store()?, args.registry.client(context)?);
    let image = Sources { store: store.clone(), client: client.clone() }.open(&from, &platform)?;
    if args.platform.is_some() && !platform.accepts(&image.platform()) {
        return Err(CommandError::new(format!("{from} is for {}, not for {platform}", image.platform())));
    }
    context.ui.debug(&format!("{from} is {} with {} layers", image.digest(), image.layers().len()));
    Sinks { store, client }.write(&image, &to, &tags, context.ui)?;
    context.ui.finish();
    context.ui.result(&format!("{to}@{}", image.digest()));
    Ok(ExitCode::SUCCESS)
}
