//! Upper directories of overlays: what a build wrote, before and after it is put together with what was below.
//!
//! Overlays are mounted with `userxattr`: a deleted entry is a character device `0:0`, a directory that hides those
//! below it has the attribute `user.overlay.opaque`. The overlay must not be mounted any more while an upper is moved.
//! Not here: mounting; making a layer of an upper.

mod changes;
mod reduce;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use crate::attributes::{self, OVERLAY};
use crate::copy::times;
use crate::error::{At, PathError};
use crate::meta::{Kind, Meta};
use crate::root::{DIRECTORY, Root};
use crate::walk::Walk;
pub use changes::Snapshot;
pub(crate) use reduce::is_carrier;
pub use reduce::{Reduced, reduce};

/// By this attribute overlayfs knows that a directory hides those below it.
pub(crate) const OPAQUE: &str = "user.overlay.opaque";

/// What is deleted has a name that begins so where no whiteout can be made: on an overlay itself.
const DELETED: &[u8] = b".wh.";
/// The attribute that tells such a file from one that somebody called so.
const DELETION: &str = "user.overlay.deletion";

/// Marks `name` in the directory `dir` as deleted: by a whiteout, or where the system has none for us by an empty file,
/// as layers do it. No overlay can be mounted there either, so it is only seen by [`crate::flatten`] and as a layer.
pub(crate) fn mark_deleted(dir: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
    match rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0) {
        Err(Errno::PERM) => {
            let name = [DELETED, name.as_bytes()].concat();
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mode = Mode::from_raw_mode(0o644);
            let file = rustix::fs::openat(dir, OsStr::from_bytes(&name), flags, mode)?;
            rustix::fs::fsetxattr(file, DELETION, b"y", rustix::fs::XattrFlags::empty())
        }
        result => result,
    }
}

/// What an entry of the tree `tree` says is deleted, when it does so by its name.
pub(crate) fn deleted_by(tree: &Path, path: &Path) -> Result<Option<PathBuf>, PathError> {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let Some(hidden) = name.strip_prefix(DELETED) else { return Ok(None) };
    let file = tree.join(path);
    match rustix::fs::lgetxattr(&file, DELETION, &mut [0; 1]) {
        Ok(_) => Ok(Some(path.with_file_name(OsStr::from_bytes(hidden)))),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(None),
        Err(errno) => Err(errno).at("read an attribute of", &file),
    }
}

/// What an upper says of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpperState {
    /// Nothing: what is below shows as it is.
    Untouched,
    /// Something that is put together with what is below, if there is anything.
    Merged,
    /// Something that hides what is below.
    Whole,
    /// That there is nothing any more.
    Deleted,
}

/// What the upper directory `upper` says of `path` in it, a relative path.
pub fn state(upper: &Path, path: &Path) -> Result<UpperState, PathError> {
    let mut at = upper.to_owned();
    let mut hidden = is_opaque(&at)?;
    for part in path.components() {
        let Component::Normal(name) = part else { continue };
        at.push(name);
        let meta = match rustix::fs::lstat(&at).map(Meta::from) {
            Err(Errno::NOENT) => {
                return Ok(if hidden { UpperState::Deleted } else { UpperState::Untouched });
            }
            // A file where a directory was: nothing is in it.
            Err(Errno::NOTDIR) => return Ok(UpperState::Deleted),
            result => result.at("stat", &at)?,
        };
        if meta.is_whiteout() {
            return Ok(UpperState::Deleted);
        }
        // A symlink in the middle is a new entry: what would be below it is not this path.
        hidden = hidden || !meta.is_dir() || is_opaque(&at)?;
        if !meta.is_dir() && at != upper.join(path) {
            return Ok(UpperState::Deleted);
        }
    }
    Ok(if hidden { UpperState::Whole } else { UpperState::Merged })
}

