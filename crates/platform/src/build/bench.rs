//! The bench a build works on: a folder in the store's scratch space with the app's copy, the layers, and the
//! file systems that sandboxes see.
//!
//! It is on the store's file system, so that what a buildpack made moves into the cache by rename.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use fs_err as fs;
use sandbox::{Mount, MountError, Overlay};

/// Free bytes of a disk that is as good as full.
const NEARLY_FULL: u64 = 4 << 20;

/// The folder of one build. Removed, mounts and all, when dropped.
#[derive(Debug)]
pub(super) struct Bench {
    dir: PathBuf,
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

impl Bench {
    /// Makes the folder beneath `scratch`. `owner` is who buildpacks run as, where files can belong to them.
    pub fn new(scratch: &Path, owner: Option<(u32, u32)>) -> io::Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let dir = scratch.join(format!("build-{}", COUNTER.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&dir)?;
        Ok(Self { dir, mounts: Vec::new(), owner })
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

    /// True when there is hardly any space on the disk, so that a buildpack may well have failed for the lack of it.
    pub fn is_full(&self) -> bool {
        rustix::fs::statvfs(&self.dir)
            .is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < NEARLY_FULL)
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
        fs::create_dir_all(path)?;
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

    /// Mounts an overlay of `lowers` (topmost first) with an empty upper, called `name`. The upper's own mode
    /// and owner are those of the topmost lower, because they are what the mounted folder shows.
    pub fn overlay(&mut self, name: &str, lowers: Vec<PathBuf>) -> Result<Layered, BenchError> {
        let home = self.folder(&format!("{name}.overlay"))?;
        self.overlay_in(&home, name, lowers)
    }

    /// The same with the upper in the folder `home`.
    pub fn overlay_in(
        &mut self,
        home: &Path,
        name: &str,
        lowers: Vec<PathBuf>,
    ) -> Result<Layered, BenchError> {
        let merged = self.folder(name)?;
        let (upper, work) = (home.join("upper"), home.join("work"));
        fs::create_dir_all(&upper)?;
        fs::create_dir_all(&work)?;
        if let Some(top) = lowers.first() {
            copy_mode_and_owner(top, &upper)?;
        }
        let overlay = Overlay { lowers, upper: Some(upper.clone()), work: Some(work), read_only: false };
        self.mounts.push(overlay.mount(&merged)?);
        Ok(Layered { merged, upper })
    }

    /// Unmounts the overlay called `name`, so that its upper can be taken.
    pub fn unmount(&mut self, name: &str) -> io::Result<()> {
        let target = self.path(name);
        if let Some(index) = self.mounts.iter().position(|mount| mount.target() == target) {
            self.mounts.remove(index).unmount()?;
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
}
