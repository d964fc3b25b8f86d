//! Files that a person names: in an option, a variable, a configuration.
//!
//! Links are followed, because the person means what they lead to. Still nothing waits for a FIFO that nobody writes
//! to, and nothing reads a device that has no end. Not here: files that come with something else ([`crate::Root`]).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{At, PathError};
use crate::meta::{Kind, Meta};
use crate::refused::Refused;
use crate::root::{PEEK, read_at_most, stat, text};

/// The file system of pipes without a name, such as those of a shell's `<(command)`.
const PIPEFS: u64 = 0x5049_5045;

/// Opens a regular file. Directories, FIFOs, sockets and devices are errors ([`Refused::Kind`]).
pub fn open(path: impl AsRef<Path>) -> Result<File, PathError> {
    let path = path.as_ref();
    peek(path).and_then(|(fd, meta)| regular(fd, &meta)).at("open", path)
}

/// The content of a regular file of at most `limit` bytes; a longer one is an error ([`Refused::TooLarge`]).
pub fn read(path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>, PathError> {
    let path = path.as_ref();
    peek(path).and_then(|(fd, meta)| read_at_most(regular(fd, &meta)?, &meta, limit)).at("read", path)
}

/// [`read`] of a file that must be UTF-8.
pub fn read_to_string(path: impl AsRef<Path>, limit: u64) -> Result<String, PathError> {
    let path = path.as_ref();
    text(read(path, limit)?).at("read", path)
}

/// Opens a regular file, or a pipe to a command that a shell runs. Reading a pipe waits for the command.
pub fn open_input(path: impl AsRef<Path>) -> Result<File, PathError> {
    let path = path.as_ref();
    peek(path).and_then(|(fd, meta)| input(fd, &meta)).at("open", path)
}

/// As [`read`], and takes what a shell puts in a file's place: a pipe to a command that it runs, and `/dev/null`, which
/// is empty. A FIFO is neither: nobody may ever write to it.
pub fn read_input(path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>, PathError> {
    let path = path.as_ref();
    peek(path).and_then(|(fd, meta)| read_at_most(input(fd, &meta)?, &meta, limit)).at("read", path)
}

/// [`read_input`] of what must be UTF-8.
pub fn read_input_to_string(path: impl AsRef<Path>, limit: u64) -> Result<String, PathError> {
    let path = path.as_ref();
    text(read_input(path, limit)?).at("read", path)
}

fn peek(path: &Path) -> io::Result<(OwnedFd, Meta)> {
    let fd = match rustix::fs::openat(CWD, path, PEEK, Mode::empty()) {
        // A socket cannot even be opened, nor can a device that is not there.
        Err(Errno::NXIO) => {
            let found = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            return Err(Refused::Kind(stat(found.as_fd())?.kind).into());
        }
        result => result?,
    };
    let meta = stat(fd.as_fd())?;
    Ok((fd, meta))
}

fn regular(fd: OwnedFd, meta: &Meta) -> io::Result<File> {
    match meta.kind {
        Kind::File => Ok(File::from(fd)),
        kind => Err(Refused::Kind(kind).into()),
    }
}

fn input(fd: OwnedFd, meta: &Meta) -> io::Result<File> {
    match meta.kind {
        Kind::Fifo if rustix::fs::fstatfs(&fd)?.f_type as u64 == PIPEFS => {
            // The command at the other end may take its time.
            let flags = rustix::fs::fcntl_getfl(&fd)?;
            rustix::fs::fcntl_setfl(&fd, flags - OFlags::NONBLOCK)?;
            Ok(File::from(fd))
        }
        Kind::CharDevice if meta.rdev == rustix::fs::makedev(1, 3) => Ok(File::from(fd)),
        _ => regular(fd, meta),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_has_no_end_is_refused_and_never_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        rustix::fs::mkfifoat(CWD, at("fifo"), Mode::from_raw_mode(0o644)).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        symlink("fifo", at("link")).unwrap();
        for (name, kind) in [
            ("fifo", "a FIFO"),
            ("link", "a FIFO"),
            ("socket", "a socket"),
            ("zero", "a character device"),
            (".", "a directory"),
        ] {
            let expected = format!("it is {kind}, expected a regular file");
            assert_eq!(open(at(name)).unwrap_err().source.to_string(), expected, "{name}");
            assert_eq!(read(at(name), 9).unwrap_err().source.to_string(), expected, "{name}");
            assert_eq!(read_input(at(name), 9).unwrap_err().source.to_string(), expected, "{name}");
        }
    }

    #[test]
    fn files_are_bounded_and_links_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs_err::write(at("file"), "12345").unwrap();
        symlink(at("file"), at("link")).unwrap();
        assert_eq!(read_to_string(at("link"), 5).unwrap(), "12345");
        for error in [read(at("link"), 4).unwrap_err(), read_input(at("link"), 4).unwrap_err()] {
            assert_eq!(Refused::of(&error.source), Some(&Refused::TooLarge(4)));
        }
        fs_err::write(at("file"), b"secret \xff").unwrap();
        let error = read_to_string(at("file"), 99).unwrap_err();
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        assert!(read(at("none"), 9).unwrap_err().is_not_found());
    }

    #[test]
    fn pipes_of_a_shell_are_input() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let path = format!("/dev/fd/{}", reader.as_raw_fd());
        assert!(matches!(Refused::of(&read(&path, 9).unwrap_err().source), Some(Refused::Kind(Kind::Fifo))));
        let late = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            writer.write_all(b"late").unwrap();
        });
        assert_eq!(read_input_to_string(&path, 4).unwrap(), "late");
        late.join().unwrap();
        assert_eq!(read_input("/dev/null", 0).unwrap(), b"");
    }
}
