//! Bad input and bad luck: one clear line, a non-zero exit, the store and the previous image as they were.

use std::time::{Duration, Instant};

use testkit::machine::Call;
use testkit::registry::{Fault, Kind, Registry};
use testkit::{Base, Builder, Buildpack, Layout, Machine, Output, Person};

use crate::support::*;

/// Fails with one `error:` line that has all of `words`, and changes nothing.
fn fails_clearly(machine: &Machine, call: Call, words: &[&str]) -> Output {
    let output = call.fails();
    let errors = output.stderr.lines().filter(|line| line.starts_with("error:")).collect::<Vec<_>>();
    assert_eq!(errors.len(), 1, "one clear line\n{output}");
    for word in words {
        output.says(word);
    }
    output.never_says("panicked");
    assert!(machine.temporary_files().is_empty(), "{:?}", machine.temporary_files());
    output
}

#[test]
fn builders_that_are_not() {
    let Some(machine) = machine() else { return };
    fails_clearly(&machine, build(&machine, "oci:/nowhere:x"), &["/nowhere"]);
    fails_clearly(&machine, build(&machine, "oci-archive:/nowhere.tar"), &["/nowhere.tar"]);
    fails_clearly(&machine, build(&machine, "not a name"), &["not a name"]);
    fails_clearly(&machine, build(&machine, "127.0.0.1:1/no/registry"), &["127.0.0.1:1"]);
    let layout = Layout::new(machine.path("images"));
    layout.add("plain", &Base::Small.build());
    fails_clearly(&machine, build(&machine, &layout.reference("plain")), &["plain", "builder"]);
    fails_clearly(&machine, build(&machine, &layout.reference("absent")), &["absent"]);
    layout.add("no-order", &Builder::new(Base::Small).buildpack(web()).image());
    fails_clearly(&machine, build(&machine, &layout.reference("no-order")), &["order"]);
    layout.add("ghost", &Builder::new(Base::Small).group(&["test/ghost@1"]).image());
    fails_clearly(&machine, build(&machine, &layout.reference("ghost")), &["test/ghost"]);
    let gone = Builder::of(Base::Small, &[web()]).run_images(&["oci:/nowhere:run"]);
    fails_clearly(&machine, build(&machine, &builder(&machine, &gone)), &["/nowhere"]);
}

#[test]
fn apps_that_are_not() {
    let Some(machine) = machine() else { return };
    let builder = builder_of(&machine, &[web()]);
    let call = |path: &str| machine.pannier(["build", OUT, "--builder", &builder, "--path", path]);
    machine.write("work/text", "not a zip file");
    fails_clearly(&machine, call("nowhere"), &["nowhere"]);
    fails_clearly(&machine, call("text"), &["text"]);
}

everyone! {
    /// A buildpack that fails: its exit code and its last lines; the image of the last build stays.
    fn a_failing_buildpack(machine: &Machine) {
        build_with(machine, &[web()]);
        let before = built(machine).digest;
        let fails = Buildpack::new("test/fails", "1").build("for n in $(seq 50); do echo \"line $n\"; done; echo last words >&2; exit 23");
        let builder = builder_of(machine, &[web(), fails]);
        fails_clearly(machine, build(machine, &builder), &["test/fails", "23", "last words", "line 50"]);
        assert_eq!(built(machine).digest, before);
        machine.pannier(["doctor", "--store"]).ok();
    }
}

#[test]
fn descriptors_with_errors() {
    let Some(machine) = machine() else { return };
    let broken =
        |id: &str, toml: &str| Buildpack::new(id, "1").file("buildpack.toml", 0o644, toml.to_owned());
    let wrong = broken("test/wrong", "api = \"0.12\"\n[buildpack]\nid = \"test/wrong\"\nversion = = 1\n");
    let output = fails_clearly(
        &machine,
        build(&machine, &builder_of(&machine, &[wrong])),
        &["buildpack.toml", "4", "^"],
    );
    output.says("version = = 1");
    app(&machine);
    machine.write("work/app/project.toml", "[_]\nschema-version = \"0.2\"\n[io.buildpacks\n");
    let good = builder_of(&machine, &[web()]);
    fails_clearly(&machine, build(&machine, &good), &["project.toml", "3", "^"]);
    machine.write("work/app/project.toml", "[_]\nschema-version = \"9.9\"\n");
    fails_clearly(&machine, build(&machine, &good), &["project.toml", "9.9"]);
}

