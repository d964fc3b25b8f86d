//! Getting the image that is run, from wherever it is, and its layers as trees.

use std::path::PathBuf;

use events::Events;
use oci::{Image, ImageName, Origin, Platform, Sources};
use sandbox::Ids;

use crate::build::unpacker;

/// The image cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// It cannot be read.
    #[error("cannot get image `{name}`")]
    Image {
        /// What was asked for.
        name: String,
        /// Why.
        #[source]
        source: oci::Error,
    },
    /// Its programs do not run here.
    #[error("image `{name}` is for {found}, and this machine is {wanted}")]
    Platform {
        /// What was asked for.
        name: String,
        /// What the image is for.
        found: Platform,
        /// What is needed.
        wanted: Platform,
    },
}

/// Opens an image and unpacks its layers: the trees, topmost first. One from a registry is kept in the store under
/// its name.
///
/// # Errors
/// [`ImageError`].
pub fn open(
    sources: &Sources,
    name: &ImageName,
    platform: &Platform,
    ids: Ids,
    events: &dyn Events,
) -> Result<(Image, Vec<PathBuf>), ImageError> {
    let failed = |source| ImageError::Image { name: name.to_string(), source };
    let image = sources.open(name, platform).map_err(failed)?;
    let found = image.platform();
    if !platform.accepts(&found) {
        return Err(ImageError::Platform { name: name.to_string(), found, wanted: platform.clone() });
    }
    let (unpacker, store) = (unpacker(ids), &sources.store);
    let (ImageName::Plain(reference) | ImageName::Registry(reference), Some(Origin::Registry(_))) =
        (name, image.origin())
    else {
        let lowers = store.rootfs(&image, &unpacker, events).map_err(failed)?;
        return Ok((image, lowers));
    };
    let (kept, lowers) = store.fetch_unpacked(&image, &unpacker, events).map_err(failed)?;
    store.tag_image(reference, &kept).map_err(failed)?;
    Ok((kept, lowers))
}
