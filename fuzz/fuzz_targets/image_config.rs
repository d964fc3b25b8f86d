#![no_main]

// Its name in the crate whose tests have the target.
extern crate pannier_oci as oci;

#[path = "../../crates/platform/tests/corpus/image_config.rs"]
mod image_config;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    image_config::outcome(input);
});
