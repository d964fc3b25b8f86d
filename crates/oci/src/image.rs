//! Images as values: a manifest and a configuration, checked against each other, and layers that know where
//! their bytes can be had.
//!
//! Not here: where images come from (`store`, `layout`, `archive`, `registry`) and where they go (`sink`).

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use events::Transfer;
use layer::{Digest, Hasher};

use crate::error::{Error, Result};
use crate::model::{Descriptor, ImageConfig, Index, Manifest, Platform, media_type};
use crate::reference::Reference;
use crate::registry::Stop;

mod formats;

pub use formats::{Compression, Format};

/// The largest manifest, index or configuration that is read: registries refuse manifests above 4 MiB, and what
/// is larger is meant to exhaust memory.
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// Where blobs can be read: a store, a layout, an archive, a registry.
pub trait Blobs: Send + Sync + fmt::Debug {
    /// The blob's bytes from `offset` on. They are not verified: see [`Verified`].
    ///
    /// # Errors
    /// When the blob is missing, has another size than the descriptor says, or cannot be opened.
    fn open(&self, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>>;

    /// As [`Blobs::open`]; what waits for somebody else while it is read ends when it is stopped.
    ///
    /// # Errors
    /// As [`Blobs::open`].
    fn open_until(&self, blob: &Descriptor, offset: u64, _stop: &Stop) -> Result<Box<dyn Read + Send>> {
        self.open(blob, offset)
    }

    /// A file that holds exactly this blob, where there is one.
    fn local_path(&self, _blob: &Descriptor) -> Option<PathBuf> {
        None
    }

    /// Where the bytes are.
    fn origin(&self) -> Origin;
}

/// Where blobs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In this repository of a registry: a push to the same registry can mount them.
    Registry(Reference),
    /// On this machine, at this place (for messages).
    Local(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => write!(f, "{reference}"),
            Self::Local(place) => f.write_str(place),
        }
    }
}

/// One layer of an image.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The blob, usually compressed.
    pub descriptor: Descriptor,
    /// The digest of the tar inside it.
    pub diff_id: Digest,
    /// Where the blob is.
    pub blobs: Arc<dyn Blobs>,
}

impl Layer {
    /// A blob that is moved and never looked into, so that what it uncompresses to need not be known.
    pub(crate) fn opaque(descriptor: Descriptor, blobs: Arc<dyn Blobs>) -> Self {
        Self { diff_id: descriptor.digest, descriptor, blobs }
    }

    /// What bringing it to this machine's disk is called: nothing is pulled that is here already.
    pub(crate) fn moving(&self) -> Transfer {
        match self.blobs.origin() {
            Origin::Registry(_) => Transfer::Pull,
            Origin::Local(_) => Transfer::Copy,
        }
    }

    /// The blob's bytes, verified when the end is reached.
    ///
    /// # Errors
    /// As [`Blobs::open`].
    pub fn open(&self) -> Result<Verified<Box<dyn Read + Send>>> {
        let reader = self.blobs.open(&self.descriptor, 0)?;
        Ok(Verified::new(reader, &self.descriptor, self.blobs.origin().to_string()))
    }
}

/// An image: what its manifest and configuration say, with the bytes they were read from.
#[derive(Clone, Debug)]
pub struct Image {
    /// Points at the manifest.
    pub descriptor: Descriptor,
    /// The manifest as it was received or written: what the digest is of.
    pub manifest_bytes: Vec<u8>,
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration as it was received or written.
    pub config_bytes: Vec<u8>,
    /// The configuration.
    pub config: ImageConfig,
    /// The index through which the image was found, where there was one: what the tag points at.
    pub index: Option<Digest>,
    layers: Vec<Layer>,
}

impl Image {
    /// An image from its documents. `place` names where they are from in errors.
    ///
    /// # Errors
    /// When the digests, media types, or the number of layers and diffIDs do not agree.
    pub fn new(
        descriptor: Descriptor,
        manifest_bytes: Vec<u8>,
        config_bytes: Vec<u8>,
        blobs: &Arc<dyn Blobs>,
    ) -> Result<Self> {
        let place = blobs.origin().to_string();
        let manifest = parse_manifest(&descriptor, &manifest_bytes, &place)?;
        check_document(&manifest.config, &config_bytes, &place)?;
        let config = parse_config(&manifest, &config_bytes, &place)?;
        let layers = manifest
            .layers
            .iter()
            .zip(&config.rootfs.diff_ids)
            .map(|(layer, diff_id)| Layer {
                descriptor: layer.clone(),
                diff_id: *diff_id,
                blobs: Arc::clone(blobs),
            })
            .collect();
        Ok(Self { descriptor, manifest_bytes, manifest, config_bytes, config, index: None, layers })
    }

