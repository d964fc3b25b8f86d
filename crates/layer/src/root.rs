//! Reading beneath a directory whose content nobody vouches for: an image's root file system, an unpacked archive.
//!
//! Every path is resolved by the kernel as if the directory were `/` (openat2 with `RESOLVE_IN_ROOT`): an absolute
//! symlink or a `..` leads back into the tree, never out of it. In a folder that is no root file system (an app, a
//! buildpack, an OCI layout) such links mean the machine's files: there they are refused ([`Root::beneath`]). Nothing
//! opened here can block: pipes and devices are refused. Not here: files that a person names ([`crate::named`]);
//! writing.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{At, PathError};
use crate::meta::{Kind, Meta};
use crate::refused::Refused;

/// A directory beneath which hostile paths are resolved.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    path: PathBuf,
    links: ResolveFlags,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, without a path.
    pub name: OsString,
    /// What it is; a symlink is a symlink, whatever it leads to.
    pub kind: Kind,
}

impl Root {
    /// Opens the directory at `path`, which is trusted: symlinks in it are followed as usual. Links beneath it are
    /// resolved as if it were `/`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PathError> {
        Self::with_links(path.as_ref(), ResolveFlags::IN_ROOT)
    }

    /// As [`Root::open`], but a link beneath it that leads out, as every absolute one does, is an error
    /// ([`Refused::LeadsOut`]).
    pub fn beneath(path: impl AsRef<Path>) -> Result<Self, PathError> {
        Self::with_links(path.as_ref(), ResolveFlags::BENEATH)
    }

    fn with_links(path: &Path, links: ResolveFlags) -> Result<Self, PathError> {
        let fd = rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty()).at("open", path)?;
        Ok(Self { fd, path: path.to_owned(), links })
    }

    /// Where the directory was when it was opened: for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory `path` as a root of its own: `..` and absolute symlinks do not leave it any more.
    pub fn subdir(&self, path: impl AsRef<Path>) -> Result<Self, PathError> {
        let path = path.as_ref();
        let fd = self.resolve(path, DIRECTORY).at("open", &self.shown(path))?;
        Ok(Self { fd, path: self.shown(path), links: self.links })
    }

    /// Opens a regular file for reading. Directories, pipes, sockets and devices are errors.
    pub fn open_file(&self, path: impl AsRef<Path>) -> Result<File, PathError> {
        let path = path.as_ref();
        self.open_regular(path).map(|(file, _)| file).at("open", &self.shown(path))
    }

    /// The content of a regular file of at most `limit` bytes; a longer one is an error.
    pub fn read(&self, path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>, PathError> {
        let path = path.as_ref();
        self.read_limited(path, limit).at("read", &self.shown(path))
    }

    /// [`Root::read`] of a file that must be UTF-8.
    pub fn read_to_string(&self, path: impl AsRef<Path>, limit: u64) -> Result<String, PathError> {
        let path = path.as_ref();
        self.read_limited(path, limit).and_then(text).at("read", &self.shown(path))
    }

    /// The names in a directory, sorted by their bytes, without `.` and `..`.
    pub fn read_dir(&self, path: impl AsRef<Path>) -> Result<Vec<Entry>, PathError> {
        let path = path.as_ref();
        self.resolve(path, DIRECTORY)
            .and_then(|fd| entries(fd.as_fd()))
            .at("read directory", &self.shown(path))
    }

    /// The status of what `path` leads to, symlinks followed.
    pub fn stat(&self, path: impl AsRef<Path>) -> Result<Meta, PathError> {
        let path = path.as_ref();
        self.resolve(path, OFlags::PATH).and_then(|fd| stat(fd.as_fd())).at("stat", &self.shown(path))
    }

    /// The status of the entry itself: a symlink at the end of `path` is not followed.
    pub fn lstat(&self, path: impl AsRef<Path>) -> Result<Meta, PathError> {
        let path = path.as_ref();
        self.resolve(path, OFlags::PATH | OFlags::NOFOLLOW)
            .and_then(|fd| stat(fd.as_fd()))
            .at("stat", &self.shown(path))
    }

    /// True when `path` leads to something. What cannot be looked at counts as absent.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.stat(path).is_ok()
    }

    /// True when `path` leads to a directory.
    pub fn is_dir(&self, path: impl AsRef<Path>) -> bool {
        self.stat(path).is_ok_and(|meta| meta.is_dir())
    }

    /// True when `path` leads to a regular file.
    pub fn is_file(&self, path: impl AsRef<Path>) -> bool {
        self.stat(path).is_ok_and(|meta| meta.is_file())
    }

    /// True when `path` leads to a regular file with an execute bit.
    pub fn is_executable(&self, path: impl AsRef<Path>) -> bool {
        self.stat(path).is_ok_and(|meta| meta.is_executable())
    }

    /// The target of the symlink at `path`, as it is written: it may lead anywhere.
    pub fn read_link(&self, path: impl AsRef<Path>) -> Result<PathBuf, PathError> {
        let path = path.as_ref();
        self.resolve(path, OFlags::PATH | OFlags::NOFOLLOW)
            .and_then(|fd| Ok(rustix::fs::readlinkat(&fd, "", Vec::new())?))
            .map(|target| PathBuf::from(OsString::from_vec(target.into_bytes())))
            .at("read link", &self.shown(path))
    }

    fn read_limited(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let (file, meta) = self.open_regular(path)?;
        read_at_most(file, &meta, limit)
    }

    fn open_regular(&self, path: &Path) -> io::Result<(File, Meta)> {
        let fd = self.resolve(path, PEEK)?;
        let meta = stat(fd.as_fd())?;
        match meta.kind {
            Kind::File => Ok((File::from(fd), meta)),
            kind => Err(Refused::Kind(kind).into()),
        }
    }

    /// Opens `path` beneath the root with `flags`.
    fn resolve(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        match resolve(self.fd.as_fd(), path, flags, self.links) {
            Err(error) if error.raw_os_error() == Some(Errno::XDEV.raw_os_error()) => {
                Err(Refused::LeadsOut(self.path.clone()).into())
            }
            // A socket cannot even be opened, nor can a device that is not there.
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
                let found = resolve(self.fd.as_fd(), path, OFlags::PATH, self.links)?;
                Err(Refused::Kind(stat(found.as_fd())?.kind).into())
            }
            result => result,
        }
    }

    /// How messages name `path`: the root's own path and what is beneath it.
    fn shown(&self, path: &Path) -> PathBuf {
        let beneath =
            path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
        self.path.components().chain(beneath).collect()
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub(crate) const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// How a file of somebody else's is opened: opening a pipe waits for a writer, opening a device may do anything. So
/// nothing is waited for, and the caller looks at what it is before it reads.
pub(crate) const PEEK: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Bytes that must be UTF-8. The error does not have them in it: they may be secret.
pub(crate) fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

/// All of a file, of at most `limit` bytes.
pub(crate) fn read_at_most(file: File, meta: &Meta, limit: u64) -> io::Result<Vec<u8>> {
    // One byte more than allowed tells a file that grew, or lies about its size as those of /proc do.
    // The size of a sparse file costs nothing to claim, so it is not believed beyond a point.
    let mut bytes = Vec::with_capacity(meta.size.min(limit).min(1 << 20) as usize + 1);
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(Refused::TooLarge(limit).into()) } else { Ok(bytes) }
}

