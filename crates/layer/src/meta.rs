//! What the kernel says of one entry of a tree.
//!
//! Not here: opening or walking; see [`crate::Root`] and the walker.

use std::fmt;

use rustix::fs::{FileType, Stat};

/// What sort of thing an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A character device. `0:0` is an overlay whiteout.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl Kind {
    pub(crate) fn of(kind: FileType) -> Option<Self> {
        Some(match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Dir,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice => Self::CharDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::Unknown => return None,
        })
    }
}

impl fmt::Display for Kind {
    /// With its article, as it stands in a sentence: `a FIFO`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "a regular file",
            Self::Dir => "a directory",
            Self::Symlink => "a symbolic link",
            Self::Fifo => "a FIFO",
            Self::Socket => "a socket",
            Self::CharDevice => "a character device",
            Self::BlockDevice => "a block device",
        })
    }
}

/// The status of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Its sort.
    pub kind: Kind,
    /// Permission, setuid, setgid and sticky bits: the low twelve bits of `st_mode`.
    pub mode: u32,
    /// Owner, as this process's user namespace names it.
    pub uid: u32,
    /// Group, as this process's user namespace names it.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Modification time, seconds since 1970.
    pub mtime: i64,
    /// Nanoseconds of the modification time.
    pub mtime_nsec: u32,
    /// Status change time, seconds since 1970. No program can set it.
    pub ctime: i64,
    /// Nanoseconds of the status change time.
    pub ctime_nsec: u32,
    /// Device the entry is on.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Number of names it has.
    pub nlink: u64,
    /// For devices, which one.
    pub rdev: u64,
}

impl Meta {
    /// True for a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Dir
    }

    /// True for a regular file.
    pub fn is_file(&self) -> bool {
        self.kind == Kind::File
    }

    /// True for a regular file that somebody may execute.
    pub fn is_executable(&self) -> bool {
        self.is_file() && self.mode & 0o111 != 0
    }

    /// True for what overlayfs writes in place of a deleted entry: a character device `0:0`.
    pub fn is_whiteout(&self) -> bool {
        self.kind == Kind::CharDevice && self.rdev == 0
    }
}

// The widths and signs of `Stat` differ between architectures.
#[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
impl From<Stat> for Meta {
    fn from(stat: Stat) -> Self {
        Self {
            // An unknown type does not exist in a `stat` answer; a socket is what nobody copies or packs.
            kind: Kind::of(FileType::from_raw_mode(stat.st_mode as _)).unwrap_or(Kind::Socket),
            mode: stat.st_mode as u32 & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: stat.st_size as u64,
            mtime: stat.st_mtime as i64,
            mtime_nsec: stat.st_mtime_nsec as u32,
            ctime: stat.st_ctime as i64,
            ctime_nsec: stat.st_ctime_nsec as u32,
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            nlink: stat.st_nlink as u64,
            rdev: stat.st_rdev as u64,
        }
    }
}
