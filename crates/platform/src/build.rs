//! A build from start to end: resolve, unpack, detect, generate, extend, restore, build, export.
//!
//! Our own phases run here, in this process; only the programs of buildpacks run in the sandbox. Whatever ends
//! a build early leaves the store and the previous image as they were: names are given last.

mod bench;
mod cache_image;
mod detect;
mod dry_run;
mod environment;
mod error;
mod export;
mod extend;
mod generate;
mod guest;
mod images;
mod kept;
mod outcome;
mod packages;
mod phases;
mod places;
mod report;
mod request;
mod resolve;
mod restore;
mod sbom;
mod select;

use std::time::{Duration, Instant};

use events::{Event, Events, Phase};

pub use dry_run::{DryDockerfile, DryRun, DryStep, Fate, Participant, PlanLine, StepState, dry_run};
pub use error::BuildError;
pub(crate) use images::open_from;
pub use outcome::{LayerReport, LayerState, Outcome};
pub use request::{BuildRequest, HostEnv, InvalidPullPolicy, PullPolicy, RestoreMode, Secrets};
pub(crate) use resolve::unpacker;

/// Builds.
///
/// # Errors
/// See [`BuildError`]. Nothing has a new name then, and the cache is what it was.
pub fn build(request: &BuildRequest, events: &dyn Events) -> Result<Outcome, BuildError> {
    let mut clock = Clock { times: Vec::new(), events };
    let resolved = clock.phase(Phase::Resolve, || resolve::resolve(request, resolve::Keep::Names, events))?;
    phases::run(request, resolved, &mut clock)
}

/// Tells when phases begin and end, and keeps how long they took.
struct Clock<'a> {
    times: Vec<(Phase, Duration)>,
    events: &'a dyn Events,
}

impl Clock<'_> {
    fn phase<T, E>(&mut self, phase: Phase, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.events.event(Event::PhaseStarted { phase });
        let start = Instant::now();
        let result = work();
        let elapsed = start.elapsed();
        if result.is_ok() {
            self.events.event(Event::PhaseEnded { phase, elapsed });
        }
        self.times.push((phase, elapsed));
        result
    }
}
