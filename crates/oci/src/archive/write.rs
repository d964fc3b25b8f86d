//! Writing archives: streamed to a file without a name, synced, then named.
//!
//! An `oci-archive` also gets the `manifest.json` of a `docker-archive`, pointing at the same blobs: Docker 20.10
//! loads no archive without one, and everybody else ignores it. The same images give the same bytes.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use layer::Digest;

use super::docker::Entry;
use crate::error::{Error, Result};
use crate::image::{Compression, Image, Layer, to_json};
use crate::image_set::ImageSet;
use crate::layout::{LAYOUT_FILE, REF_NAME, empty_index};
use crate::model::Descriptor;
use crate::new_file::{self, NewFile};
use crate::reference::Reference;

/// What every member says of when it was changed; readers of archives ignore it.
const MTIME: u64 = 315_532_801;

/// Hears of the bytes of a layer that were read; a read of nothing is its end.
pub type Progress<'a> = dyn Fn(&Layer, u64) + Sync + 'a;

/// Writes `image` as an `oci-archive` at `path`. `refs` are its names there (`org.opencontainers.image.ref.name`);
/// `names` those Docker gives it when it loads the archive. `progress` hears of the bytes of each layer.
///
/// # Errors
/// When a layer cannot be read or is not what it should be, or the file cannot be written: `path` is as before.
pub fn oci_archive(
    path: &Path,
    image: &Image,
    refs: &[String],
    names: &[Reference],
    progress: &Progress<'_>,
) -> Result<()> {
    let mut archive = Archive::create_layout(path)?;
    archive.file(&blob(image.digest()), &image.manifest_bytes)?;
    archive.file(&blob(image.id()), &image.config_bytes)?;
    for layer in distinct(image.layers()) {
        archive.layer(&blob(layer.descriptor.digest), layer, progress)?;
    }
    let entry = Descriptor { platform: Some(image.platform()), ..image.descriptor.clone() };
    archive.index(&entry, refs)?;
    let layers = image.layers().iter().map(|layer| blob(layer.descriptor.digest)).collect();
    archive.file("manifest.json", &manifest_json(blob(image.id()), names, layers)?)?;
    archive.finish()
}

/// Writes an image for all its platforms as an `oci-archive`. It has no `manifest.json`, which knows of no platforms.
///
/// # Errors
/// As [`oci_archive`].
pub fn oci_archive_of_set(
    path: &Path,
    set: &ImageSet,
    refs: &[String],
    progress: &Progress<'_>,
) -> Result<()> {
    let mut archive = Archive::create_layout(path)?;
    for (document, bytes) in &set.documents {
        archive.file(&blob(document.digest), bytes)?;
    }
    for layer in distinct(&set.blobs) {
        archive.layer(&blob(layer.descriptor.digest), layer, progress)?;
    }
    archive.index(&set.descriptor, refs)?;
    archive.finish()
}

