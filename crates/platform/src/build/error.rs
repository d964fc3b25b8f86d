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
    /// A program failed, and there was no space where it writes.
    #[error("{disk}")]
    FullDisk {
        /// The disk.
        disk: layer::FullDisk,
        /// How the program failed.
        #[source]
        source: Box<BuildError>,
    },
    /// The same error, with all its causes, in words that have the paths that buildpacks know.
    #[error("{message}")]
    Inside {
        /// The text.
        message: String,
        /// The error.
        error: Box<BuildError>,
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

impl BuildError {
    /// What failed, whatever else is said about it.
    pub fn inner(&self) -> &Self {
        match self {
            Self::Inside { error, .. } => error.inner(),
            Self::FullDisk { source, .. } => source.inner(),
            error => error,
        }
    }

    /// True when it was for want of space.
    pub fn is_full_disk(&self) -> bool {
        match self {
            Self::Inside { error, .. } => error.is_full_disk(),
            error => matches!(error, Self::FullDisk { .. }),
        }
    }

    /// True when a program of a buildpack or an extension failed, for reasons that only it knows.
    fn is_of_program(&self) -> bool {
        match self {
            Self::Build(lifecycle::build::BuildError::Failed { .. })
            | Self::Generate(lifecycle::generate::GenerateError::Failed { .. })
            | Self::Detect(lifecycle::detect::DetectError::NoGroup { errored: true, .. }) => true,
            Self::Extend { source, .. } => matches!(**source, ApplyError::Run(_)),
            _ => false,
        }
    }

    /// Says that there was no space, where that may be why a program failed.
    pub(super) fn for_want_of_space(self, watch: &layer::SpaceWatch) -> Self {
        let of_run = match &self {
            Self::Extend { source, .. } => match &**source {
                ApplyError::Run(failure) => failure.disk.clone(),
                _ => None,
            },
            _ => None,
        };
        match of_run.or_else(|| watch.lowest()).filter(|_| self.is_of_program()) {
            Some(disk) => Self::FullDisk { disk, source: Box::new(self) },
            None => self,
        }
    }
}
