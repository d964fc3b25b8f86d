//! The folder that is served, as the web sees it: hidden files and whatever a link leads to outside of it are not there.

use std::ffi::OsStr;
use std::future::Future;
use std::io::{self, ErrorKind, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::fs::{Backend, File, Metadata};

/// Files in images carry the first second of 1980, whatever their content. Nothing real is that old.
const NORMALISED: Duration = Duration::from_secs(315_532_801);

/// An opened root folder.
#[derive(Clone, Debug)]
pub struct Root {
    path: Arc<Path>,
    started: SystemTime,
}

impl Root {
    /// Opens the folder at `path`.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = fs_err::canonicalize(path)?;
        if !path.is_dir() {
            return Err(io::Error::new(
                ErrorKind::NotADirectory,
                format!("{}: not a folder", path.display()),
            ));
        }
        Ok(Root { path: path.into(), started: SystemTime::now() })
    }

    /// The folder, without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The real path of what `path` leads to, if the web may see it.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let below = path.strip_prefix(&self.path).map_err(|_| ErrorKind::NotFound)?;
        if below.components().any(is_hidden) {
            return Err(ErrorKind::NotFound.into());
        }
        let real = fs_err::canonicalize(path).map_err(|error| match error.kind() {
            // `/index.html/x`, an endless link, a name that is too long: to the web there is nothing.
            ErrorKind::PermissionDenied | ErrorKind::Other | ErrorKind::OutOfMemory => error,
            _ => ErrorKind::NotFound.into(),
        })?;
        if real.starts_with(&self.path) { Ok(real) } else { Err(ErrorKind::NotFound.into()) }
    }

    fn info(&self, metadata: &std::fs::Metadata) -> Info {
        let modified = metadata.modified().ok().map(|time| {
            // The time makes validators (Last-Modified, ETag). One that never changes would keep an old page in
            // browsers after the site was deployed again.
            if time <= SystemTime::UNIX_EPOCH + NORMALISED { self.started } else { time }
        });
        Info { is_dir: metadata.is_dir(), len: metadata.len(), modified }
    }
}

/// Names that begin with a dot are the author's, not the site's. `.well-known` is for the web (RFC 8615).
fn is_hidden(component: Component<'_>) -> bool {
    match component {
        Component::Normal(name) => {
            name.as_encoded_bytes().starts_with(b".") && name != OsStr::new(".well-known")
        }
        _ => true,
    }
}

/// What a response needs to know about a file.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    is_dir: bool,
    len: u64,
    modified: Option<SystemTime>,
}

impl Metadata for Info {
    fn is_dir(&self) -> bool {
        self.is_dir
    }

    fn modified(&self) -> io::Result<SystemTime> {
        self.modified.ok_or_else(|| ErrorKind::Unsupported.into())
    }

    fn len(&self) -> u64 {
        self.len
    }
}

/// An open file of the site.
#[derive(Debug)]
pub struct SiteFile {
    file: tokio::fs::File,
    info: Info,
}

impl AsyncRead for SiteFile {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_read(cx, buf)
    }
}

impl AsyncSeek for SiteFile {
    fn start_seek(mut self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.file).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.file).poll_complete(cx)
    }
}

impl File for SiteFile {
    type Metadata = Info;
    type MetadataFuture<'a> = std::future::Ready<io::Result<Info>>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        std::future::ready(Ok(self.info))
    }
}

type Pending<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

impl Backend for Root {
    type File = SiteFile;
    type Metadata = Info;
    type OpenFuture = Pending<SiteFile>;
    type MetadataFuture = Pending<Info>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        let root = self.clone();
        Box::pin(off_the_loop(move || {
            let (file, _) = fs_err::File::open(root.resolve(&path)?)?.into_parts();
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                // A folder without an index is not listed.
                return Err(ErrorKind::NotFound.into());
            }
            Ok(SiteFile { info: root.info(&metadata), file: tokio::fs::File::from_std(file) })
        }))
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        let root = self.clone();
        Box::pin(off_the_loop(move || {
            let metadata = fs_err::metadata(root.resolve(&path)?)?;
            if !metadata.is_file() && !metadata.is_dir() {
                return Err(ErrorKind::NotFound.into());
            }
            Ok(root.info(&metadata))
        }))
    }
}

/// Runs what may wait for a disk where it holds nobody up.
async fn off_the_loop<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(ErrorKind::Interrupted.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_and_outside_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let site = dir.path().join("site");
        fs_err::create_dir_all(site.join(".well-known")).unwrap();
        fs_err::create_dir_all(site.join(".git")).unwrap();
        for name in ["page", ".env", ".git/config", ".well-known/security.txt"] {
            fs_err::write(site.join(name), name).unwrap();
        }
        fs_err::write(dir.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink("../secret", site.join("out")).unwrap();
        std::os::unix::fs::symlink("page", site.join("in")).unwrap();
        let root = Root::open(&site).unwrap();
        let kind = |name: &str| root.resolve(&root.path().join(name)).map_err(|error| error.kind());
        assert_eq!(kind("page"), Ok(root.path().join("page")));
        assert_eq!(kind("in"), Ok(root.path().join("page")));
        assert!(kind(".well-known/security.txt").is_ok());
        for name in ["out", ".env", ".git/config", "../secret", "none", "page/below", ".well-known/../.env"] {
            assert_eq!(kind(name), Err(ErrorKind::NotFound), "{name}");
        }
    }

    #[test]
    fn the_normalised_time_is_not_passed_on() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let file = fs_err::File::create(dir.path().join("x")).unwrap();
        let recent = root.info(&file.metadata().unwrap()).modified.unwrap();
        assert!(recent > SystemTime::UNIX_EPOCH + NORMALISED);
        file.file().set_modified(SystemTime::UNIX_EPOCH + NORMALISED).unwrap();
        assert_eq!(root.info(&file.metadata().unwrap()).modified, Some(root.started));
    }
}
