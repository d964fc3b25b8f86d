//! Buildpacks and image extensions that are not on the builder: from a folder, an archive, a package (an image or
//! a `.cnb` file), a URL, or a script in the project descriptor.
//!
//! All of them become [`Module`]s: a checked descriptor, and a folder on this machine with the files. What comes
//! from elsewhere is hostile input; the user's own folders are only read. Not here: which modules a build uses
//! ([`crate::selection`]), or what a builder is made of.

mod download;
mod folder;
mod package;
#[cfg(test)]
pub(crate) mod tests;

use std::path::{Path, PathBuf};

use cnb::ParseError;
use cnb::builder::ModuleEntry;
use cnb::descriptor::ModuleDescriptor;
use cnb::group::{Kind, ModuleId};
use cnb::launch::escape_id;
use events::Events;
use fs_err as fs;
use layer::unpack::UnpackError;
use layer::{PathError, Root};
use oci::registry::Client;
use oci::{Image, ImageName, Layer, Platform, Store, Unpacker};

use crate::build::PullPolicy;
use crate::default_builder::DefaultBuilderError;
use crate::document::DocumentError;
use crate::locator::{Locator, LocatorError};
use crate::project::InlineBuildpack;

pub(crate) use folder::{hide, mode};
pub use folder::{stage, unpack_archive};

/// The largest descriptor that is read, in bytes.
const DESCRIPTOR_LIMIT: u64 = 4 << 20;

/// A buildpack or extension: what it says of itself, and its files.
#[derive(Clone, Debug)]
pub struct Module {
    /// Its descriptor.
    pub descriptor: ModuleDescriptor,
    /// Its files.
    pub content: Content,
    /// Where it came from, for messages.
    pub place: String,
}

/// Where the files of a module are on this machine.
#[derive(Clone, Debug)]
pub enum Content {
    /// The module's own folder. It is the user's unless `ours`.
    Folder {
        /// The folder.
        dir: PathBuf,
        /// True when it was made for this module and may be changed and moved.
        ours: bool,
    },
    /// A layer of a package, which may hold other modules too.
    Layer {
        /// The layer, unpacked: the module is at [`guest_path`] below it. Others use the same tree.
        tree: PathBuf,
        /// The layer as it is in the package.
        layer: Box<Layer>,
    },
}

/// Who says where a module is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// The person who runs this: a path may be a pipe of a shell.
    Person,
    /// A file of somebody's: a path must be a folder or a regular file, because our own standard input has a path too,
    /// and reading it may never end.
    File,
}

/// The folder of a module in a builder: `/cnb/buildpacks/<escaped id>/<version>`.
pub fn guest_path(module: &ModuleId) -> String {
    format!("{}/{}/{}", guest_folder(module.kind), escape_id(&module.id), module.version)
}

/// The folder of all modules of a kind in a builder.
pub fn guest_folder(kind: Kind) -> &'static str {
    match kind {
        Kind::Buildpack => "/cnb/buildpacks",
        Kind::Extension => "/cnb/extensions",
    }
}

/// The name of the descriptor's file.
pub fn descriptor_file(kind: Kind) -> &'static str {
    match kind {
        Kind::Buildpack => "buildpack.toml",
        Kind::Extension => "extension.toml",
    }
}

impl Module {
    /// Its name.
    pub fn id(&self) -> ModuleId {
        self.descriptor.module()
    }

    /// Its folder on this machine. What is in it is hostile: look at it through [`Root`].
    pub fn dir(&self) -> PathBuf {
        match &self.content {
            Content::Folder { dir, .. } => dir.clone(),
            Content::Layer { tree, .. } => tree.join(guest_path(&self.id()).trim_start_matches('/')),
        }
    }

    /// The entry of a builder's metadata for it.
    pub fn entry(&self) -> ModuleEntry {
        ModuleEntry::from(&self.descriptor.info)
    }
}

