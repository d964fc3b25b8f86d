//! Extended attributes that mean something outside of one machine, and those that stand for what a tree cannot or must
//! not have.
//!
//! Where a user namespace has a single id, every file on disk is of that one owner. Whose it should be is then written
//! beside it as `user.pannier.owner`, which overlayfs copies up with a file as it does its real owner.
//!
//! A device node that a program made is data to us, but opens a device of this machine to whoever can reach it. An
//! empty file with `user.pannier.device` stands for it.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::error::{At, PathError};
use crate::meta::{Kind, Meta};

/// An extended attribute: its name and its value.
pub(crate) type Xattr = (Vec<u8>, Vec<u8>);

/// Says whose a file is that is this process's on disk: `UID:GID`.
const OWNER: &str = "user.pannier.owner";
/// Says which device an empty file stands for: `c MAJOR:MINOR`, or `b` for a block device.
const DEVICE: &str = "user.pannier.device";
/// All attributes of overlayfs begin so.
pub(crate) const OVERLAY: &[u8] = b"user.overlay.";
/// The most that the kernel gives for names or for a value.
const LARGEST: usize = 64 << 10;

/// The names of all attributes of the entry at `path`, a symlink not followed.
pub(crate) fn names(path: &Path) -> Result<Vec<Vec<u8>>, PathError> {
    let mut buffer = [0; 512];
    let split = |bytes: &[u8]| {
        bytes.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
    };
    match rustix::fs::llistxattr(path, &mut buffer) {
        Ok(length) => Ok(split(&buffer[..length])),
        Err(Errno::NOTSUP) => Ok(Vec::new()),
        Err(Errno::RANGE) => {
            let mut buffer = vec![0; LARGEST];
            let length = rustix::fs::llistxattr(path, &mut buffer).at("list attributes of", path)?;
            Ok(split(&buffer[..length]))
        }
        Err(errno) => Err(errno).at("list attributes of", path),
    }
}

/// The attributes of a file or directory that mean something elsewhere too, sorted: file capabilities and those of
/// users, but nothing of overlayfs.
pub(crate) fn meaningful(path: &Path) -> Result<Vec<Xattr>, PathError> {
    let mut found = Vec::new();
    for name in names(path)? {
        let of_user = name.starts_with(b"user.") && !name.starts_with(OVERLAY);
        if of_user || name == b"security.capability" {
            let mut value = vec![0; LARGEST];
            let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(&name), &mut value)
                .at("read an attribute of", path)?;
            value.truncate(length);
            found.push((name, value));
        }
    }
    found.sort();
    Ok(found)
}

/// Takes the recorded owner out of what [`meaningful`] gave.
pub(crate) fn take_owner(attributes: &mut Vec<Xattr>) -> Option<(u32, u32)> {
    let at = attributes.iter().position(|(name, _)| name == OWNER.as_bytes())?;
    let (_, value) = attributes.remove(at);
    let (uid, gid) = std::str::from_utf8(&value).ok()?.split_once(':')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

/// Takes the device that the file stands for out of what [`meaningful`] gave: its sort and its number.
pub(crate) fn take_device(attributes: &mut Vec<Xattr>) -> Option<(Kind, u64)> {
    let at = attributes.iter().position(|(name, _)| name == DEVICE.as_bytes())?;
    let (_, value) = attributes.remove(at);
    let (kind, numbers) = std::str::from_utf8(&value).ok()?.split_once(' ')?;
    let kind = match kind {
        "c" => Kind::CharDevice,
        "b" => Kind::BlockDevice,
        _ => return None,
    };
    let (major, minor) = numbers.split_once(':')?;
    Some((kind, rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?)))
}

/// Puts an empty file that stands for it in the place of the device node `name` in `parent`, with its mode, owner and
/// time. Where a file can have no attributes, nothing can stand for the node, and it just goes.
pub(crate) fn make_data_of_device(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    meta: &Meta,
) -> rustix::io::Result<()> {
    use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
    rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?;

    let kind = if meta.kind == Kind::BlockDevice { 'b' } else { 'c' };
    let value = format!("{kind} {}:{}", rustix::fs::major(meta.rdev), rustix::fs::minor(meta.rdev));
    match rustix::fs::fsetxattr(&file, DEVICE, value.as_bytes(), XattrFlags::empty()) {
        Err(Errno::NOTSUP) => return rustix::fs::unlinkat(parent, name, AtFlags::empty()),
        result => result?,
    }
    // The mode last: a change of owner takes bits of it away.
    rustix::fs::fchown(&file, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(meta.mode))?;
    let time = Timespec { tv_sec: meta.mtime, tv_nsec: meta.mtime_nsec.into() };
    rustix::fs::futimens(&file, &Timestamps { last_access: time, last_modification: time })
}

/// Records whose an open file or directory is, where the disk cannot say. Root's need no record.
///
/// # Errors
/// When the attribute cannot be written; a file system without attributes is none.
pub fn record_owner(fd: BorrowedFd<'_>, uid: u32, gid: u32) -> std::io::Result<()> {
    if (uid, gid) == (0, 0) {
        return match rustix::fs::fremovexattr(fd, OWNER) {
            Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
            result => Ok(result?),
        };
    }
    match rustix::fs::fsetxattr(fd, OWNER, format!("{uid}:{gid}").as_bytes(), XattrFlags::empty()) {
        Err(Errno::NOTSUP) => Ok(()),
        result => Ok(result?),
    }
}

/// [`record_owner`] by path, which has no symlink that anybody else made, unless there is a record already.
pub(crate) fn record_missing_owner(path: &Path, uid: u32, gid: u32) -> Result<(), PathError> {
    let value = format!("{uid}:{gid}");
    match rustix::fs::lsetxattr(path, OWNER, value.as_bytes(), XattrFlags::CREATE) {
        Err(Errno::EXIST | Errno::NOTSUP) => Ok(()),
        result => result.at("write an attribute of", path),
    }
}
