//! An end by a signal at any moment of every operation: afterwards it can be done again with the same result, and
//! nothing is left of what was ended.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::lab::{Lab, OPERATIONS, Operation, Random};
use crate::{Limit, Tally};

const SIGNALS: [(&str, i32); 4] = [("INT", 2), ("TERM", 15), ("HUP", 1), ("KILL", 9)];
/// Nobody waits longer for an end that was asked for.
const PATIENCE: Duration = Duration::from_secs(10);
/// In this time a program begins to listen to signals.
const START: Duration = Duration::from_millis(20);
/// Tries of each signal at the most.
const ROUNDS: usize = 300;

/// How an operation goes when nothing disturbs it.
struct Known {
    takes: Duration,
    digest: String,
}

pub fn run(lab: &Lab, random: &mut Random, limit: Limit) -> Tally {
    let mut tally = Tally::default();
    let warm = lab.warm_home();
    let mut known: BTreeMap<Operation, Known> =
        OPERATIONS.iter().map(|operation| (*operation, undisturbed(lab, *operation, &warm))).collect();

    let mut round = 0;
    while !limit.is_over() && round < ROUNDS * SIGNALS.len() {
        let signal = SIGNALS[round % SIGNALS.len()];
        let operation = OPERATIONS[round / SIGNALS.len() % OPERATIONS.len()];
        let Some(expected) = known.get_mut(&operation) else { continue };
        // Some while the program is only just starting, which everything else takes longer than.
        let span = if random.below(5) == 0 { START } else { expected.takes };
        let moment = span.mul_f64(random.part());
        let home = home_of(lab, operation, &warm);
        let found = disturbed(lab, operation, &home, signal, moment, expected);
        tally.add(found.map_err(|lost| format!("{operation:?}, SIG{} after {moment:?}: {lost}", signal.0)));
        if home != warm {
            lab.remove(&home);
        }
        round += 1;
    }
    tally
}

fn undisturbed(lab: &Lab, operation: Operation, warm: &Path) -> Known {
    let home = home_of(lab, operation, warm);
    // Once for what only the first time has: the registry is empty then.
    lab.prepare(operation, &home);
    lab.call(operation, &home).ok();
    let home = if home == *warm { home } else { lab.machine.make_dir("fresh-again") };
    lab.prepare(operation, &home);
    let start = Instant::now();
    lab.call(operation, &home).ok();
    let takes = start.elapsed();
    let digest = lab.digest(operation, &home).expect("what nobody disturbed can be read");
    for dir in [lab.machine.path("fresh"), lab.machine.path("fresh-again")] {
        lab.remove(&dir);
    }
    Known { takes, digest }
}

fn home_of(lab: &Lab, operation: Operation, warm: &Path) -> PathBuf {
    if operation.is_first() { lab.machine.make_dir("fresh") } else { warm.to_owned() }
}

/// One try: true when the operation was quicker than the signal.
fn disturbed(
    lab: &Lab,
    operation: Operation,
    home: &Path,
    (signal, number): (&str, i32),
    moment: Duration,
    expected: &mut Known,
) -> Result<bool, String> {
    lab.prepare(operation, home);
    let start = Instant::now();
    let mut child = lab.call(operation, home).start();
    std::thread::sleep(moment);
    if matches!(child.try_wait(), Ok(None)) {
        // It may be gone by now.
        lab.machine.signal(&child, signal);
    }
    let sent = Instant::now();
    while matches!(child.try_wait(), Ok(None)) && sent.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(2));
    }
    let hangs = matches!(child.try_wait(), Ok(None));
    if hangs {
        let _ = child.kill();
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    if hangs {
        return Err(format!("it does not end: {errors}"));
    }
    let was_quicker = output.status.success();
    if was_quicker {
        // Other work on the machine is done: the moments have to come sooner.
        expected.takes = expected.takes.min(start.elapsed());
    }
    if !was_quicker && output.status.signal() != Some(number) {
        return Err(format!("it ended with {}: {errors}", output.status));
    }
    let complaints =
        errors.lines().filter(|line| line.starts_with("error:") && !line.contains("ended by SIG"));
    if let Some(complaint) = complaints.into_iter().next().filter(|_| !was_quicker) {
        return Err(format!("it complains of what the signal did: {complaint}"));
    }

    if signal != "KILL" {
        nothing_left(lab, home).map_err(|left| format!("{left}: {errors}"))?;
    }
    lab.verify(home)?;
    again(lab, operation, home, expected)?;
    Ok(was_quicker)
}

/// Does it again, undisturbed.
fn again(lab: &Lab, operation: Operation, home: &Path, expected: &Known) -> Result<(), String> {
    let output = lab.call(operation, home).run();
    if !output.status.success() {
        return Err(format!("it cannot be done again: {output}"));
    }
    let digest = lab.digest(operation, home)?;
    if digest != expected.digest {
        return Err(format!("done again it is {digest}, expected {}", expected.digest));
    }
    nothing_left(lab, home).map_err(|left| format!("after it was done again, {left}"))?;
    lab.verify(home)
}

fn nothing_left(lab: &Lab, home: &Path) -> Result<(), String> {
    let processes = lab.machine.processes();
    if !processes.is_empty() {
        return Err(format!("processes are left: {processes:?}"));
    }
    match lab.leftovers(home).as_slice() {
        [] => Ok(()),
        left => Err(format!("files are left: {left:?}")),
    }
}
