//! Inputs that fuzzing kept: what comes of each is what came of it before.

mod dockerfile;
mod expansion;

use std::path::Path;

#[test]
fn every_kept_dockerfile_is_read_as_before() {
    testkit::corpus::check(&corpus("dockerfile"), dockerfile::outcome);
}

#[test]
fn every_kept_word_expands_as_before() {
    testkit::corpus::check(&corpus("expansion"), expansion::outcome);
}

fn corpus(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}
