use std::path::Path;
use std::sync::Arc;

use events::Silent;
use fs_err as fs;
use layer::unpack::Owners;

use super::*;
use crate::image::{Blobs, Format, Origin};
use crate::model::Descriptor;
use crate::testing::{Memory, image_of, tar};

fn store() -> (tempfile::TempDir, Store) {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(temp.path().join("store")).unwrap();
    (temp, store)
}

fn unpacker(kind: &str) -> Unpacker {
    Unpacker { kind: kind.to_owned(), owners: Owners::Ours }
}

fn layers() -> Vec<Vec<u8>> {
    (0..12_u8).map(|n| tar("file", &vec![n; 70_000 * usize::from(n % 3 + 1)])).collect()
}

fn empty(dir: &Path) -> bool {
    !dir.exists() || fs::read_dir(dir).unwrap().count() == 0
}

#[test]
fn comes_unpacked_and_only_once() {
    let (_temp, store) = store();
    let memory = Arc::new(Memory::default());
    let image = image_of(&memory, &layers(), Format::Oci);
    let (local, lowers) = store.fetch_unpacked(&image, &unpacker("test"), &Silent).unwrap();
    assert_eq!(lowers.len(), 12);
    for (n, lower) in lowers.iter().rev().enumerate() {
        assert_eq!(fs::read(lower.join("file")).unwrap()[0], n as u8, "highest first");
    }
    assert!(local.layers().iter().all(|layer| layer.blobs.local_path(&layer.descriptor).is_some()));
    assert!(store.verify().unwrap().problems.is_empty());
    assert!(empty(store.scratch_dir().unwrap()));

    // The source has nothing any more: nothing is asked of it.
    let gone = image.with_blobs(&(Arc::new(Memory::default()) as Arc<dyn Blobs>));
    assert_eq!(store.rootfs(&gone, &unpacker("test"), &Silent).unwrap(), lowers);
    store.fetch(&gone, &Silent).unwrap();
    // Another kind is unpacked from the blobs.
    let other = unpacker("other");
    assert!(store.rootfs(&gone, &other, &Silent).unwrap()[0].join("file").exists());
}

#[test]
fn one_layer_twice_is_fetched_once() {
    let (_temp, store) = store();
    let memory = Arc::new(Memory::default());
    let image = image_of(&memory, &[tar("a", b"1"), tar("b", b"2"), tar("a", b"1")], Format::Oci);
    let (_, lowers) = store.fetch_unpacked(&image, &unpacker("test"), &Silent).unwrap();
    // Nor is it a lower twice, which no overlay takes: what the highest has, the lowest cannot change.
    let path = |at: usize| store.rootfs_path("test", image.layers()[at].diff_id);
    assert_eq!(lowers, [path(2), path(1)]);
}

#[test]
fn one_blob_cannot_be_two_layers() {
    let (_temp, store) = store();
    let memory = Arc::new(Memory::default());
    let mut new = image_of(&memory, &[tar("a", b"1"), tar("a", b"1")], Format::Oci).derive();
    new.layers[1].diff_id = Digest::of(b"something else");
    let error = store.fetch_unpacked(&new.finish().unwrap(), &unpacker("test"), &Silent).unwrap_err();
    assert!(matches!(error, Error::DiffId { .. }), "{error}");
}

#[test]
fn a_size_that_no_blob_has_is_refused() {
    let (_temp, store) = store();
    let memory = Arc::new(Memory::default());
    let mut new = image_of(&memory, &[tar("a", b"1")], Format::Oci).derive();
    new.layers[0].descriptor.size = u64::MAX;
    let error = store.fetch(&new.finish().unwrap(), &Silent).unwrap_err();
    assert!(matches!(error, Error::BlobSize { expected: u64::MAX, .. }), "{error}");
}

#[test]
fn a_wrong_blob_leaves_nothing_of_it() {
    for wrong in [&b"truncated"[..], &tar("file", b"other content of another digest")] {
        let (_temp, store) = store();
        let memory = Arc::new(Memory::default());
        let image = image_of(&memory, &layers(), Format::Oci);
        let bad = &image.layers()[7].descriptor;
        let mut bytes = wrong.to_vec();
        if wrong != b"truncated" {
            bytes.resize(bad.size as usize, 0);
        }
        memory.put_as(bad.digest, &bytes);
        let error = store.fetch_unpacked(&image, &unpacker("test"), &Silent).unwrap_err();
        assert!(error.is_corrupt_blob(), "{error}");
        assert!(error.to_string().contains(&bad.digest.to_string()), "{error}");
        assert!(!store.has(bad));
        assert!(!store.has(&image.descriptor));
        assert!(!store.rootfs_path("test", image.layers()[7].diff_id).exists());
        assert!(empty(store.scratch_dir().unwrap()));
        assert!(store.verify().unwrap().problems.is_empty());
    }
}

