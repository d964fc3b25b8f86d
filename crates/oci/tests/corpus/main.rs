//! Inputs that fuzzing kept: what comes of each is what came of it before.

mod docker_config;
mod manifest;
mod references;
mod www_authenticate;

use std::path::Path;

#[test]
fn every_kept_file_of_credentials_is_read_as_before() {
    testkit::corpus::check(&corpus("docker_config"), docker_config::outcome);
}

#[test]
fn every_kept_manifest_is_read_as_before() {
    testkit::corpus::check(&corpus("manifest"), manifest::outcome);
}

#[test]
fn every_kept_name_is_read_as_before() {
    testkit::corpus::check(&corpus("references"), references::outcome);
}

#[test]
fn every_kept_challenge_is_read_as_before() {
    testkit::corpus::check(&corpus("www_authenticate"), www_authenticate::outcome);
}

fn corpus(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}