    /// The image whose manifest `descriptor` points at, both documents read from `blobs`.
    ///
    /// # Errors
    /// As [`Image::new`], and when a document cannot be read.
    pub fn load(descriptor: Descriptor, blobs: &Arc<dyn Blobs>) -> Result<Self> {
        let manifest_bytes = read_document(&**blobs, &descriptor)?;
        Self::with_manifest(descriptor, manifest_bytes, blobs)
    }

    /// The image with this manifest; its configuration is read from `blobs`.
    ///
    /// # Errors
    /// As [`Image::load`].
    pub fn with_manifest(
        descriptor: Descriptor,
        manifest_bytes: Vec<u8>,
        blobs: &Arc<dyn Blobs>,
    ) -> Result<Self> {
        let manifest = parse_manifest(&descriptor, &manifest_bytes, &blobs.origin().to_string())?;
        let config_bytes = read_document(&**blobs, &manifest.config)?;
        Self::new(descriptor, manifest_bytes, config_bytes, blobs)
    }

    /// The layers, lowest first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Where its layers are read from; none for an image without layers.
    pub fn origin(&self) -> Option<Origin> {
        self.layers.first().map(|layer| layer.blobs.origin())
    }

    /// The same image with its layers' bytes elsewhere.
    #[must_use]
    pub fn with_blobs(mut self, blobs: &Arc<dyn Blobs>) -> Self {
        for layer in &mut self.layers {
            layer.blobs = Arc::clone(blobs);
        }
        self
    }

    /// The same image, found through this index.
    #[must_use]
    pub fn with_index(mut self, index: Option<Digest>) -> Self {
        self.index = index;
        self
    }

    /// What the image runs on.
    pub fn platform(&self) -> Platform {
        self.config.platform()
    }

    /// The manifest's digest.
    pub fn digest(&self) -> Digest {
        self.descriptor.digest
    }

    /// OCI's formats or Docker's.
    pub fn format(&self) -> Format {
        Format::of_manifest(&self.descriptor.media_type)
    }

    /// What other tools call the image's ID: the digest of its configuration.
    pub fn id(&self) -> Digest {
        self.manifest.config.digest
    }

    /// Bytes of the manifest, the configuration and all layers as they are stored.
    pub fn size(&self) -> u64 {
        let documents = self.manifest_bytes.len() + self.config_bytes.len();
        self.manifest.layers.iter().fold(documents as u64, |sum, layer| sum.saturating_add(layer.size))
    }

    /// Starts a new image from this one: the same configuration, layers, format and annotations.
    pub fn derive(&self) -> NewImage {
        NewImage {
            config: self.config.clone(),
            layers: self.layers.clone(),
            format: self.format(),
            annotations: self.manifest.annotations.clone(),
        }
    }
}

/// An image that is being put together.
#[derive(Clone, Debug)]
pub struct NewImage {
    /// Its configuration. `rootfs` is filled in from `layers`.
    pub config: ImageConfig,
    /// Its layers, lowest first, from anywhere.
    pub layers: Vec<Layer>,
    /// The media types to use, of layers too.
    pub format: Format,
    /// Annotations of the manifest. Docker's manifests cannot have any: there they are left out.
    pub annotations: BTreeMap<String, String>,
}

impl NewImage {
    /// Writes the documents. The same input gives the same bytes.
    ///
    /// # Errors
    /// When a layer's media type has no equal in the format, the history does not fit the layers, or a document is
    /// larger than [`MAX_DOCUMENT`]: nobody could read the image.
    pub fn finish(mut self) -> Result<Image> {
        let place = "the new image";
        for layer in &mut self.layers {
            layer.descriptor.media_type = self.format.layer_media_type(&layer.descriptor.media_type)?;
        }
        self.config.rootfs.diff_ids = self.layers.iter().map(|layer| layer.diff_id).collect();
        check_history(&self.config, place)?;
        let config_bytes = to_json(&self.config, "image configuration")?;
        let largest = self.config.config.labels.iter().max_by_key(|(_, value)| value.len());
        let largest = largest.map(|(name, value)| (name.clone(), value.len() as u64));
        check_size("configuration", &config_bytes, largest)?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(self.format.manifest().to_owned()),
            config: describe(self.format.config(), &config_bytes),
            layers: self.layers.iter().map(|layer| layer.descriptor.clone()).collect(),
            annotations: if self.format == Format::Oci { self.annotations } else { BTreeMap::new() },
            extra: serde_json::Map::new(),
        };
        let manifest_bytes = to_json(&manifest, "image manifest")?;
        check_size("manifest", &manifest_bytes, None)?;
        let mut descriptor = describe(self.format.manifest(), &manifest_bytes);
        descriptor.platform = Some(self.config.platform());
        Ok(Image {
            descriptor,
            manifest_bytes,
            manifest,
            config_bytes,
            config: self.config,
            index: None,
            layers: self.layers,
        })
    }
}

