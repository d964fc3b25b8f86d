//! An upper without an overlay: what a program changed in a copy of a tree, told from what the kernel says of its
//! entries before and after. For machines where no overlay can be mounted.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid};
use rustix::io::Errno;

use super::{make_opaque, mark_deleted};
use crate::error::{At, PathError};
use crate::meta::{Kind, Meta};
use crate::root::DIRECTORY;
use crate::walk::Walk;

/// What was known of a tree's entries at a time. No program can set a status change time.
#[derive(Clone, Debug, Default)]
pub struct Snapshot(BTreeMap<PathBuf, Known>);

#[derive(Clone, Copy, Debug)]
struct Known {
    meta: Meta,
    /// Of a directory: one that is removed and made again may get the same inode.
    birth: Birth,
}

/// When an entry was made, in seconds since 1970 and nanoseconds; none where the file system does not say.
type Birth = Option<(i64, u32)>;

fn birth(walk: &Walk, meta: &Meta) -> Birth {
    use rustix::fs::{StatxFlags, statx};
    if !meta.is_dir() {
        return None;
    }
    let found = statx(walk.parent(), walk.name(), AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BTIME).ok()?;
    let says = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
    says.then_some((found.stx_btime.tv_sec, found.stx_btime.tv_nsec))
}

impl Snapshot {
    /// Looks at the tree at `dir`.
    pub fn of(dir: &Path) -> Result<Self, PathError> {
        let (mut walk, _) = Walk::new(dir)?;
        let mut entries = BTreeMap::new();
        while walk.next()?.is_some() {
            let meta = walk.stat()?;
            entries.insert(walk.path().to_owned(), Known { meta, birth: birth(&walk, &meta) });
        }
        Ok(Self(entries))
    }

    /// Moves what was changed in the tree at `root` since then into `upper`, an empty directory on the same file system,
    /// as overlayfs would have put it there. The tree is of no use afterwards. What `upper` has may still be no change:
    /// see [`super::reduce`].
    pub fn take_changes(&self, root: &Path, upper: &Path) -> Result<(), PathError> {
        let mut taker = Taker { before: self, root, upper, merged: BTreeSet::new() };
        taker.merged.insert(PathBuf::new());
        let (mut walk, _) = Walk::new(root)?;
        let mut seen = BTreeSet::new();
        while walk.next()?.is_some() {
            let path = walk.path().to_owned();
            let meta = walk.stat()?;
            if taker.entry(&path, Known { meta, birth: birth(&walk, &meta) })? {
                walk.skip();
            }
            seen.insert(path);
        }
        for path in self.0.keys().filter(|path| !seen.contains(*path)) {
            if path.parent().is_some_and(|parent| taker.merged.contains(parent)) {
                taker.delete(path)?;
            }
        }
        Ok(())
    }
}

struct Taker<'a> {
    before: &'a Snapshot,
    root: &'a Path,
    upper: &'a Path,
    /// Directories that were there before.
    merged: BTreeSet<PathBuf>,
}

