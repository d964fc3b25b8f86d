//! The default builder: made into images of the store from what is inside the program, when first needed.
//!
//! What is in it is the `embedded` crate's matter.

use std::path::Path;

use embedded::{Content, ImageParts, LayerParts};
use layer::Compression;
use layer::pack::{self, PackError, Tar};
use oci::{Descriptor, Format, History, ImageConfig, Layer, NewImage, Platform, Reference, RunConfig, Store};

/// When everything in it was made.
const CREATED: &str = "1980-01-01T00:00:01Z";

/// The default builder cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DefaultBuilderError {
    /// A layer cannot be packed.
    #[error("failed to make the default builder")]
    Pack(#[from] PackError),
    /// The store cannot be written.
    #[error("failed to make the default builder")]
    Oci(#[from] oci::Error),
    /// Its programs are for another machine.
    #[error("the default builder is for linux/{}, and the build is for {wanted}", embedded::architecture())]
    Platform {
        /// What was asked for.
        wanted: Platform,
    },
}

/// Makes both images where the store has not got them, and gives the builder's name.
///
/// The name has a tag that changes with what is in it, so that a newer program does not use an older one's.
pub fn ensure(store: &Store, wanted: &Platform) -> Result<Reference, DefaultBuilderError> {
    let platform =
        Platform { os: "linux".to_owned(), architecture: embedded::architecture().to_owned(), variant: None };
    if !wanted.accepts(&platform) {
        return Err(DefaultBuilderError::Platform { wanted: wanted.clone() });
    }
    let builder_name = reference(embedded::builder::BUILD_IMAGE, embedded::fingerprint())?;
    let run_name = reference(embedded::builder::RUN_IMAGE, "latest")?;
    let has = |name: &Reference| store.image(name, &platform).map(|found| found.is_some());
    if has(&builder_name)? && has(&run_name)? {
        return Ok(builder_name);
    }
    let parts = embedded::default_builder();
    let run = image(store, &parts.run_image, &platform)?;
    store.tag_image(&run_name, &store.fetch(&run.finish()?, &events::Silent)?)?;
    let mut build = image(store, &parts.build_image, &platform)?;
    let diff_ids: Vec<_> = build.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    let position = |layer: &LayerParts| {
        parts.build_image.layers.iter().position(|it| std::ptr::eq(it, layer)).map(|it| diff_ids[it].clone())
    };
    build.config.config.labels = parts.build_labels(|layer| position(layer).unwrap_or_default());
    store.tag_image(&builder_name, &store.fetch(&build.finish()?, &events::Silent)?)?;
    Ok(builder_name)
}

/// Takes the name away from default builders of other versions of this program: nothing uses them any more. Gives how
/// many there were.
///
/// # Errors
/// When the store cannot be read or written.
pub fn forget_others(store: &Store) -> Result<usize, oci::Error> {
    let current = reference(embedded::builder::BUILD_IMAGE, embedded::fingerprint())?;
    let names = store.list()?.into_iter().filter_map(|entry| entry.name?.parse::<Reference>().ok());
    let others = names.filter(|name| name.name() == current.name() && *name != current);
    others.map(|name| store.untag(&name).map(usize::from)).sum()
}

fn reference(name: &str, tag: &str) -> Result<Reference, oci::Error> {
    let name: Reference = name.parse().map_err(|error: oci::InvalidReference| oci::Error::Invalid {
        what: "name of the default builder".to_owned(),
        reason: error.to_string(),
    })?;
    Ok(name.with_tag(tag))
}

fn image(store: &Store, parts: &ImageParts, platform: &Platform) -> Result<NewImage, DefaultBuilderError> {
    let layers: Result<Vec<Layer>, _> = parts.layers.iter().map(|layer| self::layer(store, layer)).collect();
    let config = RunConfig {
        user: parts.user.clone(),
        env: parts.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        working_dir: parts.working_dir.to_owned(),
        labels: parts.labels.clone(),
        ..RunConfig::default()
    };
    let history = parts.layers.iter().map(|layer| History {
        created: Some(CREATED.to_owned()),
        created_by: Some(layer.created_by.clone()),
        ..History::default()
    });
    let config = ImageConfig {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: None,
        created: Some(CREATED.to_owned()),
        author: None,
        config,
        rootfs: Default::default(),
        history: history.collect(),
        extra: Default::default(),
    };
    Ok(NewImage { config, layers: layers?, format: Format::Oci, annotations: Default::default() })
}

fn layer(store: &Store, parts: &LayerParts) -> Result<Layer, DefaultBuilderError> {
    let compression = Compression::DEFAULT;
    let mut blob = store.unhashed_blob_writer()?;
    let options = pack::Options { compression, ..pack::Options::default() };
    let packed = pack::pack(&options, &mut blob, |tar| fill(tar, parts))?;
    let descriptor: Descriptor = blob.commit_with(compression.media_type(), packed.digest)?;
    Ok(Layer { descriptor, diff_id: packed.diff_id, blobs: store.blobs() })
}

fn fill(tar: &mut Tar<'_, '_>, parts: &LayerParts) -> Result<(), PackError> {
    for entry in &parts.tree.entries {
        let (path, mode, uid, gid) = (Path::new(&entry.path), entry.mode, entry.uid, entry.gid);
        match &entry.content {
            Content::Directory => tar.dir(path, mode, uid, gid)?,
            Content::File(bytes) => tar.bytes(path, bytes, mode, uid, gid)?,
            Content::Symlink(target) => tar.symlink(path, Path::new(target), mode, uid, gid)?,
        }
    }
    Ok(())
}
