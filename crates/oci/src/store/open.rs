//! Opening the store, and making it where there is none.
//!
//! Its directory is for its owner alone (mode 0700): unpacked layers have setuid programs, and whoever could reach
//! those would run them. Root may use somebody else's store; the directories it makes there belong to that owner, so
//! that the owner can go on with them.
//!
//! A store that cannot be written can be read: images are listed, inspected, copied from it. Nothing is locked then,
//! because nobody can change it.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;

use super::scratch::Scratch;
use super::{Inner, Store};
use crate::error::{Error, Result};
use crate::layout::Layout;

/// What is beside the layout. None of it may be a link: what is swept, pruned or moved there has to be ours.
const FOLDERS: [&str; 7] = ["rootfs", "cache", "steps", "mounts", "packages", "downloads", "tmp"];
const LOCK: &str = "in-use.lock";

impl Store {
    /// Opens the store in `dir`, made where there is none. A store that may not be written is opened for reading.
    ///
    /// # Errors
    /// When the folder cannot be made or read, holds something else, or is another user's.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        let layout = match fs::symlink_metadata(dir.join("oci-layout")) {
            Ok(_) => Layout::open(dir)?,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(not_ours(&dir, error));
            }
            Err(_) => Self::create(dir)?,
        };
        let writable = prepare(layout.dir())?;
        let in_use = open_lock(layout.dir(), writable)?;
        let scratch = Scratch::new(layout.dir().join("tmp"), writable);
        Ok(Self(Arc::new(Inner { layout, scratch, in_use })))
    }

    fn create(dir: PathBuf) -> Result<Layout> {
        let failed = |source| Error::NoStore { dir: dir.clone(), source };
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        let layout = Layout::create(dir)?;
        layout.edit_index(|_| false)?;
        Ok(layout)
    }
}

/// Makes what is missing in the store's directory, and closes it to others. Says whether it can be written.
fn prepare(dir: &Path) -> Result<bool> {
    let meta = fs::metadata(dir)?;
    if rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_err() {
        return Ok(false);
    }
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() == me && meta.mode() & 0o077 != 0 {
        match fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)) {
            // An owner may do that, but on file systems without modes.
            Err(error)
                if !matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) =>
            {
                return Err(error.into());
            }
            _ => {}
        }
    }
    for name in FOLDERS {
        let path = dir.join(name);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => continue,
            Ok(_) => {
                let what = format!("store {}", dir.display());
                return Err(Error::invalid(
                    what,
                    format!("`{name}` is not a directory, or is a link to one"),
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        if meta.uid() != me {
            std::os::unix::fs::lchown(&path, Some(meta.uid()), Some(meta.gid()))?;
        }
    }
    Ok(true)
}

/// The lock that all share who have the store open; none for a store that cannot be written and never had one.
fn open_lock(dir: &Path, writable: bool) -> Result<Option<fs::File>> {
    let path = dir.join(LOCK);
    // To lock a file takes no right to write it, and another user may have made it.
    let file = match fs::File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && writable => {
            fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path)?
        }
        Err(_) if !writable => return Ok(None),
        result => result?,
    };
    file.file().lock_shared()?;
    Ok(Some(file))
}

fn not_ours(dir: &Path, error: io::Error) -> Error {
    let owner = dir.ancestors().find_map(|dir| fs::metadata(dir).ok());
    match owner {
        Some(meta) if meta.uid() != rustix::process::geteuid().as_raw() => {
            // In a user namespace, the id of all who are not in it.
            let owner = match meta.uid() {
                65534 => "another user".to_owned(),
                uid => format!("uid {uid}"),
            };
            Error::NotYours { dir: dir.to_owned(), owner }
        }
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_store_is_for_its_owner_alone() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("home/store");
        drop(Store::open(&dir).unwrap());
        assert_eq!(mode(&dir), 0o700);
        // One that an earlier version made.
        fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        drop(Store::open(&dir).unwrap());
        assert_eq!(mode(&dir), 0o700);
    }

    #[test]
    fn many_make_one_store_at_once() {
        for _ in 0..20 {
            let temp = tempfile::tempdir().unwrap();
            let dir = temp.path().join("home/store");
            std::thread::scope(|scope| {
                let open = || scope.spawn(|| Store::open(&dir).map(drop));
                let opened: Vec<_> = (0..8).map(|_| open()).collect();
                opened.into_iter().for_each(|it| it.join().unwrap().unwrap());
            });
            let strays = fs::read_dir(&dir).unwrap().flatten();
            assert_eq!(strays.filter(|it| it.file_name().to_string_lossy().starts_with('.')).count(), 0);
        }
    }

    #[test]
    fn what_an_interrupted_creation_left_is_no_hindrance() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("store");
        for left in ["blobs/sha256/x", ".pannier-new-a", ".new-b", "index.json"] {
            fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
            fs::write(dir.join(left), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
            drop(Store::open(&dir).unwrap_or_else(|error| panic!("{left}: {error}")));
            fs::remove_dir_all(&dir).unwrap();
        }
    }

    #[test]
    fn a_folder_of_the_store_that_is_a_link_is_refused_and_what_it_leads_to_spared() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, precious) = (temp.path().join("store"), temp.path().join("precious"));
        fs::create_dir_all(precious.join("1-1")).unwrap();
        fs::write(precious.join("7-7.lock"), "x").unwrap();
        for name in FOLDERS {
            drop(Store::open(&dir).unwrap());
            fs::remove_dir(dir.join(name)).unwrap();
            std::os::unix::fs::symlink(&precious, dir.join(name)).unwrap();
            let error = Store::open(&dir).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("link"), "{error}");
            fs::remove_file(dir.join(name)).unwrap();
        }
        assert_eq!(fs::read_dir(&precious).unwrap().count(), 2);
    }
}
