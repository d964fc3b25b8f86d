//! Before anything runs: the descriptor, the builder, the run image, the image that is being replaced.

use std::path::PathBuf;

use cnb::label::{self, LayersMetadata};
use events::Events;
use oci::{Image, ImageName, Owners, Reference, Unpacker};
use sandbox::Ids;

use super::BuildError;
use super::images;
use super::request::BuildRequest;
use crate::env_file;
use crate::project::Project;
use crate::run_image::{self, RunImage};
use crate::source::Source;
use crate::unavailable::Unavailable;

/// What a build works with.
#[derive(Debug)]
pub(super) struct Resolved {
    pub source: Source,
    pub project: Project,
    pub env: env_file::Variables,
    pub builder_name: ImageName,
    pub builder: Image,
    /// The builder's layers as lowers of an overlay, topmost first.
    pub lowers: Vec<PathBuf>,
    pub previous: Option<(Image, LayersMetadata)>,
}

/// The run image and what labels say of it.
#[derive(Debug)]
pub(super) struct RunImageChoice {
    pub name: ImageName,
    pub image: Image,
    pub entry: RunImage,
}

/// What may be changed besides scratch files and blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Images that are fetched get names in the store, and the destination is written to.
    Names,
    /// Nothing.
    Nothing,
}

pub(super) fn resolve(
    request: &BuildRequest,
    keep: Keep,
    events: &dyn Events,
) -> Result<Resolved, BuildError> {
    check_tags(request)?;
    let source = Source::find(&request.app)?;
    let project = project(request, &source, events)?;
    let (env, unset) =
        env_file::collect(&project.env, &request.env_files, &request.env, &*request.host_env.0)?;
    for name in unset {
        events.warning(&format!("{name} has no value here, so buildpacks will not see it"));
    }
    let builder_name = builder_name(request, &project)?;
    let builder = open(request, "builder", &builder_name)?;
    images::check_platform("builder", &builder_name, &builder, &request.platform)?;
    events.info(&format!("Using builder {builder_name}"));
    if let (Some(registry), Keep::Names) = (registry_of(&request.destination), keep) {
        check_write(request, registry)?;
    }
    let previous = images::previous(request)?.map(|image| {
        let label = image.config.label(label::LIFECYCLE_METADATA).unwrap_or("{}");
        let metadata = LayersMetadata::parse(label::LIFECYCLE_METADATA, label).unwrap_or_else(|error| {
            events.warning(&format!("nothing of the previous image is used: {error}"));
            LayersMetadata::default()
        });
        (image, metadata)
    });
    if let (None, Some(name)) = (&previous, &request.previous_image) {
        events.warning(&format!("there is no previous image {name} to take layers from"));
    }
    let lowers = unpack(request, &builder_name, &builder, keep, events)
        .map_err(|source| Unavailable::new("builder", &builder_name, source))?;
    Ok(Resolved { source, project, env, builder_name, builder, lowers, previous })
}

/// Finds the run image: what was asked for, else the first of the builder's that can be had.
pub(super) fn run_image(
    request: &BuildRequest,
    builder_name: &ImageName,
    known: &[RunImage],
    events: &dyn Events,
) -> Result<RunImageChoice, BuildError> {
    let registry = registry_of(&request.destination).map(Reference::registry);
    let names = match &request.run_image {
        Some(name) => vec![name.clone()],
        None => run_image::candidates(known, &request.run_image_mirrors, registry),
    };
    let choice = first_run_image(request, names, known)?
        .ok_or_else(|| BuildError::NoRunImage { builder: builder_name.to_string() })?;
    events.info(&format!("Using run image {}", choice.name));
    Ok(choice)
}

/// Finds the run image that an extension asks for, itself or a mirror of it.
pub(super) fn switched_run_image(
    request: &BuildRequest,
    image: &str,
    known: &[RunImage],
    events: &dyn Events,
) -> Result<RunImageChoice, BuildError> {
    let registry = registry_of(&request.destination).map(Reference::registry);
    // Of a mirror, the image itself and other mirrors are not what was asked for.
    let mirrors = run_image::named(known, image).map(|entry| entry.mirrors.clone()).unwrap_or_default();
    let wanted = RunImage { image: image.to_owned(), mirrors };
    let names = run_image::candidates(&[wanted], &request.run_image_mirrors, registry);
    let choice = first_run_image(request, names, known)?
        .ok_or_else(|| BuildError::NoRunImage { builder: image.to_owned() })?;
    events.info(&format!("Using run image {}, to which an extension switched", choice.name));
    Ok(choice)
}

