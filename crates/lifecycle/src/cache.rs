//! The build cache of one app: cached layers as trees, and what is known of them.
//!
//! ```text
//! lock                            held while a build uses the cache
//! cache.json                      the index: which layers there are, and which tree each one is
//! trees/<n>/<buildpack>/<layer>/  a layer as it was when its build ended; nothing ever writes into it
//! trees/<n>/<buildpack>/<layer>/<SBOM files>   the same for the SBOM files of all cached layers
//! scratch/                        what a build in progress has here; swept at the next opening
//! ```
//!
//! Each tree is a lower of the overlay on `<layers>` in the next build, so restoring reads and copies nothing. What the
//! build writes is in the upper; when it ends, new layers move here by rename. The index is replaced last and by
//! rename, so whatever ends a build, the cache is the old one or the new one. Not here: mounting; which layers come
//! back ([`crate::restore`]).

mod commit;
mod index;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use cnb::label::{BuildpackLayers, CacheMetadata};
use cnb::launch::escape_id;
use cnb::layer::{LayerMetadata, Store};
use fs_err as fs;
use layer::overlay::{self, UpperState};
use layer::{CopyOptions, Digest, PathError, Root, copy_tree};

use crate::export::KnownLayer;
use crate::restore::RestoredSbom;

pub use commit::{Commit, CommitBuildpack, CommitLayer, Contents};
use index::{Index, LayerRecord, TreeRecord};

/// An SBOM file larger than this is not brought back.
const SBOM_LIMIT: u64 = 64 << 20;
/// Changes with every start of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// An opened cache; nobody else has it open.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    index: Index,
    discarded: Option<String>,
    /// Locked as long as it is open.
    _lock: fs::File,
}

/// The cache could not be read or written. It is what it was before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// Something about a tree.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Something about another file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The layer is not in the cache.
    #[error("the cache has no layer `{name}` of {buildpack}")]
    NoLayer {
        /// The buildpack's id.
        buildpack: String,
        /// The layer's name.
        name: String,
    },
    /// A name is not one of a file in a folder.
    #[error("`{name}` cannot be the name of a layer")]
    BadName {
        /// The name.
        name: String,
    },
}

impl CacheError {
    /// True when this user may not look.
    pub fn is_denied(&self) -> bool {
        let error = match self {
            Self::Path(error) => &error.source,
            Self::Io(error) => error,
            _ => return false,
        };
        error.kind() == io::ErrorKind::PermissionDenied
    }
}

/// What a build did with a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing that matters: the cached tree is what the layer is.
    Unchanged,
    /// It changed parts of it: the upper's part goes with the cached tree.
    Changed,
    /// It made all of it: the upper alone is the layer.
    New,
    /// It removed it, or did not make it.
    Gone,
}

/// A copy of a cached layer as it was when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Where it is.
    pub path: PathBuf,
    fingerprint: Digest,
}

impl Cache {
    /// Opens the cache in `dir`, which is made when it is not there, and waits as long as another build has it.
    ///
    /// # Errors
    /// A folder that cannot be made or read. A damaged cache is no error: what is damaged is gone, see
    /// [`Cache::discarded`].
    pub fn open(dir: &Path) -> Result<Self, CacheError> {
        let lock = lock_file(dir)?;
        lock.file().lock().map_err(|error| named(dir, &error))?;
        Self::load(dir, lock)
    }

    /// [`Cache::open`] that does not wait: none when another build has it.
    ///
    /// # Errors
    /// As [`Cache::open`].
    pub fn try_open(dir: &Path) -> Result<Option<Self>, CacheError> {
        let lock = lock_file(dir)?;
        match lock.file().try_lock() {
            Ok(()) => Self::load(dir, lock).map(Some),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(named(dir, &error).into()),
        }
    }

    fn load(dir: &Path, lock: fs::File) -> Result<Self, CacheError> {
        for name in ["trees", "scratch"] {
            fs::create_dir_all(dir.join(name))?;
        }
        let (index, discarded) = Index::read(dir)?;
        let mut cache = Self { dir: dir.to_owned(), index, discarded, _lock: lock };
        cache.check_trees()?;
        cache.sweep()?;
        for entry in fs::read_dir(cache.scratch())? {
            remove(&entry?.path())?;
        }
        Ok(cache)
    }

