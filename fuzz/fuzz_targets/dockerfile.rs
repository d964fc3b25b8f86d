#![no_main]

#[path = "../../crates/dockerfile/tests/corpus/dockerfile.rs"]
mod dockerfile;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    dockerfile::outcome(input);
});
