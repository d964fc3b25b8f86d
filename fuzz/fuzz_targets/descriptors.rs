#![no_main]

// Its name in the crate whose tests have the target.
extern crate pannier_cnb as cnb;

#[path = "../../crates/platform/tests/corpus/descriptors.rs"]
mod descriptors;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    descriptors::outcome(input);
});
