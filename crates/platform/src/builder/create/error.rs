//! Why a builder cannot be made.

use cnb::group::Kind;
use layer::pack::PackError;
use oci::Platform;

use super::lifecycle;
use crate::module::ModuleError;
use crate::unavailable::Unavailable;

/// A builder cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// An image cannot be had.
    #[error(transparent)]
    Image(#[from] Unavailable),
    /// A name is not one of an image.
    #[error(transparent)]
    Name(#[from] oci::InvalidName),
    /// The build image is for another platform.
    #[error("the build image {name} is for {found}, and the builder is for {wanted}")]
    Platform {
        /// Its name.
        name: String,
        /// What it runs on.
        found: Platform,
        /// What was asked for.
        wanted: Platform,
    },
    /// The configuration names several targets, none of which was chosen.
    #[error("the configuration has several targets ({}), and none of them is chosen", targets.join(", "))]
    Targets {
        /// What it names.
        targets: Vec<String>,
    },
    /// The build image does not say who buildpacks run as.
    #[error(
        "the build image {name} has no number in the variable {variable}: expected who buildpacks run as"
    )]
    User {
        /// Its name.
        name: String,
        /// The variable.
        variable: &'static str,
    },
    /// An image is of another stack than the configuration says.
    #[error("the {role} {name} is of the stack '{found}', and the configuration says '{wanted}'")]
    Stack {
        /// What it is for.
        role: &'static str,
        /// Its name.
        name: String,
        /// The stack it is of.
        found: String,
        /// The stack it should be of.
        wanted: String,
    },
    /// A label of the build image is invalid.
    #[error("the build image {name} has an invalid label")]
    Label {
        /// Its name.
        name: String,
        /// What is wrong with it.
        #[source]
        source: cnb::ParseError,
    },
    /// A module cannot be had.
    #[error("{place}: failed to get the {kind} {locator}")]
    Module {
        /// Where the configuration names it.
        place: String,
        /// Buildpack or extension.
        kind: Kind,
        /// How it is named.
        locator: String,
        /// Why.
        #[source]
        source: ModuleError,
    },
    /// A module is another one than the configuration says.
    #[error("{place}: {locator} is {found}, and the configuration says {wanted}")]
    Mismatch {
        /// Where the configuration names it.
        place: String,
        /// How it is named.
        locator: String,
        /// What it is.
        found: String,
        /// What it should be.
        wanted: String,
    },
    /// A group names a module that the builder does not have.
    #[error("{place}: the builder will have no {kind} {wanted}")]
    Unknown {
        /// Where the configuration names it.
        place: String,
        /// Buildpack or extension.
        kind: Kind,
        /// What is named.
        wanted: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A group names an id of which there are several versions.
    #[error("{place}: the builder will have several versions of {id}: {}", versions.join(", "))]
    Versions {
        /// Where the configuration names it.
        place: String,
        /// The id.
        id: String,
        /// The versions.
        versions: Vec<String>,
    },
    /// A composite buildpack needs what the builder does not have.
    #[error("buildpack {id} needs {missing}, which the builder will not have")]
    Incomplete {
        /// The composite buildpack.
        id: String,
        /// What it needs.
        missing: String,
    },
    /// A module does not run on the build image.
    #[error("{id} does not run on the build image ({base}): it is for {targets}")]
    Target {
        /// The module.
        id: String,
        /// What the build image is.
        base: String,
        /// What it runs on.
        targets: String,
    },
    /// A module needs another lifecycle.
    #[error("{id} is for Buildpack API {api}, and the lifecycle {version} speaks {supported}")]
    Api {
        /// The module.
        id: String,
        /// The API that it is for.
        api: cnb::ApiVersion,
        /// The lifecycle's version.
        version: String,
        /// What the lifecycle speaks.
        supported: String,
    },
    /// The lifecycle cannot be used.
    #[error(transparent)]
    Lifecycle(#[from] lifecycle::LifecycleError),
    /// The image's name cannot be pushed to.
    #[error("failed to get write access to {name}")]
    Write {
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: oci::Error,
    },
    /// A layer cannot be made.
    #[error("failed to make the layer of {id}")]
    Pack {
        /// What is in it.
        id: String,
        /// Why.
        #[source]
        source: PackError,
    },
    /// The image cannot be put together or written.
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
    /// Files of a module.
    #[error(transparent)]
    Path(#[from] layer::PathError),
    /// Files of ours.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
