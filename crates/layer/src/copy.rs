//! Copies of trees: the work copy of the user's app, and cached layers where no overlay can be mounted.
//!
//! Data is shared with the original where the file system can (reflink), else copied in the kernel, by several threads.
//! Nothing links the copy to the original: hard links become files of their own, symlinks stay as they are written and
//! are never followed. Sockets and devices are left out. Not here: what is copied; a callback says so.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, SeekFrom, Timespec, Timestamps, Uid,
};
use rustix::io::Errno;

use crate::error::{At, PathError};
use crate::meta::{Kind, Meta};
use crate::pack::Owner;
use crate::root::{DIRECTORY, Root};
use crate::walk::Walk;

/// Whether an entry of a tree counts: its path below the tree, and whether it is a directory. A directory that does
/// not is not entered.
pub type Keep<'a> = dyn Fn(&Path, bool) -> bool + Sync + 'a;

/// How a tree is copied.
pub struct CopyOptions<'a> {
    /// Who owns the copy.
    pub owner: Owner,
    /// Threads that copy.
    pub workers: usize,
    /// Whether an entry is copied.
    pub keep: &'a Keep<'a>,
}

impl std::fmt::Debug for CopyOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyOptions")
            .field("owner", &self.owner)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

impl Default for CopyOptions<'_> {
    /// The owners of the original, a worker for each processor, everything kept.
    fn default() -> Self {
        Self {
            owner: Owner::AsOnDisk,
            workers: thread::available_parallelism().map_or(1, usize::from),
            keep: &|_, _| true,
        }
    }
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Entries of every sort, without the tree's own directory.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Sockets and devices that were left out.
    pub skipped: u64,
}

/// Copies the tree at `from` to `to`, a directory that is made, or is there and has none of the entries yet. Modes and
/// modification times are kept.
pub fn copy_tree(from: &Path, to: &Path, options: &CopyOptions<'_>) -> Result<Copied, PathError> {
    copy(Walk::new(from)?, to, options)
}

/// The same for a tree in a directory that is open already: whatever its path leads to now, that directory is copied.
pub fn copy_root(from: &Root, to: &Path, options: &CopyOptions<'_>) -> Result<Copied, PathError> {
    let fd = from.as_fd().try_clone_to_owned().at("open", from.path())?;
    copy(Walk::of(fd, from.path())?, to, options)
}

fn copy((walk, meta): (Walk, Meta), to: &Path, options: &CopyOptions<'_>) -> Result<Copied, PathError> {
    match rustix::fs::mkdir(to, Mode::from_raw_mode(0o700)) {
        Err(Errno::EXIST) => (),
        result => result.at("create", to)?,
    }
    let root = rustix::fs::openat(CWD, to, DIRECTORY, Mode::empty()).at("open", to)?;
    let workers = options.workers.max(1);
    let (jobs, work) = bounded(4 * workers);
    let (failed, failures) = bounded(1);
    let shared = Shared { reflink: AtomicBool::new(true), bytes: AtomicU64::new(0), owner: options.owner };
    let mut copier = Copier {
        walk,
        to,
        root: &root,
        options,
        current: None,
        dirs: vec![(PathBuf::new(), meta)],
        copied: Copied::default(),
    };
    thread::scope(|scope| {
        for _ in 0..workers {
            let (work, failed, shared) = (work.clone(), failed.clone(), &shared);
            scope.spawn(move || copy_files(&work, &failed, shared));
        }
        // The workers have their own ends; this one would keep them from ending.
        drop(work);
        copier.copy(jobs)
    })?;
    if let Ok(error) = failures.try_recv() {
        return Err(error);
    }
    copier.finish_dirs()?;
    Ok(Copied { bytes: shared.bytes.into_inner(), ..copier.copied })
}

/// What the workers share.
struct Shared {
    /// Until the file system says it cannot.
    reflink: AtomicBool,
    bytes: AtomicU64,
    owner: Owner,
}

/// A file to be copied.
struct Job {
    from: File,
    meta: Meta,
    dir: Arc<OwnedFd>,
    /// The copy's path, of which the last part is its name in `dir`.
    path: PathBuf,
}

/// The thread that walks, and makes all that is not a file.
struct Copier<'a> {
    walk: Walk,
    to: &'a Path,
    root: &'a OwnedFd,
    options: &'a CopyOptions<'a>,
    /// The directory that the last entry went to, by its path below the root.
    current: Option<(PathBuf, Arc<OwnedFd>)>,
    /// All directories: their modes and times are set when nothing more is written into them.
    dirs: Vec<(PathBuf, Meta)>,
    copied: Copied,
}

