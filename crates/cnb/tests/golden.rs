//! What we write is, byte for byte, what the reference writes: against a whole image that it made.
#![cfg(feature = "full")]

use pannier_cnb::ApiVersion;
use pannier_cnb::label::{self, LayersMetadata, ProjectMetadata};
use pannier_cnb::launch::LaunchMetadata;
use pannier_cnb::metadata::{BuildLabel, BuildMetadata};
use serde_json::Value;

const PLATFORM: ApiVersion = ApiVersion::PLATFORM_LATEST;

fn image() -> Value {
    serde_json::from_str(include_str!("golden/hello-image.json")).unwrap()
}

fn label(name: &str) -> String {
    image()["config"]["config"]["Labels"][name].as_str().unwrap().to_owned()
}

fn metadata_toml() -> String {
    let image = image();
    let entry = image["layers"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|layer| layer["entries"].as_array())
        .flatten()
        .find(|entry| entry["name"] == "/layers/config/metadata.toml")
        .unwrap();
    entry["content"].as_str().unwrap().to_owned()
}

#[test]
fn metadata_toml_is_the_same() {
    let text = metadata_toml();
    let metadata = BuildMetadata::parse("metadata.toml", &text).unwrap();
    assert_eq!(metadata.processes[0].r#type, "sys-info");
    assert_eq!(metadata.to_toml(PLATFORM), text);
    let launch = LaunchMetadata::parse("metadata.toml", &text).unwrap();
    assert_eq!(launch.processes, metadata.processes);
    assert_eq!(launch.buildpacks[2].api, ApiVersion::new(0, 11));
}

#[test]
fn the_label_of_the_build_is_the_same() {
    let text = label(label::BUILD_METADATA);
    let metadata = BuildMetadata::parse("metadata.toml", &metadata_toml()).unwrap();
    let read = BuildLabel::parse("label", &text).unwrap();
    assert_eq!(read.processes, metadata.processes);
    assert_eq!(metadata.to_json(&read.launcher, PLATFORM), text);
}

#[test]
fn the_label_of_the_layers_is_the_same() {
    let text = label(label::LIFECYCLE_METADATA);
    let metadata = LayersMetadata::parse("label", &text).unwrap();
    assert!(metadata.buildpack("samples/hello-processes").unwrap().layers["sys-info"].types.launch);
    assert_eq!(metadata.to_json(), text);
    assert_eq!(metadata.stack, Some(metadata.run_image.to_stack()));
}

#[test]
fn the_label_of_the_project_is_the_same() {
    assert_eq!(ProjectMetadata::default().to_json(), label(label::PROJECT_METADATA));
}
