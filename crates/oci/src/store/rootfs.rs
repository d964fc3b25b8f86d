//! `rootfs/<kind>/<diffID>/`: layers, each unpacked once, as lowers of overlays.
//!
//! A tree appears by rename when it is whole. Its files are not synced one by one: that would cost more than
//! unpacking them. Instead `<diffID>.boot` beside it says in which boot it was made. Within that boot the kernel
//! has it whole; after another boot it is made again, unless the kernel had time to write it all and somebody
//! noticed.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use layer::Digest;
use layer::unpack::{Options, Owners, unpack};

use super::Store;
use super::scratch::remove_tree;
use crate::error::{Error, Result};

/// The kernel writes what is older than 30 seconds, as a rule; this is many times as long.
const SURELY_WRITTEN: Duration = Duration::from_secs(600);

/// How layers are unpacked.
#[derive(Clone, Debug)]
pub struct Unpacker {
    /// Names everything that makes trees of one layer differ, such as whose ids their files have on disk: one word
    /// for a folder's name.
    pub kind: String,
    /// Who owns what is unpacked.
    pub owners: Owners,
}

impl Store {
    /// The folder of a layer's tree, there or not.
    pub fn rootfs_path(&self, kind: &str, diff_id: Digest) -> PathBuf {
        self.dir().join("rootfs").join(kind).join(diff_id.hex())
    }

    /// The folder of a layer's tree when it is there and can be trusted.
    ///
    /// # Errors
    /// When the store cannot be read, or a tree that is of no use cannot be removed.
    pub fn unpacked_layer(&self, unpacker: &Unpacker, diff_id: Digest) -> Result<Option<PathBuf>> {
        let there = self.has_rootfs(&unpacker.kind, diff_id)?;
        Ok(there.then(|| self.rootfs_path(&unpacker.kind, diff_id)))
    }

    /// True when the layer's tree is there and can be trusted; one that cannot is removed.
    pub(super) fn has_rootfs(&self, kind: &str, diff_id: Digest) -> Result<bool> {
        let tree = self.rootfs_path(kind, diff_id);
        if !tree.is_dir() {
            return Ok(false);
        }
        let whole = still_whole(&boot_marker(&tree))?;
        if !whole {
            self.remove_rootfs(kind, diff_id)?;
        }
        Ok(whole)
    }

    /// Removes a layer's tree, by way of the scratch folder: it is never half there.
    pub(super) fn remove_rootfs(&self, kind: &str, diff_id: Digest) -> Result<()> {
        let tree = self.rootfs_path(kind, diff_id);
        let away = tempfile::Builder::new().prefix("removed-").tempdir_in(self.scratch_dir()?)?.keep();
        match fs::rename(&tree, away.join("tree")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let _ = fs::remove_file(boot_marker(&tree));
        Ok(remove_tree(&away)?)
    }

    /// Unpacks one layer and puts its tree in its place.
    pub(super) fn unpack_layer(
        &self,
        unpacker: &Unpacker,
        blob: Digest,
        diff_id: Digest,
        reader: &mut (dyn Read + Send),
    ) -> Result<()> {
        let work = tempfile::Builder::new().prefix("unpack-").tempdir_in(self.scratch_dir()?)?.keep();
        let tree = work.join("tree");
        fs::create_dir(&tree)?;
        // Devices are the sandbox's to make: a layer's are left out.
        let options = Options { owners: unpacker.owners, devices: false, ..Options::default() };
        let unpacked = unpack(reader, &tree, &options)
            .map_err(|source| Error::Unpack { digest: blob, source })
            .and_then(|unpacked| match unpacked.diff_id {
                found if found == diff_id => self.place_rootfs(&unpacker.kind, diff_id, &tree),
                found => Err(Error::DiffId { digest: blob, expected: diff_id, found }),
            });
        remove_tree(&work)?;
        unpacked
    }

    pub(super) fn place_rootfs(&self, kind: &str, diff_id: Digest, tree: &Path) -> Result<()> {
        let place = self.rootfs_path(kind, diff_id);
        fs::create_dir_all(place.parent().unwrap_or(&place))?;
        // First the marker: a tree without one would be trusted.
        fs::write(boot_marker(&place), boot_id())?;
        match fs::rename(tree, &place) {
            // Another process made the same meanwhile.
            Err(_) if place.is_dir() => Ok(()),
            result => Ok(result?),
        }
    }
}

/// The file that says in which boot a tree was made.
pub(super) fn boot_marker(tree: &Path) -> PathBuf {
    tree.with_extension("boot")
}

/// Whether what this marker is about can be trusted to be on the disk as it was written. A marker that is not needed any
/// more goes.
pub(super) fn still_whole(marker: &Path) -> Result<bool> {
    let (made_in, age) = match fs::read_to_string(marker) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        text => (text?, fs::metadata(marker)?.modified()?.elapsed().unwrap_or_default()),
    };
    let this_boot = made_in == boot_id();
    if this_boot && age > SURELY_WRITTEN {
        // Another process may be doing the same.
        let _ = fs::remove_file(marker);
    }
    Ok(this_boot)
}

/// Says which boot of the machine this is; the same text always where that cannot be known.
pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}
