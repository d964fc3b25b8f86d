//! rpm's database: a file of SQLite's, and behind it in the same input, where there is more, its write-ahead log.

use std::path::Path;

use fs_err as fs;
use layer::Root;
use pannier_packages::{ReadError, read};

/// What comes of reading `input` as a database and its log.
pub fn outcome(input: &[u8]) -> String {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let (database, log) = split(input);
    let folder = dir.path().join("var/lib/rpm");
    fs::create_dir_all(&folder).unwrap();
    write(&folder.join("rpmdb.sqlite"), database);
    if !log.is_empty() {
        write(&folder.join("rpmdb.sqlite-wal"), log);
    }
    match read(&Root::open(dir.path()).unwrap()) {
        Ok(None) => panic!("a database that is there is not found"),
        Ok(Some(set)) => {
            for package in set.packages() {
                assert!(!package.name.is_empty() && set.purl(package).starts_with("pkg:rpm/"), "{package:?}");
            }
            format!("{} packages", set.packages().len())
        }
        Err(ReadError::Path(_)) => "cannot be read".to_owned(),
        Err(ReadError::TooLarge { .. }) => "too large".to_owned(),
        Err(ReadError::Sqlite { source, .. }) => source.to_string(),
        Err(ReadError::Header { reason, .. }) => format!("a header: {reason}"),
        Err(error) => error.to_string(),
    }
}

/// Where the log begins: the database says how many pages it has.
pub fn split(input: &[u8]) -> (&[u8], &[u8]) {
    let size = page_size(input);
    let pages = input.get(28..32).map_or(0, |it| u32::from_be_bytes([it[0], it[1], it[2], it[3]]));
    let length = size.saturating_mul(pages as usize);
    input.split_at(if length == 0 { input.len() } else { length.min(input.len()) })
}

/// The size of a page, as the database says it.
pub fn page_size(input: &[u8]) -> usize {
    match input.get(16..18).map_or(0, |it| u16::from_be_bytes([it[0], it[1]])) {
        1 => 65536,
        size => usize::from(size),
    }
}

fn write(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
}
