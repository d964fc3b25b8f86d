//! Inputs that fuzzing kept: what comes of each is what came of it before.

mod docker_config;
mod manifest;
mod references;
mod www_authenticate;

#[test]
fn every_kept_file_of_credentials_is_read_as_before() {
    testkit::corpus::check(env!("CARGO_MANIFEST_DIR"), "docker_config", docker_config::outcome);
}

#[test]
fn every_kept_manifest_is_read_as_before() {
    testkit::corpus::check(env!("CARGO_MANIFEST_DIR"), "manifest", manifest::outcome);
}

#[test]
fn every_kept_name_is_read_as_before() {
    testkit::corpus::check(env!("CARGO_MANIFEST_DIR"), "references", references::outcome);
}

#[test]
fn every_kept_challenge_is_read_as_before() {
    testkit::corpus::check(env!("CARGO_MANIFEST_DIR"), "www_authenticate", www_authenticate::outcome);
}