/// The first of these names that can be had; none for no names.
fn first_run_image(
    request: &BuildRequest,
    names: Vec<String>,
    known: &[RunImage],
) -> Result<Option<RunImageChoice>, BuildError> {
    let mut failed = None;
    for text in names {
        let name: ImageName = text.parse()?;
        match open(request, "run image", &name) {
            Ok(image) => {
                images::check_platform("run image", &name, &image, &request.platform)?;
                let entry = match run_image::entry_of(known, &text) {
                    Some(entry) => entry.clone(),
                    None => RunImage { image: text, mirrors: Vec::new() },
                };
                return Ok(Some(RunImageChoice { name, image, entry }));
            }
            // The first one is what the user expects; the others are mirrors of it.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(None), Err)
}

/// The trees of the builder's layers. One from a registry is kept under its name, so that the next build need
/// not ask for it.
fn unpack(
    request: &BuildRequest,
    name: &ImageName,
    image: &Image,
    keep: Keep,
    events: &dyn Events,
) -> Result<Vec<PathBuf>, oci::Error> {
    let unpacker = unpacker(request.ids);
    let (ImageName::Plain(reference) | ImageName::Registry(reference), Some(oci::Origin::Registry(_))) =
        (name, image.origin())
    else {
        return request.store.rootfs(image, &unpacker, events);
    };
    let (kept, lowers) = request.store.fetch_unpacked(image, &unpacker, events)?;
    if keep == Keep::Names {
        request.store.tag_image(reference, &kept)?;
    }
    Ok(lowers)
}

/// How layers are unpacked where these ids exist: trees on disk differ by whose their files can be.
pub fn unpacker(ids: Ids) -> Unpacker {
    let (kind, owners) = match ids {
        Ids::Host => ("host", Owners::Real),
        Ids::Ranges => ("ranges", Owners::Real),
        Ids::Single => ("single", Owners::Ours),
    };
    Unpacker { kind: kind.to_owned(), owners }
}

fn project(request: &BuildRequest, source: &Source, events: &dyn Events) -> Result<Project, BuildError> {
    let mut project = match (source, &request.descriptor) {
        // Nothing is read from an archive before it is unpacked.
        (Source::Zip(_), None) => Project::default(),
        (source, explicit) => Project::load(source.path(), explicit.as_deref())?,
    };
    project.warnings.iter().for_each(|warning| events.warning(warning));
    project.select_exec_env(&request.exec_env);
    Ok(project)
}

fn builder_name(request: &BuildRequest, project: &Project) -> Result<ImageName, BuildError> {
    let name = request.builder.as_ref().or(project.builder.as_ref()).or(request.default_builder.as_ref());
    match name {
        Some(name) => Ok(name.parse()?),
        None => Ok(ImageName::Plain(crate::default_builder::ensure(&request.store, &request.platform)?)),
    }
}

fn open(request: &BuildRequest, role: &'static str, name: &ImageName) -> Result<Image, BuildError> {
    images::open(request, name).map_err(|source| Unavailable::new(role, name, source).into())
}

/// The reference that the image will be pushed as.
pub(super) fn registry_of(name: &ImageName) -> Option<&Reference> {
    match name {
        ImageName::Registry(reference) => Some(reference),
        _ => None,
    }
}

fn check_write(request: &BuildRequest, reference: &Reference) -> Result<(), BuildError> {
    let names = std::iter::once(reference).chain(request.tags.iter().filter_map(registry_of));
    let mut checked: Vec<String> = Vec::new();
    for reference in names {
        if checked.contains(&reference.name()) {
            continue;
        }
        request
            .client
            .check_write(reference)
            .map_err(|error| BuildError::Write { name: reference.to_string(), source: error.into() })?;
        checked.push(reference.name());
    }
    Ok(())
}

fn check_tags(request: &BuildRequest) -> Result<(), BuildError> {
    let destination = &request.destination;
    for tag in &request.tags {
        let fits = match (destination, tag) {
            (ImageName::Registry(a), ImageName::Registry(b)) => a.registry() == b.registry(),
            (ImageName::Registry(_), _) | (_, ImageName::Registry(_)) => false,
            (_, ImageName::Plain(_)) => true,
            _ => false,
        };
        if !fits {
            return Err(BuildError::Tag { tag: tag.to_string(), destination: destination.to_string() });
        }
    }
    Ok(())
}
