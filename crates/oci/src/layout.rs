//! An OCI image layout: a folder with `oci-layout`, `index.json` and `blobs/sha256/…` (OCI image specification,
//! "Image Layout"). The store is one too, with more beside it.
//!
//! Readers never lock: `index.json` and blobs only ever appear whole. Writers of `index.json` take turns by a
//! lock on the folder itself, so that nothing foreign is left in it. A layout may be anybody's: each of its files is
//! opened beneath its folder and must be a regular one.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use layer::{Digest, Hasher, PathError, Root};

use crate::error::{Error, Result};
use crate::image::{
    Blobs, Image, MAX_DOCUMENT, Origin, describe, parse_index, read_document, select, to_json,
};
use crate::image_set::ImageSet;
use crate::model::{Descriptor, Index, Platform, media_type};
use crate::new_file::{self, NewFile};
use crate::reference::Reference;

/// The annotation of an entry of `index.json` that names it.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Images inside images inside images: nobody nests deeper, and a loop of indexes must end.
pub(crate) const MAX_NESTING: usize = 4;

pub(crate) const LAYOUT_FILE: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// The longest `index.json` that is read, in bytes: that of the store lists every image there is.
const MAX_INDEX: u64 = 64 << 20;

/// An OCI image layout in a folder.
#[derive(Clone, Debug)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// The layout in `dir`.
    ///
    /// # Errors
    /// When there is none, or its version is not 1.x.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        let place = dir.display().to_string();
        let root = Root::beneath(&dir).map_err(|error| match error.is_not_found() {
            // Not there at all, as before the first build to it: see `Error::is_not_found`.
            true => Error::Io(io::Error::new(
                io::ErrorKind::NotFound,
                format!("no OCI layout in {place}: no such folder"),
            )),
            false => error.into(),
        })?;
        let file = root.read("oci-layout", MAX_DOCUMENT).map_err(|error| match error.is_not_found() {
            true => Error::invalid(format!("OCI layout {place}"), "it has no file `oci-layout`"),
            false => error.into(),
        })?;
        check_layout_file(&file, &place)?;
        Ok(Self { dir })
    }

    /// The layout in `dir`, made where there is none yet. Several processes may do so at once.
    ///
    /// # Errors
    /// When the folder cannot be made, holds something else, or is a layout of another version.
    pub fn create(dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        if dir.join("oci-layout").exists() {
            return Self::open(dir);
        }
        fs::create_dir_all(&dir)?;
        let folder = fs::File::open(&dir)?;
        folder.file().lock()?;
        // Whoever had the lock before may have made it.
        if dir.join("oci-layout").exists() {
            return Self::open(dir);
        }
        new_file::sweep(&dir);
        // What an interrupted run of ours leaves is not foreign: `blobs` comes first, `oci-layout` last.
        let foreign = |name: std::ffi::OsString| {
            let name = name.to_string_lossy();
            name != "blobs" && name != "index.json" && !name.starts_with(".new-")
        };
        for entry in fs::read_dir(&dir)? {
            if foreign(entry?.file_name()) {
                let what = format!("OCI layout {}", dir.display());
                return Err(Error::invalid(what, "the folder holds something else"));
            }
        }
        fs::create_dir_all(dir.join("blobs/sha256"))?;
        let layout = Self { dir };
        replace_file(&layout.dir.join("oci-layout"), LAYOUT_FILE.as_bytes())?;
        Ok(layout)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file of a blob, there or not.
    pub fn blob_path(&self, digest: Digest) -> PathBuf {
        self.dir.join("blobs").join(digest.algorithm()).join(digest.hex())
    }

    /// True when the blob is there with the size it should have.
    pub fn has(&self, blob: &Descriptor) -> bool {
        self.blobs(blob.digest)
            .and_then(|blobs| blobs.stat(blob.digest.hex()))
            .is_ok_and(|meta| meta.is_file() && meta.size == blob.size)
    }

    /// The folder that a blob is in. It may be a link of the layout's owner to another disk: whatever it leads to, only
    /// files whose names are digests are asked for there.
    fn blobs(&self, digest: Digest) -> std::result::Result<Root, PathError> {
        Root::beneath(self.dir.join("blobs").join(digest.algorithm()))
    }

    /// Opens a blob, checking its size.
    ///
    /// # Errors
    /// When it is missing or has another size.
    pub fn open_blob(&self, blob: &Descriptor) -> Result<fs::File> {
        let place = self.dir.display().to_string();
        let opened = self.blobs(blob.digest).and_then(|blobs| blobs.open_file(blob.digest.hex()));
        let file = opened.map_err(|error| match error.is_not_found() {
            true => Error::MissingBlob { digest: blob.digest, place: place.clone() },
            false => error.into(),
        })?;
        let file = fs::File::from_parts(file, self.blob_path(blob.digest));
        let found = file.metadata()?.len();
        if found != blob.size {
            return Err(Error::BlobSize { digest: blob.digest, place, expected: blob.size, found });
        }
        Ok(file)
    }

    /// `index.json`; an empty one where the file is missing.
    ///
    /// # Errors
    /// When the file cannot be read or is no index.
    pub fn index(&self) -> Result<Index> {
        let path = self.dir.join("index.json");
        match Root::beneath(&self.dir).and_then(|root| root.read("index.json", MAX_INDEX)) {
            Ok(bytes) => parse_index(&bytes, &path.display().to_string()),
            Err(error) if error.is_not_found() => Ok(empty_index()),
            Err(error) => Err(error.into()),
        }
    }

    /// Changes `index.json` as one step among writers. `edit` says whether it changed anything.
    ///
    /// # Errors
    /// When the file cannot be read or replaced.
    pub fn edit_index(&self, edit: impl FnOnce(&mut Index) -> bool) -> Result<bool> {
        let folder = fs::File::open(&self.dir)?;
        folder.file().lock()?;
        // Under the lock nobody else writes here, so what has such a name was left.
        new_file::sweep(&self.dir);
        let mut index = self.index()?;
        let changed = edit(&mut index);
        if changed || !self.dir.join("index.json").exists() {
            replace_file(&self.dir.join("index.json"), &to_json(&index, "image index")?)?;
        }
        Ok(changed)
    }

    /// Writes a blob from memory, unless it is there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let descriptor = describe(media_type, bytes);
        if !self.has(&descriptor) {
            replace_file(&self.blob_path(descriptor.digest), bytes)?;
        }
        Ok(descriptor)
    }

    /// Takes the blob from `reader`, unless it is there, and verifies it. `progress` hears of each piece's bytes.
    ///
    /// # Errors
    /// When reading or writing fails or the content is not what the descriptor says; nothing is left then.
    pub fn copy_blob(&self, blob: &Descriptor, reader: impl Read, progress: impl FnMut(u64)) -> Result<()> {
        let path = self.blob_path(blob.digest);
        let mut file = NewFile::new_in(path.parent().unwrap_or(&self.dir))?;
        copy_verified(blob, reader, &mut file, &self.dir.display().to_string(), progress)?;
        Ok(file.persist(&path)?)
    }

    /// The images and indexes that `index.json` lists, with their names.
    ///
    /// # Errors
    /// As [`Layout::index`].
    pub fn names(&self) -> Result<Vec<(Option<String>, Descriptor)>> {
        let entries = self.index()?.manifests.into_iter();
        Ok(entries.map(|entry| (entry.annotations.get(REF_NAME).cloned(), entry)).collect())
    }

    /// The image of this name for this platform; without a name, the only one there is. A name matches the whole
    /// [`REF_NAME`], or its tag; a short name of an image its full one.
    ///
    /// # Errors
    /// When there is no such image, several, none for the platform, or a document is invalid.
    pub fn image(&self, name: Option<&str>, platform: &Platform) -> Result<Image> {
        let index = self.index()?;
        find_image(&index, name, platform, &(Arc::new(self.clone()) as Arc<dyn Blobs>))
    }

    /// The image of this name for all its platforms.
    ///
    /// # Errors
    /// As [`Layout::image`].
    pub fn image_set(&self, name: Option<&str>) -> Result<ImageSet> {
        find_set(&self.index()?, name, &(Arc::new(self.clone()) as Arc<dyn Blobs>))
    }

    /// Lists `descriptor` in `index.json` under `name`, instead of what had this name (for the same platform).
    ///
    /// # Errors
    /// As [`Layout::edit_index`].
    pub fn tag(&self, name: Option<&str>, descriptor: &Descriptor) -> Result<()> {
        let mut entry = descriptor.clone();
        match name {
            Some(name) => entry.annotations.insert(REF_NAME.to_owned(), name.to_owned()),
            None => entry.annotations.remove(REF_NAME),
        };
        self.edit_index(|index| replace_entry(index, entry)).map(|_| ())
    }

    /// Removes what killed processes left among the blobs.
    pub(crate) fn sweep_blobs(&self) {
        new_file::sweep(&self.dir.join("blobs/sha256"));
    }
}

