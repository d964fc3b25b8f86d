//! `rootfs/<kind>/<diffID>/`: layers, each unpacked once.
//!
//! | in a layer's directory | what it is |
//! |---|---|
//! | `tree/` | its files: a lower of overlays |
//! | `record.json` | what the tree looked like, and in which boot of the machine it was made |
//!
//! Both appear by one rename when they are whole. A tree without a record is of no use, and [`Store::verify`] finds one
//! that is not what its record says. The files of a tree are not synced one by one: that would cost more than unpacking
//! them. Within the boot it was made in the kernel has it whole; after another boot it is made again, unless the kernel
//! had time to write it all and somebody noticed.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use layer::unpack::{Options, Owners, unpack};
use layer::{Digest, Survey};

use serde::{Deserialize, Serialize};

use super::Store;
use super::prune::all;
use super::scratch::remove_tree;
use super::steps::{read_json, write_json};
use crate::error::{Error, Result};
use crate::publish;

/// Bumped when records change so that old ones cannot be read.
const VERSION: u32 = 1;
const RECORD: &str = "record.json";

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
        self.dir().join("rootfs").join(kind).join(diff_id.hex()).join("tree")
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
        let dir = dir_of(&tree);
        if !dir.is_dir() {
            return Ok(false);
        }
        let whole = tree.is_dir() && is_trusted(dir)?;
        if !whole {
            self.remove_rootfs(dir)?;
        }
        Ok(whole)
    }

    /// Removes a layer's directory by way of the scratch folder: it is never half there.
    pub(super) fn remove_rootfs(&self, dir: &Path) -> Result<()> {
        let away = tempfile::Builder::new().prefix("removed-").tempdir_in(self.scratch_dir()?)?.keep();
        match publish::rename(dir, &away.join("layer")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
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
                found if found == diff_id => self.place_rootfs(&unpacker.kind, diff_id, &work),
                found => Err(Error::DiffId { digest: blob, expected: diff_id, found }),
            });
        remove_tree(&work)?;
        unpacked
    }

    /// Gives a directory of the scratch folder with a `tree` in it its place, with a record of what that looks like.
    pub(super) fn place_rootfs(&self, kind: &str, key: Digest, dir: &Path) -> Result<()> {
        let tree = self.rootfs_path(kind, key);
        let place = dir_of(&tree);
        fs::create_dir_all(place.parent().unwrap_or(place))?;
        write_json(&dir.join(RECORD), &TreeRecord::of(&dir.join("tree"))?)?;
        match publish::rename(dir, place) {
            // Another process made the same meanwhile.
            Err(_) if tree.is_dir() => Ok(()),
            result => Ok(result?),
        }
    }

    /// Looks at every unpacked layer: how many there are, and those that are not what their record says, each with its
    /// folder.
    pub(super) fn broken_rootfs(&self) -> Result<(usize, Vec<(PathBuf, Error)>)> {
        let (mut count, mut broken) = (0, Vec::new());
        for dir in all(&self.dir().join("rootfs"))? {
            let record = match read_json::<TreeRecord>(&dir.join(RECORD)) {
                // Another user's, who alone uses it.
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::PermissionDenied => continue,
                record => record?,
            };
            count += 1;
            let reason = match record.filter(|record| record.version == VERSION) {
                // Of another boot: it is not used any more, and so nothing is wrong with it.
                Some(record) if record.boot.as_ref().is_some_and(|boot| *boot != boot_id()) => None,
                Some(record) => record.differs(&dir.join("tree")),
                None => Some("it has no record of how it was unpacked".to_owned()),
            };
            if let Some(reason) = reason {
                let what = format!("unpacked layer {}", dir.display());
                broken.push((dir, Error::invalid(what, reason)));
            }
        }
        Ok((count, broken))
    }
}

/// What a tree looked like when it was unpacked.
#[derive(Debug, Serialize, Deserialize)]
struct TreeRecord {
    version: u32,
    /// The boot in which the tree was made; none once the kernel has surely written all of it.
    boot: Option<String>,
    entries: u64,
    bytes: u64,
    /// As [`layer::shape`] returns it.
    shape: Digest,
}

impl TreeRecord {
    fn of(tree: &Path) -> Result<Self> {
        let Survey { entries, bytes, shape } = layer::survey(tree)?;
        Ok(Self { version: VERSION, boot: Some(boot_id()), entries, bytes, shape })
    }

    /// Why the tree is not what it was; none when it is.
    fn differs(&self, tree: &Path) -> Option<String> {
        let now = match layer::survey(tree) {
            Ok(now) if now.shape == self.shape => return None,
            Ok(now) => now,
            Err(error) => return Some(io::Error::from(error).to_string()),
        };
        let was = format!("{} entries and {} bytes", self.entries, self.bytes);
        Some(match (now.entries, now.bytes) == (self.entries, self.bytes) {
            true => "names, modes, sizes or times of its files have changed".to_owned(),
            false => format!("it has {} entries and {} bytes, expected {was}", now.entries, now.bytes),
        })
    }
}

/// The directory that a tree and its record are in.
fn dir_of(tree: &Path) -> &Path {
    tree.parent().unwrap_or(tree)
}

/// Whether a tree is on the disk as it was unpacked, as far as its record can tell without looking at the tree.
fn is_trusted(dir: &Path) -> Result<bool> {
    let path = dir.join(RECORD);
    let Some(record) = read_json::<TreeRecord>(&path)?.filter(|record| record.version == VERSION) else {
        return Ok(false);
    };
    let Some(boot) = &record.boot else { return Ok(true) };
    let this_boot = *boot == boot_id();
    if this_boot && is_written(&path) {
        // Best effort: another process may be doing the same, and who only reads the store cannot.
        let _ = note_written(&path, TreeRecord { boot: None, ..record });
    }
    Ok(this_boot)
}

fn note_written(path: &Path, record: TreeRecord) -> Result<()> {
    let temporary = tempfile::Builder::new().prefix("record-").tempfile_in(dir_of(path))?;
    write_json(temporary.path(), &record)?;
    temporary.persist(path).map_err(|error| Error::Io(error.error))?;
    Ok(())
}

/// Whether what this marker is about can be trusted to be on the disk as it was written. A marker that is not needed any
/// more goes.
pub(super) fn still_whole(marker: &Path) -> Result<bool> {
    let made_in = match fs::read_to_string(marker) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        text => text?,
    };
    let this_boot = made_in == boot_id();
    if this_boot && is_written(marker) {
        // Another process may be doing the same.
        let _ = fs::remove_file(marker);
    }
    Ok(this_boot)
}

/// Whether the kernel has surely written what is as old as this file.
fn is_written(file: &Path) -> bool {
    let age = || fs::metadata(file).ok()?.modified().ok()?.elapsed().ok();
    age().is_some_and(|age| age > SURELY_WRITTEN)
}

/// Says which boot of the machine this is; the same text always where that cannot be known.
pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

#[cfg(test)]
mod tests;
