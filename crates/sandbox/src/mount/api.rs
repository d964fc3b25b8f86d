//! The kernel's new mount API in the few shapes used here: a mount is first made without a place, gets its
//! attributes, and is then attached to an open directory, so no path is ever looked up twice.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

/// `MOUNT_ATTR_RDONLY`
pub(crate) const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;
/// No setuid programs and no devices: for everything a sandbox sees but its `/dev`.
pub(crate) const PLAIN: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

/// A detached copy of the mounts at and below `path`.
///
/// Always with what is below: inside a user namespace, the kernel does not let go of a mount without those that
/// cover parts of it.
pub(crate) fn clone_tree<P: rustix::path::Arg>(dir: impl AsFd, path: P) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(dir, path, flags)?)
}

/// Adds attributes to a detached tree and everything below it.
pub(crate) fn set_attributes(tree: impl AsFd, attributes: u64) -> io::Result<()> {
    mount_setattr(tree, attributes, AtFlags::EMPTY_PATH.bits() | libc::AT_RECURSIVE as u32)
}

/// Adds attributes to one mount only.
pub(crate) fn set_attributes_of_top(tree: impl AsFd, attributes: u64) -> io::Result<()> {
    mount_setattr(tree, attributes, AtFlags::EMPTY_PATH.bits())
}

fn mount_setattr(tree: impl AsFd, attributes: u64, flags: u32) -> io::Result<()> {
    let attr = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let empty: &CStr = c"";
    // SAFETY: the descriptor, the string and the structure outlive the call, and the size given is the structure's.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            empty.as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A detached mount of a new file system.
pub(crate) fn new_filesystem(
    kind: &str,
    options: &[(&str, String)],
    attributes: MountAttrFlags,
) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(&context, *key, value.as_str())?;
    }
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Attaches a detached tree to an open directory or file.
pub(crate) fn attach(tree: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, c"", target, c"", flags)?)
}

/// Attaches a detached tree at a path of ours.
pub(crate) fn attach_at(tree: impl AsFd, target: &Path) -> io::Result<()> {
    Ok(move_mount(tree, c"", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}