#[test]
fn layer_metadata_with_errors() {
    let Some(machine) = machine() else { return };
    for (script, word) in [
        ("echo 'launch = true' > \"$CNB_LAYERS_DIR/l.toml\"; mkdir \"$CNB_LAYERS_DIR/l\"", "l.toml"),
        ("echo '[types' > \"$CNB_LAYERS_DIR/l.toml\"; mkdir \"$CNB_LAYERS_DIR/l\"", "l.toml"),
        ("echo 'x = ' > \"$CNB_LAYERS_DIR/store.toml\"", "store.toml"),
        ("echo '[[unmet]' > \"$CNB_LAYERS_DIR/build.toml\"", "build.toml"),
    ] {
        let builder = builder_of(&machine, &[Buildpack::new("test/wrong", "1").build(script)]);
        fails_clearly(&machine, build(&machine, &builder), &["test/wrong", word]);
    }
}

#[test]
fn scripts_that_can_not_run() {
    let Some(machine) = machine() else { return };
    let interpreter = Buildpack::new("test/interpreter", "1").file("bin/build", 0o755, "#!/no/such/shell\n");
    fails_clearly(&machine, build(&machine, &builder_of(&machine, &[interpreter])), &["test/interpreter"]);
    let mode = Buildpack::new("test/mode", "1").file("bin/build", 0o644, "#!/bin/sh\n");
    fails_clearly(&machine, build(&machine, &builder_of(&machine, &[mode])), &["test/mode"]);
    let missing = Buildpack::new("test/missing", "1").without("bin/build");
    fails_clearly(&machine, build(&machine, &builder_of(&machine, &[missing])), &["test/missing"]);
}

#[test]
fn registries_that_say_no() {
    let Some(machine) = machine() else { return };
    let registry = Registry::default();
    let host = registry.host();
    let to = format!("docker://{host}/test/run:1");
    machine.pannier(["image", "copy", &Base::Small.run_reference(), &to]).ok();
    let from =
        |name: &str| machine.pannier(["image", "copy", &format!("docker://{host}/{name}"), "oci:copied:it"]);
    fails_clearly(&machine, from("test/absent:1"), &["test/absent"]);
    let answers = [
        (401, "unauthorized"),
        (403, "denied"),
        (404, "test/run"),
        (429, "too many requests"),
        (500, "500"),
        (503, "503"),
    ];
    for (status, words) in answers {
        registry.fail(Kind::ManifestGet, Fault::Status(status), 100);
        registry.fail(Kind::ManifestHead, Fault::Status(status), 100);
        fails_clearly(&machine, from("test/run:1"), &[words, "test/run"]);
        registry.recover();
        assert!(!machine.path("work/copied/index.json").exists());
    }
}

#[test]
fn answers_that_are_wrong() {
    let Some(machine) = machine() else { return };
    for fault in [Fault::WrongByte, Fault::Short(10)] {
        let registry = Registry::default();
        let host = registry.host();
        let to = format!("docker://{host}/test/run:1");
        machine.pannier(["image", "copy", &Base::Small.run_reference(), &to]).ok();
        registry.fail(Kind::BlobGet, fault.clone(), 1000);
        let fresh = Machine::new(PANNIER, Person::Caller);
        let call = fresh.pannier(["run", &format!("{host}/test/run:1"), "--entrypoint", "true"]);
        fails_clearly(&fresh, call, &["sha256:"]);
        fresh.pannier(["doctor", "--store"]).ok();
        let healthy = Registry::default();
        let to = format!("docker://{}/test/run:1", healthy.host());
        fresh.pannier(["image", "copy", &Base::Small.run_reference(), &to]).ok();
        fresh.pannier(["run", &format!("{}/test/run:1", healthy.host()), "--entrypoint", "true"]).ok();
    }
    // One that breaks off is taken up again where it ended.
    let registry = Registry::default();
    let to = format!("docker://{}/test/run:1", registry.host());
    machine.pannier(["image", "copy", &Base::Small.run_reference(), &to]).ok();
    registry.fail(Kind::BlobGet, Fault::CutAnswer(1_000_000), 6);
    registry.fail(Kind::ManifestGet, Fault::Status(503), 1);
    let fresh = Machine::new(PANNIER, Person::Caller);
    fresh.pannier(["run", &format!("{}/test/run:1", registry.host()), "--entrypoint", "true"]).ok();
    assert!(registry.seen().iter().any(|seen| seen.range.is_some()), "it asked for the rest only");
}

