//! Reading folders and files, straight from the system calls: errors keep their number, which the messages need.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::failure::{Context, Failure};
use crate::paths::join;

/// Which entries of a folder are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Folders, not links to folders.
    Folder,
    /// Everything else.
    Other,
}

/// One entry of a folder.
#[derive(Debug)]
pub struct Entry {
    /// Its name in the folder.
    pub name: OsString,
    /// True for a folder itself, false for a link to one.
    pub is_dir: bool,
    /// True for a symbolic link.
    pub is_link: bool,
}

/// The paths of the entries of `dir` by name; none when there is no such folder.
pub fn list(dir: &Path, kind: Kind) -> Result<Vec<PathBuf>, Failure> {
    let entries = read_dir(dir)
        .map_err(|error| Failure::path("open", dir, &error))
        .context(format_args!("failed to list files in dir '{}'", dir.display()))?;
    let wanted = entries.into_iter().filter(|entry| entry.is_dir == (kind == Kind::Folder));
    Ok(wanted.map(|entry| join(dir, entry.name)).collect())
}

/// The entries of `dir` by name; none when there is no such folder.
pub fn read_dir(dir: &Path) -> io::Result<Vec<Entry>> {
    let fd = match rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut entries = Vec::new();
    for entry in Dir::read_from(&fd)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            // Some file systems do not say.
            FileType::Unknown => {
                let stat = rustix::fs::statat(&fd, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode)
            }
            known => known,
        };
        entries.push(Entry { name: name.to_owned(), is_dir: kind.is_dir(), is_link: kind.is_symlink() });
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// The whole content of a file.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let fd = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut content = Vec::new();
    File::from(fd).read_to_end(&mut content)?;
    Ok(content)
}

/// True when `path` leads to a folder; links are followed.
pub fn is_dir(path: &Path) -> Result<bool, Failure> {
    match rustix::fs::stat(path) {
        Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode).is_dir()),
        Err(error) => Err(Failure::path("stat", path, &error.into())),
    }
}
