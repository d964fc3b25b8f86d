//! The sandboxes of this process that may still run: so that it can end them all before it ends itself.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{Shutdown, shutdown};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The most that is waited for sandboxes to go. Killing takes milliseconds; one in an uninterruptible wait of a
/// broken disk must not hold the program for ever.
const PATIENCE: Duration = Duration::from_secs(5);

static LIVE: Mutex<Vec<(Pid, Weak<OwnedFd>)>> = Mutex::new(Vec::new());
static ENDING: AtomicBool = AtomicBool::new(false);

/// Notes a sandbox that was just started. One that is started while all are ended is ended too.
pub(crate) fn note(monitor: Pid, control: &Arc<OwnedFd>) {
    let mut live = LIVE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    live.retain(|(_, control)| control.strong_count() > 0);
    live.push((monitor, Arc::downgrade(control)));
    if ENDING.load(Ordering::SeqCst) {
        let _ = shutdown(control.as_fd(), Shutdown::Both);
    }
}

/// Kills everything in all sandboxes of this process, now and from now on, and waits until they are gone.
///
/// For a program that is about to end: those that wait for a sandbox see it killed.
pub fn end_all() {
    ENDING.store(true, Ordering::SeqCst);
    let live = std::mem::take(&mut *LIVE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    // All at once: none has to wait for the others.
    let mut ended = Vec::new();
    for (monitor, control) in live {
        let Some(control) = control.upgrade() else { continue };
        // Opened before the kill; the monitor is not reaped while its `Child` holds on to the control socket, or
        // has been already, and then this finds nobody or, at worst, waits for a stranger a little.
        ended.extend(pidfd_open(monitor, PidfdFlags::empty()));
        let _ = shutdown(&*control, Shutdown::Both);
    }
    let deadline = Instant::now() + PATIENCE;
    for monitor in &ended {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let _ = poll(&mut [PollFd::new(monitor, PollFlags::IN)], Some(&timeout));
    }
}
