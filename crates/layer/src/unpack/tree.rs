//! Writing a tree from entries that nobody vouches for.
//!
//! Names are resolved here, one component after the other, with the tree's directory as `/`: symlinks that the layer
//! itself made are followed, and lead nowhere but into the tree. The system calls then get only paths without any
//! symlink, relative to a handle of the directory. Not here: tar.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::tar::Entry;
use super::{Owners, UnpackError};
use crate::attributes;
use crate::error::{At, PathError};
use crate::meta::{Kind, Meta};
use crate::overlay::{OPAQUE, mark_deleted};
use crate::root::DIRECTORY;

/// Symlinks followed for one name, as the kernel has it.
const MAX_LINKS: usize = 40;
/// Directories kept open.
const OPEN_DIRS: usize = 64;

/// The tree being written.
pub(crate) struct TreeWriter {
    root: OwnedFd,
    path: PathBuf,
    owners: Owners,
    /// Whether what is there has a say: see [`super::Options::is_layer`].
    merges: bool,
    /// Open directories by the cleaned path of their entries' names.
    open: HashMap<Vec<u8>, Rc<OwnedFd>>,
    /// Directories whose mode and time are set at the end, by their real path: writing into them changes both.
    dirs: BTreeMap<Vec<u8>, DirMeta>,
}

struct DirMeta {
    mode: u32,
    mtime: Option<(i64, u32)>,
}

/// A regular file being written.
pub(crate) struct FileWriter {
    file: File,
    path: PathBuf,
    at: u64,
}

impl FileWriter {
    /// Writes the next bytes at the current position.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), PathError> {
        self.file.write_all_at(bytes, self.at).at("write", &self.path)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Goes to `offset`, leaving a hole.
    pub(crate) fn seek(&mut self, offset: u64) {
        self.at = offset;
    }
}

