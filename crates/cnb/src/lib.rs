//! The Cloud Native Buildpacks specification as types.
//!
//! Every file that the specification names is a type here with `parse(file, text)`, and every rule that needs no
//! disk is a pure function. No I/O: who calls reads the bytes, runs the programs and writes what is returned.
//!
//! | module | what lives there |
//! |---|---|
//! | [`api`] | Platform and Buildpack API versions and which of them are supported |
//! | [`builder`] | labels of builders and buildpackages, `lifecycle.toml` |
//! | [`descriptor`] | `buildpack.toml`, `extension.toml` |
//! | [`mod@env`] | what a buildpack's or process' environment is made of |
//! | [`error`] | [`ParseError`]: what is wrong with a file, and where |
//! | [`group`] | `order.toml`, `system.toml`, `group.toml` |
//! | [`image`] | `run.toml`, `stack.toml`, `analyzed.toml`, `report.toml` |
//! | [`label`] | labels of app images, metadata of caches, `project-metadata.toml` |
//! | [`launch`] | processes, and what the launcher reads of `config/metadata.toml` |
//! | [`layer`] | `<layer>.toml`, `store.toml` |
//! | [`metadata`] | the whole of `config/metadata.toml` and its label |
//! | [`output`] | `launch.toml`, `build.toml`, `extend-config.toml`, SBOM formats |
//! | [`plan`] | the plans of `bin/detect` and `bin/build`, `plan.toml` |
//! | [`resolve`] | from an order and what was detected to a group and a plan |
//! | [`target`] | what base images are and what buildpacks run on |
//!
//! Without the feature `full` (on by default) only `api`, `env`, `error` and `launch` are left: that is what the
//! launcher depends on. Whatever is written is written as the reference writes it, byte for byte (`encode`).

pub mod api;
#[cfg(feature = "full")]
pub mod builder;
#[cfg(feature = "full")]
pub mod descriptor;
#[cfg(feature = "full")]
mod encode;
pub mod env;
pub mod error;
#[cfg(feature = "full")]
pub mod group;
#[cfg(feature = "full")]
pub mod image;
#[cfg(feature = "full")]
pub mod label;
pub mod launch;
#[cfg(feature = "full")]
pub mod layer;
#[cfg(feature = "full")]
pub mod metadata;
#[cfg(feature = "full")]
mod names;
#[cfg(feature = "full")]
pub mod output;
#[cfg(feature = "full")]
pub mod plan;
#[cfg(feature = "full")]
pub mod resolve;
#[cfg(feature = "full")]
mod table;
#[cfg(feature = "full")]
pub mod target;

pub use api::ApiVersion;
pub use error::ParseError;
