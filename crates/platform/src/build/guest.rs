//! Runs the programs of a phase in the sandbox: the lifecycle's executor.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::bench::{Fresh, FreshRoot};
use events::Stream;
use lifecycle::{ExecError, Executor, Exit, Invocation};
use sandbox::{ExitStatus, GuestMount, Network, Output, RenameWatch, Spec, Stdio};

/// A root file system, what is mounted in it, and who runs there.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    /// The mounted root file system.
    pub root: PathBuf,
    /// What becomes of what programs write to it.
    pub writes: Writes,
    /// What is mounted in it.
    pub mounts: Vec<GuestMount>,
    /// Who programs run as.
    pub uid: u32,
    /// Their group.
    pub gid: u32,
    /// What they see of the network.
    pub network: Network,
    /// The overlay whose refused renames are looked for.
    pub watch: Option<RenameWatch>,
    /// What became of the last program's renames in it.
    pub renames: Arc<Mutex<Renames>>,
}

/// What became of a program's renames of restored folders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Renames {
    /// Nobody looked.
    #[default]
    Unwatched,
    /// All that the program tried, the overlay did.
    Done,
    /// The overlay refused to rename this folder, among others.
    Refused(PathBuf),
}

/// What becomes of what programs write to their root file system, mounts aside.
#[derive(Clone, Debug)]
pub(super) enum Writes {
    /// The next program sees it. Programs can write where the modes and owners in the builder let them.
    Kept,
    /// It is gone: each program gets the builder's own files, on an overlay, and shares these paths with the others.
    ///
    /// With one id every file is the program's own, whatever owner the builder gave it, so that modes keep nobody from
    /// writing into the programs of those that come after.
    Dropped(Fresh, Vec<PathBuf>),
    /// Where no overlay can be had for that: nothing can be written but these paths.
    Refused(Vec<PathBuf>),
}

impl Guest {
    /// What became of the last program's renames.
    pub fn renames(&self) -> Renames {
        self.renames.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Executor for Guest {
    fn run(&self, invocation: &Invocation, output: &mut dyn FnMut(Stream, &[u8])) -> Result<Exit, ExecError> {
        let failed = |error| ExecError::new(&invocation.program, error);
        let (fresh, shared) = match &self.writes {
            Writes::Kept => (None, &[][..]),
            Writes::Dropped(fresh, shared) => (Some(fresh.mount().map_err(failed)?), shared.as_slice()),
            Writes::Refused(shared) => (None, shared.as_slice()),
        };
        let root = fresh.as_ref().map_or(self.root.as_path(), FreshRoot::path);
        let mut spec = Spec::new(root, invocation.program.as_os_str());
        spec.read_only_root = matches!(self.writes, Writes::Refused(_));
        let share = |path: &PathBuf| GuestMount::Shared { root: self.root.clone(), path: path.clone() };
        spec.mounts = shared.iter().map(share).chain(self.mounts.iter().cloned()).collect();
        spec.args.clone_from(&invocation.args);
        spec.env = invocation.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        spec.cwd.clone_from(&invocation.cwd);
        spec.uid = self.uid;
        spec.gid = self.gid;
        spec.network = self.network;
        spec.watch_renames.clone_from(&self.watch);
        spec.stdout = Stdio::Pipe;
        spec.stderr = Stdio::Pipe;
        let mut child = spec.spawn().map_err(|error| ExecError::new(&invocation.program, error))?;
        let status = child
            .wait_with_output(|which, bytes| {
                output(if which == Output::Stdout { Stream::Stdout } else { Stream::Stderr }, bytes);
            })
            .map_err(|error| ExecError::new(&invocation.program, error))?;
        *self.renames.lock().unwrap_or_else(PoisonError::into_inner) =
            match (child.watches_renames(), child.refused_rename()) {
                (false, _) => Renames::Unwatched,
                (true, None) => Renames::Done,
                (true, Some(path)) => Renames::Refused(path.to_owned()),
            };
        Ok(match status {
            ExitStatus::Code(code) => Exit::Code(code),
            ExitStatus::Signal(signal) => Exit::Signal(signal),
        })
    }
}
