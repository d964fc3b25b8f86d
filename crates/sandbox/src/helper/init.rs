//! Pid 1 of a sandbox: builds what the program will see, starts it, reaps orphans, passes signals on, and by its own
//! end takes down whatever the program left running.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, set_dumpable_behavior, set_parent_process_death_signal, wait,
};

use super::{HELLO, exit, forget_streams, fork, guest, report, rootfs, send};
use crate::status::{ExitStatus, Failure};
use crate::wire::Job;

/// Runs as pid 1 until the program has ended.
pub(super) fn run(job: &Job, ready: &OwnedFd, control: &OwnedFd) -> ! {
    // The monitor has a single thread, so this signal means that the process has died, not just a thread of it.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    match start(job, ready, control) {
        Ok((program, children)) => {
            // SAFETY: `ready` is not used again in this process; the borrowed owner never runs its destructor, as
            // this function does not return.
            unsafe { libc::close(ready.as_raw_fd()) };
            forget_streams();
            let status = supervise(program, &children, control);
            let _ = rustix::net::send(control, &status.encode(), SendFlags::NOSIGNAL);
            exit(0)
        }
        Err(failure) => {
            report(ready, &failure);
            exit(1)
        }
    }
}

fn start(job: &Job, ready: &OwnedFd, control: &OwnedFd) -> Result<(Pid, OwnedFd), Failure> {
    let terminal = rootfs::enter(job)?;
    let (ours, theirs) =
        terminal.map_or((None, None), |terminal| (Some(terminal.ours), Some(terminal.theirs)));
    // From here on a root program inside could look into this process through /proc/1, and so into our own file.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| Failure::step("protect init", "", error))?;
    let children = child_signals().map_err(|error| Failure::step("watch children", "", error))?;
    // The sandbox stands; its terminal goes to the caller.
    send(control, HELLO, ours.as_ref()).map_err(|error| Failure::step("answer", "", error))?;
    match fork().map_err(|error| Failure::step("fork", "", error))? {
        Some(program) => Ok((program, children)),
        None => guest::run(job, theirs, ready, control),
    }
}

/// A descriptor that is readable when a child has ended. The signal is blocked already, with all others.
fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before its first use, and the descriptor is new.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            descriptor => Ok(OwnedFd::from_raw_fd(descriptor)),
        }
    }
}

fn supervise(program: Pid, children: &OwnedFd, control: &OwnedFd) -> ExitStatus {
    loop {
        // The program may have ended before the first look.
        if let Some(status) = reap(program) {
            return status;
        }
        let mut watched = [PollFd::new(control, PollFlags::IN), PollFd::new(children, PollFlags::IN)];
        match poll(&mut watched, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => exit(1),
            Ok(_) => {}
        }
        let (asked, ended) = (watched[0].revents(), watched[1].revents());
        if !ended.is_empty() {
            // What it says does not matter, only that it is empty before children are reaped.
            let mut siginfo = [0; 1024];
            let _ = rustix::io::read(children, &mut siginfo);
        }
        if asked.contains(PollFlags::IN) {
            pass_on(program, control);
        } else if asked.intersects(PollFlags::HUP | PollFlags::ERR) {
            // The caller has gone, or wants an end: everything here goes with pid 1.
            exit(1);
        }
    }
}

/// Reaps all that have ended; the status when the program is among them.
fn reap(program: Pid) -> Option<ExitStatus> {
    let mut found = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == program => {
                let code = status.exit_status().map(ExitStatus::Code);
                found = code.or_else(|| status.terminating_signal().map(ExitStatus::Signal)).or(found);
            }
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(_) => return found,
        }
    }
}

/// Sends the program the signal the caller asks for.
fn pass_on(program: Pid, control: &OwnedFd) {
    let mut byte = [0; 1];
    match rustix::net::recv(control, &mut byte, RecvFlags::DONTWAIT) {
        Ok((1, _)) => {
            // SAFETY: kill takes two integers; the pid is that of our child, not reaped yet.
            unsafe { libc::kill(program.as_raw_nonzero().get(), byte[0].into()) };
        }
        // Zero bytes are the other side's end.
        Ok(_) => exit(1),
        Err(_) => {}
    }
}
