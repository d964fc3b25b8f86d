//! The inside of a sandbox: this program executed again, single-threaded, with a job on descriptor 3.
//!
//! The process that was executed is the *monitor*. It makes the namespaces and forks *init*, pid 1 of the new pid
//! namespace, which builds the root file system and forks the *guest*, which becomes the program.

mod guest;
mod init;
mod rootfs;

use std::ffi::{CStr, OsStr};
use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, waitpid};
use rustix::thread::UnshareFlags;

use crate::spec::Network;
use crate::status::Failure;
use crate::wire::Job;

/// What the helper is called, by which [`init_if_requested`] knows it.
pub(crate) const MARKER: &CStr = c"pannier-sandbox";
/// Init's first message: everything is mounted, the program is next.
pub(crate) const HELLO: &[u8; 2] = b"h0";

/// The guest's message with the descriptor its renames come from, and the one when there is none.
pub(crate) const LISTENER: [&[u8; 2]; 2] = [b"l0", b"l1"];

/// The exit code of a helper that was not started by us.
pub(crate) const EXIT_MISUSED: i32 = 125;

/// Becomes the sandbox helper, and never returns, when this process was executed as that. Otherwise does nothing.
///
/// Has to be the first thing `main` does: the helper must have one thread, and should cost nothing to start.
pub fn init_if_requested() {
    let requested = std::env::args_os().next().is_some_and(|name| name.as_bytes() == MARKER.to_bytes());
    if requested {
        // Else it would be called by the number of a descriptor.
        let _ = rustix::thread::set_name(MARKER);
        // SAFETY: only looks whether they are open, which they are not when somebody started this by hand.
        let open = |number| unsafe { libc::fcntl(number, libc::F_GETFD) } != -1;
        if ![3, 4, 5].into_iter().all(open) {
            exit(EXIT_MISUSED);
        }
        // SAFETY: they are open, and by the contract of `start_helper` they belong to nobody else in this process.
        let [job, ready, control] = unsafe { [3, 4, 5].map(|number| OwnedFd::from_raw_fd(number)) };
        let code = monitor(job, ready, control);
        exit(code)
    }
}

/// Ends this process at once, without any destructor: in a fork they belong to the parent.
fn exit(code: i32) -> ! {
    // SAFETY: ends the process; there is no memory to leave in disorder.
    unsafe { libc::_exit(code) }
}

fn monitor(job: OwnedFd, ready: OwnedFd, control: OwnedFd) -> i32 {
    let mut bytes = Vec::new();
    let read = std::fs::File::from(job).read_to_end(&mut bytes);
    if let Some(code) = crate::probe::run_if_asked(&bytes, &ready) {
        return code;
    }
    let Some(job) = read.ok().and_then(|_| Job::decode(&bytes)) else {
        return EXIT_MISUSED;
    };
    match start_init(&job, &ready, &control) {
        Ok(init) => {
            drop(ready);
            watch(init, &control);
            0
        }
        Err(failure) => {
            report(&ready, &failure);
            1
        }
    }
}

fn start_init(job: &Job, ready: &OwnedFd, control: &OwnedFd) -> Result<Pid, Failure> {
    let step = |step: &str| {
        let step = step.to_owned();
        move |error: io::Error| Failure::step(&step, "", error)
    };
    // Whatever the caller had open without close-on-exec ends here, and what is left does not reach the program.
    close_range(6, 0).map_err(step("close inherited files"))?;
    close_range(3, libc::CLOSE_RANGE_CLOEXEC).map_err(step("mark files"))?;
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    if job.network == Network::None {
        flags |= UnshareFlags::NEWNET;
    }
    // A kernel without cgroups has no such namespace, and then there is nothing to hide either.
    crate::enter::unshare(flags | UnshareFlags::NEWCGROUP)
        .or_else(|_| crate::enter::unshare(flags))
        .map_err(step("create namespaces"))?;
    match fork().map_err(step("fork"))? {
        Some(init) => Ok(init),
        None => init::run(job, ready, control),
    }
}

/// Waits for init; kills it when the caller is gone or asks for it by hanging up.
fn watch(init: Pid, control: &OwnedFd) {
    forget_streams();
    if let Ok(pidfd) = pidfd_open(init, PidfdFlags::empty()) {
        loop {
            // No events: only a hang-up is told, and messages stay for init to read.
            let mut watched = [PollFd::new(control, PollFlags::empty()), PollFd::new(&pidfd, PollFlags::IN)];
            match poll(&mut watched, None) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => break,
                Ok(_) if !watched[1].revents().is_empty() => break,
                Ok(_) => {
                    let _ = rustix::process::kill_process(init, Signal::KILL);
                    break;
                }
            }
        }
    }
    while matches!(waitpid(Some(init), WaitOptions::empty()), Err(rustix::io::Errno::INTR)) {}
}

/// Forks this single-threaded process; `None` in the child.
fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: the helper never starts a thread, so the child may do everything its parent may.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

fn close_range(first: u32, flags: u32) -> io::Result<()> {
    // SAFETY: descriptors from `first` on are owned by nobody in this process.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends the caller a message, and a descriptor with it.
fn send(control: &OwnedFd, message: &[u8; 2], descriptor: Option<&OwnedFd>) -> io::Result<()> {
    let descriptors: Vec<_> = descriptor.into_iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    rustix::net::sendmsg(control, &[IoSlice::new(message)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Lets go of the program's streams, so that who reads them sees the end when the program ends.
fn forget_streams() {
    if let Ok(null) = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty()) {
        set_streams(null.as_fd());
    }
}

/// Makes this descriptor all three streams.
fn set_streams(descriptor: BorrowedFd<'_>) {
    let _ = rustix::stdio::dup2_stdin(descriptor);
    let _ = rustix::stdio::dup2_stdout(descriptor);
    let _ = rustix::stdio::dup2_stderr(descriptor);
}

/// Tells the caller why there will be no program. One write: a pipe takes it whole.
fn report(ready: &OwnedFd, failure: &Failure) {
    let message = failure.encode();
    let _ = rustix::io::write(ready, &message[..message.len().min(libc::PIPE_BUF)]);
}

/// The value of a variable in `NAME=value` entries.
fn variable<'a>(env: &'a [std::ffi::OsString], name: &str) -> Option<&'a OsStr> {
    env.iter().find_map(|entry| {
        entry.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(OsStr::from_bytes)
    })
}
