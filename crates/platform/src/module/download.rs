//! Archives from web servers. The store keeps what came, with what the server said of its state, so that the next
//! build asks only whether it is still the same.

use std::path::PathBuf;

use events::{Event, Transfer};
use oci::downloads::{Download, Downloads};
use oci::registry::FileVersion;

use super::{Loader, ModuleError};
use crate::build::PullPolicy;

/// An archive larger than this is nobody's buildpack.
pub(super) const ARCHIVE_LIMIT: u64 = 16 << 30;

impl Loader<'_> {
    /// Brings a file of a web server here, or finds it in the store: with the pull policy `never` without asking, else
    /// when the server says that it did not change. With `if-not-present` a server that cannot be reached is a
    /// warning when the store has the file.
    ///
    /// # Errors
    /// When the server does not give it, or it is too large; when it may not be asked, and the store has nothing.
    pub fn download(&self, url: &str) -> Result<PathBuf, ModuleError> {
        let downloads = Downloads::new(self.store.downloads_dir());
        let (name, kept) = (file_name(url), downloads.of_url(url));
        let nothing = || ModuleError::NotKept { name: name.to_owned() };
        if self.pull_policy == PullPolicy::Never {
            return kept.map(|kept| kept.path).ok_or_else(nothing);
        }
        let version = kept.as_ref().map(|kept| &kept.version);
        match (self.fetch(&downloads, url, version), kept) {
            (Ok(Some(new)), _) => Ok(new.path),
            (Ok(None), kept) => kept.map(|kept| kept.path).ok_or_else(nothing),
            (Err(ModuleError::Download(error)), Some(kept))
                if self.pull_policy == PullPolicy::IfNotPresent && error.kind.is_out_of_reach() =>
            {
                self.events.warning(&format!("{error}: using {name} as it was when it was downloaded"));
                Ok(kept.path)
            }
            (Err(error), _) => Err(error),
        }
    }

    fn fetch(
        &self,
        downloads: &Downloads,
        url: &str,
        known: Option<&FileVersion>,
    ) -> Result<Option<Download>, ModuleError> {
        let (kind, id) = (Transfer::Pull, file_name(url));
        let progress = |done, total| match done {
            0 => {
                self.events.info(&format!("Downloading {id}"));
                self.events.event(Event::TransferStarted { kind, id, total });
            }
            done => self.events.event(Event::TransferProgress { kind, id, done }),
        };
        let outcome = downloads.bring(url, |to| {
            Ok::<_, ModuleError>(self.client.download_newer(url, known, to, ARCHIVE_LIMIT, &progress)?)
        })?;
        self.events.event(Event::TransferEnded { kind, id, reused: outcome.is_none() });
        Ok(outcome)
    }
}

/// The last part of a URL's path.
pub(super) fn file_name(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("file")
}

#[cfg(test)]
mod tests;
