//! Starting a sandbox and watching it from outside.

pub(crate) mod launch;
mod program;
mod streams;

use std::ffi::OsStr;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, Shutdown, SocketFlags,
    SocketType,
};
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::enter::{Ids, current_ids};
use crate::helper;
use crate::renames::{RenameWatch, Watcher};
use crate::spec::Spec;
use crate::status::{ExitStatus, Failure};
use crate::wire::Job;
use launch::{memory_file, start_helper};
use streams::{Relays, Streams};

/// Why a sandbox did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// It was set up, or nearly, and then could not start the program.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// Something in the [`Spec`] can never work.
    #[error("sandbox for `{}`: {problem}", program.display())]
    Invalid {
        /// The program that was to be run.
        program: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The helper process could not be started.
    #[error("cannot start the sandbox helper: cannot {step}")]
    Helper {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The helper process ended without a word: killed, or `main` does not begin with
    /// [`init_if_requested`](crate::init_if_requested).
    #[error("the sandbox helper ended before it started the program")]
    Silent,
}

impl SpawnError {
    /// What the user can do about it, when that is not obvious.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Failure(failure) => failure.hint(),
            _ => None,
        }
    }
}

/// One of a program's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A running sandbox. Dropping it kills everything in it.
#[derive(Debug)]
pub struct Child {
    /// Where the program's standard input comes from, with [`Stdio::Pipe`].
    pub stdin: Option<PipeWriter>,
    /// Where its standard output goes, with [`Stdio::Pipe`].
    pub stdout: Option<PipeReader>,
    /// Where its standard error goes, with [`Stdio::Pipe`].
    pub stderr: Option<PipeReader>,
    /// The outer side of its terminal, with [`Spec::terminal`].
    pub terminal: Option<OwnedFd>,
    watcher: Option<Watcher>,
    relays: Relays,
    monitor: Pid,
    control: Arc<OwnedFd>,
    status: Option<ExitStatus>,
}

/// Signals a sandbox from anywhere, for instance from a signal handler's thread, as long as one likes: after its end
/// this does nothing.
#[derive(Clone, Debug)]
pub struct Signaller(Arc<OwnedFd>);

impl Signaller {
    /// Sends the program this signal.
    pub fn signal(&self, signal: i32) {
        if let Ok(byte) = u8::try_from(signal) {
            // It fails when the sandbox is gone, and then there is nobody to signal.
            let _ = rustix::net::send(&*self.0, &[byte], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        }
    }

    /// Kills everything in the sandbox.
    pub fn kill(&self) {
        // Both the monitor and init see the hang-up, so this works at every moment of the set-up too.
        let _ = rustix::net::shutdown(&*self.0, Shutdown::Both);
    }
}

impl Spec {
    /// Starts the program, and returns when it runs.
    ///
    /// May be called from any thread. [`enter`](crate::enter) has to have been called in this process.
    ///
    /// # Errors
    ///
    /// [`SpawnError`]; nothing of the sandbox is left then.
    pub fn spawn(mut self) -> Result<Child, SpawnError> {
        self.validate()?;
        let step = |step| move |source: io::Error| SpawnError::Helper { step, source };
        let streams = Streams::new(
            std::mem::take(&mut self.stdin),
            std::mem::take(&mut self.stdout),
            std::mem::take(&mut self.stderr),
        )
        .map_err(step("make its streams"))?;
        let job = Job::new(&self, streams.null, current_ids() == Ids::Single).encode();
        let job = memory_file(&job).map_err(step("hand it its job"))?;
        let (ready, ready_theirs) = io::pipe().map_err(step("make a pipe"))?;
        let (control, control_theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|error| step("make a socket")(error.into()))?;
        let [stdin, stdout, stderr] = &streams.theirs;
        let descriptors = [
            stdin.as_fd(),
            stdout.as_fd(),
            stderr.as_fd(),
            job.as_fd(),
            ready_theirs.as_fd(),
            control_theirs.as_fd(),
        ];
        let program = program::own_program().map_err(step("find this program"))?;
        let monitor = start_helper(program, &descriptors).map_err(step("execute it"))?;
        let mut child = Child {
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
            terminal: None,
            watcher: None,
            relays: streams.relays,
            monitor,
            control: Arc::new(control),
            status: None,
        };
        crate::live::note(monitor, &child.control);
        // Only the helper may hold these now, or their end would never be seen.
        drop((streams.theirs, ready_theirs, control_theirs));
        child.wait_until_ready(ready, self.watch_renames)?;
        Ok(child)
    }

