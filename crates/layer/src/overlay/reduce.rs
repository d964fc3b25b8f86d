//! What of an upper is a change: everything else is taken out of it.
//!
//! A program that opens a file for writing and leaves it as it was, or makes something and removes it again, has
//! changed nothing; and a directory is copied up whenever something in it changes. None of that belongs into a layer.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;

use super::{OPAQUE, deleted_by, is_opaque, same_content};
use crate::attributes::{self, OVERLAY, Xattr};
use crate::error::{At, PathError};
use crate::meta::{Kind, Meta};
use crate::root::{DIRECTORY, stat};
use crate::walk::Walk;

/// By this attribute, which overlayfs keeps to itself, a reduced upper says of a directory that it is only there for
/// what is in it.
pub(crate) const CARRIER: &str = "user.overlay.carrier";

/// What is left of an upper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reduced {
    /// Entries that a layer of it has. Without any, the directory is empty.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
}

/// Takes out of the directory `upper` what leaves things as they are in `below`, the mounted tree (or the one tree)
/// that was below it: for everything a layer is made of, which is names, sorts, modes, owners, attributes, contents and
/// targets, but not times. An empty file with an attribute takes the place of a device node: a layer has the node.
/// Directories that only hold changes are marked, so that a layer does not have them. Sockets
/// go in any case, and so does everything of overlayfs that the directory does not need as a lower.
///
/// `owner` is who the programs ran as, where a user namespace has a single id: see [`crate::record_owner`].
pub fn reduce(upper: &Path, below: &Path, owner: Option<(u32, u32)>) -> Result<Reduced, PathError> {
    let root = rustix::fs::open(below, DIRECTORY, Mode::empty()).at("open", below)?;
    let owner = owner.filter(|owner| *owner != (0, 0));
    let mut reducer = Reducer { below, root, owner, dirs: Vec::new(), open: Vec::new() };
    let (mut walk, _) = Walk::new(upper)?;
    let mut reduced = Reduced::default();
    while walk.next()?.is_some() {
        reducer.entry(&walk, &mut reduced)?;
    }
    reducer.finish(upper, &mut reduced)?;
    strip(upper, false)?;
    Ok(reduced)
}

struct Reducer<'a> {
    below: &'a Path,
    root: OwnedFd,
    owner: Option<(u32, u32)>,
    /// All directories, parents first.
    dirs: Vec<Dir>,
    /// Those that the current entry is in, outermost first, by their index.
    open: Vec<usize>,
}

struct Dir {
    path: PathBuf,
    /// Itself as below.
    same: bool,
    /// What is in it is put together with what is below.
    merged: bool,
    /// Something in it is left.
    holds: bool,
    opaque: bool,
    /// The directory it is in, by its index.
    parent: Option<usize>,
}

