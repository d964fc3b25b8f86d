//! One launch and cache layer of 1.3 GiB in 15,000 files: to a fresh registry, and again with nothing changed.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::registry::{DockerRegistry, Setup};
use testkit::{Base, Builder, Buildpack, Layout, Machine, Person};

use super::measure::{Figures, Run, shell_line, watched};
use super::{Bench, tree};

/// Copies the tree into a layer the first time, leaves it the next times, and says how long that took by itself.
fn buildpack() -> Buildpack {
    Buildpack::new("bench/big", "1").build(
        r#"
start=$EPOCHREALTIME
if [ ! -e "$CNB_LAYERS_DIR/big/part0" ]; then mkdir -p "$CNB_LAYERS_DIR/big"; cp -a /mnt/big/. "$CNB_LAYERS_DIR/big/"; fi
printf '[types]\nlaunch = true\ncache = true\n' > "$CNB_LAYERS_DIR/big.toml"
end=$EPOCHREALTIME
echo "own microseconds: $(( ${end/./} - ${start/./} ))"
"#,
    )
}

pub fn measure(bench: &Bench<'_>, figures: &mut Figures) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("pannier-bench-").tempdir()?;
    open_to_all(folder.path())?;
    let big = folder.path().join("big");
    println!("\n== a big tree");
    tree::make(&big, bench.size)?;
    tree::warm(&big)?;
    let shown = big.display();
    let line = |command: &str| shell_line(&format!("tar -C {shown} -cf - . | {command}"));
    let plain = line("sha256sum")?.min(line("sha256sum")?);
    figures.plain("T: tar c | sha256sum", plain.as_secs_f64(), "s", String::new());
    let gzip = folder.path().join("gzip");
    let gzipped = line(&format!("gzip -1 > {}", gzip.display()))?;
    let gzip_size = fs_err::metadata(&gzip)?.len();
    fs_err::remove_file(&gzip)?;
    let detail = format!("{} MiB", gzip_size >> 20);
    figures.plain("tar c | gzip -1", gzipped.as_secs_f64() / plain.as_secs_f64(), "T", detail);

    for person in Person::all().into_iter().filter(|person| *person != Person::Ranges) {
        println!("\n== the big tree, as {}", person.name());
        person_builds(bench, figures, person, &big, plain, gzip_size)?;
    }
    bench.peers.big(&buildpack(), &big, plain, figures)
}

fn person_builds(
    bench: &Bench<'_>,
    figures: &mut Figures,
    person: Person,
    big: &Path,
    plain: Duration,
    gzip_size: u64,
) -> Result<()> {
    let registry = DockerRegistry::start(&Setup::default());
    let machine = Machine::new(&bench.pannier, person);
    let layout = Layout::new(machine.path("images"));
    layout.add("builder", &Builder::of(Base::Debian, &[buildpack()]).image());
    machine.write("work/app/file", "app");
    let name = format!("{}/bench/big:1", registry.host());
    // The run image is there before, as in life: its layers are not what is measured.
    machine
        .pannier([
            "image",
            "copy",
            &Base::Debian.run_reference(),
            &format!("docker://{}/bench/run:1", registry.host()),
        ])
        .ok();
    let build = || -> Result<Run> {
        let volume = format!("{}:/mnt/big", big.display());
        let mut call = machine.pannier(["build", &name, "--publish", "--path", "app", "--volume", &volume]);
        call = call.args(["--builder", &layout.reference("builder"), "--run-image"]);
        watched(call.arg(format!("{}/bench/run:1", registry.host())).into_command(), "pannier")
    };
    let who = person.name();
    let first = build()?;
    let over = over(&first)?;
    let detail = format!(
        "{:.1} s, {:.1} s of it the buildpack's",
        first.time.as_secs_f64(),
        (first.time - over).as_secs_f64()
    );
    figures.add(
        format!("big, first build to a fresh registry, as {who}"),
        ratio(over, plain),
        "T",
        2.2,
        detail,
    );
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let limit = 64.0 + 4.0 * workers as f64;
    figures.add(format!("  peak memory, {workers} workers"), first.peak, "MiB", limit, String::new());
    let size = largest_blob(&registry.storage())?;
    let detail = format!("{} MiB", size >> 20);
    figures.add("  layer against gzip -1", size as f64 / gzip_size as f64, "×", 1.0, detail);

    let mut times = Vec::new();
    for _ in 0..3 {
        let again = build()?;
        times.push((self::over(&again)?, again.peak));
    }
    times.sort_by_key(|(time, _)| *time);
    let (again, peak) = times[1];
    let detail = format!("{:.2} s, peak {peak:.0} MiB", again.as_secs_f64());
    figures.add(format!("big, nothing changed, as {who}"), ratio(again, plain), "T", 0.1, detail);
    Ok(())
}

/// A build's time without what the buildpack says it took by itself.
pub fn over(run: &Run) -> Result<Duration> {
    let own = run.output.lines().find_map(|line| line.split("own microseconds: ").nth(1));
    let own = own.context("the buildpack says how long it took")?.trim().parse()?;
    run.time.checked_sub(Duration::from_micros(own)).context("a build takes longer than its buildpack")
}

fn ratio(time: Duration, plain: Duration) -> f64 {
    time.as_secs_f64() / plain.as_secs_f64()
}

fn largest_blob(storage: &Path) -> Result<u64> {
    let output = Command::new("find").arg(storage).args(["-type", "f", "-printf", "%s\n"]).output()?;
    ensure!(output.status.success(), "find failed");
    let sizes = String::from_utf8(output.stdout)?;
    sizes.lines().filter_map(|line| line.parse().ok()).max().context("the registry has blobs")
}

fn open_to_all(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs_err::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?)
}
