//! Inputs that fuzzing kept: what comes of each is what came of it before.

mod layer_reader;

#[test]
fn every_kept_layer_is_unpacked_as_before() {
    testkit::corpus::check(env!("CARGO_MANIFEST_DIR"), "layer_reader", layer_reader::outcome);
}
