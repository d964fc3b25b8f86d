//! Paths beneath a root file system: links in it are followed as a program inside would, and never out of it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// More links in one path are a loop.
const MAX_LINKS: usize = 40;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A directory that is `/` for the paths given to it.
#[derive(Debug)]
pub(super) struct Place {
    root: OwnedFd,
}

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// As far as it leads to something: relative, and without links.
    pub real: PathBuf,
    /// What is there.
    pub kind: FileType,
    /// The rest, of which nothing is there.
    pub missing: Vec<OsString>,
}

impl Found {
    /// The whole path without links.
    pub fn path(&self) -> PathBuf {
        self.missing.iter().fold(self.real.clone(), |path, name| path.join(name))
    }

    pub fn is_dir(&self) -> bool {
        self.missing.is_empty() && self.kind == FileType::Directory
    }

    pub fn exists(&self) -> bool {
        self.missing.is_empty()
    }
}

impl Place {
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { root: rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty())? })
    }

    /// Follows `path`, the last part included.
    pub fn find(&self, path: &Path) -> io::Result<Found> {
        let mut waiting: VecDeque<OsString> = parts(path).collect();
        let mut real = PathBuf::new();
        let mut links = 0;
        while let Some(name) = waiting.pop_front() {
            if name == ".." {
                real.pop();
                continue;
            }
            let dir = self.dir(&real)?;
            let stat = match rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {
                    waiting.push_front(name);
                    return Ok(Found { real, kind: FileType::Directory, missing: lexical(waiting) });
                }
                stat => stat?,
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => real.push(name),
                FileType::Symlink => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    let target = rustix::fs::readlinkat(&dir, &name, Vec::new())?;
                    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                    if target.is_absolute() {
                        real = PathBuf::new();
                    }
                    for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                        waiting.push_front(part);
                    }
                }
                kind if waiting.is_empty() => {
                    real.push(name);
                    return Ok(Found { real, kind, missing: Vec::new() });
                }
                _ => return Err(Errno::NOTDIR.into()),
            }
        }
        Ok(Found { real, kind: FileType::Directory, missing: Vec::new() })
    }

    /// Opens a directory by its path without links.
    pub fn dir(&self, real: &Path) -> io::Result<OwnedFd> {
        let path = if real.as_os_str().is_empty() { OsStr::new(".") } else { real.as_os_str() };
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        Ok(rustix::fs::openat2(&self.root, path, DIRECTORY, Mode::empty(), beneath)?)
    }

    /// Makes the directories of `found` that are missing, telling `made` of each: its descriptor, and its path.
    pub fn make_dirs(
        &self,
        found: &Found,
        mode: u32,
        made: &mut dyn FnMut(&OwnedFd, &Path) -> io::Result<()>,
    ) -> io::Result<OwnedFd> {
        let mut dir = self.dir(&found.real)?;
        let mut path = found.real.clone();
        for name in &found.missing {
            rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o700))?;
            dir = rustix::fs::openat(&dir, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
            path.push(name);
            made(&dir, &path)?;
            rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode))?;
        }
        Ok(dir)
    }

    /// Removes what is at `real` when it is an empty directory or an empty file.
    pub fn remove_if_empty(&self, real: &Path) {
        let Some((parent, name)) = real.parent().zip(real.file_name()) else { return };
        let Ok(dir) = self.dir(parent) else { return };
        let Ok(stat) = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) else { return };
        let flags = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => AtFlags::REMOVEDIR,
            FileType::RegularFile if stat.st_size == 0 => AtFlags::empty(),
            _ => return,
        };
        // It stays when something is in it: then a program made it its own.
        let _ = rustix::fs::unlinkat(&dir, name, flags);
    }

    /// Makes an empty file, which is not there, in the directory `parent`.
    pub fn make_file(&self, parent: impl AsFd, name: &OsStr, mode: u32) -> io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(mode))?)
    }
}

/// The parts of a path that count.
fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

/// What is left of a path of which nothing is there: `..` takes back the part before.
fn lexical(parts: VecDeque<OsString>) -> Vec<OsString> {
    let mut left: Vec<OsString> = Vec::new();
    for part in parts {
        if part.as_bytes() == b".." {
            left.pop();
        } else {
            left.push(part);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn place() -> (tempfile::TempDir, Place) {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join("root").join(name);
        fs_err::create_dir_all(at("run/lock")).unwrap();
        fs_err::create_dir_all(at("var")).unwrap();
        fs_err::write(at("run/file"), "x").unwrap();
        fs_err::create_dir(temp.path().join("outside")).unwrap();
        symlink("/run", at("var/run")).unwrap();
        symlink("../../../../outside", at("var/out")).unwrap();
        symlink("/var/run/new", at("var/dangling")).unwrap();
        symlink("loop", at("var/loop")).unwrap();
        let place = Place::open(&temp.path().join("root")).unwrap();
        (temp, place)
    }

    #[test]
    fn links_are_followed_inside() {
        let (_temp, place) = place();
        let path = |text: &str| place.find(Path::new(text)).unwrap();
        assert_eq!(path("/var/run/lock").path(), Path::new("run/lock"));
        assert!(path("/var/run/lock").is_dir());
        assert!(path("/var/run/file").exists() && !path("/var/run/file").is_dir());
        assert_eq!(path("/var/run/../x/y/../z").missing, ["x", "z"]);
        assert_eq!(path("/var/out/x").path(), Path::new("outside/x"));
        assert!(!path("/var/out").exists());
        assert_eq!(path("/var/dangling").path(), Path::new("run/new"));
        assert_eq!(path("/").real, Path::new(""));
        assert!(place.find(Path::new("/var/loop/x")).is_err());
        assert!(place.find(Path::new("/run/file/x")).is_err());
    }

    #[test]
    fn missing_folders_are_made_and_told() {
        let (temp, place) = place();
        let mut made = Vec::new();
        let found = place.find(Path::new("/var/dangling/a")).unwrap();
        let made_one = &mut |_: &OwnedFd, path: &Path| {
            made.push(path.to_owned());
            Ok(())
        };
        place.make_dirs(&found, 0o755, made_one).unwrap();
        assert_eq!(made, [Path::new("run/new"), Path::new("run/new/a")]);
        assert!(temp.path().join("root/run/new/a").is_dir());
        place.remove_if_empty(Path::new("run/new"));
        assert!(temp.path().join("root/run/new").exists());
        place.remove_if_empty(Path::new("run/new/a"));
        place.remove_if_empty(Path::new("run/new"));
        place.remove_if_empty(Path::new("run/file"));
        assert!(!temp.path().join("root/run/new").exists() && temp.path().join("root/run/file").exists());
    }
}