    fn validate(&self) -> Result<(), SpawnError> {
        let invalid =
            |problem: String| Err(SpawnError::Invalid { program: PathBuf::from(&self.program), problem });
        let env = self.env.iter().flat_map(|(name, value)| [name, value]);
        let mut texts = self.args.iter().chain(&self.arg0).chain(env).chain([&self.program]);
        if texts.any(|text| text.as_bytes().contains(&0)) {
            return invalid("an argument or variable contains a zero byte".to_owned());
        }
        let unnamed = |name: &OsStr| name.is_empty() || name.as_bytes().contains(&b'=');
        if let Some((name, _)) = self.env.iter().find(|(name, _)| unnamed(name)) {
            return invalid(format!("`{}` cannot be the name of a variable", name.display()));
        }
        if self.program.is_empty() {
            return invalid("no program is named".to_owned());
        }
        if [self.uid, self.gid].iter().chain(&self.groups).any(|id| *id == u32::MAX) {
            // To the kernel it means "leave it as it is".
            return invalid(format!("{} is not a user or group id", u32::MAX));
        }
        let relative = |path: &&Path| !path.is_absolute();
        let inside = self.mounts.iter().map(crate::GuestMount::target);
        let inside = inside.chain(self.read_only_paths.iter().map(PathBuf::as_path));
        match inside.chain([self.cwd.as_path(), self.root.as_path()]).find(relative) {
            Some(path) => invalid(format!("path `{}` is not absolute", path.display())),
            None => Ok(()),
        }
    }
}

impl Child {
    /// Reads what the helper has to say until the program runs, which closes the pipe.
    fn wait_until_ready(
        &mut self,
        mut ready: PipeReader,
        watch: Option<RenameWatch>,
    ) -> Result<(), SpawnError> {
        let mut message = Vec::new();
        let read = ready.read_to_end(&mut message);
        if let Some(failure) = Failure::decode(&message) {
            self.reap(WaitOptions::empty())
                .map_err(|source| SpawnError::Helper { step: "wait for it", source })?;
            return Err(failure.into());
        }
        read.map_err(|source| SpawnError::Helper { step: "hear from it", source })?;
        // Init says hello before it starts the program, so silence here means that there is none.
        let (hello, terminal) = receive(&self.control).ok_or(SpawnError::Silent)?;
        if hello != *helper::HELLO {
            return Err(SpawnError::Silent);
        }
        self.terminal = terminal;
        if let Some(watch) = watch {
            // The program waits with its first rename until somebody listens.
            let (_, listener) = receive(&self.control).ok_or(SpawnError::Silent)?;
            let watcher = listener.map(|listener| Watcher::start(watch, listener, self.monitor)).transpose();
            self.watcher =
                watcher.map_err(|source| SpawnError::Helper { step: "watch its renames", source })?;
        }
        Ok(())
    }

    /// Waits until the program has ended, and with it everything else in the sandbox.
    ///
    /// Standard input is closed first, so that a program that reads to its end does not wait for us.
    ///
    /// # Errors
    ///
    /// When the process cannot be waited for: only if somebody else of this process did so. When what it wrote cannot
    /// be put into the caller's file.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.stdin = None;
        loop {
            if let Some(status) = self.reap(WaitOptions::empty())? {
                return Ok(status);
            }
        }
    }

    /// Hands on what the program writes into its pipes, as it comes, and waits as [`Child::wait`] does.
    ///
    /// # Errors
    ///
    /// As [`Child::wait`], and when a pipe cannot be read.
    pub fn wait_with_output(&mut self, mut output: impl FnMut(Output, &[u8])) -> io::Result<ExitStatus> {
        self.stdin = None;
        let mut buffer = vec![0; 64 * 1024];
        let streams = [
            (Output::Stdout, self.stdout.take().map(OwnedFd::from)),
            (Output::Stderr, self.stderr.take().map(OwnedFd::from)),
        ];
        let mut open: Vec<_> =
            streams.into_iter().filter_map(|(which, stream)| Some((which, stream?))).collect();
        while !open.is_empty() {
            let mut watched: Vec<_> =
                open.iter().map(|(_, stream)| PollFd::new(stream, PollFlags::IN)).collect();
            match poll(&mut watched, None) {
                Err(rustix::io::Errno::INTR) => continue,
                result => result?,
            };
            let readable: Vec<_> = watched.iter().map(|one| !one.revents().is_empty()).collect();
            for index in (0..open.len()).rev().filter(|index| readable[*index]) {
                let (which, stream) = &open[index];
                match rustix::io::read(stream, &mut buffer) {
                    Ok(0) => drop(open.remove(index)),
                    Ok(length) => output(*which, &buffer[..length]),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        self.wait()
    }

    /// The status, when the program has ended already.
    ///
    /// # Errors
    ///
    /// As [`Child::wait`].
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.reap(WaitOptions::NOHANG)
    }

    /// Kills everything in the sandbox. [`Child::wait`] tells when it is gone.
    pub fn kill(&self) {
        self.signaller().kill();
    }

    /// Sends the program this signal.
    pub fn signal(&self, signal: i32) {
        self.signaller().signal(signal);
    }

    /// Whether renames are looked at: when [`Spec::watch_renames`] is set, and the kernel lets us.
    pub fn watches_renames(&self) -> bool {
        self.watcher.is_some()
    }

    /// The first directory, by its path inside, whose rename the overlay of [`Spec::watch_renames`] refused because
    /// one of its lowers has it. The program may have found another way.
    pub fn refused_rename(&self) -> Option<&Path> {
        self.watcher.as_ref().and_then(Watcher::refused)
    }

    /// Something to signal the sandbox with from elsewhere.
    pub fn signaller(&self) -> Signaller {
        Signaller(Arc::clone(&self.control))
    }

    fn reap(&mut self, options: WaitOptions) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            match waitpid(Some(self.monitor), options) {
                Ok(None) | Err(rustix::io::Errno::INTR) => return Ok(None),
                Ok(Some(_)) => {
                    self.status = Some(self.last_words());
                    self.relays.finish()?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.status)
    }

    /// What init said about the program before it ended. Without that it was killed.
    fn last_words(&self) -> ExitStatus {
        let mut message = [0; 2];
        loop {
            match rustix::net::recv(&*self.control, &mut message, RecvFlags::DONTWAIT) {
                Ok((2, _)) => {
                    if let Some(status) = ExitStatus::decode(message) {
                        return status;
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                _ => return ExitStatus::Signal(libc::SIGKILL),
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.kill();
            let _ = self.wait();
        }
    }
}

/// A message from inside, and the descriptor that may come with it.
fn receive(control: impl AsFd) -> Option<([u8; 2], Option<OwnedFd>)> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut message = [0; 2];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received =
        rustix::net::recvmsg(control, &mut [io::IoSliceMut::new(&mut message)], &mut ancillary, flags)
            .ok()?;
    if received.bytes != 2 {
        return None;
    }
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Some((message, descriptor))
}
