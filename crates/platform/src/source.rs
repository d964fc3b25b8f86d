//! The app's source: a folder or a zip file, brought to a copy that buildpacks may write to.
//!
//! The user's folder is only read. Not here: which files the descriptor leaves out (see [`crate::project`]).

mod zip;

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use layer::pack::Owner;
use layer::{CopyOptions, Refused};

/// The root of an app is 0777 in every image that the reference makes, whatever the folder's mode was.
const ROOT_MODE: u32 = 0o777;

/// The app cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// It is not there.
    #[error("no app at {}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It is neither a folder nor a zip file.
    #[error("{} is neither a folder nor a zip file", path.display())]
    Kind {
        /// What was given.
        path: PathBuf,
    },
    /// The zip file is damaged.
    #[error("failed to read the zip file {}", path.display())]
    Zip {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ::zip::result::ZipError,
    },
    /// The zip file names a path outside of itself.
    #[error("the zip file {} has an entry whose name leads out of it: `{name}`", path.display())]
    ZipName {
        /// The file.
        path: PathBuf,
        /// The entry's name.
        name: String,
    },
    /// An entry of the zip file is not one of an app, or breaks a limit.
    #[error("the zip file {}: {what}", path.display())]
    ZipEntry {
        /// The file.
        path: PathBuf,
        /// Which entry, and what is wrong with it.
        what: String,
    },
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Opening or copying failed.
    #[error("failed to copy the app")]
    Copy(#[from] layer::PathError),
}

/// An app's source, known to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A folder.
    Folder(PathBuf),
    /// A zip file.
    Zip(PathBuf),
}

impl Source {
    /// Looks at `path`, following symlinks.
    pub fn find(path: &Path) -> Result<Self, SourceError> {
        let path = match fs::canonicalize(path) {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SourceError::Missing { path: path.to_owned() });
            }
            Err(error) => return Err(error.into()),
        };
        if fs::metadata(&path)?.is_dir() {
            return Ok(Self::Folder(path));
        }
        let mut file = match layer::named::open(&path) {
            Ok(file) => file,
            Err(error) if Refused::of(&error.source).is_some() => return Err(SourceError::Kind { path }),
            Err(error) => return Err(error.into()),
        };
        let mut magic = [0; 4];
        let is_zip = io::Read::read_exact(&mut file, &mut magic).is_ok()
            && matches!(&magic, b"PK\x03\x04" | b"PK\x05\x06");
        if is_zip { Ok(Self::Zip(path)) } else { Err(SourceError::Kind { path }) }
    }

    /// The folder or file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::Zip(path) => path,
        }
    }

    /// Copies the app into the folder `dest`, which must be empty, owned by `owner` (user and group, as this
    /// process sees ids; none makes it this process's), without what `keep` (path in the app, whether it is a folder)
    /// refuses.
    pub fn copy_to(
        &self,
        dest: &Path,
        owner: Option<(u32, u32)>,
        keep: &(dyn Fn(&Path, bool) -> bool + Sync),
    ) -> Result<(), SourceError> {
        match self {
            Self::Folder(path) => {
                // Where one id is all there is, files of others could not be theirs in the copy.
                let (uid, gid) = owner.unwrap_or((0, 0));
                let owner = Owner::Ids { uid, gid };
                layer::copy_tree(path, dest, &CopyOptions { owner, keep, ..CopyOptions::default() })?;
            }
            Self::Zip(path) => zip::unpack(path, dest, owner, &|path, is_dir| keep(path, is_dir))?,
        }
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::lchown(dest, Some(uid), Some(gid))?;
        }
        fs::set_permissions(dest, std::fs::Permissions::from_mode(ROOT_MODE))?;
        Ok(())
    }
}
