use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use events::Silent;

use super::*;
use crate::image::{Blobs as _, Format, Image};
use crate::store::Part;
use crate::testing::{Memory, image_of, tar};

fn unpacker() -> Unpacker {
    Unpacker { kind: "test".to_owned(), owners: Owners::Ours }
}

/// A store with an image of one file, and the unpacked tree of that.
fn unpacked() -> (tempfile::TempDir, Store, Image, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(temp.path().join("store")).unwrap();
    let image = image_of(&Arc::new(Memory::default()), &[tar("bin/sh", b"program")], Format::Oci);
    let (image, trees) = store.fetch_unpacked(&image, &unpacker(), &Silent).unwrap();
    store.tag_image(&"app".parse().unwrap(), &image).unwrap();
    (temp, store, image, trees[0].clone())
}

#[test]
fn every_change_of_an_unpacked_layer_is_found_and_mended() {
    type Spoil = fn(&Path);
    let spoils: [(&str, Spoil); 5] = [
        ("a file is gone", |tree| fs::remove_file(tree.join("bin/sh")).unwrap()),
        ("all is gone", |tree| fs::remove_dir_all(tree.join("bin")).unwrap()),
        ("a file is cut", |tree| fs::write(tree.join("bin/sh"), "pro").unwrap()),
        ("another mode", |tree| {
            fs::set_permissions(tree.join("bin/sh"), std::fs::Permissions::from_mode(0o4755)).unwrap();
        }),
        ("something new", |tree| fs::write(tree.join("new"), "").unwrap()),
    ];
    let (_temp, store, image, tree) = unpacked();
    let report = store.verify().unwrap();
    assert_eq!((report.rootfs, report.problems.len()), (1, 0));

    for (what, spoil) in spoils {
        spoil(&tree);
        let report = store.verify().unwrap();
        assert_eq!(report.problems.len(), 1, "{what}");
        assert_eq!(report.problems[0].part, Some(Part::Rootfs(dir_of(&tree).to_owned())), "{what}");
        assert!(store.repair(&report.problems[0]).unwrap(), "{what}");
        assert!(!dir_of(&tree).exists(), "{what}");
        store.rootfs(&image, &unpacker(), &Silent).unwrap();
        assert_eq!(fs::read(tree.join("bin/sh")).unwrap(), b"program", "{what}");
        assert!(store.verify().unwrap().problems.is_empty(), "{what}");
    }
}

#[test]
fn a_tree_without_a_record_is_unpacked_again() {
    let (_temp, store, image, tree) = unpacked();
    for record in [None, Some("{"), Some(r#"{"version":0}"#)] {
        fs::remove_file(tree.join("bin/sh")).unwrap();
        match record {
            None => fs::remove_file(tree.with_file_name(RECORD)).unwrap(),
            Some(text) => fs::write(tree.with_file_name(RECORD), text).unwrap(),
        }
        assert_eq!(store.verify().unwrap().problems.len(), 1);
        assert!(!store.is_unpacked(&image, &unpacker()).unwrap(), "{record:?}");
        store.rootfs(&image, &unpacker(), &Silent).unwrap();
        assert!(tree.join("bin/sh").exists(), "{record:?}");
    }
}

#[test]
fn a_tree_of_another_boot_is_unpacked_again_unless_it_is_old() {
    let (_temp, store, image, tree) = unpacked();
    let write = |boot: Option<&str>| {
        let record = TreeRecord::of(&tree).unwrap();
        let record = TreeRecord { boot: boot.map(str::to_owned), ..record };
        write_json(&tree.with_file_name(RECORD), &record).unwrap();
    };
    write(None);
    assert!(store.is_unpacked(&image, &unpacker()).unwrap());
    write(Some(&boot_id()));
    let long_ago = std::time::SystemTime::now() - 2 * SURELY_WRITTEN;
    fs::OpenOptions::new()
        .append(true)
        .open(tree.with_file_name(RECORD))
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
    assert!(store.is_unpacked(&image, &unpacker()).unwrap());
    let noted = read_json::<TreeRecord>(&tree.with_file_name(RECORD)).unwrap().unwrap();
    assert_eq!(noted.boot, None, "the kernel has written it, so a power failure cannot harm it");

    write(Some("another"));
    assert!(store.verify().unwrap().problems.is_empty(), "it is not used, so nothing is wrong with it");
    assert!(!store.is_unpacked(&image, &unpacker()).unwrap());
    assert!(!tree.exists());
}

#[test]
fn an_older_version_left_markers_which_prune_removes() {
    let (_temp, store, _image, tree) = unpacked();
    let kind = dir_of(dir_of(&tree));
    fs::write(kind.join(format!("{}.boot", Digest::of(b"other").hex())), boot_id()).unwrap();
    store.prune(&crate::testing::KEEP_ALL).unwrap();
    assert_eq!(fs::read_dir(kind).unwrap().count(), 1);
}

#[test]
fn a_store_that_cannot_be_written_is_read() {
    let (_temp, store, image, _tree) = unpacked();
    let dir = store.dir().to_owned();
    drop(store);
    if rustix::process::geteuid().is_root() {
        return; // Nothing cannot be written by root; the end-to-end tests mount a disk read-only.
    }
    fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o500)).unwrap();
    let store = Store::open(&dir).unwrap();
    assert_eq!(store.list().unwrap().len(), 1);
    assert!(store.open(&image.layers()[0].descriptor, 0).is_ok());
    assert!(matches!(store.scratch_dir(), Err(Error::ReadOnly { .. })));
    fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).unwrap();
}
