#![no_main]

#[path = "../../crates/oci/tests/corpus/docker_config.rs"]
mod docker_config;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    docker_config::outcome(input);
});
