//! The local store: an OCI image layout with more beside it.
//!
//! | in the store's folder | what it is |
//! |---|---|
//! | `oci-layout`, `index.json`, `blobs/sha256/…` | the layout: other tools can read it |
//! | `rootfs/<kind>/<diffID>/tree/` | layers, each unpacked once: lowers of overlays ([`Store::rootfs`]) |
//! | `rootfs/flat/<digest>/tree/` | several of them as one tree, where overlays cannot be had ([`Store::flat`]) |
//! | `steps/` | what instructions of Dockerfiles did ([`Store::step`]) |
//! | `mounts/` | folders that their programs keep between builds ([`Store::cache_mount`]) |
//! | `cache/` | build caches of apps, kept as trees by those who use them |
//! | `packages/` | what is known of the packages of images: small files, which go when nobody has used them for a month |
//! | `tmp/` | what is being written, in a folder per open store, swept when its process is gone |
//! | `in-use.lock` | shared by all that have the store open, exclusive while `prune` chooses what to remove |
//!
//! Whatever is written goes to `tmp`, is synced and renamed. Readers lock nothing; who changes `index.json` holds
//! a lock for that moment.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use layer::Digest;

use crate::error::{Error, Result};
use crate::image::{Blobs, Image, Origin, describe, parse_index, read_document};
use crate::image_set::ImageSet;
use crate::layout::{Layout, REF_NAME, replace_entry, resolve};
use crate::model::{Descriptor, Index, Platform, media_type};
use crate::publish;
use crate::reference::Reference;

mod blob;
mod fetch;
mod flat;
mod follow;
mod mounts;
mod open;
mod prune;
mod rootfs;
mod scratch;
mod steps;
mod usage;
mod verify;
mod walk;

pub use blob::BlobWriter;
pub use mounts::{CacheMount, Sharing};
pub use prune::{PruneOptions, Pruned};
pub use rootfs::Unpacker;
use scratch::Scratch;
pub use steps::{KeptStep, StepLock, StepRecord};
pub use usage::Usage;
pub use verify::{Part, Problem, Report};

/// The annotation of an entry in `index.json` with the digest of the index that the name stood for where the
/// image came from: what a registry must still answer for the image to be the newest.
const SOURCE_INDEX: &str = "io.pannier.source.index";

/// The local store. Cheap to clone; what one clone writes, all see.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    layout: Layout,
    scratch: Scratch,
    /// Holds the shared lock; none where nobody can write.
    in_use: Option<fs::File>,
}

/// An image in the store's list.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its full name; none for what another tool put there without one.
    pub name: Option<String>,
    /// The manifest's (or index's) digest.
    pub digest: Digest,
    /// What it runs on: of an image for several platforms all those that the store has it for. None when its
    /// documents cannot be read.
    pub platforms: Vec<Platform>,
    /// When it was made, RFC 3339, as its configuration says.
    pub created: Option<String>,
    /// Bytes of all its blobs; none when its documents cannot be read.
    pub size: Option<u64>,
}

impl Store {
    /// The store's folder.
    pub fn dir(&self) -> &Path {
        self.0.layout.dir()
    }

    /// The folder for build caches, kept as trees.
    pub fn cache_dir(&self) -> PathBuf {
        self.dir().join("cache")
    }

