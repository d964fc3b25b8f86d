//! A whole image, as the reference lifecycle makes it: every byte of config, labels, history and layers, but for the
//! launcher and the digests that follow from it.

use serde_json::Value;
use testkit::{Base, Buildpack, Image, ReadImage};

use crate::support::*;

/// What the reference made; copied as it is.
const GOLDEN: &str = include_str!("../data/hello-image.json");
const RUN_IMAGE: &str = "127.0.0.1:5000/base-run";

fn golden() -> Value {
    serde_json::from_str(GOLDEN).expect("the data is JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Buildpacks that do what those of the data did: two that make nothing, one with a layer and a process.
fn buildpacks(golden: &Value) -> Vec<Buildpack> {
    let home = "https://github.com/buildpacks/samples/tree/main/buildpacks";
    let about = |id: &str, version: &str, page: &str| {
        let keys = format!("homepage = \"{home}/{page}\"");
        Buildpack::new(id, version).api("0.11").keys(&keys)
    };
    let script = golden["layers"][2]["entries"][3]["content"].as_str().expect("the layer's script");
    let processes = r#"
mkdir "$CNB_LAYERS_DIR/sys-info"
printf '[types]\nlaunch = true\n' > "$CNB_LAYERS_DIR/sys-info.toml"
cp "$CNB_BUILDPACK_DIR/sys-info.sh" "$CNB_LAYERS_DIR/sys-info/sys-info.sh"
printf '[[processes]]\ntype = "sys-info"\ncommand = ["%s/sys-info/sys-info.sh"]\n' "$CNB_LAYERS_DIR" > "$CNB_LAYERS_DIR/launch.toml"
"#;
    vec![
        about("samples/hello-world", "0.0.2", "hello-world"),
        about("samples/hello-moon", "0.0.2", "hello-moon"),
        about("samples/hello-processes", "0.0.1", "hello-process").build(processes).file(
            "sys-info.sh",
            0o755,
            script,
        ),
    ]
}

/// A run image with the config of the data's (its own layers are other ones).
fn run_image(golden: &Value) -> Image {
    let config = &golden["config"]["config"];
    let mut image = Base::Small.run().field("Image", config["Image"].clone());
    for label in
        ["io.buildpacks.base.distro.name", "io.buildpacks.base.distro.version", "io.buildpacks.base.id"]
    {
        image = image.label(label, text(&config["Labels"][label]));
    }
    image.env("CNB_USER_ID", "1000").env("CNB_GROUP_ID", "1000")
}

/// Replaces, in both images alike, what may differ: the digests of the base's layers and of the launcher, the name of
/// the run image and the launcher's version.
fn level(mut config: Value, own: &[(String, String)]) -> Value {
    let mut text = config.to_string();
    for (from, to) in own {
        text = text.replace(from, to);
    }
    config = serde_json::from_str(&text).expect("still JSON");
    // History of the base, and what docker put into it.
    if let Some(history) = config["history"].as_array_mut() {
        history.drain(..2);
    }
    if let Some(fields) = config.as_object_mut() {
        fields.remove("docker_version");
    }
    config
}

#[test]
fn hello() {
    let Some(machine) = machine() else { return };
    let golden = golden();
    let layout = testkit::Layout::new(machine.path("images"));
    layout.add("run", &run_image(&golden));
    let run = layout.reference("run");
    let distro = "[[targets]]\nos = \"linux\"";
    let buildpacks =
        buildpacks(&golden).into_iter().map(|buildpack| buildpack.tables(distro)).collect::<Vec<_>>();
    let builder = builder(&machine, &testkit::Builder::of(Base::Small, &buildpacks).run_images(&[&run]));
    let app = golden["layers"][4]["entries"][1]["content"].as_str().expect("the app");
    machine.write_script("work/golden/app.sh", app);
    machine.pannier(["build", OUT, "--builder", &builder, "--path", "golden"]).ok();
    let image = built(&machine);

    let expected = golden["layers"].as_array().expect("layers");
    assert_eq!(image.layers.len(), expected.len());
    assert_eq!(
        image.created_by()[2..],
        expected[2..].iter().map(|layer| text(&layer["history"]["created_by"])).collect::<Vec<_>>()
    );
    for (found, expected) in image.layers.iter().zip(expected).skip(2) {
        let is_launcher = text(&expected["history"]["created_by"]) == "Buildpacks Application Launcher";
        compare_entries(found, &expected["entries"], is_launcher);
        if !is_launcher {
            assert_eq!(found.diff_id, text(&expected["diff_id"]));
        }
    }
    compare_configs(&image, &golden);
}

fn compare_entries(found: &testkit::read::ReadLayer, expected: &Value, is_launcher: bool) {
    for (found, expected) in found.entries.iter().zip(expected.as_array().expect("entries")) {
        let mode = u32::from_str_radix(text(&expected["mode"]).trim_start_matches("0o"), 8).expect("octal");
        assert_eq!(found.name, text(&expected["name"]));
        assert_eq!(found.kind.to_string(), text(&expected["type"]));
        assert_eq!(found.mode, mode);
        assert_eq!(Some(found.uid), expected["uid"].as_u64());
        assert_eq!(Some(found.gid), expected["gid"].as_u64());
        assert_eq!(Some(found.mtime), expected["mtime"].as_u64());
        assert_eq!(found.link, text(&expected["link"]));
        if !is_launcher {
            assert_eq!(String::from_utf8_lossy(&found.content), text(&expected["content"]), "{}", found.name);
        }
    }
    assert_eq!(found.entries.len(), expected.as_array().expect("entries").len());
}

fn compare_configs(image: &ReadImage, golden: &Value) {
    let mut own = Vec::new();
    for (n, (found, expected)) in
        image.layers.iter().zip(golden["layers"].as_array().expect("layers")).enumerate()
    {
        if n < 2 || found.diff_id != text(&expected["diff_id"]) {
            own.push((found.diff_id.clone(), text(&expected["diff_id"]).to_owned()));
        }
    }
    let metadata = image.json_label("io.buildpacks.lifecycle.metadata");
    let version = image.json_label("io.buildpacks.build.metadata")["launcher"]["version"].clone();
    let theirs: Value =
        serde_json::from_str(text(&golden["config"]["config"]["Labels"]["io.buildpacks.lifecycle.metadata"]))
            .expect("JSON");
    let reference = text(&metadata["runImage"]["reference"]);
    let name = text(&metadata["runImage"]["image"]);
    assert!(reference.contains("sha256:") && !name.is_empty(), "{metadata:#}");
    own.push((escaped(reference), escaped(text(&theirs["runImage"]["reference"]))));
    own.push((escaped(name), escaped(RUN_IMAGE)));
    let launcher = |version: &str| escaped(&format!("\"launcher\":{{\"version\":\"{version}\""));
    own.push((launcher(text(&version)), launcher("0.21.17")));

    let found = level(image.config.clone(), &own);
    let expected = level(golden["config"].clone(), &[]);
    for (name, value) in expected["config"]["Labels"].as_object().expect("labels") {
        assert_eq!(text(&found["config"]["Labels"][name]), text(value), "the label {name}, byte for byte");
    }
    assert_eq!(found, expected);
}

/// As it stands inside of a JSON text's string.
fn escaped(text: &str) -> String {
    let quoted = Value::String(text.to_owned()).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// A tree that the golden data has no name for, but every image has: nothing of the store or of the machine shows up.
#[test]
fn no_trace_of_the_machine() {
    let Some(machine) = machine() else { return };
    let image = build_with(&machine, &[web()]);
    let folder = machine.path("home").display().to_string();
    assert!(!image.config.to_string().contains(&folder));
    for layer in &image.layers {
        for entry in &layer.entries {
            assert!(!String::from_utf8_lossy(&entry.content).contains(&folder), "{}", entry.name);
        }
    }
}
