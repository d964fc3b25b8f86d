//! `--cache-image`: kept layers in an image of a registry, so that machines without a store of their own have
//! them too. Its form is the reference's, which can read ours and the other way round.
//!
//! The local cache stays what builds work with: before a build it is made what the image says, after it the image
//! is made what it is. Layers that both have do not travel.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cnb::label::{CACHE_METADATA, CacheMetadata, LayerSha};
use cnb::launch::escape_id;
use events::Events;
use lifecycle::cache::{Cache, Commit, CommitBuildpack, CommitLayer, Contents};
use lifecycle::export::KnownLayer;
use oci::{Digest, Format, History, Image, ImageConfig, Layer, NewImage, Reference, RunConfig};

use super::request::BuildRequest;
use super::{BuildError, resolve};
use crate::unavailable::Unavailable;

const CREATED: &str = "1980-01-01T00:00:01Z";

/// The cache image of a build.
#[derive(Debug)]
pub(super) struct CacheImage {
    reference: Reference,
    found: Option<(Image, CacheMetadata)>,
}

impl CacheImage {
    /// Looks for the image. One that is not there, or that says nothing that can be read, is an empty cache.
    pub fn open(
        request: &BuildRequest,
        reference: Reference,
        events: &dyn Events,
    ) -> Result<Self, BuildError> {
        let image = match oci::source::remote(&request.client, &reference, &request.platform) {
            Ok(image) => Some(image),
            Err(error) if error.is_not_found() || error.is_denied() => None,
            Err(source) => return Err(Unavailable::new("cache image", &reference, source).into()),
        };
        request
            .client
            .check_write(&reference)
            .map_err(|error| BuildError::Write { name: reference.to_string(), source: error.into() })?;
        let found = image.and_then(|image| {
            let text = image.config.label(CACHE_METADATA)?.to_owned();
            match CacheMetadata::parse(CACHE_METADATA, &text) {
                Ok(metadata) => Some((image, metadata)),
                Err(error) => {
                    events.warning(&format!("the cache image {reference} is not used: {error}"));
                    None
                }
            }
        });
        Ok(Self { reference, found })
    }

    /// Makes the local cache what the image says, fetching layers that are not here.
    pub fn import(
        &self,
        cache: &mut Cache,
        made_as: &str,
        request: &BuildRequest,
        events: &dyn Events,
    ) -> Result<(), BuildError> {
        let Some((image, metadata)) = &self.found else { return Ok(()) };
        let local = cache.metadata();
        let home = cache.scratch().join("import");
        let mut buildpacks = Vec::new();
        for buildpack in &metadata.buildpacks {
            let mut layers = Vec::new();
            for (name, layer) in buildpack.layers.iter().filter(|(_, layer)| layer.types.cache) {
                let Some(blob) = layer.sha.parse().ok().and_then(|sha| find(image, sha)) else { continue };
                let here = local.buildpack(&buildpack.key).and_then(|local| local.layers.get(name));
                let contents = if here.is_some_and(|here| here.sha == layer.sha) {
                    Contents::Cached
                } else {
                    events.info(&format!("Fetching \"{}:{name}\" from the cache image", buildpack.key));
                    let dir = unpack(
                        request,
                        blob,
                        &home.join(layers.len().to_string()).join(escape_id(&buildpack.key)),
                    )?;
                    Contents::Whole(dir.join("layers").join(escape_id(&buildpack.key)).join(name))
                };
                let known = KnownLayer { diff_id: blob.diff_id, blob: Some(blob.descriptor.clone()) };
                layers.push(CommitLayer {
                    name,
                    types: layer.types,
                    metadata: layer.data.as_ref(),
                    known: Some(known),
                    made_as,
                    contents,
                });
            }
            buildpacks.push(CommitBuildpack {
                id: &buildpack.key,
                version: &buildpack.version,
                store: buildpack.store.as_ref(),
                layers,
            });
        }
        let sbom = match metadata.sbom.sha.parse().ok().and_then(|sha| find(image, sha)) {
            Some(layer) => Some(unpack(request, layer, &home.join("sbom"))?.join("layers/sbom/cache")),
            None => None,
        };
        cache.commit(&Commit { buildpacks, sbom: sbom.as_deref().filter(|dir| dir.is_dir()) })?;
        Ok(())
    }

    /// The image's layer of this diffID.
    pub fn layer(&self, diff_id: Digest) -> Option<&Layer> {
        find(&self.found.as_ref()?.0, diff_id)
    }

    /// Makes the image what the local cache is. `layers` has a layer for each diffID in `metadata`.
    pub fn push(
        &self,
        request: &BuildRequest,
        metadata: &CacheMetadata,
        layers: &BTreeMap<Digest, Layer>,
        events: &dyn Events,
    ) -> Result<(), BuildError> {
        let shas = metadata.buildpacks.iter().flat_map(|it| it.layers.values().map(|layer| &layer.sha));
        let wanted = shas.chain(std::iter::once(&metadata.sbom.sha));
        let layers: Vec<Layer> = wanted.filter_map(|sha| layers.get(&sha.parse().ok()?)).cloned().collect();
        let image = new_image(request, metadata, layers).finish()?;
        if self.found.as_ref().is_some_and(|(old, _)| old.digest() == image.digest()) {
            return Ok(());
        }
        let failed = |source| BuildError::Sink { name: self.reference.to_string(), source };
        let sinks = oci::Sinks { store: request.store.clone(), client: (*request.client).clone() };
        let name = oci::ImageName::Registry(self.reference.clone());
        sinks.write(&image, &name, &[], events).map_err(failed)
    }
}

/// An image with the layers and the label: nobody runs it.
fn new_image(request: &BuildRequest, metadata: &CacheMetadata, layers: Vec<Layer>) -> NewImage {
    let label = (CACHE_METADATA.to_owned(), metadata.to_json());
    let history = layers.iter().map(|_| History { created: Some(CREATED.to_owned()), ..History::default() });
    let config = ImageConfig {
        architecture: request.platform.architecture.clone(),
        os: request.platform.os.clone(),
        variant: request.platform.variant.clone(),
        created: Some(CREATED.to_owned()),
        author: None,
        config: RunConfig { labels: [label].into(), ..RunConfig::default() },
        rootfs: Default::default(),
        history: history.collect(),
        extra: Default::default(),
    };
    NewImage { config, layers, format: Format::Oci, annotations: Default::default() }
}

/// What the label says of layers whose diffIDs are known.
pub(super) fn metadata(cache: &Cache, sbom: Option<Digest>) -> CacheMetadata {
    let mut metadata = cache.metadata();
    metadata.sbom = LayerSha::new(sbom.map(|digest| digest.to_string()).unwrap_or_default());
    metadata
}

fn find(image: &Image, diff_id: Digest) -> Option<&Layer> {
    image.layers().iter().find(|layer| layer.diff_id == diff_id)
}

/// Unpacks a layer into the new folder `dir`.
fn unpack(request: &BuildRequest, layer: &Layer, dir: &Path) -> Result<PathBuf, BuildError> {
    super::bench::make_dir(dir)?;
    let owners = resolve::unpacker(request.ids).owners;
    let options =
        layer::unpack::Options { owners, diff_id: Some(layer.diff_id), ..layer::unpack::Options::default() };
    layer::unpack::unpack(layer.open()?, dir, &options).map_err(|error| {
        BuildError::Store(oci::Error::Unpack { digest: layer.descriptor.digest, source: error })
    })?;
    Ok(dir.to_owned())
}
