//! Renames that an overlay refuses, seen from outside.
//!
//! Without `redirect_dir`, which is not to be had with `userxattr`, an overlay gives EXDEV when a directory is renamed
//! that a lower has. A program that copies then has no need of anybody; one that gives up should run again where the
//! directory is a plain one. What it prints tells little of which it was, so its renames are looked at: a filter hands
//! `rename` and its relatives to this process before the kernel runs them, and here it is only *noted* whether the
//! overlay will refuse. The call itself is always the kernel's, with the program's own arguments and rights, so nothing
//! here has to be safe against a program that changes them meanwhile: it can only fool the note.
//!
//! Only programs that a [`RenameWatch`] is set for pay for it, and they for renames alone.

mod listener;
mod look;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use listener::Listener;
pub(crate) use listener::listen;

/// An overlay of ours that a sandbox sees, whose refusals are to be noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenameWatch {
    /// Where it is mounted outside.
    pub merged: PathBuf,
    /// Where the sandbox sees it.
    pub target: PathBuf,
    /// Its upper.
    pub upper: PathBuf,
    /// Its lowers.
    pub lowers: Vec<PathBuf>,
}

/// The watcher of one sandbox: a thread that answers until everything in the sandbox has ended.
#[derive(Debug)]
pub(crate) struct Watcher {
    refused: Arc<OnceLock<PathBuf>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Answers what comes from `listener`, for the sandbox of this monitor.
    pub(crate) fn start(watch: RenameWatch, listener: OwnedFd, monitor: Pid) -> io::Result<Self> {
        let monitor = pidfd_open(monitor, PidfdFlags::empty())?;
        let device = rustix::fs::stat(&watch.merged)?.st_dev;
        let refused = Arc::new(OnceLock::new());
        let note = Arc::clone(&refused);
        let run = move || serve(&watch, device, &Listener::new(listener), &monitor, &note);
        let thread = std::thread::Builder::new().name("renames".to_owned()).spawn(run)?;
        Ok(Self { refused, thread: Some(thread) })
    }

    /// The directory, as the sandbox sees it, whose rename was the first to be refused.
    pub(crate) fn refused(&self) -> Option<&Path> {
        self.refused.get().map(PathBuf::as_path)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Its sandbox has ended, or the thread would have to be left behind.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(watch: &RenameWatch, device: u64, listener: &Listener, monitor: &OwnedFd, note: &OnceLock<PathBuf>) {
    loop {
        let mut watched =
            [PollFd::from_borrowed_fd(listener.fd(), PollFlags::IN), PollFd::new(monitor, PollFlags::IN)];
        match poll(&mut watched, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        let (asked, ended) = (watched[0].revents(), watched[1].revents());
        if asked.contains(PollFlags::IN) {
            let Some(call) = listener.receive() else { continue };
            // One is enough to know.
            if note.get().is_none()
                && let Some(path) = look::refused(watch, device, &call)
                && listener.is_waiting(&call)
            {
                let _ = note.set(path);
            }
            listener.go_on(&call);
        } else if !asked.is_empty() || !ended.is_empty() {
            return;
        }
    }
}
