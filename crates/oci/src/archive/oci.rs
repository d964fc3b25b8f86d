//! Reading an `oci-archive`: a tar of an OCI image layout.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::members::Members;
use crate::error::{Error, Result};
use crate::image::{Blobs, Image, MAX_DOCUMENT, Origin, parse_index};
use crate::image_set::ImageSet;
use crate::layout::{check_layout_file, find_image, find_set};
use crate::model::{Descriptor, Index, Platform};

/// A tar of an OCI image layout.
#[derive(Clone, Debug)]
pub struct OciArchive {
    members: Members,
}

impl OciArchive {
    /// Opens the archive at `path`; `scratch` as in [`Members::open`].
    ///
    /// # Errors
    /// When it cannot be read, or is no archive of a layout.
    pub fn open(path: impl Into<PathBuf>, scratch: &Path) -> Result<Self> {
        let members = Members::open(path, scratch)?;
        let place = members.path().display().to_string();
        if members.size("oci-layout").is_none() {
            let reason = match members.size("manifest.json") {
                Some(_) => {
                    "it has no `oci-layout` but a `manifest.json`: expected the name `docker-archive:FILE`"
                }
                None => "it has no `oci-layout`",
            };
            return Err(Error::invalid(format!("archive {place}"), reason));
        }
        check_layout_file(&members.read("oci-layout", MAX_DOCUMENT)?, &place)?;
        Ok(Self { members })
    }

    /// `index.json`.
    ///
    /// # Errors
    /// When it is missing or no index.
    pub fn index(&self) -> Result<Index> {
        let bytes = self.members.read("index.json", MAX_DOCUMENT)?;
        parse_index(&bytes, &self.members.path().display().to_string())
    }

    /// The image of this name for this platform, as [`crate::Layout::image`].
    ///
    /// # Errors
    /// As there.
    pub fn image(&self, name: Option<&str>, platform: &Platform) -> Result<Image> {
        find_image(&self.index()?, name, platform, &(Arc::new(self.clone()) as Arc<dyn Blobs>))
    }

    /// The image of this name for all its platforms.
    ///
    /// # Errors
    /// As [`crate::Layout::image`].
    pub fn image_set(&self, name: Option<&str>) -> Result<ImageSet> {
        find_set(&self.index()?, name, &(Arc::new(self.clone()) as Arc<dyn Blobs>))
    }
}

impl Blobs for OciArchive {
    fn open(&self, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        let place = || self.members.path().display().to_string();
        let name = format!("blobs/{}/{}", blob.digest.algorithm(), blob.digest.hex());
        match self.members.size(&name) {
            Some(found) if found != blob.size => {
                Err(Error::BlobSize { digest: blob.digest, place: place(), expected: blob.size, found })
            }
            _ => match self.members.open_member(&name, offset) {
                Some(section) => Ok(Box::new(section)),
                None => Err(Error::MissingBlob { digest: blob.digest, place: place() }),
            },
        }
    }

    fn origin(&self) -> Origin {
        Origin::Local(self.members.path().display().to_string())
    }
}
