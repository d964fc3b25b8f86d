//! The package databases of an image, read from as little of it as possible: from trees of its layers where they are,
//! and else from the layers' streams, of which only the databases are unpacked.

use std::path::{Path, PathBuf};

use events::Events;
use fs_err as fs;
use layer::unpack::{Limits, Options, Owners, UnpackError, unpack};
use layer::{Digest, PathError, Root};
use oci::{Image, Layer, Store, Unpacker};
use packages::{DATABASES, PackageSet, ReadError};
use sandbox::{MountError, Overlay};

use super::known;
use crate::build::request::BuildRequest;
use crate::build::unpacker;

/// What is in a layer may be large, what is unpacked of it may not.
const LIMITS: Limits = Limits { bytes: 128 << 30, entries: 10_000_000 };

/// The databases of an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum DatabasesError {
    #[error(transparent)]
    Store(#[from] oci::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("layer {digest} cannot be unpacked")]
    Unpack {
        digest: Digest,
        #[source]
        source: UnpackError,
    },
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Reads databases, by way of the store.
pub(super) struct Databases<'a> {
    store: &'a Store,
    unpacker: Unpacker,
    events: &'a dyn Events,
}

impl<'a> Databases<'a> {
    pub fn new(request: &'a BuildRequest, events: &'a dyn Events) -> Self {
        Self { store: &request.store, unpacker: unpacker(request.ids), events }
    }

    /// Where what was found out is kept.
    pub fn store(&self) -> &Store {
        self.store
    }

    /// The packages of an image; none when it has no database. Layers that are elsewhere are fetched, because whoever
    /// goes on to extend the image needs them too.
    pub fn of_image(&self, image: &Image) -> Result<Option<PackageSet>, DatabasesError> {
        let key = known::of_layers(image.layers().iter().map(|layer| layer.diff_id));
        if let Some(set) = known::read(self.store, &key) {
            return Ok(set);
        }
        let mut away = false;
        for layer in image.layers() {
            away |= self.store.unpacked_layer(&self.unpacker, layer.diff_id)?.is_none()
                && layer.blobs.local_path(&layer.descriptor).is_none()
                && matches!(layer.blobs.origin(), oci::Origin::Registry(_));
        }
        let fetched;
        let layers = match away {
            true => {
                fetched = self.store.fetch(image, self.events)?;
                fetched.layers()
            }
            false => image.layers(),
        };
        self.of_layers(layers, &|_| None)
    }

    /// The packages of a root file system made of these layers, the lowest first. `tree` knows of trees that are not
    /// in the store's `rootfs/`.
    pub fn of_layers(
        &self,
        layers: &[Layer],
        tree: &dyn Fn(Digest) -> Option<PathBuf>,
    ) -> Result<Option<PackageSet>, DatabasesError> {
        let key = known::of_layers(layers.iter().map(|layer| layer.diff_id));
        if let Some(set) = known::read(self.store, &key) {
            return Ok(set);
        }
        let work = tempfile::Builder::new().prefix("packages-").tempdir_in(self.store.scratch_dir()?)?;
        let merged = work.path().join("merged");
        let lowers = self.lowers(layers, work.path(), &|layer| match tree(layer.diff_id) {
            Some(tree) => Ok(Some(tree)),
            None => self.store.unpacked_layer(&self.unpacker, layer.diff_id),
        })?;
        let set = match read_mounted(lowers, &merged) {
            // Where no overlay can be mounted, trees of databases alone are small enough to be put together.
            Err(DatabasesError::Mount(_)) => {
                let folder = work.path().join("small");
                fs::create_dir(&folder)?;
                let small = self.lowers(layers, &folder, &|_| Ok(None))?;
                let flat = work.path().join("flat");
                layer::flatten(&small, &flat)?;
                packages::read(&Root::open(&flat)?)?
            }
            set => set?,
        };
        known::write(self.store, &key, &set);
        Ok(set)
    }

    /// Trees of the layers with the databases at least, the topmost first: those that `known` has, and else new ones in
    /// `work`.
    fn lowers(
        &self,
        layers: &[Layer],
        work: &Path,
        known: &dyn Fn(&Layer) -> Result<Option<PathBuf>, oci::Error>,
    ) -> Result<Vec<PathBuf>, DatabasesError> {
        let mut seen: Vec<Digest> = Vec::new();
        let mut lowers = Vec::new();
        for layer in layers.iter().rev() {
            // Of equal layers the highest says all that the others do.
            if seen.contains(&layer.diff_id) {
                continue;
            }
            seen.push(layer.diff_id);
            lowers.push(match known(layer)? {
                Some(tree) => tree,
                None => unpack_databases(layer, work.join(seen.len().to_string()))?,
            });
        }
        Ok(lowers)
    }
}

/// Unpacks of a layer what package databases are made of.
fn unpack_databases(layer: &Layer, dir: PathBuf) -> Result<PathBuf, DatabasesError> {
    let options = Options {
        owners: Owners::Ours,
        limits: LIMITS,
        diff_id: Some(layer.diff_id),
        only: Some(&is_wanted),
        ..Options::default()
    };
    let failed = |source| DatabasesError::Unpack { digest: layer.descriptor.digest, source };
    unpack(layer.open()?, &dir, &options).map_err(failed)?;
    Ok(dir)
}

/// True for a database, and for everything on the way to one: it may be a link.
fn is_wanted(path: &Path) -> bool {
    DATABASES.iter().any(|database| path.starts_with(database) || Path::new(database).starts_with(path))
}

/// Reads the databases of a root file system made of these trees, the topmost first.
fn read_mounted(lowers: Vec<PathBuf>, merged: &Path) -> Result<Option<PackageSet>, DatabasesError> {
    if lowers.is_empty() {
        return Ok(None);
    }
    fs::create_dir(merged)?;
    let mount = Overlay { lowers, read_only: true, ..Overlay::default() }.mount(merged)?;
    let set = Root::open(merged).map_err(DatabasesError::from).and_then(|root| Ok(packages::read(&root)?));
    mount.unmount()?;
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_to_a_database_is_wanted() {
        for wanted in ["var", "var/lib", "var/lib/dpkg/status.d/base", "lib", "usr/lib/os-release"] {
            assert!(is_wanted(Path::new(wanted)), "{wanted}");
        }
        for other in ["var/lib/dpkg/info", "var/lib/dpkg/status-old", "usr/bin", "lib/libc.so", "etc/passwd"]
        {
            assert!(!is_wanted(Path::new(other)), "{other}");
        }
    }
}
