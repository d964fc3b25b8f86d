//! Opening images by name, wherever they are.
//!
//! Nothing is copied: an image from a registry has its documents, and its layers are read from there when
//! somebody asks for them. Bringing them here is [`Store::fetch`].

use std::io::Read;
use std::sync::Arc;

use layer::Digest;

use crate::archive::{DockerArchive, OciArchive};
use crate::error::{Error, Result};
use crate::image::{Blobs, Image, Origin, parse_index, select};
use crate::image_set::ImageSet;
use crate::layout::{Layout, MAX_NESTING};
use crate::model::{Descriptor, Platform, media_type};
use crate::reference::Reference;
use crate::registry::{Client, Stop};
use crate::store::Store;
use crate::transport::ImageName;

/// Where images can come from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The local store.
    pub store: Store,
    /// Registries.
    pub client: Client,
}

impl Sources {
    /// The image of this name for this platform. One that is not from an index may be for another: compare
    /// [`Image::platform`] where that matters.
    ///
    /// # Errors
    /// When there is no such image, or its documents cannot be read or are invalid.
    pub fn open(&self, name: &ImageName, platform: &Platform) -> Result<Image> {
        match name {
            ImageName::Plain(reference) => match self.store.image(reference, platform) {
                Ok(Some(image)) => Ok(self.mending(image, reference)),
                Ok(None) => remote(&self.client, reference, platform),
                // A document of it is corrupt, or is gone since it was: only a registry can know more.
                Err(error @ (Error::CorruptBlob { .. } | Error::MissingBlob { .. })) => {
                    let image = remote(&self.client, reference, platform).map_err(|_| error)?;
                    self.put_documents(&image)?;
                    Ok(image)
                }
                Err(error) => Err(error),
            },
            ImageName::Registry(reference) => remote(&self.client, reference, platform),
            ImageName::Layout { dir, tag, digest } => {
                expect(Layout::open(dir)?.image(tag.as_deref(), platform)?, *digest, name)
            }
            ImageName::OciArchive { file, tag, digest } => {
                let archive = OciArchive::open(file, self.store.scratch_dir()?)?;
                expect(archive.image(tag.as_deref(), platform)?, *digest, name)
            }
            ImageName::DockerArchive { file, name } => {
                DockerArchive::open(file, self.store.scratch_dir()?)?.image(name.as_ref())
            }
        }
    }

    /// Makes the store have the documents of an image again.
    fn put_documents(&self, image: &Image) -> Result<()> {
        let documents =
            [(&image.manifest.config, &image.config_bytes), (&image.descriptor, &image.manifest_bytes)];
        documents.into_iter().try_for_each(|(document, bytes)| {
            self.store.discard(document.digest)?;
            self.store.put(&document.media_type, bytes).map(|_| ())
        })
    }

    /// The image of this name for all the platforms that it is for there.
    ///
    /// # Errors
    /// As [`Sources::open`].
    pub fn open_all(&self, name: &ImageName) -> Result<ImageSet> {
        match name {
            ImageName::Plain(reference) => {
                match self.store.image_set(reference, &self.store_blobs(reference))? {
                    Some(set) => Ok(set),
                    None => remote_set(&self.client, reference),
                }
            }
            ImageName::Registry(reference) => remote_set(&self.client, reference),
            ImageName::Layout { dir, tag, digest } => {
                let set = Layout::open(dir)?.image_set(tag.as_deref())?;
                check_digest(digest.is_none_or(|digest| set.digest() == digest), name, set.digest())
                    .map(|()| set)
            }
            ImageName::OciArchive { file, tag, digest } => {
                let archive = OciArchive::open(file, self.store.scratch_dir()?)?;
                let set = archive.image_set(tag.as_deref())?;
                check_digest(digest.is_none_or(|digest| set.digest() == digest), name, set.digest())
                    .map(|()| set)
            }
            // It has one image of each name.
            ImageName::DockerArchive { .. } => Ok(ImageSet::of_image(&self.open(name, &Platform::host())?)),
        }
    }

    /// An image of the store whose blobs come from the registry that its name says where the store lacks them.
    #[must_use]
    pub fn mending(&self, image: Image, reference: &Reference) -> Image {
        image.with_blobs(&self.store_blobs(reference))
    }

