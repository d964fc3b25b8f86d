//! `mounts/<kind>/<id>/`: folders that `RUN --mount=type=cache` keeps between builds.
//!
//! Each has its content in `data`, its id in `id`, and a lock. Not here: mounting them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use layer::Digest;

use super::Store;
use super::prune::folders;
use super::scratch::remove_tree;
use super::steps::touch;
use crate::error::Result;

/// Who may use a cache mount at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Everybody.
    Shared,
    /// One; others get an empty folder of their own, which is not kept.
    Private,
    /// One; others wait.
    Locked,
}

/// A cache mount in use.
#[derive(Debug)]
pub struct CacheMount {
    /// The folder to mount.
    pub dir: PathBuf,
    /// Whether it was just made, so that its mode and owner are to be set.
    pub is_new: bool,
    /// Removed in the end: somebody else has the kept one.
    spare: bool,
    _lock: fs::File,
}

impl Drop for CacheMount {
    fn drop(&mut self) {
        if self.spare {
            // What stays is swept with the scratch folder.
            let _ = remove_tree(&self.dir);
        }
    }
}

impl Store {
    pub(super) fn mounts_dir(&self) -> PathBuf {
        self.dir().join("mounts")
    }

    /// The cache mount of this id, made when there is none. `kind` is that of the [`Unpacker`](super::Unpacker).
    ///
    /// # Errors
    /// When its folder cannot be made or locked.
    pub fn cache_mount(&self, kind: &str, id: &str, sharing: Sharing) -> Result<CacheMount> {
        let home = self.mounts_dir().join(kind).join(Digest::of(id.as_bytes()).hex());
        fs::create_dir_all(&home)?;
        // Also says to people what the folder is.
        let id_file = home.join("id");
        let lock = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&id_file)?;
        let free = match sharing {
            Sharing::Shared => lock.file().lock_shared().map(|()| true)?,
            Sharing::Locked => lock.file().lock().map(|()| true)?,
            Sharing::Private => lock.file().try_lock().is_ok(),
        };
        if !free {
            let dir = tempfile::Builder::new().prefix("mount-").tempdir_in(self.scratch_dir()?)?.keep();
            return Ok(CacheMount { dir, is_new: true, spare: true, _lock: lock });
        }
        touch(&id_file);
        let dir = home.join("data");
        let is_new = match fs::create_dir(&dir) {
            Ok(()) => {
                fs::write(&id_file, id)?;
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error.into()),
        };
        Ok(CacheMount { dir, is_new, spare: false, _lock: lock })
    }

    /// Cache mounts that were not used for `unused`.
    pub(super) fn old_mounts(&self, unused: Duration) -> Result<Vec<PathBuf>> {
        let mut old = Vec::new();
        for kind in folders(&self.mounts_dir())? {
            old.extend(folders(&kind)?.into_iter().filter(|home| age(home) > unused));
        }
        Ok(old)
    }
}

/// How long ago it was used; for ever when that is not known.
fn age(home: &Path) -> Duration {
    let used = fs::metadata(home.join("id")).and_then(|meta| meta.modified());
    used.map_or(Duration::MAX, |used| used.elapsed().unwrap_or_default())
}
