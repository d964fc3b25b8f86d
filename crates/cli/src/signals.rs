//! Ctrl-C and SIGTERM: end the sandboxes, take mounts and temporary files away, then end as the signal asks.
//!
//! The other threads go on meanwhile, and fail sooner or later because what they work on goes away. What they make of
//! it must not be taken for whole, so nothing is published from the start of the end ([`oci::publish`]). What they have
//! to say is no news: whoever is about to report it calls [`ending`] first and is held.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;

use crate::ui::Ui;

type Cleanup = Box<dyn FnOnce() + Send>;
type Forward = Box<dyn Fn(i32) + Send>;

/// How long a rename may take that has begun. Longer, and the disk hangs: then nothing is removed, and the next
/// process does what is done after SIGKILL.
const PATIENCE: Duration = Duration::from_secs(5);

static CLEANUP: Mutex<Vec<Cleanup>> = Mutex::new(Vec::new());
static FORWARD: Mutex<Option<Forward>> = Mutex::new(None);
/// Set in the signal's handler itself, so that nobody learns of its effects before.
static ENDING: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
/// Set by handlers alone: the next signal is the second one.
static SEEN: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
static UI: OnceLock<&'static Ui> = OnceLock::new();

/// Where the end by a signal is told.
pub fn report_to(ui: &'static Ui) {
    let _ = UI.set(ui);
}

/// Begins to listen. Call it after entering the namespaces: it starts a thread.
pub fn install() -> std::io::Result<()> {
    let ours = [SIGINT, SIGTERM, SIGHUP];
    // First of all: with a flag set by a signal that nobody else heard of, the program would wait for its end for ever.
    let signals = Signals::new(ours)?;
    for signal in ours {
        // A second one does not wait for the cleanup.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&SEEN))?;
        signal_hook::flag::register(signal, Arc::clone(&SEEN))?;
        signal_hook::flag::register(signal, Arc::clone(&ENDING))?;
    }
    listen(signals)
}

/// Has `action` done before the program ends by a signal. The last one given runs first.
pub fn on_signal(action: impl FnOnce() + Send + 'static) {
    CLEANUP.lock().unwrap_or_else(|e| e.into_inner()).push(Box::new(action));
}

/// From now on signals are `action`'s, and this process lives on: those of [`install`], and what else a program
/// may be told by one.
pub fn forward(action: impl Fn(i32) + Send + 'static) -> std::io::Result<()> {
    *FORWARD.lock().unwrap_or_else(|e| e.into_inner()) = Some(Box::new(action));
    listen(Signals::new([SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH])?)
}

/// Does not return once a signal has come that ends the program: the thread that ends it must not be overtaken.
pub fn ending() {
    let forwards = || FORWARD.lock().unwrap_or_else(|e| e.into_inner()).is_some();
    while ENDING.load(Ordering::SeqCst) && !forwards() {
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn listen(mut signals: Signals) -> std::io::Result<()> {
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            match &*FORWARD.lock().unwrap_or_else(|e| e.into_inner()) {
                Some(forward) => {
                    // It was not for us, so the next one does not end us either.
                    SEEN.store(false, Ordering::SeqCst);
                    ENDING.store(false, Ordering::SeqCst);
                    forward(signal);
                }
                None => end_by(signal),
            }
        }
    })?;
    Ok(())
}

/// Cleans up and ends the process as the default action would, so that the caller sees the signal.
#[expect(clippy::exit, reason = "a signal ends the program from whichever thread hears of it")]
fn end_by(signal: i32) -> ! {
    // It may have come before the flags were there.
    ENDING.store(true, Ordering::SeqCst);
    // Before anything is removed: that is what others are about to publish.
    let settled = oci::publish::close(PATIENCE);
    // Then nobody writes any more where it removes.
    sandbox::end_all();
    if settled {
        let actions = std::mem::take(&mut *CLEANUP.lock().unwrap_or_else(|e| e.into_inner()));
        for action in actions.into_iter().rev() {
            action();
        }
    }
    if let Some(ui) = UI.get() {
        let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
        ui.interrupted(&format!("ended by {name}; nothing is left half done"));
    }
    // The default action of a process with the id 1 is to go on.
    if std::process::id() != 1 {
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
    std::process::exit(128 + signal)
}
