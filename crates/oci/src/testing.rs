//! For this crate's tests: blobs in memory, and small images.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::sync::{Arc, Mutex};

use layer::Digest;

use crate::error::{Error, Result};
use crate::image::{Blobs, Format, Image, Layer, NewImage, Origin, describe};
use crate::model::{Descriptor, ImageConfig, RootFs, RunConfig, media_type};

#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<BTreeMap<Digest, Vec<u8>>>);

impl Memory {
    pub(crate) fn put(&self, media_type: &str, bytes: &[u8]) -> Descriptor {
        let descriptor = describe(media_type, bytes);
        self.put_as(descriptor.digest, bytes);
        descriptor
    }

    pub(crate) fn put_as(&self, digest: Digest, bytes: &[u8]) {
        self.0.lock().unwrap().insert(digest, bytes.to_vec());
    }
}

impl Blobs for Memory {
    fn open(&self, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        let blobs = self.0.lock().unwrap();
        let bytes = blobs
            .get(&blob.digest)
            .ok_or_else(|| Error::MissingBlob { digest: blob.digest, place: "memory".to_owned() })?;
        Ok(Box::new(Cursor::new(bytes[offset as usize..].to_vec())))
    }

    fn origin(&self) -> Origin {
        Origin::Local("memory".to_owned())
    }
}

pub(crate) fn config() -> ImageConfig {
    ImageConfig {
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        variant: None,
        created: Some("1980-01-01T00:00:01Z".to_owned()),
        author: None,
        config: RunConfig { user: "1000:1000".to_owned(), ..RunConfig::default() },
        rootfs: RootFs::default(),
        history: Vec::new(),
        extra: Default::default(),
    }
}

/// A tar with one file.
pub(crate) fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, content).unwrap();
    builder.into_inner().unwrap()
}

/// An image in memory whose layers are these tars, uncompressed.
pub(crate) fn image_of(memory: &Arc<Memory>, tars: &[Vec<u8>], format: Format) -> Image {
    let layers = tars
        .iter()
        .map(|tar| Layer {
            descriptor: memory.put(media_type::OCI_LAYER, tar),
            diff_id: Digest::of(tar),
            blobs: Arc::clone(memory) as Arc<dyn Blobs>,
        })
        .collect();
    let new = NewImage { config: config(), layers, format, annotations: BTreeMap::new() };
    let image = new.finish().unwrap();
    memory.put(&image.descriptor.media_type, &image.manifest_bytes);
    memory.put(&image.manifest.config.media_type, &image.config_bytes);
    image
}

/// A prune that keeps all it may.
pub(crate) const KEEP_ALL: crate::store::PruneOptions<'static> =
    crate::store::PruneOptions { keep_cache: &|_| true, keep_steps: Some(std::time::Duration::MAX) };
