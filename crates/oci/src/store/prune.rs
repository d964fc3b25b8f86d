//! Removing what nothing refers to: blobs and unpacked layers of no listed image, steps of Dockerfiles that were not
//! used for long, caches that the caller gives up.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use layer::Digest;

use super::scratch::{remove_tree, sweep};
use super::{Store, walk};
use crate::error::{Error, Result};

/// After this time, what is known of an image's packages, and a file of a web server, are taken for no longer needed.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What a prune keeps though no image refers to it.
pub struct PruneOptions<'a> {
    /// Whether an entry of the cache folder stays.
    pub keep_cache: &'a dyn Fn(&Path) -> bool,
    /// How long steps and cache mounts of Dockerfiles may have been unused to stay; none for all to go.
    pub keep_steps: Option<Duration>,
}

impl std::fmt::Debug for PruneOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PruneOptions").field("keep_steps", &self.keep_steps).finish_non_exhaustive()
    }
}

/// What a prune removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Number of blobs.
    pub blobs: usize,
    /// Number of unpacked layers.
    pub rootfs: usize,
    /// Number of build caches.
    pub caches: usize,
    /// Number of steps of Dockerfiles.
    pub steps: usize,
    /// Number of folders that programs of Dockerfiles kept.
    pub mounts: usize,
    /// Bytes on disk that were freed.
    pub bytes: u64,
    /// Number of things that would have gone, but are another user's: root's, say, who used the store once.
    pub foreign: usize,
}

impl Store {
    /// Removes blobs and unpacked layers that no listed image and no kept step refers to, and what `options` does not
    /// keep. Nobody else may have the store open: what a build has just written or found,
    /// nothing refers to yet.
    ///
    /// # Errors
    /// [`Error::Busy`] when another process has the store open. When a document of a listed image cannot be read,
    /// nothing is removed: what it refers to is not known.
    pub fn prune(&self, options: &PruneOptions<'_>) -> Result<Pruned> {
        let trash = tempfile::Builder::new().prefix("pruned-").tempdir_in(self.scratch_dir()?)?.keep();
        let pruned = self.alone(|| self.collect(&trash, options))?;
        // The trees are out of the way; removing them takes long, and others may go on meanwhile.
        let trees = folders(&trash)?.iter().map(|tree| disk_usage(tree)).sum::<Result<u64>>()?;
        let bytes = pruned.bytes + trees;
        remove_tree(&trash)?;
        Ok(Pruned { bytes, ..pruned })
    }

    /// Does something while no other process has the store open.
    fn alone<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let read_only = || Error::ReadOnly { dir: self.dir().to_owned() };
        let lock = self.0.in_use.as_ref().ok_or_else(read_only)?.file();
        let result = match lock.try_lock() {
            Ok(()) => work(),
            Err(std::fs::TryLockError::WouldBlock) => {
                Err(Error::Busy { what: format!("the store {}", self.dir().display()) })
            }
            Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
        };
        lock.lock_shared()?;
        result
    }

    fn collect(&self, trash: &Path, options: &PruneOptions<'_>) -> Result<Pruned> {
        sweep_others(self)?;
        self.0.layout.sweep_blobs();
        let mut used = self.used()?;
        let mut pruned = Pruned::default();

        self.collect_steps(trash, options, &mut used, &mut pruned)?;
        self.collect_blobs(&used, &mut pruned)?;
        self.collect_rootfs(trash, &used, &mut pruned)?;
        for dir in [self.packages_dir(), self.downloads_dir()] {
            remove_unused(&dir, &mut pruned)?;
        }
        for cache in self.caches()?.into_iter().filter(|cache| !(options.keep_cache)(cache)) {
            let to = trash.join(format!("cache-{}", pruned.caches));
            pruned.caches += usize::from(moved(&cache, &to, &mut pruned.foreign)?);
        }
        Ok(pruned)
    }

    fn collect_blobs(&self, used: &Used, pruned: &mut Pruned) -> Result<()> {
        for file in folders(&self.dir().join("blobs/sha256"))? {
            let Some(digest) = digest_of_name(&file) else { continue };
            if used.blobs.contains(&digest) {
                continue;
            }
            let size = on_disk(&fs::symlink_metadata(&file)?);
            if removed(&file, &mut pruned.foreign)? {
                pruned.bytes += size;
                pruned.blobs += 1;
            }
        }
        Ok(())
    }

    fn collect_rootfs(&self, trash: &Path, used: &Used, pruned: &mut Pruned) -> Result<()> {
        for path in kinds(&self.dir().join("rootfs"))? {
            if !is_dir(&path) {
                // A mark that an earlier version put beside a tree.
                if path.extension().is_some_and(|it| it == "boot")
                    && digest_of_name(&path.with_extension("")).is_some()
                {
                    removed(&path, &mut pruned.foreign)?;
                }
                continue;
            }
            let Some(id) = digest_of_name(&path) else { continue };
            if used.diff_ids.contains(&id) {
                continue;
            }
            let to = trash.join(format!("rootfs-{}", pruned.rootfs));
            pruned.rootfs += usize::from(moved(&path, &to, &mut pruned.foreign)?);
        }
        Ok(())
    }

    /// Removes steps and cache mounts, and adds what the rest needs to what is used.
    fn collect_steps(
        &self,
        trash: &Path,
        options: &PruneOptions<'_>,
        used: &mut Used,
        pruned: &mut Pruned,
    ) -> Result<()> {
        let (steps, mounts) = match options.keep_steps {
            Some(unused) => {
                let old = self.old_steps(unused)?;
                used.blobs.extend(old.blobs);
                (old.folders, self.old_mounts(unused)?)
            }
            None => (all(&self.steps_dir())?, all(&self.mounts_dir())?),
        };
        for (number, folder) in steps.iter().enumerate() {
            let to = trash.join(format!("step-{number}"));
            pruned.steps += usize::from(moved(folder, &to, &mut pruned.foreign)?);
        }
        for (number, folder) in mounts.iter().enumerate() {
            let to = trash.join(format!("mount-{number}"));
            pruned.mounts += usize::from(moved(folder, &to, &mut pruned.foreign)?);
        }
        Ok(())
    }

    fn used(&self) -> Result<Used> {
        let mut used = Used::default();
        for entry in self.0.layout.index()?.manifests {
            walk::reachable(&self.0.layout, &entry, &mut |found| {
                match found {
                    walk::Found::Blob(blob) => used.blobs.insert(blob.digest),
                    walk::Found::DiffId(diff_id) => used.diff_ids.insert(diff_id),
                };
            })
            .map_err(|error| walk::name_image(&entry, error))?;
        }
        Ok(used)
    }
}

