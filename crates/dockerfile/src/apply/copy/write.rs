//! Writing files into a root file system.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::Chmod;
use crate::apply::place::Place;

/// Writes files that belong to somebody.
pub(super) struct Writer<'a> {
    pub place: &'a Place,
    pub owner: (u32, u32),
    /// Whether the disk can say whose files are; else it is recorded beside them.
    pub real_owners: bool,
    /// Whether the owner was asked for: then folders that are there change theirs too.
    pub owner_asked: bool,
    pub chmod: Option<&'a Chmod>,
}

/// A modification time: seconds since 1970 and nanoseconds.
pub(super) type Time = (i64, u32);

impl Writer<'_> {
    /// The folder at `path`, links followed, made with its parents when it is missing: where it is without links.
    pub fn folder(&self, path: &Path) -> io::Result<PathBuf> {
        let found = self.place.find(path)?;
        if found.exists() && !found.is_dir() {
            return Err(not_a_folder());
        }
        let mut made = |dir: &OwnedFd, _: &Path| self.own(dir);
        self.place.make_dirs(&found, 0o755, &mut made)?;
        Ok(found.path())
    }

    /// A folder of these permissions in the folder `parent`. One that is there stays as it is, unless something else
    /// was asked for; a link to one is followed.
    pub fn dir(&self, parent: &Path, name: &OsStr, mode: u32) -> io::Result<PathBuf> {
        let path = parent.join(name);
        let found = self.place.find(&path)?;
        if found.exists() {
            if !found.is_dir() {
                return Err(not_a_folder());
            }
            let dir = self.place.dir(&found.real)?;
            if self.owner_asked {
                self.own(&dir)?;
            }
            if let Some(chmod) = self.chmod {
                let mode = chmod.of(rustix::fs::fstat(&dir)?.st_mode & 0o7777, true);
                rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode))?;
            }
            return Ok(found.real);
        }
        let mode = self.chmod.map_or(mode, |chmod| chmod.of(mode, true));
        let mut made = |dir: &OwnedFd, _: &Path| self.own(dir);
        self.place.make_dirs(&found, mode, &mut made)?;
        Ok(found.path())
    }

    /// A file in the folder `parent`, in place of what is there and is no folder.
    pub fn file(
        &self,
        parent: &Path,
        name: &OsStr,
        mode: u32,
        time: Option<Time>,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        let dir = self.make_room(parent, name)?;
        let mut file = File::from(self.place.make_file(&dir, name, 0o600)?);
        io::copy(content, &mut file)?;
        self.finish(&file, mode, time)
    }

    /// The same from a file, whose bytes the kernel may copy.
    pub fn copy_file(
        &self,
        parent: &Path,
        name: &OsStr,
        mode: u32,
        time: Time,
        from: &mut File,
    ) -> io::Result<()> {
        let dir = self.make_room(parent, name)?;
        let mut file = File::from(self.place.make_file(&dir, name, 0o600)?);
        io::copy(from, &mut file)?;
        self.finish(&file, mode, Some(time))
    }

    fn finish(&self, file: &File, mode: u32, time: Option<Time>) -> io::Result<()> {
        self.own(file)?;
        // After the owner, which takes setuid bits away.
        let mode = self.chmod.map_or(mode, |chmod| chmod.of(mode, false));
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?;
        if let Some(time) = time {
            rustix::fs::futimens(file, &times(time))?;
        }
        Ok(())
    }

    /// A symlink in the folder `parent`, in place of what is there and is no folder.
    pub fn link(&self, parent: &Path, name: &OsStr, target: &Path) -> io::Result<()> {
        let dir = self.make_room(parent, name)?;
        rustix::fs::symlinkat(target, &dir, name)?;
        if self.real_owners {
            let (uid, gid) = self.ids();
            rustix::fs::chownat(&dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    /// Removes what is in the way, and gives the folder it was in.
    fn make_room(&self, parent: &Path, name: &OsStr) -> io::Result<OwnedFd> {
        let dir = self.place.dir(parent)?;
        match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Err(io::Error::new(io::ErrorKind::IsADirectory, "there is a folder of this name"));
            }
            Ok(_) => rustix::fs::unlinkat(&dir, name, AtFlags::empty())?,
            Err(errno) => return Err(errno.into()),
        }
        Ok(dir)
    }

    fn own(&self, fd: impl AsFd) -> io::Result<()> {
        if self.real_owners {
            let (uid, gid) = self.ids();
            return match rustix::fs::fchown(fd, uid, gid) {
                // What the kernel says of ids that the user namespace has no name for.
                Err(Errno::INVAL) => {
                    let (uid, gid) = self.owner;
                    let text = format!("there is no id {uid}:{gid} in this user's ranges");
                    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
                }
                result => Ok(result?),
            };
        }
        layer::record_owner(fd.as_fd(), self.owner.0, self.owner.1)
    }

    fn ids(&self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.owner.0)), Some(Gid::from_raw(self.owner.1)))
    }
}

fn not_a_folder() -> io::Error {
    io::Error::new(io::ErrorKind::NotADirectory, "there is something of this name that is no folder")
}

fn times((seconds, nanos): Time) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}
