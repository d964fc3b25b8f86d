//! Ctrl-C and SIGTERM: take the temporary files away, then end as the signal asks.
//!
//! Sandboxes end by themselves when this process does, and mounts are in a namespace of their own that goes
//! with the last process in it. What would stay is the process's temporary folder in the store.

use std::sync::Mutex;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

type Cleanup = Box<dyn FnOnce() + Send>;

static CLEANUP: Mutex<Vec<Cleanup>> = Mutex::new(Vec::new());

/// Begins to listen. Call it after entering the namespaces: it starts a thread.
pub fn install() -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let actions = std::mem::take(&mut *CLEANUP.lock().unwrap_or_else(|e| e.into_inner()));
            for action in actions.into_iter().rev() {
                action();
            }
            // Ends the process as the default action would, so that the caller sees the signal.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    })?;
    Ok(())
}

/// Has `action` done before the program ends by a signal. The last one given runs first.
pub fn on_signal(action: impl FnOnce() + Send + 'static) {
    CLEANUP.lock().unwrap_or_else(|e| e.into_inner()).push(Box::new(action));
}
