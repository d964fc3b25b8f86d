//! The bench a build works on: a folder in the store's scratch space with the app's copy, the layers, and the
//! file systems that sandboxes see.
//!
//! It is on the store's file system, so that what a buildpack made moves into the cache by rename. Where no overlay can
//! be mounted there, what would be one is a copy.

mod copies;
mod fresh;

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use copies::Seen;
pub(super) use fresh::{Fresh, FreshRoot};
use fs_err as fs;
use oci::Store;
use sandbox::{Mount, MountError, Overlay};

/// The folder of one build. Removed, mounts and all, when dropped.
#[derive(Debug)]
pub(super) struct Bench {
    dir: PathBuf,
    store: Store,
    /// Why folders are copies and not overlays, once that is known.
    why_copies: Option<String>,
    /// The copies.
    copied: Vec<PathBuf>,
    // Unmounted before the folder goes: fields drop in order, and `Drop` below clears this first.
    mounts: Vec<Mount>,
    owner: Option<(u32, u32)>,
}

/// A folder as an overlay: where it is mounted, and where what was written to it is.
#[derive(Clone, Debug)]
pub(super) struct Layered {
    /// The mounted folder.
    pub merged: PathBuf,
    /// What was written, and nothing else.
    pub upper: PathBuf,
}

/// A folder that was made of others, which stay as they are whatever is written to it.
#[derive(Clone, Debug)]
pub(super) struct Derived {
    /// The folder.
    pub dir: PathBuf,
    way: Way,
}

/// How a folder was derived.
#[derive(Clone, Debug)]
enum Way {
    /// As an overlay with this upper.
    Overlay(PathBuf),
    /// As a copy that was so.
    Copy(Seen),
}

impl Derived {
    /// The names of its entries in or at which something was written.
    pub fn written(&self) -> Result<Vec<OsString>, BenchError> {
        match &self.way {
            Way::Overlay(upper) => fs::read_dir(upper)?.map(|entry| Ok(entry?.file_name())).collect(),
            Way::Copy(before) => Ok(Seen::look(&self.dir)?.changed_since(before)),
        }
    }
}

impl Bench {
    /// Makes the folder in the store's scratch space.
    pub fn new(store: &Store) -> Result<Self, BenchError> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name = format!("build-{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        let dir = store.scratch_dir()?.join(name);
        fs::create_dir(&dir)?;
        let (store, mounts, copied) = (store.clone(), Vec::new(), Vec::new());
        Ok(Self { dir, store, why_copies: None, copied, mounts, owner: None })
    }

    /// Why folders are copies here, when they are because no overlay can be mounted.
    pub fn why_copies(&self) -> Option<&str> {
        self.why_copies.as_deref()
    }

    /// Says who buildpacks run as, which is not known before the builder is read.
    pub fn set_owner(&mut self, owner: Option<(u32, u32)>) {
        self.owner = owner;
    }

