//! Starting a sandbox and watching it from outside.

mod program;

use std::ffi::{CString, OsStr};
use std::io::{self, PipeReader, PipeWriter, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, Shutdown, SocketFlags,
    SocketType,
};
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::enter::{Ids, current_ids};
use crate::helper;
use crate::spec::{Spec, Stdio};
use crate::status::{ExitStatus, Failure};
use crate::wire::Job;

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
    pub fn spawn(self) -> Result<Child, SpawnError> {
        self.validate()?;
        let job = Job::new(&self, current_ids() == Ids::Single).encode();
        let step = |step| move |source: io::Error| SpawnError::Helper { step, source };
        let job = memory_file(&job).map_err(step("hand it its job"))?;
        let (ready, ready_theirs) = io::pipe().map_err(step("make a pipe"))?;
        let (control, control_theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|error| step("make a socket")(error.into()))?;
        let streams = Streams::new(self.stdin, self.stdout, self.stderr).map_err(step("make its streams"))?;
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
            monitor,
            control: Arc::new(control),
            status: None,
        };
        // Only the helper may hold these now, or their end would never be seen.
        drop((streams.theirs, ready_theirs, control_theirs));
        child.wait_until_ready(ready)?;
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
    fn wait_until_ready(&mut self, mut ready: PipeReader) -> Result<(), SpawnError> {
        let mut message = Vec::new();
        let read = ready.read_to_end(&mut message);
        if let Some(failure) = Failure::decode(&message) {
            self.reap(WaitOptions::empty())
                .map_err(|source| SpawnError::Helper { step: "wait for it", source })?;
            return Err(failure.into());
        }
        read.map_err(|source| SpawnError::Helper { step: "hear from it", source })?;
        // Init says hello before it starts the program, so silence here means that there is none.
        self.terminal = receive_hello(&self.control).ok_or(SpawnError::Silent)?;
        Ok(())
    }

    /// Waits until the program has ended, and with it everything else in the sandbox.
    ///
    /// Standard input is closed first, so that a program that reads to its end does not wait for us.
    ///
    /// # Errors
    ///
    /// When the process cannot be waited for: only if somebody else of this process did so.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.stdin = None;
        loop {
            if let Some(status) = self.reap(WaitOptions::empty())? {
                return Ok(status);
            }
        }
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

    /// Something to signal the sandbox with from elsewhere.
    pub fn signaller(&self) -> Signaller {
        Signaller(Arc::clone(&self.control))
    }

    fn reap(&mut self, options: WaitOptions) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            match waitpid(Some(self.monitor), options) {
                Ok(None) | Err(rustix::io::Errno::INTR) => return Ok(None),
                Ok(Some(_)) => self.status = Some(self.last_words()),
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

/// Init's first message, and the terminal that may come with it.
fn receive_hello(control: impl AsFd) -> Option<Option<OwnedFd>> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut message = [0; 2];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received =
        rustix::net::recvmsg(control, &mut [io::IoSliceMut::new(&mut message)], &mut ancillary, flags)
            .ok()?;
    if received.bytes != 2 || message != *helper::HELLO {
        return None;
    }
    let terminal = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Some(terminal)
}

/// Both ends of the three streams.
struct Streams {
    theirs: [OwnedFd; 3],
    stdin: Option<PipeWriter>,
    stdout: Option<PipeReader>,
    stderr: Option<PipeReader>,
}

impl Streams {
    fn new(stdin: Stdio, stdout: Stdio, stderr: Stdio) -> io::Result<Self> {
        let (stdin_theirs, stdin) = match stdin {
            Stdio::Pipe => io::pipe().map(|(theirs, ours)| (theirs.into(), Some(ours)))?,
            other => (plain_stream(other, rustix::stdio::stdin())?, None),
        };
        let output = |stream, own| match stream {
            Stdio::Pipe => io::pipe().map(|(ours, theirs)| (OwnedFd::from(theirs), Some(ours))),
            other => plain_stream(other, own).map(|theirs| (theirs, None)),
        };
        let (stdout_theirs, stdout) = output(stdout, rustix::stdio::stdout())?;
        let (stderr_theirs, stderr) = output(stderr, rustix::stdio::stderr())?;
        Ok(Self { theirs: [stdin_theirs, stdout_theirs, stderr_theirs], stdin, stdout, stderr })
    }
}

