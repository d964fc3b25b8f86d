//! Every developer command: `cargo xtask test`, `demo`, `dist`, `bench`, `fuzz`, `picture`.
//!
//! What lives here: which steps a command has, and what they need from the machine. What does not: anything a
//! user of Pannier could want, and anything a test asserts.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program that talks to developers"
)]

mod bench;
mod demo;
mod dependencies;
mod dist;
mod fuzz;
mod needs;
mod picture;
mod soak;
mod steps;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use fs_err as fs;
use xshell::Shell;

/// Every developer command of this workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what the tests need where that is possible, then run every check
    Test(test::Arguments),
    /// Build Pannier, an image of a small site with it, run that image and fetch its page
    Demo,
    /// Make the static binaries in dist/
    Dist,
    /// Record a build in a terminal as docs/images/build.svg
    Picture(picture::Arguments),
    /// Try signals, full disks, failing registries and crowds at random for a while
    Soak(soak::Arguments),
    /// Measure speed and memory against plain commands, and against the reference where it is given
    Bench(bench::Arguments),
    /// Give what reads foreign bytes all kinds of them, and say what it came to
    Fuzz(fuzz::Arguments),
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments = Arguments::parse();
    let shell = Shell::new()?;
    shell.change_dir(workspace()?);
    match arguments.command {
        Command::Test(arguments) => test::run(&shell, &arguments),
        Command::Demo => demo::run(&shell),
        Command::Dist => dist::run(&shell),
        Command::Picture(arguments) => picture::run(&shell, &arguments),
        Command::Soak(arguments) => soak::run(&shell, &arguments),
        Command::Bench(arguments) => bench::run(&shell, &arguments),
        Command::Fuzz(arguments) => fuzz::run(&shell, &arguments),
    }
}

/// The folder of the workspace's `Cargo.toml`.
fn workspace() -> Result<std::path::PathBuf> {
    let manifest = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(fs::canonicalize(manifest.join(".."))?)
}

/// Where cargo puts what it builds.
fn target_folder(shell: &Shell) -> Result<std::path::PathBuf> {
    let metadata = xshell::cmd!(shell, "cargo metadata --no-deps --format-version 1").quiet().read()?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let folder =
        metadata["target_directory"].as_str().ok_or_else(|| anyhow::anyhow!("no target_directory"))?;
    Ok(folder.into())
}
