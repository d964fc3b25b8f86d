//! The gate that everything passes before others can see it: a layer, a blob, a step or a cache that moves to its
//! place, a name in an index, an archive, a manifest in a registry.
//!
//! A program that a signal ends removes what it was writing, while its other threads still run. They must not take
//! what is left of it for whole: [`close`] comes first, and what is not published by then never is. A process that is
//! killed outright is no other case: each publication is one rename (or one request), and is done or not.
//!
//! Not here: who listens to signals, and what is removed then.

use std::io;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One for the process, as signals are.
static GATE: Gate = Gate::new();

/// Leave to publish one thing. Ask for it right before the rename and drop it right after: the program cannot end
/// meanwhile. Not to be asked for by a thread that has one.
#[derive(Debug)]
#[must_use = "the gate may close once this is dropped"]
pub struct Permit(&'static Gate);

/// Waits for leave to publish something. Does not return once the gate is closed: the program is about to end, and
/// whatever the caller would do next is of no use.
pub fn permit() -> Permit {
    GATE.enter();
    Permit(&GATE)
}

/// As [`permit`] for what takes long, such as a request: the gate may close while it is under way, and not before it
/// began.
pub fn pass() {
    drop(permit());
}

/// Renames `from` to `to` with leave to publish.
///
/// # Errors
/// As a rename fails.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let _permit = permit();
    fs_err::rename(from, to)
}

/// Closes the gate for good, and waits up to `patience` for publications in progress. False when one of them still
/// is: then nothing that it may depend on can be removed.
pub fn close(patience: Duration) -> bool {
    GATE.close(patience)
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[derive(Debug)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    closed: bool,
    /// Publications in progress.
    inside: usize,
}

impl Gate {
    const fn new() -> Self {
        Self { state: Mutex::new(State { closed: false, inside: 0 }), changed: Condvar::new() }
    }

    fn enter(&self) {
        let mut state = self.lock();
        while state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.inside += 1;
    }

    fn leave(&self) {
        self.lock().inside -= 1;
        self.changed.notify_all();
    }

    fn close(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        state.closed = true;
        while state.inside > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    #[test]
    fn closing_waits_for_what_is_under_way_and_holds_what_is_not() {
        let gate: &'static Gate = Box::leak(Box::new(Gate::new()));
        gate.enter();
        assert!(!gate.close(SOON), "somebody is inside");

        let (passed, seen) = std::sync::mpsc::channel();
        // Never joined: it waits for ever, as threads of a program that ends do.
        std::thread::spawn(move || {
            gate.enter();
            let _ = passed.send(());
        });
        gate.leave();
        assert!(gate.close(SOON), "nobody is inside any more");
        assert!(seen.recv_timeout(SOON * 4).is_err(), "nobody passes a closed gate");
    }

    #[test]
    fn an_open_gate_lets_several_in_at_once() {
        let gate = Gate::new();
        gate.enter();
        gate.enter();
        gate.leave();
        gate.leave();
        assert!(gate.close(Duration::ZERO));
    }
}