impl Blobs for Layout {
    fn open(&self, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        let mut file = self.open_blob(blob)?;
        if offset > 0 {
            file.seek(SeekFrom::Start(offset))?;
        }
        Ok(Box::new(file))
    }

    fn local_path(&self, blob: &Descriptor) -> Option<PathBuf> {
        self.has(blob).then(|| self.blob_path(blob.digest))
    }

    fn origin(&self) -> Origin {
        Origin::Local(self.dir.display().to_string())
    }
}

/// Puts `entry` into `index`, instead of one with the same name and platform (or, without a name, the same
/// digest). A name stands for an index or for images, not for both: the later wins. True when that changed anything.
pub(crate) fn replace_entry(index: &mut Index, entry: Descriptor) -> bool {
    let name = entry.annotations.get(REF_NAME);
    let is_index = |entry: &Descriptor| media_type::is_index(&entry.media_type);
    let same = |old: &Descriptor| match name {
        Some(_) => {
            old.annotations.get(REF_NAME) == name
                && (old.platform == entry.platform || is_index(old) || is_index(&entry))
        }
        None => old.digest == entry.digest && !old.annotations.contains_key(REF_NAME),
    };
    let mut places = (0..index.manifests.len()).filter(|at| same(&index.manifests[*at]));
    let (first, others) = (places.next(), places.collect::<Vec<_>>());
    others.iter().rev().for_each(|at| drop(index.manifests.remove(*at)));
    match first {
        Some(at) if index.manifests[at] == entry => return !others.is_empty(),
        Some(at) => index.manifests[at] = entry,
        None => index.manifests.push(entry),
    }
    true
}

