//! The platform side: builds, builders, project descriptors, configuration.
//!
//! | module | what lives there |
//! |---|---|
//! | [`builder_toml`] | `builder.toml`: what `builder create` makes a builder from |
//! | [`build`] | a build from start to end |
//! | [`cache_spec`] | `--cache` |
//! | [`config`] | `config.toml`: what a user always wants |
//! | [`default_builder`] | the builder inside the program, as images of the store |
//! | [`document`] | TOML files that people write: parsed, with errors that point at the place |
//! | [`inspect`] | what is in an image |
//! | [`locator`] | what a text that names a buildpack means |
//! | [`module`] | buildpacks from folders, archives, packages and scripts |
//! | [`project`] | `project.toml`: what to build with, what to leave out |
//! | [`env_file`] | build-time environment from `--env`, `--env-file` and the descriptor |
//! | [`run`] | the program of an image in a sandbox |
//! | [`run_image`] | which run image, and its mirrors |
//! | [`selection`] | which buildpacks a build uses |
//! | [`source`] | the app: a folder or a zip file |
//! | [`time`] | times as configurations have them |
//! | [`unavailable`] | the error about an image that cannot be had |
//! | [`volume`] | `--volume` |

pub mod build;
pub mod builder;
pub mod builder_toml;
pub mod cache_spec;
pub mod config;
pub mod default_builder;
pub mod document;
pub mod env_file;
pub mod inspect;
pub mod locator;
pub mod module;
pub mod project;
pub mod run;
pub mod run_image;
pub mod selection;
pub mod source;
pub mod time;
pub mod unavailable;
pub mod volume;
