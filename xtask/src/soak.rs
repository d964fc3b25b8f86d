//! `cargo xtask soak`: the soak test for as long as it is told, on the program as it is released.
//!
//! What it tries and what it checks is in `crates/cli/tests/soak`.

use anyhow::Result;
use xshell::{Shell, cmd};

/// How long, and what.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How long, in minutes, all parts together
    #[arg(long, value_name = "N", default_value_t = 20.0)]
    minutes: f64,
    /// Only these parts: signals, disk, registry, crowd
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
    /// The seed that an earlier run printed, to try the same moments again
    #[arg(long, value_name = "SEED")]
    seed: Option<u32>,
    /// As whom: the caller, a user with subordinate ids, a user without
    #[arg(long = "as", value_name = "PERSON", value_parser = ["caller", "ranges", "plain"], default_value = "caller")]
    person: String,
}

/// # Errors
///
/// When something was lost, or the test cannot be built.
pub fn run(shell: &Shell, arguments: &Arguments) -> Result<()> {
    let (minutes, person) = (arguments.minutes.to_string(), &arguments.person);
    let mut words = vec!["--minutes", &minutes, "--as", person];
    for part in &arguments.only {
        words.extend(["--only", part]);
    }
    let seed = arguments.seed.map(|seed| seed.to_string());
    if let Some(seed) = &seed {
        words.extend(["--seed", seed]);
    }
    Ok(cmd!(shell, "cargo test --release --package pannier --test soak -- {words...}").run()?)
}
