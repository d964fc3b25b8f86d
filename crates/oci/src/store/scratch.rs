//! `tmp/`: a folder for each open store, held by a lock file, so that what a killed process left is known as such.
//!
//! `NAME.lock` is made and locked before the folder `NAME`, and removed after it. A lock that can be taken has no
//! owner; a folder without a lock file neither. A name is a process id, a hyphen and a number: nothing else is ever
//! removed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use fs_err as fs;

use crate::error::{Error, Result};
use crate::publish;

/// The scratch folder of one open store, made when first asked for.
#[derive(Debug)]
pub(super) struct Scratch {
    root: PathBuf,
    writable: bool,
    own: OnceLock<Own>,
    /// Held while the folder is made.
    making: Mutex<()>,
    /// Directories of other parts of the program whose contents go with an interrupt.
    elsewhere: Mutex<Vec<PathBuf>>,
}

#[derive(Debug)]
struct Own {
    dir: PathBuf,
    lock: PathBuf,
    _held: fs::File,
}

impl Scratch {
    pub(super) fn new(root: PathBuf, writable: bool) -> Self {
        Self { root, writable, own: OnceLock::new(), making: Mutex::new(()), elsewhere: Mutex::default() }
    }

    /// This store's folder; the first call also removes what dead processes left.
    pub(super) fn dir(&self) -> Result<&Path> {
        if self.own.get().is_none() {
            if !self.writable {
                let dir = self.root.parent().unwrap_or(&self.root).to_owned();
                return Err(Error::ReadOnly { dir });
            }
            sweep(&self.root)?;
            // Once the program is about to end, nobody would remove the folder. Asked for before the lock, which the
            // end waits for.
            let _permit = publish::permit();
            let _making = lock(&self.making);
            if self.own.get().is_none()
                && let Err(spare) = self.own.set(Own::make(&self.root)?)
            {
                spare.remove();
            }
        }
        Ok(self.own.get().map_or(self.root.as_path(), |own| own.dir.as_path()))
    }
}

impl Scratch {
    /// Removes the folder while others may still write there: what they add meanwhile stays for the next sweep, and so
    /// does the lock file that tells of it.
    ///
    /// `unmount` takes away what is mounted below a directory: a mount that another thread still makes would keep its
    /// directory from being removed.
    pub(super) fn abandon(&self, unmount: &dyn Fn(&Path)) {
        // Never let go: a folder that another thread made from now on would stay.
        std::mem::forget(lock(&self.making));
        self.abandon_elsewhere();
        let Some(own) = self.own.get() else { return };
        let removed = in_rounds(|| {
            unmount(&own.dir);
            remove_tree(&own.dir).is_ok()
        });
        if removed {
            let _ = fs::remove_file(&own.lock);
        }
    }
}

impl Scratch {
    /// See [`super::Store::scratch_elsewhere`].
    pub(super) fn add_elsewhere(&self, dir: PathBuf) {
        lock(&self.elsewhere).push(dir);
    }

    fn abandon_elsewhere(&self) {
        for dir in std::mem::take(&mut *lock(&self.elsewhere)) {
            in_rounds(|| empty(&dir));
        }
    }
}

/// Does it again until it works. Others may add to a tree while it is removed, but not for long: they fail as their
/// folders go away, so a few rounds do.
fn in_rounds(done: impl Fn() -> bool) -> bool {
    (0..50).any(|round| {
        if round > 0 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        done()
    })
}

/// Removes what is in a directory; true when nothing is there any more.
fn empty(dir: &Path) -> bool {
    let entries: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().collect();
    entries.iter().all(|entry| remove_tree(&entry.path()).is_ok())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits a while for this process's folders below `root` to be removed by whoever is doing it.
pub(super) fn wait_until_gone(root: &Path) {
    let prefix = format!("{}-", std::process::id());
    let is_ours = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with(&prefix);
    for _ in 0..100 {
        if !fs::read_dir(root).is_ok_and(|entries| entries.flatten().any(is_ours)) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(own) = self.own.take() {
            own.remove();
            // Again: sandboxes of a killed process may have held its lock for a moment when this one began.
            let _ = sweep(&self.root);
        }
    }
}

impl Own {
    fn make(root: &Path) -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        loop {
            let name = format!("{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
            let lock = root.join(format!("{name}.lock"));
            let held = match fs::OpenOptions::new().write(true).create_new(true).open(&lock) {
                Ok(file) => file,
                // The process of this id in another pid namespace, or a dead one that the sweep could not remove.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error.into()),
            };
            held.file().lock()?;
            // A sweep may have come between making the file and locking it.
            if !same_file(&held, &lock) {
                continue;
            }
            let dir = root.join(name);
            match fs::create_dir(&dir) {
                // Of somebody whose files we may not remove.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    fs::remove_file(&lock)?;
                    continue;
                }
                result => result?,
            }
            return Ok(Self { dir, lock, _held: held });
        }
    }

    /// Best effort: the next process sweeps what stays.
    fn remove(self) {
        let _ = remove_tree(&self.dir);
        let _ = fs::remove_file(&self.lock);
    }
}

