//! Builders with extensions: made from a `builder.toml`, inspected, read by the reference.

use testkit::{Base, Buildpack, Layout, Machine};

use crate::support::*;

/// Writes a `builder.toml` with two extensions, one of them twice.
fn configuration(machine: &Machine) {
    facts("me/mine", "fact who me").write(&machine.make_dir("work/mine"));
    let one = Buildpack::extension("me/one", "1").keys("homepage = \"https://example.com/one\"");
    one.generate("echo one generates").write(&machine.make_dir("work/one"));
    Buildpack::extension("me/one", "2").write(&machine.make_dir("work/one-2"));
    let layout = Layout::new(machine.path("images"));
    layout.add("package", &Buildpack::extension("me/two", "1.0.0").package(&[]));
    let (base, package) = (Base::Small.layout().path().display(), layout.reference("package"));
    machine.write(
        "work/builder.toml",
        format!(
            "[[buildpacks]]\nuri = \"mine\"\n[[order]]\ngroup = [{{ id = \"me/mine\" }}]\n\
             [[extensions]]\nid = \"me/one\"\nversion = \"1\"\nuri = \"one\"\n\
             [[extensions]]\nuri = \"one-2\"\n[[extensions]]\nuri = \"{package}\"\n\
             [[order-extensions]]\ngroup = [{{ id = \"me/two\" }}, {{ id = \"me/one\", version = \"1\" }}]\n\
             [build]\nimage = \"oci:{base}:build\"\n[[run.images]]\nimage = \"oci:{base}:run\"\n"
        ),
    );
}

everyone! {
    /// Made here, a builder has its extensions in layers, labels and order, and builds with them.
    fn are_made(machine: &Machine) {
        configuration(machine);
        machine.pannier(["builder", "create", "oci:b:b", "--config", "builder.toml"]).ok();
        let image = testkit::ReadImage::from_layout(&machine.path("work/b"), Some("b"));
        let order = image.json_label("io.buildpacks.buildpack.order-extensions");
        let group = serde_json::json!([{"id": "me/two", "version": "1.0.0"}, {"id": "me/one", "version": "1"}]);
        assert_eq!(order, serde_json::json!([{ "group": group }]));
        let metadata = image.json_label("io.buildpacks.builder.metadata");
        let one = serde_json::json!({"id": "me/one", "version": "1", "homepage": "https://example.com/one"});
        assert_eq!(metadata["extensions"][0], one);
        assert_eq!(metadata["extensions"].as_array().map(Vec::len), Some(3));
        let layers = image.json_label("io.buildpacks.extension.layers");
        assert!(layers["me/two"]["1.0.0"]["layerDiffID"].is_string() && layers["me/one"]["2"].is_object());
        assert!(image.text("/cnb/order.toml").contains("[[order-extensions]]"));
        assert!(image.entry("/cnb/extensions/me_one/2/extension.toml").is_some());

        let shown = machine.pannier(["builder", "inspect", "oci:b:b"]).ok();
        shown.says("Extensions").says("me/one  2").says("1  me/two@1.0.0, me/one@1");
        build(machine, "oci:b:b").ok().says("one generates");
        let metadata = built(machine).json_label("io.buildpacks.build.metadata");
        let one = serde_json::json!({"id": "me/one", "version": "1", "homepage": "https://example.com/one"});
        assert_eq!(metadata["extensions"], serde_json::json!([{"id": "me/two", "version": "1.0.0"}, one]));
        machine.pannier(["inspect", OUT]).ok().says("Extensions").says("me/two  1.0.0");
    }
}

#[test]
fn an_order_of_extensions_that_are_not_there() {
    let Some(machine) = machine() else { return };
    configuration(&machine);
    let create = |from: &str, to: &str| {
        let text = fs_err::read_to_string(machine.path("work/builder.toml")).unwrap();
        assert!(text.contains(from), "{text}");
        machine.write("work/wrong.toml", text.replace(from, to));
        machine.pannier(["builder", "create", "b", "--config", "wrong.toml"]).fails()
    };
    create("id = \"me/two\"", "id = \"me/gone\"").says("me/gone").says("wrong.toml:");
    create("uri = \"one-2\"", "uri = \"mine\"").says("extension.toml");
    create("group = [{ id = \"me/two\" }, ", "group = [{ id = \"me/one\" }, ").says("me/one");
    create("id = \"me/one\"\nversion = \"1\"\nuri", "id = \"me/other\"\nversion = \"1\"\nuri")
        .says("me/other");
}
