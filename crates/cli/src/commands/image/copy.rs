//! `pannier image copy`.

use std::process::ExitCode;

use clap::Args;
use events::Events as _;
use oci::{Digest, ImageName, Origin, Platform, Reference, Sinks, Sources};

use crate::commands::build::has_a_place;
use crate::commands::{RegistryArgs, not_had, pinned};
use crate::context::Context;
use crate::error::CommandError;

/// Copy an image from anywhere to anywhere
///
/// A plain name as FROM is the local store's image, else the registry's; as TO it is the local store. Layers that
/// are there already are not copied; within one registry they are mounted. Of an image for several platforms the one
/// for this machine is copied, the one that --platform names, or with --all every one: then the digest stays the same,
/// too.
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
  pannier image copy my-app oci-archive:app.tar --tag my-app:v2
  pannier image copy docker://debian:12 oci:mirror:debian --platform linux/arm64
  pannier image copy --all docker://debian:12 docker://registry.example/debian:12")]
pub struct CopyArgs {
    /// The image
    from: String,
    /// Where it goes
    to: String,
    /// Another name there; may be repeated
    #[arg(short, long, value_name = "NAME")]
    tag: Vec<String>,
    /// Of an image for several platforms, the one for this [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", conflicts_with = "all")]
    platform: Option<Platform>,
    /// Of an image for several platforms, all of them
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Copies.
pub fn run(context: &Context<'_>, args: &CopyArgs) -> Result<ExitCode, CommandError> {
    let (from, to): (ImageName, _) = (args.from.parse()?, has_a_place(args.to.parse()?)?);
    let tags = args.tag.iter().map(|tag| tag.parse()).collect::<Result<Vec<Reference>, _>>()?;
    crate::signals::install()?;
    let (store, client) = (context.store()?, args.registry.client(context)?);
    let sources = Sources { store: store.clone(), client: client.clone() };
    let sinks = Sinks { store, client };
    let digest = match args.all {
        true => copy_all(context, &sources, &sinks, (&from, &to), &tags)?,
        false => copy_one(context, &sources, &sinks, (&from, &to), &tags, args.platform.as_ref())?,
    };
    context.ui.finish();
    context.ui.result(&pinned(&to, digest));
    Ok(ExitCode::SUCCESS)
}

fn copy_one(
    context: &Context<'_>,
    sources: &Sources,
    sinks: &Sinks,
    (from, to): (&ImageName, &ImageName),
    tags: &[Reference],
    wanted: Option<&Platform>,
) -> Result<Digest, CommandError> {
    let platform = wanted.cloned().unwrap_or_else(Platform::host);
    let image = sources.open(from, &platform).map_err(|error| match (&error, wanted) {
        (oci::Error::NoSuchPlatform { .. }, None) => {
            CommandError::new(error).hint("choose one with --platform, or copy them all with --all")
        }
        _ => not_had(from, error),
    })?;
    let found = image.platform();
    if wanted.is_some() && !platform.accepts(&found) {
        return Err(CommandError::new(format!("{from} is for {found}, not for {platform}")));
    }
    context.ui.debug(&format!("{from} is {} with {} layers", image.digest(), image.layers().len()));
    sinks.write(&image, to, tags, context.ui)?;
    // The store remembers of an image that it was in an index, and has no more of that.
    let is_whole = matches!((from, image.origin()), (ImageName::Plain(_), Some(Origin::Local(_))));
    if wanted.is_none() && image.index.is_some() && !is_whole {
        context.ui.info(&format!("of an image index only the image for {found}: --all takes it whole"));
    }
    Ok(image.digest())
}

fn copy_all(
    context: &Context<'_>,
    sources: &Sources,
    sinks: &Sinks,
    (from, to): (&ImageName, &ImageName),
    tags: &[Reference],
) -> Result<Digest, CommandError> {
    if matches!(to, ImageName::DockerArchive { .. }) {
        return Err(oci::Error::OnePlatform { place: to.to_string() }.into());
    }
    let set = sources.open_all(from).map_err(|error| not_had(from, error))?;
    sinks.write_all(&set, to, tags, context.ui)?;
    if !set.platforms.is_empty() {
        context.ui.info(&format!("copied for {}", set.platforms.join(", ")));
    }
    Ok(set.digest())
}
