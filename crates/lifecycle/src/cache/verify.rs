//! Comparing the trees of a cache with what was noted of them.

use std::io;
use std::path::Path;

use cnb::launch::escape_id;
use fs_err as fs;

use super::index::{Index, TreeRecord};
use super::{Cache, CacheError};

impl Cache {
    /// What is wrong with the cache in `dir`, each a line; none when a build has it open. Nothing is changed.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn damage(dir: &Path) -> Result<Option<Vec<String>>, CacheError> {
        // Opened for reading: the disk may be read-only. Without the file nobody has ever built with it.
        let lock = match fs::File::open(dir.join("lock")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Vec::new())),
            lock => lock?,
        };
        if lock.file().try_lock().is_err() {
            return Ok(None);
        }
        let (mut index, unreadable) = Index::read(dir)?;
        let damaged = forget_damaged(&mut index, dir, false).into_iter();
        let lines = damaged.map(|layer| format!("the cached layer {layer} is not what it was"));
        Ok(Some(unreadable.into_iter().chain(lines).collect()))
    }

    /// Forgets what [`Cache::damage`] finds, so that buildpacks make it again. Does nothing when a build has the cache
    /// open.
    ///
    /// # Errors
    /// A file that cannot be read or removed.
    pub fn repair(dir: &Path) -> Result<(), CacheError> {
        let Some(mut cache) = Self::try_open(dir)? else { return Ok(()) };
        if !forget_damaged(&mut cache.index, dir, false).is_empty() || cache.discarded.is_some() {
            cache.index.write(dir)?;
        }
        cache.sweep()
    }
}

/// Takes layers out of the index whose trees are not what they were, and gives their names. `trusted` trees only have to
/// be there: none of them was lost since it was written.
pub(super) fn forget_damaged(index: &mut Index, dir: &Path, trusted: bool) -> Vec<String> {
    let trees = dir.join("trees");
    let damaged = |tree: &TreeRecord, path: &Path| {
        let shape = if trusted { path.is_dir().then_some(tree.shape) } else { layer::shape(path).ok() };
        shape != Some(tree.shape)
    };

    let mut lost = Vec::new();
    for buildpack in &mut index.buildpacks {
        let home = escape_id(&buildpack.id);
        buildpack.layers.retain(|layer| {
            let bad = damaged(&layer.tree, &trees.join(&layer.tree.name).join(&home).join(&layer.name));
            if bad {
                lost.push(format!("{}:{}", buildpack.id, layer.name));
            }
            !bad
        });
    }
    // Found out again with the layers; nobody misses them meanwhile.
    if index.sbom.as_ref().is_some_and(|tree| damaged(tree, &trees.join(&tree.name))) {
        index.sbom = None;
    }
    lost
}
