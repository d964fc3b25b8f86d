//! What a bench does where no overlay can be mounted: folders are copies, and what was written to one is told from what
//! the kernel says of its entries.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use layer::{Digest, PathError};
use oci::Store;

use super::BenchError;

/// What is known of each entry of a folder. No program can set a status change time, and a tree's fingerprint has those
/// of everything in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen(BTreeMap<OsString, State>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Tree(Digest),
    Other { inode: u64, size: u64, changed: (i64, i64) },
}

impl Seen {
    /// Looks at a folder.
    pub(super) fn look(dir: &Path) -> Result<Self, BenchError> {
        let mut seen = BTreeMap::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            let state = match meta.is_dir() {
                true => State::Tree(layer::fingerprint(&entry.path(), None)?),
                false => State::Other {
                    inode: meta.ino(),
                    size: meta.size(),
                    changed: (meta.ctime(), meta.ctime_nsec()),
                },
            };
            seen.insert(entry.file_name(), state);
        }
        Ok(Self(seen))
    }

    /// The names of entries that are not as they were: new, changed or gone.
    pub(super) fn changed_since(&self, before: &Self) -> Vec<OsString> {
        let mut names: Vec<_> = self
            .0
            .iter()
            .filter(|(name, state)| before.0.get(*name) != Some(state))
            .map(|(name, _)| name)
            .collect();
        names.extend(before.0.keys().filter(|name| !self.0.contains_key(*name)));
        names.into_iter().cloned().collect()
    }
}

/// Makes `to` what an overlay of `lowers` would show: the trees of the store, that never change, put together once and
/// kept there, those of this build on top of a copy of that.
pub(super) fn copy(store: &Store, lowers: &[PathBuf], to: &Path) -> Result<(), BenchError> {
    let (own, lasting) = split(store, lowers);
    let mut trees = own.to_vec();
    if !lasting.is_empty() {
        trees.push(store.flat(lasting)?);
    }
    fs::create_dir_all(to)?;
    Ok(layer::flatten(&trees, to)?)
}

/// A folder with what an overlay of `lowers` would show, for reading only; `None` when only a copy can be that.
pub(super) fn view(store: &Store, lowers: &[PathBuf]) -> Result<Option<PathBuf>, BenchError> {
    match split(store, lowers) {
        ([], lasting) => Ok(Some(store.flat(lasting)?)),
        _ => Ok(None),
    }
}

/// The lowers down to the last that is gone after this build, and those below.
fn split<'a>(store: &Store, lowers: &'a [PathBuf]) -> (&'a [PathBuf], &'a [PathBuf]) {
    let lasting = store.dir().join("rootfs");
    let own = lowers.iter().rposition(|lower| !lower.starts_with(&lasting)).map_or(0, |last| last + 1);
    lowers.split_at(own)
}

impl From<PathError> for BenchError {
    fn from(error: PathError) -> Self {
        Self::Io(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_seen() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("changed/deep")).expect("made");
        fs::create_dir_all(at("same/deep")).expect("made");
        for name in ["changed/deep/file", "same/deep/file", "file", "gone", "left"] {
            fs::write(at(name), "x").expect("written");
        }
        let before = Seen::look(dir.path()).expect("looked");
        assert!(Seen::look(dir.path()).expect("looked").changed_since(&before).is_empty());
        // Times move in steps of a timer tick on older kernels.
        std::thread::sleep(std::time::Duration::from_millis(12));
        fs::write(at("changed/deep/file"), "y").expect("written");
        fs::write(at("file"), "y").expect("written");
        fs::write(at("new"), "y").expect("written");
        fs::remove_file(at("gone")).expect("removed");
        let names = Seen::look(dir.path()).expect("looked").changed_since(&before);
        assert_eq!(names, ["changed", "file", "new", "gone"].map(OsString::from));
    }

    #[test]
    fn trees_of_this_build_are_not_kept() {
        let temp = tempfile::tempdir().expect("a folder");
        let store = Store::open(temp.path().join("store")).expect("a store");
        let tree = |path: PathBuf, text: &str| {
            fs::create_dir_all(&path).expect("made");
            fs::write(path.join("file"), text).expect("written");
            fs::write(path.join(text), text).expect("written");
            path
        };
        let low = tree(store.dir().join("rootfs/ids/low"), "low");
        let mid = tree(store.dir().join("rootfs/ids/mid"), "mid");
        let own = tree(temp.path().join("own"), "own");
        let lasting = [mid.clone(), low.clone()];
        let flat = view(&store, &lasting).expect("a tree").expect("lasting");
        assert!(flat.join("mid").exists() && flat.join("low").exists());
        let all = [own, mid, low];
        assert_eq!(view(&store, &all).expect("no failure"), None);
        copy(&store, &all, &temp.path().join("copy")).expect("copied");
        assert_eq!(fs::read_to_string(temp.path().join("copy/file")).expect("read"), "own");
        assert!(temp.path().join("copy/low").exists());
        assert!(!flat.join("own").exists());
        assert_eq!(
            fs::read_dir(flat.parent().expect("a folder")).expect("read").count(),
            2,
            "one, and its boot"
        );
    }
}
