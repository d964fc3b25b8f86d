//! How a sandboxed program ended, or why it did not start.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;

use crate::wire::{Reader, Writer};

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl ExitStatus {
    /// Whether it exited with 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }

    /// The exit code a shell would give: 128 and the number of the signal, where one ended it.
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }

    /// What to say of a program that the system call filter ended, or that ended because one that it started was.
    pub fn denied_call(self) -> Option<&'static str> {
        (self.shell_code() == 128 + libc::SIGSYS).then_some(
            "SIGSYS: the sandbox's system call filter ends programs for another kind of processor, 32-bit ones too",
        )
    }

    pub(crate) fn encode(self) -> [u8; 2] {
        match self {
            // An exit code has eight bits, and a signal seven.
            Self::Code(code) => [b'c', code as u8],
            Self::Signal(signal) => [b's', signal as u8],
        }
    }

    pub(crate) fn decode(bytes: [u8; 2]) -> Option<Self> {
        match bytes {
            [b'c', code] => Some(Self::Code(code.into())),
            [b's', signal] => Some(Self::Signal(signal.into())),
            _ => None,
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}")?,
            Self::Signal(signal) => write!(f, "signal {signal}")?,
        }
        self.denied_call().map_or(Ok(()), |why| write!(f, " ({why})"))
    }
}

/// Why the program did not start, seen from inside the sandbox.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Nothing of this name is there or in `PATH`.
    #[error("program `{}` not found in the sandbox", .0.display())]
    NotFound(OsString),
    /// It is a directory, has no execute bit, or may not be reached by this user.
    #[error("program `{}` is not executable by this user", .0.display())]
    NotExecutable(OsString),
    /// The interpreter of its `#!` line, or its dynamic loader, is missing.
    #[error("program `{}` needs `{}`, which is not in the sandbox", program.display(), interpreter.display())]
    MissingInterpreter {
        /// The program.
        program: OsString,
        /// The path it names.
        interpreter: OsString,
    },
    /// It is for another kind of processor.
    #[error("program `{}` is for {found}, and this machine is {}", program.display(), std::env::consts::ARCH)]
    WrongArchitecture {
        /// The program.
        program: OsString,
        /// Its architecture, as far as we know the number.
        found: String,
    },
    /// Neither a binary nor a script with `#!`.
    #[error("program `{}` is neither a binary nor a script that starts with `#!`", .0.display())]
    ExecFormat(OsString),
    /// The working directory is missing or closed to this user.
    #[error("working directory `{}` cannot be entered", path.display())]
    WorkingDirectory {
        /// The path inside.
        path: OsString,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A step of the set-up failed.
    #[error("cannot {step} in the sandbox{}", if path.is_empty() { String::new() } else { format!(": {}", path.display()) })]
    Step {
        /// What was being done.
        step: String,
        /// The path it concerns, or empty.
        path: OsString,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Failure {
    pub(crate) fn step(step: &str, path: impl AsRef<OsStr>, source: impl Into<io::Error>) -> Self {
        Self::Step { step: step.to_owned(), path: path.as_ref().to_owned(), source: source.into() }
    }

    /// What the user can do about it, when that is not obvious.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::MissingInterpreter { .. } => {
                Some("the image lacks the script's interpreter or the program's C library")
            }
            Self::WrongArchitecture { .. } => Some("choose the image of this machine's platform"),
            Self::ExecFormat(_) => Some("start scripts with a line like `#!/bin/sh`"),
            _ => None,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut to = Writer(Vec::new());
        let (kind, first, second, errno) = match self {
            Self::NotFound(program) => (0, program.as_os_str(), OsStr::new(""), 0),
            Self::NotExecutable(program) => (1, program.as_os_str(), OsStr::new(""), 0),
            Self::MissingInterpreter { program, interpreter } => {
                (2, program.as_os_str(), interpreter.as_os_str(), 0)
            }
            Self::WrongArchitecture { program, found } => (3, program.as_os_str(), OsStr::new(found), 0),
            Self::ExecFormat(program) => (4, program.as_os_str(), OsStr::new(""), 0),
            Self::WorkingDirectory { path, source } => (5, path.as_os_str(), OsStr::new(""), errno(source)),
            Self::Step { step, path, source } => (6, path.as_os_str(), OsStr::new(step), errno(source)),
        };
        to.number(kind);
        to.bytes(first);
        to.bytes(second);
        to.number(errno);
        to.0
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let (kind, first, second) = (from.number()?, from.bytes()?, from.bytes()?);
        let source = io::Error::from_raw_os_error(from.number()?.try_into().ok()?);
        let text = second.to_string_lossy().into_owned();
        Some(match kind {
            0 => Self::NotFound(first),
            1 => Self::NotExecutable(first),
            2 => Self::MissingInterpreter { program: first, interpreter: second },
            3 => Self::WrongArchitecture { program: first, found: text },
            4 => Self::ExecFormat(first),
            5 => Self::WorkingDirectory { path: first, source },
            6 => Self::Step { step: text, path: first, source },
            _ => return None,
        })
    }
}

fn errno(error: &io::Error) -> u64 {
    error.raw_os_error().unwrap_or(libc::EIO).unsigned_abs().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_arrive_as_they_were() {
        let failures = [
            Failure::NotFound("a".into()),
            Failure::NotExecutable("b".into()),
            Failure::MissingInterpreter { program: "c".into(), interpreter: "/lib/ld.so".into() },
            Failure::WrongArchitecture { program: "d".into(), found: "aarch64".into() },
            Failure::ExecFormat("e".into()),
            Failure::WorkingDirectory { path: "/f".into(), source: io::Error::from_raw_os_error(2) },
            Failure::step("mount", "/proc", io::Error::from_raw_os_error(1)),
        ];
        for failure in failures {
            let back = Failure::decode(&failure.encode()).expect("decoded");
            assert_eq!(format!("{back:?}"), format!("{failure:?}"));
        }
        assert!(Failure::decode(b"").is_none());
    }

    #[test]
    fn codes_are_a_shells() {
        for status in [ExitStatus::Code(0), ExitStatus::Code(255), ExitStatus::Signal(9)] {
            assert_eq!(ExitStatus::decode(status.encode()), Some(status));
        }
        assert_eq!(ExitStatus::Signal(15).shell_code(), 143);
        assert_eq!(ExitStatus::Code(7).shell_code(), 7);
    }

    #[test]
    fn a_denied_call_is_named_whoever_tells_of_it() {
        for status in [ExitStatus::Signal(31), ExitStatus::Code(159)] {
            assert!(status.to_string().contains("32-bit"), "{status}");
        }
        assert_eq!(ExitStatus::Signal(9).to_string(), "signal 9");
        assert_eq!(ExitStatus::Code(31).to_string(), "exit code 31");
    }
}
