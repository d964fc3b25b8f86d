//! Walking a tree: parents first, the names of each directory sorted by their bytes.
//!
//! Every step is relative to the open parent directory and follows no symlink, so a tree that changes meanwhile
//! cannot lead the walk elsewhere. Depth is bounded by memory, not by open files. Not here: what is done with entries.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use crate::error::{At, PathError};
use crate::meta::{Kind, Meta};
use crate::root::{DIRECTORY, Entry, PEEK, entries, stat};

/// Directories kept open below the current one; those above are opened again on the way back.
const OPEN_DIRS: usize = 64;

/// A walk in progress. After each [`Walk::next`], the other methods speak of that entry.
pub(crate) struct Walk {
    root: PathBuf,
    stack: Vec<Frame>,
    /// The current entry's path below the root.
    path: Vec<u8>,
    current: Option<Entry>,
    descend: bool,
}

struct Frame {
    fd: Option<OwnedFd>,
    /// Device and inode, to know it again.
    id: (u64, u64),
    entries: std::vec::IntoIter<Entry>,
    path_len: usize,
}

impl Walk {
    /// Begins at the directory `root`, which is not itself an entry. A symlink there is not followed.
    pub(crate) fn new(root: &Path) -> Result<(Self, Meta), PathError> {
        let fd =
            rustix::fs::openat(CWD, root, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()).at("open", root)?;
        Self::of(fd, root)
    }

    /// Begins at an open directory, which `root` is the path of, for messages.
    pub(crate) fn of(fd: OwnedFd, root: &Path) -> Result<(Self, Meta), PathError> {
        let meta = stat(fd.as_fd()).at("stat", root)?;
        let mut walk = Self {
            root: root.to_owned(),
            stack: Vec::new(),
            path: Vec::new(),
            current: None,
            descend: false,
        };
        walk.push(fd, meta)?;
        Ok((walk, meta))
    }

    /// Goes to the next entry and says what the directory called it; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Kind>, PathError> {
        if self.descend {
            self.descend = false;
            self.enter()?;
        }
        loop {
            let Some(frame) = self.stack.last_mut() else {
                self.current = None;
                return Ok(None);
            };
            self.path.truncate(frame.path_len);
            if let Some(entry) = frame.entries.next() {
                if !self.path.is_empty() {
                    self.path.push(b'/');
                }
                self.path.extend_from_slice(entry.name.as_bytes());
                self.descend = entry.kind == Kind::Dir;
                let kind = entry.kind;
                self.current = Some(entry);
                return Ok(Some(kind));
            }
            self.leave()?;
        }
    }

    /// Does not go into the current directory.
    pub(crate) fn skip(&mut self) {
        self.descend = false;
    }

    /// The current entry's path below the root, without a leading slash.
    pub(crate) fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }

    /// The directory where it began.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The current entry's path on disk: for messages.
    pub(crate) fn full_path(&self) -> PathBuf {
        self.root.join(self.path())
    }

    /// The directory the current entry is in.
    pub(crate) fn parent(&self) -> BorrowedFd<'_> {
        let frame = self.stack.last().expect("a current entry has a parent on the stack");
        frame.fd.as_ref().expect("the last directory of the stack is open").as_fd()
    }

    /// The current entry's own name.
    pub(crate) fn name(&self) -> &OsStr {
        &self.current.as_ref().expect("called between entries").name
    }

    /// The status of the current entry; symlinks are not followed.
    pub(crate) fn stat(&self) -> Result<Meta, PathError> {
        rustix::fs::statat(self.parent(), self.name(), AtFlags::SYMLINK_NOFOLLOW)
            .map(Meta::from)
            .map_err(io::Error::from)
            .map_err(|source| PathError { action: "stat", path: self.full_path(), source })
    }

    /// Opens the current entry, a regular file, for reading.
    pub(crate) fn open(&self) -> Result<(File, Meta), PathError> {
        open_regular(self.parent(), self.name()).map_err(|source| PathError {
            action: "open",
            path: self.full_path(),
            source,
        })
    }

    /// The target of the current entry, a symlink, as it is written.
    pub(crate) fn read_link(&self) -> Result<Vec<u8>, PathError> {
        match rustix::fs::readlinkat(self.parent(), self.name(), Vec::new()) {
            Ok(target) => Ok(target.into_bytes()),
            Err(errno) => {
                Err(PathError { action: "read link", path: self.full_path(), source: errno.into() })
            }
        }
    }

    /// Goes into the current directory.
    fn enter(&mut self) -> Result<(), PathError> {
        let fd = rustix::fs::openat(self.parent(), self.name(), DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
            .map_err(|errno| PathError { action: "open", path: self.full_path(), source: errno.into() })?;
        let meta = stat(fd.as_fd()).at("stat", &self.full_path())?;
        self.push(fd, meta)
    }

    fn push(&mut self, fd: OwnedFd, meta: Meta) -> Result<(), PathError> {
        let entries = entries(fd.as_fd()).at("read directory", &self.full_path())?.into_iter();
        self.stack.push(Frame { fd: Some(fd), id: (meta.dev, meta.ino), entries, path_len: self.path.len() });
        if let Some(far) = self.stack.len().checked_sub(OPEN_DIRS + 1) {
            // The root stays open: it is where nothing can have been moved from.
            if far > 0 {
                self.stack[far].fd = None;
            }
        }
        Ok(())
    }

    /// Goes back to the directory above, which may have to be opened again.
    fn leave(&mut self) -> Result<(), PathError> {
        let left = self.stack.pop();
        if let (Some(left), Some(above)) = (left, self.stack.last_mut())
            && above.fd.is_none()
        {
            let path = self.root.join(OsStr::from_bytes(&self.path[..above.path_len]));
            let below = left.fd.expect("the last directory of the stack is open");
            let fd = rustix::fs::openat(&below, "..", DIRECTORY, Mode::empty()).at("open", &path)?;
            let meta = stat(fd.as_fd()).at("stat", &path)?;
            if (meta.dev, meta.ino) != above.id {
                let source = io::Error::other("a folder was moved while it was read");
                return Err(PathError { action: "open", path, source });
            }
            above.fd = Some(fd);
        }
        Ok(())
    }
}