#[test]
fn a_spoilt_store() {
    let Some(machine) = machine() else { return };
    let registry = Registry::default();
    let name = format!("{}/test/run:1", registry.host());
    machine.pannier(["image", "copy", &Base::Small.run_reference(), &format!("docker://{name}")]).ok();
    machine.pannier(["run", &name, "--entrypoint", "true"]).ok();
    let blobs = machine.path("home/.local/share/pannier/store/blobs/sha256");
    let mut largest = fs_err::read_dir(&blobs)
        .expect("a store")
        .map(|entry| entry.expect("a blob").path())
        .collect::<Vec<_>>();
    largest.sort_by_key(|path| fs_err::metadata(path).map(|about| about.len()).unwrap_or_default());
    let largest = largest.pop().expect("there are blobs");
    let mut content = fs_err::read(&largest).expect("it can be read");
    let middle = content.len() / 2;
    content[middle] ^= 1;
    // A new file: the old one may have another name in a layout that it came from.
    fs_err::remove_file(&largest).expect("it is there");
    fs_err::write(&largest, content).expect("it can be spoilt");
    let digest = largest.file_name().and_then(|name| name.to_str()).expect("hexadecimal").to_owned();
    machine.pannier(["doctor", "--store"]).fails().says(&digest[..12]);
    machine.pannier(["image", "copy", &name, "oci-archive:a.tar"]).ok();
    testkit::ReadImage::from_archive(&machine.path("work/a.tar"), None);
    machine.pannier(["image", "copy", &format!("docker://{name}"), &name]).ok();
    machine.pannier(["doctor", "--store"]).ok();
}

#[test]
fn a_full_disk() {
    let Some(machine) = machine() else { return };
    let Some(disk) = testkit::SmallDisk::mount(machine.make_dir("disk"), "size=24m") else { return };
    // Room for the layer in the build, not for its blob too.
    let fills = facts(
        "test/fills",
        "layer l launch,cache; head -c 12000000 /dev/urandom > \"$CNB_LAYERS_DIR/l/file\"",
    );
    let app = app(&machine);
    let build = |builder: &str| {
        let call = machine.pannier(["build", "full", "--builder", builder, "--path"]).arg(&app);
        call.env("PANNIER_HOME", disk.path()).run()
    };
    let output = build(&builder_of(&machine, &[fills]));
    let good = build(&builder_of(&machine, &[web()]));
    let verified = machine.pannier(["doctor", "--store"]).env("PANNIER_HOME", disk.path()).run();
    disk.unmount();
    assert!(output.status.code().is_some_and(|code| code != 0), "{output}");
    output.says("space");
    assert!(good.status.success(), "there is room again\n{good}");
    assert!(verified.status.success(), "{verified}");
}

/// Processes whose command line or folder has to do with this machine's folder.
fn processes_in(machine: &Machine) -> Vec<String> {
    let folder = machine.path("").display().to_string();
    let mut found = Vec::new();
    for entry in fs_err::read_dir("/proc").expect("/proc is mounted").flatten() {
        let environment = fs_err::read(entry.path().join("environ")).unwrap_or_default();
        let line = fs_err::read(entry.path().join("cmdline")).unwrap_or_default();
        let text = format!("{} {}", String::from_utf8_lossy(&line), String::from_utf8_lossy(&environment));
        if text.contains(folder.trim_end_matches('/')) || text.contains("pannier-e2e-mark") {
            found.push(format!(
                "{:?} {}",
                entry.file_name(),
                String::from_utf8_lossy(&line).replace('\0', " ")
            ));
        }
    }
    found
}

fn mounts_in(machine: &Machine) -> Vec<String> {
    let folder = machine.path("").display().to_string();
    let mounts = fs_err::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    mounts.lines().filter(|line| line.contains(folder.trim_end_matches('/'))).map(str::to_owned).collect()
}

