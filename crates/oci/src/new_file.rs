//! Files that appear whole or not at all, in directories that are not ours: while one is written it has no name, so
//! that even a killed process leaves nothing there. Only between its first name and its last one, for a moment, does
//! something lie there that is known by [`PREFIX`] and by a lock that nobody holds any more: [`sweep`] removes it.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use crate::publish;

/// How names of files begin that do not have their last name yet.
const PREFIX: &str = ".pannier-new-";

/// Removes what a killed process left in a directory. Best effort: what cannot be looked at stays.
pub(crate) fn sweep(folder: &Path) {
    let Ok(entries) = fs_err::read_dir(folder) else { return };
    let ours = |entry: &fs_err::DirEntry| entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes());
    for entry in entries.flatten().filter(ours) {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::open(entry.path(), flags, Mode::empty()) else { continue };
        // Whoever writes it has it locked until it has its last name.
        if File::from(file).try_lock().is_ok() {
            let _ = fs_err::remove_file(entry.path());
        }
    }
}

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct NewFile(Kind);

#[derive(Debug)]
enum Kind {
    Nameless(File),
    /// Where the file system has no nameless files.
    Temporary(tempfile::NamedTempFile),
}

impl NewFile {
    /// A file that will be in `folder`.
    pub(crate) fn new_in(folder: &Path) -> io::Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let new = match rustix::fs::open(folder, flags, Mode::from_raw_mode(0o600)) {
            Ok(file) => Self(Kind::Nameless(file.into())),
            Err(_) => {
                let temporary = tempfile::Builder::new().prefix(PREFIX).tempfile_in(folder);
                Self(Kind::Temporary(temporary.map_err(|error| {
                    let text = format!("failed to create a file in `{}`: {error}", folder.display());
                    io::Error::new(error.kind(), text)
                })?))
            }
        };
        // Where the file system has no locks, nobody can take it for abandoned either.
        let _ = new.file().try_lock();
        Ok(new)
    }

    /// Syncs the file and gives it its name, instead of what had it. The order of the renames of one writer is kept
    /// by the file system's journal, so that a name never points at what is not on disk yet.
    pub(crate) fn persist(self, path: &Path) -> io::Result<()> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("failed to write `{}`: {error}", path.display()))
        };
        let file = self.file();
        file.set_permissions(Permissions::from_mode(0o644)).map_err(named)?;
        file.sync_all().map_err(named)?;
        let _permit = publish::permit();
        match self.0 {
            Kind::Temporary(file) => file.persist(path).map(drop).map_err(|error| named(error.error)),
            Kind::Nameless(file) => {
                let folder = path.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new("."));
                // A link cannot replace a file; a rename can. The name in between is there for a moment only.
                let between = tempfile::Builder::new().prefix(PREFIX).make_in(folder, |name| {
                    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
                    Ok(rustix::fs::linkat(CWD, open, CWD, name, AtFlags::SYMLINK_FOLLOW)?)
                });
                between.map_err(named)?.persist(path).map(drop).map_err(|error| named(error.error))
            }
        }
    }

    fn file(&self) -> &File {
        match &self.0 {
            Kind::Nameless(file) => file,
            Kind::Temporary(file) => file.as_file(),
        }
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use fs_err as fs;

    use super::*;

    #[test]
    fn has_no_name_before_it_is_whole() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        fs::write(&path, "before").unwrap();
        let mut file = NewFile::new_in(temp.path()).unwrap();
        file.write_all(b"after").unwrap();
        assert!(matches!(file.0, Kind::Nameless(_)), "the test's file system has nameless files");
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        file.persist(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "after");
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn sweeps_what_a_killed_process_left_and_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        for name in [".pannier-new-dead", ".other", "file"] {
            fs::write(temp.path().join(name), "x").unwrap();
        }
        std::os::unix::fs::symlink("file", temp.path().join(".pannier-new-link")).unwrap();
        let living = tempfile::Builder::new().prefix(PREFIX).tempfile_in(temp.path()).unwrap();
        living.as_file().try_lock().unwrap();
        sweep(temp.path());
        assert!(living.path().exists(), "somebody writes it");
        assert!(!temp.path().join(".pannier-new-dead").exists());
        for name in [".other", "file"] {
            assert!(temp.path().join(name).exists(), "{name} is not ours");
        }
    }

    #[test]
    fn the_other_way_works_too() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        let mut file = NewFile(Kind::Temporary(tempfile::NamedTempFile::new_in(temp.path()).unwrap()));
        file.write_all(b"content").unwrap();
        file.persist(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "content");
        assert!(NewFile::new_in(&path).unwrap_err().to_string().contains("failed to create a file in"));
    }
}
