//! What a buildpack can put where this process reads and writes: it must never lead out of the build.

use testkit::{Buildpack, Machine, ReadImage};

use crate::scratch;
use crate::support::*;

/// A file that only this machine's person may know.
const SECRET: &str = "faults-of-the-host";

/// A folder outside with a secret in it, by its path.
fn outside(machine: &Machine) -> String {
    machine.write("outside/secret", SECRET);
    machine.write("outside/secret.toml", format!("[metadata]\nx = \"{SECRET}\"\n[types]\nlaunch = true\n"));
    machine.path("outside").display().to_string()
}

fn assert_kept(image: &ReadImage) {
    let found = |bytes: &[u8]| bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
    for layer in &image.layers {
        for name in layer.names() {
            let content = image.entry(name).map(|entry| entry.content.clone()).unwrap_or_default();
            assert!(!found(&content), "{name} has it");
        }
    }
    assert!(!image.config.to_string().contains(SECRET));
}

everyone! {
    /// Each of these is either an error or a harmless image; nothing outside is read or written.
    fn symlinks(machine: &Machine) {
        let out = outside(machine);
        let before = snapshot(&machine.path("outside"));
        let layers = "\"$CNB_LAYERS_DIR\"";
        let scripts = [
            // The folder of the buildpack that comes next.
            format!("ln -s {out} {layers}/../test_second"),
            // Its own folder.
            format!("cd /; rmdir {layers} && ln -s {out} {layers}"),
            // Files that are read.
            format!("ln -s {out}/secret {layers}/launch.toml"),
            format!("ln -s {out}/secret {layers}/build.toml"),
            format!("ln -s {out}/secret.toml {layers}/store.toml"),
            format!("mkdir {layers}/l; ln -s {out}/secret.toml {layers}/l.toml"),
            format!("ln -s {out}/secret.toml {layers}/l.toml; ln -s {out} {layers}/l"),
            format!("ln -s {out}/secret {layers}/launch.sbom.cdx.json"),
            // Variables for the next buildpack.
            format!("mkdir {layers}/b; printf '[types]\\nbuild = true\\n' > {layers}/b.toml; ln -s {out} {layers}/b/env"),
            format!("mkdir -p {layers}/b/env; printf '[types]\\nbuild = true\\n' > {layers}/b.toml; ln -s {out}/secret {layers}/b/env/X"),
            // Folders that are written to.
            format!("ln -s {out} {layers}/../sbom"),
            format!("mkdir {layers}/../sbom; ln -s {out} {layers}/../sbom/launch"),
            format!("ln -s {out} {layers}/../config"),
            format!("mkdir {layers}/../config; ln -s {out}/secret {layers}/../config/metadata.toml"),
            format!("ln -s {out}/secret /cnb/plans/test_second.toml || true; rm -f /cnb/plans/*; ln -s {out}/planted /cnb/plans/test_second.toml"),
            // The app and its slices.
            format!("ln -s {out} outside; ln -s {out}/secret file; printf '[[slices]]\\npaths = [\"outside/*\", \"file\", \"outside/**\"]\\n' > {layers}/launch.toml"),
            // Trees that become layers.
            format!("mkdir {layers}/l; printf '[types]\\nlaunch = true\\ncache = true\\n' > {layers}/l.toml; ln -s {out} {layers}/l/profile.d; ln -s {out} {layers}/l/exec.d; ln -s {out}/secret {layers}/l/x"),
        ];
        let second = Buildpack::new("test/second", "1").build("env > \"$CNB_LAYERS_DIR/seen\"; cat \"$CNB_LAYERS_DIR/seen\" \"$CNB_BP_PLAN_PATH\"");
        for script in scripts {
            let first = Buildpack::new("test/first", "1").keys("sbom-formats = [\"application/vnd.cyclonedx+json\"]").build(&script);
            let builder = builder_of(machine, &[first, second.clone()]);
            let output = build(machine, &builder).args(["--sbom-output-dir", "sboms", "--verbose"]).run();
            output.never_says("panicked").never_says(SECRET);
            assert!(output.status.code().is_some(), "{script}\n{output}");
            assert_eq!(snapshot(&machine.path("outside")), before, "{script}\n{output}");
            assert_eq!(scratch(machine), [""; 0], "{script}\n{output}");
            if output.status.success() {
                assert_kept(&built(machine));
            } else {
                assert!(output.stderr.contains("error: "), "{script}\n{output}");
            }
            for entry in walk(&machine.path("work/sboms")) {
                assert!(!fs_err::read_to_string(&entry).unwrap_or_default().contains(SECRET), "{script}");
            }
        }
    }
}