    /// The directories of all build caches.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn caches(&self) -> Result<Vec<PathBuf>> {
        Ok(prune::folders(&self.cache_dir())?.into_iter().filter(|path| prune::is_dir(path)).collect())
    }

    /// The folder for what is known of the packages of images.
    pub fn packages_dir(&self) -> PathBuf {
        self.dir().join("packages")
    }

    /// Where files of web servers are kept: buildpacks, and what Dockerfiles add ([`crate::downloads`]). A file there that was not modified for a month is
    /// removed by [`Store::prune`].
    pub fn downloads_dir(&self) -> PathBuf {
        self.dir().join("downloads")
    }

    /// The store as a layout.
    pub fn layout(&self) -> &Layout {
        &self.0.layout
    }

    /// A folder on the same file system for what is being made. It is this process's own, and is removed when the
    /// last clone of this store is dropped, or by a later process when this one was killed.
    ///
    /// # Errors
    /// When it cannot be made, as in a store that was opened for reading.
    pub fn scratch_dir(&self) -> Result<&Path> {
        self.0.scratch.dir()
    }

    /// Has what is in `dir` removed too when this process is interrupted: a directory beside something that is being made,
    /// which only this process uses.
    pub fn scratch_elsewhere(&self, dir: impl Into<PathBuf>) {
        self.0.scratch.add_elsewhere(dir.into());
    }

    /// Removes the scratch folder: for a program that is about to end by a signal. `unmount` has to take away whatever is
    /// mounted below a directory. Does not keep the store open.
    pub fn on_interrupt<F>(&self, unmount: F) -> impl FnOnce() + Send + use<F>
    where
        F: Fn(&Path) + Send,
    {
        let (inner, root) = (Arc::downgrade(&self.0), self.dir().join("tmp"));
        move || match inner.upgrade() {
            Some(inner) => inner.scratch.abandon(&unmount),
            // The last clone is being dropped by another thread, which removes the folder: it is let do so.
            None => scratch::wait_until_gone(&root),
        }
    }

    /// The file of a blob, there or not.
    pub fn blob_path(&self, digest: Digest) -> PathBuf {
        self.0.layout.blob_path(digest)
    }

    /// True when the blob is there with the size it should have.
    pub fn has(&self, blob: &Descriptor) -> bool {
        self.0.layout.has(blob)
    }

    /// Opens a blob, checking its size.
    ///
    /// # Errors
    /// When it is missing or has another size.
    pub fn open_blob(&self, blob: &Descriptor) -> Result<fs::File> {
        self.0.layout.open_blob(blob)
    }

    /// A writer for a new blob, which computes its digest.
    ///
    /// # Errors
    /// When no file can be made.
    pub fn blob_writer(&self) -> Result<BlobWriter> {
        BlobWriter::new(self.0.layout.clone(), self.scratch_dir()?, true)
    }

    /// A writer for a new blob whose digest the caller computes: end it with [`BlobWriter::commit_with`].
    ///
    /// # Errors
    /// When no file can be made.
    pub fn unhashed_blob_writer(&self) -> Result<BlobWriter> {
        BlobWriter::new(self.0.layout.clone(), self.scratch_dir()?, false)
    }

    /// Writes a blob from memory, unless it is there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let descriptor = describe(media_type, bytes);
        if self.has(&descriptor) {
            return Ok(descriptor);
        }
        let mut writer = self.unhashed_blob_writer()?;
        io::Write::write_all(&mut writer, bytes)?;
        writer.commit_with(media_type, descriptor.digest)
    }

    /// Removes a blob that was found corrupt, so that it is fetched again.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn discard(&self, digest: Digest) -> Result<()> {
        let _permit = publish::permit();
        match fs::remove_file(self.blob_path(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The store as a source of blobs, for [`crate::image::Layer`]s.
    pub fn blobs(&self) -> Arc<dyn Blobs> {
        Arc::new(self.clone())
    }

    /// The image of this name for this platform, if the store has it, or has this very digest.
    ///
    /// # Errors
    /// When the store cannot be read, or a document of the image is missing or corrupt. An image for other
    /// platforms only is as good as none.
    pub fn image(&self, reference: &Reference, platform: &Platform) -> Result<Option<Image>> {
        let Some((index, source)) = self.find(reference)? else { return Ok(None) };
        match resolve(&index, platform, &self.blobs()) {
            Ok(image) if platform.accepts(&image.platform()) => {
                let index = source.or(image.index);
                Ok(Some(image.with_index(index)))
            }
            Ok(_) | Err(Error::NoSuchPlatform { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The image of this name for all the platforms that the store has it for, with its blobs from `blobs`.
    pub(crate) fn image_set(
        &self,
        reference: &Reference,
        blobs: &Arc<dyn Blobs>,
    ) -> Result<Option<ImageSet>> {
        let Some((index, _)) = self.find(reference)? else { return Ok(None) };
        let read = |document: &Descriptor| self.document(document);
        ImageSet::of_entries(index.manifests, &read, blobs).map(Some)
    }

    /// The entries that the reference names, as an index, and where they came from.
    fn find(&self, reference: &Reference) -> Result<Option<(Index, Option<Digest>)>> {
        let name = reference.to_string();
        let mut index = self.0.layout.index()?;
        index.manifests.retain(|entry| {
            entry.annotations.get(REF_NAME) == Some(&name)
                || reference.digest().is_some_and(|wanted| {
                    entry.digest == wanted || entry.annotations.get(SOURCE_INDEX) == Some(&wanted.to_string())
                })
        });
        let source = index.manifests.first().and_then(|e| e.annotations.get(SOURCE_INDEX)?.parse().ok());
        Ok((!index.manifests.is_empty()).then_some((index, source)))
    }

    /// Gives what `descriptor` points at this name, instead of what had it (for the same platform).
    ///
    /// # Errors
    /// When `index.json` cannot be written.
    pub fn tag(&self, reference: &Reference, descriptor: &Descriptor) -> Result<()> {
        self.tag_from(reference, descriptor, None)
    }

    /// Gives a complete image in the store a name, and remembers the index it was found through.
    ///
    /// # Errors
    /// As [`Store::tag`].
    pub fn tag_image(&self, reference: &Reference, image: &Image) -> Result<()> {
        let mut descriptor = image.descriptor.clone();
        descriptor.platform = Some(image.platform());
        self.tag_from(reference, &descriptor, image.index)
    }

    fn tag_from(&self, reference: &Reference, to: &Descriptor, source: Option<Digest>) -> Result<()> {
        let mut entry = to.clone();
        // Annotations of the place it came from say nothing here.
        entry.annotations = BTreeMap::from([(REF_NAME.to_owned(), reference.to_string())]);
        if let Some(source) = source {
            entry.annotations.insert(SOURCE_INDEX.to_owned(), source.to_string());
        }
        self.0.layout.edit_index(|index| replace_entry(index, entry)).map(|_| ())
    }

    /// Gives a complete set in the store a name.
    ///
    /// # Errors
    /// As [`Store::tag`].
    pub fn tag_set(&self, reference: &Reference, set: &ImageSet) -> Result<()> {
        self.tag_from(reference, &set.descriptor, None)
    }

    /// Takes the name away, for all platforms; with a digest only from what has that. The blobs stay until
    /// [`Store::prune`]. False when there was none.
    ///
    /// # Errors
    /// When `index.json` cannot be written.
    pub fn untag(&self, reference: &Reference) -> Result<bool> {
        let (name, digest) = (reference.without_digest().to_string(), reference.digest());
        let is_it = |entry: &Descriptor| {
            let full = entry.annotations.get(REF_NAME);
            let named = match (reference.tag(), digest) {
                (None, Some(_)) => full.is_some_and(|full| {
                    full.parse().is_ok_and(|full: Reference| full.name() == reference.name())
                }),
                _ => full == Some(&name),
            };
            named && digest.is_none_or(|digest| entry.digest == digest)
        };
        self.0.layout.edit_index(|index| {
            let before = index.manifests.len();
            index.manifests.retain(|entry| !is_it(entry));
            index.manifests.len() != before
        })
    }

    /// All images, sorted by name.
    ///
    /// # Errors
    /// When `index.json` cannot be read. Documents that cannot be read leave their members empty.
    pub fn list(&self) -> Result<Vec<Entry>> {
        let mut entries: Vec<Entry> =
            self.0.layout.names()?.into_iter().map(|(name, to)| self.entry(name, to)).collect();
        entries.sort_by(|a, b| (&a.name, &a.platforms).cmp(&(&b.name, &b.platforms)));
        Ok(entries)
    }

    fn entry(&self, name: Option<String>, to: Descriptor) -> Entry {
        let images = self.images_of(&to).unwrap_or_default();
        let mut platforms: Vec<Platform> = images.iter().map(Image::platform).collect();
        if platforms.is_empty() {
            platforms.extend(to.platform);
        }
        let mut seen = BTreeSet::new();
        let blobs = images.iter().flat_map(|image| image.manifest.layers.iter());
        let layers = blobs.filter(|blob| seen.insert(blob.digest)).map(|blob| blob.size);
        let documents =
            images.iter().map(|image| (image.manifest_bytes.len() + image.config_bytes.len()) as u64);
        let size = documents.chain(layers).fold(0_u64, u64::saturating_add);
        Entry {
            name,
            digest: to.digest,
            platforms,
            created: images.first().and_then(|image| image.config.created.clone()),
            size: (!images.is_empty()).then_some(size),
        }
    }

    /// The image that an entry is, or those that its index lists; attestations are none.
    fn images_of(&self, entry: &Descriptor) -> Result<Vec<Image>> {
        if !media_type::is_index(&entry.media_type) {
            return Ok(vec![Image::load(entry.clone(), &self.blobs())?]);
        }
        let index = parse_index(&self.document(entry)?, &self.origin().to_string())?;
        let images = index.manifests.iter().filter(|inner| media_type::is_manifest(&inner.media_type));
        let images = images.filter_map(|inner| Image::load(inner.clone(), &self.blobs()).ok());
        Ok(images.filter(|image| image.config.os != "unknown").collect())
    }

    /// Reads and verifies a document (manifest, configuration).
    ///
    /// # Errors
    /// When it is missing or corrupt.
    pub fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        read_document(&self.0.layout, descriptor)
    }
}

impl Blobs for Store {
    fn open(&self, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        self.0.layout.open(blob, offset)
    }

    fn local_path(&self, blob: &Descriptor) -> Option<PathBuf> {
        self.0.layout.local_path(blob)
    }

    fn origin(&self) -> Origin {
        Origin::Local(format!("the store {}", self.dir().display()))
    }
}

#[cfg(test)]
mod tests;
