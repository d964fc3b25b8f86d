//! Files of web servers, kept so that what has not changed is not brought again.
//!
//! A file with a checksum that is here already costs no request. One without is asked for with what the server said of
//! the version that is here. Not here: how servers are spoken to.

use std::io::{self, Write};
use std::path::PathBuf;

use layer::Digest;
use oci::downloads::Downloads as Kept;
use oci::registry::{Client, FileVersion};

use crate::error::SourceError;
use crate::instruction::Word;
use crate::parse::Dockerfile;

/// Bytes of a file at most: 16 GiB.
const LIMIT: u64 = 16 << 30;

/// Why a file did not come: already without secrets.
pub type FetchError = Box<dyn std::error::Error + Send + Sync>;

/// Speaks to web servers.
pub trait Fetch: Send + Sync {
    /// Writes what is at `url` to `to`, unless it is the version `known`: `None` then.
    ///
    /// # Errors
    /// Whatever keeps the file from coming whole.
    fn fetch(
        &self,
        url: &str,
        known: Option<&FileVersion>,
        to: &mut dyn Write,
    ) -> Result<Option<FileVersion>, FetchError>;
}

impl Fetch for Client {
    fn fetch(
        &self,
        url: &str,
        known: Option<&FileVersion>,
        to: &mut dyn Write,
    ) -> Result<Option<FileVersion>, FetchError> {
        Ok(self.download_newer(url, known, to, LIMIT, &|_, _| ())?)
    }
}

/// A folder of files that were brought from web servers.
pub struct Downloads<'a> {
    kept: Kept,
    fetch: Option<&'a dyn Fetch>,
}

impl std::fmt::Debug for Downloads<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Downloads").field("kept", &self.kept).finish_non_exhaustive()
    }
}

/// A file that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// Where. The file is shared: it is to be read only.
    pub path: PathBuf,
    /// The digest of its content.
    pub digest: Digest,
    /// The name its URL gives it, when that has one.
    pub name: Option<String>,
}

/// Why a file cannot be had.
enum Miss {
    Offline,
    Fetch(FetchError),
    Keep(io::Error),
    Checksum { actual: Digest },
}

impl From<io::Error> for Miss {
    fn from(error: io::Error) -> Self {
        Self::Keep(error)
    }
}

impl<'a> Downloads<'a> {
    /// The folder `dir`, which is made when something is to be kept in it. Without `fetch` there is no network: what is
    /// here is used as it is.
    pub fn new(dir: impl Into<PathBuf>, fetch: Option<&'a dyn Fetch>) -> Self {
        Self { kept: Kept::new(dir), fetch }
    }

    /// The file at a URL, whose content must be that of `checksum` (`sha256:<hex>`) when there is one.
    ///
    /// # Errors
    /// At the URL's place: it does not come, or has another content. At that of the checksum: it is none.
    pub fn get(
        &self,
        dockerfile: &Dockerfile,
        url: &Word,
        checksum: Option<&Word>,
    ) -> Result<Download, SourceError> {
        let expected = checksum.map(|word| checksum_of(dockerfile, word)).transpose()?;
        let (path, digest) =
            self.bring(&url.text, expected).map_err(|miss| fault(dockerfile, url, expected, miss))?;
        Ok(Download { path, digest, name: url_file_name(&url.text) })
    }

    fn bring(&self, url: &str, expected: Option<Digest>) -> Result<(PathBuf, Digest), Miss> {
        if let Some(digest) = expected
            && let Some(path) = self.kept.of_content(digest)
        {
            return Ok((path, digest));
        }
        let known = self.kept.of_url(url);
        let found = match self.fetch {
            None => known.ok_or(Miss::Offline)?,
            Some(fetch) => {
                let version = known.as_ref().map(|known| &known.version);
                let new = self.kept.bring(url, |to| fetch.fetch(url, version, to).map_err(Miss::Fetch))?;
                new.or(known).ok_or_else(|| io::Error::other("the server says that nothing changed"))?
            }
        };
        match expected {
            Some(expected) if expected != found.digest => Err(Miss::Checksum { actual: found.digest }),
            _ => Ok((found.path, found.digest)),
        }
    }
}

/// The last part of a URL's path: what the file is called in a destination that is a folder.
pub fn url_file_name(url: &str) -> Option<String> {
    let path = url.split(['?', '#']).next().unwrap_or("");
    let (_, rest) = path.split_once("://")?;
    let (_, name) = rest.rsplit_once('/')?;
    (!matches!(name, "" | "." | "..")).then(|| name.to_owned())
}

fn checksum_of(dockerfile: &Dockerfile, word: &Word) -> Result<Digest, SourceError> {
    word.text.parse().map_err(|_| {
        let message = format!("`{}` is not a checksum", word.text);
        dockerfile.error(&word.span, message).with_help("it is `sha256:` and 64 hexadecimal digits")
    })
}

