#![no_main]

// Its name in the crate whose tests have the target.
extern crate pannier_layer as layer;

#[path = "../../crates/packages/tests/corpus/package_databases.rs"]
mod package_databases;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    package_databases::outcome(input);
});
