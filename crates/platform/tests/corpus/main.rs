//! Inputs that fuzzing kept: what comes of each is what came of it before.

mod descriptors;
mod image_config;
mod zip_app;

use std::path::Path;

#[test]
fn every_kept_descriptor_is_read_as_before() {
    testkit::corpus::check(&corpus("descriptors"), descriptors::outcome);
}

#[test]
fn every_kept_configuration_is_read_as_before() {
    testkit::corpus::check(&corpus("image_config"), image_config::outcome);
}

#[test]
fn every_kept_zip_file_is_unpacked_as_before() {
    testkit::corpus::check(&corpus("zip_app"), zip_app::outcome);
}

fn corpus(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}
