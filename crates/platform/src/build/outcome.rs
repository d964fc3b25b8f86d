//! What a build made, for the person who asked for it.

use std::time::Duration;

use events::Phase;
use oci::Digest;

/// What a build made.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its names, the first one that was asked for first.
    pub names: Vec<String>,
    /// The manifest's digest.
    pub digest: Digest,
    /// The configuration's digest: what Docker calls the image's id.
    pub id: Digest,
    /// Its layers, lowest first.
    pub layers: Vec<LayerReport>,
    /// The process types it can start.
    pub processes: Vec<String>,
    /// The one that starts by default.
    pub default_process: Option<String>,
    /// Where the time went, in order.
    pub times: Vec<(Phase, Duration)>,
}

/// One layer of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerReport {
    /// What it is: `buildpack:layer`, or what the history says.
    pub name: String,
    /// Its size in the registry, in bytes.
    pub size: u64,
    /// Where it came from.
    pub state: LayerState,
}

/// Where a layer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LayerState {
    /// The run image has it.
    Base,
    /// The previous image had it.
    Reused,
    /// It was made by this build.
    New,
}
