//! Whether an overlay will refuse a rename.

use std::ffi::{CStr, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use libc::c_int;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, lgetxattr, openat2, readlinkat};

use super::RenameWatch;
use super::listener::Call;

/// The longest path a call takes, with its end.
const PATH_MAX: usize = 4096;
/// Memory is readable or not by pages; none is smaller.
const PAGE: u64 = 4096;

/// The directory, as the sandbox sees it, when this is a rename inside the overlay of one that a lower has.
///
/// What cannot be found out is `None`: the kernel, which decides, looks after this.
pub(super) fn refused(watch: &RenameWatch, device: u64, call: &Call) -> Option<PathBuf> {
    let process = PathBuf::from(format!("/proc/{}", call.thread));
    let root = open(&process.join("root"))?;
    let from = path_of(&process, call.thread, call.from)?;
    let directory = inside(&root, &from)?;
    let stat = fstat(&directory).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory || stat.st_dev != device {
        return None;
    }
    // To another mount it can be renamed nowhere, not in a copy either.
    let to = path_of(&process, call.thread, call.to)?;
    let parent = inside(&root, to.parent()?)?;
    if fstat(&parent).ok()?.st_dev != device {
        return None;
    }
    let path =
        link(&PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&directory))))?;
    let relative = path.strip_prefix(&watch.target).ok()?;
    in_lower(watch, relative).then_some(path)
}

/// Whether the directory at this path of the merged tree is one of a lower, alone or merged with the upper's.
fn in_lower(watch: &RenameWatch, relative: &Path) -> bool {
    let mut upper = Some(watch.upper.clone());
    let mut lowers = watch.lowers.clone();
    for name in relative.components() {
        upper = upper.map(|dir| dir.join(name)).filter(|dir| is_directory(dir));
        if upper.as_ref().is_some_and(|dir| is_opaque(dir)) {
            return false;
        }
        for lower in &mut lowers {
            lower.push(name);
        }
        // A link of this name leads elsewhere, and is not what the merged tree shows.
        lowers.retain(|lower| is_directory(lower));
    }
    !lowers.is_empty()
}

fn is_directory(path: &Path) -> bool {
    fs_err::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// Whether it hides what lowers have of the same name.
fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 1];
    lgetxattr(path, c"user.overlay.opaque", &mut value[..]).is_ok_and(|length| value[..length] == *b"y")
}

/// The absolute path, as the program sees it, that a pair of descriptor and address means.
fn path_of(process: &Path, thread: u32, (directory, address): (c_int, u64)) -> Option<PathBuf> {
    let path = read_path(thread, address)?;
    if path.is_absolute() {
        return Some(path);
    }
    // The link's text is the path in the program's own mounts: they are not to be reached from ours.
    let base = match directory {
        libc::AT_FDCWD => process.join("cwd"),
        number => process.join(format!("fd/{number}")),
    };
    Some(link(&base)?.join(path))
}

fn link(path: &Path) -> Option<PathBuf> {
    let text = readlinkat(CWD, path, Vec::new()).ok()?;
    Some(PathBuf::from(std::ffi::OsString::from_vec(text.into_bytes())))
}

fn open(path: &Path) -> Option<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// Opens what a program with this root finds at a path, the last link not followed.
fn inside(root: &OwnedFd, path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).ok()
}

/// Reads a path from a program's memory.
fn read_path(thread: u32, address: u64) -> Option<PathBuf> {
    let mut buffer = [0_u8; PATH_MAX];
    // What lies behind the end of the path's page may be nobody's.
    let first = usize::try_from(PAGE - address % PAGE).ok()?;
    let remote = |address: u64, length| libc::iovec { iov_base: address as *mut _, iov_len: length };
    let theirs = [remote(address, first), remote(address.checked_add(first as u64)?, PATH_MAX - first)];
    let ours = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: the kernel writes at most `iov_len` bytes into the buffer, which outlives the call; the other process's
    // addresses are checked by the kernel.
    let read = unsafe {
        libc::process_vm_readv(
            libc::pid_t::try_from(thread).ok()?,
            &raw const ours,
            1,
            theirs.as_ptr(),
            theirs.len() as libc::c_ulong,
            0,
        )
    };
    let bytes = buffer.get(..usize::try_from(read).ok()?)?;
    let path = CStr::from_bytes_until_nul(bytes).ok()?;
    Some(PathBuf::from(OsStr::from_bytes(path.to_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_up_to_the_end_of_a_page() {
        let path = c"/some/where";
        let own = std::process::id();
        assert_eq!(read_path(own, path.as_ptr() as u64), Some(PathBuf::from("/some/where")));
        assert_eq!(read_path(own, 0), None);
        // Longer than any path.
        let long = vec![b'x'; 2 * PATH_MAX];
        assert_eq!(read_path(own, long.as_ptr() as u64), None);
    }

    #[test]
    fn what_the_upper_hides_is_not_of_a_lower() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = |name: &str| folder.path().join(name);
        for path in
            ["lower/id/java/bin", "upper/id/java", "upper/id/new", "upper/id/again/bin", "lower/id/again/bin"]
        {
            fs_err::create_dir_all(place(path)).expect("made");
        }
        fs_err::write(place("lower/id/file"), "x").expect("written");
        std::os::unix::fs::symlink("java", place("lower/id/link")).expect("linked");
        let opaque = rustix::fs::setxattr(
            place("upper/id/again"),
            c"user.overlay.opaque",
            b"y",
            rustix::fs::XattrFlags::empty(),
        );
        let watch = RenameWatch {
            merged: place("merged"),
            target: "/layers".into(),
            upper: place("upper"),
            lowers: vec![place("empty"), place("lower")],
        };
        for (path, expected) in [
            ("id", true),
            ("id/java", true),
            ("id/java/bin", true),
            ("id/new", false),
            ("id/link/bin", false),
            ("id/file", false),
            ("other", false),
        ] {
            assert_eq!(in_lower(&watch, Path::new(path)), expected, "{path}");
        }
        // Where the file system has such attributes.
        if opaque.is_ok() {
            assert!(!in_lower(&watch, Path::new("id/again")));
            assert!(!in_lower(&watch, Path::new("id/again/bin")));
        }
    }
}
