//! What can go wrong while Dockerfiles are applied.

use std::fmt;
use std::io;
use std::path::PathBuf;

use layer::pack::PackError;
use layer::{FullDisk, PathError};
use oci::passwd::UserError;
use sandbox::{ExitStatus, MountError, SpawnError};

use crate::error::SourceError;
use crate::ignore::IgnoreError;

/// Dockerfiles cannot be applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// An instruction asks for what cannot be done, at its place.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A program ended badly.
    #[error(transparent)]
    Run(Box<RunFailure>),
    /// An instruction could not be carried out.
    #[error("{at}")]
    Step {
        /// Where it is.
        at: SourceError,
        /// Why.
        #[source]
        source: StepError,
    },
    /// Something went wrong that is no instruction's fault.
    #[error(transparent)]
    Other(#[from] StepError),
    /// The image's configuration would be larger than anybody reads.
    #[error(
        "after the extension {origin} the run image's configuration has {size} bytes, expected at most {limit}"
    )]
    TooLarge {
        /// The extension.
        origin: String,
        /// The size of the configuration in bytes.
        size: u64,
        /// The most that is read.
        limit: u64,
    },
    /// The run image would run as root.
    #[error("after the extension {origin} the run image's user is `{user}`, expected one that is not root")]
    RootUser {
        /// The extension that was last.
        origin: String,
        /// The user, as the image's configuration has it.
        user: String,
    },
}

impl ApplyError {
    /// What the user can do about it, when that is not obvious.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Source(error) => error.help().map(str::to_owned),
            // A full disk is said by who knows all disks.
            Self::Run(failure) => failure.hint.filter(|_| failure.disk.is_none()).map(str::to_owned),
            Self::Step { source: StepError::Spawn(error), .. } => error.hint().map(str::to_owned),
            Self::RootUser { .. } => Some(
                "end the last run.Dockerfile with `USER ${user_id}:${group_id}` (declare both with ARG first)"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// What the machine, the store or the image has against a step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// A file cannot be made, read or moved; the message has its path.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// As before.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Something of the image.
    #[error("cannot use `{}` of the image", path.display())]
    InImage {
        /// The path in the image.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file system cannot be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The store cannot be used, or a layer of the base image cannot be had.
    #[error(transparent)]
    Store(#[from] oci::Error),
    /// The layer cannot be made.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The user is not one of the image's.
    #[error(transparent)]
    User(#[from] UserError),
    /// The program did not start.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

/// A program of `RUN` that ended badly.
#[derive(Debug)]
pub struct RunFailure {
    /// Where the instruction is, and which it is.
    pub at: SourceError,
    /// How the program ended.
    pub status: ExitStatus,
    /// The last lines it wrote.
    pub output: Vec<String>,
    /// What may be done about it.
    pub hint: Option<&'static str>,
    /// The disk of the step, when there was no space on it as the program ended.
    pub disk: Option<FullDisk>,
}

impl fmt::Display for RunFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.at)?;
        if !self.output.is_empty() {
            write!(f, "; the last it wrote:")?;
            for line in &self.output {
                write!(f, "\n    {line}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for RunFailure {}

/// What an instruction failed of, without its place.
#[derive(Debug)]
pub(super) enum Failed {
    /// Its own fault: a message, and where in the file when that is not all of the instruction.
    Message(String, Option<std::ops::Range<usize>>),
    /// Its own fault, located.
    Source(SourceError),
    /// The program ended badly.
    Run { status: ExitStatus, output: Vec<String>, hint: Option<&'static str>, disk: Option<FullDisk> },
    /// The machine's or the image's.
    Step(StepError),
}

impl From<SourceError> for Failed {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<IgnoreError> for Failed {
    fn from(error: IgnoreError) -> Self {
        match error {
            IgnoreError::Read(error) => Self::Step(error.into()),
            IgnoreError::Source(error) => Self::Source(error),
        }
    }
}

impl<E: Into<StepError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Step(error.into())
    }
}