/// The image of this name and platform in an index, through indexes in it, with its blobs from `blobs`.
pub(crate) fn find_image(
    index: &Index,
    name: Option<&str>,
    platform: &Platform,
    blobs: &Arc<dyn Blobs>,
) -> Result<Image> {
    let found = find_entries(index, name, &blobs.origin().to_string())?;
    resolve(&Index { manifests: found, ..empty_index() }, platform, blobs)
}

/// The image of this name in an index, for all its platforms, with its blobs from `blobs`.
pub(crate) fn find_set(index: &Index, name: Option<&str>, blobs: &Arc<dyn Blobs>) -> Result<ImageSet> {
    let found = find_entries(index, name, &blobs.origin().to_string())?;
    ImageSet::of_entries(found, &|document| read_document(&**blobs, document), blobs)
}

/// The entries of this name, at least one: several are one image for several platforms. `place` is for errors.
fn find_entries(index: &Index, name: Option<&str>, place: &str) -> Result<Vec<Descriptor>> {
    let place = place.to_owned();
    // What `--tag app` wrote is found as `app`, though its full name is longer.
    let wanted: Option<Reference> = name.and_then(|name| name.parse().ok());
    let named = |entry: &&Descriptor| match name {
        Some(name) => entry.annotations.get(REF_NAME).is_some_and(|full| {
            full == name || tag_of(full) == name || wanted.is_some() && full.parse().ok() == wanted
        }),
        None => true,
    };
    let found: Vec<Descriptor> = index.manifests.iter().filter(named).cloned().collect();
    let names = || index.manifests.iter().filter_map(|e| e.annotations.get(REF_NAME).cloned()).collect();
    match (found.as_slice(), name) {
        ([], Some(name)) => return Err(Error::NoSuchImage { name: name.to_owned(), place }),
        ([], None) => return Err(Error::invalid(format!("OCI layout {place}"), "it has no image")),
        ([_, ..], Some(_)) | ([_], None) => {}
        // Several entries without a name asked for: fine where they are one image for several platforms.
        (several, None) => {
            let first = several[0].annotations.get(REF_NAME);
            if several.iter().any(|e| e.annotations.get(REF_NAME) != first || e.platform.is_none()) {
                return Err(Error::Ambiguous { place, names: names() });
            }
        }
    }
    Ok(found)
}

