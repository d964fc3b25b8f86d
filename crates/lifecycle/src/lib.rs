//! The phases of the CNB lifecycle, one file each.
//!
//! | module | what lives there |
//! |---|---|
//! | [`executor`] | how a phase runs a program it does not trust |

pub mod executor;

pub use executor::{ExecError, Executor, Exit, Invocation, Place};
