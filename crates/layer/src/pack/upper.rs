//! An overlay's upper as a layer: what a step of a Dockerfile changed.
//!
//! Deleted entries become `.wh.` files (OCI image specification, "Whiteouts"). Unlike in layers of the lifecycle, hard
//! links stay links, and file capabilities and `user.` attributes are kept: they are part of what a step did.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::header::{Flag, Header, Xattr};
use super::{Owner, PackError, Tar, header};
use crate::copy::Keep;
use crate::error::{At, PathError};
use crate::meta::{Kind, Meta};
use crate::overlay::is_opaque;
use crate::root::Root;
use crate::walk::Walk;

/// An upper directory that is to be a layer. No overlay with it is mounted any more.
pub struct Upper<'a> {
    /// The directory on disk: the root of the layer.
    pub dir: &'a Path,
    /// What was below it, topmost first: only what they have can have been hidden.
    pub lowers: &'a [PathBuf],
    /// Who owns what in the layer.
    pub owner: Owner,
    /// What belongs to the layer, by its path without a leading slash.
    pub keep: &'a Keep<'a>,
}

impl std::fmt::Debug for Upper<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upper")
            .field("dir", &self.dir)
            .field("lowers", &self.lowers)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

impl Tar<'_, '_> {
    /// Adds all that an upper has. The root itself is left out.
    pub fn upper(&mut self, upper: &Upper<'_>) -> Result<(), PackError> {
        let lowers = upper.lowers.iter().map(Root::open).collect::<Result<Vec<_>, _>>()?;
        let mut links: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
        let (mut walk, _) = Walk::new(upper.dir)?;
        while let Some(kind) = walk.next()? {
            if !(upper.keep)(walk.path(), kind == Kind::Dir) {
                walk.skip();
                continue;
            }
            let name = [b"/", walk.path().as_os_str().as_bytes()].concat();
            let meta = walk.stat()?;
            if meta.is_whiteout() {
                self.marker(&beside(&name, b".wh."), upper.owner)?;
                continue;
            }
            let first = (meta.nlink > 1 && kind != Kind::Dir).then_some((meta.dev, meta.ino));
            if let Some(link) = first.and_then(|id| links.get(&id)) {
                let (uid, gid) = upper.owner.of(meta.uid, meta.gid);
                let name = Path::new(OsStr::from_bytes(&name));
                self.entry(Header { link, mode: meta.mode, uid, gid, ..header(name, Flag::HardLink) })?;
                continue;
            }
            self.upper_entry(&walk, &name, &meta, upper.owner)?;
            if let Some(id) = first {
                links.insert(id, name.clone());
            }
            let hides = kind == Kind::Dir && is_opaque(&walk.full_path())?;
            if hides && lowers.iter().any(|lower| lower.is_dir(walk.path())) {
                self.marker(&[name.as_slice(), b"/.wh..wh..opq"].concat(), upper.owner)?;
            }
        }
        Ok(())
    }

    fn upper_entry(&mut self, walk: &Walk, name: &[u8], meta: &Meta, owner: Owner) -> Result<(), PackError> {
        let xattrs = match meta.kind {
            Kind::Dir | Kind::File => xattrs(&walk.full_path())?,
            _ => Vec::new(),
        };
        if meta.kind == Kind::File {
            let (file, meta) = walk.open()?;
            let (uid, gid) = owner.of(meta.uid, meta.gid);
            let path = Path::new(OsStr::from_bytes(name));
            let (mode, size) = (meta.mode, meta.size);
            self.entry(Header { mode, uid, gid, size, xattrs: &xattrs, ..header(path, Flag::File) })?;
            return self.content(&file, size, || walk.full_path());
        }
        if !xattrs.is_empty() {
            let (uid, gid) = owner.of(meta.uid, meta.gid);
            let path = Path::new(OsStr::from_bytes(name));
            return self.entry(Header {
                mode: meta.mode,
                uid,
                gid,
                xattrs: &xattrs,
                ..header(path, Flag::Dir)
            });
        }
        let link = if meta.kind == Kind::Symlink { walk.read_link()? } else { Vec::new() };
        self.special(name, meta, &link, owner)
    }

    /// Adds an empty file that says what is deleted.
    fn marker(&mut self, name: &[u8], owner: Owner) -> Result<(), PackError> {
        let (uid, gid) = owner.of(0, 0);
        self.bytes(Path::new(OsStr::from_bytes(name)), b"", 0o644, uid, gid)
    }
}

/// `name` with `prefix` before its last part.
fn beside(name: &[u8], prefix: &[u8]) -> Vec<u8> {
    let slash = name.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    [&name[..slash], prefix, &name[slash..]].concat()
}

/// The attributes of a file or directory that mean something elsewhere too, sorted.
fn xattrs(path: &Path) -> Result<Vec<Xattr>, PathError> {
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::llistxattr(path, &mut names) {
        Err(Errno::NOTSUP) => 0,
        result => result.at("list attributes of", path)?,
    };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0) {
        let of_user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
        if of_user || name == b"security.capability" {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value)
                .at("read an attribute of", path)?;
            value.truncate(length);
            found.push((name.to_vec(), value));
        }
    }
    found.sort();
    Ok(found)
}