fn plain_stream(stream: Stdio, own: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    match stream {
        Stdio::Fd(descriptor) => Ok(descriptor),
        Stdio::Inherit => own.try_clone_to_owned(),
        Stdio::Null | Stdio::Pipe => {
            let null = fs_err::OpenOptions::new().read(true).write(true).open("/dev/null")?;
            Ok(null.into_parts().0.into())
        }
    }
}

fn memory_file(bytes: &[u8]) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("pannier-job", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(file);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// Starts this program again as the helper, with these descriptors as 0, 1, 2 … and no others of ours that matter:
/// the rest closes on exec, or is closed by the helper first thing.
fn start_helper(program: &OwnedFd, descriptors: &[BorrowedFd<'_>]) -> io::Result<Pid> {
    // Above all targets, so that no copy lands on one that is still to be copied.
    let floor = i32::try_from(descriptors.len()).unwrap_or(i32::MAX) + 4;
    let raised = descriptors
        .iter()
        .map(|descriptor| rustix::io::fcntl_dupfd_cloexec(descriptor, floor))
        .collect::<Result<Vec<_>, _>>()?;
    let path = CString::new(format!("/proc/self/fd/{}", program.as_raw_fd()))?;
    let mut setup = SpawnSetup::new()?;
    for (target, source) in (0..).zip(&raised) {
        setup.copy(source.as_raw_fd(), target)?;
    }
    setup.run(&path, helper::MARKER)
}

/// `posix_spawn`: unlike fork, its cost does not grow with our memory, and no code of ours runs in between.
struct SpawnSetup {
    actions: libc::posix_spawn_file_actions_t,
    attributes: libc::posix_spawnattr_t,
}

impl SpawnSetup {
    fn new() -> io::Result<Self> {
        // SAFETY: both are plain C structures, given their value by the init calls right below; a signal set is
        // bits, filled before use; all pointers are to live locals.
        unsafe {
            let mut this = Self { actions: std::mem::zeroed(), attributes: std::mem::zeroed() };
            checked(libc::posix_spawn_file_actions_init(&raw mut this.actions))?;
            checked(libc::posix_spawnattr_init(&raw mut this.attributes))?;
            let mut all = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            // Everything back to its default, and nothing delivered before the program starts: Ctrl-C in our
            // terminal must not take the monitor away first.
            checked(libc::posix_spawnattr_setsigmask(&raw mut this.attributes, &raw const all))?;
            libc::sigdelset(&raw mut all, libc::SIGKILL);
            libc::sigdelset(&raw mut all, libc::SIGSTOP);
            checked(libc::posix_spawnattr_setsigdefault(&raw mut this.attributes, &raw const all))?;
            let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
            checked(libc::posix_spawnattr_setflags(&raw mut this.attributes, flags as libc::c_short))?;
            Ok(this)
        }
    }

    fn copy(&mut self, source: i32, target: i32) -> io::Result<()> {
        // SAFETY: the structure was initialised by `new`.
        checked(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.actions, source, target) })
    }

    fn run(&self, path: &CString, name: &std::ffi::CStr) -> io::Result<Pid> {
        let argv = [name.as_ptr().cast_mut(), ptr::null_mut()];
        let envp = [ptr::null_mut()];
        let mut pid = 0;
        // SAFETY: path, arguments and environment are terminated and outlive the call; posix_spawn does not write
        // to the arguments, whatever its type says.
        checked(unsafe {
            libc::posix_spawn(
                &raw mut pid,
                path.as_ptr(),
                &raw const self.actions,
                &raw const self.attributes,
                argv.as_ptr(),
                envp.as_ptr(),
            )
        })?;
        Pid::from_raw(pid).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl Drop for SpawnSetup {
    fn drop(&mut self) {
        // SAFETY: both were initialised by `new`, and are not used after this.
        unsafe {
            libc::posix_spawn_file_actions_destroy(&raw mut self.actions);
            libc::posix_spawnattr_destroy(&raw mut self.attributes);
        }
    }
}

fn checked(errno: i32) -> io::Result<()> {
    if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
}