/// Regular files below a folder, without following symlinks.
fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs_err::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files.extend(walk(&entry.path())),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
    files
}

everyone! {
    /// Pipes that nobody writes to, files without end, trees without bottom: the build ends, soon.
    fn things_that_do_not_end(machine: &Machine) {
        let layers = "\"$CNB_LAYERS_DIR\"";
        let scripts = [
            format!("mkfifo {layers}/launch.toml"),
            format!("mkfifo {layers}/l.toml; mkdir {layers}/l"),
            format!("mkdir -p {layers}/b/env; printf '[types]\\nbuild = true\\n' > {layers}/b.toml; mkfifo {layers}/b/env/X"),
            format!("truncate -s 200G {layers}/launch.toml"),
            format!("truncate -s 200G {layers}/store.toml"),
            format!("mkdir {layers}/l; printf '[types]\\nlaunch = true\\n' > {layers}/l.toml; mkfifo {layers}/l/pipe; mkfifo pipe"),
            format!("mkdir {layers}/l; printf '[types]\\nlaunch = true\\n' > {layers}/l.toml; cd {layers}/l; for n in $(seq 600); do mkdir deeper; cd deeper; done"),
            "rm -f \"$CNB_BP_PLAN_PATH\"; mkfifo \"$CNB_BP_PLAN_PATH\"".to_owned(),
        ];
        for script in scripts {
            let builder = builder_of(machine, &[Buildpack::new("test/first", "1").build(&script)]);
            let start = std::time::Instant::now();
            let output = build(machine, &builder).run();
            assert!(start.elapsed().as_secs() < 60, "{script}");
            output.never_says("panicked");
            assert!(output.status.success() || output.stderr.contains("error: "), "{script}\n{output}");
            assert_eq!(scratch(machine), [""; 0], "{script}\n{output}");
        }
    }
}

everyone! {
    /// What detection plants is no better: plans that lead out, and an app full of links.
    fn while_detecting(machine: &Machine) {
        let out = outside(machine);
        let before = snapshot(&machine.path("outside"));
        let app = app(machine);
        std::os::unix::fs::symlink(&out, app.join("away")).expect("a link");
        std::os::unix::fs::symlink(format!("{out}/secret"), app.join("file")).expect("a link");
        let app_before = snapshot(&app);
        for script in [
            format!("rm -f \"$CNB_BUILD_PLAN_PATH\"; ln -s {out}/secret \"$CNB_BUILD_PLAN_PATH\""),
            "rm -f \"$CNB_BUILD_PLAN_PATH\"; mkfifo \"$CNB_BUILD_PLAN_PATH\"".to_owned(),
            "truncate -s 200G \"$CNB_BUILD_PLAN_PATH\"".to_owned(),
            "echo planted > away/planted || true; echo changed > file || true; rm -rf app.sh; exit 0".to_owned(),
        ] {
            let detects = Buildpack::new("test/detects", "1").detect(&script);
            let builder = builder_of(machine, &[detects]);
            // Not by `build`, which writes the app anew.
            let output = machine.pannier(["build", OUT, "--builder", &builder, "--path"]).arg(&app).run();
            output.never_says("panicked").never_says(SECRET);
            assert_eq!(snapshot(&machine.path("outside")), before, "{script}\n{output}");
            assert_eq!(snapshot(&app), app_before, "the user's folder is only read\n{script}");
            if output.status.success() {
                assert_kept(&built(machine));
            }
        }
    }
}
