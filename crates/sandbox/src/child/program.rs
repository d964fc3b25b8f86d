//! This program's own file, as the helper is executed from it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{
    CWD, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, fstat, memfd_create, open, stat,
};

use crate::mount::api;

/// Through which `/proc/self/fd/N` this program is executed again.
///
/// While the helper becomes a program of the image, that program could open `/proc/self/exe` and, where the user
/// owns the file, write into the `pannier` on the host (CVE-2019-5736 was this, in runc). So it is executed from a
/// read-only mount of its own or, where that cannot be had, from a sealed copy in memory.
pub(super) fn own_program() -> io::Result<&'static OwnedFd> {
    static PROGRAM: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(program) = PROGRAM.get() {
        return Ok(program);
    }
    let program = read_only_mount().or_else(|_| sealed_copy())?;
    Ok(PROGRAM.get_or_init(|| program))
}

fn read_only_mount() -> io::Result<OwnedFd> {
    // Not /proc/self/exe itself: that leads to the mount of the namespace we have left.
    let path = fs_err::read_link("/proc/self/exe")?;
    let tree = api::clone_tree(CWD, &path)?;
    let (found, own) = (fstat(&tree)?, stat("/proc/self/exe")?);
    if (found.st_dev, found.st_ino) != (own.st_dev, own.st_ino) {
        return Err(io::ErrorKind::NotFound.into());
    }
    api::set_attributes(&tree, api::READ_ONLY | api::PLAIN)?;
    Ok(tree)
}

fn sealed_copy() -> io::Result<OwnedFd> {
    let mut own =
        std::fs::File::from(open("/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = std::fs::File::from(memfd_create("pannier", flags)?);
    io::copy(&mut own, &mut copy)?;
    fcntl_add_seals(&copy, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    // Opened again because what is open for writing cannot be executed.
    let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
    Ok(open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}
