//! The lifecycle that is put into a builder: an archive or an image with programs, taken as they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cnb::ParseError;
use cnb::builder::LifecycleMetadata;
use layer::{Kind, PathError, Root};
use oci::Platform;

use crate::builder_toml::{BuilderToml, LifecycleSource};
use crate::locator::{Locator, LocatorError};
use crate::module::{Loader, ModuleError, rebase, unpack_archive};

/// The programs that every lifecycle has.
const PROGRAMS: [&str; 7] =
    ["analyzer", "builder", "creator", "detector", "exporter", "launcher", "restorer"];
/// The largest `lifecycle.toml` that is read, in bytes.
const DESCRIPTOR_LIMIT: u64 = 1 << 20;

/// A lifecycle whose files are on this machine.
#[derive(Debug)]
pub struct Lifecycle {
    /// What it says of itself.
    pub metadata: LifecycleMetadata,
    /// Its programs: the names they have in the builder, and where they are.
    pub files: BTreeMap<String, Program>,
}

/// A file of the lifecycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A program, and its mode.
    File(PathBuf, u32),
    /// A symlink, and what is written in it.
    Link(PathBuf),
}

/// A lifecycle cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LifecycleError {
    /// It cannot be had.
    #[error("failed to get the lifecycle {locator}")]
    Get {
        /// How it is named.
        locator: String,
        /// Why.
        #[source]
        source: ModuleError,
    },
    /// The text does not say where it is.
    #[error("the lifecycle: {0}")]
    Locator(LocatorError),
    /// A file is missing in it.
    #[error("{locator} is not a lifecycle: it has no {file}")]
    Missing {
        /// How it is named.
        locator: String,
        /// What is missing.
        file: String,
    },
    /// Its descriptor is invalid.
    #[error(transparent)]
    Descriptor(#[from] ParseError),
    /// There are no releases for this architecture.
    #[error(
        "there are no releases of the lifecycle for {architecture}: expected amd64, arm64, ppc64le or s390x"
    )]
    Architecture {
        /// The build image's.
        architecture: String,
    },
    /// Its files.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl Lifecycle {
    /// Gets what the configuration names; nothing where it names none.
    pub(super) fn get(
        loader: &Loader<'_>,
        config: &BuilderToml,
        platform: &Platform,
    ) -> Result<Option<Self>, LifecycleError> {
        let text = match &config.lifecycle {
            None => return Ok(None),
            Some(LifecycleSource::Uri(uri)) => uri.clone(),
            Some(LifecycleSource::Version(version)) => release(version, &platform.architecture)?,
        };
        let failed = |source: ModuleError| LifecycleError::Get { locator: text.clone(), source };
        let locator = Locator::parse(&text, config.folder(), &()).map_err(LifecycleError::Locator)?;
        match locator {
            Locator::Path(path) => Self::read_archive(loader, &path, &text),
            Locator::Url(url) => Self::read_archive(loader, &loader.download(&url).map_err(failed)?, &text),
            Locator::Image(name) => {
                let name = name.parse().map_err(|error: oci::InvalidName| failed(error.into()))?;
                let tree = tree_of_image(loader, &rebase(name, config.folder())).map_err(failed)?;
                let tree = tree.ok_or_else(|| missing(&text, "/cnb/lifecycle"))?;
                Self::read(&tree.join("cnb"), &text)
            }
            Locator::BuilderOrder => Err(failed(ModuleError::NoBuilder("from=builder".to_owned()))),
            Locator::OnBuilder(id) | Locator::OnDefaultBuilder(id) => {
                Err(failed(ModuleError::NoBuilder(id.to_string())))
            }
        }
        .map(Some)
    }

    fn read_archive(loader: &Loader<'_>, path: &Path, locator: &str) -> Result<Self, LifecycleError> {
        let failed = |source| LifecycleError::Get { locator: locator.to_owned(), source };
        let dir = tempfile::Builder::new().prefix("lifecycle-").tempdir_in(loader.scratch);
        let dir = dir.map_err(|error| failed(error.into()))?.keep();
        unpack_archive(path, &dir).map_err(failed)?;
        Self::read(&dir, locator)
    }

    /// Reads an unpacked lifecycle: `lifecycle.toml`, and programs one folder down, whatever its name is.
    pub(super) fn read(dir: &Path, locator: &str) -> Result<Self, LifecycleError> {
        let root = Root::open(dir)?;
        let text = match root.read_to_string("lifecycle.toml", DESCRIPTOR_LIMIT) {
            Err(error) if error.is_not_found() => return Err(missing(locator, "lifecycle.toml")),
            text => text?,
        };
        let metadata = LifecycleMetadata::parse(&format!("{locator}/lifecycle.toml"), &text)?;
        let mut files = BTreeMap::new();
        for folder in root.read_dir("")?.into_iter().filter(|entry| entry.kind == Kind::Dir) {
            let folder = PathBuf::from(folder.name);
            for entry in root.read_dir(&folder)? {
                let path = folder.join(&entry.name);
                let program = match entry.kind {
                    Kind::File => Program::File(dir.join(&path), root.lstat(&path)?.mode & 0o7777),
                    Kind::Symlink => Program::Link(root.read_link(&path)?),
                    _ => continue,
                };
                if let Some(name) = entry.name.to_str() {
                    files.insert(name.to_owned(), program);
                }
            }
        }
        match PROGRAMS.iter().find(|program| !files.contains_key(**program)) {
            Some(program) => Err(missing(locator, &format!("program `{program}`"))),
            None => Ok(Self { metadata, files }),
        }
    }
}

/// The tree of the image's topmost layer that has a lifecycle.
fn tree_of_image(loader: &Loader<'_>, name: &oci::ImageName) -> Result<Option<PathBuf>, ModuleError> {
    let failed = |source| ModuleError::Image { name: name.to_string(), source };
    let image = (loader.open)(name).map_err(failed)?;
    let trees = loader.store.rootfs(&image, loader.unpacker, loader.events).map_err(failed)?;
    for tree in trees {
        if Root::open(&tree)?.is_file("cnb/lifecycle.toml") {
            return Ok(Some(tree));
        }
    }
    Ok(None)
}

/// Where a release of the lifecycle is.
fn release(version: &str, architecture: &str) -> Result<String, LifecycleError> {
    let architecture = match architecture {
        "amd64" => "x86-64",
        "arm64" | "ppc64le" | "s390x" => architecture,
        other => return Err(LifecycleError::Architecture { architecture: other.to_owned() }),
    };
    Ok(format!(
        "https://github.com/buildpacks/lifecycle/releases/download/v{version}/lifecycle-v{version}+linux.{architecture}.tgz"
    ))
}

fn missing(locator: &str, file: &str) -> LifecycleError {
    LifecycleError::Missing { locator: locator.to_owned(), file: file.to_owned() }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn releases() {
        let url = release("0.20.0", "amd64").unwrap();
        assert!(url.ends_with("/v0.20.0/lifecycle-v0.20.0+linux.x86-64.tgz"), "{url}");
        assert!(release("0.20.0", "s390x").unwrap().ends_with("linux.s390x.tgz"));
        assert!(release("0.20.0", "riscv64").is_err());
    }
}
