//! Checking a whole store: every blob's digest, everything that every image refers to, every unpacked layer and every
//! kept step.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use fs_err as fs;
use layer::Digest;

use super::{Store, walk};
use crate::error::{Error, Result};
use crate::layout::REF_NAME;

/// What a check of a store found.
#[derive(Debug, Default)]
pub struct Report {
    /// Number of blobs that were read.
    pub blobs: usize,
    /// Bytes that were read.
    pub bytes: u64,
    /// Number of images in the list.
    pub images: usize,
    /// Number of unpacked layers.
    pub rootfs: usize,
    /// Number of kept steps of Dockerfiles.
    pub steps: usize,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// Something wrong in a store.
#[derive(Debug)]
pub struct Problem {
    /// What it is.
    pub error: Error,
    /// What is at fault, where that can be told.
    pub part: Option<Part>,
    /// The names of images that need it.
    pub images: Vec<String>,
}

/// A part of a store that can be removed because it comes again when it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A blob: it is fetched again.
    Blob(Digest),
    /// The directory of an unpacked layer: it is unpacked again.
    Rootfs(PathBuf),
    /// The directory of a step of a Dockerfile: it is made again.
    Step(PathBuf),
}

impl Problem {
    fn new(error: Error) -> Self {
        Self { error, part: None, images: Vec::new() }
    }

    fn of(part: Part, error: Error) -> Self {
        Self { part: Some(part), ..Self::new(error) }
    }

    /// Whether [`Store::repair`] removes what is at fault. A blob that is missing cannot be.
    pub fn can_be_removed(&self) -> bool {
        match self.part {
            Some(Part::Blob(_)) => self.error.is_corrupt_blob(),
            Some(Part::Rootfs(_) | Part::Step(_)) => true,
            None => false,
        }
    }
}

impl Store {
    /// Reads every blob, follows every image of the list, and compares every unpacked layer and every kept step with
    /// what was noted when it was made.
    ///
    /// # Errors
    /// When the store itself cannot be read. What is wrong in it is in the report.
    pub fn verify(&self) -> Result<Report> {
        let files: Vec<PathBuf> = fs::read_dir(self.dir().join("blobs/sha256"))?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        let mut report = Report { blobs: files.len(), ..Report::default() };
        let mut problems: BTreeMap<Digest, Problem> = BTreeMap::new();
        for (digest, checked) in check_all(files) {
            match (digest, checked) {
                (_, Ok(size)) => report.bytes += size,
                (Some(blob), Err(error)) => {
                    problems.insert(blob, Problem::of(Part::Blob(blob), error));
                }
                (None, Err(error)) => {
                    report.problems.push(Problem::new(error));
                }
            }
        }
        self.verify_images(&mut report, &mut problems)?;
        report.problems.extend(problems.into_values());
        let (rootfs, broken) = self.broken_rootfs()?;
        report.rootfs = rootfs;
        let broken = broken.into_iter().map(|(tree, error)| Problem::of(Part::Rootfs(tree), error));
        report.problems.extend(broken);
        let (steps, broken) = self.broken_steps()?;
        report.steps = steps;
        let broken = broken.into_iter().map(|(step, error)| Problem::of(Part::Step(step), error));
        report.problems.extend(broken);
        Ok(report)
    }

    /// Removes what is at fault, so that it comes again when it is needed. False when that is of no use.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn repair(&self, problem: &Problem) -> Result<bool> {
        if !problem.can_be_removed() {
            return Ok(false);
        }
        match &problem.part {
            Some(Part::Blob(blob)) => self.discard(*blob)?,
            Some(Part::Rootfs(tree)) => self.remove_rootfs(tree)?,
            Some(Part::Step(step)) => self.discard_step(step)?,
            None => return Ok(false),
        }
        Ok(true)
    }

    fn verify_images(&self, report: &mut Report, problems: &mut BTreeMap<Digest, Problem>) -> Result<()> {
        for entry in self.0.layout.index()?.manifests {
            report.images += 1;
            let name = entry.annotations.get(REF_NAME).cloned().unwrap_or_else(|| entry.digest.to_string());
            let mut blobs = Vec::new();
            let followed = walk::reachable(&self.0.layout, &entry, &mut |found| {
                if let walk::Found::Blob(blob) = found {
                    blobs.push(blob);
                }
            });
            for blob in blobs {
                if let Err(error) = self.open_blob(&blob) {
                    problems.entry(blob.digest).or_insert(Problem::of(Part::Blob(blob.digest), error));
                }
                if let Some(problem) = problems.get_mut(&blob.digest).filter(|p| !p.images.contains(&name)) {
                    problem.images.push(name.clone());
                }
            }
            // A document that cannot be followed though its bytes are right: it was wrong from the start.
            if let Err(error) = followed
                && !error.is_corrupt_blob()
                && !matches!(error, Error::MissingBlob { .. })
            {
                report.problems.push(Problem { images: vec![name], ..Problem::new(error) });
            }
        }
        Ok(())
    }
}

/// Hashes the files, several at once: each one's digest by its name, and its size or what is wrong.
fn check_all(files: Vec<PathBuf>) -> Vec<(Option<Digest>, Result<u64>)> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(files.len()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    std::thread::scope(|scope| {
        for _ in 0..workers.min(files.len()) {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = check(file);
                    results.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(result);
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn check(path: &PathBuf) -> (Option<Digest>, Result<u64>) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Ok(digest) = format!("sha256:{name}").parse::<Digest>() else {
        let what = format!("blob file {}", path.display());
        return (
            None,
            Err(Error::invalid(what, "its name is not a digest, expected 64 lower-case hex digits")),
        );
    };
    let checked = fs::File::open(path).map_err(Error::from).and_then(|file| {
        let size = file.metadata()?.len();
        let place = path.display().to_string();
        match Digest::of_reader(std::io::BufReader::with_capacity(256 << 10, file))? {
            found if found == digest => Ok(size),
            found => Err(Error::CorruptBlob { digest, place, found }),
        }
    });
    (Some(digest), checked)
}
