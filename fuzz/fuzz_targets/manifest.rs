#![no_main]

#[path = "../../crates/oci/tests/corpus/manifest.rs"]
mod manifest;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    manifest::outcome(input);
});
