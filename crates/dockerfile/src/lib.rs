//! Parses, expands and applies Dockerfiles to images.
//!
//! Dockerfiles come from image extensions (image_extension.md, "Dockerfile Requirements"): one stage, one base. Each
//! instruction becomes a change of the image's configuration, a layer, or both; programs of `RUN` run in the sandbox.
//! Not here: who made the Dockerfile, and what happens to the image afterwards.

mod add;
pub mod apply;
mod context;
mod error;
mod expand;
mod glob;
mod ignore;
mod instruction;
mod parse;
mod resolve;
mod rules;

pub use add::{Download, Downloads, Fetch, FetchError, is_archive, unpack_archive, url_file_name};
pub use apply::{
    Applied, ApplyError, Cached, Engine, Need, NewLayer, PlannedStep, Source, StepReport, apply, plan,
};
pub use context::{Context, Entry, Selected, Selection};
pub use error::SourceError;
pub use expand::{ExpandError, Lookup, expand};
pub use ignore::{Ignore, IgnoreError};
pub use instruction::{
    Add, Arg, Command, Copy, CopySource, From, Healthcheck, Heredoc, Instruction, InstructionKind, Mount,
    MountKind, Network, Pair, Run, Script, Sharing, Word,
};
pub use parse::Dockerfile;
pub use rules::{Base, Checked, Kind, Warning, check};