impl Copier<'_> {
    fn copy(&mut self, jobs: Sender<Job>) -> Result<(), PathError> {
        while let Some(kind) = self.walk.next()? {
            if !(self.options.keep)(self.walk.path(), kind == Kind::Dir) {
                self.walk.skip();
                continue;
            }
            let dir = self.dir()?;
            let path = self.to.join(self.walk.path());
            self.copied.entries += 1;
            if kind == Kind::File {
                let (from, meta) = self.walk.open()?;
                if jobs.send(Job { from, meta, dir, path }).is_err() {
                    // No worker is left: one of them has said why.
                    return Ok(());
                }
                continue;
            }
            let meta = self.walk.stat()?;
            self.special(&dir, &path, meta)?;
        }
        Ok(())
    }

    /// Makes an entry that has no content.
    fn special(&mut self, dir: &OwnedFd, path: &Path, meta: Meta) -> Result<(), PathError> {
        let name = self.walk.name();
        match meta.kind {
            Kind::Dir => {
                match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700)) {
                    Err(Errno::EXIST) if self.exists_as_dir(dir) => (),
                    result => result.at("create", path)?,
                }
                self.dirs.push((self.walk.path().to_owned(), meta));
                return Ok(());
            }
            Kind::Symlink => {
                let target = OsString::from_vec(self.walk.read_link()?);
                rustix::fs::symlinkat(target, dir, name).at("create", path)?;
            }
            Kind::Fifo => {
                rustix::fs::mknodat(dir, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
                    .at("create", path)?;
                rustix::fs::chmodat(dir, name, Mode::from_raw_mode(meta.mode), AtFlags::empty())
                    .at("set mode of", path)?;
            }
            Kind::Socket | Kind::CharDevice | Kind::BlockDevice | Kind::File => {
                self.copied.entries -= 1;
                self.copied.skipped += 1;
                return Ok(());
            }
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let (uid, gid) = owner(self.options.owner, &meta);
        rustix::fs::chownat(dir, name, uid, gid, flags).at("set owner of", path)?;
        rustix::fs::utimensat(dir, name, &times(&meta), flags).at("set times of", path)
    }

    fn exists_as_dir(&self, dir: &OwnedFd) -> bool {
        rustix::fs::statat(dir, self.walk.name(), AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| Meta::from(stat).is_dir())
    }

    /// The copy of the directory that the current entry is in.
    fn dir(&mut self) -> Result<Arc<OwnedFd>, PathError> {
        let parent = self.walk.path().parent().unwrap_or(Path::new(""));
        if let Some((path, fd)) = &self.current
            && path == parent
        {
            return Ok(Arc::clone(fd));
        }
        let fd = Arc::new(self.open_dir(parent)?);
        self.current = Some((parent.to_owned(), Arc::clone(&fd)));
        Ok(fd)
    }

    fn open_dir(&self, path: &Path) -> Result<OwnedFd, PathError> {
        let relative = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(self.root, relative, DIRECTORY, Mode::empty(), beneath)
            .at("open", &self.to.join(path))
    }

    /// Gives the directories their owners, modes and times, the deepest first.
    fn finish_dirs(&mut self) -> Result<(), PathError> {
        for (relative, meta) in std::mem::take(&mut self.dirs).into_iter().rev() {
            let fd = self.open_dir(&relative)?;
            let path = self.to.join(&relative);
            let (uid, gid) = owner(self.options.owner, &meta);
            rustix::fs::fchown(&fd, uid, gid).at("set owner of", &path)?;
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(meta.mode)).at("set mode of", &path)?;
            rustix::fs::futimens(&fd, &times(&meta)).at("set times of", &path)?;
        }
        Ok(())
    }
}

/// A worker: ends with the jobs, or with the first failure.
fn copy_files(work: &Receiver<Job>, failed: &Sender<PathError>, shared: &Shared) {
    for job in work {
        if let Err(error) = copy_file(&job, shared) {
            // One failure is enough to tell.
            let _ = failed.try_send(error);
            return;
        }
    }
}