    fn store_blobs(&self, reference: &Reference) -> Arc<dyn Blobs> {
        let remote = RegistryBlobs { client: self.client.clone(), reference: reference.clone() };
        Arc::new(StoreBlobs { store: self.store.clone(), remote })
    }
}

/// The image, which must have this digest or come from an index that has it.
fn expect(image: Image, digest: Option<Digest>, name: &ImageName) -> Result<Image> {
    let is_it = digest.is_none_or(|digest| image.digest() == digest || image.index == Some(digest));
    check_digest(is_it, name, image.digest()).map(|()| image)
}

fn check_digest(is_it: bool, name: &ImageName, found: Digest) -> Result<()> {
    match is_it {
        true => Ok(()),
        false => Err(Error::OtherDigest { name: name.to_string(), found }),
    }
}

/// The image of a registry: manifest and configuration now, layers when they are read.
///
/// # Errors
/// When the registry has no such image (see [`crate::registry::Error::is_not_found`]), none for the platform, or
/// does not answer; when a document is invalid.
pub fn remote(client: &Client, reference: &Reference, platform: &Platform) -> Result<Image> {
    let place = reference.to_string();
    let mut raw = client.manifest(reference)?;
    let mut through = None;
    for _ in 0..MAX_NESTING {
        if !media_type::is_index(&raw.media_type) {
            let blobs: Arc<dyn Blobs> =
                Arc::new(RegistryBlobs { client: client.clone(), reference: reference.clone() });
            let image = Image::with_manifest(raw.descriptor(), raw.bytes, &blobs)?;
            return Ok(image.with_index(through));
        }
        through = through.or(Some(raw.digest));
        let index = parse_index(&raw.bytes, &place)?;
        raw = client.manifest(&reference.with_digest(select(&index, platform, &place)?.digest))?;
    }
    Err(Error::invalid(format!("image index of {place}"), format!("nested more than {MAX_NESTING} deep")))
}

/// The image of a registry for all its platforms: manifests now, configurations and layers when they are read.
fn remote_set(client: &Client, reference: &Reference) -> Result<ImageSet> {
    let raw = client.manifest(reference)?;
    let blobs: Arc<dyn Blobs> =
        Arc::new(RegistryBlobs { client: client.clone(), reference: reference.clone() });
    let read = |entry: &Descriptor| Ok(client.manifest(&reference.with_digest(entry.digest))?.bytes);
    ImageSet::read(raw.descriptor(), Some(raw.bytes), &read, &blobs)
}

/// The blobs of an image that the store has, or should have.
#[derive(Clone, Debug)]
struct StoreBlobs {
    store: Store,
    remote: RegistryBlobs,
}

impl Blobs for StoreBlobs {
    fn open(&self, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        self.open_until(blob, offset, &Stop::default())
    }

    fn open_until(&self, blob: &Descriptor, offset: u64, stop: &Stop) -> Result<Box<dyn Read + Send>> {
        let missing = match Blobs::open(&self.store, blob, offset) {
            Err(error @ (Error::MissingBlob { .. } | Error::BlobSize { .. })) => error,
            result => return result,
        };
        // That the store lacks it is what is wrong; most images that were made here are in no registry at all.
        self.remote.open_until(blob, offset, stop).map_err(|_| missing)
    }

    fn local_path(&self, blob: &Descriptor) -> Option<std::path::PathBuf> {
        self.store.local_path(blob)
    }

    fn origin(&self) -> Origin {
        self.store.origin()
    }
}

/// The blobs of a repository.
#[derive(Clone, Debug)]
struct RegistryBlobs {
    client: Client,
    reference: Reference,
}

impl Blobs for RegistryBlobs {
    fn open(&self, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(self.client.blob(&self.reference, blob, offset)?))
    }

    fn open_until(&self, blob: &Descriptor, offset: u64, stop: &Stop) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(self.client.until(stop).blob(&self.reference, blob, offset)?))
    }

    fn origin(&self) -> Origin {
        Origin::Registry(self.reference.clone())
    }
}