fn fault(dockerfile: &Dockerfile, url: &Word, expected: Option<Digest>, miss: Miss) -> SourceError {
    let shown = shown(&url.text);
    let error = |message: String| dockerfile.error(&url.span, message);
    match miss {
        Miss::Offline => error(format!("`{shown}` is not at hand, and the network may not be used")),
        Miss::Fetch(cause) => error(chain(&*cause)),
        Miss::Keep(cause) => error(format!("cannot keep `{shown}`: {cause}")),
        Miss::Checksum { actual } => {
            let expected = expected.map(|digest| digest.to_string()).unwrap_or_default();
            error(format!("`{shown}` is not what --checksum says: it is {actual}, expected {expected}"))
                .with_help("the file is another one than it was: use the new checksum only if you trust it")
        }
    }
}

/// An error and what it comes from, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A URL without user and query, which may be secrets.
fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or("");
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            format!("{scheme}://{}{path}", host.rsplit('@').next().unwrap_or(""))
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;

    use super::*;

    /// A server with one file, that remembers what was asked.
    struct Server {
        content: Mutex<Option<&'static str>>,
        asked: Mutex<Vec<String>>,
    }

    impl Server {
        fn new(content: &'static str) -> Self {
            Self { content: Mutex::new(Some(content)), asked: Mutex::default() }
        }

        fn asked(&self) -> Vec<String> {
            std::mem::take(&mut self.asked.lock().unwrap())
        }
    }

    impl Fetch for Server {
        fn fetch(
            &self,
            _: &str,
            known: Option<&FileVersion>,
            to: &mut dyn Write,
        ) -> Result<Option<FileVersion>, FetchError> {
            let known = known.and_then(|known| known.etag.clone());
            self.asked.lock().unwrap().push(known.clone().unwrap_or_default());
            let content = self.content.lock().unwrap().ok_or("cannot download it: refused")?;
            if known.as_deref() == Some(content) {
                return Ok(None);
            }
            to.write_all(content.as_bytes())?;
            Ok(Some(FileVersion { etag: Some(content.to_owned()), last_modified: None }))
        }
    }

    fn get(dir: &Path, server: Option<&Server>, line: &str) -> Result<Download, SourceError> {
        let dockerfile = Dockerfile::parse("Dockerfile", line).unwrap();
        let crate::InstructionKind::Add(add) = &dockerfile.instructions[0].kind else { panic!() };
        let crate::CopySource::Path(url) = &add.copy.sources[0] else { panic!() };
        let fetch = server.map(|server| server as &dyn Fetch);
        Downloads::new(dir.join("kept"), fetch).get(&dockerfile, url, add.checksum.as_ref())
    }

    #[test]
    fn asks_only_for_what_changed() {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::new("one");
        let line = "ADD http://h/a/f.txt?x=/y /";
        let first = get(dir.path(), Some(&server), line).unwrap();
        assert_eq!(fs_err::read_to_string(&first.path).unwrap(), "one");
        assert_eq!((first.digest, first.name.as_deref()), (Digest::of(b"one"), Some("f.txt")));
        assert_eq!(get(dir.path(), Some(&server), line).unwrap(), first);
        *server.content.lock().unwrap() = Some("two");
        let second = get(dir.path(), Some(&server), line).unwrap();
        assert_eq!(fs_err::read_to_string(&second.path).unwrap(), "two");
        assert_eq!(server.asked(), ["", "one", "one"]);
        // Without network, what is here.
        assert_eq!(get(dir.path(), None, line).unwrap(), second);
        let error = get(dir.path(), None, "ADD http://u:p@h/other?token=1 /").unwrap_err();
        assert_eq!(
            error.to_string(),
            "Dockerfile:1:5: `http://h/other` is not at hand, and the network may not be used"
        );
        *server.content.lock().unwrap() = None;
        let error = get(dir.path(), Some(&server), line).unwrap_err();
        assert_eq!(error.to_string(), "Dockerfile:1:5: cannot download it: refused");
        assert_eq!(fs_err::read_dir(dir.path().join("kept")).unwrap().count(), 3, "nothing half done");
    }

    #[test]
    fn a_checksum_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::new("one");
        let one = Digest::of(b"one");
        let line = format!("ADD --checksum={one} https://h/f /");
        get(dir.path(), Some(&server), &line).unwrap();
        assert_eq!(server.asked().len(), 1);
        // What is here needs no server, whatever the URL.
        get(dir.path(), Some(&server), &format!("ADD --checksum={one} https://mirror/f /")).unwrap();
        assert_eq!(server.asked().len(), 0);
        let two = Digest::of(b"two");
        let error =
            get(dir.path(), Some(&server), &format!("ADD --checksum={two} https://h/f /")).unwrap_err();
        assert_eq!(error.line_column(), (1, 88));
        assert_eq!(
            error.message(),
            format!("`https://h/f` is not what --checksum says: it is {one}, expected {two}")
        );
        let error = get(dir.path(), Some(&server), "ADD --checksum=md5:00 https://h/f /").unwrap_err();
        assert_eq!(error.to_string(), "Dockerfile:1:5: `md5:00` is not a checksum");
    }

    #[test]
    fn names_are_those_of_urls() {
        for (url, name) in [
            ("https://h/a/b.tgz", Some("b.tgz")),
            ("https://h/a/b.tgz?c=/d#e/f", Some("b.tgz")),
            ("https://h/a/", None),
            ("https://h", None),
            ("https://h/..", None),
        ] {
            assert_eq!(url_file_name(url).as_deref(), name, "{url}");
        }
    }
}
