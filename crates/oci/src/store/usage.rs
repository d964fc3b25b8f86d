//! What a store holds, in bytes on disk.

use super::Store;
use super::prune::{disk_usage, folders};
use crate::error::Result;

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of images in the list.
    pub images: usize,
    /// Bytes on disk of blobs and unpacked layers, whether an image needs them or not.
    pub image_bytes: u64,
    /// Number of build caches.
    pub caches: usize,
    /// Bytes on disk of the build caches.
    pub cache_bytes: u64,
    /// Bytes on disk of steps and cache mounts of Dockerfiles.
    pub step_bytes: u64,
}

impl Store {
    /// Measures the store. A number for people: others may write to it meanwhile.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn usage(&self) -> Result<Usage> {
        let size = |name: &str| match self.dir().join(name) {
            dir if dir.exists() => disk_usage(&dir),
            _ => Ok(0),
        };
        let caches = folders(&self.cache_dir())?;
        Ok(Usage {
            images: self.0.layout.names()?.len(),
            image_bytes: size("blobs")?.saturating_add(size("rootfs")?),
            caches: caches.len(),
            cache_bytes: caches.iter().map(|cache| disk_usage(cache)).sum::<Result<u64>>()?,
            step_bytes: size("steps")?.saturating_add(size("mounts")?),
        })
    }
}
