//! `steps/<kind>/<key>/`: what instructions of Dockerfiles did, by a key of all that they depend on.
//!
//! | in a step's folder | what it is |
//! |---|---|
//! | `step.json` | the record; its modification time is when the step was last used |
//! | `tree/` | what it changed, as a lower of overlays; none when it changed nothing |
//! | `layer-<compression>.json` | its layer, once that was made |
//! | `boot` | in which boot it was written, as for `rootfs/`: files are not synced one by one |
//!
//! A step appears by rename when it is whole. One that is broken is as good as none. Nothing of a step that another
//! process may have mounted is removed before a prune: a step that is replaced moves aside.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fs_err as fs;
use layer::Digest;
use serde::{Deserialize, Serialize};

use super::Store;
use super::prune::{folders, kinds};
use super::rootfs::{boot_id, still_whole};
use super::scratch::{remove_tree, same_file};
use crate::error::{Error, Result};
use crate::image::Layer;
use crate::model::Descriptor;
use crate::publish;

/// Bumped when records change so that old ones cannot be read.
const VERSION: u32 = 1;
const RECORD: &str = "step.json";
/// When a step was last used is written down at most so often.
const USED_EVERY: Duration = Duration::from_secs(3600);

/// What is known of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The form of this record; [`Store::keep_step`] fills it in.
    pub version: u32,
    /// When it was made, in seconds since 1970; [`Store::keep_step`] fills it in.
    pub created: u64,
    /// What it was, for people.
    pub instruction: String,
    /// Entries of its layer.
    pub entries: u64,
    /// Bytes of files in its layer.
    pub bytes: u64,
    /// Whose the entries are of which the tree cannot say it, where there is one id.
    pub owner: Option<(u32, u32)>,
    /// What the tree looks like, as [`layer::shape`] returns it; [`Store::keep_step`] fills it in.
    #[serde(default)]
    pub shape: Option<Digest>,
    /// What else was found out.
    #[serde(default)]
    pub facts: BTreeMap<String, String>,
}

/// A step that is kept.
#[derive(Clone, Debug)]
pub struct KeptStep {
    dir: PathBuf,
    /// What is known of it.
    pub record: StepRecord,
}

impl KeptStep {
    /// What it changed, as a lower of an overlay; none when it changed nothing.
    pub fn tree(&self) -> Option<PathBuf> {
        (self.record.entries > 0).then(|| self.dir.join("tree"))
    }

    /// Why its tree is not what it was; none when it is.
    fn differs(&self) -> Option<String> {
        let (tree, shape) = (self.tree()?, self.record.shape?);
        match layer::shape(&tree) {
            Ok(now) if now == shape => None,
            Ok(_) => Some("names, modes, sizes or times of its files have changed".to_owned()),
            Err(error) => Some(io::Error::from(error).to_string()),
        }
    }
}

/// Nobody else makes the step while this is held.
#[derive(Debug)]
pub struct StepLock {
    path: PathBuf,
    _held: fs::File,
}

impl Drop for StepLock {
    fn drop(&mut self) {
        // Whoever waits for it sees that it is gone, and makes a new one.
        let _ = fs::remove_file(&self.path);
    }
}

/// A layer as it is written down.
#[derive(Debug, Serialize, Deserialize)]
struct LayerRecord {
    descriptor: Descriptor,
    diff_id: Digest,
}

impl Store {
    /// The folder of all steps.
    pub(super) fn steps_dir(&self) -> PathBuf {
        self.dir().join("steps")
    }

    fn step_path(&self, kind: &str, key: Digest) -> PathBuf {
        self.steps_dir().join(kind).join(key.hex())
    }