impl TreeWriter {
    /// Writes below `path`, a directory that is made when it is not there.
    pub(crate) fn new(path: &Path, owners: Owners, merges: bool) -> Result<Self, PathError> {
        match rustix::fs::mkdir(path, Mode::from_raw_mode(0o700)) {
            Err(Errno::EXIST) => (),
            result => result.at("create", path)?,
        }
        let root = rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty()).at("open", path)?;
        let mut dirs = BTreeMap::new();
        if !merges {
            // What an image's root is when no entry says otherwise.
            dirs.insert(Vec::new(), DirMeta { mode: 0o755, mtime: None });
        }
        Ok(Self { root, path: path.to_owned(), owners, merges, open: HashMap::new(), dirs })
    }

    /// Makes a directory, or gives the one that is there the entry's attributes.
    pub(crate) fn dir(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        let Some((parent, name)) = split(&entry.name) else {
            let root = self.root.try_clone().at("open", &self.path)?;
            return self.finish_dir(&root, Vec::new(), entry);
        };
        let (dir, real) = self.parent(&parent)?;
        let real = join(&real, &name);
        let os_name = OsStr::from_bytes(&name);
        let mut hides_below = false;
        match lstat(dir.as_fd(), os_name).at("stat", &self.shown(&real))? {
            Some(meta) if meta.is_dir() => (),
            Some(meta) if self.merges && meta.kind == Kind::Symlink && self.leads_to_dir(&real) => {
                return Ok(());
            }
            there => {
                // A folder in place of one that the layer deletes hides what was in that one.
                hides_below = there.is_some_and(|meta| meta.is_whiteout());
                self.remove(dir.as_fd(), os_name, there, &real)?;
                rustix::fs::mkdirat(&*dir, os_name, Mode::from_raw_mode(0o700))
                    .at("create", &self.shown(&real))?;
            }
        }
        let fd = rustix::fs::openat(&*dir, os_name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
            .at("open", &self.shown(&real))?;
        if hides_below {
            set_opaque(fd.as_fd()).at("mark as opaque", &self.shown(&real))?;
        }
        self.finish_dir(&fd, real, entry)
    }

    /// Sets what can be set of a directory now, and notes the rest.
    fn finish_dir(&mut self, fd: &OwnedFd, real: Vec<u8>, entry: &Entry) -> Result<(), UnpackError> {
        let path = self.shown(&real);
        self.own(entry, &path, |uid, gid| rustix::fs::fchown(fd, uid, gid))?;
        set_xattrs(fd.as_fd(), entry).at("set attributes of", &path)?;
        self.record_owner(fd.as_fd(), entry, &path)?;
        self.dirs.insert(real, DirMeta { mode: entry.mode, mtime: Some((entry.mtime, entry.mtime_nsec)) });
        Ok(())
    }

    /// Makes a file, empty yet, in place of whatever has its name.
    pub(crate) fn file(&mut self, entry: &Entry) -> Result<FileWriter, UnpackError> {
        let (dir, name, path) = self.place(entry)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&*dir, OsStr::from_bytes(&name), flags, Mode::from_raw_mode(0o600))
            .at("create", &path)?;
        Ok(FileWriter { file: File::from(fd), path, at: 0 })
    }

    /// Gives a written file its length, owner, attributes, mode and time, in the order in which none undoes another.
    pub(crate) fn finish_file(&mut self, writer: FileWriter, entry: &Entry) -> Result<(), UnpackError> {
        let FileWriter { file, path, .. } = writer;
        if entry.sparse.is_some() {
            // It may end in a hole.
            file.set_len(entry.size).at("write", &path)?;
        }
        self.own(entry, &path, |uid, gid| rustix::fs::fchown(&file, uid, gid))?;
        set_xattrs(file.as_fd(), entry).at("set attributes of", &path)?;
        self.record_owner(file.as_fd(), entry, &path)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode)).at("set mode of", &path)?;
        rustix::fs::futimens(&file, &times(entry.mtime, entry.mtime_nsec)).at("set times of", &path)?;
        Ok(())
    }

    /// Makes a symlink. Its target is written as it is: it is followed by nobody here but in the tree.
    pub(crate) fn symlink(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        let (dir, name, path) = self.place(entry)?;
        let name = OsStr::from_bytes(&name);
        rustix::fs::symlinkat(OsStr::from_bytes(&entry.link), &*dir, name).at("create", &path)?;
        self.finish_special(&dir, name, entry, &path)
    }

    /// Makes a named pipe or a device. False when this process may not make devices.
    pub(crate) fn node(&mut self, entry: &Entry, kind: FileType) -> Result<bool, UnpackError> {
        let (dir, name, path) = self.place(entry)?;
        let name = OsStr::from_bytes(&name);
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        match rustix::fs::mknodat(&*dir, name, kind, Mode::from_raw_mode(0o600), device) {
            Err(Errno::PERM) if kind != FileType::Fifo => return Ok(false),
            result => result.at("create", &path)?,
        }
        rustix::fs::chmodat(&*dir, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
            .at("set mode of", &path)?;
        self.finish_special(&dir, name, entry, &path)?;
        if entry.mode & 0o6000 != 0 {
            // Changing the owner took the bits away.
            rustix::fs::chmodat(&*dir, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
                .at("set mode of", &path)?;
        }
        Ok(true)
    }

    fn finish_special(
        &mut self,
        dir: &OwnedFd,
        name: &OsStr,
        entry: &Entry,
        path: &Path,
    ) -> Result<(), UnpackError> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        self.own(entry, path, |uid, gid| rustix::fs::chownat(dir, name, uid, gid, flags))?;
        let times = times(entry.mtime, entry.mtime_nsec);
        Ok(rustix::fs::utimensat(dir, name, &times, flags).at("set times of", path)?)
    }

    /// Gives a file that this layer made another name.
    pub(crate) fn hard_link(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        let missing = || UnpackError::HardLink {
            path: PathBuf::from(OsStr::from_bytes(&entry.name)),
            target: PathBuf::from(OsStr::from_bytes(&entry.link)),
        };
        let (target_parent, target_name) = split(&entry.link).ok_or_else(missing)?;
        let (target_dir, target_real) = self.parent(&target_parent)?;
        let target_name = OsStr::from_bytes(&target_name);
        let target = lstat(target_dir.as_fd(), target_name).at("stat", &self.shown(&target_real))?;
        let target = target.filter(|meta| !meta.is_dir() && !meta.is_whiteout()).ok_or_else(missing)?;
        let (parent, name) = split(&entry.name).ok_or_else(missing)?;
        let (dir, real) = self.parent(&parent)?;
        let real = join(&real, &name);
        let name = OsStr::from_bytes(&name);
        let there = lstat(dir.as_fd(), name).at("stat", &self.shown(&real))?;
        if there.is_some_and(|there| (there.dev, there.ino) == (target.dev, target.ino)) {
            return Ok(());
        }
        self.remove(dir.as_fd(), name, there, &real)?;
        // Without AtFlags::SYMLINK_FOLLOW the last component is not followed, and there are none before it.
        rustix::fs::linkat(&*target_dir, target_name, &*dir, name, AtFlags::empty())
            .at("link", &self.shown(&real))?;
        Ok(())
    }

    /// Hides `name` of lower layers in the directory `parent`, unless this layer has something of that name.
    pub(crate) fn whiteout(&mut self, parent: &[u8], name: &[u8]) -> Result<(), UnpackError> {
        let (dir, real) = self.parent(parent)?;
        let path = self.shown(&join(&real, name));
        let name = OsStr::from_bytes(name);
        match lstat(dir.as_fd(), name).at("stat", &path)? {
            None => mark_deleted(dir.as_fd(), name).at("create whiteout", &path)?,
            Some(meta) if meta.is_dir() => {
                let fd = rustix::fs::openat(&*dir, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
                    .at("open", &path)?;
                set_opaque(fd.as_fd()).at("mark as opaque", &path)?;
            }
            Some(_) => (),
        }
        Ok(())
    }

    /// Hides everything of lower layers in the directory `dir`.
    pub(crate) fn opaque(&mut self, dir: &[u8]) -> Result<(), UnpackError> {
        let (fd, real) = self.parent(dir)?;
        Ok(set_opaque(fd.as_fd()).at("mark as opaque", &self.shown(&real))?)
    }

    /// Sets modes and times of directories, the deepest first.
    pub(crate) fn finish(mut self) -> Result<(), UnpackError> {
        self.open.clear();
        for (real, meta) in std::mem::take(&mut self.dirs).into_iter().rev() {
            let fd = match self.open_real(&real) {
                // An entry of the same name came later and replaced it.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                result => result.at("open", &self.shown(&real))?,
            };
            let path = self.shown(&real);
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(meta.mode)).at("set mode of", &path)?;
            if let Some((seconds, nanos)) = meta.mtime {
                rustix::fs::futimens(&fd, &times(seconds, nanos)).at("set times of", &path)?;
            }
        }
        Ok(())
    }

    /// Where an entry that is not a directory goes: its directory and its name there, which nothing has any more.
    fn place(&mut self, entry: &Entry) -> Result<(Rc<OwnedFd>, Vec<u8>, PathBuf), UnpackError> {
        let Some((parent, name)) = split(&entry.name) else {
            return Err(UnpackError::Invalid {
                path: PathBuf::from(OsStr::from_bytes(&entry.name)),
                reason: "the root of a layer that is not a directory".to_owned(),
            });
        };
        let (dir, real) = self.parent(&parent)?;
        let real = join(&real, &name);
        let path = self.shown(&real);
        let there = lstat(dir.as_fd(), OsStr::from_bytes(&name)).at("stat", &path)?;
        self.remove(dir.as_fd(), OsStr::from_bytes(&name), there, &real)?;
        Ok((dir, name, path))
    }

    /// Removes what an entry replaces.
    fn remove(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        there: Option<Meta>,
        real: &[u8],
    ) -> Result<(), UnpackError> {
        let Some(there) = there else { return Ok(()) };
        let path = self.shown(real);
        if self.merges && there.is_dir() {
            return Err(PathError { action: "replace", path, source: Errno::ISDIR.into() }.into());
        }
        // What is open may be what is removed, or may have been reached through it.
        if matches!(there.kind, Kind::Dir | Kind::Symlink) {
            self.open.clear();
        }
        if there.is_dir() {
            // It has no symlink in it but below its end, and those are not followed.
            fs_err::remove_dir_all(&path).at("remove", &path)?;
        } else {
            rustix::fs::unlinkat(dir, name, AtFlags::empty()).at("remove", &path)?;
        }
        Ok(())
    }

    /// Whether the link at a real path leads to a directory of this tree.
    fn leads_to_dir(&self, real: &[u8]) -> bool {
        let path = Path::new(OsStr::from_bytes(real));
        crate::root::resolve(self.root.as_fd(), path, DIRECTORY, ResolveFlags::IN_ROOT).is_ok()
    }

    /// The directory `path` (cleaned, of an entry's name), made when it is missing, and its real path.
    fn parent(&mut self, path: &[u8]) -> Result<(Rc<OwnedFd>, Vec<u8>), UnpackError> {
        // Only paths without symlinks are kept open, so the key is the real path too.
        if let Some(fd) = self.open.get(path) {
            return Ok((Rc::clone(fd), path.to_vec()));
        }
        let real = self.make_dirs(path)?;
        let fd = Rc::new(self.open_real(&real).at("open", &self.shown(&real))?);
        if real == path {
            if self.open.len() >= OPEN_DIRS {
                self.open.clear();
            }
            self.open.insert(real.clone(), Rc::clone(&fd));
        }
        Ok((fd, real))
    }

    /// Follows `path` with the tree as `/` and makes what is missing. The real path has no symlink.
    fn make_dirs(&mut self, path: &[u8]) -> Result<Vec<u8>, UnpackError> {
        let mut waiting: Vec<Vec<u8>> = components(path).rev().map(<[u8]>::to_vec).collect();
        let mut real: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(name) = waiting.pop() {
            if name == b".." {
                let end = real.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                real.truncate(end);
                continue;
            }
            let next = join(&real, &name);
            let shown = self.shown(&next);
            let dir = self.open_real(&real).at("open", &self.shown(&real))?;
            let os_name = OsStr::from_bytes(&name);
            match lstat(dir.as_fd(), os_name).at("stat", &shown)? {
                Some(meta) if meta.is_dir() => real = next,
                Some(meta) if meta.kind == Kind::Symlink => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(
                            PathError { action: "follow", path: shown, source: Errno::LOOP.into() }.into()
                        );
                    }
                    let target = rustix::fs::readlinkat(&dir, os_name, Vec::new()).at("read link", &shown)?;
                    if target.as_bytes().starts_with(b"/") {
                        real.clear();
                    }
                    waiting.extend(components(target.as_bytes()).rev().map(<[u8]>::to_vec));
                }
                there if there.is_none_or(|meta| meta.is_whiteout()) => {
                    self.remove(dir.as_fd(), os_name, there, &next)?;
                    self.make_implied(&dir, os_name, there.is_some()).at("create", &shown)?;
                    self.dirs.insert(next.clone(), DirMeta { mode: 0o755, mtime: None });
                    real = next;
                }
                _ => {
                    return Err(
                        PathError { action: "enter", path: shown, source: Errno::NOTDIR.into() }.into()
                    );
                }
            }
        }
        Ok(real)
    }

    /// Makes a directory that has no entry of its own.
    fn make_implied(&self, dir: &OwnedFd, name: &OsStr, hides_below: bool) -> io::Result<()> {
        rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755))?;
        if hides_below {
            let fd = rustix::fs::openat(dir, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
            set_opaque(fd.as_fd())?;
        }
        Ok(())
    }

    /// Opens a directory by its real path.
    fn open_real(&self, real: &[u8]) -> rustix::io::Result<OwnedFd> {
        let path = if real.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(real) };
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.root, path, DIRECTORY, Mode::empty(), beneath)
    }

    /// Writes down whose a file should be where the disk cannot say.
    fn record_owner(&self, fd: BorrowedFd<'_>, entry: &Entry, path: &Path) -> Result<(), UnpackError> {
        let (Ok(uid), Ok(gid)) = (u32::try_from(entry.uid), u32::try_from(entry.gid)) else { return Ok(()) };
        if self.owners == Owners::Real || (uid, gid) == (0, 0) {
            return Ok(());
        }
        Ok(attributes::record_owner(fd, uid, gid).at("set attributes of", path)?)
    }

    /// Sets the owner when owners are kept.
    fn own(
        &self,
        entry: &Entry,
        path: &Path,
        set: impl FnOnce(Option<Uid>, Option<Gid>) -> rustix::io::Result<()>,
    ) -> Result<(), UnpackError> {
        if self.owners == Owners::Ours {
            return Ok(());
        }
        let unmapped = || UnpackError::Owner { path: path.to_owned(), uid: entry.uid, gid: entry.gid };
        // The largest number means "do not change" to the kernel.
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or_else(unmapped);
        let (uid, gid) = (Uid::from_raw(id(entry.uid)?), Gid::from_raw(id(entry.gid)?));
        match set(Some(uid), Some(gid)) {
            // What the kernel says of ids that the user namespace has no name for.
            Err(Errno::INVAL) => Err(unmapped()),
            result => Ok(result.at("set owner of", path)?),
        }
    }

    fn shown(&self, real: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(real))
    }
}

