//! The platform side: builds, builders, project descriptors, configuration.
//!
//! | module | what lives there |
//! |---|---|
//! | [`builder_toml`] | `builder.toml`: what `builder create` makes a builder from |
//! | [`document`] | TOML files that people write: parsed, with errors that point at the place |
//! | [`locator`] | what a text that names a buildpack means |
//! | [`project`] | `project.toml`: what to build with, what to leave out |
//! | [`env_file`] | build-time environment from `--env`, `--env-file` and the descriptor |
//! | [`volume`] | `--volume` |

pub mod builder_toml;
pub mod document;
pub mod env_file;
pub mod locator;
pub mod project;
pub mod volume;
