//! `rootfs/flat/<digest>/`: unpacked layers put together to one tree, for machines where no overlay can be mounted.
//!
//! Made once for each list of layers, and removed by the next prune: they can always be made again.

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use layer::Hasher;

use super::Store;
use super::scratch::remove_tree;
use crate::error::{Error, Result};

/// The kind of tree, as a folder's name.
const FLAT: &str = "flat";

impl Store {
    /// The tree that an overlay of `lowers`, the topmost first, would show. They are trees of this store that never
    /// change, as [`Store::rootfs`] gives them, and what is in it must not be changed either.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn flat(&self, lowers: &[PathBuf]) -> Result<PathBuf> {
        if let [only] = lowers {
            return Ok(only.clone());
        }
        let mut hasher = Hasher::new();
        for lower in lowers {
            let name = lower.strip_prefix(self.dir()).unwrap_or(lower);
            hasher.update(name.as_os_str().as_bytes());
            hasher.update(b"\0");
        }
        let key = hasher.finish();
        if !self.has_rootfs(FLAT, key)? {
            let work = tempfile::Builder::new().prefix("flat-").tempdir_in(self.scratch_dir()?)?.keep();
            let made = layer::flatten(lowers, &work.join("tree"))
                .map_err(Error::from)
                .and_then(|()| self.place_rootfs(FLAT, key, &work));
            remove_tree(&work)?;
            made?;
        }
        Ok(self.rootfs_path(FLAT, key))
    }
}
