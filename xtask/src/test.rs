//! `cargo xtask test`: everything that has to hold before a change lands.

use anyhow::{Context as _, Result, bail};
use fs_err as fs;
use xshell::{Shell, cmd};

use crate::{dependencies, needs, steps::Steps};

/// What to check.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Run only these parts
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,
    /// Install nothing; tests whose needs are missing are skipped and said
    #[arg(long)]
    no_install: bool,
    /// A missing need is a failure, as in CI (also when CI=true)
    #[arg(long)]
    require_all: bool,
    /// Passed on to `cargo test`: a filter, or `-p CRATE`, or `-- --nocapture`
    #[arg(last = true)]
    test_arguments: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// `cargo fmt --check`
    Fmt,
    /// `cargo clippy` with warnings denied
    Clippy,
    /// Unit, integration and end-to-end tests
    Tests,
    /// Licences and sources of dependencies
    Dependencies,
}

/// # Errors
///
/// When any part fails, or when something is missing and everything is required.
pub fn run(shell: &Shell, arguments: &Arguments) -> Result<()> {
    let require_all = arguments.require_all || std::env::var_os("CI").is_some_and(|value| value == "true");
    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    let mut steps = Steps::default();

    if wanted(Part::Tests) || wanted(Part::Clippy) {
        steps.run("what the tests need", || prepare(shell, arguments.no_install, require_all));
    }
    if wanted(Part::Fmt) {
        steps.run("formatting", || Ok(cmd!(shell, "cargo fmt --all --check").run()?));
        // A workspace of its own, which nothing else here looks at.
        let fuzz = "fuzz/Cargo.toml";
        steps
            .run("formatting of fuzz", || Ok(cmd!(shell, "cargo fmt --manifest-path {fuzz} --check").run()?));
    }
    if wanted(Part::Dependencies) {
        steps.run("dependencies", || dependencies::check(shell));
    }
    if wanted(Part::Clippy) {
        let deny = "warnings";
        steps.run("clippy", || Ok(cmd!(shell, "cargo clippy --workspace --all-targets -- -D {deny}").run()?));
    }
    if wanted(Part::Tests) {
        let log = tempfile::NamedTempFile::new().context("a file for the names of skipped tests")?;
        steps.run("tests", || test(shell, log.path(), &arguments.test_arguments, require_all));
        for line in fs::read_to_string(log.path())?.lines() {
            let (name, why) = line.split_once('\t').unwrap_or((line, "no reason given"));
            steps.skip(name, why);
        }
    }
    steps.finish()
}

fn prepare(shell: &Shell, no_install: bool, require_all: bool) -> Result<()> {
    let missing = if no_install { needs::still_missing(shell)? } else { needs::install(shell)? };
    if missing.is_empty() {
        println!("all there");
        return Ok(());
    }
    let lines = missing.join("\n");
    if require_all {
        bail!("{} needs are missing\n{lines}", missing.len());
    }
    println!("missing, and done without:\n{lines}");
    Ok(())
}

/// Runs the tests. What a test could not do is appended to `skipped`, a line each: test, tab, reason.
fn test(shell: &Shell, skipped: &std::path::Path, arguments: &[String], require_all: bool) -> Result<()> {
    let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::env::split_paths(&path).chain(sbin))?;
    let scope: &[&str] =
        if arguments.iter().any(|argument| argument == "-p") { &[] } else { &["--workspace"] };
    let mut command = cmd!(shell, "cargo test --no-fail-fast {scope...} {arguments...}")
        .env("PATH", path)
        .env("PANNIER_TEST_SKIPPED", skipped);
    if require_all {
        command = command.env("PANNIER_TEST_REQUIRE_ALL", "1");
    }
    Ok(command.run()?)
}