/// True when the directory `upper`, put together with the directory `lower` below it, is the same as `lower`: for
/// everything that a layer is made of, which is names, sorts, modes, contents and targets. A file that was opened for
/// writing and left as it was is a copy of the lower one, and the same.
pub fn same(upper: &Path, lower: &Path) -> Result<bool, PathError> {
    let (mut walk, meta) = Walk::new(upper)?;
    let (upper_root, lower_root) = (Root::open(upper)?, Root::open(lower)?);
    if meta.mode != lower_root.stat("")?.mode {
        return Ok(false);
    }
    // The outermost directory that hides what is below it, while the walk is in it.
    let mut opaque = None;
    if is_opaque(upper)? {
        opaque = Some(PathBuf::new());
        if !has_all(&upper_root, &lower_root, Path::new(""))? {
            return Ok(false);
        }
    }
    while let Some(kind) = walk.next()? {
        let path = walk.path();
        if opaque.as_ref().is_some_and(|opaque| !path.starts_with(opaque)) {
            opaque = None;
        }
        let below = match lower_root.lstat(path) {
            Ok(meta) => Some(meta).filter(|meta| meta.kind != Kind::Socket),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        if kind == Kind::Dir {
            if !below.is_some_and(|below| below.is_dir() && walk.stat().is_ok_and(|it| it.mode == below.mode))
            {
                return Ok(false);
            }
            if opaque.is_none() && is_opaque(&walk.full_path())? {
                opaque = Some(path.to_owned());
            }
            if opaque.is_some() && !has_all(&upper_root, &lower_root, path)? {
                return Ok(false);
            }
        } else if !same_entry(&walk, kind, below, &lower_root)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// True when the upper directory `path` has a name for every entry of the lower one.
fn has_all(upper: &Root, lower: &Root, path: &Path) -> Result<bool, PathError> {
    let names: BTreeSet<_> = upper.read_dir(path)?.into_iter().map(|entry| entry.name).collect();
    let below = lower.read_dir(path)?;
    Ok(below.iter().all(|entry| entry.kind == Kind::Socket || names.contains(&entry.name)))
}

/// True when an entry of the upper that is no directory leaves things as they are.
fn same_entry(walk: &Walk, kind: Kind, below: Option<Meta>, lower: &Root) -> Result<bool, PathError> {
    if kind == Kind::Socket {
        return Ok(true);
    }
    let meta = walk.stat()?;
    if meta.is_whiteout() {
        return Ok(below.is_none());
    }
    let Some(below) = below.filter(|below| below.kind == kind) else { return Ok(false) };
    match kind {
        Kind::Symlink => {
            let target = walk.read_link()?;
            Ok(lower.read_link(walk.path())?.as_os_str().as_bytes() == target)
        }
        Kind::File => {
            if (meta.mode, meta.size) != (below.mode, below.size) {
                return Ok(false);
            }
            let (file, _) = walk.open()?;
            same_content(&file, &lower.open_file(walk.path())?).at("read", &walk.full_path())
        }
        _ => Ok((meta.mode, meta.rdev) == (below.mode, below.rdev)),
    }
}

fn same_content(mut a: &File, mut b: &File) -> io::Result<bool> {
    const LEN: usize = 128 << 10;
    let (mut left, mut right) = (vec![0; LEN], vec![0; LEN]);
    loop {
        let length = a.read(&mut left)?;
        if length == 0 {
            return Ok(b.read(&mut right)? == 0);
        }
        match b.read_exact(&mut right[..length]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            result => result?,
        }
        if left[..length] != right[..length] {
            return Ok(false);
        }
    }
}

/// Makes `to`, a new directory, a tree with the same content as the tree at `from`: directories of its own, and other
/// names for the same files. Only for trees that nobody ever writes into.
pub fn link_tree(from: &Path, to: &Path) -> Result<(), PathError> {
    let (mut walk, meta) = Walk::new(from)?;
    rustix::fs::mkdir(to, Mode::from_raw_mode(0o700)).at("create", to)?;
    let mut target = Target::open(to)?;
    let mut dirs = vec![(Path::new("").to_owned(), meta)];
    while let Some(kind) = walk.next()? {
        let path = to.join(walk.path());
        if kind == Kind::Socket {
            continue;
        }
        let dir = target.parent(walk.path())?;
        if kind == Kind::Dir {
            rustix::fs::mkdirat(dir, walk.name(), Mode::from_raw_mode(0o700)).at("create", &path)?;
            dirs.push((walk.path().to_owned(), walk.stat()?));
        } else {
            rustix::fs::linkat(walk.parent(), walk.name(), dir, walk.name(), AtFlags::empty())
                .at("link", &path)?;
        }
    }
    target.finish_dirs(dirs)
}

/// Puts the directory `upper` together with the tree at `onto`, which was below it: what the upper has moves there,
/// what it deletes goes. `onto` is then what the overlay showed, and nothing of overlayfs is left in it. Both are on one
/// file system; the upper is of no use afterwards.
pub fn apply(upper: &Path, onto: &Path) -> Result<(), PathError> {
    let (mut walk, meta) = Walk::new(upper)?;
    let mut target = Target::open(onto)?;
    let mut dirs = vec![(Path::new("").to_owned(), meta)];
    if is_opaque(upper)? {
        for entry in Root::open(onto)?.read_dir("")? {
            remove(&onto.join(entry.name))?;
        }
    }
    while let Some(kind) = walk.next()? {
        let (source, path) = (walk.full_path(), onto.join(walk.path()));
        let dir = target.parent(walk.path())?;
        let there = match rustix::fs::statat(dir, walk.name(), AtFlags::SYMLINK_NOFOLLOW).map(Meta::from) {
            Err(Errno::NOENT) => None,
            result => Some(result.at("stat", &path)?),
        };
        let meta = walk.stat()?;
        if kind == Kind::Dir && there.is_some_and(|there| there.is_dir()) && !is_opaque(&source)? {
            dirs.push((walk.path().to_owned(), meta));
            continue;
        }
        walk.skip();
        if let Some(there) = there
            && (there.is_dir() || meta.is_dir() || meta.is_whiteout())
        {
            remove(&path)?;
        }
        if !meta.is_whiteout() && kind != Kind::Socket {
            let dir = target.parent(walk.path())?;
            rustix::fs::renameat(walk.parent(), walk.name(), dir, walk.name()).at("move", &path)?;
            strip(&path)?;
        }
    }
    target.finish_dirs(dirs)
}

/// Takes everything of overlayfs out of what is at `path`, a tree or a file that was in an upper.
pub fn strip(path: &Path) -> Result<(), PathError> {
    let meta = rustix::fs::lstat(path).map(Meta::from).at("stat", path)?;
    strip_entry(path, meta.kind)?;
    if !meta.is_dir() {
        return Ok(());
    }
    let (mut walk, _) = Walk::new(path)?;
    while let Some(kind) = walk.next()? {
        if kind == Kind::CharDevice && walk.stat()?.is_whiteout() {
            rustix::fs::unlinkat(walk.parent(), walk.name(), AtFlags::empty())
                .at("remove", &walk.full_path())?;
        } else if matches!(kind, Kind::Dir | Kind::File) {
            strip_entry(&walk.full_path(), kind)?;
        }
    }
    Ok(())
}

fn strip_entry(path: &Path, kind: Kind) -> Result<(), PathError> {
    if !matches!(kind, Kind::Dir | Kind::File) {
        return Ok(());
    }
    for name in attributes::names(path)?.iter().filter(|name| name.starts_with(OVERLAY)) {
        rustix::fs::lremovexattr(path, OsStr::from_bytes(name)).at("remove an attribute of", path)?;
    }
    Ok(())
}

/// Makes the directory at `path` hide those below it when it is part of a lower.
pub fn make_opaque(path: &Path) -> Result<(), PathError> {
    rustix::fs::lsetxattr(path, OPAQUE, b"y", rustix::fs::XattrFlags::empty())
        .at("write an attribute of", path)
}

/// True for a directory that hides those below it.
pub(crate) fn is_opaque(path: &Path) -> Result<bool, PathError> {
    let mut value = [0; 8];
    match rustix::fs::lgetxattr(path, OPAQUE, &mut value) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno).at("read an attribute of", path),
    }
}

/// Removes whatever is at `path`; nothing there is no error.
pub(crate) fn remove(path: &Path) -> Result<(), PathError> {
    let result = match fs_err::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs_err::remove_dir_all(path),
        Ok(_) => fs_err::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.at("remove", path),
    }
}

