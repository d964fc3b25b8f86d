//! Too much of anything, and names that nobody could use: one clear line that says whose it is, and no image that
//! nobody can read. And too little: what is said when there is no space.

use std::io::Read as _;
use std::time::{Duration, Instant};

use testkit::{Base, Builder, Buildpack, Machine, Output};

use crate::support::*;

/// Text without end for a script: `much 1000 x` prints a thousand of the letter.
const MUCH: &str = "much() { head -c \"$1\" /dev/zero | tr '\\0' \"$2\"; }";

fn much(id: &str, script: &str) -> Buildpack {
    facts(id, &format!("{MUCH}\n{script}"))
}

/// A build with these buildpacks fails, says all of `words`, and leaves no image.
fn fails(machine: &Machine, buildpacks: &[Buildpack], words: &[&str]) -> Output {
    let output = build(machine, &builder_of(machine, buildpacks)).fails();
    assert_eq!(output.stderr.lines().filter(|line| line.starts_with("error:")).count(), 1, "{output}");
    for word in words {
        output.says(word);
    }
    output.never_says("panicked");
    assert!(!machine.path("work/out/index.json").exists(), "no image has a name\n{output}");
    output
}

#[test]
fn images_that_nobody_could_read_are_not_made() {
    let Some(machine) = machine() else { return };
    for (script, part) in [
        (
            "{ printf '[metadata]\\nx = \"'; much 15000000 x; echo '\"'; } > \"$CNB_LAYERS_DIR/store.toml\"",
            "store.toml takes 150000",
        ),
        (
            "{ printf '[[labels]]\\nkey = \"k\"\\nvalue = \"'; much 5000000 x; echo '\"'; } > \"$CNB_LAYERS_DIR/launch.toml\"",
            "`[[labels]]` of launch.toml takes 500000",
        ),
        (
            "for n in $(seq 50000); do printf '[[processes]]\\ntype = \"p%s\"\\ncommand = [\"x\"]\\n' \"$n\"; done > \"$CNB_LAYERS_DIR/launch.toml\"",
            "`[[processes]]` of launch.toml takes",
        ),
        (
            "for n in $(seq 30000); do echo '[[slices]]'; done > \"$CNB_LAYERS_DIR/launch.toml\"",
            "`[[slices]]` of launch.toml takes 5400000",
        ),
        (
            "{ printf '[types]\\nlaunch = true\\n[metadata]\\nx = \"'; much 5000000 x; echo '\"'; } > \"$CNB_LAYERS_DIR/l.toml\"; mkdir \"$CNB_LAYERS_DIR/l\"",
            "the metadata of layer `l` takes 500",
        ),
    ] {
        fails(
            &machine,
            &[web(), much("test/much", script)],
            &["buildpack test/much leaves too much for an image", part, "expected at most 4194304"],
        );
    }
    // Each is fine by itself.
    let half = "{ printf '[metadata]\\nx = \"'; much SIZE x; echo '\"'; } > \"$CNB_LAYERS_DIR/store.toml\"";
    let [less, more] = ["2200000", "2300000"].map(|size| half.replace("SIZE", size));
    fails(
        &machine,
        &[much("test/less", &less), much("test/more", &more), web()],
        &[
            "buildpack test/more leaves too much",
            "store.toml takes 23000",
            "all buildpacks together 45",
            "4194304",
        ],
    );
    // What just fits can be read again.
    build(&machine, &builder_of(&machine, &[much("test/more", &more), web()])).ok();
    machine.pannier(["inspect", OUT]).ok().says("test/more");
    machine.pannier(["image", "copy", OUT, "oci-archive:copy.tar"]).ok();
    build(&machine, &builder_of(&machine, &[much("test/more", &more), web()])).ok();
}

