//! What to run in a sandbox.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::renames::RenameWatch;

/// The network a sandboxed program sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// The host's, with its `/etc/resolv.conf` and `/etc/hosts`.
    #[default]
    Host,
    /// A loopback device of its own and nothing else.
    None,
}

/// One of the three standard streams.
#[derive(Debug, Default)]
pub enum Stdio {
    /// `/dev/null`.
    #[default]
    Null,
    /// This process's own; of a file, what is read from it or written to it.
    Inherit,
    /// A pipe, whose other end is in the [`Child`](crate::Child).
    Pipe,
    /// This pipe or socket, or what is read from or written to this file.
    Fd(OwnedFd),
}

/// A mount inside the sandbox. Targets are absolute paths as the program sees them; symbolic links on the way are
/// followed inside the root only. Mount points that are missing are created where the root can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestMount {
    /// A file or directory of ours. Devices and setuid bits in it have no effect.
    Bind {
        /// The path outside.
        source: PathBuf,
        /// The path inside.
        target: PathBuf,
        /// Whether it cannot be written, all mounts below `source` included.
        read_only: bool,
    },
    /// What another root directory of ours has at a path, to be written, on the same path here; links on the way are
    /// followed inside of either root. Nothing where there is nothing.
    Shared {
        /// The other root, a path outside.
        root: PathBuf,
        /// The path in both.
        path: PathBuf,
    },
    /// What is at a path so far, read-only, but for the mounts in it. Nothing where there is nothing.
    ReadOnly {
        /// The path inside.
        target: PathBuf,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// The path inside.
        target: PathBuf,
        /// The mode of its root, like `0o1777`.
        mode: u32,
        /// The most it may hold, in bytes; `None` for half of the memory.
        size: Option<u64>,
    },
}

impl GuestMount {
    /// Binds `source` on `target`, to be written.
    pub fn bind(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self::Bind { source: source.into(), target: target.into(), read_only: false }
    }

    /// Binds `source` on `target`, read-only.
    pub fn bind_read_only(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self::Bind { source: source.into(), target: target.into(), read_only: true }
    }

    /// A fresh `/tmp`: sticky, for everyone.
    pub fn tmp() -> Self {
        Self::Tmpfs { target: "/tmp".into(), mode: 0o1777, size: None }
    }

    /// The path inside.
    pub fn target(&self) -> &Path {
        match self {
            Self::Bind { target, .. } | Self::Tmpfs { target, .. } | Self::ReadOnly { target } => target,
            Self::Shared { path, .. } => path,
        }
    }
}

/// A program and the sandbox it runs in.
///
/// Always so, whatever is set here: own mount, pid, IPC, UTS and cgroup namespaces, a fresh `/proc` with its
/// dangerous parts hidden, a minimal `/dev`, hardly any `/sys`, no new privileges, the seccomp filter, and at most
/// the capabilities of a default container for uid 0 and none for others.
#[derive(Debug)]
pub struct Spec {
    /// The root directory: a directory of ours, usually an [`Overlay`](crate::Overlay)'s target.
    pub root: PathBuf,
    /// Whether the root cannot be written, whatever is mounted there. The mounts below can.
    pub read_only_root: bool,
    /// Further mounts, in this order: a later one may lie in an earlier one.
    pub mounts: Vec<GuestMount>,
    /// Paths inside that are made read-only after all mounts; missing ones are ignored.
    pub read_only_paths: Vec<PathBuf>,
    /// The program: a path as seen from `cwd` inside when it has a `/`, else looked up in `PATH` of `env`.
    pub program: OsString,
    /// Its arguments, without its own name.
    pub args: Vec<OsString>,
    /// What the program sees as its name, when that is not `program`.
    pub arg0: Option<OsString>,
    /// Its whole environment. Nothing of ours is added.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory inside.
    pub cwd: PathBuf,
    /// Whether `cwd` is created, as uid 0 and with mode 0755, when it is missing.
    pub create_cwd: bool,
    /// Its user id, as the namespace of [`enter`](crate::enter) counts.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
    /// Its further groups. Not settable, and ignored, where a single id is mapped.
    pub groups: Vec<u32>,
    /// The host name it sees.
    pub hostname: String,
    /// The network it sees.
    pub network: Network,
    /// Standard input.
    pub stdin: Stdio,
    /// Standard output.
    pub stdout: Stdio,
    /// Standard error.
    pub stderr: Stdio,
    /// An overlay the program sees, whose refused renames are noted: see
    /// [`Child::refused_rename`](crate::Child::refused_rename).
    pub watch_renames: Option<RenameWatch>,
    /// Give it a terminal of its own instead of the three streams above; its other side is
    /// [`Child::terminal`](crate::Child).
    pub terminal: bool,
    /// Rows and columns of that terminal when the program starts; zeroes where they are not known.
    pub terminal_size: (u16, u16),
}

impl Spec {
    /// `program` as uid 0 in `root`: host network, `/` as working directory, an empty environment, all streams null.
    pub fn new(root: impl Into<PathBuf>, program: impl Into<OsString>) -> Self {
        Self {
            root: root.into(),
            read_only_root: false,
            mounts: Vec::new(),
            read_only_paths: Vec::new(),
            program: program.into(),
            args: Vec::new(),
            arg0: None,
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            create_cwd: false,
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            hostname: "pannier".to_owned(),
            network: Network::Host,
            stdin: Stdio::Null,
            stdout: Stdio::Null,
            stderr: Stdio::Null,
            watch_renames: None,
            terminal: false,
            terminal_size: (0, 0),
        }
    }

    /// Adds an argument.
    pub fn arg(&mut self, arg: impl Into<OsString>) -> &mut Self {
        self.args.push(arg.into());
        self
    }

    /// Adds a variable to the environment. A name that is there already keeps its first value.
    pub fn env(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> &mut Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Adds a mount.
    pub fn mount(&mut self, mount: GuestMount) -> &mut Self {
        self.mounts.push(mount);
        self
    }
}
