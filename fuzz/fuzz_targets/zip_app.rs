#![no_main]

#[path = "../../crates/platform/tests/corpus/zip_app.rs"]
mod zip_app;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    zip_app::outcome(input);
});
