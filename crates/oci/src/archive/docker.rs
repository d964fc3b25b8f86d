//! Reading a `docker-archive`: what `docker save` writes, in all its ages.
//!
//! Layers are tars, usually uncompressed, under any name (`<id>/layer.tar`, a link to one in another folder,
//! `blobs/sha256/<digest>`). The archive has no image manifest: one of Docker's kind is made up, in which an
//! uncompressed layer's digest is its diffID.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use layer::Digest;
use serde::{Deserialize, Serialize};

use super::members::Members;
use crate::error::{Error, Result};
use crate::image::{Blobs, Compression, Format, Image, MAX_DOCUMENT, Origin, describe, to_json};
use crate::model::{Descriptor, ImageConfig, Manifest};
use crate::reference::Reference;

/// An entry of `manifest.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    /// The file of the image configuration.
    pub(super) config: String,
    /// The image's names.
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    /// The files of its layers, lowest first.
    #[serde(default)]
    pub(super) layers: Option<Vec<String>>,
}

/// An archive that `docker save` wrote.
#[derive(Clone, Debug)]
pub struct DockerArchive {
    members: Members,
    entries: Vec<Entry>,
}

impl DockerArchive {
    /// Opens the archive at `path`; `scratch` as in [`Members::open`].
    ///
    /// # Errors
    /// When it cannot be read, or has no `manifest.json`.
    pub fn open(path: impl Into<PathBuf>, scratch: &Path) -> Result<Self> {
        let members = Members::open(path, scratch)?;
        let what = || format!("archive {}", members.path().display());
        if members.size("manifest.json").is_none() {
            let reason = match members.size("oci-layout") {
                Some(_) => {
                    "it has no `manifest.json` but an `oci-layout`: expected the name `oci-archive:FILE`"
                }
                None => "it has no `manifest.json`",
            };
            return Err(Error::invalid(what(), reason));
        }
        let entries = serde_json::from_slice(&members.read("manifest.json", MAX_DOCUMENT)?)
            .map_err(|source| Error::Json { what: format!("manifest.json of {}", what()), source })?;
        Ok(Self { members, entries })
    }

    /// The image of this name; without a name, the only one there is.
    ///
    /// # Errors
    /// When there is no such image, or several, or one of its files is missing or invalid.
    pub fn image(&self, name: Option<&Reference>) -> Result<Image> {
        let place = self.members.path().display().to_string();
        let entry = match (name, self.entries.as_slice()) {
            (Some(name), entries) => entries
                .iter()
                .find(|entry| entry.names().any(|tag| tag.parse().is_ok_and(|tag: Reference| tag == *name)))
                .ok_or_else(|| Error::NoSuchImage { name: name.to_string(), place })?,
            (None, [entry]) => entry,
            (None, []) => return Err(Error::invalid(format!("archive {place}"), "it has no image")),
            (None, entries) => {
                let names = entries.iter().flat_map(Entry::names).map(str::to_owned).collect();
                return Err(Error::Ambiguous { place, names });
            }
        };
        self.load(entry)
    }

    /// The names in the archive.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().flat_map(Entry::names)
    }

    fn load(&self, entry: &Entry) -> Result<Image> {
        let what = || format!("archive {}", self.members.path().display());
        let config_bytes = self.members.read(&entry.config, MAX_DOCUMENT)?;
        let config: ImageConfig = serde_json::from_slice(&config_bytes)
            .map_err(|source| Error::Json { what: format!("`{}` of {}", entry.config, what()), source })?;
        let (files, diff_ids) = (entry.layers.as_deref().unwrap_or_default(), &config.rootfs.diff_ids);
        if files.len() != diff_ids.len() {
            let reason =
                format!("it has {} layers, but `{}` {} diff_ids", files.len(), entry.config, diff_ids.len());
            return Err(Error::invalid(what(), reason));
        }
        let mut blobs = Files { members: self.members.clone(), names: BTreeMap::new() };
        let mut layers = Vec::new();
        for (file, diff_id) in files.iter().zip(diff_ids) {
            let layer = self.describe_layer(file, *diff_id)?;
            blobs.names.insert(layer.digest, file.clone());
            layers.push(layer);
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(Format::Docker.manifest().to_owned()),
            config: describe(Format::Docker.config(), &config_bytes),
            layers,
            annotations: BTreeMap::new(),
            extra: Default::default(),
        };
        let manifest_bytes = to_json(&manifest, "image manifest")?;
        let mut descriptor = describe(Format::Docker.manifest(), &manifest_bytes);
        descriptor.platform = Some(config.platform());
        Image::new(descriptor, manifest_bytes, config_bytes, &(Arc::new(blobs) as Arc<dyn Blobs>))
    }

    fn describe_layer(&self, file: &str, diff_id: Digest) -> Result<Descriptor> {
        let missing = || {
            let what = format!("archive {}", self.members.path().display());
            Error::invalid(what, format!("its layer `{file}` is missing"))
        };
        let open = |skip| self.members.open_member(file, skip).ok_or_else(missing);
        let size = self.members.size(file).ok_or_else(missing)?;
        let mut start = Vec::new();
        open(0)?.take(4).read_to_end(&mut start)?;
        let compression = Compression::detect(&start);
        let named = file.strip_prefix("blobs/sha256/").and_then(|hex| format!("sha256:{hex}").parse().ok());
        let digest = match (compression, named) {
            (Compression::None, _) => diff_id,
            // The name is checked, as every digest, when the layer is read.
            (_, Some(digest)) => digest,
            (_, None) => Digest::of_reader(std::io::BufReader::with_capacity(256 << 10, open(0)?))?,
        };
        let media_type = match compression {
            // Docker has no media type for it; the OCI one says what it is to those who read the layer.
            Compression::Zstd => Format::Oci.layer(compression)?,
            _ => Format::Docker.layer(compression)?,
        };
        Ok(Descriptor::new(media_type, digest, size))
    }
}

impl Entry {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.repo_tags.iter().flatten().map(String::as_str)
    }
}

/// The layers of one image in the archive.
#[derive(Debug)]
struct Files {
    members: Members,
    names: BTreeMap<Digest, String>,
}

impl Blobs for Files {
    fn open(&self, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        let section = self.names.get(&blob.digest).and_then(|name| self.members.open_member(name, offset));
        match section {
            Some(section) => Ok(Box::new(section)),
            None => Err(Error::MissingBlob {
                digest: blob.digest,
                place: self.members.path().display().to_string(),
            }),
        }
    }

    fn origin(&self) -> Origin {
        Origin::Local(self.members.path().display().to_string())
    }
}

#[cfg(test)]
mod tests;