impl Reducer<'_> {
    fn entry(&mut self, walk: &Walk, reduced: &mut Reduced) -> Result<(), PathError> {
        let path = walk.path();
        while self.open.last().is_some_and(|top| !path.starts_with(&self.dirs[*top].path)) {
            self.open.pop();
        }
        let merged = self.open.last().is_none_or(|top| self.dirs[*top].merged);
        let meta = walk.stat()?;
        if let Some(deleted) = deleted_by(walk.root(), path)? {
            if merged && self.lookup(&deleted)?.is_some() {
                reduced.entries += 1;
                self.hold();
                return Ok(());
            }
            return rustix::fs::unlinkat(walk.parent(), walk.name(), AtFlags::empty())
                .at("remove", &walk.full_path());
        }
        let below = if merged { self.lookup(path)? } else { None };
        if meta.is_dir() {
            return self.dir(walk, &meta, below.as_ref());
        }
        if self.is_nothing(walk, &meta, below.as_ref())? {
            return rustix::fs::unlinkat(walk.parent(), walk.name(), AtFlags::empty())
                .at("remove", &walk.full_path());
        }
        if matches!(meta.kind, Kind::CharDevice | Kind::BlockDevice) && !meta.is_whiteout() {
            attributes::make_data_of_device(walk.parent(), walk.name(), &meta)
                .at("replace the device", &walk.full_path())?;
            self.record(&walk.full_path())?;
        }
        if meta.is_file() {
            strip(&walk.full_path(), false)?;
            self.record(&walk.full_path())?;
            reduced.bytes += meta.size;
        }
        reduced.entries += 1;
        self.hold();
        Ok(())
    }

    fn dir(&mut self, walk: &Walk, meta: &Meta, below: Option<&Below>) -> Result<(), PathError> {
        let path = walk.full_path();
        let below = below.filter(|below| below.meta.is_dir());
        let opaque = is_opaque(&path)? && below.is_some();
        let same = match below {
            Some(below) => !opaque && same_meta(meta, &below.meta) && self.same_attributes(walk, &path)?,
            None => false,
        };
        strip(&path, opaque)?;
        if !same {
            self.record(&path)?;
        }
        let merged = below.is_some() && !opaque;
        let parent = self.open.last().copied();
        self.open.push(self.dirs.len());
        self.dirs.push(Dir { path: walk.path().to_owned(), same, merged, holds: false, opaque, parent });
        Ok(())
    }

    /// True for what is no change.
    fn is_nothing(&self, walk: &Walk, meta: &Meta, below: Option<&Below>) -> Result<bool, PathError> {
        if meta.kind == Kind::Socket {
            return Ok(true);
        }
        let Some(below) = below else { return Ok(meta.is_whiteout()) };
        if meta.is_whiteout() || !same_meta(meta, &below.meta) {
            return Ok(false);
        }
        match meta.kind {
            // Another name of it may be new.
            Kind::File if meta.nlink > 1 || meta.size != below.meta.size => Ok(false),
            Kind::File => {
                let full = walk.full_path();
                if !self.same_attributes(walk, &full)? {
                    return Ok(false);
                }
                let (file, _) = walk.open()?;
                let lower = self.open_below(walk.path(), OFlags::RDONLY | OFlags::NONBLOCK);
                let lower = std::fs::File::from(lower.at("open", &self.below.join(walk.path()))?);
                same_content(&file, &lower).at("read", &full)
            }
            Kind::Symlink => {
                let target = rustix::fs::readlinkat(&below.fd, "", Vec::new())
                    .at("read link", &self.below.join(walk.path()))?;
                Ok(walk.read_link()? == target.into_bytes())
            }
            _ => Ok(meta.rdev == below.meta.rdev),
        }
    }

    fn same_attributes(&self, walk: &Walk, path: &Path) -> Result<bool, PathError> {
        let of = |path: &Path| -> Result<Vec<Xattr>, PathError> { attributes::meaningful(path) };
        Ok(of(path)? == of(&self.below.join(walk.path()))?)
    }

    /// What is below at `path`, whose directories are all directories there too.
    fn lookup(&self, path: &Path) -> Result<Option<Below>, PathError> {
        match self.open_below(path, OFlags::PATH) {
            Ok(fd) => {
                let meta = stat(fd.as_fd()).at("stat", &self.below.join(path))?;
                Ok(Some(Below { fd, meta }).filter(|below| below.meta.kind != Kind::Socket))
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(errno).at("open", &self.below.join(path)),
        }
    }

    fn open_below(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        // A symlink at the end is opened as itself; one before it is another path.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let resolve =
            if flags.contains(OFlags::PATH) { resolve } else { resolve | ResolveFlags::NO_SYMLINKS };
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)
    }

    fn record(&self, path: &Path) -> Result<(), PathError> {
        match self.owner {
            Some((uid, gid)) => attributes::record_missing_owner(path, uid, gid),
            None => Ok(()),
        }
    }

    /// Notes that the directory of the current entry has something left in it.
    fn hold(&mut self) {
        if let Some(top) = self.open.last() {
            self.dirs[*top].holds = true;
        }
    }

    /// Removes directories that are nothing, and marks those that only hold something; the deepest first.
    fn finish(&mut self, upper: &Path, reduced: &mut Reduced) -> Result<(), PathError> {
        for index in (0..self.dirs.len()).rev() {
            let dir = &self.dirs[index];
            let path = upper.join(&dir.path);
            if dir.same && !dir.holds {
                rustix::fs::rmdir(&path).at("remove", &path)?;
                continue;
            }
            if dir.same {
                rustix::fs::lsetxattr(&path, CARRIER, b"y", XattrFlags::empty())
                    .at("write an attribute of", &path)?;
            } else {
                // An opaque one is two entries.
                reduced.entries += 1 + u64::from(dir.opaque);
            }
            if let Some(parent) = dir.parent {
                self.dirs[parent].holds = true;
            }
        }
        Ok(())
    }
}

struct Below {
    fd: OwnedFd,
    meta: Meta,
}

fn same_meta(one: &Meta, other: &Meta) -> bool {
    // A symlink's mode means nothing.
    let mode = |meta: &Meta| if meta.kind == Kind::Symlink { 0 } else { meta.mode };
    (one.kind, mode(one), one.uid, one.gid) == (other.kind, mode(other), other.uid, other.gid)
}

/// Takes everything of overlayfs from one entry, but that it is opaque if that is to stay.
fn strip(path: &Path, opaque: bool) -> Result<(), PathError> {
    for name in attributes::names(path)? {
        let stays = opaque && name == OPAQUE.as_bytes();
        if name.starts_with(OVERLAY) && !stays {
            rustix::fs::lremovexattr(path, OsStr::from_bytes(&name)).at("remove an attribute of", path)?;
        }
    }
    Ok(())
}

/// True for a directory of a reduced upper that is no entry of its layer.
pub(crate) fn is_carrier(path: &Path) -> Result<bool, PathError> {
    match rustix::fs::lgetxattr(path, CARRIER, &mut [0; 8]) {
        Ok(_) => Ok(true),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno).at("read an attribute of", path),
    }
}