/// Opens `path` beneath `dir`; `links` says what becomes of links that lead out.
pub(crate) fn resolve(
    dir: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    links: ResolveFlags,
) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let how = links | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            // Something was renamed while the kernel followed `..`: it asks to be asked again.
            Err(Errno::AGAIN) if tries < 100 => tries += 1,
            Err(Errno::INTR) => (),
            result => return Ok(result?),
        }
    }
}

/// The status of an open file.
pub(crate) fn stat(fd: BorrowedFd<'_>) -> io::Result<Meta> {
    Ok(Meta::from(rustix::fs::fstat(fd)?))
}

/// The sorted names in an open directory.
pub(crate) fn entries(dir: BorrowedFd<'_>) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let kind = match Kind::of(entry.file_type()) {
            Some(kind) => kind,
            // Some file systems do not say.
            None => {
                let stat = rustix::fs::statat(dir, entry.file_name(), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
                Meta::from(stat).kind
            }
        };
        entries.push(Entry { name: OsStr::from_bytes(name).to_owned(), kind });
    }
    entries.sort_unstable_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn tree() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join("root").join(name);
        fs_err::create_dir_all(at("etc")).unwrap();
        fs_err::create_dir_all(at("bin")).unwrap();
        fs_err::write(at("etc/passwd"), "root:x:0:0\n").unwrap();
        fs_err::write(at("bin/run"), "#!/bin/sh\n").unwrap();
        fs_err::set_permissions(at("bin/run"), PermissionsExt::from_mode(0o755)).unwrap();
        fs_err::write(dir.path().join("secret"), "secret").unwrap();
        symlink("/etc/passwd", at("absolute")).unwrap();
        symlink("../../../../secret", at("climb")).unwrap();
        symlink("../../../../etc", at("etc/up")).unwrap();
        symlink("loop", at("loop")).unwrap();
        rustix::fs::mkfifoat(CWD, at("pipe"), Mode::from_raw_mode(0o644)).unwrap();
        let root = Root::open(dir.path().join("root")).unwrap();
        (dir, root)
    }

    #[test]
    fn paths_and_links_stay_beneath() {
        let (_dir, root) = tree();
        for path in ["etc/passwd", "/etc/passwd", "absolute", "../../etc/passwd", "etc/up/passwd"] {
            assert_eq!(root.read_to_string(path, 100).unwrap(), "root:x:0:0\n", "{path}");
        }
        for path in ["climb", "../secret", "/../secret", "loop"] {
            assert!(root.read(path, 100).is_err(), "{path}");
            assert!(!root.exists(path), "{path}");
        }
        let etc = root.subdir("etc").unwrap();
        assert!(etc.exists("../passwd"));
        assert!(!etc.exists("../bin"));
    }

    #[test]
    fn reads_are_bounded_and_never_block() {
        let (_dir, root) = tree();
        assert_eq!(root.read("etc/passwd", 11).unwrap().len(), 11);
        let error = root.read("etc/passwd", 10).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::FileTooLarge);
        assert!(root.read("pipe", 10).is_err());
        assert!(root.open_file("bin").is_err());
        let error = root.read("none", 10).unwrap_err();
        assert!(error.is_not_found());
        assert!(error.to_string().ends_with("/root/none`"), "{error}");
    }

    #[test]
    fn links_that_lead_out_are_refused_beneath_a_folder() {
        let (dir, _) = tree();
        let at = |name: &str| dir.path().join("root").join(name);
        symlink("etc/passwd", at("inner")).unwrap();
        symlink("../root/etc/passwd", at("round")).unwrap();
        symlink("/proc/self/environ", at("environ")).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        symlink("/", at("all")).unwrap();
        let root = Root::beneath(dir.path().join("root")).unwrap();
        assert_eq!(root.read("inner", 100).unwrap(), b"root:x:0:0\n");
        let names =
            ["absolute", "climb", "round", "environ", "zero", "all/etc/passwd", "../secret", "/etc/passwd"];
        for name in names {
            let error = root.read(name, 100).unwrap_err();
            let told = error.source.to_string();
            assert!(told.starts_with("it leads out of `") && told.ends_with("/root`"), "{name}: {told}");
        }
        assert!(root.subdir("etc").unwrap().read("../bin/run", 100).is_err());
    }

    #[test]
    fn what_is_no_file_is_named() {
        let (dir, root) = tree();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("root/socket")).unwrap();
        for (name, kind) in [("pipe", "a FIFO"), ("socket", "a socket"), ("bin", "a directory")] {
            let error = root.read(name, 10).unwrap_err();
            assert_eq!(error.source.to_string(), format!("it is {kind}, expected a regular file"));
            assert!(matches!(Refused::of(&error.source), Some(Refused::Kind(_))));
        }
    }

    #[test]
    fn looks_at_entries() {
        let (_dir, root) = tree();
        let names: Vec<_> = root.read_dir("/").unwrap();
        assert_eq!(
            names.iter().map(|e| (e.name.to_str().unwrap(), e.kind)).collect::<Vec<_>>(),
            [
                ("absolute", Kind::Symlink),
                ("bin", Kind::Dir),
                ("climb", Kind::Symlink),
                ("etc", Kind::Dir),
                ("loop", Kind::Symlink),
                ("pipe", Kind::Fifo),
            ]
        );
        assert!(root.is_executable("bin/run") && !root.is_executable("etc/passwd"));
        assert!(!root.is_executable("bin"));
        assert_eq!(root.read_link("climb").unwrap(), Path::new("../../../../secret"));
        assert!(root.read_link("etc/passwd").is_err());
        assert_eq!(root.stat("absolute").unwrap().kind, Kind::File);
        assert_eq!(root.lstat("absolute").unwrap().kind, Kind::Symlink);
        assert!(root.is_dir("etc/up") && root.is_file("absolute"));
    }
}
