#![no_main]

#[path = "../../crates/dockerfile/tests/corpus/expansion.rs"]
mod expansion;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    expansion::outcome(input);
});
