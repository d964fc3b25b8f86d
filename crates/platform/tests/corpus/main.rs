//! Inputs that fuzzing kept: what comes of each is what came of it before.

mod descriptors;
mod image_config;
mod zip_app;

#[test]
fn every_kept_descriptor_is_read_as_before() {
    testkit::corpus::check(env!("CARGO_MANIFEST_DIR"), "descriptors", descriptors::outcome);
}

#[test]
fn every_kept_configuration_is_read_as_before() {
    testkit::corpus::check(env!("CARGO_MANIFEST_DIR"), "image_config", image_config::outcome);
}

#[test]
fn every_kept_zip_file_is_unpacked_as_before() {
    testkit::corpus::check(env!("CARGO_MANIFEST_DIR"), "zip_app", zip_app::outcome);
}
