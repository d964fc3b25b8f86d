//! Archives from web servers. The store keeps what came, with what the server said of its state, so that the next
//! build asks only whether it is still the same.

use std::path::{Path, PathBuf};

use events::{Event, Transfer};
use fs_err as fs;
use layer::Digest;
use oci::registry::FileVersion;
use serde::{Deserialize, Serialize};

use super::{Loader, ModuleError};
use crate::build::PullPolicy;

/// An archive larger than this is nobody's buildpack.
pub(super) const ARCHIVE_LIMIT: u64 = 16 << 30;

/// What is kept of a URL: `<digest of the URL>.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// The file, in the same folder.
    file: PathBuf,
    /// Its size in bytes: a file that was cut short is as good as none.
    size: u64,
    /// What the server said of its state.
    #[serde(flatten)]
    version: FileVersion,
}

impl Loader<'_> {
    /// Brings a file of a web server here, or finds it in the store: with the pull policy `never` without asking, else
    /// when the server says that it did not change. With `if-not-present` a server that cannot be reached is a
    /// warning when the store has the file.
    ///
    /// # Errors
    /// When the server does not give it, or it is too large; when it may not be asked, and the store has nothing.
    pub fn download(&self, url: &str) -> Result<PathBuf, ModuleError> {
        let dir = self.store.cache_dir().join("downloads");
        let entry = dir.join(format!("{}.json", Digest::of(url.as_bytes()).hex()));
        let kept = read(&dir, &entry);
        let name = url.split(['?', '#']).next().unwrap_or_default();
        let name = name.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("file");
        match (&kept, self.pull_policy) {
            (Some(kept), PullPolicy::Never) => return Ok(dir.join(&kept.file)),
            (None, PullPolicy::Never) => return Err(ModuleError::NotKept { name: name.to_owned() }),
            _ => {}
        }
        let new = self.folder("download-")?;
        let path = new.join(name);
        let outcome = self.fetch(url, name, &mut fs::File::create(&path)?, kept.as_ref());
        match (outcome, kept) {
            (Ok(None), Some(kept)) => Ok(dir.join(kept.file)),
            (Ok(None), None) => Err(ModuleError::NotKept { name: name.to_owned() }),
            (Ok(Some(version)), old) => {
                fs::create_dir_all(&dir)?;
                let kept = keep_file(&dir, &entry, &new, &path, version)?;
                // A build that has just found it there has it open, or fails as if it had not been there.
                if let Some(parent) = old.as_ref().and_then(|old| old.file.parent()) {
                    let _ = fs::remove_dir_all(dir.join(parent));
                }
                Ok(kept)
            }
            (Err(error), Some(kept))
                if self.pull_policy == PullPolicy::IfNotPresent && error.kind.is_out_of_reach() =>
            {
                self.events.warning(&format!("{error}: using {name} as it was when it was downloaded"));
                Ok(dir.join(kept.file))
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    fn fetch(
        &self,
        url: &str,
        name: &str,
        to: &mut fs::File,
        kept: Option<&Kept>,
    ) -> Result<Option<FileVersion>, oci::registry::Error> {
        let kind = Transfer::Pull;
        let progress = |done, total| match done {
            0 => {
                self.events.info(&format!("Downloading {name}"));
                self.events.event(Event::TransferStarted { kind, id: name, total });
            }
            done => self.events.event(Event::TransferProgress { kind, id: name, done }),
        };
        let known = kept.map(|kept| &kept.version);
        let outcome = self.client.download_newer(url, known, to, ARCHIVE_LIMIT, &progress)?;
        let reused = outcome.is_none();
        self.events.event(Event::TransferEnded { kind, id: name, reused });
        Ok(outcome)
    }
}

/// What is kept of a URL, if it is all there.
fn read(dir: &Path, entry: &Path) -> Option<Kept> {
    let kept: Kept = serde_json::from_slice(&fs::read(entry).ok()?).ok()?;
    // Written by us, and still no path that leads elsewhere.
    let inside = kept.file.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    let whole = fs::metadata(dir.join(&kept.file)).is_ok_and(|meta| meta.len() == kept.size);
    (inside && whole).then_some(kept)
}

/// Moves the file `path`, in its folder `new`, into the store, and then says that it is there.
fn keep_file(
    dir: &Path,
    entry: &Path,
    new: &Path,
    path: &Path,
    version: FileVersion,
) -> Result<PathBuf, ModuleError> {
    fs::File::open(path)?.sync_all()?;
    let size = fs::metadata(path)?.len();
    let name = |path: &Path| PathBuf::from(path.file_name().unwrap_or_default());
    let home = tempfile::Builder::new().prefix("file-").tempdir_in(dir)?.keep();
    let kept = Kept { file: name(&home).join(name(path)), size, version };
    fs::rename(new, &home)?;
    let mut json = tempfile::NamedTempFile::new_in(dir)?;
    serde_json::to_writer(&mut json, &kept).map_err(std::io::Error::from)?;
    json.as_file().sync_all()?;
    json.persist(entry).map_err(|error| error.error)?;
    Ok(dir.join(kept.file))
}

#[cfg(test)]
mod tests;