/// Waits for what is dying to be gone.
fn assert_nothing_left(machine: &Machine) {
    let end = Instant::now() + Duration::from_secs(5);
    while !processes_in(machine).is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(processes_in(machine).is_empty(), "{:#?}", processes_in(machine));
    assert!(mounts_in(machine).is_empty(), "{:#?}", mounts_in(machine));
}

everyone! {
    /// Ctrl-C and SIGTERM in the middle of a build: no process, no mount, no temporary file is left.
    fn interrupted(machine: &Machine) {
        let hangs = facts("test/hangs", "echo hanging; (sleep 1000 &) ; setsid sleep 1000 & trap '' TERM INT; sleep 1000");
        let builder = builder_of(machine, &[hangs]);
        for signal in ["INT", "TERM"] {
            let mut child = build(machine, &builder).start();
            let mut said = Vec::new();
            let mut pipe = child.stdout.take().expect("it is a pipe");
            let mut errors = child.stderr.take().expect("it is a pipe");
            let reader = std::thread::spawn(move || { let mut text = String::new(); let _ = std::io::Read::read_to_string(&mut errors, &mut text); text });
            let end = Instant::now() + Duration::from_secs(20);
            while !String::from_utf8_lossy(&said).contains("hanging") && Instant::now() < end {
                let mut chunk = [0; 4096];
                match std::io::Read::read(&mut pipe, &mut chunk) { Ok(0) | Err(_) => break, Ok(count) => said.extend_from_slice(&chunk[..count]) }
            }
            assert!(String::from_utf8_lossy(&said).contains("hanging"), "{}", reader.join().unwrap_or_default());
            let start = Instant::now();
            let id = child.id().to_string();
            assert!(machine.person().command("kill").args([&format!("-{signal}"), &id]).status().is_ok_and(|status| status.success()));
            let status = child.wait().expect("it ends");
            assert!(!status.success() && start.elapsed() < Duration::from_secs(5), "{status} after {:?}", start.elapsed());
            assert_nothing_left(machine);
            assert!(machine.temporary_files().is_empty(), "{:?}", machine.temporary_files());
            machine.pannier(["doctor", "--store"]).ok();
        }
    }
}

everyone! {
    /// SIGKILL at many moments: the next build works, and the store is sound.
    fn killed(machine: &Machine) {
        let script = "layer deps launch,cache; echo x >> \"$CNB_LAYERS_DIR/deps/file\"; head -c 300000 /dev/urandom > \"$CNB_LAYERS_DIR/deps/data\"";
        let builder = builder_of(machine, &[facts("test/deps", script), web()]);
        let app = app(machine);
        let build = || machine.pannier(["build", "killed", "--builder", &builder, "--path"]).arg(&app);
        let start = Instant::now();
        build().ok();
        let whole = start.elapsed();
        // The fifty moments are spread over who there is: what differs is where they fall.
        let moments = match (machine.person(), Person::all().len()) {
            (Person::Caller, 1) => 50,
            (Person::Caller, _) => 30,
            _ => 10,
        };
        for moment in 0..moments {
            // Every second one is a first build, which unpacks and fills the store.
            if moment % 2 == 1 {
                machine.pannier(["image", "remove", "killed"]).run();
            }
            let mut child = build().start();
            std::thread::sleep(whole.mul_f64(1.1 * f64::from(moment) / f64::from(moments)));
            child.kill().expect("it is there");
            child.wait().expect("it ends");
        }
        assert_nothing_left(machine);
        machine.pannier(["doctor", "--store"]).ok();
        build().ok();
        machine.pannier(["run", "killed"]).ok().says("tool says hello");
        machine.pannier(["prune"]).ok();
        machine.pannier(["doctor", "--store"]).ok();
        machine.pannier(["run", "killed"]).ok();
    }
}

everyone! {
    /// What a buildpack leaves running ends with the build.
    fn daemons_end(machine: &Machine) {
        let forks = facts("test/forks", "setsid bash -c 'exec -a pannier-e2e-mark sleep 1000' >/dev/null 2>&1 & disown; nohup sleep 1000 >/dev/null 2>&1 & exit 0");
        let start = Instant::now();
        build_with(machine, &[forks]);
        assert!(start.elapsed() < Duration::from_secs(60));
        assert_nothing_left(machine);
    }
}
