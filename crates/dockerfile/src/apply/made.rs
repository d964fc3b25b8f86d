//! Making a step, or finding that it is made already; and its layer.

use std::time::Instant;

use events::{Event, Transfer};
use layer::Digest;
use layer::pack::{self, Upper, UpperOwners};
use oci::Layer;
use oci::store::{KeptStep, StepRecord};
use sandbox::Ids;

use super::Engine;
use super::error::{Failed, StepError};
use super::stack::{Bench, Changes, Forbidden, Stack};
use super::step::Step;

/// What a step did, and whether that was known.
pub(super) struct Made {
    pub step: KeptStep,
    pub cached: bool,
    pub elapsed: std::time::Duration,
}

/// Finds the step of this key, or makes it.
pub(super) fn find_or_make(
    engine: &Engine<'_>,
    stack: &Stack<'_>,
    step: &Step,
    key: Digest,
    text: &str,
    started: &dyn Fn(),
) -> Result<Made, Failed> {
    let start = Instant::now();
    let made = |step, cached| Made { step, cached, elapsed: start.elapsed() };
    if let Some(found) = kept(engine, key)? {
        return Ok(made(found, true));
    }
    // Another build may be making the same.
    let _lock = engine.store.lock_step(&engine.unpacker.kind, key)?;
    if let Some(found) = kept(engine, key)? {
        return Ok(made(found, true));
    }
    started();
    let mut bench = stack.bench()?;
    let owner = match step {
        Step::Run(run) => run.make(&bench, engine)?,
        Step::Copy(copy) => copy.make(&bench, engine)?,
        Step::Workdir { path, user } => super::copy::make_folder(&bench, engine, path, user)?,
    };
    let changes = finish(&mut bench, owner)?;
    let record = StepRecord {
        instruction: text.to_owned(),
        entries: changes.reduced.entries,
        bytes: changes.reduced.bytes,
        owner: (engine.ids == Ids::Single).then_some(owner),
        ..StepRecord::default()
    };
    let step = engine.store.keep_step(&engine.unpacker.kind, key, &changes.tree, record)?;
    Ok(made(step, false))
}

/// The step of this key, where it may be used.
pub(super) fn kept(engine: &Engine<'_>, key: Digest) -> Result<Option<KeptStep>, StepError> {
    match engine.use_cache {
        true => Ok(engine.store.step(&engine.unpacker.kind, key, engine.ttl)?),
        false => Ok(None),
    }
}

fn finish(bench: &mut Bench<'_, '_>, owner: (u32, u32)) -> Result<Changes, Failed> {
    bench.finish(owner)?.map_err(|Forbidden(path)| {
        let message = format!(
            "it writes to `{}`, which belongs to the build and is no part of the image",
            path.display()
        );
        Failed::Message(message, None)
    })
}

/// The layer of a step that changed something, made now if it was not.
/// `id` is what it is called in events.
pub(super) fn layer(engine: &Engine<'_>, step: &KeptStep, id: &str) -> Result<Option<Layer>, StepError> {
    let Some(tree) = step.tree() else { return Ok(None) };
    let name = engine.compression.to_string();
    if let Some(layer) = engine.store.step_layer(step, &name)? {
        return Ok(Some(layer));
    }
    let owners = match step.record.owner {
        Some((uid, gid)) => UpperOwners::Recorded { uid, gid },
        None => UpperOwners::OnDisk,
    };
    let upper = Upper { dir: &tree, owners };
    let mut writer = engine.store.unhashed_blob_writer()?;
    let kind = Transfer::Pack;
    engine.events.event(Event::TransferStarted { kind, id, total: None });
    let progress = |done| engine.events.event(Event::TransferProgress { kind, id, done });
    let options =
        pack::Options { compression: engine.compression, progress: &progress, ..pack::Options::default() };
    let packed = pack::pack(&options, &mut writer, |tar| tar.upper(&upper))?;
    let descriptor = writer.commit_with(engine.compression.media_type(), packed.digest)?;
    // Said again, now that it is known how large it is.
    engine.events.event(Event::TransferStarted { kind, id, total: Some(packed.size) });
    engine.events.event(Event::TransferEnded { kind, id, reused: false });
    Ok(Some(engine.store.keep_step_layer(step, &name, descriptor, packed.diff_id)?))
}