fn copy_file(job: &Job, shared: &Shared) -> Result<(), PathError> {
    let path = &job.path;
    let name = path.file_name().unwrap_or_default();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to = rustix::fs::openat(&*job.dir, name, flags, Mode::from_raw_mode(0o600)).at("create", path)?;
    let to = File::from(to);
    let bytes = copy_content(&job.from, &to, &shared.reflink).at("write", path)?;
    shared.bytes.fetch_add(bytes, Ordering::Relaxed);
    let (uid, gid) = owner(shared.owner, &job.meta);
    rustix::fs::fchown(&to, uid, gid).at("set owner of", path)?;
    // After the owner, which takes setuid bits away.
    rustix::fs::fchmod(&to, Mode::from_raw_mode(job.meta.mode)).at("set mode of", path)?;
    rustix::fs::futimens(&to, &times(&job.meta)).at("set times of", path)
}

/// Copies all of one file into another, an empty one. Holes stay holes where the file system tells where they are.
fn copy_content(from: &File, to: &File, reflink: &AtomicBool) -> io::Result<u64> {
    let stat = rustix::fs::fstat(from)?;
    let size = Meta::from(stat).size;
    if size == 0 {
        return Ok(0);
    }
    if reflink.load(Ordering::Relaxed) {
        match rustix::fs::ioctl_ficlone(to, from) {
            Ok(()) => return Ok(size),
            // Not this file system, not between these two, or not as this user: and so for the next file.
            Err(Errno::NOTSUP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::PERM | Errno::NOSYS) => {
                reflink.store(false, Ordering::Relaxed);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    #[allow(clippy::unnecessary_cast)] // the width differs between architectures
    let allocated = stat.st_blocks as u64 * 512;
    if allocated < size {
        copy_data(from, to, size)?;
        to.set_len(size)?;
    } else {
        copy_range(from, to, 0, size)?;
    }
    Ok(size)
}

/// Copies what is not holes.
fn copy_data(from: &File, to: &File, size: u64) -> io::Result<()> {
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            // The rest is a hole.
            Err(Errno::NXIO) => return Ok(()),
            Err(Errno::INVAL) => at,
            Err(errno) => return Err(errno.into()),
        };
        let hole = rustix::fs::seek(from, SeekFrom::Hole(data)).unwrap_or(size);
        copy_range(from, to, data, hole)?;
        at = hole;
    }
    Ok(())
}

/// Copies the bytes from `start` to `end`, or to the end of the file.
fn copy_range(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    let (mut read, mut written) = (start, start);
    while read < end {
        let length = usize::try_from(end - read).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), length) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => (),
            Err(Errno::XDEV | Errno::NOSYS | Errno::NOTSUP | Errno::INVAL | Errno::PERM) => {
                return copy_by_hand(from, to, read, end);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// What `copy_file_range` does, for kernels and file systems that cannot.
fn copy_by_hand(mut from: &File, mut to: &File, start: u64, end: u64) -> io::Result<()> {
    rustix::fs::seek(from, SeekFrom::Start(start))?;
    rustix::fs::seek(to, SeekFrom::Start(start))?;
    let mut buffer = vec![0; 256 << 10];
    let mut left = end - start;
    while left > 0 {
        let limit = left.min(buffer.len() as u64) as usize;
        let length = from.read(&mut buffer[..limit])?;
        if length == 0 {
            break;
        }
        to.write_all(&buffer[..length])?;
        left -= length as u64;
    }
    Ok(())
}

fn owner(owner: Owner, meta: &Meta) -> (Option<Uid>, Option<Gid>) {
    let (uid, gid) = owner.of(meta.uid, meta.gid);
    (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

pub(crate) fn times(meta: &Meta) -> Timestamps {
    let time = Timespec { tv_sec: meta.mtime, tv_nsec: meta.mtime_nsec.into() };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn sample() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join("from").join(name);
        fs_err::create_dir_all(at("src/deep")).unwrap();
        fs_err::create_dir_all(at(".git/objects")).unwrap();
        fs_err::write(at("src/deep/main.rs"), "fn main() {}").unwrap();
        fs_err::write(at(".git/objects/x"), "x").unwrap();
        fs_err::write(at("empty"), "").unwrap();
        fs_err::write(at("run"), "#!/bin/sh\n").unwrap();
        fs_err::hard_link(at("run"), at("run2")).unwrap();
        symlink("/etc/passwd", at("link")).unwrap();
        symlink("src", at("dirlink")).unwrap();
        drop(UnixListener::bind(at("socket")).unwrap());
        rustix::fs::mkfifoat(CWD, at("pipe"), Mode::from_raw_mode(0o620)).unwrap();
        fs_err::set_permissions(at("run"), PermissionsExt::from_mode(0o4751)).unwrap();
        fs_err::set_permissions(at("src/deep"), PermissionsExt::from_mode(0o711)).unwrap();
        let sparse = File::from(fs_err::File::create(at("sparse")).unwrap());
        sparse.set_len(20 << 20).unwrap();
        sparse.write_all_at(b"middle", 10 << 20).unwrap();
        for name in ["src/deep/main.rs", "src/deep", "run", "pipe", "dirlink", ""] {
            let old = Timespec { tv_sec: 1_000_000_000, tv_nsec: 5 };
            let times = Timestamps { last_access: old, last_modification: old };
            rustix::fs::utimensat(CWD, at(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
        dir
    }

    #[test]
    fn a_copy_is_the_same_and_shares_nothing() {
        let dir = sample();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let options = CopyOptions { workers: 3, ..CopyOptions::default() };
        let copied = copy_tree(&from, &to, &options).unwrap();
        assert_eq!((copied.entries, copied.skipped), (13, 1));
        let (mut walk, _) = Walk::new(&from).unwrap();
        while walk.next().unwrap().is_some() {
            let (original, copy) = (from.join(walk.path()), to.join(walk.path()));
            let meta = fs_err::symlink_metadata(&original).unwrap();
            if meta.file_type().is_socket() {
                assert!(!copy.exists());
                continue;
            }
            let new = fs_err::symlink_metadata(&copy).unwrap();
            assert_eq!((new.mode(), new.uid(), new.gid()), (meta.mode(), meta.uid(), meta.gid()), "{copy:?}");
            assert_eq!((new.mtime(), new.mtime_nsec()), (meta.mtime(), meta.mtime_nsec()), "{copy:?}");
            if meta.is_file() {
                assert!(fs_err::read(&original).unwrap() == fs_err::read(&copy).unwrap());
                assert_eq!(new.nlink(), 1);
                assert!(new.blocks() <= meta.blocks() + 16, "holes are kept: {copy:?}");
            }
        }
        assert_eq!(fs_err::read_link(to.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(fs_err::metadata(&to).unwrap().mtime(), 1_000_000_000);
    }

    #[test]
    fn what_is_not_kept_is_not_entered() {
        let dir = sample();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let keep = |path: &Path, is_dir: bool| {
            assert!(!path.starts_with(".git") || path == Path::new(".git"));
            !(is_dir && path == Path::new(".git")) && path != Path::new("run2")
        };
        copy_tree(&from, &to, &CopyOptions { keep: &keep, ..CopyOptions::default() }).unwrap();
        assert!(!to.join(".git").exists() && !to.join("run2").exists());
        assert!(to.join("run").exists());
    }

    #[test]
    fn the_owner_is_set() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = sample();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let options = CopyOptions { owner: Owner::Ids { uid: 12, gid: 34 }, ..CopyOptions::default() };
        copy_tree(&from, &to, &options).unwrap();
        for name in ["", "src/deep", "run", "link", "pipe"] {
            let meta = fs_err::symlink_metadata(to.join(name)).unwrap();
            assert_eq!((meta.uid(), meta.gid()), (12, 34), "{name}");
        }
        assert_eq!(fs_err::metadata(to.join("run")).unwrap().mode() & 0o7777, 0o4751);
    }

    #[test]
    fn failures_name_the_file() {
        let dir = sample();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs_err::create_dir(&to).unwrap();
        fs_err::write(to.join("run"), "in the way").unwrap();
        let error = copy_tree(&from, &to, &CopyOptions::default()).unwrap_err();
        assert_eq!((error.action, error.path.as_path()), ("create", to.join("run").as_path()));
        assert!(
            copy_tree(&dir.path().join("none"), &to, &CopyOptions::default()).unwrap_err().is_not_found()
        );
    }

    #[test]
    fn copying_by_hand_gives_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..700_000u32).map(|n| n as u8).collect();
        fs_err::write(dir.path().join("a"), &content).unwrap();
        let from = File::from(fs_err::File::open(dir.path().join("a")).unwrap());
        let to = File::from(fs_err::File::create(dir.path().join("b")).unwrap());
        copy_by_hand(&from, &to, 0, 300_000).unwrap();
        copy_by_hand(&from, &to, 300_000, 700_000).unwrap();
        assert!(fs_err::read(dir.path().join("b")).unwrap() == content);
    }
}