/// Removes what processes that are gone left.
pub(super) fn sweep(root: &Path) -> Result<()> {
    // Somebody may have put a link there since the store was opened, to have other files swept.
    if !fs::symlink_metadata(root)?.is_dir() {
        return Err(Error::invalid(format!("directory {}", root.display()), "it is a link or a file"));
    }
    let mut folders = Vec::new();
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        match (is_ours(&path), path.extension()) {
            (false, _) => {}
            (true, Some(_)) => sweep_lock(&path),
            (true, None) => folders.push(path),
        }
    }
    // A folder is younger than its lock file, so one without was left by an interrupted sweep.
    for folder in folders.iter().filter(|folder| !with_lock(folder).exists()) {
        let _ = remove_tree(folder);
    }
    Ok(())
}

/// Whether a path has a name that [`Own::make`] gives, with or without `.lock`.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let stem = name.strip_suffix(".lock").unwrap_or(name);
    stem.split_once('-').is_some_and(|(process, count)| number(process) && number(count))
}

fn sweep_lock(lock: &Path) {
    // A link is nobody's lock, and a pipe must not hold us.
    if !fs::symlink_metadata(lock).is_ok_and(|meta| meta.is_file()) {
        return;
    }
    let Ok(file) = fs::OpenOptions::new().write(true).open(lock) else { return };
    if file.file().try_lock().is_err() || !same_file(&file, lock) {
        return;
    }
    let _ = remove_tree(&lock.with_extension(""));
    let _ = fs::remove_file(lock);
}

fn with_lock(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// Whether an open file is still what a path names.
pub(super) fn same_file(open: &fs::File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |meta: &std::fs::Metadata| (meta.dev(), meta.ino());
    matches!((open.metadata(), fs::metadata(path)), (Ok(a), Ok(b)) if id(&a) == id(&b))
}

/// Removes a file or a whole tree, also one whose folders nobody may write to (as layers and overlays leave).
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        meta => meta?,
    };
    if !meta.is_dir() {
        return fs::remove_file(path);
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        result => result,
    }
}

fn open_up(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_the_dead_and_spares_the_living() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("tmp");
        fs::create_dir(&root).unwrap();
        let living = Scratch::new(root.clone(), true);
        fs::write(living.dir().unwrap().join("half"), "x").unwrap();
        fs::create_dir_all(root.join("9-9/deep")).unwrap();
        fs::write(root.join("9-9.lock"), "").unwrap();
        fs::create_dir(root.join("8-8")).unwrap();
        fs::write(root.join("stray"), "").unwrap();
        fs::create_dir(root.join("2024-photos")).unwrap();

        sweep(&root).unwrap();

        let own = living.dir().unwrap().to_owned();
        let left: Vec<_> = fs::read_dir(&root).unwrap().map(|e| e.unwrap().path()).collect();
        assert!(own.join("half").exists());
        assert_eq!(left.len(), 4, "{left:?}");
        drop(living);
        let mut left: Vec<_> = fs::read_dir(&root).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["2024-photos", "stray"], "what has no name of ours stays");
    }

    #[test]
    fn never_sweeps_through_a_link() {
        let temp = tempfile::tempdir().unwrap();
        let (root, precious) = (temp.path().join("tmp"), temp.path().join("precious"));
        fs::create_dir_all(precious.join("1-1")).unwrap();
        std::os::unix::fs::symlink(&precious, &root).unwrap();
        assert!(sweep(&root).is_err());
        assert!(Scratch::new(root.clone(), true).dir().is_err());
        fs::remove_file(&root).unwrap();
        fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink(&precious, root.join("5-5")).unwrap();
        sweep(&root).unwrap();
        assert!(precious.join("1-1").exists());
        assert!(!root.join("5-5").exists(), "the link itself is of no use");
    }

    #[test]
    fn removes_folders_nobody_may_write_to() {
        use std::os::unix::fs::PermissionsExt as _;
        let temp = tempfile::tempdir().unwrap();
        let tree = temp.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/b/c"), "x").unwrap();
        for folder in ["a/b", "a"] {
            fs::set_permissions(tree.join(folder), std::fs::Permissions::from_mode(0o000)).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }
}