/// The entry of an index that is for `wanted`: one with the very variant first, then one without any, then any
/// other that `wanted` accepts. `place` names the index in the error.
///
/// # Errors
/// [`Error::NoSuchPlatform`], with what there is.
pub fn select<'a>(index: &'a Index, wanted: &Platform, place: &str) -> Result<&'a Descriptor> {
    let rank = |entry: &Descriptor| match &entry.platform {
        Some(p) if !wanted.accepts(p) => None,
        Some(p) if p.variant == wanted.variant => Some(0),
        Some(p) if p.variant.is_none() => Some(1),
        Some(_) => Some(2),
        // Without a platform only the configuration could tell; the caller compares it when this is all there is.
        None if index.manifests.len() == 1 => Some(3),
        None => None,
    };
    let usable = |entry: &&Descriptor| {
        media_type::is_manifest(&entry.media_type) || media_type::is_index(&entry.media_type)
    };
    index
        .manifests
        .iter()
        .filter(usable)
        .filter_map(|entry| Some((rank(entry)?, entry)))
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, entry)| entry)
        .ok_or_else(|| Error::NoSuchPlatform {
            place: place.to_owned(),
            wanted: wanted.clone(),
            available: platforms(index),
        })
}

/// What an index has images for, without attestations (`unknown/unknown`), each once.
pub fn platforms(index: &Index) -> Vec<String> {
    let known =
        index.manifests.iter().filter_map(|entry| entry.platform.as_ref()).filter(|p| p.os != "unknown");
    let mut names: Vec<String> = Vec::new();
    for platform in known {
        let name = platform.to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Reads a whole document (manifest, index, configuration) and verifies it.
///
/// # Errors
/// When it cannot be read, is larger than [`MAX_DOCUMENT`], or is not what its descriptor says.
pub fn read_document(blobs: &dyn Blobs, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let place = blobs.origin().to_string();
    if descriptor.size > MAX_DOCUMENT {
        let what = format!("document {} of {place}", descriptor.digest);
        return Err(Error::invalid(
            what,
            format!("it has {} bytes, expected at most {MAX_DOCUMENT}", descriptor.size),
        ));
    }
    let mut bytes = Vec::with_capacity(descriptor.size as usize);
    blobs
        .open(descriptor, 0)?
        .take(descriptor.size + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| Error::ReadBlob { digest: descriptor.digest, place: place.clone(), source })?;
    check_document(descriptor, &bytes, &place)?;
    Ok(bytes)
}

/// Checks that a new document can be read.
fn check_size(what: &'static str, bytes: &[u8], largest: Option<(String, u64)>) -> Result<()> {
    let size = bytes.len() as u64;
    if size > MAX_DOCUMENT {
        return Err(Error::TooLarge { what, size, limit: MAX_DOCUMENT, largest });
    }
    Ok(())
}

/// A descriptor of `bytes`.
pub fn describe(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64)
}

/// Parses an index and checks that it is one. `place` names where it is from.
///
/// # Errors
/// When it is not the JSON of an index.
pub fn parse_index(bytes: &[u8], place: &str) -> Result<Index> {
    let what = || format!("image index of {place}");
    let index: Index =
        serde_json::from_slice(bytes).map_err(|source| Error::Json { what: what(), source })?;
    if index.schema_version != 2 {
        return Err(Error::invalid(what(), format!("schema version {}, expected 2", index.schema_version)));
    }
    Ok(index)
}

/// A reader that checks, when it reaches the end, that the bytes were those the descriptor names. It never gives
/// more bytes than the descriptor says. The error is an [`io::Error`] with an [`Error`] inside.
#[derive(Debug)]
pub struct Verified<R> {
    inner: R,
    hasher: Option<Hasher>,
    digest: Digest,
    expected: u64,
    seen: u64,
    place: String,
}

impl<R: Read> Verified<R> {
    /// Verifies what `inner` gives against `descriptor`. `place` names the source in errors.
    pub fn new(inner: R, descriptor: &Descriptor, place: String) -> Self {
        Self {
            inner,
            hasher: Some(Hasher::new()),
            digest: descriptor.digest,
            expected: descriptor.size,
            seen: 0,
            place,
        }
    }

    fn end(&mut self) -> Result<()> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        if self.seen != self.expected {
            return Err(Error::BlobSize {
                digest: self.digest,
                place: self.place.clone(),
                expected: self.expected,
                found: self.seen,
            });
        }
        let found = hasher.finish();
        if found != self.digest {
            return Err(Error::CorruptBlob { digest: self.digest, place: self.place.clone(), found });
        }
        Ok(())
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.read(buffer)?;
        self.seen += count as u64;
        if count == 0 || self.seen > self.expected {
            self.end().map_err(Error::into_io)?;
            return Ok(0);
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        Ok(count)
    }
}

pub(crate) fn to_json<T: serde::Serialize>(value: &T, what: &str) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|source| Error::Json { what: what.to_owned(), source })
}

