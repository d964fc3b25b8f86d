//! How a phase runs a program that it does not trust.
//!
//! The phases say what to run in *guest* paths, the paths that the program sees. A platform runs it in a sandbox;
//! a lifecycle that is already inside a build container runs it in place. Not here: any way of running it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use events::Stream;
use layer::{PathError, Refused};

/// Runs programs of buildpacks and extensions.
pub trait Executor: Sync {
    /// Runs a program to its end, handing on its output as it comes. Standard input is empty, the umask 0022.
    ///
    /// # Errors
    /// When the program could not be started or waited for. How it ended is not an error.
    fn run(&self, invocation: &Invocation, output: &mut dyn FnMut(Stream, &[u8])) -> Result<Exit, ExecError>;
}

/// A program to run. All paths are the guest's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The program.
    pub program: PathBuf,
    /// Its arguments, without its own name.
    pub args: Vec<OsString>,
    /// Its environment; nothing is inherited.
    pub env: BTreeMap<OsString, OsString>,
    /// Its working directory.
    pub cwd: PathBuf,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// True for code 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let status = match *self {
            Self::Code(code) => sandbox::ExitStatus::Code(code),
            Self::Signal(signal) => sandbox::ExitStatus::Signal(signal),
        };
        status.fmt(f)
    }
}

/// A program could not be run.
#[derive(Debug, thiserror::Error)]
#[error("failed to run {}", program.display())]
pub struct ExecError {
    /// The program, as the guest would have seen it.
    pub program: PathBuf,
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl ExecError {
    /// `program` could not be run because of `source`.
    pub fn new(program: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { program: program.to_owned(), source: source.into() }
    }

    /// The error with all its causes on one line.
    pub(crate) fn whole(&self) -> String {
        let causes = std::iter::successors(Some(self as &dyn std::error::Error), |cause| cause.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }
}

/// A folder or file that both sides see, each by its own path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where this process reads and writes it.
    pub host: PathBuf,
    /// Where programs see it.
    pub guest: PathBuf,
}

impl Place {
    /// A place with two paths.
    pub fn new(host: impl Into<PathBuf>, guest: impl Into<PathBuf>) -> Self {
        Self { host: host.into(), guest: guest.into() }
    }

    /// A place that both see by the same path.
    pub fn same(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { host: path.clone(), guest: path }
    }

    /// How programs call what is at `host` in this place; elsewhere there is no other name for it.
    pub fn guest_of(&self, host: &Path) -> PathBuf {
        host.strip_prefix(&self.host).map_or_else(|_| host.to_owned(), |name| self.guest.join(name))
    }

    /// The path and the reason of an error of a file in this place, in the words of programs that see it.
    pub(crate) fn as_seen(&self, error: PathError) -> (PathBuf, io::Error) {
        let source = match Refused::of(&error.source) {
            Some(Refused::LeadsOut(dir)) => Refused::LeadsOut(self.guest_of(dir)).into(),
            _ => error.source,
        };
        (self.guest_of(&error.path), source)
    }

    /// A place in this one.
    pub fn join(&self, name: impl AsRef<Path>) -> Self {
        Self { host: self.host.join(name.as_ref()), guest: self.guest.join(name.as_ref()) }
    }
}