/// A tree that is written to, with the directory in use held open.
struct Target<'a> {
    root: OwnedFd,
    path: &'a Path,
    current: Option<(PathBuf, OwnedFd)>,
}

impl<'a> Target<'a> {
    fn open(path: &'a Path) -> Result<Self, PathError> {
        let root = rustix::fs::open(path, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()).at("open", path)?;
        Ok(Self { root, path, current: None })
    }

    /// The directory that the entry `path` is in.
    fn parent(&mut self, path: &Path) -> Result<BorrowedFd<'_>, PathError> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if self.current.as_ref().is_none_or(|(current, _)| current != parent) {
            self.current = Some((parent.to_owned(), self.dir(parent)?));
        }
        Ok(self.current.as_ref().expect("just set").1.as_fd())
    }

    fn dir(&self, path: &Path) -> Result<OwnedFd, PathError> {
        let relative = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.root, relative, DIRECTORY, Mode::empty(), beneath)
            .at("open", &self.path.join(path))
    }

    /// Gives directories the owners, modes and times of others, the deepest first.
    fn finish_dirs(&self, dirs: Vec<(PathBuf, Meta)>) -> Result<(), PathError> {
        for (relative, meta) in dirs.into_iter().rev() {
            let path = self.path.join(&relative);
            let fd = self.dir(&relative)?;
            let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
            rustix::fs::fchown(&fd, Some(uid), Some(gid)).at("set owner of", &path)?;
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(meta.mode)).at("set mode of", &path)?;
            rustix::fs::futimens(&fd, &times(&meta)).at("set times of", &path)?;
        }
        Ok(())
    }
}