fn blob(digest: Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

/// Writes `image` as a `docker-archive` at `path`. Layers stay compressed, but zstd ones, which `docker load` of
/// 20.10 does not read, are written uncompressed.
///
/// # Errors
/// As [`oci_archive`].
pub fn docker_archive(
    path: &Path,
    image: &Image,
    names: &[Reference],
    progress: &Progress<'_>,
) -> Result<()> {
    let mut archive = Archive::create(path)?;
    let config = format!("{}.json", image.id().hex());
    archive.file(&config, &image.config_bytes)?;
    for layer in distinct(image.layers()) {
        match compression(layer)? {
            Compression::Zstd => archive.uncompressed_layer(&layer_file(layer)?, layer, progress)?,
            _ => archive.layer(&layer_file(layer)?, layer, progress)?,
        }
    }
    let layers = image.layers().iter().map(layer_file).collect::<Result<_>>()?;
    archive.file("manifest.json", &manifest_json(config, names, layers)?)?;
    archive.finish()
}

fn layer_file(layer: &Layer) -> Result<String> {
    Ok(match compression(layer)? {
        Compression::Gzip => format!("{}.tar.gz", layer.descriptor.digest.hex()),
        Compression::None | Compression::Zstd => format!("{}.tar", layer.diff_id.hex()),
    })
}

fn compression(layer: &Layer) -> Result<Compression> {
    Compression::of_media_type(&layer.descriptor.media_type).ok_or_else(|| {
        let reason = format!("media type `{}`, expected a tar", layer.descriptor.media_type);
        Error::invalid(format!("layer {}", layer.descriptor.digest), reason)
    })
}

/// The layers without those that were there already: an image may have one blob twice.
fn distinct(layers: &[Layer]) -> impl Iterator<Item = &Layer> {
    let mut seen = std::collections::BTreeSet::new();
    layers.iter().filter(move |layer| seen.insert(layer.descriptor.digest))
}

fn manifest_json(config: String, names: &[Reference], layers: Vec<String>) -> Result<Vec<u8>> {
    // Docker loads names with a tag only.
    let tags: Vec<String> = names
        .iter()
        .filter(|name| name.tag().is_some() && name.digest().is_none())
        .map(Reference::to_string)
        .collect();
    let entry = Entry { config, repo_tags: Some(tags), layers: Some(layers) };
    to_json(&[entry], "manifest.json")
}

struct Archive {
    builder: tar::Builder<BufWriter<NewFile>>,
    path: PathBuf,
}

impl Archive {
    fn create(path: &Path) -> Result<Self> {
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        new_file::sweep(folder);
        let builder = tar::Builder::new(BufWriter::with_capacity(256 << 10, NewFile::new_in(folder)?));
        Ok(Self { builder, path: path.to_owned() })
    }

    /// An archive of a layout, as yet without blobs and index.
    fn create_layout(path: &Path) -> Result<Self> {
        let mut archive = Self::create(path)?;
        archive.file("oci-layout", LAYOUT_FILE.as_bytes())?;
        archive.folder("blobs/")?;
        archive.folder("blobs/sha256/")?;
        Ok(archive)
    }

    /// `index.json`, with `entry` under each of the names, or without one.
    fn index(&mut self, entry: &Descriptor, refs: &[String]) -> Result<()> {
        let named = |name: Option<&String>| Descriptor {
            annotations: name.map(|name| (REF_NAME.to_owned(), name.clone())).into_iter().collect(),
            ..entry.clone()
        };
        let mut index = empty_index();
        match refs {
            [] => index.manifests.push(named(None)),
            refs => index.manifests.extend(refs.iter().map(|name| named(Some(name)))),
        }
        self.file("index.json", &to_json(&index, "image index")?)
    }

    fn folder(&mut self, name: &str) -> Result<()> {
        let mut header = header(tar::EntryType::Directory, 0o755, 0);
        Ok(self.builder.append_data(&mut header, name, std::io::empty())?)
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut header = header(tar::EntryType::Regular, 0o644, bytes.len() as u64);
        Ok(self.builder.append_data(&mut header, name, bytes)?)
    }

    fn layer(&mut self, name: &str, layer: &Layer, progress: &Progress<'_>) -> Result<()> {
        let mut header = header(tar::EntryType::Regular, 0o644, layer.descriptor.size);
        let reader = Counted { inner: layer.open()?, layer, progress };
        self.builder.append_data(&mut header, name, reader).map_err(Error::from_io)
    }

    /// The header of a member comes before its content, so its size must be known: the content goes through a
    /// nameless file.
    fn uncompressed_layer(&mut self, name: &str, layer: &Layer, progress: &Progress<'_>) -> Result<()> {
        use std::io::{Read as _, Seek as _};
        let mut plain = tempfile::tempfile_in(
            self.path.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new(".")),
        )?;
        let mut reader = Counted { inner: layer.open()?, layer, progress };
        let mut hasher = layer::Hasher::new();
        {
            let mut tar = layer::unpack::decompressed(&mut reader)?;
            let mut buffer = vec![0; 256 << 10];
            loop {
                let count = tar.read(&mut buffer).map_err(Error::from_io)?;
                if count == 0 {
                    break;
                }
                hasher.update(&buffer[..count]);
                plain.write_all(&buffer[..count])?;
            }
        }
        // What follows the compressed data belongs to the blob and its digest.
        std::io::copy(&mut reader, &mut std::io::sink()).map_err(Error::from_io)?;
        let found = hasher.finish();
        if found != layer.diff_id {
            return Err(Error::DiffId { digest: layer.descriptor.digest, expected: layer.diff_id, found });
        }
        let size = plain.stream_position()?;
        plain.rewind()?;
        let mut header = header(tar::EntryType::Regular, 0o644, size);
        Ok(self.builder.append_data(&mut header, name, plain)?)
    }

    fn finish(self) -> Result<()> {
        let buffer = self.builder.into_inner()?;
        let file = buffer.into_inner().map_err(|error| error.into_error())?;
        Ok(file.persist(&self.path)?)
    }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(MTIME);
    header.set_size(size);
    header
}

/// Tells of the bytes that pass.
struct Counted<'a, R> {
    inner: R,
    layer: &'a Layer,
    progress: &'a Progress<'a>,
}

impl<R: std::io::Read> std::io::Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        (self.progress)(self.layer, count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
