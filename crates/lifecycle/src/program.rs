//! Running one program of a module to its end, with its output handed on.

use events::{Event, Events, Phase};

use crate::executor::{ExecError, Executor, Exit, Invocation};

/// Bytes of output that an error shows.
const TAIL: usize = 4096;

/// How a program ended that did not do what it was run for.
#[derive(Debug)]
pub(crate) struct Failure {
    pub exit: Exit,
    /// The end of what it printed.
    pub tail: String,
}

/// Runs a program. What it prints is an event of `phase`.
pub(crate) fn run(
    phase: Phase,
    invocation: &Invocation,
    executor: &dyn Executor,
    events: &dyn Events,
) -> Result<Result<(), Failure>, ExecError> {
    let mut tail = Vec::new();
    let exit = executor.run(invocation, &mut |stream, bytes| {
        tail.extend_from_slice(bytes);
        if tail.len() > 2 * TAIL {
            tail.drain(..tail.len() - TAIL);
        }
        events.event(Event::Output { phase, stream, bytes });
    })?;
    if exit.success() {
        return Ok(Ok(()));
    }
    let tail = String::from_utf8_lossy(&tail[tail.len().saturating_sub(TAIL)..]).into_owned();
    Ok(Err(Failure { exit, tail }))
}
