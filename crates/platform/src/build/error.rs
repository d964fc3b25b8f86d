//! Why a build failed.

use dockerfile::apply::ApplyError;
use oci::Platform;

use super::bench::BenchError;
use crate::unavailable::Unavailable;

/// Why a build failed. Each is one line for the user; the program at the edge adds a hint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// An image cannot be had.
    #[error(transparent)]
    Image(#[from] Unavailable),
    /// A name is not one of an image.
    #[error(transparent)]
    Name(#[from] oci::InvalidName),
    /// A name is not one of an image in a registry.
    #[error(transparent)]
    Reference(#[from] oci::InvalidReference),
    /// An image is for another platform.
    #[error("the {role} {name} is for {found}, and the build is for {wanted}")]
    Platform {
        /// What it is for.
        role: &'static str,
        /// Its name.
        name: String,
        /// What it runs on.
        found: Platform,
        /// What was asked for.
        wanted: Platform,
    },
    /// A builder says of no run image.
    #[error("builder {builder} names no run image")]
    NoRunImage {
        /// The builder.
        builder: String,
    },
    /// Names of one push are in several registries or of several kinds.
    #[error("{tag} cannot be written together with {destination}: expected names of one kind and registry")]
    Tag {
        /// The name that does not fit.
        tag: String,
        /// The first name.
        destination: String,
    },
    /// The image's name cannot be pushed to.
    #[error("failed to get write access to {name}")]
    Write {
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: oci::Error,
    },
    /// The builder is not one.
    #[error(transparent)]
    Builder(#[from] crate::builder::BuilderError),
    /// The cache cannot be used.
    #[error("the build cache cannot be used")]
    Cache(#[from] lifecycle::cache::CacheError),
    /// A user of the builder cannot be looked up.
    #[error(transparent)]
    User(#[from] oci::passwd::UserError),
    /// No builder was named, and the default one cannot be had.
    #[error(transparent)]
    DefaultBuilder(#[from] crate::default_builder::DefaultBuilderError),
    /// The buildpacks that were asked for.
    #[error(transparent)]
    Selection(#[from] crate::selection::SelectionError),
    /// The project descriptor.
    #[error(transparent)]
    Project(#[from] crate::project::ProjectError),
    /// The SBOM of the run image that was named.
    #[error(transparent)]
    RunImageSbom(#[from] super::packages::RunImageSbomError),
    /// The environment.
    #[error(transparent)]
    Env(#[from] crate::env_file::EnvError),
    /// The app.
    #[error(transparent)]
    Source(#[from] crate::source::SourceError),
    /// No group of buildpacks wants the app.
    #[error(transparent)]
    Detect(#[from] lifecycle::detect::DetectError),
    /// An image extension failed, or left what cannot be used.
    #[error(transparent)]
    Generate(#[from] lifecycle::generate::GenerateError),
    /// Dockerfiles of image extensions cannot be applied.
    #[error("failed to extend the {image}")]
    Extend {
        /// Which image.
        image: &'static str,
        /// Why.
        #[source]
        source: Box<ApplyError>,
    },
    /// A buildpack failed.
    #[error(transparent)]
    Build(#[from] lifecycle::build::BuildError),
    /// A buildpack failed, and there is no space where it writes.
    #[error("no space is left on the disk of {}", store.display())]
    FullDisk {
        /// The store's folder.
        store: std::path::PathBuf,
        /// How the buildpack failed.
        #[source]
        source: lifecycle::build::BuildError,
    },
    /// The image cannot be put together.
    #[error(transparent)]
    Export(#[from] lifecycle::export::ExportError),
    /// The image cannot be written.
    #[error("failed to write {name}")]
    Sink {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: oci::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] oci::Error),
    /// Work folders and mounts.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// Files of a root file system.
    #[error(transparent)]
    Path(#[from] layer::PathError),
    /// Files of ours.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
