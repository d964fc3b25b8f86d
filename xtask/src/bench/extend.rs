//! Dockerfiles: one small `RUN`, one that writes much, one of which all is kept; and buildah on the same base.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fs_err as fs;
use testkit::{Base, Image, Layout, Tree};
use xshell::cmd;

use crate::needs;

use super::Bench;
use super::measure::{Figures, median, ms, timed};

/// What the large `RUN` writes, in MiB.
const LARGE: u64 = 300;
/// The size of the base image that buildah gets too, in MB.
const BASE: u64 = 180;
const ROUNDS: usize = 21;

pub fn measure(bench: &Bench<'_>, figures: &mut Figures) -> Result<()> {
    println!("\n== applying Dockerfiles");
    let folder = tempfile::tempdir()?;
    let layout = Layout::new(folder.path().join("layout"));
    layout.add("base", &base());
    let shell = bench.shell;
    let mut place = Place { folder: folder.path(), program: String::new() };
    cmd!(shell, "cargo build --release --package pannier-dockerfile --example apply").run()?;
    let program = crate::target_folder(shell)?.join("release/examples/apply");
    place.program = program.into_os_string().into_string().ok().context("a path that is text")?;

    let small = "ARG build_id\nRUN true # $build_id\n";
    place.apply(small, "tree", 1)?;
    // The base has just been unpacked: the disk is done with it before anything is timed.
    cmd!(shell, "sync").run()?;
    let runs = place.apply(small, "tree", ROUNDS)?;
    let plain = median(ROUNDS, || Ok(timed(|| Ok(Command::new("sh").args(["-c", "true"]).status()?))?.0))?;
    let ours = middle(&runs, |run| run.ms);
    let detail = format!("{ours:.1} ms, the command alone {:.1} ms", ms(plain));
    figures.add("RUN true, over the command", ours - ms(plain), "ms", 15.0, detail);

    large(&place, figures)?;
    kept(&place, figures)?;
    if needs::find("buildah").is_some() {
        buildah(&place, figures)?;
    }
    Ok(())
}

/// Debian, filled up.
fn base() -> Image {
    let mut filling = Vec::with_capacity(1 << 20);
    let mut state = 1_u64;
    while filling.len() < 1 << 20 {
        // Half of it compresses.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        filling.extend_from_slice(&state.to_le_bytes()[..4]);
        filling.extend_from_slice(&[0; 4]);
    }
    let mut tree = Tree::new().dir("filling", 0o755);
    let debian = 100;
    for number in 0..BASE.saturating_sub(debian) {
        tree = tree.file(&format!("filling/{number}"), 0o644, filling.clone());
    }
    Base::Debian.run().layer(tree)
}

/// The layer of what a `RUN` writes costs one read of it.
fn large(place: &Place<'_>, figures: &mut Figures) -> Result<()> {
    let write = format!(
        "ARG build_id\nUSER root\nRUN dd if=/dev/urandom of=/large bs=1M count={LARGE} 2>/dev/null # $build_id\nUSER cnb\n"
    );
    let tree = place.apply(&write, "tree", 3)?;
    let image = place.apply(&write, "image", 3)?;
    let (without, with) = (middle(&tree, |run| run.ms), middle(&image, |run| run.ms));
    // What the command itself reads counts in both.
    let size = (LARGE << 20) as f64;
    let read = (middle(&image, |run| run.read as f64) - middle(&tree, |run| run.read as f64)) / size;
    let detail = format!("the layer took {:.0} ms, all of it {with:.0} ms", with - without);
    figures.add(format!("RUN that writes {LARGE} MiB: times its layer reads it"), read, "×", 1.05, detail);
    Ok(())
}

/// Nothing has to be made.
fn kept(place: &Place<'_>, figures: &mut Figures) -> Result<()> {
    fs::write(place.folder.join("file"), "content")?;
    let mut text = String::from("ARG user_id\nARG group_id\nUSER root\n");
    for number in 0..5 {
        text += &format!("RUN mkdir -p /opt/{number} && echo {number} > /opt/{number}/file\n");
        text += &format!("COPY file /opt/{number}/copy\n");
    }
    text += "USER ${user_id}:${group_id}\n";
    place.apply(&text, "image", 1)?;
    let runs = place.apply(&text, "image", ROUNDS)?;
    ensure!(runs.iter().all(|run| run.made == 0), "all steps are kept");
    let detail = "10 steps".to_owned();
    figures.add("all steps kept, each image", middle(&runs, |run| run.ms), "ms", 20.0, detail);
    Ok(())
}

/// The same Dockerfile, each time made anew, as a whole process.
fn buildah(place: &Place<'_>, figures: &mut Figures) -> Result<()> {
    let lines = "USER root\nRUN echo content > /etc/small # $build_id\nUSER cnb\n";
    let ours = median(7, || {
        let (time, runs) = timed(|| place.apply(&format!("ARG build_id\n{lines}"), "image", 1))?;
        ensure!(runs[0].made == 1, "it is made each time");
        Ok(time)
    })?;
    let root = place.folder.join("buildah");
    let buildah = |arguments: &[&str]| -> Result<(Duration, String)> {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(root.join("root")).arg("--runroot").arg(root.join("run"));
        command.args(arguments).current_dir(place.folder);
        let (time, output) = timed(|| Ok(command.output()?))?;
        ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok((time, String::from_utf8(output.stdout)?.trim().to_owned()))
    };
    // By a relative path: it takes no capital letters, which that of a temporary folder has.
    let (_, id) = buildah(&["pull", "--quiet", "oci:layout:base"])?;
    buildah(&["tag", &id, "localhost/bench-base"])?;
    fs::write(place.folder.join("Containerfile"), format!("FROM localhost/bench-base\n{lines}"))?;
    let arguments =
        ["bud", "--isolation", "chroot", "--no-cache", "--quiet", "--pull=false", "-t", "bench", "-f"];
    let theirs = median(3, || Ok(buildah(&[&arguments[..], &["Containerfile", "."]].concat())?.0))?;
    buildah(&["rmi", "--all", "--force"])?;
    let detail = format!("{:.0} ms against {:.0} ms", ms(ours), ms(theirs));
    let ratio = ms(ours) / ms(theirs);
    figures.add(format!("one small RUN on {BASE} MB, of buildah's time"), ratio, "×", 0.125, detail);
    Ok(())
}

struct Place<'a> {
    folder: &'a Path,
    program: String,
}

#[derive(Debug)]
struct Run {
    ms: f64,
    made: u64,
    read: u64,
}

impl Place<'_> {
    /// Applies what comes after `FROM` so many times.
    fn apply(&self, lines: &str, need: &str, rounds: usize) -> Result<Vec<Run>> {
        let file = self.folder.join("Dockerfile");
        fs::write(&file, format!("ARG base_image\nFROM ${{base_image}}\n{lines}"))?;
        let mut command = Command::new(&self.program);
        command.arg(self.folder.join("store")).arg(self.folder.join("layout")).arg("base").arg(&file);
        command.arg(self.folder).arg(need).arg(rounds.to_string());
        let output = command.output()?;
        ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout)?;
        text.lines().map(|line| run(line).with_context(|| format!("three numbers: {line}"))).collect()
    }
}

fn run(line: &str) -> Option<Run> {
    let mut words = line.split(' ');
    Some(Run {
        ms: words.next()?.parse().ok()?,
        made: words.next()?.parse().ok()?,
        read: words.next()?.parse().ok()?,
    })
}

fn middle(runs: &[Run], value: impl Fn(&Run) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
