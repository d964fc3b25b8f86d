//! An overlay's upper as a layer: what a step of a Dockerfile changed.
//!
//! Deleted entries become `.wh.` files (OCI image specification, "Whiteouts"). Unlike in layers of the lifecycle, hard
//! links stay links, and file capabilities and `user.` attributes are kept: they are part of what a step did.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::header::{Flag, Header};
use super::{PackError, Tar, header};
use crate::attributes::{self, Xattr};
use crate::meta::{Kind, Meta};
use crate::overlay::{deleted_by, is_carrier, is_opaque};
use crate::walk::Walk;

/// An upper directory that is to be a layer: [reduced](crate::overlay::reduce) to what is a change. No overlay with it
/// as its upper is mounted any more.
#[derive(Clone, Copy, Debug)]
pub struct Upper<'a> {
    /// The directory on disk: the root of the layer.
    pub dir: &'a Path,
    /// Who owns what in the layer.
    pub owners: UpperOwners,
}

/// Who owns what in the layer of an upper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpperOwners {
    /// As this process sees it on disk.
    OnDisk,
    /// What is [recorded](crate::record_owner) beside files and directories, 0:0 where nothing is; all else, of which
    /// nothing can be recorded, is this user's and group's.
    Recorded {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
}

impl UpperOwners {
    fn of(self, meta: &Meta, recorded: Option<(u32, u32)>) -> (u32, u32) {
        match (self, meta.kind) {
            (Self::OnDisk, _) => (meta.uid, meta.gid),
            (Self::Recorded { .. }, Kind::Dir | Kind::File) => recorded.unwrap_or((0, 0)),
            (Self::Recorded { uid, gid }, _) => (uid, gid),
        }
    }
}

impl Tar<'_, '_> {
    /// Adds all changes that an upper has. The root itself is left out.
    pub fn upper(&mut self, upper: &Upper<'_>) -> Result<(), PackError> {
        let mut links: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
        let (mut walk, _) = Walk::new(upper.dir)?;
        while let Some(kind) = walk.next()? {
            let name = [b"/", walk.path().as_os_str().as_bytes()].concat();
            let meta = walk.stat()?;
            if deleted_by(upper.dir, walk.path())?.is_some() {
                self.marker(&name)?;
                continue;
            }
            if walk.name().as_bytes().starts_with(b".wh.") {
                return Err(PackError::Whiteout { path: OsStr::from_bytes(&name).into() });
            }
            if meta.is_whiteout() {
                self.marker(&beside(&name, b".wh."))?;
                continue;
            }
            if kind == Kind::Dir && is_carrier(&walk.full_path())? {
                continue;
            }
            let mut xattrs = match kind {
                Kind::Dir | Kind::File => attributes::meaningful(&walk.full_path())?,
                _ => Vec::new(),
            };
            let recorded = attributes::take_owner(&mut xattrs);
            let owner = upper.owners.of(&meta, recorded);
            // What a later step wrote into the file that stood for a device is a file.
            let device =
                attributes::take_device(&mut xattrs).filter(|_| kind == Kind::File && meta.size == 0);
            if let Some((kind, rdev)) = device {
                let meta = Meta { kind, rdev, ..meta };
                self.special(&name, &meta, &[], super::Owner::Ids { uid: owner.0, gid: owner.1 })?;
                continue;
            }
            let first = (meta.nlink > 1 && kind != Kind::Dir).then_some((meta.dev, meta.ino));
            if let Some(link) = first.and_then(|id| links.get(&id)) {
                let name = Path::new(OsStr::from_bytes(&name));
                let (mode, (uid, gid)) = (meta.mode, owner);
                self.entry(Header { link, mode, uid, gid, ..header(name, Flag::HardLink) })?;
                continue;
            }
            self.upper_entry(&walk, &name, &meta, &xattrs, owner)?;
            if let Some(id) = first {
                links.insert(id, name.clone());
            }
            if kind == Kind::Dir && is_opaque(&walk.full_path())? {
                self.marker(&[name.as_slice(), b"/.wh..wh..opq"].concat())?;
            }
        }
        Ok(())
    }

    fn upper_entry(
        &mut self,
        walk: &Walk,
        name: &[u8],
        meta: &Meta,
        xattrs: &[Xattr],
        (uid, gid): (u32, u32),
    ) -> Result<(), PackError> {
        let path = Path::new(OsStr::from_bytes(name));
        let flag = match meta.kind {
            Kind::File => {
                let (file, meta) = walk.open()?;
                let (mode, size) = (meta.mode, meta.size);
                self.entry(Header { mode, uid, gid, size, xattrs, ..header(path, Flag::File) })?;
                return self.content(&file, size, || walk.full_path());
            }
            Kind::Dir => Flag::Dir,
            _ => {
                let link = if meta.kind == Kind::Symlink { walk.read_link()? } else { Vec::new() };
                return self.special(name, meta, &link, super::Owner::Ids { uid, gid });
            }
        };
        self.entry(Header { mode: meta.mode, uid, gid, xattrs, ..header(path, flag) })
    }

    /// Adds an empty file that says what is deleted.
    fn marker(&mut self, name: &[u8]) -> Result<(), PackError> {
        self.bytes(Path::new(OsStr::from_bytes(name)), b"", 0o644, 0, 0)
    }
}

/// `name` with `prefix` before its last part.
fn beside(name: &[u8], prefix: &[u8]) -> Vec<u8> {
    let slash = name.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    [&name[..slash], prefix, &name[slash..]].concat()
}
