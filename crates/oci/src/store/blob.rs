//! Writing one blob: a temporary file, hashed on the way, synced and renamed to its digest.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use layer::{Digest, Hasher};

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::model::Descriptor;
use crate::publish;

/// Writes a blob into the store. Dropped without a commit, it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    layout: Layout,
    file: tempfile::NamedTempFile,
    hasher: Option<Hasher>,
    size: u64,
}

impl BlobWriter {
    pub(super) fn new(layout: Layout, scratch: &Path, hash: bool) -> Result<Self> {
        let file = tempfile::Builder::new().prefix("blob-").tempfile_in(scratch)?;
        Ok(Self { layout, file, hasher: hash.then(Hasher::new), size: 0 })
    }

    /// Bytes written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The temporary file: who knows how much was written may read along.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Ends the blob: syncs it and gives it its place.
    ///
    /// # Errors
    /// When the file cannot be synced or renamed, or the writer was made without hashing.
    pub fn commit(mut self, media_type: &str) -> Result<Descriptor> {
        let hasher = self.hasher.take().ok_or_else(|| {
            Error::invalid("blob writer", "it computes no digest, expected the caller to give one")
        })?;
        self.commit_with(media_type, hasher.finish())
    }

    /// Ends the blob under a digest that the caller computed from the same bytes.
    ///
    /// # Errors
    /// When the file cannot be synced or renamed.
    pub fn commit_with(self, media_type: &str, digest: Digest) -> Result<Descriptor> {
        let descriptor = Descriptor::new(media_type, digest, self.size);
        if !self.layout.has(&descriptor) {
            self.file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
            self.file.as_file().sync_all()?;
            let path = self.layout.blob_path(digest);
            let _permit = publish::permit();
            self.file.persist(&path).map_err(|error| {
                let text = format!("failed to write `{}`: {}", path.display(), error.error);
                io::Error::new(error.error.kind(), text)
            })?;
        }
        Ok(descriptor)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes[..count]);
        }
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