fn check_document(descriptor: &Descriptor, bytes: &[u8], place: &str) -> Result<()> {
    let (digest, place) = (descriptor.digest, place.to_owned());
    if bytes.len() as u64 != descriptor.size {
        let found = bytes.len() as u64;
        return Err(Error::BlobSize { digest, place, expected: descriptor.size, found });
    }
    let found = Digest::of(bytes);
    if found != digest {
        return Err(Error::CorruptBlob { digest, place, found });
    }
    Ok(())
}

fn parse_manifest(descriptor: &Descriptor, bytes: &[u8], place: &str) -> Result<Manifest> {
    let manifest = parse_any_manifest(descriptor, bytes, place)?;
    let config = &manifest.config.media_type;
    if !matches!(config.as_str(), media_type::OCI_CONFIG | media_type::DOCKER_CONFIG) {
        let reason = format!("it is not an image: its configuration has the media type `{config}`");
        return Err(Error::invalid(format!("image manifest {} of {place}", descriptor.digest), reason));
    }
    Ok(manifest)
}

/// A manifest of an image, or of something else that is kept as images are.
pub(crate) fn parse_any_manifest(descriptor: &Descriptor, bytes: &[u8], place: &str) -> Result<Manifest> {
    let what = || format!("image manifest {} of {place}", descriptor.digest);
    check_document(descriptor, bytes, place)?;
    if !media_type::is_manifest(&descriptor.media_type) {
        let reason = format!("media type `{}`, expected an image manifest", descriptor.media_type);
        return Err(Error::invalid(what(), reason));
    }
    let manifest: Manifest =
        serde_json::from_slice(bytes).map_err(|source| Error::Json { what: what(), source })?;
    if manifest.schema_version != 2 {
        return Err(Error::invalid(
            what(),
            format!("schema version {}, expected 2", manifest.schema_version),
        ));
    }
    // One document must not be read as two kinds of thing (an index with layers, a manifest with manifests).
    if manifest.media_type.as_deref().is_some_and(|inner| inner != descriptor.media_type)
        || manifest.extra.contains_key("manifests")
    {
        let inner = manifest.media_type.as_deref().unwrap_or("none");
        let reason = format!("it says media type `{inner}`, expected `{}`", descriptor.media_type);
        return Err(Error::invalid(what(), reason));
    }
    Ok(manifest)
}

fn parse_config(manifest: &Manifest, bytes: &[u8], place: &str) -> Result<ImageConfig> {
    let what = || format!("image configuration {} of {place}", manifest.config.digest);
    let config: ImageConfig =
        serde_json::from_slice(bytes).map_err(|source| Error::Json { what: what(), source })?;
    let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if layers != diff_ids {
        let reason =
            format!("it has {diff_ids} diff_ids, expected {layers}, one for each layer of the manifest");
        return Err(Error::invalid(what(), reason));
    }
    Ok(config)
}

fn check_history(config: &ImageConfig, place: &str) -> Result<()> {
    let with_layer = config.history.iter().filter(|entry| !entry.empty_layer).count();
    let layers = config.rootfs.diff_ids.len();
    if config.history.is_empty() || with_layer == layers {
        return Ok(());
    }
    let reason = format!("its history has {with_layer} entries with a layer, expected {layers}");
    Err(Error::invalid(format!("image configuration of {place}"), reason))
}

#[cfg(test)]
mod tests;
