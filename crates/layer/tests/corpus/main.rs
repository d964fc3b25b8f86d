//! Inputs that fuzzing kept: what comes of each is what came of it before.

mod layer_reader;

use std::path::Path;

#[test]
fn every_kept_layer_is_unpacked_as_before() {
    testkit::corpus::check(&corpus("layer_reader"), layer_reader::outcome);
}

fn corpus(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}
