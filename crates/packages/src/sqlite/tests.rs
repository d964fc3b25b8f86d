//! The databases were made by rpm 4.18 and SQLite (tests/data/README.md).

use std::io::{Read as _, Write as _};

use flate2::read::GzDecoder;
use proptest::prelude::*;

use super::*;

pub(crate) const RPMDB: &[u8] = include_bytes!("../../tests/data/rpmdb.sqlite.gz");
pub(crate) const BEHIND: &[u8] = include_bytes!("../../tests/data/behind.sqlite.gz");
pub(crate) const BEHIND_LOG: &[u8] = include_bytes!("../../tests/data/behind.sqlite-wal.gz");

pub(crate) fn inflate(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// The lengths of all blobs of the table `Packages`.
fn blobs(database: &[u8], log: Option<&[u8]>) -> Result<Vec<usize>, SqliteError> {
    let mut lengths = Vec::new();
    let database = Database::open(file(database), log.map(file))?;
    let found = database.table("Packages", |row| {
        if let [Value::Null, Value::Blob(blob)] = row {
            lengths.push(blob.len());
        }
        Ok::<_, SqliteError>(())
    })?;
    if found { Ok(lengths) } else { invalid("no table") }
}

#[test]
fn goes_through_a_table() {
    let lengths = blobs(&inflate(RPMDB), None).unwrap();
    // What `select length(blob) from Packages` says, in that order.
    let mut expected = vec![14260; 12];
    expected.push(14764);
    assert_eq!(lengths, expected);
    let database = Database::open(file(&inflate(RPMDB)), None).unwrap();
    assert!(!database.table("Missing", |_| Ok::<_, SqliteError>(())).unwrap());
}

#[test]
fn reads_what_is_in_the_log_only() {
    let (database, log) = (inflate(BEHIND), inflate(BEHIND_LOG));
    assert_eq!(blobs(&database, None).unwrap().len(), 1);
    assert_eq!(blobs(&database, Some(&log)).unwrap().len(), 3);
    // A transaction that is not whole, or whose bytes are not those that were written, has not happened.
    assert_eq!(blobs(&database, Some(&log[..log.len() - 1])).unwrap().len(), 1);
    let mut spoilt = log.clone();
    spoilt[5000] ^= 1;
    assert_eq!(blobs(&database, Some(&spoilt)).unwrap().len(), 1);
    assert_eq!(blobs(&database, Some(b"")).unwrap().len(), 1);
}

#[test]
fn says_what_is_no_database() {
    for (bytes, says) in [
        (&b""[..], "too short"),
        (&[b'x'; 4096][..], "does not begin"),
        (&inflate(RPMDB)[..4096], "lead in circles"),
    ] {
        let error = blobs(bytes, None).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn pages_in_circles_end() {
    let mut bytes = inflate(RPMDB);
    // All pages that are interior ones lead to the first page of the table, or what is taken for one.
    let page_size = 4096;
    for number in 1..bytes.len() / page_size {
        let at = number * page_size;
        if bytes[at] == 5 {
            let own = (number as u32 + 1).to_be_bytes();
            bytes[at + 8..at + 12].copy_from_slice(&own);
        }
    }
    let error = blobs(&bytes, None).unwrap_err().to_string();
    assert!(error.contains("circles") || error.contains("overlap"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn spoilt_databases_end_in_errors(
        spoils in prop::collection::vec((0usize..1_000_000, any::<u8>()), 1..40),
        cut in 100usize..1_000_000,
    ) {
        let mut bytes = inflate(RPMDB);
        let length = bytes.len();
        for (at, byte) in spoils {
            bytes[at % length] = byte;
        }
        bytes.truncate(cut);
        let log = inflate(BEHIND_LOG);
        let _ = blobs(&bytes, None);
        let _ = blobs(&bytes, Some(&log));
    }

    #[test]
    fn spoilt_pages_end_in_errors(page in prop::collection::vec(any::<u8>(), 512), kind in 0u8..16) {
        let mut bytes = b"SQLite format 3\0\x02\0\x01\x01\0\x40\x20\x20".to_vec();
        bytes.resize(100, 0);
        bytes.extend(&page);
        bytes.resize(2048, 1);
        bytes[100] = kind;
        let _ = blobs(&bytes, None);
    }

    #[test]
    fn any_record_is_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = record(&bytes);
    }
}
