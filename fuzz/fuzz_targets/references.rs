#![no_main]

#[path = "../../crates/oci/tests/corpus/references.rs"]
mod references;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    references::outcome(input);
});
