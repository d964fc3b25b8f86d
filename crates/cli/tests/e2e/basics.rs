//! One build and one run, and the options of `pannier build`.

use testkit::{Base, Builder, Buildpack, Machine, Person, ReadImage};

use crate::support::*;

everyone! {
    /// The main job: source to image, image to process.
    fn builds_and_runs(machine: &Machine) {
        let builder = builder_of(machine, &[web()]);
        let before = snapshot(&app(machine));
        build(machine, &builder).ok().says("web has built");
        assert_eq!(snapshot(&machine.path("work/app")), before, "the user's folder is never written");

        let image = built(machine);
        assert_eq!(image.text("/workspace/app.sh"), "#!/usr/bin/env bash\necho the app runs\n");
        assert_eq!(image.config["config"]["Entrypoint"][0], "/cnb/process/web");
        assert_eq!(image.config["config"]["WorkingDir"], "/workspace");
        assert_eq!(image.entry("/workspace/app.sh").map(|entry| (entry.uid, entry.gid)), Some((1000, 1000)));

        let run = |arguments: &[&str]| machine.pannier(["run", OUT]).args(arguments).ok().stdout;
        assert_eq!(run(&[]), "tool says hello\n");
        assert_eq!(run(&["--", "other", "words"]), "tool says other words\n");
        assert_eq!(run(&["--entrypoint", "/cnb/lifecycle/launcher", "--", "bash", "./app.sh"]), "the app runs\n");
        assert!(machine.temporary_files().is_empty(), "{:?}", machine.temporary_files());
    }
}

everyone! {
    /// The local store: a name, and nothing else.
    fn builds_into_the_store(machine: &Machine) {
        let builder = builder_of(machine, &[web()]);
        let app = app(machine);
        let build = || machine.pannier(["build", "my-app", "--tag", "my-app:two", "--builder", &builder, "--path"]).arg(&app);
        build().ok();
        machine.pannier(["run", "my-app"]).ok().says("tool says hello");
        machine.pannier(["run", "my-app:two"]).ok().says("tool says hello");
        machine.pannier(["image", "list"]).ok().says("my-app").says("two");
        machine.pannier(["inspect", "my-app"]).ok().says("test/web").says("web");

        let digest = |output: &str| output.split_whitespace().find(|word| word.contains("sha256:")).map(str::to_owned);
        let first = digest(&build().arg("--quiet").ok().stdout);
        assert!(first.is_some(), "a quiet build prints the name and the digest");
        assert_eq!(digest(&build().arg("--quiet").ok().stdout), first, "the same again");

        machine.pannier(["image", "remove", "my-app"]).ok();
        machine.pannier(["run", "my-app"]).fails().says("my-app");
        machine.pannier(["run", "my-app:two"]).ok();
        machine.pannier(["image", "remove", "my-app:two"]).ok();
        machine.pannier(["prune"]).ok();
        machine.pannier(["doctor", "--store"]).ok();
    }
}

#[test]
fn a_debian_base() {
    if !Base::Debian.available() {
        return;
    }
    for person in Person::all() {
        let machine = Machine::new(PANNIER, person);
        let reads = facts(
            "test/reads",
            "fact distro \"$CNB_TARGET_DISTRO_NAME $CNB_TARGET_DISTRO_VERSION\"; fact perl \"$(perl -e 'print 6*7')\"",
        );
        let builder = builder(&machine, &Builder::of(Base::Debian, &[reads, web()]));
        build(&machine, &builder).ok();
        let image = built(&machine);
        assert_eq!(fact(&image, "test/reads", "distro"), "debian 12");
        assert_eq!(fact(&image, "test/reads", "perl"), "42");
        let run = machine.pannier([
            "run",
            OUT,
            "--entrypoint",
            "bash",
            "--",
            "-c",
            "id -un; cat /etc/debian_version",
        ]);
        let said = run.ok().stdout;
        assert!(said.starts_with("cnb\n12."), "{said}");
    }
}

