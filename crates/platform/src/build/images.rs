//! The images of a build: the builder, the run image, the image that is being replaced.

use oci::{Image, ImageName, Origin, Platform, Reference, Sources};

use super::BuildError;
use super::request::{BuildRequest, PullPolicy};
use crate::unavailable::Unavailable;

/// Opens an image by name, asking a registry when the policy says so. Nothing but its documents is read.
pub(super) fn open(request: &BuildRequest, name: &ImageName) -> Result<Image, oci::Error> {
    open_from(&sources(request), request.pull_policy, &request.platform, name)
}

/// [`open`] for those who have no build to ask for.
pub(crate) fn open_from(
    sources: &Sources,
    policy: PullPolicy,
    platform: &Platform,
    name: &ImageName,
) -> Result<Image, oci::Error> {
    let ImageName::Plain(reference) = name else {
        return sources.open(name, platform);
    };
    let local = || sources.store.image(reference, platform);
    match policy {
        PullPolicy::Never => match local()? {
            Some(image) => Ok(image),
            None => Err(oci::Error::NoSuchImage {
                name: reference.familiar(),
                place: "the local store, and the pull policy is `never`".to_owned(),
            }),
        },
        PullPolicy::IfNotPresent => sources.open(name, platform),
        PullPolicy::Always => match remote(sources, reference, platform) {
            Err(error) if error.is_not_found() => local()?.ok_or(error),
            result => result,
        },
    }
}

fn remote(sources: &Sources, reference: &Reference, platform: &Platform) -> Result<Image, oci::Error> {
    let image = oci::source::remote(&sources.client, reference, platform)?;
    // The same image may be here already: then its layers are, and need not come again.
    match sources.store.image(reference, platform)? {
        Some(local) if local.digest() == image.digest() => Ok(sources.mending(local, reference)),
        _ => Ok(image),
    }
}

/// Opens the image that is being replaced, whose layers may be used again. One that is not there, or that
/// nobody may read, is no error: the first build of an app is like that.
pub(super) fn previous(request: &BuildRequest) -> Result<Option<Image>, BuildError> {
    let name = request.previous_image.as_ref().unwrap_or(&request.destination);
    let found = match name {
        ImageName::Plain(reference) => request.store.image(reference, &request.platform),
        name => sources(request).open(name, &request.platform).map(Some),
    };
    match found {
        Ok(image) => Ok(image),
        Err(error) if request.previous_image.is_none() && (error.is_not_found() || error.is_denied()) => {
            Ok(None)
        }
        Err(error) => Err(Unavailable::new("previous image", name, error).into()),
    }
}

fn sources(request: &BuildRequest) -> Sources {
    Sources { store: request.store.clone(), client: (*request.client).clone() }
}

/// What an image is called in labels: with its digest, where it can be had by one.
pub(super) fn reference_of(name: &ImageName, image: &Image) -> String {
    let origin = match image.origin() {
        Some(Origin::Registry(reference)) => Some(reference),
        _ => None,
    };
    match (name, origin) {
        (ImageName::Plain(reference) | ImageName::Registry(reference), _) => {
            reference.with_digest(image.digest()).to_string()
        }
        (_, Some(reference)) => reference.with_digest(image.digest()).to_string(),
        (name, None) => format!("{name}@{}", image.digest()),
    }
}

/// An image that cannot run here is an error before anything is done with it.
pub(super) fn check_platform(
    role: &'static str,
    name: &ImageName,
    image: &Image,
    wanted: &Platform,
) -> Result<(), BuildError> {
    let found = image.platform();
    if wanted.accepts(&found) {
        return Ok(());
    }
    Err(BuildError::Platform { role, name: name.to_string(), found, wanted: wanted.clone() })
}
