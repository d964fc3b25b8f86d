use fs_err as fs;
use proptest::prelude::*;

use super::*;
use crate::sqlite::tests::{BEHIND, BEHIND_LOG, RPMDB, inflate};

fn root(files: &[(&str, Vec<u8>)]) -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let root = Root::open(dir.path()).unwrap();
    (dir, root)
}

#[test]
fn reads_a_database_that_rpm_made() {
    let (_dir, root) = root(&[("var/lib/rpm/rpmdb.sqlite", inflate(RPMDB))]);
    let packages = read(&root).unwrap().unwrap();
    assert_eq!(packages.len(), 13);
    let tool = packages.iter().find(|package| package.name == "hello-tool").unwrap();
    assert_eq!((tool.version.as_str(), tool.arch.as_str()), ("2:1.2-3", "noarch"));
    assert_eq!(tool.license, "MIT");
    assert_eq!(tool.source, None);
    assert!(tool.provides.iter().eq(["greeter", "perl(Foo::Bar)"]), "{:?}", tool.provides);
    let part = packages.iter().find(|package| package.name == "hello-tool-part7").unwrap();
    assert_eq!(part.source, Some(Source { name: "hello-tool".into(), version: None }));
}

#[test]
fn reads_the_log_beside_it() {
    let database = ("usr/lib/sysimage/rpm/rpmdb.sqlite", inflate(BEHIND));
    let log = ("usr/lib/sysimage/rpm/rpmdb.sqlite-wal", inflate(BEHIND_LOG));
    let (_dir, root) = root(&[database, log]);
    assert_eq!(read(&root).unwrap().unwrap().len(), 3);
}

#[test]
fn what_is_no_database_is_said() {
    let (_dir, spoilt) = root(&[("var/lib/rpm/rpmdb.sqlite", b"x".to_vec())]);
    let error = read(&spoilt).unwrap_err();
    assert_eq!(error.to_string(), "the package database var/lib/rpm/rpmdb.sqlite cannot be read");
}

#[test]
fn names_of_sources() {
    let name = |file| source(file, "libpq").map(|source| source.name);
    assert_eq!(name("postgresql-15.3-1.fc39.src.rpm").as_deref(), Some("postgresql"));
    assert_eq!(name("a-b-c-1-2.src.rpm").as_deref(), Some("a-b-c"));
    assert_eq!(name("libpq-15.3-1.fc39.src.rpm"), None);
    assert_eq!(name("postgresql-15.3.src.rpm"), None);
    assert_eq!(name("(none)"), None);
}

proptest! {
    #[test]
    fn any_header_is_taken_or_refused(
        tags in prop::collection::vec((prop::sample::select(vec![1000u32, 1001, 1003, 1022, 1044, 1047]), 0u32..11, any::<u8>(), any::<u32>()), 0..8),
        data in prop::collection::vec(any::<u8>(), 0..64),
        cut in 0usize..256,
    ) {
        let mut blob = (tags.len() as u32).to_be_bytes().to_vec();
        blob.extend((data.len() as u32).to_be_bytes());
        for (tag, kind, offset, count) in &tags {
            for word in [*tag, *kind, u32::from(*offset), *count] {
                blob.extend(word.to_be_bytes());
            }
        }
        blob.extend(&data);
        blob.truncate(cut);
        if let Ok(header) = Header::parse(&blob) {
            let _ = package(&header);
        }
    }
}
