//! Text of strangers on the terminal: images, builders, extensions, registries and files say what they like, and nothing
//! of it moves the cursor, hides text, or looks like a line of ours.

use serde_json::{Value, json};
use testkit::registry::{Kind, Registry};
use testkit::{Base, Builder, Buildpack, Image, Layout, Machine, Output, Person, Tree};

/// Sets the title, recolours by C1, turns text round, and ends the line twice with what looks like ours.
const EVIL: &str = "v\x1b]0;pwned\x07\x1b[31m\u{9b}32m\u{202e}\u{2066}\u{200f}\nerror: forged\n::set-output name=x::y\r\x08\x7f";

/// Places that were tried.
struct Tried(u32);

impl Tried {
    /// That an output has none of it.
    #[track_caller]
    fn look(&mut self, place: &str, output: &Output) {
        self.0 += 1;
        for text in [&output.stdout, &output.stderr] {
            let raw: Vec<char> = text.chars().filter(|c| *c != '\n' && is_raw(*c)).collect();
            assert!(raw.is_empty(), "{place}: {raw:?} in\n{text:?}");
            for line in text.lines() {
                let forged = line.starts_with("error: forged") || line.starts_with("::set-output");
                assert!(!forged, "{place}: {line:?} in\n{text}");
            }
        }
        assert!(output.status.code().is_some_and(|code| code < 128), "{place}: {output}");
        output.never_says("panicked");
    }
}