/// Opens the regular file `name` in `dir` for reading, following nothing and waiting for nothing.
pub(crate) fn open_regular(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<(File, Meta)> {
    let fd = rustix::fs::openat(dir, name, PEEK | OFlags::NOFOLLOW, Mode::empty())?;
    let meta = stat(fd.as_fd())?;
    if meta.kind != Kind::File {
        return Err(io::Error::other("not a regular file any more"));
    }
    Ok((File::from(fd), meta))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(root: &Path) -> Vec<String> {
        let (mut walk, meta) = Walk::new(root).unwrap();
        assert!(meta.is_dir());
        let mut paths = Vec::new();
        while let Some(kind) = walk.next().unwrap() {
            assert_eq!(walk.stat().unwrap().kind, kind);
            paths.push(walk.path().to_str().unwrap().to_owned());
        }
        paths
    }

    #[test]
    fn sorts_by_name_in_each_directory() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a/b", "a/z", "a.txt", "a-b", "B", ".h", "a0/x"] {
            let path = dir.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, "").unwrap();
        }
        assert_eq!(paths(dir.path()), [".h", "B", "a", "a/b", "a/z", "a-b", "a.txt", "a0", "a0/x"]);
    }

    #[test]
    fn goes_deeper_than_files_may_be_open() {
        let dir = tempfile::tempdir().unwrap();
        let mut path = dir.path().to_owned();
        for _ in 0..300 {
            path.push("d");
            fs_err::create_dir(&path).unwrap();
            fs_err::write(path.join("f"), "").unwrap();
        }
        let found = paths(dir.path());
        assert_eq!(found.len(), 600);
        assert_eq!(found.last().unwrap(), "d/f");
    }

    #[test]
    fn skips_what_it_is_told() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(dir.path().join("a/b")).unwrap();
        fs_err::create_dir_all(dir.path().join("c")).unwrap();
        let (mut walk, _) = Walk::new(dir.path()).unwrap();
        walk.next().unwrap();
        walk.skip();
        walk.next().unwrap();
        assert_eq!(walk.path(), Path::new("c"));
        assert_eq!(walk.next().unwrap(), None);
    }
}
