//! Paths beneath the sandbox's root, while it is not the root of this process yet.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::io::Errno;

/// How often a lookup is tried again that raced with a rename.
const RETRIES: usize = 16;

/// An open directory that is `/` for every path given to it.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Root {
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// What is at `path`, or `None`.
    pub(super) fn find(&self, path: &Path) -> io::Result<Option<OwnedFd>> {
        match self.open(path, OFlags::PATH) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The directory at `path`, which is created with its parents when it is missing.
    pub(super) fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        if let Some(found) = self.find(path)? {
            return Ok(found);
        }
        let mut parent = self.open(Path::new("/"), OFlags::PATH)?;
        let mut so_far = std::path::PathBuf::from("/");
        for component in path.components() {
            let Component::Normal(name) = component else {
                continue;
            };
            so_far.push(name);
            parent = match self.open(&so_far, OFlags::PATH | OFlags::DIRECTORY) {
                Err(Errno::NOENT) => {
                    match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                        // Another sandbox on the same root was quicker.
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    self.open(&so_far, OFlags::PATH | OFlags::DIRECTORY)?
                }
                opened => opened?,
            };
        }
        Ok(parent)
    }

    /// The file at `path`, which is created empty, with its parents, when it is missing.
    pub(super) fn file(&self, path: &Path) -> io::Result<OwnedFd> {
        if let Some(found) = self.find(path)? {
            return Ok(found);
        }
        if let Some(parent) = path.parent() {
            self.directory(parent)?;
        }
        // Through a dangling link too: what it points to is created, still beneath the root.
        self.open(path, OFlags::RDONLY | OFlags::CREATE)?;
        Ok(self.open(path, OFlags::PATH)?)
    }

    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o644) } else { Mode::empty() };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let open = || openat2(&self.0, path, flags | OFlags::CLOEXEC, mode, resolve);
        for _ in 0..RETRIES {
            match open() {
                Err(Errno::AGAIN | Errno::INTR) => {}
                done => return done,
            }
        }
        open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(dir.path(), flags, Mode::empty()).expect("opened");
        (dir, Root::new(opened))
    }

    #[test]
    fn links_stay_inside() {
        let (dir, root) = root();
        let outside = tempfile::tempdir().expect("a temporary directory");
        symlink(outside.path(), dir.path().join("absolute")).expect("linked");
        symlink("../../../../../../..", dir.path().join("up")).expect("linked");
        assert!(root.find(Path::new("/absolute")).expect("looked").is_none());
        root.directory(Path::new("/up/made")).expect("made");
        assert!(dir.path().join("made").is_dir());
        assert!(
            root.directory(Path::new("/absolute/made")).is_err() || !outside.path().join("made").exists()
        );
    }

    #[test]
    fn several_may_make_the_same_place_at_once() {
        let (_dir, root) = root();
        for round in 0..200 {
            let path = format!("/{round}/a/b");
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| root.directory(Path::new(&path)).expect("made or found"));
                }
            });
        }
    }

    #[test]
    fn missing_places_are_made() {
        let (dir, root) = root();
        root.directory(Path::new("/a/b/c")).expect("made");
        root.directory(Path::new("/a/b/c")).expect("found");
        root.file(Path::new("/a/x/file")).expect("made");
        symlink("x/target", dir.path().join("a/dangling")).expect("linked");
        root.file(Path::new("/a/dangling")).expect("made behind the link");
        assert!(dir.path().join("a/b/c").is_dir());
        assert!(dir.path().join("a/x/target").is_file());
        assert!(root.find(Path::new("/nothing")).expect("looked").is_none());
    }
}