fn is_raw(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn machine() -> Option<Machine> {
    Base::Small.available().then(|| Machine::new(env!("CARGO_BIN_EXE_pannier"), Person::Caller))
}

#[test]
fn configurations() {
    let Some(machine) = machine() else { return };
    let layout = Layout::new(machine.path("images"));
    let base = || Base::Small.run();
    let images: Vec<(&str, Image)> = vec![
        ("user", base().user(EVIL)),
        ("numeric user", base().user(&format!("7:{EVIL}"))),
        ("folder", base().field("WorkingDir", json!(format!("/{EVIL}")))),
        ("relative folder", base().field("WorkingDir", json!(EVIL))),
        ("command", base().field("Cmd", json!([EVIL, EVIL]))),
        ("entrypoint", base().field("Entrypoint", json!([format!("/{EVIL}")]))),
        ("label", base().label(EVIL, EVIL)),
        ("variable", base().env(EVIL, EVIL)),
        ("stop signal", base().field("StopSignal", json!(EVIL))),
        ("port", base().field("ExposedPorts", json!({ EVIL: {} }))),
        ("wrong type", base().field("Cmd", json!({ EVIL: EVIL }))),
        ("system", base().platform(EVIL, testkit::image::architecture())),
        ("architecture", base().platform("linux", EVIL)),
        ("distribution", base().label("io.buildpacks.base.distro.name", EVIL)),
        ("stack", base().label("io.buildpacks.stack.id", EVIL)),
        ("lifecycle metadata", base().label("io.buildpacks.lifecycle.metadata", EVIL)),
        ("build metadata", base().label("io.buildpacks.build.metadata", format!("{{\"{EVIL}\": 1}}"))),
        (
            "process",
            base().label(
                "io.buildpacks.build.metadata",
                json!({ "processes": [{ "type": EVIL, "command": [EVIL], "args": [], "buildpackID": EVIL }],
                    "buildpacks": [{ "id": EVIL, "version": EVIL, "homepage": EVIL }], "launcher": { "version": EVIL } })
                .to_string(),
            ),
        ),
        ("builder metadata", base().label("io.buildpacks.builder.metadata", EVIL)),
        (
            "builder",
            base().label(
                "io.buildpacks.builder.metadata",
                json!({ "description": EVIL, "createdBy": { "name": EVIL, "version": EVIL },
                    "stack": { "runImage": { "image": EVIL, "mirrors": [EVIL] } },
                    "images": [{ "image": EVIL, "mirrors": [EVIL] }],
                    "lifecycle": { "version": EVIL }, "buildpacks": [{ "id": EVIL, "version": EVIL }] })
                .to_string(),
            ),
        ),
        ("order", base().label("io.buildpacks.buildpack.order", json!([{ "group": [{ "id": EVIL }] }]).to_string())),
        ("file name", base().layer(Tree::new().hard_link("link", &format!("nowhere/{EVIL}")))),
        ("second file name", base().layer(Tree::new().hard_link(&format!("link{EVIL}"), "nowhere"))),
        ("program", base().field("Entrypoint", json!(["/bin/sh", "-c", "exit 3", EVIL]))),
    ];
    let mut tried = Tried(0);
    for (what, image) in &images {
        layout.add("it", image);
        let name = layout.reference("it");
        for arguments in [
            vec!["inspect", &name],
            vec!["builder", "inspect", &name],
            vec!["run", &name],
            vec!["run", &name, "--entrypoint", EVIL],
            vec!["image", "copy", &name, "me/copied:v1"],
            vec!["image", "copy", &name, "docker-archive:copied.tar:me/copied"],
            vec!["build", "oci:out:app", "--path", "/var/empty/none", "--builder", &name],
            vec!["image", "list"],
        ] {
            tried.look(&format!("{what}: {arguments:?}"), &machine.pannier(&arguments).run());
        }
        for verb in [vec!["inspect", &name], vec!["image", "list"]] {
            let output = machine.pannier([&verb[..], &["--output", "json"]].concat()).run();
            tried.look(&format!("{what}: {verb:?} json"), &output);
            let json = serde_json::from_str::<Value>(&output.stdout);
            assert!(json.is_ok() || output.status.code() != Some(0), "{what}: {output}");
        }
    }
    assert!(tried.0 > 100);
}

/// Puts bytes into a layout, and names them.
fn put(layout: &Layout, bytes: &[u8]) -> Value {
    let digest = oci::Digest::of(bytes);
    fs_err::write(layout.blob_path(&digest.to_string()), bytes).expect("it can be written");
    json!({ "mediaType": "", "digest": digest, "size": bytes.len() })
}

#[test]
fn manifests_and_indexes() {
    let Some(machine) = machine() else { return };
    let layout = Layout::new(machine.path("images"));
    let digest = layout.add("it", &Base::Small.run());
    let whole: Value =
        serde_json::from_slice(&fs_err::read(layout.blob_path(&digest)).expect("it is there")).expect("JSON");
    let mut tried = Tried(0);
    type Change<'a> = &'a dyn Fn(&mut Value);
    let changes: [(&str, Change<'_>); 9] = [
        ("media type", &|it| it["mediaType"] = json!(EVIL)),
        ("media type of a layer", &|it| it["layers"][0]["mediaType"] = json!(EVIL)),
        ("media type of the configuration", &|it| it["config"]["mediaType"] = json!(EVIL)),
        ("artifact type", &|it| it["artifactType"] = json!(EVIL)),
        ("digest of a layer", &|it| it["layers"][0]["digest"] = json!(EVIL)),
        ("digest of the configuration", &|it| it["config"]["digest"] = json!(format!("sha256:{EVIL}"))),
        ("annotation", &|it| it["annotations"] = json!({ EVIL: EVIL })),
        ("schema", &|it| it["schemaVersion"] = json!(EVIL)),
        ("layers", &|it| it["layers"] = json!({ EVIL: EVIL })),
    ];
    let registry = Registry::default();
    let look = |tried: &mut Tried, what: &str, name: &str| {
        for arguments in
            [vec!["inspect", name], vec!["run", name], vec!["image", "copy", name, "me/copied:v1"]]
        {
            tried.look(&format!("{what}: {arguments:?}"), &machine.pannier(&arguments).run());
        }
    };
    for (what, change) in changes {
        let mut manifest = whole.clone();
        change(&mut manifest);
        let bytes = manifest.to_string();
        let mut entry = put(&layout, bytes.as_bytes());
        entry["mediaType"] = json!("application/vnd.oci.image.manifest.v1+json");
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "it", EVIL: EVIL });
        let index = json!({ "schemaVersion": 2, "manifests": [entry] });
        fs_err::write(layout.path().join("index.json"), index.to_string()).expect("it can be written");
        look(&mut tried, what, &layout.reference("it"));
        registry.add_manifest("a", "v1", "application/vnd.oci.image.manifest.v1+json", bytes.as_bytes());
        look(&mut tried, what, &format!("docker://{}/a:v1", registry.host()));
        // Names of others in the index.
        let mut other = index;
        other["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = json!(EVIL);
        other["manifests"][0]["platform"] = json!({ "os": EVIL, "architecture": EVIL, "variant": EVIL });
        fs_err::write(layout.path().join("index.json"), other.to_string()).expect("it can be written");
        look(&mut tried, what, &layout.reference("it"));
        look(&mut tried, what, &format!("oci:{}", layout.path().display()));
    }
    assert!(tried.0 > 60);
}

#[test]
fn builders_and_apps() {
    let Some(machine) = machine() else { return };
    machine.write("work/app/app.sh", "");
    let mut tried = Tried(0);
    let layout = Layout::new(machine.path("builders"));
    // As TOML has it.
    let quoted = json!(EVIL).to_string().replace('\u{7f}', "\\u007f");
    let works = || Buildpack::new("test/works", "1").build("true");
    let dockerfile = |text: &str| {
        let extension = Buildpack::extension("test/ext", "1").file("generate/run.Dockerfile", 0o644, text);
        Builder::of(Base::Small, &[works()]).extension(extension).extension_group(&["test/ext"])
    };
    let script = |text: &str| Builder::of(Base::Small, &[Buildpack::new("test/odd", "1").build(text)]);
    let toml =
        |file: &str, text: &str| script(&format!("cat > \"$CNB_LAYERS_DIR/{file}\" <<'END'\n{text}\nEND\n"));
    let builders = [
        (
            "homepage",
            Builder::of(Base::Small, &[works().keys(&format!("homepage = {quoted}\nname = {quoted}"))]),
        ),
        ("key", Builder::of(Base::Small, &[works().keys(&format!("{quoted} = 1"))])),
        ("version", Builder::of(Base::Small, &[works().tables(&format!("[[targets]]\nos = {quoted}"))])),
        ("broken descriptor", Builder::of(Base::Small, &[works().tables(&format!("[{EVIL}"))])),
        ("run image", Builder::of(Base::Small, &[works()]).run_images(&[EVIL])),
        ("instruction", dockerfile(&format!("ARG base_image\nFROM ${{base_image}}\n{EVIL}\n"))),
        (
            "RUN",
            dockerfile(
                "ARG base_image\nFROM ${base_image}\nUSER root\nRUN true '\x1b]0;pwned\x07\u{9b}31m\u{202e}' && false\n",
            ),
        ),
        (
            "LABEL",
            dockerfile("ARG base_image\nFROM ${base_image}\nLABEL \"\x1b[31m\u{9b}\"=\"\u{202e}\x07\"\n"),
        ),
        ("COPY", dockerfile("ARG base_image\nFROM ${base_image}\nCOPY \x1b[31m\u{9b}32m /x\n")),
        ("WORKDIR", dockerfile("ARG base_image\nFROM ${base_image}\nUSER root\nWORKDIR \x1b[31m\u{202e}\n")),
        ("layer", toml("l.toml", &format!("[types]\n{quoted} = {quoted}"))),
        (
            "launch.toml",
            toml("launch.toml", &format!("[[processes]]\ntype = {quoted}\ncommand = [{quoted}]")),
        ),
        ("label of the app", toml("launch.toml", &format!("[[labels]]\nkey = {quoted}\nvalue = {quoted}"))),
        ("broken launch.toml", toml("launch.toml", &format!("[[processes]\n{}", EVIL.replace('\n', " ")))),
        ("unmet", toml("build.toml", &format!("[[unmet]]\nname = {quoted}"))),
        (
            "layer's name",
            script(
                "mkdir \"$CNB_LAYERS_DIR/$(printf 'a\\033[31m\\nerror: forged')\"; printf '[types]\\nlaunch = true\\n' > \"$CNB_LAYERS_DIR/$(printf 'a\\033[31m\\nerror: forged').toml\"",
            ),
        ),
        (
            "plan",
            Builder::of(
                Base::Small,
                &[works().detect(&format!(
                    "cat > \"$CNB_BUILD_PLAN_PATH\" <<'END'\n[[requires]]\nname = {quoted}\nEND\n"
                ))],
            ),
        ),
    ];
    for (what, builder) in builders {
        layout.add("builder", &builder.image());
        let name = layout.reference("builder");
        let build = ["build", "oci:out:app", "--path", "app", "--builder", &name];
        for more in [&[][..], &["--verbose"], &["--quiet"], &["--dry-run"], &["--dry-run=json"]] {
            tried.look(&format!("{what} {more:?}"), &machine.pannier([&build[..], more].concat()).run());
        }
        for verb in [vec!["builder", "inspect", &name], vec!["inspect", "oci:out:app"]] {
            tried.look(&format!("{what} {verb:?}"), &machine.pannier(verb).run());
        }
    }
    layout.add("builder", &Builder::of(Base::Small, &[works()]).image());
    let name = layout.reference("builder");
    for project in [
        format!("[_]\nschema-version = {quoted}\n"),
        format!("[_]\nschema-version = \"0.2\"\n[{quoted}]\n"),
        format!("[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\nid = {quoted}\n"),
        format!("[_]\nschema-version = \"0.2\"\n{}\n", EVIL.replace('\n', " ")),
        format!(
            "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.build.env]]\nname = {quoted}\nvalue = {quoted}\n"
        ),
    ] {
        machine.write("work/app/project.toml", &project);
        let output = machine.pannier(["build", "oci:out:app", "--path", "app", "--builder", &name]).run();
        tried.look(&project, &output);
    }
}

#[test]
fn registries_and_arguments() {
    let Some(machine) = machine() else { return };
    let mut tried = Tried(0);
    let registry = Registry::default();
    let name = format!("docker://{}/a:v1", registry.host());
    for fault in [
        testkit::registry::Fault::Says(404, EVIL.to_owned()),
        testkit::registry::Fault::Says(403, EVIL.to_owned()),
    ] {
        registry.fail(Kind::ManifestGet, fault, 1);
        tried.look("a registry", &machine.pannier(["inspect", &name]).run());
    }
    for arguments in [
        vec!["inspect", EVIL],
        vec![EVIL],
        vec!["build", EVIL],
        vec!["build", "--publish", EVIL, "--builder", EVIL],
        vec!["build", "app", "--path", EVIL],
        vec!["build", "app", "--pull-policy", EVIL],
        vec!["build", "app", "--env", EVIL, "--volume", EVIL],
        vec!["image", "list", "--output", EVIL],
        vec!["image", "copy", EVIL, EVIL],
        vec!["image", "remove", EVIL],
        vec!["inspect", "app", "--registry-ca", EVIL],
        vec!["inspect", "app", "--insecure-registry", EVIL],
        vec!["run", EVIL],
        vec!["builder", "create", EVIL, "--config", EVIL],
        vec!["builder", "inspect", EVIL],
    ] {
        tried.look(&format!("{arguments:?}"), &machine.pannier(&arguments).run());
        if let [.., last] = arguments[..]
            && last == EVIL
        {
            let joined = format!("--output={EVIL}");
            tried.look("an option", &machine.pannier(["image", "list", &joined]).run());
        }
    }
    tried.look("a home", &machine.pannier(["doctor", "--home", EVIL]).run());
}
