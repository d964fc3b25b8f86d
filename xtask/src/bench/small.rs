//! The smallest things: one sandbox, one launch.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use fs_err as fs;
use xshell::cmd;

use crate::needs;

use super::Bench;
use super::measure::{Figures, median, ms, timed};

pub fn measure(bench: &Bench<'_>, figures: &mut Figures) -> Result<()> {
    println!("\n== one launch");
    let folder = tempfile::tempdir()?;
    let (layers, app) = (folder.path().join("layers"), folder.path().join("app"));
    fs::create_dir_all(layers.join("config"))?;
    fs::create_dir_all(&app)?;
    let metadata = "[[buildpacks]]\nid = \"test/a\"\nversion = \"1\"\napi = \"0.12\"\n\n\
                    [[processes]]\ntype = \"web\"\ncommand = [\"/bin/true\"]\ndirect = true\nbuildpack-id = \"test/a\"\n";
    fs::write(layers.join("config/metadata.toml"), metadata)?;
    let bare = median(300, || once(&mut Command::new("/bin/true")))?;
    let launch = |launcher: &std::path::Path| {
        median(300, || {
            let mut command = Command::new(launcher);
            command.args(["--", "/bin/true"]).env("CNB_PLATFORM_API", "0.15");
            once(command.env("CNB_LAYERS_DIR", &layers).env("CNB_APP_DIR", &app))
        })
    };
    let ours = launch(&bench.launcher)?;
    let detail = format!("{:.2} ms against {:.2} ms", ms(ours), ms(bare));
    figures.add("launcher over a bare execve", ms(ours) - ms(bare), "ms", 2.0, detail);
    if let Some(launcher) = bench.peers.launcher() {
        let theirs = launch(&launcher)?;
        figures.plain("  the reference's launcher", ms(theirs) - ms(bare), "ms", String::new());
    }

    println!("\n== one sandbox");
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("bin"))?;
    let busybox = needs::find("busybox").context("busybox-static is installed")?;
    fs::copy(busybox, root.join("bin/true"))?;
    let shell = bench.shell;
    let line =
        cmd!(shell, "cargo run --quiet --release --package pannier-sandbox --example spawn {root}").read()?;
    let value = line.split_whitespace().next().and_then(|word| word.parse().ok());
    let value = value.with_context(|| format!("a number of milliseconds first: {line}"))?;
    figures.add("one sandboxed /bin/true, start to exit", value, "ms", 10.0, String::new());
    Ok(())
}

fn once(command: &mut Command) -> Result<std::time::Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let (time, status) = timed(|| Ok(command.status()?))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(time)
}
