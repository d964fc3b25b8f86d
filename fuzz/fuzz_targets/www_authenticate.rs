#![no_main]

#[path = "../../crates/oci/tests/corpus/www_authenticate.rs"]
mod www_authenticate;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    www_authenticate::outcome(input);
});