    /// The step of this key, unless it was made longer than `ttl` ago. `kind` is that of the
    /// [`Unpacker`](super::Unpacker) of the trees below it.
    ///
    /// # Errors
    /// When the folder cannot be read. A step that is broken is none.
    pub fn step(&self, kind: &str, key: Digest, ttl: Option<Duration>) -> Result<Option<KeptStep>> {
        let dir = self.step_path(kind, key);
        let Some(step) = read_step(&dir)? else { return Ok(None) };
        let age = now().saturating_sub(step.record.created);
        if ttl.is_some_and(|ttl| age > ttl.as_secs()) {
            return Ok(None);
        }
        touch(&dir.join(RECORD));
        Ok(Some(step))
    }

    /// Waits until nobody else makes the step of this key.
    ///
    /// # Errors
    /// When the lock cannot be made.
    pub fn lock_step(&self, kind: &str, key: Digest) -> Result<StepLock> {
        let path = self.step_path(kind, key).with_extension("lock");
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        loop {
            let held = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
            held.file().lock()?;
            // Who held it before has removed it.
            if same_file(&held, &path) {
                return Ok(StepLock { path, _held: held });
            }
        }
    }

    /// Keeps a step, in place of an older one. `tree` is on the store's file system and moves away; it has `entries`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_step(&self, kind: &str, key: Digest, tree: &Path, record: StepRecord) -> Result<KeptStep> {
        let shape = match record.entries {
            0 => None,
            _ => Some(layer::shape(tree)?),
        };
        let record = StepRecord { version: VERSION, created: now(), shape, ..record };
        let work = tempfile::Builder::new().prefix("step-").tempdir_in(self.scratch_dir()?)?.keep();
        if record.entries > 0 {
            fs::rename(tree, work.join("tree"))?;
        }
        fs::write(work.join("boot"), boot_id())?;
        write_json(&work.join(RECORD), &record)?;
        let dir = self.step_path(kind, key);
        fs::create_dir_all(dir.parent().unwrap_or(&dir))?;
        loop {
            set_aside(&dir)?;
            match publish::rename(&work, &dir) {
                // Somebody who does not take turns by the lock came between: the later one wins.
                Err(error) if is_taken(&error) => {}
                result => return result.map(|()| KeptStep { dir, record }).map_err(Error::from),
            }
        }
    }

    /// The layer of a step in this compression, where it was made and the store still has it.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn step_layer(&self, step: &KeptStep, compression: &str) -> Result<Option<Layer>> {
        let Some(record) = read_json::<LayerRecord>(&layer_path(step, compression))? else { return Ok(None) };
        Ok(self.has(&record.descriptor).then(|| self.layer_of(record)))
    }

    /// Writes down the layer of a step, which is in the store.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn keep_step_layer(
        &self,
        step: &KeptStep,
        compression: &str,
        descriptor: Descriptor,
        diff_id: Digest,
    ) -> Result<Layer> {
        let record = LayerRecord { descriptor, diff_id };
        let path = layer_path(step, compression);
        let temporary = tempfile::Builder::new().prefix("layer-").tempfile_in(self.scratch_dir()?)?;
        write_json(temporary.path(), &record)?;
        let _permit = publish::permit();
        temporary.persist(path).map_err(|error| Error::Io(error.error))?;
        Ok(self.layer_of(record))
    }

    fn layer_of(&self, record: LayerRecord) -> Layer {
        Layer { descriptor: record.descriptor, diff_id: record.diff_id, blobs: self.blobs() }
    }

    /// All that is in the folder of steps, for those who hold the store alone: what was not used for `unused` goes,
    /// and what nobody can use.
    pub(super) fn old_steps(&self, unused: Duration) -> Result<OldSteps> {
        let mut old = OldSteps::default();
        for path in kinds(&self.steps_dir())? {
            if path.extension().is_some_and(|it| it == "lock") {
                let _ = fs::remove_file(&path);
                continue;
            }
            let used = last_used(&path);
            match used.filter(|age| *age <= unused && path.join(RECORD).exists()) {
                Some(_) => old.blobs.extend(layer_records(&path).into_iter().map(|it| it.descriptor.digest)),
                None => old.folders.push(path),
            }
        }
        Ok(old)
    }

    /// What is wrong with steps: each one's folder, and why it is of no use.
    pub(super) fn broken_steps(&self) -> Result<(usize, Vec<(PathBuf, Error)>)> {
        let (mut count, mut broken) = (0, Vec::new());
        for path in kinds(&self.steps_dir())?.into_iter().filter(|path| path.join(RECORD).exists()) {
            // Of another boot: nothing is wrong with that, it is just not used any more.
            if !still_whole(&path.join("boot"))? {
                continue;
            }
            count += 1;
            let what = || format!("step {}", path.display());
            let Some(step) = read_step(&path)? else {
                let reason = "it is not whole, expected its record and tree";
                broken.push((path.clone(), Error::invalid(what(), reason)));
                continue;
            };
            if let Some(reason) = step.differs() {
                broken.push((path.clone(), Error::invalid(what(), reason)));
                continue;
            }
            for layer in layer_records(&path).iter().filter(|layer| !self.has(&layer.descriptor)) {
                let reason = format!("its layer {} is missing", layer.descriptor.digest);
                broken.push((path.clone(), Error::invalid(what(), reason)));
            }
        }
        Ok((count, broken))
    }

    /// Removes a step that was found broken, so that it is made again.
    ///
    /// # Errors
    /// When it cannot be moved away.
    pub(super) fn discard_step(&self, step: &Path) -> Result<()> {
        set_aside(step)
    }
}

