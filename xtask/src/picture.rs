//! `cargo xtask picture`: what a terminal shows of a build, as docs/images/build.svg.
//!
//! The build is a real one, in a terminal that `script` (of util-linux) makes. What lives here: running it, reading
//! back what would be on the screen, and drawing that.

mod screen;
mod svg;

use anyhow::{Context as _, Result};
use clap::Args;
use fs_err as fs;
use xshell::{Shell, cmd};

const APP: &str = "samples/apps/site";
const IMAGE: &str = "my-site";
const FILE: &str = "docs/images/build.svg";

/// What to record.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Record this program instead of building one
    #[arg(long, value_name = "FILE")]
    pannier: Option<std::path::PathBuf>,
}

/// # Errors
///
/// When the build fails, or the picture cannot be written.
pub fn run(shell: &Shell, arguments: &Arguments) -> Result<()> {
    let pannier = match &arguments.pannier {
        Some(pannier) => fs::canonicalize(pannier)?,
        None => {
            cmd!(shell, "cargo build --package pannier").run()?;
            crate::target_folder(shell)?.join("debug/pannier")
        }
    };
    let home = tempfile::tempdir()?;
    let record = |name: &str| -> Result<screen::Screen> {
        let program = pannier.to_str().context("the program's path is not UTF-8")?;
        let line = format!("stty cols 96 rows 40; exec '{program}' build {name} --path {APP}");
        let output = cmd!(shell, "script --quiet --return --command {line} /dev/null")
            .env("PANNIER_HOME", home.path())
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .env_remove("CI")
            .output()?;
        Ok(screen::Screen::of(&String::from_utf8_lossy(&output.stdout)))
    };
    let typed = |text: &str| screen::Screen::of(&format!("\x1b[32m$\x1b[0m {text}\n"));
    let mut lines = typed(&format!("pannier build {IMAGE} --path {APP}")).into_lines();
    lines.extend(record(IMAGE)?.into_lines());
    let file = shell.current_dir().join(FILE);
    fs::create_dir_all(file.parent().context("no parent")?)?;
    fs::write(&file, svg::draw(&lines))?;
    println!("{} ({} lines)", file.display(), lines.len());
    Ok(())
}
