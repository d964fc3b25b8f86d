//! Mounts of this process: overlays, binds and tmpfs, each undone when its [`Mount`] is dropped.
//!
//! They need the namespace [`enter`](crate::enter) made, and are seen by this process and its sandboxes only.

pub(crate) mod api;
mod overlay;

use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountAttrFlags, UnmountFlags, unmount};

pub use overlay::Overlay;

/// Why a mount failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot mount {what} on {}{}", target.display(), detail(log))]
pub struct MountError {
    /// What was to be mounted.
    pub what: String,
    /// Where.
    pub target: PathBuf,
    /// The kernel's own words about it, where it had some.
    pub log: String,
    /// The error number.
    #[source]
    pub source: io::Error,
}

fn detail(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!(" ({log})") }
}

/// A mount that ends when this is dropped, at the latest with this process's namespace.
#[derive(Debug)]
#[must_use = "dropping this unmounts it"]
pub struct Mount {
    target: PathBuf,
}

impl Mount {
    fn new(target: &Path) -> Self {
        Self { target: target.to_owned() }
    }

    /// Where it is mounted.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Ends it now, and says when that fails.
    ///
    /// # Errors
    ///
    /// The kernel's, for instance when somebody else has unmounted it.
    pub fn unmount(self) -> io::Result<()> {
        let target = std::mem::ManuallyDrop::new(self).target.clone();
        unmount(&target, UnmountFlags::DETACH).map_err(io::Error::from)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // The namespace goes with this process, and the mount with it, so a failure here leaks nothing for long.
        let _ = unmount(&self.target, UnmountFlags::DETACH);
    }
}

/// Ends all mounts of this process below `dir`, those on top first: for a program that is about to end while other
/// threads still hold their [`Mount`]s.
///
/// # Errors
///
/// When the list of mounts cannot be read. A mount that does not end is left to the end of the namespace.
pub fn unmount_below(dir: &Path) -> io::Result<()> {
    let dir = fs_err::canonicalize(dir)?;
    let list = fs_err::read("/proc/self/mountinfo")?;
    let targets: Vec<PathBuf> = list.split(|byte| *byte == b'\n').filter_map(mount_target).collect();
    for target in targets.iter().rev().filter(|target| target.starts_with(&dir)) {
        let _ = unmount(target, UnmountFlags::DETACH);
    }
    Ok(())
}

/// The mount point in a line of mountinfo: the fifth field, with `\040` and the like for what would split it.
fn mount_target(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|byte| *byte == b' ').nth(4)?;
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = (*first == b'\\').then(|| tail.get(..3)).flatten();
        let value = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(value.unwrap_or(*first));
        rest = if value.is_some() { &tail[3..] } else { tail };
    }
    Some(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

/// Binds a file or directory (with the mounts below it) on `target`, which has to exist and be of the same kind.
///
/// # Errors
///
/// [`MountError`] when either path cannot be opened or the kernel refuses.
pub fn bind(source: &Path, target: &Path, read_only: bool) -> Result<Mount, MountError> {
    let attach = || {
        let tree = api::clone_tree(rustix::fs::CWD, source)?;
        if read_only {
            api::set_attributes(&tree, api::READ_ONLY)?;
        }
        api::attach_at(&tree, target)
    };
    attach().map_err(|source_error| MountError {
        what: source.display().to_string(),
        target: target.to_owned(),
        log: String::new(),
        source: source_error,
    })?;
    Ok(Mount::new(target))
}

/// Mounts an empty file system in memory on `target`, with this mode of its root (octal, like `0o1777`).
///
/// # Errors
///
/// [`MountError`] when `target` is missing or the kernel refuses.
pub fn tmpfs(target: &Path, mode: u32) -> Result<Mount, MountError> {
    let attach = || {
        let options = [("mode", format!("{mode:o}"))];
        let tree = api::new_filesystem("tmpfs", &options, MountAttrFlags::MOUNT_ATTR_NOSUID)?;
        api::attach_at(&tree, target)
    };
    attach().map_err(|source| MountError {
        what: "tmpfs".to_owned(),
        target: target.to_owned(),
        log: String::new(),
        source,
    })?;
    Ok(Mount::new(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_escapes() {
        let line = br"42 35 0:39 / /tmp/a\040b\134c rw,relatime - tmpfs none rw";
        assert_eq!(mount_target(line), Some(PathBuf::from(r"/tmp/a b\c")));
        assert_eq!(mount_target(br"1 2 0:3 / /x\9y rw"), Some(PathBuf::from(r"/x\9y")));
        assert_eq!(mount_target(b"short line"), None);
    }
}
