//! Files of web servers that are kept, with what the server said of them, so that one that has not changed does not come
//! again.
//!
//! | in the folder | what it is |
//! |---|---|
//! | `<digest of the URL>.json` | which file was there, and which version of it ([`FileVersion`]) |
//! | `<digest of the content>` | the file; its time of change says when it was used last |
//!
//! Not here: how servers are spoken to ([`crate::registry::Client::download_newer`]), and when they are asked.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fs_err as fs;
use layer::{Digest, Hasher};
use serde::{Deserialize, Serialize};

use crate::publish;
use crate::registry::FileVersion;

/// A folder of files of web servers.
#[derive(Clone, Debug)]
pub struct Downloads {
    dir: PathBuf,
}

/// A file that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// Where. It is shared, so it is only to be read.
    pub path: PathBuf,
    /// The digest of its content.
    pub digest: Digest,
    /// What the server said of it.
    pub version: FileVersion,
}

#[derive(Serialize, Deserialize)]
struct Record {
    digest: Digest,
    version: FileVersion,
}

impl Downloads {
    /// The folder `dir`. It is made when something is to be kept.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// What is here of a URL.
    pub fn of_url(&self, url: &str) -> Option<Download> {
        let record: Record = serde_json::from_slice(&fs::read(self.record(url)).ok()?).ok()?;
        let path = self.of_content(record.digest)?;
        Some(Download { path, digest: record.digest, version: record.version })
    }

    /// The file with this content, wherever it came from.
    pub fn of_content(&self, digest: Digest) -> Option<PathBuf> {
        let path = self.dir.join(digest.hex());
        mark_used(&path).ok().map(|()| path)
    }

    /// Keeps what `fetch` writes as the file at `url`, unless it says that there is nothing new: `None` then.
    ///
    /// # Errors
    /// What `fetch` fails with, or when the file cannot be kept.
    pub fn bring<E: From<io::Error>>(
        &self,
        url: &str,
        fetch: impl FnOnce(&mut dyn Write) -> Result<Option<FileVersion>, E>,
    ) -> Result<Option<Download>, E> {
        fs::create_dir_all(&self.dir)?;
        let mut content =
            Hashing { file: tempfile::NamedTempFile::new_in(&self.dir)?, hasher: Hasher::new() };
        let Some(version) = fetch(&mut content)? else { return Ok(None) };
        let digest = content.hasher.finish();
        let path = self.dir.join(digest.hex());
        persist(content.file, &path)?;
        let mut record = tempfile::NamedTempFile::new_in(&self.dir)?;
        serde_json::to_writer(&mut record, &Record { digest, version: version.clone() })
            .map_err(io::Error::from)?;
        persist(record, &self.record(url))?;
        Ok(Some(Download { path, digest, version }))
    }

    fn record(&self, url: &str) -> PathBuf {
        self.dir.join(format!("{}.json", Digest::of(url.as_bytes()).hex()))
    }
}

/// Says that a file was used: what was not for long is removed.
fn mark_used(path: &Path) -> io::Result<()> {
    fs::OpenOptions::new().append(true).open(path)?.into_file().set_modified(SystemTime::now())
}

fn persist(file: tempfile::NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    let _permit = publish::permit();
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Writes to a file and hashes what it writes.
struct Hashing {
    file: tempfile::NamedTempFile,
    hasher: Hasher,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_kept_by_its_url() {
        let temp = tempfile::tempdir().unwrap();
        let downloads = Downloads::new(temp.path().join("d"));
        assert_eq!(downloads.of_url("u"), None);
        let version = |etag: &str| FileVersion { etag: Some(etag.to_owned()), last_modified: None };
        let bring = |content: &[u8], etag: &str| {
            downloads.bring("u", |to| -> io::Result<_> {
                to.write_all(content)?;
                Ok(Some(version(etag)))
            })
        };
        let one = bring(b"one", "1").unwrap().unwrap();
        assert_eq!((fs::read(&one.path).unwrap(), one.digest), (b"one".to_vec(), Digest::of(b"one")));
        assert_eq!(downloads.of_content(one.digest), Some(one.path.clone()));
        assert_eq!(downloads.of_url("u"), Some(one));
        assert_eq!(downloads.bring("u", |_| io::Result::Ok(None)).unwrap(), None);
        let two = bring(b"two", "2").unwrap();
        assert_eq!(downloads.of_url("u"), two);

        let failed = downloads.bring("u", |to| {
            to.write_all(b"thr")?;
            Err(io::Error::other("cut"))
        });
        assert!(failed.is_err());
        assert_eq!(downloads.of_url("u"), two, "what fails changes nothing");
        assert_eq!(fs::read_dir(temp.path().join("d")).unwrap().count(), 3, "and leaves nothing");
        fs::remove_file(two.unwrap().path).unwrap();
        assert_eq!(downloads.of_url("u"), None);
    }
}
