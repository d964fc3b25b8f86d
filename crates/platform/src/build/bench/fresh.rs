//! Root file systems for one program each: an overlay whose upper goes with the program.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fs_err as fs;
use sandbox::Mount;

use super::{BenchError, mount_with_upper};

/// What such root file systems are made of.
#[derive(Clone, Debug)]
pub(in crate::build) struct Fresh {
    dir: PathBuf,
    lowers: Vec<PathBuf>,
    /// How many there were.
    count: Arc<AtomicU32>,
}

/// A mounted one. Unmounted and removed when dropped.
#[derive(Debug)]
pub(in crate::build) struct FreshRoot {
    dir: PathBuf,
    merged: PathBuf,
    mount: Option<Mount>,
}

impl Fresh {
    /// On `lowers`, the topmost first, in a folder of its own.
    pub(super) fn new(dir: PathBuf, lowers: Vec<PathBuf>) -> Self {
        Self { dir, lowers, count: Arc::default() }
    }

    /// Mounts one. From any thread.
    pub(in crate::build) fn mount(&self) -> Result<FreshRoot, BenchError> {
        let dir = self.dir.join(self.count.fetch_add(1, Ordering::Relaxed).to_string());
        let merged = dir.join("root");
        for folder in [&dir, &merged] {
            fs::create_dir(folder)?;
        }
        let mut root = FreshRoot { dir, merged, mount: None };
        let (mount, _) = mount_with_upper(&root.dir, &root.merged, self.lowers.clone())?;
        root.mount = Some(mount);
        Ok(root)
    }
}

impl FreshRoot {
    /// The mounted folder.
    pub(in crate::build) fn path(&self) -> &Path {
        &self.merged
    }
}

impl Drop for FreshRoot {
    fn drop(&mut self) {
        self.mount = None;
        // What cannot be removed now goes with the bench.
        let _ = sandbox::remove_tree(&self.dir);
    }
}
