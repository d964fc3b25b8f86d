//! `cargo xtask fuzz`: runs the fuzz targets of `fuzz/`, one after another, and says what they came to.
//!
//! They need a nightly compiler and `cargo-fuzz`; nothing else here does, and CI does not.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use fs_err as fs;
use xshell::{Shell, cmd};

/// What to fuzz.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only these targets: names of files in fuzz/fuzz_targets
    targets: Vec<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 20, value_name = "N")]
    minutes: u32,
}

/// What a run of one target came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Figures {
    executions: u64,
    /// Executions a second.
    rate: u64,
    /// Edges of the program that were reached.
    coverage: u64,
    /// Those, told apart by how often they were passed.
    features: u64,
}

/// # Errors
///
/// When something is missing that cannot be installed, a target is not there or cannot be built, or a target found
/// something.
pub fn run(shell: &Shell, arguments: &Arguments) -> Result<()> {
    let root = shell.current_dir();
    let all = targets(&root)?;
    if let Some(unknown) = arguments.targets.iter().find(|target| !all.contains(target)) {
        bail!("no fuzz target `{unknown}`: expected one of {}", all.join(", "));
    }
    prepare(shell)?;
    let wanted = |target: &&String| arguments.targets.is_empty() || arguments.targets.contains(*target);
    let mut findings = Vec::new();
    println!("{:<20} {:>12} {:>8} {:>8} {:>8}  found", "target", "executions", "each s", "edges", "features");
    for target in all.iter().filter(wanted) {
        let before = artifacts(&root, target)?;
        let figures = fuzz(shell, &root, target, arguments.minutes)?;
        let found: Vec<PathBuf> = artifacts(&root, target)?.difference(&before).cloned().collect();
        let Figures { executions, rate, coverage, features } = figures;
        println!("{target:<20} {executions:>12} {rate:>8} {coverage:>8} {features:>8}  {}", found.len());
        findings.extend(found.into_iter().map(|path| (target, path)));
    }
    if findings.is_empty() {
        return Ok(());
    }
    for (target, path) in &findings {
        let path = path.display();
        println!("{path}\n  again:   cargo +nightly fuzz run -s none {target} {path}");
        println!("  smaller: cargo +nightly fuzz tmin -s none {target} {path}");
    }
    bail!("{} inputs that must not be: mend each, and keep it (CONTRIBUTING.md)", findings.len());
}

/// The names of all targets.
fn targets(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join("fuzz/fuzz_targets"))? {
        let path = entry?.path();
        names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Installs what is missing where rustup and cargo can.
fn prepare(shell: &Shell) -> Result<()> {
    let works = |program: &str, arguments: &[&str]| {
        cmd!(shell, "{program} {arguments...}").quiet().ignore_stdout().ignore_stderr().run().is_ok()
    };
    if !works("c++", &["--version"]) {
        bail!("fuzzing needs a C++ compiler as `c++` (Debian package g++)");
    }
    if !works("rustup", &["run", "nightly", "rustc", "--version"]) {
        cmd!(shell, "rustup toolchain install nightly --profile minimal")
            .run()
            .context("fuzzing needs a nightly compiler, which rustup installs")?;
    }
    if !works("cargo", &["fuzz", "--version"]) {
        cmd!(shell, "cargo install --locked cargo-fuzz").run().context("fuzzing needs cargo-fuzz")?;
    }
    Ok(())
}

/// Runs one target for so many minutes, or until it finds something.
fn fuzz(shell: &Shell, root: &Path, target: &str, minutes: u32) -> Result<Figures> {
    // What is found goes to the first, the others are only read.
    let mut corpora = vec![root.join("fuzz/corpus").join(target)];
    fs::create_dir_all(&corpora[0])?;
    for entry in fs::read_dir(root.join("crates"))? {
        let kept = entry?.path().join("tests/corpus").join(target);
        corpora.extend(kept.is_dir().then_some(kept));
    }
    let seconds = u64::from(minutes) * 60;
    let mut flags = vec![format!("-max_total_time={seconds}")];
    flags.extend(["-rss_limit_mb=1024", "-timeout=10", "-print_final_stats=1"].map(str::to_owned));
    let dictionary = root.join(format!("fuzz/dictionaries/{target}.dict"));
    flags.extend(dictionary.is_file().then(|| format!("-dict={}", dictionary.display())));

    // Nothing but the sandbox, which is not fuzzed, has unsafe code: without a sanitizer there are more executions.
    cmd!(shell, "rustup run nightly cargo fuzz build -s none {target}").run()?;
    let output = cmd!(shell, "rustup run nightly cargo fuzz run -s none {target} {corpora...} -- {flags...}")
        .quiet()
        .ignore_status()
        .output()?;
    let log = String::from_utf8_lossy(&output.stderr);
    let figures = figures(&log);
    if figures.executions == 0 {
        bail!("{target} did not run:\n{log}");
    }
    Ok(figures)
}

/// Reads libFuzzer's log.
fn figures(log: &str) -> Figures {
    let mut figures = Figures::default();
    for line in log.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |word: &str| word.parse::<u64>().ok();
        for pair in words.windows(2) {
            let (name, Some(value)) = (pair[0], number(pair[1])) else { continue };
            match name {
                "cov:" => figures.coverage = value,
                "ft:" => figures.features = value,
                "stat::number_of_executed_units:" => figures.executions = value,
                "stat::average_exec_per_sec:" => figures.rate = value,
                _ => {}
            }
        }
    }
    figures
}

/// The inputs on which a target failed so far.
fn artifacts(root: &Path, target: &str) -> Result<BTreeSet<PathBuf>> {
    let folder = root.join("fuzz/artifacts").join(target);
    if !folder.is_dir() {
        return Ok(BTreeSet::new());
    }
    fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_figures_of_a_log_count() {
        let log = "#2\tINITED cov: 5 ft: 6 corp: 1/1b exec/s: 0 rss: 30Mb\n\
                   #99\tNEW    cov: 71 ft: 133 corp: 9/1b lim: 4 exec/s: 0 rss: 31Mb L: 1/1\n\
                   Done 100 runs in 2 second(s)\n\
                   stat::number_of_executed_units: 100\nstat::average_exec_per_sec:     50\n";
        let expected = Figures { executions: 100, rate: 50, coverage: 71, features: 133 };
        assert_eq!(figures(log), expected);
        assert_eq!(figures("error: no such thing"), Figures::default());
    }
}