#[test]
fn names_that_nobody_could_use_are_refused() {
    let Some(machine) = machine() else { return };
    for (script, words) in [
        (
            r#"printf '[[processes]]\ntype = "a\\nb"\ncommand = ["x"]\n' > "$CNB_LAYERS_DIR/launch.toml""#,
            ["/layers/test_names/launch.toml:1:1: process type 'a\\nb' is empty or has"],
        ),
        (
            r#"printf '[[processes]]\ntype = ".."\ncommand = ["x"]\n' > "$CNB_LAYERS_DIR/launch.toml""#,
            ["process type '..' is empty or has"],
        ),
        (
            r#"printf '[[processes]]\ntype = "w"\ncommand = ["a\\u0000"]\n' > "$CNB_LAYERS_DIR/launch.toml""#,
            ["process 'w': the command 'a\\0' has a zero byte"],
        ),
        (
            r#"printf '[[labels]]\nkey = "k\\u001b[31m"\nvalue = ""\n' > "$CNB_LAYERS_DIR/launch.toml""#,
            ["label 'k\\u{1b}[31m' has a control character"],
        ),
        (
            "layer l launch; mkdir \"$CNB_LAYERS_DIR/l/env.launch\"; echo x > \"$CNB_LAYERS_DIR/l/env.launch/A=B\"",
            ["left an invalid variable in /layers/test_names/l/env.launch: `A=B` has no name"],
        ),
        (
            "layer l launch; mkdir -p \"$CNB_LAYERS_DIR/l/env.launch/web\"; printf '\\0' > \"$CNB_LAYERS_DIR/l/env.launch/web/A.append\"",
            ["left an invalid variable in /layers/test_names/l/env.launch/web: `A.append` has a zero byte"],
        ),
        (
            "layer l build; mkdir \"$CNB_LAYERS_DIR/l/env.build\"; echo x > \"$CNB_LAYERS_DIR/l/env.build/.override\"",
            ["left an invalid variable in /layers/test_names/l/env.build: `.override` has no name"],
        ),
        (
            "printf '[types]\\nlaunch = true\\n' > \"$CNB_LAYERS_DIR\"/$'a\\nb.toml'",
            ["'a\\nb' can not be the name of a layer"],
        ),
    ] {
        let output = fails(&machine, &[facts("test/names", script), web()], &words);
        output.says("buildpack test/names");
        let raw = |ch: char| ch.is_control() && ch != '\n';
        assert!(!output.stderr.contains(raw), "{:?}", output.stderr);
    }
}

everyone! {
    /// Files of layers are called as the buildpack knows them, in first builds and in those on restored layers.
    fn errors_name_what_buildpacks_see(machine: &Machine) {
        let script = "layer deps launch,cache; echo x > \"$CNB_LAYERS_DIR/deps/file\"; \
                      [ -z \"${BREAK:-}\" ] || { rm -f \"$CNB_LAYERS_DIR/$BREAK\"; mkdir -p \"$CNB_LAYERS_DIR/$BREAK\"; }";
        let builder = builder_of(machine, &[facts("test/dirs", script), web()]);
        let broken = |file: &str| build(machine, &builder).args(["--env", &format!("BREAK={file}")]);
        for _ in 0..2 {
            for file in ["store.toml", "launch.toml", "build.toml"] {
                let output = broken(file).fails();
                output.says("buildpack test/dirs").says(&format!("/layers/test_dirs/{file}"));
                output.never_says("/scratch/").never_says("/cache/");
            }
            build(machine, &builder).ok();
        }
    }
}

#[test]
fn a_line_without_an_end_takes_no_memory() {
    let Some(machine) = machine() else { return };
    let (count, limit) = (150_000_000_u64, 100 << 10);
    let endless = much("test/endless", &format!("much {count} x; echo; echo the end"));
    let builder = builder_of(&machine, &[endless, web()]);
    let mut child = build(&machine, &builder).start();
    let mut pipe = child.stdout.take().expect("it is a pipe");
    let mut errors = child.stderr.take().expect("it is a pipe");
    let errors = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = errors.read_to_string(&mut text);
        text
    });
    let status = format!("/proc/{}/status", child.id());
    let (mut seen, mut most, mut longest, mut line, mut rest) = (0_u64, 0, 0, 0, Vec::new());
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = pipe.read(&mut buffer).expect("it can be read");
        if length == 0 {
            break;
        }
        for byte in &buffer[..length] {
            seen += u64::from(*byte == b'x');
            line = if *byte == b'\n' { 0 } else { line + 1 };
            longest = longest.max(line);
        }
        rest = buffer[length.saturating_sub(2000)..length].to_vec();
        let text = fs_err::read_to_string(&status).unwrap_or_default();
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
        most = most.max(peak.unwrap_or_default());
    }
    assert!(child.wait().expect("it ends").success(), "{}", errors.join().unwrap_or_default());
    assert!(seen >= count, "{seen} of {count}\n{}", String::from_utf8_lossy(&rest));
    assert!(longest < 70_000, "a line of {longest} bytes");
    assert!(most > 0 && most < limit, "{most} kB of memory, expected less than {limit}");
}