#[test]
fn a_run_image_without_a_shell() {
    let Some(machine) = machine() else { return };
    let echo = Buildpack::new("test/echo", "1").build(
        r#"cat > "$CNB_LAYERS_DIR/launch.toml" <<END
[[processes]]
type = "web"
command = ["/bin/echo", "no shell"]
args = ["here"]
default = true
END"#,
    );
    let builder = builder(&machine, &Builder::of(Base::Shellless, &[echo]));
    build(&machine, &builder).ok();
    assert_eq!(machine.pannier(["run", OUT]).ok().stdout, "no shell here\n");
    assert_eq!(machine.pannier(["run", OUT, "--", "there"]).ok().stdout, "no shell there\n");
}

#[test]
fn a_zip_file() {
    testkit::needs!("zip");
    let Some(machine) = machine() else { return };
    let app = app(&machine);
    machine.call("zip", ["-q", "-r", "../app.zip", "."]).current_dir(&app).ok();
    let builder = builder_of(&machine, &[web()]);
    machine.pannier(["build", OUT, "--builder", &builder, "--path", "app.zip"]).ok();
    let entry = built(&machine).entry("/workspace/app.sh").cloned().expect("it was in the zip file");
    assert_eq!((entry.mode, entry.content), (0o755, b"#!/usr/bin/env bash\necho the app runs\n".to_vec()));
}

#[test]
fn variables_for_buildpacks() {
    let Some(machine) = machine() else { return };
    let script = "for name in A B C D FROM_HOST; do fact $name \"${!name-unset}\"; done; fact files \"$(ls $CNB_PLATFORM_DIR/env | tr '\\n' ' ')\"";
    let builder = builder_of(&machine, &[facts("test/env", script)]);
    machine.write("work/env", "A=file\nB=file\nFROM_HOST\n# a comment\n");
    let call = build(&machine, &builder).env("FROM_HOST", "host value").env("C", "not passed on");
    call.args(["--env-file", "env", "--env", "B=flag", "--env", "D=with=equals"]).ok();
    let image = built(&machine);
    let fact = |name| fact(&image, "test/env", name);
    let found = ["A", "B", "C", "D", "FROM_HOST", "files"].map(fact);
    assert_eq!(found, ["file", "flag", "unset", "with=equals", "host value", "A B D FROM_HOST "]);
    assert_eq!(image.env("A"), None, "build variables stay out of the image");
}

#[test]
fn the_descriptor() {
    let Some(machine) = machine() else { return };
    app(&machine);
    machine.write("work/app/secret.key", "x");
    machine.write("work/app/docs/guide.md", "x");
    machine.write("work/app/docs/keep.md", "x");
    let descriptor = "[_]\nschema-version = \"0.2\"\n[io.buildpacks]\nexclude = [\"*.key\", \"docs/*\", \"!docs/keep.md\"]\n\
                      [[io.buildpacks.build.env]]\nname = \"FROM_DESCRIPTOR\"\nvalue = \"yes\"\n";
    machine.write("work/app/project.toml", descriptor);
    let script =
        "fact env \"${FROM_DESCRIPTOR-unset}\"; fact files \"$(find . -type f | sort | tr '\\n' ' ')\"";
    let builder = builder_of(&machine, &[facts("test/look", script)]);
    build(&machine, &builder).ok();
    let image = built(&machine);
    assert_eq!(fact(&image, "test/look", "env"), "yes");
    assert_eq!(fact(&image, "test/look", "files"), "./app.sh ./docs/keep.md ./project.toml ");
    assert!(image.entry("/workspace/secret.key").is_none());

    machine
        .write("work/other.toml", "[_]\nschema-version = \"0.2\"\n[io.buildpacks]\ninclude = [\"app.sh\"]\n");
    build(&machine, &builder).args(["--descriptor", "other.toml"]).ok();
    assert_eq!(fact(&built(&machine), "test/look", "files"), "./app.sh ");
    build(&machine, &builder).args(["--descriptor", "missing.toml"]).fails().says("missing.toml");
}

