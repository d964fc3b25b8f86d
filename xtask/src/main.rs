//! Every developer command: `cargo xtask test`, `demo`, `dist`, `bench`.
//!
//! What lives here: which steps a command has, and what they need from the machine. What does not: anything a
//! user of Pannier could want, and anything a test asserts.
#![expect(clippy::print_stdout, reason = "a command-line program that talks to developers")]

mod dependencies;
mod needs;
mod steps;
mod test;

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
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let shell = Shell::new()?;
    shell.change_dir(workspace()?);
    match arguments.command {
        Command::Test(arguments) => test::run(&shell, &arguments),
    }
}

/// The folder of the workspace's `Cargo.toml`.
fn workspace() -> Result<std::path::PathBuf> {
    let manifest = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(fs::canonicalize(manifest.join(".."))?)
}
