//! What a build reports while it runs, as values.
//!
//! Libraries never print: they hand an [`Event`] to the [`Events`] they were given, and the program at the edge
//! decides what it looks like (a live view, plain lines, the reference's log format, nothing at all).
//!
//! Here too: what of URLs in such text nobody may see ([`without_secrets`]), because every room needs the same rule.
//!
//! Not here: formatting, colours, log levels of any particular program.

mod redact;
mod turn;

use std::time::Duration;

pub use redact::{without_secrets, without_users};
pub use turn::Turn;

/// A phase of the work, named as the specification names it, plus those that only a platform has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Finding images and pulling what of them is needed.
    Resolve,
    /// Unpacking layers into root file systems.
    Unpack,
    /// Reading the previous image and checking access (platform.md, "analyzer").
    Analyze,
    /// Choosing a group of buildpacks (platform.md, "detector").
    Detect,
    /// Running `bin/generate` of the extensions of the group.
    Generate,
    /// Bringing back layers of the previous build (platform.md, "restorer").
    Restore,
    /// Applying Dockerfiles of extensions.
    Extend,
    /// Running `bin/build` of each buildpack (platform.md, "builder").
    Build,
    /// Making the image (platform.md, "exporter").
    Export,
    /// Keeping layers for the next build.
    Cache,
    /// Replacing the run image below an app image.
    Rebase,
}

impl Phase {
    /// The word for it in output, lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Unpack => "unpack",
            Self::Analyze => "analyze",
            Self::Detect => "detect",
            Self::Generate => "generate",
            Self::Restore => "restore",
            Self::Extend => "extend",
            Self::Build => "build",
            Self::Export => "export",
            Self::Cache => "cache",
            Self::Rebase => "rebase",
        }
    }
}

/// What is being moved by a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transfer {
    /// A blob coming from a registry or another network.
    Pull,
    /// A blob copied from one place of this machine to another.
    Copy,
    /// A blob being unpacked into a root file system.
    Unpack,
    /// A tree being written as a layer.
    Pack,
    /// A blob going to a registry.
    Push,
}

/// Where an output line of a program came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
}

/// One thing that happened. Borrowed: a receiver copies what it keeps.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A phase begins.
    PhaseStarted {
        /// Which one.
        phase: Phase,
    },
    /// A phase ended well. One that fails is told by the error it ends with.
    PhaseEnded {
        /// Which one.
        phase: Phase,
        /// Wall time from its start.
        elapsed: Duration,
    },
    /// A buildpack or extension is about to run in this phase.
    ModuleStarted {
        /// The phase that runs it.
        phase: Phase,
        /// Its id.
        id: &'a str,
        /// Its version.
        version: &'a str,
    },
    /// It ended.
    ModuleEnded {
        /// The phase that ran it.
        phase: Phase,
        /// Its id.
        id: &'a str,
        /// Wall time of the program.
        elapsed: Duration,
    },
    /// An instruction of a Dockerfile begins. Not said of one that is kept from an earlier build.
    StepStarted {
        /// Where it is: `file:line`.
        place: &'a str,
        /// It, on one line.
        text: &'a str,
    },
    /// It was carried out, or is kept from an earlier build.
    StepEnded {
        /// As in the start.
        place: &'a str,
        /// As in the start.
        text: &'a str,
        /// True when it is kept.
        cached: bool,
        /// Wall time.
        elapsed: Duration,
        /// Files, folders and links that it changed.
        entries: u64,
        /// Bytes of the files among them.
        bytes: u64,
    },
    /// A piece of what a buildpack printed, as it came: not always a whole line, not always UTF-8.
    Output {
        /// The phase it ran in.
        phase: Phase,
        /// Which of its streams.
        stream: Stream,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// A line for people, in the normal output.
    Info {
        /// The text, without a line end.
        text: &'a str,
    },
    /// A line for people who asked for more.
    Debug {
        /// The text, without a line end.
        text: &'a str,
    },
    /// Something is not as it should be, and the work goes on.
    Warning {
        /// The text, without a line end.
        text: &'a str,
    },
    /// Bytes began to move. Comes again when it becomes known only later how many there are.
    TransferStarted {
        /// Which way.
        kind: Transfer,
        /// A name that is the same in all events of this transfer: a digest, or a layer's id.
        id: &'a str,
        /// How many bytes there are, where known.
        total: Option<u64>,
    },
    /// More bytes moved.
    TransferProgress {
        /// Which way.
        kind: Transfer,
        /// As in the start.
        id: &'a str,
        /// Bytes so far, from the start.
        done: u64,
    },
    /// All bytes moved, or none had to.
    TransferEnded {
        /// Which way.
        kind: Transfer,
        /// As in the start.
        id: &'a str,
        /// True when the destination had it already.
        reused: bool,
    },
}

/// Receives what happens. Called from several threads at once.
pub trait Events: Send + Sync {
    /// Takes one event. Must be quick: work waits for it.
    fn event(&self, event: Event<'_>);

    /// Shorthand for [`Event::Info`].
    fn info(&self, text: &str) {
        self.event(Event::Info { text });
    }

    /// Shorthand for [`Event::Debug`].
    fn debug(&self, text: &str) {
        self.event(Event::Debug { text });
    }

    /// Shorthand for [`Event::Warning`].
    fn warning(&self, text: &str) {
        self.event(Event::Warning { text });
    }
}

impl<E: Events + ?Sized> Events for &E {
    fn event(&self, event: Event<'_>) {
        (**self).event(event);
    }
}

/// Forgets everything: for callers that have nobody to tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Events for Silent {
    fn event(&self, _event: Event<'_>) {}
}
