//! Inputs that fuzzing kept: what comes of each is what came of it before.

mod dockerfile;
mod expansion;

#[test]
fn every_kept_dockerfile_is_read_as_before() {
    testkit::corpus::check(env!("CARGO_MANIFEST_DIR"), "dockerfile", dockerfile::outcome);
}

#[test]
fn every_kept_word_expands_as_before() {
    testkit::corpus::check(env!("CARGO_MANIFEST_DIR"), "expansion", expansion::outcome);
}