/// What of the steps a prune removes.
#[derive(Debug, Default)]
pub(super) struct OldSteps {
    /// Folders to remove.
    pub folders: Vec<PathBuf>,
    /// Blobs that those that stay refer to.
    pub blobs: Vec<Digest>,
}

fn read_step(dir: &Path) -> Result<Option<KeptStep>> {
    let Some(record) = read_json::<StepRecord>(&dir.join(RECORD))? else { return Ok(None) };
    let step = KeptStep { dir: dir.to_owned(), record };
    let whole = step.record.version == VERSION
        && still_whole(&dir.join("boot"))?
        && step.tree().is_none_or(|tree| tree.is_dir());
    Ok(whole.then_some(step))
}

/// Moves what is at `dir` away: it may be mounted somewhere, so it is not removed.
fn set_aside(dir: &Path) -> Result<()> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let name = format!("old-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
    let aside = dir.with_file_name(name);
    match publish::rename(dir, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
        Ok(()) => {
            // Without a record it is nobody's.
            let _ = fs::remove_file(aside.join(RECORD));
            if !aside.join("tree").exists() {
                let _ = remove_tree(&aside);
            }
            Ok(())
        }
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists)
}

fn layer_path(step: &KeptStep, compression: &str) -> PathBuf {
    step.dir.join(format!("layer-{}.json", compression.replace(['/', ':'], "-")))
}

fn layer_records(dir: &Path) -> Vec<LayerRecord> {
    let files = folders(dir).unwrap_or_default();
    let is_layer =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("layer-"));
    files.iter().filter(|path| is_layer(path)).filter_map(|path| read_json(path).ok().flatten()).collect()
}

/// What is in a JSON file; none where it is missing or is not what it should be.
pub(super) fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(value)
        .map_err(|source| Error::Json { what: format!("record {}", path.display()), source })?;
    Ok(fs::write(path, bytes)?)
}

/// Writes down that something was used now.
pub(super) fn touch(path: &Path) {
    let now = SystemTime::now();
    let fresh = |meta: std::fs::Metadata| Some(now.duration_since(meta.modified().ok()?).ok()? < USED_EVERY);
    if !fs::metadata(path).ok().and_then(fresh).unwrap_or(false)
        && let Ok(file) = fs::OpenOptions::new().append(true).open(path)
    {
        // Only a prune is less exact without it.
        let _ = file.file().set_modified(now);
    }
}

/// How long ago a step was used; none for what is no step.
fn last_used(dir: &Path) -> Option<Duration> {
    let used = fs::metadata(dir.join(RECORD)).ok()?.modified().ok()?;
    Some(used.elapsed().unwrap_or_default())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests;
