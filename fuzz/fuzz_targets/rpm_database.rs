#![no_main]

// Its name in the crate whose tests have the target.
extern crate pannier_layer as layer;

#[path = "../../crates/packages/tests/corpus/rpm_database.rs"]
mod rpm_database;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    rpm_database::outcome(input);
});

// A wrong checksum ends the reading of a log, so chance would never come far.
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    if !seed.is_multiple_of(16) {
        mend_log(&mut data[..size]);
    }
    size
});

const HEADER: usize = 32;
const FRAME: usize = 24;

/// Puts the right sums and salts into the log behind the database.
fn mend_log(input: &mut [u8]) {
    let page_size = rpm_database::page_size(input);
    let at = rpm_database::split(input).0.len();
    let log = &mut input[at..];
    if log.len() < HEADER || page_size == 0 {
        return;
    }
    let big_endian = log[3] & 1 == 1;
    log[..4].copy_from_slice(&[0x37, 0x7f, 0x06, 0x82 | u8::from(big_endian)]);
    log[8..12].copy_from_slice(&(page_size as u32).to_be_bytes());
    let (header, frames) = log.split_at_mut(HEADER);
    let mut sums = (0, 0);
    add(&mut sums, &header[..24], big_endian);
    put(&mut header[24..32], sums);
    for frame in frames.chunks_exact_mut(FRAME + page_size) {
        frame[8..16].copy_from_slice(&header[16..24]);
        add(&mut sums, &frame[..8], big_endian);
        add(&mut sums, &frame[FRAME..], big_endian);
        put(&mut frame[16..24], sums);
    }
}

fn add((a, b): &mut (u32, u32), bytes: &[u8], big_endian: bool) {
    for pair in bytes.chunks_exact(8) {
        let [first, second] = [&pair[..4], &pair[4..]].map(|it| {
            let word = [it[0], it[1], it[2], it[3]];
            if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
        });
        *a = a.wrapping_add(first).wrapping_add(*b);
        *b = b.wrapping_add(second).wrapping_add(*a);
    }
}

fn put(to: &mut [u8], (a, b): (u32, u32)) {
    to[..4].copy_from_slice(&a.to_be_bytes());
    to[4..].copy_from_slice(&b.to_be_bytes());
}
