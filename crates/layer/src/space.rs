//! Whether there is room on a disk, and what programs say when there is none.
//!
//! A program that fails for want of space often removes what it wrote before it ends: so the disk is looked at while it
//! runs, too.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Free bytes of a disk that is as good as full.
const NEARLY_FULL: u64 = 4 << 20;
/// Files that can still be made on a disk that is as good as full.
const FEW_FILES: u64 = 16;
/// How often a disk is looked at.
const EVERY: Duration = Duration::from_millis(20);

/// A disk without room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullDisk {
    /// A folder on it.
    pub path: PathBuf,
    /// Free bytes.
    pub free: u64,
    /// Files that can still be made; none where the file system does not count them.
    pub files: Option<u64>,
}

impl fmt::Display for FullDisk {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "no space is left on the disk of {}: {} bytes", self.path.display(), self.free)?;
        match self.files {
            Some(files) if files < FEW_FILES => write!(out, " and {files} files are free"),
            _ => out.write_str(" are free"),
        }
    }
}

impl FullDisk {
    /// What there is on the disk of `path`, when that is hardly anything.
    pub fn look(path: &Path) -> Option<Self> {
        let disk = rustix::fs::statvfs(path).ok()?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let files = (disk.f_files > 0).then_some(disk.f_favail);
        let is_full = free < NEARLY_FULL || files.is_some_and(|files| files < FEW_FILES);
        is_full.then(|| Self { path: path.to_owned(), free, files })
    }
}

/// Looks at a disk again and again until it is dropped.
#[derive(Debug)]
pub struct SpaceWatch {
    path: PathBuf,
    ends: Arc<(Mutex<bool>, Condvar)>,
    /// What was seen when there was least.
    seen: Arc<Mutex<Option<FullDisk>>>,
    thread: Option<JoinHandle<()>>,
}

impl SpaceWatch {
    /// Begins to look at the disk of `path`. Where no thread can be had, it is looked at when it is asked for.
    pub fn start(path: &Path) -> Self {
        let (ends, seen) =
            (Arc::<(Mutex<bool>, Condvar)>::default(), Arc::<Mutex<Option<FullDisk>>>::default());
        let work = {
            let (path, ends, seen) = (path.to_owned(), Arc::clone(&ends), Arc::clone(&seen));
            move || {
                let (ended, told) = &*ends;
                let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
                while !*ended {
                    note(&seen, &path);
                    let waited = told.wait_timeout(ended, EVERY);
                    ended = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        };
        let thread = std::thread::Builder::new().name("space".to_owned()).spawn(work).ok();
        Self { path: path.to_owned(), ends, seen, thread }
    }

    /// What there was on the disk when there was least of it since the start, when that was hardly anything.
    pub fn lowest(&self) -> Option<FullDisk> {
        note(&self.seen, &self.path);
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for SpaceWatch {
    fn drop(&mut self) {
        *self.ends.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ends.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // It only looks, and has nothing to say about how it ended.
            let _ = thread.join();
        }
    }
}

fn note(seen: &Mutex<Option<FullDisk>>, path: &Path) {
    let Some(now) = FullDisk::look(path) else { return };
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let is_less = |before: &FullDisk| now.free < before.free || now.files < before.files;
    if seen.as_ref().is_none_or(is_less) {
        *seen = Some(now);
    }
}

/// What the words of a program that failed mean, when they are about space: they do not say which disk is meant.
pub fn meaning(output: &str) -> Option<&'static str> {
    const WORDS: [(&[&str], &str); 4] = [
        (
            &["no space left on device", "enospc", "os error 28"],
            "the program found no space, and the store's disk has some: what it wrote to is a file system of its own, \
             such as /dev/shm or a tmpfs mount, which are in memory",
        ),
        (
            &["disk quota exceeded", "edquot", "os error 122"],
            "a quota of the disk is used up: `pannier prune` removes what no image needs, or --home can name a folder \
             on another disk",
        ),
        (
            &["file too large", "efbig", "os error 27"],
            "a file is larger than the file system or the limit of file sizes (`ulimit -f`) allows",
        ),
        (
            &["read-only file system", "erofs", "os error 30"],
            "the program tried to write where a sandbox is read-only",
        ),
    ];
    let output = output.to_lowercase();
    let said = |words: &&(&[&str], &str)| words.0.iter().any(|word| output.contains(word));
    WORDS.iter().find(said).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_with_room_is_not_full() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(FullDisk::look(folder.path()), None);
        assert_eq!(SpaceWatch::start(folder.path()).lowest(), None);
        assert_eq!(FullDisk::look(Path::new("/proc/none")), None);
    }

    #[test]
    fn a_full_disk_is_described() {
        let full = |free, files| FullDisk { path: "/store".into(), free, files }.to_string();
        assert_eq!(full(12, None), "no space is left on the disk of /store: 12 bytes are free");
        assert_eq!(full(12, Some(9000)), "no space is left on the disk of /store: 12 bytes are free");
        assert_eq!(
            full(1 << 30, Some(0)),
            "no space is left on the disk of /store: 1073741824 bytes and 0 files are free"
        );
    }

    #[test]
    fn the_least_that_was_seen_counts() {
        let seen = Mutex::new(Some(FullDisk { path: "/proc".into(), free: 7, files: Some(3) }));
        // A file system without room by its own account.
        note(&seen, Path::new("/proc"));
        assert_eq!(seen.into_inner().unwrap().map(|disk| disk.free), Some(0));
    }

    #[test]
    fn words_about_space_are_known() {
        for (said, part) in [
            ("tar: x: Cannot write: No space left on device", "/dev/shm"),
            ("Error: ENOSPC: no space left on device, write", "/dev/shm"),
            ("cp: Disk quota exceeded", "quota"),
            ("dd: File too large", "ulimit"),
            ("touch: Read-only file system", "read-only"),
        ] {
            assert!(meaning(said).is_some_and(|meaning| meaning.contains(part)), "{said}");
        }
        assert_eq!(meaning("no such file"), None);
    }
}
