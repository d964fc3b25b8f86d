//! Times, peaks of memory, and the table at the end.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fs_err as fs;

/// What was measured so far.
#[derive(Debug, Default)]
pub struct Figures {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    value: f64,
    unit: &'static str,
    limit: Option<f64>,
    detail: String,
}

impl Figures {
    /// Adds a figure that should not be over `limit`, and says it.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        limit: f64,
        detail: String,
    ) {
        self.push(Row { name: name.into(), value, unit, limit: Some(limit), detail });
    }

    /// Adds a figure to compare with, and says it.
    pub fn plain(&mut self, name: impl Into<String>, value: f64, unit: &'static str, detail: String) {
        self.push(Row { name: name.into(), value, unit, limit: None, detail });
    }

    fn push(&mut self, row: Row) {
        println!("{row}");
        self.rows.push(row);
    }

    /// Prints all of them.
    pub fn print(&self) {
        println!("\n== figures");
        for row in &self.rows {
            println!("{row}");
        }
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Row { name, value, unit, limit, detail } = self;
        let verdict = match limit {
            Some(limit) if value <= limit => format!("ok, limit {limit} {unit}"),
            Some(limit) => format!("OVER its limit of {limit} {unit}"),
            None => "for comparison".to_owned(),
        };
        write!(f, "{name:<58} {value:>9.2} {unit:<4} {verdict}")?;
        if !detail.is_empty() {
            write!(f, " ({detail})")?;
        }
        Ok(())
    }
}

/// The median of `count` runs.
pub fn median(count: usize, mut run: impl FnMut() -> Result<Duration>) -> Result<Duration> {
    let mut times = (0..count).map(|_| run()).collect::<Result<Vec<_>>>()?;
    times.sort();
    times.get(times.len() / 2).copied().context("at least one run")
}

/// Milliseconds, for a table.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// How long `run` takes.
pub fn timed<T>(run: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let start = Instant::now();
    let value = run()?;
    Ok((start.elapsed(), value))
}

/// Runs a shell line to its end, which has to be a good one, and says how long it took.
pub fn shell_line(line: &str) -> Result<Duration> {
    let mut command = Command::new("bash");
    command.args(["-c", &format!("set -o pipefail; {line}")]).stdout(Stdio::null());
    let (time, status) = timed(|| Ok(command.status()?))?;
    ensure!(status.success(), "`{line}` failed: {status}");
    Ok(time)
}

/// A command's output, time and peak of memory.
#[derive(Debug)]
pub struct Run {
    pub time: Duration,
    pub output: String,
    /// The largest resident set of any process of the program under test, in MiB.
    pub peak: f64,
}

/// Runs `command` and watches how much memory processes of the program `name` hold at most.
pub fn watched(mut command: Command, name: &str) -> Result<Run> {
    let (done, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    let (time, output) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(largest(name), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let result = timed(|| Ok(command.stdin(Stdio::null()).output()?));
        done.store(true, Ordering::Relaxed);
        result
    })?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    ensure!(
        output.status.success(),
        "{command:?} failed: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    let output = text(&output.stdout) + &text(&output.stderr);
    Ok(Run { time, output, peak: peak.into_inner() as f64 / 1024.0 })
}

/// The highest resident set that any process of this name has had, in KiB: the kernel keeps the peak, so looking now
/// and then is enough.
fn largest(name: &str) -> u64 {
    let Ok(processes) = fs::read_dir("/proc") else { return 0 };
    let peaks = processes.flatten().filter_map(|entry| {
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        if field("Name:")? != name {
            return None;
        }
        field("VmHWM:")?.split_whitespace().next()?.parse().ok()
    });
    peaks.max().unwrap_or(0)
}