    /// Who files that buildpacks may write to belong to.
    pub fn owner(&self) -> Option<(u32, u32)> {
        self.owner
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// An empty folder of ours.
    pub fn folder(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// An empty folder that buildpacks may write to.
    pub fn guest_folder(&self, name: &str, mode: u32) -> io::Result<PathBuf> {
        let path = self.path(name);
        self.make_guest_folder(&path, mode)?;
        Ok(path)
    }

    /// The same anywhere.
    pub fn make_guest_folder(&self, path: &Path, mode: u32) -> io::Result<()> {
        make_dir(path)?;
        self.give(path)?;
        fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
    }

    /// Makes a file or folder the buildpacks' own.
    pub fn give(&self, path: &Path) -> io::Result<()> {
        match self.owner {
            Some((uid, gid)) => std::os::unix::fs::lchown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    /// A folder called `name` with what `lowers` (topmost first) have, to be written: an overlay or, where none can be
    /// mounted, a copy.
    pub fn derive(&mut self, name: &str, lowers: Vec<PathBuf>) -> Result<Derived, BenchError> {
        if let Some(layered) = self.try_overlay(name, &lowers)? {
            return Ok(Derived { dir: layered.merged, way: Way::Overlay(layered.upper) });
        }
        let dir = self.path(name);
        self.copied.push(dir.clone());
        copies::copy(&self.store, &lowers, &dir)?;
        let seen = Seen::look(&dir)?;
        Ok(Derived { dir, way: Way::Copy(seen) })
    }

    /// A folder with the same, which nobody writes to.
    pub fn view(&mut self, name: &str, lowers: Vec<PathBuf>) -> Result<PathBuf, BenchError> {
        if let Some(layered) = self.try_overlay(name, &lowers)? {
            return Ok(layered.merged);
        }
        match copies::view(&self.store, &lowers)? {
            Some(dir) => Ok(dir),
            None => self.derive(name, lowers).map(|derived| derived.dir),
        }
    }

    /// Overlays of `lowers` (topmost first) for one program each; `None` when there cannot be one.
    pub fn fresh(&self, name: &str, lowers: Vec<PathBuf>) -> io::Result<Option<Fresh>> {
        match self.why_copies {
            None => Ok(Some(Fresh::new(self.folder(&format!("{name}.fresh"))?, lowers))),
            Some(_) => Ok(None),
        }
    }

    /// An overlay, or `None` when there cannot be one.
    fn try_overlay(&mut self, name: &str, lowers: &[PathBuf]) -> Result<Option<Layered>, BenchError> {
        if self.why_copies.is_some() {
            return Ok(None);
        }
        let home = self.folder(&format!("{name}.overlay"))?;
        match self.overlay_in(&home, name, lowers.to_vec()) {
            Err(BenchError::Mount(error)) => {
                self.why_copies = Some(format!("{error}: {}", error.source));
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    /// Mounts an overlay of `lowers` (topmost first), called `name`, with an empty upper in the folder `home`.
    pub fn overlay_in(
        &mut self,
        home: &Path,
        name: &str,
        lowers: Vec<PathBuf>,
    ) -> Result<Layered, BenchError> {
        let merged = self.folder(name)?;
        let (mount, upper) = mount_with_upper(home, &merged, lowers)?;
        self.mounts.push(mount);
        Ok(Layered { merged, upper })
    }

    /// Unmounts the overlay called `name`, so that its upper can be taken. A copy of that name goes.
    pub fn unmount(&mut self, name: &str) -> io::Result<()> {
        let target = self.path(name);
        if let Some(index) = self.mounts.iter().position(|mount| mount.target() == target) {
            self.mounts.remove(index).unmount()?;
        }
        if let Some(index) = self.copied.iter().position(|copy| *copy == target) {
            sandbox::remove_tree(&self.copied.remove(index))?;
        }
        Ok(())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // The last mounted may lie on an earlier one.
        while let Some(mount) = self.mounts.pop() {
            drop(mount);
        }
        // What cannot be removed now is swept by the next process that uses the store.
        let _ = sandbox::remove_tree(&self.dir);
    }
}

/// Mounts an overlay of `lowers` at `merged`, with an upper in the folder `home`, which is returned too. The upper's own
/// mode and owner are those of the topmost lower, because they are what the mounted folder shows.
fn mount_with_upper(
    home: &Path,
    merged: &Path,
    lowers: Vec<PathBuf>,
) -> Result<(Mount, PathBuf), BenchError> {
    let (upper, work) = (home.join("upper"), home.join("work"));
    make_dir(&upper)?;
    make_dir(&work)?;
    if let Some(top) = lowers.first() {
        copy_mode_and_owner(top, &upper)?;
    }
    let overlay = Overlay { lowers, upper: Some(upper.clone()), work: Some(work), read_only: false };
    Ok((overlay.mount(merged)?, upper))
}

/// Makes a directory that may be outside of the store's scratch folder, such as in that of a cache. Not once the program
/// is about to end: what is made then would stay.
pub(super) fn make_dir(path: &Path) -> io::Result<()> {
    let _permit = oci::publish::permit();
    fs::create_dir_all(path)
}

fn copy_mode_and_owner(from: &Path, to: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = fs::symlink_metadata(from)?;
    std::os::unix::fs::lchown(to, Some(meta.uid()), Some(meta.gid()))?;
    fs::set_permissions(to, meta.permissions())
}

/// The bench cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A folder cannot be made.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A file system cannot be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The store.
    #[error(transparent)]
    Store(#[from] oci::Error),
}