/// A module cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// The text does not say where it is.
    #[error(transparent)]
    Locator(#[from] LocatorError),
    /// It names something of the builder where there is none.
    #[error("`{0}` is a place on a builder, expected a folder, a file, a URL or an image")]
    NoBuilder(String),
    /// The builder inside the program cannot be made.
    #[error(transparent)]
    DefaultBuilder(#[from] DefaultBuilderError),
    /// The builder inside the program has no such module.
    #[error("the default builder has no {kind} `{wanted}`, only {}", has.join(", "))]
    NotOnDefaultBuilder {
        /// What was looked for.
        kind: Kind,
        /// Its id, and perhaps a version.
        wanted: String,
        /// What is there.
        has: Vec<String>,
    },
    /// There is no descriptor where it should be.
    #[error("{place} is not {article} {kind}: it has no {file}", article = article(*.kind))]
    NoDescriptor {
        /// Where it was looked for.
        place: String,
        /// What was looked for.
        kind: Kind,
        /// The file that is missing.
        file: String,
    },
    /// Its descriptor is invalid.
    #[error(transparent)]
    Descriptor(#[from] ParseError),
    /// Its version cannot be the name of a folder.
    #[error("{place}: '{version}' is not a version: three numbers were expected, such as 1.2.3")]
    Version {
        /// The descriptor.
        place: String,
        /// What it says.
        version: String,
    },
    /// The package's image cannot be had.
    #[error("failed to get the package {name}")]
    Image {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: oci::Error,
    },
    /// The name is not one of an image.
    #[error(transparent)]
    Name(#[from] oci::InvalidName),
    /// An image is not a package of such modules.
    #[error("{name} is not a {kind} package: {reason}")]
    NotAPackage {
        /// The image.
        name: String,
        /// What was expected.
        kind: Kind,
        /// What is missing or wrong.
        reason: String,
    },
    /// An archive is damaged or hostile.
    #[error("failed to unpack {}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: UnpackError,
    },
    /// It would have to be downloaded, and the pull policy is `never`.
    #[error("{name} was not downloaded before, and the pull policy is `never`")]
    NotKept {
        /// The file.
        name: String,
    },
    /// It cannot be downloaded.
    #[error(transparent)]
    Download(#[from] oci::registry::Error),
    /// The `package.toml` beside a buildpack has an error.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Packages that depend on each other without end.
    #[error("{place} has dependencies that are nested more than {limit} deep")]
    Nesting {
        /// The buildpack at which it was given up.
        place: String,
        /// How deep they may be.
        limit: usize,
    },
    /// Its files.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Files of ours.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

fn article(kind: Kind) -> &'static str {
    match kind {
        Kind::Buildpack => "a",
        Kind::Extension => "an",
    }
}

/// Gets modules.
#[expect(missing_debug_implementations, reason = "it holds a closure")]
pub struct Loader<'a> {
    /// Where layers of packages are unpacked and kept.
    pub store: &'a Store,
    /// For downloads.
    pub client: &'a Client,
    /// Opens an image by its name, as the pull policy says.
    pub open: &'a dyn Fn(&ImageName) -> Result<Image, oci::Error>,
    /// Which image of several is taken.
    pub platform: &'a Platform,
    /// How layers are unpacked.
    pub unpacker: &'a Unpacker,
    /// A folder for what is made on the way. It must live as long as the modules.
    pub scratch: &'a Path,
    /// When to ask a web server for a file that the store has.
    pub pull_policy: PullPolicy,
    /// Hears of downloads.
    pub events: &'a dyn Events,
}

impl Loader<'_> {
    /// Gets what the locator names: the module itself first, then those that came with it. A relative path in the
    /// name of an image starts from `base`.
    ///
    /// # Errors
    /// When it cannot be had, or is not a module of this kind.
    pub fn load(
        &self,
        kind: Kind,
        locator: &Locator,
        base: &Path,
        by: NamedBy,
    ) -> Result<Vec<Module>, ModuleError> {
        match locator {
            Locator::Path(path) => self.path(kind, path, &path.display().to_string(), by),
            Locator::Url(url) => {
                let file = self.download(url)?;
                self.file(kind, &file, download::file_name(url), url)
            }
            Locator::Image(text) => self.image(kind, &rebase(text.parse()?, base)),
            Locator::BuilderOrder => Err(ModuleError::NoBuilder("from=builder".to_owned())),
            Locator::OnBuilder(id) => Err(ModuleError::NoBuilder(id.to_string())),
            Locator::OnDefaultBuilder(id) => Ok(vec![self.on_default_builder(kind, id)?]),
        }
    }

    /// Makes the module of a script in the project descriptor.
    ///
    /// # Errors
    /// When its id, version or API is not one, or its files cannot be written.
    pub fn inline(&self, inline: &InlineBuildpack, place: &str) -> Result<Module, ModuleError> {
        let dir = self.folder("inline-")?;
        folder::write_inline(inline, &dir)?;
        folder::module(Kind::Buildpack, dir, true, place)
    }

    /// A new folder of ours.
    fn folder(&self, prefix: &str) -> Result<PathBuf, ModuleError> {
        Ok(tempfile::Builder::new().prefix(prefix).tempdir_in(self.scratch)?.keep())
    }

    fn path(&self, kind: Kind, path: &Path, place: &str, by: NamedBy) -> Result<Vec<Module>, ModuleError> {
        if fs::metadata(path)?.is_dir() {
            return self.user_folder(kind, path, place, 0);
        }
        if by == NamedBy::File {
            layer::named::open(path)?;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.file(kind, path, &name, place)
    }

    /// The module in the file `path`, whose name is `name` where it comes from.
    fn file(&self, kind: Kind, path: &Path, name: &str, place: &str) -> Result<Vec<Module>, ModuleError> {
        if name.ends_with(".cnb") {
            return self.package_file(kind, path, place);
        }
        let dir = self.folder("archive-")?;
        unpack_archive(path, &dir)?;
        let root = Root::open(&dir)?;
        // A package file under another name.
        if root.is_file("oci-layout") && !root.exists(descriptor_file(kind)) {
            return self.package_layout(kind, &dir, place);
        }
        Ok(vec![folder::module(kind, dir, true, place)?])
    }
}

/// Reads the descriptor of the module in `dir`.
fn read_descriptor(kind: Kind, dir: &Root, place: &str) -> Result<ModuleDescriptor, ModuleError> {
    let file = descriptor_file(kind);
    let text = match dir.read_to_string(file, DESCRIPTOR_LIMIT) {
        Err(error) if error.is_not_found() => {
            let (place, file) = (place.to_owned(), file.to_owned());
            return Err(ModuleError::NoDescriptor { place, kind, file });
        }
        text => text?,
    };
    let shown = format!("{place}/{file}");
    let descriptor = ModuleDescriptor::parse(kind, &shown, &text)?;
    let version = &descriptor.info.version;
    let is_name = !version.is_empty()
        && !matches!(version.as_str(), "." | "..")
        && !version.contains(|c: char| c == '/' || c == '\\' || c.is_control());
    if !is_name {
        return Err(ModuleError::Version { place: shown, version: version.clone() });
    }
    Ok(descriptor)
}

/// The name with its relative path, if it has one, started from `base`.
pub fn rebase(name: ImageName, base: &Path) -> ImageName {
    match name {
        ImageName::Layout { dir, tag, digest } => ImageName::Layout { dir: base.join(dir), tag, digest },
        ImageName::OciArchive { file, tag, digest } => {
            ImageName::OciArchive { file: base.join(file), tag, digest }
        }
        ImageName::DockerArchive { file, name } => ImageName::DockerArchive { file: base.join(file), name },
        name => name,
    }
}
