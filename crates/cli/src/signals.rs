//! Ctrl-C and SIGTERM: take the temporary files away, then end as the signal asks.
//!
//! Sandboxes end by themselves when this process does, and mounts are in a namespace of their own that goes
//! with the last process in it. What would stay is the process's temporary folder in the store.

use std::sync::Mutex;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;

type Cleanup = Box<dyn FnOnce() + Send>;
type Forward = Box<dyn Fn(i32) + Send>;

static CLEANUP: Mutex<Vec<Cleanup>> = Mutex::new(Vec::new());
static FORWARD: Mutex<Option<Forward>> = Mutex::new(None);

/// Begins to listen. Call it after entering the namespaces: it starts a thread.
pub fn install() -> std::io::Result<()> {
    listen(&[SIGINT, SIGTERM, SIGHUP])
}

/// Has `action` done before the program ends by a signal. The last one given runs first.
pub fn on_signal(action: impl FnOnce() + Send + 'static) {
    CLEANUP.lock().unwrap_or_else(|e| e.into_inner()).push(Box::new(action));
}

/// From now on signals are `action`'s, and this process lives on: those of [`install`], and what else a program
/// may be told by one.
pub fn forward(action: impl Fn(i32) + Send + 'static) -> std::io::Result<()> {
    *FORWARD.lock().unwrap_or_else(|e| e.into_inner()) = Some(Box::new(action));
    listen(&[SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH])
}

fn listen(which: &[i32]) -> std::io::Result<()> {
    let mut signals = Signals::new(which)?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            match &*FORWARD.lock().unwrap_or_else(|e| e.into_inner()) {
                Some(forward) => forward(signal),
                None => end_by(signal),
            }
        }
    })?;
    Ok(())
}

/// Cleans up and ends the process as the default action would, so that the caller sees the signal.
fn end_by(signal: i32) {
    let actions = std::mem::take(&mut *CLEANUP.lock().unwrap_or_else(|e| e.into_inner()));
    for action in actions.into_iter().rev() {
        action();
    }
    let _ = signal_hook::low_level::emulate_default_handler(signal);
}
