use oci::{Descriptor, Format, ImageConfig, Layer, NewImage, Store, media_type};
use serde_json::{Value, json};

use super::*;

/// An image with this configuration, whose layers nobody reads.
fn image(config: Value) -> Image {
    let temp = tempfile::tempdir().unwrap();
    let blobs = Store::open(temp.path()).unwrap().blobs();
    let config: ImageConfig = serde_json::from_value(config).unwrap();
    let layers = config.rootfs.diff_ids.iter().enumerate().map(|(n, diff_id)| Layer {
        descriptor: Descriptor::new(media_type::OCI_LAYER_GZIP, *diff_id, 1000 + n as u64),
        diff_id: *diff_id,
        blobs: blobs.clone(),
    });
    let layers = layers.collect();
    NewImage { config, layers, format: Format::Oci, annotations: Default::default() }.finish().unwrap()
}

fn golden() -> Value {
    let text = include_str!("../../../cnb/tests/golden/hello-image.json");
    serde_json::from_str::<Value>(text).unwrap()["config"].clone()
}

#[test]
fn an_app_of_the_reference() {
    let found = inspect(&image(golden())).unwrap();
    let app = found.app.unwrap();
    assert_eq!(app.run_image.image, "127.0.0.1:5000/base-run");
    assert!(app.rebasable);
    assert_eq!(app.exec_env.as_deref(), Some("production"));
    let ids: Vec<_> = app.buildpacks.iter().map(|b| b.id.as_str()).collect();
    assert_eq!(ids, ["samples/hello-world", "samples/hello-moon", "samples/hello-processes"]);
    assert_eq!(app.processes.len(), 1);
    assert_eq!(app.processes[0].r#type, "sys-info");
    assert!(!app.processes[0].default);
    assert_eq!(found.base.distro.as_deref(), Some("debian 12"));
    assert_eq!(app.launcher, "0.21.17");
    use LayerKind::*;
    let kinds: Vec<_> = found.layers.iter().map(|layer| layer.kind).collect();
    assert_eq!(kinds, [Base, Base, Buildpack, Sbom, App, Launcher, Config, ProcessTypes]);
    assert_eq!(found.layers[2].name, "samples/hello-processes:sys-info");
    assert!(found.builder.is_none() && found.buildpackage.is_none());
    assert!(found.labels.is_empty());
}

#[test]
fn layers_of_extensions_are_told_from_those_of_the_run_image() {
    let mut config = golden();
    config["history"][1]["created_by"] =
        json!("Layer: 'RUN apt-get install x', Created by extension: some/apt");
    let found = inspect(&image(config.clone())).unwrap();
    assert_eq!((found.layers[1].kind, found.layers[1].name.as_str()), (LayerKind::Extension, "some/apt"));
    assert_eq!((found.layers[0].kind, found.layers[0].name.as_str()), (LayerKind::Base, ""));
    // The run image's top layer is below them, as it is for a rebase.
    let label = config["config"]["Labels"]["io.buildpacks.lifecycle.metadata"].as_str().unwrap();
    let mut metadata: serde_json::Value = serde_json::from_str(label).unwrap();
    metadata["runImage"]["topLayer"] = config["rootfs"]["diff_ids"][0].clone();
    config["config"]["Labels"]["io.buildpacks.lifecycle.metadata"] = json!(metadata.to_string());
    let kinds: Vec<_> = inspect(&image(config.clone())).unwrap().layers.iter().map(|it| it.kind).collect();
    assert_eq!(kinds[..3], [LayerKind::Base, LayerKind::Extension, LayerKind::Buildpack]);
    config["history"] = json!([]);
    assert_eq!(inspect(&image(config)).unwrap().layers[1].kind, LayerKind::Other);
}

#[test]
fn the_default_process_is_the_entrypoint() {
    let mut config = golden();
    config["config"]["Entrypoint"] = json!(["/cnb/process/sys-info"]);
    assert!(inspect(&image(config)).unwrap().app.unwrap().processes[0].default);
}

#[test]
fn a_builder() {
    let labels = json!({
        builder::BUILDER_METADATA: json!({
            "description": "A builder", "stack": {"runImage": {"image": "", "mirrors": null}},
            "buildpacks": [{"id": "a", "version": "1"}, {"id": "a", "version": "1"}, {"id": "b", "version": "2"}],
            "lifecycle": {"version": "0.21.0", "api": {}, "apis": {}},
            "createdBy": {"name": "Pack", "version": "0.40"},
            "images": [{"image": "run", "mirrors": ["other/run"]}],
        }).to_string(),
        builder::BUILDPACK_ORDER: r#"[{"group":[{"id":"a","version":"1"},{"id":"b","optional":true}]}]"#,
        builder::EXTENSION_ORDER: r#"[{"group":[{"id":"e","version":"1"}]}]"#,
        builder::BUILDPACK_LAYERS: json!({
            "a": {"1": {"api": "0.10", "layerDiffID": Digest::of(b"a").to_string()}},
        }).to_string(),
        "maintainer": "me",
    });
    let mut config = json!({
        "os": "linux", "architecture": "amd64", "config": { "Labels": labels },
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(b"base"), Digest::of(b"a")] },
    });
    let found = inspect(&image(config.clone())).unwrap();
    let builder = found.builder.unwrap();
    assert_eq!(builder.buildpacks.len(), 2);
    assert_eq!(builder.run_images, [("run".to_owned(), vec!["other/run".to_owned()])]);
    assert_eq!((builder.created_by.as_str(), builder.lifecycle.as_deref()), ("Pack 0.40", Some("0.21.0")));
    assert!(builder.order[0].group[1].optional);
    assert_eq!(builder.order_extensions[0].group[0].id, "e");
    assert_eq!((found.layers[0].kind, found.layers[1].kind), (LayerKind::Other, LayerKind::Module));
    assert_eq!(found.layers[1].name, "a@1");
    assert_eq!(found.labels["maintainer"], "me");
    assert!(found.app.is_none());
    // As `pack` writes that there are none.
    config["config"]["Labels"][builder::EXTENSION_ORDER] = json!("null");
    assert!(inspect(&image(config)).unwrap().builder.unwrap().order_extensions.is_empty());
}

#[test]
fn any_other_image() {
    let found =
        inspect(&image(json!({ "os": "linux", "architecture": "arm64", "rootfs": { "type": "layers" } })));
    assert_eq!(found.unwrap().platform, "linux/arm64");
}

#[test]
fn a_label_that_is_broken_is_named() {
    let mut config = golden();
    config["config"]["Labels"][label::BUILD_METADATA] = json!("{");
    let error = inspect(&image(config)).unwrap_err();
    assert!(error.to_string().contains("label io.buildpacks.build.metadata"), "{error}");
}
