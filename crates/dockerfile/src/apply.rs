//! Applies Dockerfiles to an image (image_extension.md, "Phase: Extension").
//!
//! Each instruction changes the image's configuration, or is a *step*: something that may change files. A step has a
//! key, the digest of all it depends on, by which the store keeps what it did; only a step that is not kept is made,
//! and only then is the base image unpacked. A step is made in an overlay above all before it, so that it costs what it
//! writes and no more, and what it wrote is taken for a change only where it is one.
//!
//! | module | what lives there |
//! |---|---|
//! | `drive` | going through all instructions |
//! | `state` | the configuration and the variables, instruction by instruction |
//! | `config` | instructions that change the configuration |
//! | `step`, `key` | steps and what they depend on |
//! | `stack` | the file system below and in a step |
//! | `run`, `mounts` | programs |
//! | `copy`, `place` | files, and paths beneath a root whose links are followed |
//! | `made` | making a step or finding it, and its layer |
//! | `error` | what can go wrong |
//!
//! Not here: parsing, what an extension may have in its Dockerfile, and where the image comes from or goes to.

mod config;
mod copy;
mod drive;
mod error;
mod key;
mod made;
mod mounts;
mod place;
mod run;
mod shown;
mod stack;
mod state;
mod step;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use events::Events;
use oci::{Image, ImageConfig, Layer, Store, Unpacker};
use sandbox::{Ids, Network};

use crate::add::Fetch;
use crate::parse::Dockerfile;
pub use error::{ApplyError, RunFailure, StepError};

/// The label that says whether an image may be rebased (platform.md, "Labels").
const REBASABLE: &str = "io.buildpacks.rebasable";

/// A Dockerfile and what it is applied with.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    /// The Dockerfile.
    pub dockerfile: &'a Dockerfile,
    /// The id of the extension it is from: for the image's history and for messages.
    pub origin: String,
    /// The version of that extension.
    pub version: String,
    /// Values for its `ARG`s, besides those that every Dockerfile is given.
    pub args: Vec<(String, String)>,
    /// The folder that its files come from.
    pub context: &'a Path,
    /// Where the Dockerfile is, if it is anywhere: `<its name>.dockerignore` beside it is read instead of the context's.
    pub path: Option<&'a Path>,
}

/// What Dockerfiles are applied with.
pub struct Engine<'a> {
    /// Where steps and layers are kept.
    pub store: &'a Store,
    /// How layers are unpacked.
    pub unpacker: &'a Unpacker,
    /// Which ids there are.
    pub ids: Ids,
    /// What programs see of the network.
    pub network: Network,
    /// How layers are compressed.
    pub compression: layer::Compression,
    /// The value of `build_id`: another one for each build.
    pub build_id: String,
    /// How old a kept step may be to be used; any age when there is none.
    pub ttl: Option<Duration>,
    /// Whether kept steps are used at all.
    pub use_cache: bool,
    /// Secrets by their ids, for `RUN --mount=type=secret`.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// What brings files of web servers; none when only those that are here may be used.
    pub fetch: Option<&'a dyn Fetch>,
    /// Variables that programs see and that no result depends on: those for proxies.
    pub proxies: Vec<(String, String)>,
    /// Absolute paths that no step may write to: folders of a build that are not part of an image.
    pub forbidden: Vec<PathBuf>,
    /// Who is told what happens.
    pub events: &'a dyn Events,
}

impl std::fmt::Debug for Engine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the secrets.
        f.debug_struct("Engine")
            .field("ids", &self.ids)
            .field("network", &self.network)
            .field("build_id", &self.build_id)
            .field("ttl", &self.ttl)
            .field("use_cache", &self.use_cache)
            .field("forbidden", &self.forbidden)
            .finish_non_exhaustive()
    }
}

/// What is wanted of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Trees to mount above those of the base image: a build image.
    Tree,
    /// Layers too: a run image. Its final user must not be root.
    Image,
}

/// What became of an image.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Whether anything is different. If not, the image is to be used as it was.
    pub changed: bool,
    /// The configuration, without a word about the new layers: `rootfs` and `history` are those of the base.
    pub config: ImageConfig,
    /// What the steps changed, topmost first: to be mounted above the trees of the base image.
    pub trees: Vec<PathBuf>,
    /// The new layers, lowest first, each with what it did; empty for [`Need::Tree`].
    pub new_layers: Vec<NewLayer>,
    /// Every step, in order.
    pub steps: Vec<StepReport>,
    /// Whether each Dockerfile that changed something says that its layers can be put on another base.
    pub rebasable: bool,
}

/// A layer that a step made.
#[derive(Clone, Debug)]
pub struct NewLayer {
    /// The layer, in the store.
    pub layer: Layer,
    /// What the image's history says of it.
    pub created_by: String,
    /// The extension it is from.
    pub origin: String,
}

/// What became of a step.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// The extension it is from.
    pub origin: String,
    /// The line of its Dockerfile.
    pub line: usize,
    /// The instruction, variables expanded where that is not the shell's to do.
    pub text: String,
    /// Whether it was kept from another build.
    pub cached: bool,
    /// How long it took.
    pub elapsed: Duration,
    /// Entries of its layer; a step without any has no layer.
    pub entries: u64,
    /// Bytes of files in its layer.
    pub bytes: u64,
}

/// An instruction as it would be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStep {
    /// The extension it is from.
    pub origin: String,
    /// The line of its Dockerfile.
    pub line: usize,
    /// The instruction, for people: variables expanded where that is not the shell's to do and their values are known,
    /// values of arguments, here-documents.
    pub text: String,
    /// Whether it has to be made.
    pub cached: Cached,
}

/// Whether a step is kept from another build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cached {
    /// It is.
    Yes,
    /// It has to be made.
    No,
    /// That depends on what is not known without making other things first.
    Unknown,
    /// There is nothing to keep: the instruction changes the configuration only.
    Config,
}

/// Applies Dockerfiles, one after another, to an image. Steps that are kept are not made again; nothing of the base
/// image is unpacked or fetched before a step needs it.
///
/// # Errors
/// The first thing that goes wrong, with its place in the Dockerfile. Steps before it stay kept, and nothing else is
/// left: no process, no mount, no file.
pub fn apply(
    base: &Image,
    sources: &[Source<'_>],
    engine: &Engine<'_>,
    need: Need,
) -> Result<Applied, ApplyError> {
    drive::Drive::new(base, engine, need).apply(sources)
}

/// Says how Dockerfiles would be applied, and what of it is kept already. Runs nothing, unpacks nothing.
///
/// # Errors
/// What can be told to be wrong without doing it, with its place in the Dockerfile.
pub fn plan(
    base: &Image,
    sources: &[Source<'_>],
    engine: &Engine<'_>,
) -> Result<Vec<PlannedStep>, ApplyError> {
    drive::Drive::new(base, engine, Need::Tree).plan(sources)
}