/// The parts of an entry's name that count, with `..` taken back as far as the root.
pub(crate) fn clean(name: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in components(name) {
        if part == b".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join(&b'/')
}

/// The cleaned directory and the last part of a name; `None` for the root.
pub(crate) fn split(name: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let clean = clean(name);
    if clean.is_empty() {
        return None;
    }
    Some(match clean.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (clean[..slash].to_vec(), clean[slash + 1..].to_vec()),
        None => (Vec::new(), clean),
    })
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

fn lstat(dir: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<Option<Meta>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Meta::from(stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn set_opaque(dir: BorrowedFd<'_>) -> rustix::io::Result<()> {
    rustix::fs::fsetxattr(dir, OPAQUE, b"y", XattrFlags::empty())
}

/// Sets the attributes that mean something in an image: capabilities, and those of users. overlayfs keeps its own
/// among the latter, and a layer must not be able to give it orders.
fn set_xattrs(fd: BorrowedFd<'_>, entry: &Entry) -> rustix::io::Result<()> {
    for (name, value) in &entry.xattrs {
        let of_user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
        if !of_user && name != b"security.capability" {
            continue;
        }
        match rustix::fs::fsetxattr(fd, OsStr::from_bytes(name), value, XattrFlags::empty()) {
            // A file system without them, or a namespace that may not give capabilities: the file still works.
            Err(Errno::NOTSUP | Errno::PERM) => (),
            result => result?,
        }
    }
    Ok(())
}

fn times(seconds: i64, nanos: u32) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}
