//! What an entry of `index.json` refers to, all the way down.

use layer::Digest;

use crate::error::{Error, Result};
use crate::image::{parse_index, read_document};
use crate::layout::{Layout, REF_NAME};
use crate::model::{Descriptor, ImageConfig, Manifest, media_type};

/// Deeper than any index is nested.
const MAX_DEPTH: usize = 8;

/// Something that an image refers to.
#[derive(Debug)]
pub(super) enum Found {
    /// A blob: a document or a layer.
    Blob(Descriptor),
    /// A layer's content.
    DiffId(Digest),
}

/// Tells `found` of the blob `descriptor` and everything it refers to. Of an index, manifests that are not in the
/// layout are left out: an index is kept whole even where one platform of it was fetched.
pub(super) fn reachable(
    layout: &Layout,
    descriptor: &Descriptor,
    found: &mut dyn FnMut(Found),
) -> Result<()> {
    down(layout, descriptor, found, 0)
}

fn down(layout: &Layout, descriptor: &Descriptor, found: &mut dyn FnMut(Found), depth: usize) -> Result<()> {
    found(Found::Blob(descriptor.clone()));
    let place = || layout.dir().display().to_string();
    if depth > MAX_DEPTH {
        let reason = format!("nested more than {MAX_DEPTH} deep");
        return Err(Error::invalid(format!("image index of {}", place()), reason));
    }
    if media_type::is_index(&descriptor.media_type) {
        let index = parse_index(&read_document(layout, descriptor)?, &place())?;
        return index
            .manifests
            .iter()
            .filter(|entry| layout.blob_path(entry.digest).exists())
            .try_for_each(|entry| down(layout, entry, found, depth + 1));
    }
    if !media_type::is_manifest(&descriptor.media_type) {
        return Ok(());
    }
    let json = |source| Error::Json { what: format!("document of {}", place()), source };
    let manifest: Manifest = serde_json::from_slice(&read_document(layout, descriptor)?).map_err(json)?;
    // Named before any is read, so that one that cannot be read does not hide the others.
    found(Found::Blob(manifest.config.clone()));
    manifest.layers.into_iter().for_each(|layer| found(Found::Blob(layer)));
    if matches!(manifest.config.media_type.as_str(), media_type::OCI_CONFIG | media_type::DOCKER_CONFIG) {
        let config: ImageConfig =
            serde_json::from_slice(&read_document(layout, &manifest.config)?).map_err(json)?;
        config.rootfs.diff_ids.iter().for_each(|diff_id| found(Found::DiffId(*diff_id)));
    }
    Ok(())
}

/// Says in the error which image of the store it is about.
pub(super) fn name_image(entry: &Descriptor, error: Error) -> Error {
    match entry.annotations.get(REF_NAME) {
        Some(name) => Error::invalid(format!("image `{name}`"), error.to_string()),
        None => error,
    }
}
