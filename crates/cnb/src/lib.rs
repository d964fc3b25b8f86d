//! The Cloud Native Buildpacks specification as types.
//!
//! Every file that the specification names is a type here with `parse(file, text)`, and every rule that needs no
//! disk is a pure function. No I/O: who calls reads the bytes, runs the programs and writes what is returned.
//!
//! | module | what lives there |
//! |---|---|
//! | [`api`] | Platform and Buildpack API versions and which of them are supported |
//! | [`env`] | what a buildpack's or process' environment is made of |
//! | [`error`] | [`ParseError`]: what is wrong with a file, and where |
//! | [`launch`] | processes, and what the launcher reads of `config/metadata.toml` |
//!
//! Without the feature `full` (on by default) only these four are left: that is what the launcher depends on.

pub mod api;
pub mod env;
pub mod error;
pub mod launch;

pub use api::ApiVersion;
pub use error::ParseError;