#[test]
fn buildpacks_from_elsewhere() {
    let Some(machine) = machine() else { return };
    let builder = builder_of(&machine, &[web()]);
    let extra = |id: &str| facts(id, "echo \"$CNB_BUILDPACK_DIR\" > /dev/null; fact here yes");
    for id in ["test/first", "test/last", "test/only"] {
        extra(id).write(&machine.path(format!("work/packs/{}", &id[5..])));
    }
    machine.call("tar", ["-C", "packs/last", "-czf", "last.tgz", "."]).ok();

    build(&machine, &builder).args(["--pre-buildpack", "packs/first", "--post-buildpack", "last.tgz"]).ok();
    assert_eq!(participants(&built(&machine)), ["test/first", "test/web", "test/last"]);
    build(&machine, &builder).args(["--buildpack", "packs/only"]).ok();
    assert_eq!(participants(&built(&machine)), ["test/only"]);
    build(&machine, &builder).args(["--buildpack", "packs/only,test/web@1.0.0"]).ok();
    assert_eq!(participants(&built(&machine)), ["test/only", "test/web"]);
    build(&machine, &builder).args(["--buildpack", "packs/only", "--buildpack", "from=builder"]).ok();
    assert_eq!(participants(&built(&machine)), ["test/only", "test/web"]);
    build(&machine, &builder).args(["--buildpack", "test/missing"]).fails().says("test/missing");
}

#[test]
fn other_options() {
    let Some(machine) = machine() else { return };
    let two = Buildpack::new("test/two", "1").build(
        r#"printf '[[processes]]\ntype = "a"\ncommand = ["echo", "a"]\n[[processes]]\ntype = "b"\ncommand = ["echo", "b"]\n' > "$CNB_LAYERS_DIR/launch.toml"
printf '{"bomFormat":"CycloneDX"}' > "$CNB_LAYERS_DIR/launch.sbom.cdx.json"
id -u > /tmp/uid; id -g >> /tmp/uid; pwd >> /tmp/uid; cat /tmp/uid"#,
    );
    let two = two.keys("sbom-formats = [\"application/vnd.cyclonedx+json\"]");
    let builder = builder_of(&machine, &[two]);
    let options = [
        "--default-process",
        "b",
        "--creation-time",
        "1700000000",
        "--workspace",
        "code",
        "--compression",
        "none",
    ];
    let folders =
        ["--sbom-output-dir", "sbom", "--report-output-dir", "report", "--uid", "1234", "--gid", "4321"];
    build(&machine, &builder).args(options).args(folders).ok().says("1234").says("4321").says("/code");
    let image = built(&machine);
    assert_eq!(image.config["config"]["Entrypoint"][0], "/cnb/process/b");
    assert_eq!(image.config["created"], "2023-11-14T22:13:20Z");
    assert_eq!(image.config["config"]["WorkingDir"], "/code");
    assert_eq!(image.env("CNB_APP_DIR"), Some("/code"));
    assert_eq!(image.entry("/code/app.sh").map(|entry| (entry.uid, entry.gid)), Some((1234, 4321)));
    let plain = image.manifest["layers"].as_array().into_iter().flatten();
    let plain = plain.filter(|layer| layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar").count();
    assert!(plain >= 4, "our layers are not compressed: {:#}", image.manifest);
    let sbom = machine.path("work/sbom");
    let found = snapshot(&sbom).into_iter().any(|(path, ..)| path.ends_with("launch/test_two/sbom.cdx.json"));
    assert!(found, "{:?}", snapshot(&sbom));
    let report = fs_err::read_to_string(machine.path("work/report/report.toml")).expect("there is a report");
    let id = image.manifest["config"]["digest"].as_str().expect("a manifest has a config");
    assert!(report.contains(&format!("image-id = \"{id}\"")), "{report}");

    build(&machine, &builder).args(["--default-process", "nothing"]).fails().says("nothing");
}

#[test]
fn layouts_are_replaced_not_grown() {
    let Some(machine) = machine() else { return };
    let builder = builder_of(&machine, &[web()]);
    build(&machine, &builder).ok();
    let first = built(&machine).digest;
    machine.write_script("work/app/app.sh", "#!/bin/sh\necho changed\n");
    machine.pannier(["build", OUT, "--builder", &builder, "--path", "app"]).ok();
    let image = ReadImage::from_layout(&machine.path("work/out"), Some("app"));
    assert_ne!(image.digest, first);
    assert_eq!(image.text("/workspace/app.sh"), "#!/bin/sh\necho changed\n");
}
