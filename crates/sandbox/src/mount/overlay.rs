//! Overlay mounts: many read-only trees, one above the other, and at most one that is written.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use rustix::thread::UnshareFlags;

use super::{Mount, MountError, api};

/// The longest string `fsconfig` takes, with its end.
const FSCONFIG_STRING: usize = 256;

/// An overlay to be mounted.
///
/// Always with `userxattr`, for root too: without it an ordinary user's overlay cannot replace a directory, and the
/// marks (`user.overlay.opaque`) would depend on who built. With an upper also `volatile`: otherwise each unmount would
/// write everything in memory to the disk, of all programs on that file system, and wait for it. What is to outlive a
/// crash of the machine has to be synced, or checked, where it is kept. All paths have to be absolute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// The read-only trees, the topmost first; at least one, and the kernel takes up to 500.
    pub lowers: Vec<PathBuf>,
    /// Where writes go. Without it the mount is read-only.
    pub upper: Option<PathBuf>,
    /// An empty directory on the same file system as `upper`, for the kernel's own use; needed with `upper`, and a new
    /// one for each mount. It leaves a directory of mode 000 in it: see [`remove_tree`](crate::remove_tree).
    pub work: Option<PathBuf>,
    /// Mount read-only even with an upper.
    pub read_only: bool,
}

impl Overlay {
    /// Mounts it on `target`, an existing directory.
    ///
    /// A single lower without an upper is bound read-only, since an overlay of one is refused by the kernel.
    ///
    /// # Errors
    ///
    /// [`MountError`] with what the kernel logged about it.
    pub fn mount(&self, target: &Path) -> Result<Mount, MountError> {
        if let (None, [only]) = (&self.upper, self.lowers.as_slice()) {
            return super::bind(only, target, true);
        }
        let mut log = String::new();
        let mounted = self.check().and_then(|()| match self.mount_by_fsconfig(target, &mut log) {
            Err(error) if needs_option_string(&error) => self.mount_by_options(target),
            other => other,
        });
        mounted.map_err(|source| self.error(target, log, source))?;
        Ok(Mount::new(target))
    }

    /// Mounts with the option string of kernels before 6.7, which have no `lowerdir+`.
    #[doc(hidden)]
    pub fn mount_with_option_string(&self, target: &Path) -> Result<Mount, MountError> {
        self.mount_by_options(target).map_err(|source| self.error(target, String::new(), source))?;
        Ok(Mount::new(target))
    }

    fn error(&self, target: &Path, log: String, source: io::Error) -> MountError {
        let what = format!("an overlay of {} trees", self.lowers.len() + usize::from(self.upper.is_some()));
        MountError { what, target: target.to_owned(), log, source }
    }

    /// What the kernel would call "invalid argument" and nothing more.
    fn check(&self) -> io::Result<()> {
        let problem = if self.lowers.is_empty() {
            "no lower directory"
        } else if self.upper.is_some() != self.work.is_some() {
            "an upper directory needs a work directory"
        } else if !self.directories().all(Path::is_absolute) {
            "a path is not absolute"
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
    }

    fn directories(&self) -> impl Iterator<Item = &Path> {
        self.lowers.iter().chain(&self.upper).chain(&self.work).map(PathBuf::as_path)
    }

    fn mount_by_fsconfig(&self, target: &Path, log: &mut String) -> io::Result<()> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let configure = || -> io::Result<OwnedFd> {
            for lower in &self.lowers {
                set_directory(&context, "lowerdir+", lower)?;
            }
            if let (Some(upper), Some(work)) = (&self.upper, &self.work) {
                set_directory(&context, "upperdir", upper)?;
                set_directory(&context, "workdir", work)?;
                fsconfig_set_flag(&context, "volatile")?;
            }
            fsconfig_set_flag(&context, "userxattr")?;
            fsconfig_create(&context)?;
            Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, self.attributes())?)
        };
        let tree = configure().inspect_err(|_| *log = read_log(&context))?;
        api::attach_at(tree, target)
    }

    fn attributes(&self) -> MountAttrFlags {
        if self.read_only { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() }
    }

    /// The option string may be one page long, so directories are named by descriptor, relative to `/proc/self/fd`:
    /// four bytes each instead of a path, and no trouble with commas and colons.
    fn mount_by_options(&self, target: &Path) -> io::Result<()> {
        let mounted = std::thread::scope(|scope| scope.spawn(|| self.mount_in_thread(target)).join());
        mounted.unwrap_or_else(|_| Err(io::Error::other("the mounting thread panicked")))
    }

    /// Runs in a thread of its own because it changes the working directory, for that thread only.
    fn mount_in_thread(&self, target: &Path) -> io::Result<()> {
        let target = std::path::absolute(target)?;
        crate::enter::unshare(UnshareFlags::FS)?;
        let open = |path: &PathBuf| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from)
        };
        let lowers = self.lowers.iter().map(open).collect::<io::Result<Vec<_>>>()?;
        let names: Vec<_> = lowers.iter().map(|lower| lower.as_raw_fd().to_string()).collect();
        let mut options = format!("userxattr,lowerdir={}", names.join(":"));
        let upper = self.upper.as_ref().map(open).transpose()?;
        let work = self.work.as_ref().map(open).transpose()?;
        if let (Some(upper), Some(work)) = (&upper, &work) {
            options += &format!(",volatile,upperdir={},workdir={}", upper.as_raw_fd(), work.as_raw_fd());
        }
        rustix::process::chdir("/proc/self/fd")?;
        let flags = if self.read_only { MountFlags::RDONLY } else { MountFlags::empty() };
        let options = CString::new(options)?;
        Ok(rustix::mount::mount("overlay", &target, "overlay", flags, options.as_c_str())?)
    }
}

/// Names a directory. The kernel takes a path only up to a length, and reads some characters in it as its own: a
/// backslash, a colon, a comma. Such a directory is named by a descriptor, as its path in `/proc`.
fn set_directory(context: impl AsFd, key: &str, path: &Path) -> io::Result<()> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(byte);
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() < FSCONFIG_STRING && bytes.iter().all(plain) {
        return Ok(fsconfig_set_string(context, key, path)?);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    Ok(fsconfig_set_string(context, key, format!("/proc/self/fd/{}", directory.as_raw_fd()))?)
}

/// Whether the error is that of a kernel without `fsopen`, or whose overlay does not know `lowerdir+`.
/// A mount that is wrong in itself fails again with the option string, and with the same error.
fn needs_option_string(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL))
}

/// The messages the kernel has put on the context, joined.
fn read_log(context: impl AsFd) -> String {
    let mut lines = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = rustix::io::read(&context, &mut buffer) {
        let line = String::from_utf8_lossy(&buffer[..length]);
        lines.push(line.trim().trim_start_matches("e overlay: ").trim_start_matches("e ").to_owned());
    }
    lines.join("; ")
}
