//! An image's configuration: kept as it came, changed without loss, inspected with all its labels.

use std::io::{Cursor, Read};
use std::sync::Arc;

use oci::image::describe;
use oci::{
    Blobs, Descriptor, Digest, Error, Image, ImageConfig, Manifest, Origin, Platform, Result, media_type,
};
use pannier_platform::inspect::inspect;
use serde_json::Value;

/// What comes of reading `input` as the configuration of an image with as many layers as it says.
pub fn outcome(input: &[u8]) -> String {
    let layers = match serde_json::from_slice::<ImageConfig>(input) {
        Ok(config) => {
            nothing_is_lost(input, &config);
            config.rootfs.diff_ids
        }
        Err(_) => Vec::new(),
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        config: describe(media_type::OCI_CONFIG, input),
        layers: layers.iter().map(|it| Descriptor::new(media_type::OCI_LAYER_GZIP, *it, 1)).collect(),
        annotations: Default::default(),
        extra: Default::default(),
    };
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let blobs: Arc<dyn Blobs> = Arc::new(One(input.to_vec()));
    let image = match Image::with_manifest(describe(media_type::OCI_MANIFEST, &manifest), manifest, &blobs) {
        Ok(image) => image,
        Err(error) => return kind(&error),
    };
    assert_eq!((&*image.config_bytes, image.layers().len()), (input, layers.len()));
    let derived = if image.derive().finish().is_ok() { "" } else { ", its history does not fit" };
    let inspected = match inspect(&image) {
        Ok(found) => {
            assert_eq!(found.layers.len(), layers.len());
            format!("app {}, builder {}", found.app.is_some(), found.builder.is_some())
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            "labels that cannot be read".to_owned()
        }
    };
    format!("{} layers{derived}; {inspected}", layers.len())
}

/// What is written is read as the same configuration; texts in it that say what it runs on can be read again.
fn nothing_is_lost(input: &[u8], config: &ImageConfig) {
    let written = serde_json::to_value(config).unwrap();
    let again: ImageConfig = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(&again, config);
    // Of what it passes over, the reader of configurations asks less than JSON does.
    let before: Value = serde_json::from_slice(input).unwrap_or_default();
    for (key, value) in before.as_object().into_iter().flatten() {
        assert!(value.is_null() || is_empty(value) || !written[key].is_null(), "{key} is lost");
    }
    if let Ok(platform) = config.platform().to_string().parse::<Platform>() {
        assert_eq!(platform.to_string(), config.platform().to_string());
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(|it| it.is_empty())
}

/// The kind of an error, without its text.
fn kind(error: &Error) -> String {
    assert!(!error.to_string().is_empty());
    format!("{error:?}").chars().take_while(char::is_ascii_alphanumeric).collect()
}

/// One blob.
#[derive(Debug)]
struct One(Vec<u8>);

impl Blobs for One {
    fn open(&self, blob: &Descriptor, _offset: u64) -> Result<Box<dyn Read + Send>> {
        if Digest::of(&self.0) != blob.digest {
            return Err(Error::MissingBlob { digest: blob.digest, place: "here".to_owned() });
        }
        Ok(Box::new(Cursor::new(self.0.clone())))
    }

    fn origin(&self) -> Origin {
        Origin::Local("here".to_owned())
    }
}
