//! How long one sandbox takes, from start to exit: `spawn ROOT`, where ROOT has a static `/bin/true`. Prints the median
//! of many in milliseconds. `cargo xtask bench` runs it.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::{Duration, Instant};

use pannier_sandbox::{EnterOptions, Spec};

const ROUNDS: usize = 200;

fn main() -> Result<(), Box<dyn Error>> {
    pannier_sandbox::init_if_requested();
    let root = std::env::args_os().nth(1).ok_or("a root folder is expected")?;
    pannier_sandbox::enter(&EnterOptions::default())?;
    let mut times = (0..ROUNDS).map(|_| once(root.as_ref())).collect::<Result<Vec<_>, _>>()?;
    times.sort();
    println!("{:.3} ms, median of {ROUNDS}", times[ROUNDS / 2].as_secs_f64() * 1000.0);
    Ok(())
}

fn once(root: &std::path::Path) -> Result<Duration, Box<dyn Error>> {
    let start = Instant::now();
    let mut child = Spec::new(root, "/bin/true").spawn()?;
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("/bin/true ended with {status:?}").into());
    }
    Ok(start.elapsed())
}