#[derive(Debug, Default)]
struct Used {
    blobs: BTreeSet<Digest>,
    diff_ids: BTreeSet<Digest>,
}

fn sweep_others(store: &Store) -> Result<()> {
    store.scratch_dir()?;
    sweep(&store.dir().join("tmp"))
}

/// Removes files that nobody has used for a month.
fn remove_unused(dir: &Path, pruned: &mut Pruned) -> Result<()> {
    for file in folders(dir)? {
        let meta = fs::symlink_metadata(&file)?;
        let age = meta.modified()?.elapsed().unwrap_or_default();
        if meta.is_file() && age > UNUSED && removed(&file, &mut pruned.foreign)? {
            pruned.bytes += on_disk(&meta);
        }
    }
    Ok(())
}

/// Moves a tree out of the way; false for another user's, which is counted and stays.
fn moved(from: &Path, to: &Path, foreign: &mut usize) -> Result<bool> {
    allowed(fs::rename(from, to), foreign)
}

/// Removes a file; false for another user's, which is counted and stays, and for one that has gone already.
fn removed(file: &Path, foreign: &mut usize) -> Result<bool> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        result => allowed(result, foreign),
    }
}

fn allowed(result: io::Result<()>, foreign: &mut usize) -> Result<bool> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            *foreign += 1;
            Ok(false)
        }
        result => Ok(result.map(|()| true)?),
    }
}

/// The digest that a file or directory is named after. What has another name is not ours.
fn digest_of_name(path: &Path) -> Option<Digest> {
    format!("sha256:{}", path.file_name()?.to_str()?).parse().ok()
}

/// Whether a path is a directory, and no link to one: what links lead to is none of ours.
pub(super) fn is_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// What is in the directories of a directory. A link to a directory is none of ours.
pub(super) fn kinds(path: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for kind in folders(path)?.into_iter().filter(|kind| is_dir(kind)) {
        found.extend(folders(&kind)?);
    }
    Ok(found)
}

/// The entries of a folder; none where it is missing.
pub(super) fn folders(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect()
}

/// The folders that the folders in `path` have.
pub(super) fn all(path: &Path) -> Result<Vec<PathBuf>> {
    Ok(kinds(path)?.into_iter().filter(|path| is_dir(path)).collect())
}

/// Bytes on disk of a tree, as far as this user may look. A file of several links counts in parts, so that all of them
/// make one.
pub(super) fn disk_usage(path: &Path) -> Result<u64> {
    let meta = match fs::symlink_metadata(path) {
        Err(error) if is_out_of_sight(&error) => return Ok(0),
        meta => meta?,
    };
    let mut bytes = on_disk(&meta);
    if meta.is_dir() {
        let entries = match fs::read_dir(path) {
            Err(error) if is_out_of_sight(&error) => return Ok(bytes),
            entries => entries?,
        };
        for entry in entries {
            bytes += disk_usage(&entry?.path())?;
        }
    }
    Ok(bytes)
}

/// Another user's, or removed by another process meanwhile.
fn is_out_of_sight(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound)
}

fn on_disk(meta: &std::fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let links = if meta.is_dir() { 1 } else { meta.nlink().max(1) };
    meta.blocks() * 512 / links
}
