//! What a build is asked for: validated values, nothing read from the environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use oci::{ImageName, Platform};

use crate::cache_spec::CachePlace;
use crate::run_image::RunImage;
use crate::volume::Volume;

/// A build.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// The local store.
    pub store: oci::Store,
    /// Which ids exist here: what [`sandbox::enter`] found.
    pub ids: sandbox::Ids,
    /// How registries are spoken to.
    pub client: Arc<oci::registry::Client>,

    /// Where the image goes.
    pub destination: ImageName,
    /// More names for it, of the same kind.
    pub tags: Vec<ImageName>,
    /// The folder or zip file of the app.
    pub app: PathBuf,
    /// The project descriptor, where one was named.
    pub descriptor: Option<PathBuf>,
    /// The name of the app's folder in the image: `workspace` for `/workspace`.
    pub workspace: String,

    /// The builder that was asked for on the command line.
    pub builder: Option<String>,
    /// The builder of the user's configuration.
    pub default_builder: Option<String>,
    /// What the buildpacks are, instead of the builder's order.
    pub buildpacks: Vec<String>,
    /// Buildpacks before each group.
    pub pre_buildpacks: Vec<String>,
    /// Buildpacks after each group.
    pub post_buildpacks: Vec<String>,
    /// What the image extensions are, instead of the builder's order of them.
    pub extensions: Vec<String>,
    /// True to leave out the builder's system buildpacks.
    pub disable_system_buildpacks: bool,
    /// `NAME=value` or `NAME`, as typed.
    pub env: Vec<String>,
    /// Files of such lines.
    pub env_files: Vec<PathBuf>,
    /// The caller's own environment, for `NAME` without a value.
    pub host_env: HostEnv,
    /// CNB_EXEC_ENV.
    pub exec_env: String,
    /// Host folders that buildpacks see.
    pub volumes: Vec<Volume>,
    /// True when buildpacks have the host's network.
    pub network: bool,
    /// Instead of the builder's CNB_USER_ID.
    pub uid: Option<u32>,
    /// Instead of the builder's CNB_GROUP_ID.
    pub gid: Option<u32>,

    /// How old a kept step of a Dockerfile may be to be used; none for any age.
    pub extend_cache_ttl: Option<Duration>,
    /// Secrets for `RUN --mount=type=secret`, by their ids.
    pub secrets: Secrets,

    /// The run image that was asked for.
    pub run_image: Option<String>,
    /// An SBOM of the run image, instead of what can be found out about its packages.
    pub run_image_sbom: Option<PathBuf>,
    /// True when an extension is not asked for packages that the images have.
    pub base_packages: bool,
    /// The user's mirrors of run images.
    pub run_image_mirrors: Vec<RunImage>,
    /// The process type that starts by default.
    pub default_process: Option<String>,
    /// When the image was created, in seconds since 1970.
    pub created: Option<u64>,
    /// Where unchanged layers come from, instead of `destination`.
    pub previous_image: Option<ImageName>,
    /// How new layers are compressed.
    pub compression: layer::Compression,
    /// What the image runs on.
    pub platform: Platform,
    /// Where SBOM files are put.
    pub sbom_output_dir: Option<PathBuf>,
    /// Where report.toml is put.
    pub report_output_dir: Option<PathBuf>,

    /// Where layers are kept between builds.
    pub cache: CachePlace,
    /// True to forget what was kept.
    pub clear_cache: bool,
    /// How kept layers come back.
    pub restore: RestoreMode,
    /// When to ask a registry for an image that the store has.
    pub pull_policy: PullPolicy,
}

/// Secrets by their ids.
#[derive(Clone, Default)]
pub struct Secrets(pub BTreeMap<String, Vec<u8>>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Looks up a variable of the caller's environment.
#[derive(Clone)]
pub struct HostEnv(pub Arc<Lookup>);

/// Gives the value of a variable.
pub type Lookup = dyn Fn(&str) -> Option<OsString> + Send + Sync;

impl std::fmt::Debug for HostEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be secrets.
        f.write_str("HostEnv")
    }
}

/// How kept layers come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestoreMode {
    /// Mounted where that works, else copied.
    #[default]
    Auto,
    /// Mounted, or the build fails.
    Overlay,
    /// Copied.
    Copy,
}

/// When to ask a registry for an image that the store has (pack's `--pull-policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Each time; an image the registry does not have may still be in the store.
    Always,
    /// Never: what is not in the store is an error.
    Never,
    /// When the store does not have it.
    #[default]
    IfNotPresent,
}

/// A text is not a pull policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid pull policy `{0}`: expected always, never or if-not-present")]
pub struct InvalidPullPolicy(pub String);

impl std::str::FromStr for PullPolicy {
    type Err = InvalidPullPolicy;

    fn from_str(text: &str) -> Result<Self, InvalidPullPolicy> {
        match text {
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            "if-not-present" => Ok(Self::IfNotPresent),
            _ => Err(InvalidPullPolicy(text.to_owned())),
        }
    }
}