impl Taker<'_> {
    /// Takes an entry that is not as it was; true when all below it went with it.
    fn entry(&mut self, path: &Path, now: Known) -> Result<bool, PathError> {
        let known = self.before.0.get(path);
        let (before, meta) = (known.map(|known| &known.meta), &now.meta);
        let is_same =
            |before: &Meta| before.ino == meta.ino && known.is_some_and(|known| known.birth == now.birth);
        if let Some(before) = before.filter(|before| meta.is_dir() && before.is_dir() && is_same(before)) {
            self.merged.insert(path.to_owned());
            if (meta.mode, meta.uid, meta.gid) != (before.mode, before.uid, before.gid) {
                self.make_dir(path)?;
            }
            return Ok(false);
        }
        let state = |meta: &Meta| (meta.kind, meta.ino, meta.size, meta.ctime, meta.ctime_nsec);
        if meta.kind == Kind::Socket
            || before.is_some_and(|before| !meta.is_dir() && state(before) == state(meta))
        {
            return Ok(false);
        }
        self.make_dir(path.parent().unwrap_or(Path::new("")))?;
        let (from, to) = (self.root.join(path), self.upper.join(path));
        rustix::fs::renameat(CWD, &from, CWD, &to).at("move", &from)?;
        if meta.is_dir() && before.is_some_and(Meta::is_dir) {
            make_opaque(&to)?;
        }
        Ok(meta.is_dir())
    }

    fn delete(&self, path: &Path) -> Result<(), PathError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        self.make_dir(parent)?;
        let folder = self.upper.join(parent);
        let dir = rustix::fs::open(&folder, DIRECTORY, Mode::empty()).at("open", &folder)?;
        mark_deleted(dir.as_fd(), name).at("create whiteout", path)
    }

    /// Makes a directory that was there before in the upper, as it is now.
    fn make_dir(&self, path: &Path) -> Result<(), PathError> {
        let to = self.upper.join(path);
        let Some(parent) = path.parent() else { return Ok(()) };
        match rustix::fs::mkdir(&to, Mode::from_raw_mode(0o700)) {
            Err(Errno::EXIST) => return Ok(()),
            Err(Errno::NOENT) => {
                self.make_dir(parent)?;
                rustix::fs::mkdir(&to, Mode::from_raw_mode(0o700)).at("create", &to)?;
            }
            result => result.at("create", &to)?,
        }
        let meta = Meta::from(rustix::fs::lstat(self.root.join(path)).at("stat", path)?);
        let (uid, gid) = (Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)));
        rustix::fs::chownat(CWD, &to, uid, gid, AtFlags::SYMLINK_NOFOLLOW).at("set owner of", &to)?;
        rustix::fs::chmod(&to, Mode::from_raw_mode(meta.mode)).at("set mode of", &to)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::overlay::{apply, reduce};
    use crate::{CopyOptions, copy_tree, shape};

    fn script(dir: &Path, text: &str) {
        let status = Command::new("sh").args(["-ec", text]).current_dir(dir).status().unwrap();
        assert!(status.success(), "{text}");
    }

    /// The changes, put together with what was there, are what there is.
    #[test]
    fn changes_make_of_the_old_what_is_new() {
        if !rustix::process::geteuid().is_root() {
            // Whiteouts are devices.
            return;
        }
        for text in [
            "true",
            "echo 2 > a; echo new > d/new; rm d/x",
            "rm -r d",
            "rm -r d; mkdir d; echo 1 > d/only",
            "rm -r d; echo 1 > d",
            "rm a; mkdir -p a/b; echo 1 > a/b/c",
            "mv d e; mv a d",
            "chmod 700 d; ln a b; ln -s a l",
            "mkdir -p n/m; echo 1 > n/m/o; rm d/e/y",
            "mv d/e tmp; mv d/x d/e; mv tmp d/x",
        ] {
            let temp = tempfile::tempdir().unwrap();
            let at = |name: &str| temp.path().join(name);
            fs_err::create_dir(at("old")).unwrap();
            script(&at("old"), "mkdir -p d/e; echo 1 > a; echo x > d/x; echo y > d/e/y");
            for copy in ["root", "put"] {
                copy_tree(&at("old"), &at(copy), &CopyOptions::default()).unwrap();
            }
            fs_err::create_dir(at("upper")).unwrap();
            let before = Snapshot::of(&at("root")).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(12));
            script(&at("root"), text);
            copy_tree(&at("root"), &at("new"), &CopyOptions::default()).unwrap();
            before.take_changes(&at("root"), &at("upper")).unwrap();
            let reduced = reduce(&at("upper"), &at("old"), None).unwrap();
            assert_eq!(reduced.entries == 0, text == "true", "{text}");
            apply(&at("upper"), &at("put")).unwrap();
            // Times of directories aside.
            for tree in ["put", "new"] {
                script(&at(tree), "find . -exec touch -h -d @1 {} +");
            }
            assert_eq!(shape(&at("put")).unwrap(), shape(&at("new")).unwrap(), "{text}");
        }
    }
}