#[test]
fn thousands_of_names_take_no_minutes() {
    let Some(machine) = machine() else { return };
    let plan = "seq 50000 | sed 's/.*/[[KIND]]\\nname = \"n&\"/' > \"$CNB_BUILD_PLAN_PATH\"";
    let provides = facts("test/provides", "true").detect(&plan.replace("KIND", "provides"));
    let variables = "mkdir -p \"$CNB_LAYERS_DIR/v/env.build\"; printf '[types]\\nbuild = true\\n' > \"$CNB_LAYERS_DIR/v.toml\"; \
                     cd \"$CNB_LAYERS_DIR/v/env.build\"; for n in $(seq 50000); do : > \"V$n\"; done";
    let requires = facts("test/requires", variables).detect(&plan.replace("KIND", "requires"));
    let builder =
        builder_of(&machine, &[provides, requires, facts("test/counts", "env | grep -c '^V'"), web()]);
    let start = Instant::now();
    build(&machine, &builder).ok().says("50000");
    assert!(start.elapsed() < Duration::from_secs(400), "took {:?}", start.elapsed());
    let start = Instant::now();
    build(&machine, &builder).args(["--dry-run=json"]).ok().says("n50000");
    assert!(start.elapsed() < Duration::from_secs(200), "took {:?}", start.elapsed());
}

#[test]
fn a_program_that_finds_no_space_says_so() {
    let Some(machine) = machine() else { return };
    let Some(disk) = testkit::SmallDisk::mount(machine.make_dir("disk"), "size=24m") else { return };
    let runs = |run: &str, build: &str| {
        let text = format!("ARG base_image\nFROM ${{base_image}}\nUSER root\n{run}\n");
        let extension =
            Buildpack::extension("test/ext", "1.0.0").file("generate/build.Dockerfile", 0o644, text);
        let buildpacks = [facts("test/fills", build), web()];
        let builder =
            Builder::of(Base::Small, &buildpacks).extension(extension).extension_group(&["test/ext"]);
        let call =
            machine.pannier(["build", "full", "--builder", &self::builder(&machine, &builder), "--path"]);
        call.arg(app(&machine)).env("PANNIER_HOME", disk.path()).run()
    };
    // What takes the space is gone before the program ends, and it says nothing of it.
    let quiet = "head -c 60000000 /dev/zero > FILE 2>/dev/null || { sleep 0.2; rm FILE; exit 3; }";
    let outputs = [
        runs(&format!("RUN {}", quiet.replace("FILE", "/big")), "true"),
        runs("RUN head -c 60000000 /dev/zero > /big", "true"),
        runs(
            "RUN --mount=type=tmpfs,target=/t,size=1048576 dd if=/dev/zero of=/t/big bs=1M count=60",
            "true",
        ),
        runs("RUN true", &quiet.replace("FILE", "\"$CNB_LAYERS_DIR/big\"")),
        runs("RUN true", &quiet.replace("FILE", "/tmp/big")),
    ];
    let said = format!("no space is left on the disk of {}", disk.path().display());
    disk.unmount();
    for (index, output) in outputs.iter().enumerate() {
        assert!(output.status.code().is_some_and(|code| code != 0), "{output}");
        match index {
            2 => output.says("hint: the program found no space").says("tmpfs"),
            _ => output.says(&said).says("bytes are free").says("hint: make room on the disk"),
        };
    }
}

#[test]
fn a_disk_without_files_left_says_so() {
    let Some(machine) = machine() else { return };
    let Some(disk) = testkit::SmallDisk::mount(machine.make_dir("disk"), "size=100m,nr_inodes=1200") else {
        return;
    };
    let many = facts(
        "test/many",
        "layer l launch; for n in $(seq 3000); do echo > \"$CNB_LAYERS_DIR/l/$n\" || exit 4; done",
    );
    let builder = builder_of(&machine, &[many, web()]);
    let call = machine.pannier(["build", "full", "--builder", &builder, "--path"]).arg(app(&machine));
    let output = call.env("PANNIER_HOME", disk.path()).run();
    disk.unmount();
    assert!(output.status.code().is_some_and(|code| code != 0), "{output}");
    output.says("no space is left on the disk of").says("files are free");
}
