//! An image for all its platforms, as it is copied: an index (or the one manifest there is), the manifests it lists, and
//! the blobs of those. Bytes only: whether they make images that run is for those who open one of them.
//!
//! Not here: where sets come from (`source`) and where they go (`sink`).

use std::collections::BTreeSet;
use std::sync::Arc;

use layer::Digest;

use crate::error::{Error, Result};
use crate::image::{Blobs, Image, Layer, describe, parse_any_manifest, parse_index, platforms, to_json};
use crate::layout::{MAX_NESTING, empty_index};
use crate::model::{Descriptor, Index, media_type};

/// All manifests and indexes of a set are held in memory; a set of real images has some kilobytes of them.
const MAX_DOCUMENTS: u64 = 64 << 20;

/// An image for all its platforms.
#[derive(Clone, Debug)]
pub struct ImageSet {
    /// Points at the index, or at the manifest where there is no index.
    pub descriptor: Descriptor,
    /// What the images are for, each platform once; attestations are none.
    pub platforms: Vec<String>,
    /// Manifests and indexes, each after those that it lists: the last is what `descriptor` points at.
    pub(crate) documents: Vec<(Descriptor, Vec<u8>)>,
    /// Configurations and layers, each once.
    pub(crate) blobs: Vec<Layer>,
}

/// Reads a manifest or an index, verified by whoever uses it.
pub(crate) type ReadDocument<'a> = dyn Fn(&Descriptor) -> Result<Vec<u8>> + 'a;

impl ImageSet {
    /// The set that these entries of an index make: what a single one points at, else a new index of them all.
    pub(crate) fn of_entries(
        entries: Vec<Descriptor>,
        read: &ReadDocument<'_>,
        blobs: &Arc<dyn Blobs>,
    ) -> Result<Self> {
        // Names are the place's, not the image's.
        let bare = |entry: Descriptor| Descriptor { annotations: Default::default(), ..entry };
        let mut manifests: Vec<Descriptor> = entries.into_iter().map(bare).collect();
        match (manifests.pop(), manifests.is_empty()) {
            (Some(only), true) => Self::read(only, None, read, blobs),
            (last, _) => {
                manifests.extend(last);
                let bytes = to_json(&Index { manifests, ..empty_index() }, "image index")?;
                Self::read(describe(media_type::OCI_INDEX, &bytes), Some(bytes), read, blobs)
            }
        }
    }

    /// Everything that `root` refers to; its own bytes where the caller has them.
    pub(crate) fn read(
        root: Descriptor,
        bytes: Option<Vec<u8>>,
        read: &ReadDocument<'_>,
        blobs: &Arc<dyn Blobs>,
    ) -> Result<Self> {
        let mut walk = Walk { read, blobs, set: Self::empty(&root), seen: BTreeSet::new(), bytes: 0 };
        walk.document(root, bytes, 0)?;
        Ok(walk.set)
    }

    /// The set that has this image alone.
    pub(crate) fn of_image(image: &Image) -> Self {
        let mut set = Self::empty(&image.descriptor);
        set.platforms.push(image.platform().to_string());
        set.documents.push((image.descriptor.clone(), image.manifest_bytes.clone()));
        let config = Config { descriptor: image.manifest.config.clone(), bytes: image.config_bytes.clone() };
        set.blobs.push(Layer::opaque(image.manifest.config.clone(), Arc::new(config)));
        set.blobs.extend(image.layers().iter().cloned());
        set
    }

    fn empty(root: &Descriptor) -> Self {
        Self { descriptor: root.clone(), platforms: Vec::new(), documents: Vec::new(), blobs: Vec::new() }
    }

    /// The digest of the index, or of the manifest.
    pub fn digest(&self) -> Digest {
        self.descriptor.digest
    }
}

struct Walk<'a> {
    read: &'a ReadDocument<'a>,
    blobs: &'a Arc<dyn Blobs>,
    set: ImageSet,
    seen: BTreeSet<Digest>,
    bytes: u64,
}

impl Walk<'_> {
    fn document(&mut self, entry: Descriptor, bytes: Option<Vec<u8>>, depth: usize) -> Result<()> {
        if !self.seen.insert(entry.digest) {
            return Ok(());
        }
        let place = self.blobs.origin().to_string();
        let invalid = |reason: String| Err(Error::invalid(format!("image index of {place}"), reason));
        if depth > MAX_NESTING {
            return invalid(format!("nested more than {MAX_NESTING} deep"));
        }
        let (is_index, is_manifest) =
            (media_type::is_index(&entry.media_type), media_type::is_manifest(&entry.media_type));
        if !is_index && !is_manifest {
            let (digest, kind) = (entry.digest, &entry.media_type);
            return invalid(format!("{digest} has the media type `{kind}`, expected a manifest or an index"));
        }
        self.bytes = self.bytes.saturating_add(entry.size);
        if self.bytes > MAX_DOCUMENTS {
            return invalid(format!("its manifests have more than {MAX_DOCUMENTS} bytes"));
        }
        let bytes = bytes.map_or_else(|| (self.read)(&entry), Ok)?;
        if is_index {
            let index = parse_index(&bytes, &place)?;
            let new = platforms(&index).into_iter().filter(|name| !self.set.platforms.contains(name));
            self.set.platforms.extend(new.collect::<Vec<_>>());
            for inner in index.manifests {
                self.document(inner, None, depth + 1)?;
            }
        } else {
            let manifest = parse_any_manifest(&entry, &bytes, &place)?;
            for blob in std::iter::once(manifest.config).chain(manifest.layers) {
                if self.seen.insert(blob.digest) {
                    self.set.blobs.push(Layer::opaque(blob, Arc::clone(self.blobs)));
                }
            }
        }
        self.set.documents.push((entry, bytes));
        Ok(())
    }
}

/// A configuration in memory.
#[derive(Debug)]
struct Config {
    descriptor: Descriptor,
    bytes: Vec<u8>,
}

impl Blobs for Config {
    fn open(&self, _blob: &Descriptor, offset: u64) -> Result<Box<dyn std::io::Read + Send>> {
        let rest = self.bytes.get(offset as usize..).unwrap_or_default();
        Ok(Box::new(std::io::Cursor::new(rest.to_vec())))
    }

    fn origin(&self) -> crate::image::Origin {
        crate::image::Origin::Local(format!("configuration {}", self.descriptor.digest))
    }
}
