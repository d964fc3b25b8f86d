//! Root file systems for one program each: an overlay whose upper goes with the program.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fs_err as fs;
use sandbox::{Mount, Overlay};

use super::{BenchError, copy_mode_and_owner};

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
        let [merged, upper, work] = ["root", "upper", "work"].map(|name| dir.join(name));
        for folder in [&dir, &merged, &upper, &work] {
            fs::create_dir(folder)?;
        }
        let mut root = FreshRoot { dir, merged, mount: None };
        if let Some(top) = self.lowers.first() {
            copy_mode_and_owner(top, &upper)?;
        }
        let lowers = self.lowers.clone();
        let overlay = Overlay { lowers, upper: Some(upper), work: Some(work), read_only: false };
        root.mount = Some(overlay.mount(&root.merged)?);
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
