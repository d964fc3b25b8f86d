//! Manifests and indexes: what is kept of them is the bytes that came.

use std::io::{Cursor, Read};
use std::sync::Arc;

use pannier_oci::image::{describe, parse_index, platforms, select};
use pannier_oci::{Blobs, Descriptor, Digest, Error, Image, Origin, Platform, Result, media_type};

/// The configuration that a manifest has to name to be an image here.
pub const CONFIG: &str = r#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}}"#;

/// What comes of reading `input` as a manifest of either format, and as an index.
pub fn outcome(input: &[u8]) -> String {
    let [oci, docker] =
        [media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST].map(|kind| image(kind, input));
    let index = match parse_index(input, "here") {
        Ok(index) => {
            let wanted = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
            let found = select(&index, &wanted, "here").is_ok();
            format!("{} entries, {} platforms, {found}", index.manifests.len(), platforms(&index).len())
        }
        Err(error) => kind(&error),
    };
    format!("OCI: {oci}; Docker: {docker}; index: {index}")
}

fn image(media_type: &str, manifest: &[u8]) -> String {
    let blobs: Arc<dyn Blobs> = Arc::new(Two(manifest.to_vec()));
    let descriptor = describe(media_type, manifest);
    let image = match Image::load(descriptor.clone(), &blobs) {
        Ok(image) => image,
        Err(error) => return kind(&error),
    };
    assert_eq!(image.manifest_bytes, manifest);
    assert_eq!(image.digest(), Digest::of(manifest));
    assert!(image.size() >= manifest.len() as u64);
    let new = match image.derive().finish() {
        Ok(again) => {
            assert_eq!(again.layers().len(), image.layers().len());
            "another like it"
        }
        Err(_) => "none like it",
    };
    format!("{} layers, {new}", image.layers().len())
}

/// The kind of an error, without its text.
fn kind(error: &Error) -> String {
    assert!(!error.to_string().is_empty());
    format!("{error:?}").chars().take_while(char::is_ascii_alphanumeric).collect()
}

/// A manifest and [`CONFIG`].
#[derive(Debug)]
struct Two(Vec<u8>);

impl Blobs for Two {
    fn open(&self, blob: &Descriptor, _offset: u64) -> Result<Box<dyn Read + Send>> {
        let known = [&self.0, CONFIG.as_bytes()].into_iter().find(|bytes| Digest::of(bytes) == blob.digest);
        match known {
            Some(bytes) => Ok(Box::new(Cursor::new(bytes.to_vec()))),
            None => Err(Error::MissingBlob { digest: blob.digest, place: "here".to_owned() }),
        }
    }

    fn origin(&self) -> Origin {
        Origin::Local("here".to_owned())
    }
}
