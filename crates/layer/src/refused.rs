//! Why a file that somebody else brought is not read.
//!
//! It travels inside an [`io::Error`], so that every way a file is read ends with the same words.

use std::io;
use std::path::PathBuf;

use crate::meta::Kind;

/// The rule that a file breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is no regular file: reading it may never end.
    #[error("it is {0}, expected a regular file")]
    Kind(Kind),
    /// It is a link to what is not in this directory.
    #[error("it leads out of `{}`", .0.display())]
    LeadsOut(PathBuf),
    /// It has more than this many bytes.
    #[error("larger than the {0} bytes expected at most")]
    TooLarge(u64),
}

impl Refused {
    /// The rule in this error, if that is what it is about.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        let kind = match &refused {
            Refused::Kind(Kind::Dir) => io::ErrorKind::IsADirectory,
            Refused::Kind(_) | Refused::LeadsOut(_) => io::ErrorKind::InvalidInput,
            Refused::TooLarge(_) => io::ErrorKind::FileTooLarge,
        };
        Self::new(kind, refused)
    }
}