    /// Why something that was in the cache is not used: for a warning.
    pub fn discarded(&self) -> Option<&str> {
        self.discarded.as_deref()
    }

    /// Forgets everything.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn clear(&mut self) -> Result<(), CacheError> {
        self.index = Index::default();
        self.index.write(&self.dir)?;
        self.sweep()
    }

    /// What the cache has, as the restore phase wants to know it. A layer whose diffID nobody needed has an empty `sha`.
    pub fn metadata(&self) -> CacheMetadata {
        let buildpacks = self.index.buildpacks.iter().map(|buildpack| BuildpackLayers {
            key: buildpack.id.clone(),
            version: buildpack.version.clone(),
            layers: buildpack
                .layers
                .iter()
                .map(|layer| {
                    let sha = layer.diff_id.map(|digest| digest.to_string()).unwrap_or_default();
                    (layer.name.clone(), LayerMetadata { sha, data: layer.table(), types: layer.types() })
                })
                .collect(),
            store: buildpack.store.as_ref().and_then(|text| Store::parse("store.toml", text).ok()),
        });
        CacheMetadata { buildpacks: buildpacks.collect(), ..CacheMetadata::default() }
    }

    /// The SBOM files of cached layers.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn sboms(&self) -> Result<Vec<RestoredSbom>, CacheError> {
        let Some(tree) = &self.index.sbom else { return Ok(Vec::new()) };
        let root = Root::open(self.tree(tree))?;
        let mut sboms = Vec::new();
        let text = |name: &OsStr| name.to_str().map(str::to_owned);
        for buildpack in dirs(&root, Path::new(""))? {
            for layer in dirs(&root, &buildpack)? {
                for file in root.read_dir(&layer)?.into_iter().filter(|file| file.kind == layer::Kind::File) {
                    let names =
                        (text(buildpack.as_os_str()), layer.file_name().and_then(text), text(&file.name));
                    let (Some(buildpack), Some(name), Some(file)) = names else { continue };
                    let content = root.read(layer.join(&file), SBOM_LIMIT)?;
                    sboms.push(RestoredSbom { buildpack, layer: name, file, content });
                }
            }
        }
        Ok(sboms)
    }

    /// A folder on the file system of the cache, for the upper of a build: what is moved from there is not copied. It
    /// and all in it is gone at the next opening.
    pub fn scratch(&self) -> PathBuf {
        self.dir.join("scratch")
    }

    /// Lowers for an overlay on `<layers>`: for each of these layers (buildpack id, layer name) that the cache has, a
    /// folder with that layer in it and nothing else. Nothing may ever write into them.
    pub fn lowers<'a>(&self, layers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<PathBuf> {
        let records = layers.into_iter().filter_map(|(id, name)| self.index.layer(id, name));
        records.map(|record| self.tree(&record.tree)).collect()
    }

    /// What is known of an unchanged layer's tar. `made_as` is all that a layer depends on besides its content: the
    /// caller's text for owners and the like; another one than at commit makes what was known worthless.
    pub fn known(&self, id: &str, name: &str, made_as: &str) -> Option<KnownLayer> {
        let record = self.index.layer(id, name).filter(|record| record.made_as == made_as)?;
        Some(KnownLayer { diff_id: record.diff_id?, blob: record.blob.clone() })
    }

    /// What a build did with a layer, told from the overlay's upper on `<layers>`. `restored` is whether the layer's
    /// lower was part of the overlay. A layer with nothing in the upper is not looked at.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn change(&self, upper: &Path, id: &str, name: &str, restored: bool) -> Result<Change, CacheError> {
        let path = Path::new(&escape_id(id)).join(name);
        let state = overlay::state(upper, &path)?;
        let in_upper = upper.join(&path);
        let Some(record) = self.index.layer(id, name).filter(|_| restored) else {
            let made = matches!(state, UpperState::Merged | UpperState::Whole) && is_real_dir(&in_upper)?;
            return Ok(if made { Change::New } else { Change::Gone });
        };
        let lower = self.layer_dir(id, record);
        Ok(match state {
            UpperState::Untouched => Change::Unchanged,
            UpperState::Deleted => Change::Gone,
            // A file or a link in its place.
            _ if !is_real_dir(&in_upper)? => Change::Gone,
            // Made anew it may still be what it was, and reading it twice is quicker than compressing it once.
            _ if overlay::same(&in_upper, &lower)? => Change::Unchanged,
            UpperState::Merged => Change::Changed,
            UpperState::Whole => Change::New,
        })
    }

    /// Copies a layer to where buildpacks look for it below `layers`: where no overlay can be mounted, or for a
    /// buildpack that cannot work on one.
    ///
    /// # Errors
    /// A layer that is not in the cache, and files that cannot be copied.
    pub fn restore_copy(&self, id: &str, name: &str, layers: &Path) -> Result<Snapshot, CacheError> {
        let missing = || CacheError::NoLayer { buildpack: id.to_owned(), name: name.to_owned() };
        let record = self.index.layer(id, name).ok_or_else(missing)?;
        let from = self.layer_dir(id, record);
        let parent = layers.join(escape_id(id));
        if !parent.is_dir() {
            like_parent_of(&from, &parent)?;
        }
        let path = parent.join(name);
        copy_tree(&from, &path, &CopyOptions::default())?;
        let fingerprint = layer::fingerprint(&path, None)?;
        Ok(Snapshot { path, fingerprint })
    }

    /// What a build did with a copy: [`Change::New`] when anything happened to it.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn change_of_copy(snapshot: &Snapshot) -> Result<Change, CacheError> {
        match layer::fingerprint(&snapshot.path, None) {
            Ok(now) if now == snapshot.fingerprint => Ok(Change::Unchanged),
            Ok(_) => Ok(Change::New),
            Err(error) if error.is_not_found() => Ok(Change::Gone),
            Err(error) => Err(error.into()),
        }
    }

    /// Forgets trees that are not there, or that the machine lost when it was stopped before it had written them.
    fn check_trees(&mut self) -> Result<(), CacheError> {
        let boot = fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
        // Since this start nothing was lost that was written.
        let trusted = !boot.is_empty() && boot == self.index.boot;
        let lost = verify::forget_damaged(&mut self.index, &self.dir, trusted);
        if !lost.is_empty() {
            self.discarded = Some(format!("cached layers are damaged: {}", lost.join(", ")));
        }
        if !trusted || !lost.is_empty() {
            self.index.boot = boot;
            self.index.write(&self.dir)?;
        }
        Ok(())
    }

    /// Removes trees that the index does not name.
    fn sweep(&self) -> Result<(), CacheError> {
        let used: BTreeSet<&OsStr> = self.index.trees().map(|tree| OsStr::new(&tree.name)).collect();
        for entry in fs::read_dir(self.dir.join("trees"))? {
            let entry = entry?;
            if !used.contains(entry.file_name().as_os_str()) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    fn tree(&self, tree: &TreeRecord) -> PathBuf {
        self.dir.join("trees").join(&tree.name)
    }

    fn layer_dir(&self, id: &str, record: &LayerRecord) -> PathBuf {
        self.tree(&record.tree).join(escape_id(id)).join(&record.name)
    }
}

/// The file by which a cache is locked.
fn lock_file(dir: &Path) -> io::Result<fs::File> {
    fs::create_dir_all(dir)?;
    fs::OpenOptions::new().create(true).truncate(false).write(true).open(dir.join("lock"))
}

fn named(dir: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("failed to lock `{}`: {error}", dir.join("lock").display()))
}

/// The directories in a directory of `root`.
fn dirs(root: &Root, path: &Path) -> Result<Vec<PathBuf>, PathError> {
    let entries = root.read_dir(path)?.into_iter().filter(|entry| entry.kind == layer::Kind::Dir);
    Ok(entries.map(|entry| path.join(entry.name)).collect())
}

/// Makes the directory `to` with mode and owner of the one that `path` is in.
fn like_parent_of(path: &Path, to: &Path) -> io::Result<()> {
    let meta = fs::metadata(path.parent().unwrap_or(path))?;
    fs::create_dir(to)?;
    chown(to, Some(meta.uid()), Some(meta.gid()))?;
    fs::set_permissions(to, PermissionsExt::from_mode(meta.mode() & 0o7777))
}

fn is_real_dir(path: &Path) -> io::Result<bool> {
    Ok(fs::symlink_metadata(path)?.is_dir())
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}