#[test]
fn a_layer_that_is_not_what_the_configuration_says_is_refused() {
    let (_temp, store) = store();
    let memory = Arc::new(Memory::default());
    let mut new = image_of(&memory, &[tar("a", b"1")], Format::Oci).derive();
    new.layers[0].diff_id = Digest::of(b"something else");
    let image = new.finish().unwrap();
    let error = store.fetch_unpacked(&image, &unpacker("test"), &Silent).unwrap_err();
    assert!(matches!(error, Error::DiffId { .. }), "{error}");
    assert!(empty(&store.dir().join("rootfs/test")));
}

#[test]
fn a_corrupt_blob_of_the_store_is_fetched_again() {
    let (_temp, store) = store();
    let memory = Arc::new(Memory::default());
    let image = image_of(&memory, &[tar("a", b"1")], Format::Oci);
    let local = store.fetch(&image, &Silent).unwrap();
    let blob = &image.layers()[0].descriptor;
    let spoil = || fs::write(store.blob_path(blob.digest), vec![b'x'; blob.size as usize]).unwrap();

    spoil();
    let lowers = store.rootfs(&image, &unpacker("test"), &Silent).unwrap();
    assert_eq!(fs::read(lowers[0].join("a")).unwrap(), b"1");
    assert!(store.verify().unwrap().problems.is_empty());

    // Where nobody else has it, it is named, and is gone.
    spoil();
    let other = unpacker("other");
    let error = store.rootfs(&local, &other, &Silent).unwrap_err();
    assert!(matches!(error, Error::CorruptBlob { digest, .. } if digest == blob.digest), "{error}");
    assert!(!store.has(blob));
}

#[test]
fn prune_knows_trees() {
    let (_temp, store) = store();
    let memory = Arc::new(Memory::default());
    let kept = image_of(&memory, &[tar("a", b"1")], Format::Oci);
    let gone = image_of(&memory, &[tar("a", b"2")], Format::Oci);
    store
        .tag_image(
            &"kept".parse().unwrap(),
            &store.fetch_unpacked(&kept, &unpacker("test"), &Silent).unwrap().0,
        )
        .unwrap();
    store.fetch_unpacked(&gone, &unpacker("test"), &Silent).unwrap();
    assert_eq!(fs::read_dir(store.dir().join("rootfs/test")).unwrap().count(), 2);
    assert_eq!(store.prune(&crate::testing::KEEP_ALL).unwrap().rootfs, 1);
    let left: Vec<_> =
        fs::read_dir(store.dir().join("rootfs/test")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, [std::ffi::OsString::from(kept.layers()[0].diff_id.hex())]);
}

/// Gives a blob slowly, and fails when others should have been told to stop long ago.
#[derive(Debug)]
struct Endless;

impl Blobs for Endless {
    fn open(&self, _: &Descriptor, _: u64) -> Result<Box<dyn Read + Send>> {
        struct Slow;
        impl Read for Slow {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                std::thread::sleep(std::time::Duration::from_millis(1));
                buffer[0] = 0;
                Ok(1)
            }
        }
        Ok(Box::new(Slow))
    }

    fn origin(&self) -> Origin {
        Origin::Local("nowhere".to_owned())
    }
}

#[test]
fn the_first_error_stops_all() {
    let (_temp, store) = store();
    let memory = Arc::new(Memory::default());
    let mut new = image_of(&memory, &layers(), Format::Oci).derive();
    for (n, layer) in new.layers.iter_mut().enumerate() {
        match n {
            3 => layer.descriptor.digest = Digest::of(b"missing"),
            _ => layer.blobs = Arc::new(Endless),
        }
    }
    let image = new.finish().unwrap();
    let start = std::time::Instant::now();
    let error = store.fetch_unpacked(&image, &unpacker("test"), &Silent).unwrap_err();
    assert!(matches!(error, Error::MissingBlob { .. }), "{error}");
    assert!(
        start.elapsed() < std::time::Duration::from_secs(20),
        "one byte a millisecond would take minutes"
    );
    assert!(empty(store.scratch_dir().unwrap()));
}