/// The image for this platform in an index, through indexes in it.
pub(crate) fn resolve(index: &Index, platform: &Platform, blobs: &Arc<dyn Blobs>) -> Result<Image> {
    let place = blobs.origin().to_string();
    let mut entry = select(index, platform, &place)?.clone();
    let mut through = None;
    for _ in 0..MAX_NESTING {
        if !media_type::is_index(&entry.media_type) {
            let mut image = Image::load(entry, blobs)?;
            image.index = through;
            return Ok(image);
        }
        through = through.or(Some(entry.digest));
        let inner = parse_index(&read_document(&**blobs, &entry)?, &place)?;
        entry = select(&inner, platform, &place)?.clone();
    }
    Err(Error::invalid(format!("image index of {place}"), format!("nested more than {MAX_NESTING} deep")))
}

/// The tag in `registry/repository:tag`, or the text itself.
fn tag_of(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((_, tag)) if !tag.contains('/') => tag,
        _ => name,
    }
}

pub(crate) fn empty_index() -> Index {
    Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.to_owned()),
        manifests: Vec::new(),
        annotations: Default::default(),
        extra: Default::default(),
    }
}

pub(crate) fn check_layout_file(bytes: &[u8], place: &str) -> Result<()> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct LayoutFile {
        image_layout_version: String,
    }
    let what = format!("oci-layout of {place}");
    let file: LayoutFile =
        serde_json::from_slice(bytes).map_err(|source| Error::Json { what: what.clone(), source })?;
    if !file.image_layout_version.starts_with("1.") {
        return Err(Error::invalid(what, format!("version `{}`, expected 1.0.0", file.image_layout_version)));
    }
    Ok(())
}

/// Copies a blob and checks that it is the one described. `place` names the source in errors.
pub(crate) fn copy_verified(
    blob: &Descriptor,
    reader: impl Read,
    mut writer: impl Write,
    place: &str,
    mut progress: impl FnMut(u64),
) -> Result<()> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    let mut reader = reader.take(blob.size.saturating_add(1));
    let mut found = 0;
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::from_io(error)),
        };
        hasher.update(&buffer[..count]);
        writer.write_all(&buffer[..count])?;
        found += count as u64;
        progress(count as u64);
    }
    let (digest, place) = (blob.digest, place.to_owned());
    if found != blob.size {
        return Err(Error::BlobSize { digest, place, expected: blob.size, found });
    }
    match hasher.finish() {
        found if found == digest => Ok(()),
        found => Err(Error::CorruptBlob { digest, place, found }),
    }
}

/// Writes a file that appears whole, instead of what has its name.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = NewFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    Ok(file.persist(path)?)
}

#[cfg(test)]
mod tests;
