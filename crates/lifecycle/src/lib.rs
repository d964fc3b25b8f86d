//! The phases of the CNB lifecycle, one file each.
//!
//! | module | what lives there |
//! |---|---|
//! | [`build`] | runs `bin/build` of the group, gathers what it left |
//! | [`cache`] | what is kept for the next build |
//! | [`detect`] | runs `bin/detect` of one group after the other until one passes |
//! | [`env_dir`] | folders whose files are variables |
//! | [`executor`] | how a phase runs a program it does not trust |
//! | [`export`] | puts the image together |
//! | [`generate`] | runs `bin/generate` of the group's extensions, finds the run image that they want |
//! | [`restore`] | what of the previous build comes back |

pub mod build;
pub mod cache;
pub mod detect;
pub mod env_dir;
pub mod executor;
pub mod export;
mod files;
pub mod generate;
mod module_env;
mod program;
pub mod restore;
mod share;
#[cfg(test)]
mod testing;

pub use executor::{ExecError, Executor, Exit, Invocation, Place};
pub use share::{Share, TooMuch};
