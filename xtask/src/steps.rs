//! A command as a list of named, timed steps, with a summary at the end. A step that fails does not stop the others:
//! one run tells everything that is wrong.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// What became of one step.
#[derive(Debug)]
enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

/// The steps that have run so far.
#[derive(Debug, Default)]
pub struct Steps {
    done: Vec<(String, Duration, Outcome)>,
}

impl Steps {
    /// Runs `step` under `name`, times it and remembers what came of it. Says whether it passed.
    pub fn run(&mut self, name: &str, step: impl FnOnce() -> Result<()>) -> bool {
        println!("\n== {name}");
        let start = Instant::now();
        let outcome = match step() {
            Ok(()) => Outcome::Passed,
            Err(error) => {
                println!("{error:#}");
                Outcome::Failed(first_line(&format!("{error:#}")))
            }
        };
        let passed = matches!(outcome, Outcome::Passed);
        self.done.push((name.to_owned(), start.elapsed(), outcome));
        passed
    }

    /// Remembers that `name` did not run, and why. Shown in the summary; no failure by itself.
    pub fn skip(&mut self, name: &str, why: &str) {
        self.done.push((name.to_owned(), Duration::ZERO, Outcome::Skipped(why.to_owned())));
    }

    /// Prints the summary.
    ///
    /// # Errors
    ///
    /// When any step failed.
    pub fn finish(self) -> Result<()> {
        println!("\n== summary");
        let mut failed = 0;
        for (name, took, outcome) in &self.done {
            let seconds = took.as_secs_f64();
            match outcome {
                Outcome::Passed => println!("  ok       {name} ({seconds:.1} s)"),
                Outcome::Skipped(why) => println!("  skipped  {name}: {why}"),
                Outcome::Failed(why) => {
                    failed += 1;
                    println!("  FAILED   {name} ({seconds:.1} s): {why}");
                }
            }
        }
        if failed > 0 {
            bail!("{failed} of {} steps failed", self.done.len());
        }
        Ok(())
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
