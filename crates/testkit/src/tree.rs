//! Layer tars, entry by entry. Names, types and ids are written as they are given, so that a test can also write what
//! no honest program would.

use tar::{EntryType, Header};

/// The time of every entry: 1980-01-01T00:00:01Z.
pub const MTIME: u64 = 315_532_801;

/// A layer's files, as an uncompressed tar in the making.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    tar: Vec<u8>,
    owner: (u64, u64),
}

impl Tree {
    /// No files yet; owner 0:0.
    pub fn new() -> Self {
        Self::default()
    }

    /// The owner of the entries added from here on.
    #[must_use]
    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.owner = (uid, gid);
        self
    }

    /// Adds a folder.
    #[must_use]
    pub fn dir(self, name: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, name, mode, "", &[])
    }

    /// Adds a file.
    #[must_use]
    pub fn file(self, name: &str, mode: u32, content: impl AsRef<[u8]>) -> Self {
        self.entry(EntryType::Regular, name, mode, "", content.as_ref())
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name, 0o777, target, &[])
    }

    /// Adds a hard link to an entry before it.
    #[must_use]
    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Link, name, 0o644, target, &[])
    }

    /// Adds an entry of any type. `name` and `target` are written byte for byte, so they may be absolute or have `..`
    /// in them.
    ///
    /// # Panics
    ///
    /// When the name or the target has more than 99 bytes.
    #[must_use]
    pub fn entry(mut self, kind: EntryType, name: &str, mode: u32, target: &str, content: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_mtime(MTIME);
        header.set_size(content.len() as u64);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header
                .set_device_major(1)
                .and_then(|()| header.set_device_minor(3))
                .expect("ustar has device numbers");
        }
        let fields = header.as_old_mut();
        write_field(&mut fields.name, name);
        write_field(&mut fields.linkname, target);
        header.set_cksum();
        self.tar.extend_from_slice(header.as_bytes());
        self.tar.extend_from_slice(content);
        self.tar.resize(self.tar.len().next_multiple_of(512), 0);
        self
    }

    /// The finished tar.
    pub fn into_tar(mut self) -> Vec<u8> {
        self.tar.resize(self.tar.len() + 1024, 0);
        self.tar
    }

    /// The tar cut off in the middle: what a truncated download leaves.
    pub fn into_truncated_tar(mut self) -> Vec<u8> {
        self.tar.truncate(self.tar.len() - 1000);
        self.tar
    }
}

fn write_field(field: &mut [u8; 100], text: &str) {
    assert!(text.len() < field.len(), "too long for a plain header: {text}");
    field[..text.len()].copy_from_slice(text.as_bytes());
}
