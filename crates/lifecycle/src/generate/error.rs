//! Why the generation phase fails.

use std::io;
use std::path::PathBuf;

use cnb::ParseError;
use dockerfile::SourceError;
use layer::PathError;

use crate::executor::{ExecError, Exit, Place};

/// The generation phase failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// An extension's program failed.
    #[error("extension {id} {version} failed: bin/generate ended with {exit}")]
    Failed {
        /// The extension.
        id: String,
        /// Its version.
        version: String,
        /// How its program ended.
        exit: Exit,
        /// The end of what it printed.
        tail: String,
    },
    /// An extension's program could not be run.
    #[error("extension {id} could not be run")]
    Exec {
        /// The extension.
        id: String,
        /// Why.
        #[source]
        source: ExecError,
    },
    /// A descriptor or `extend-config.toml` is not as it should be.
    #[error("extension {id} has an invalid file")]
    Parse {
        /// The extension.
        id: String,
        /// What is wrong with it.
        #[source]
        source: ParseError,
    },
    /// A Dockerfile is not as it should be.
    #[error("extension {id} wrote an invalid Dockerfile")]
    Dockerfile {
        /// The extension.
        id: String,
        /// What is wrong with it.
        #[source]
        source: SourceError,
    },
    /// A context for both images beside one for one of them.
    #[error(
        "extension {id} left the folders context and {other}: expected either context alone or context.build and \
         context.run"
    )]
    Contexts {
        /// The extension.
        id: String,
        /// The other folder, or both of them.
        other: String,
    },
    /// Two extensions of the group whose ids are the same as folders.
    #[error(
        "extension {id} has the same folder as another extension of the group: '/' and '_' are the same there"
    )]
    SameFolder {
        /// The later of them.
        id: String,
    },
    /// An extension left something that is not read.
    #[error("extension {id} left {}, which cannot be read", path.display())]
    Unreadable {
        /// The extension.
        id: String,
        /// The file, as programs see it.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something else is where a folder should be.
    #[error("{} is not a folder", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// A file or folder cannot be read.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A file cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl GenerateError {
    /// Says of an error of a file in `place` whose it is, and what programs call it.
    pub(super) fn left_by(self, id: &str, place: &Place) -> Self {
        match self {
            Self::Path(error) => {
                let (path, source) = place.as_seen(error);
                Self::Unreadable { id: id.to_owned(), path, source }
            }
            other => other,
        }
    }
}
