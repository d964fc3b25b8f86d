#![no_main]

#[path = "../../crates/layer/tests/corpus/layer_reader.rs"]
mod layer_reader;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    layer_reader::outcome(input);
});

// A wrong checksum ends the reading of a tar, so chance would never come far.
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    if !seed.is_multiple_of(16) {
        mend_checksums(&mut data[..size]);
    }
    size
});

/// Puts the right checksum into every header that a reader would come to.
fn mend_checksums(tar: &mut [u8]) {
    let mut at = 0;
    while let Some(block) = tar.get_mut(at..at + 512) {
        at += 512;
        if block.iter().all(|byte| *byte == 0) {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let digits = block[124..136].iter().take_while(|byte| (b'0'..=b'7').contains(byte));
        let size =
            digits.fold(0usize, |size, digit| size.wrapping_mul(8).wrapping_add(usize::from(digit - b'0')));
        if matches!(block[156], 0 | b'0' | b'7' | b'S' | b'x' | b'g' | b'L' | b'K') {
            at = at.saturating_add(size.checked_next_multiple_of(512).unwrap_or(usize::MAX - 512));
        }
        if at > tar.len() {
            return;
        }
    }
}
