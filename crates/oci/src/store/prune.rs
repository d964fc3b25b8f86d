//! Removing what nothing refers to: blobs and unpacked layers of no listed image, steps of Dockerfiles that were not
//! used for long, caches that the caller gives up.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use layer::Digest;

use super::rootfs::boot_marker;
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
        let lock = self.0.in_use.file();
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
        let mut used = self.used()?;
        let mut pruned = Pruned::default();
        self.collect_steps(trash, options, &mut used, &mut pruned)?;
        for entry in fs::read_dir(self.dir().join("blobs/sha256"))? {
            let entry = entry?;
            let digest = format!("sha256:{}", entry.file_name().to_string_lossy()).parse();
            if !digest.is_ok_and(|digest| used.blobs.contains(&digest)) {
                pruned.bytes += on_disk(&entry.metadata()?);
                pruned.blobs += 1;
                fs::remove_file(entry.path())?;
            }
        }
        for kind in folders(&self.dir().join("rootfs"))? {
            for tree in folders(&kind)?.into_iter().filter(|path| path.is_dir()) {
                let name = tree.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if !format!("sha256:{name}").parse().is_ok_and(|id| used.diff_ids.contains(&id)) {
                    pruned.rootfs += 1;
                    fs::rename(&tree, trash.join(format!("rootfs-{}", pruned.rootfs)))?;
                    if boot_marker(&tree).exists() {
                        fs::remove_file(boot_marker(&tree))?;
                    }
                }
            }
        }
        for dir in [self.packages_dir(), self.downloads_dir()] {
            pruned.bytes += remove_unused(&dir)?;
        }
        for cache in folders(&self.cache_dir())?.into_iter().filter(|cache| !(options.keep_cache)(cache)) {
            pruned.caches += 1;
            fs::rename(&cache, trash.join(format!("cache-{}", pruned.caches)))?;
        }
        Ok(pruned)
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
        (pruned.steps, pruned.mounts) = (steps.len(), mounts.len());
        for (number, folder) in steps.iter().chain(&mounts).enumerate() {
            fs::rename(folder, trash.join(format!("step-{number}")))?;
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

/// Removes files that nobody has used for a month; gives their bytes on disk.
fn remove_unused(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for file in folders(dir)? {
        let meta = fs::symlink_metadata(&file)?;
        let age = meta.modified()?.elapsed().unwrap_or_default();
        if meta.is_file() && age > UNUSED {
            bytes += on_disk(&meta);
            fs::remove_file(&file)?;
        }
    }
    Ok(bytes)
}

/// The entries of a folder; none where it is missing.
pub(super) fn folders(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect()
}

/// The folders that the folders in `path` have.
fn all(path: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for kind in folders(path)? {
        found.extend(folders(&kind)?.into_iter().filter(|path| path.is_dir()));
    }
    Ok(found)
}

/// Bytes on disk of a tree. A file of several links counts in parts, so that all of them make one.
pub(super) fn disk_usage(path: &Path) -> Result<u64> {
    let meta = fs::symlink_metadata(path)?;
    let mut bytes = on_disk(&meta);
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            bytes += disk_usage(&entry?.path())?;
        }
    }
    Ok(bytes)
}

fn on_disk(meta: &std::fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let links = if meta.is_dir() { 1 } else { meta.nlink().max(1) };
    meta.blocks() * 512 / links
}
