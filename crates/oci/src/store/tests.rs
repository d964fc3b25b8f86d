use std::io::Write as _;

use super::*;
use crate::image::Format;
use crate::model::media_type;
use crate::testing::{Memory, image_of, tar};

fn store() -> (tempfile::TempDir, Store) {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(temp.path().join("store")).unwrap();
    (temp, store)
}

fn host() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn fill(store: &Store, content: &[u8]) -> Image {
    let memory = Arc::new(Memory::default());
    let image = image_of(&memory, &[tar("a", content)], Format::Oci);
    store.put(&image.descriptor.media_type, &image.manifest_bytes).unwrap();
    store.put(&image.manifest.config.media_type, &image.config_bytes).unwrap();
    let mut writer = store.blob_writer().unwrap();
    io::copy(&mut image.layers()[0].open().unwrap(), &mut writer).unwrap();
    let layer = writer.commit(media_type::OCI_LAYER).unwrap();
    assert_eq!(layer, image.layers()[0].descriptor);
    image
}

#[test]
fn images_have_names() {
    let (_temp, store) = store();
    let reference: Reference = "me/app:v1".parse().unwrap();
    let image = fill(&store, b"1");
    assert!(store.image(&reference, &host()).unwrap().is_none());
    store.tag_image(&reference, &image).unwrap();

    let found = store.image(&reference, &host()).unwrap().unwrap();
    assert_eq!(found.digest(), image.digest());
    assert!(found.layers()[0].blobs.local_path(&found.layers()[0].descriptor).is_some());
    assert!(store.image(&reference, &"linux/arm64".parse().unwrap()).unwrap().is_none());
    let by_digest = reference.with_digest(image.digest());
    assert_eq!(store.image(&by_digest, &host()).unwrap().unwrap().digest(), image.digest());

    let list = store.list().unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].name.as_deref(), Some("docker.io/me/app:v1"));
    assert_eq!(list[0].platforms, [host()]);
    assert_eq!(list[0].size, Some(image.size()));

    assert!(store.untag(&reference).unwrap());
    assert!(!store.untag(&reference).unwrap());
    assert!(store.image(&reference, &host()).unwrap().is_none());
}

#[test]
fn the_index_an_image_came_through_is_remembered() {
    let (_temp, store) = store();
    let reference: Reference = "debian".parse().unwrap();
    let source = Digest::of(b"an index");
    let image = fill(&store, b"1").with_index(Some(source));
    store.tag_image(&reference, &image).unwrap();
    assert_eq!(store.image(&reference, &host()).unwrap().unwrap().index, Some(source));
    // Asking by the index's digest finds the image it stood for.
    assert!(store.image(&reference.with_digest(source), &host()).unwrap().is_some());
}

#[test]
fn a_writer_without_commit_leaves_nothing() {
    let (_temp, store) = store();
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"half").unwrap();
    let path = writer.path().to_owned();
    assert!(path.exists());
    drop(writer);
    assert!(!path.exists());
    assert!(store.unhashed_blob_writer().unwrap().commit("x").is_err());
    let scratch = store.scratch_dir().unwrap().to_owned();
    drop(store);
    assert!(!scratch.exists());
}

#[test]
fn a_blob_of_another_size_is_not_there() {
    let (_temp, store) = store();
    let blob = store.put("x", b"hello").unwrap();
    assert!(store.has(&blob));
    fs::write(store.blob_path(blob.digest), "hell").unwrap();
    assert!(!store.has(&blob));
    assert!(matches!(store.open_blob(&blob), Err(Error::BlobSize { found: 4, expected: 5, .. })));
    assert!(matches!(store.document(&blob), Err(Error::BlobSize { .. })));
    // Writing it again repairs it.
    store.put("x", b"hello").unwrap();
    assert_eq!(store.document(&blob).unwrap(), b"hello");
    store.discard(blob.digest).unwrap();
    assert!(matches!(store.open_blob(&blob), Err(Error::MissingBlob { .. })));
}

#[test]
fn writers_at_once_lose_nothing() {
    let (_temp, store) = store();
    let dir = store.dir().to_owned();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let dir = &dir;
            scope.spawn(move || {
                // Each its own lock, as separate processes have.
                let store = Store::open(dir).unwrap();
                for n in 0..8_u8 {
                    let image = fill(&store, &[n]);
                    let reference = format!("app{writer}:{n}").parse().unwrap();
                    store.tag_image(&reference, &image).unwrap();
                }
            });
        }
    });
    assert_eq!(store.list().unwrap().len(), 64);
    assert!(store.list().unwrap().iter().all(|entry| entry.size.is_some()));
}

#[test]
fn prune_keeps_what_is_listed() {
    let (_temp, store) = store();
    let kept = fill(&store, b"kept");
    let gone = fill(&store, b"gone");
    store.tag_image(&"kept".parse().unwrap(), &kept).unwrap();
    for image in [&kept, &gone] {
        let made = store.scratch_dir().unwrap().join("made");
        fs::create_dir_all(made.join("tree/a")).unwrap();
        store.place_rootfs("ids", image.layers()[0].diff_id, &made).unwrap();
    }
    fs::create_dir_all(store.cache_dir().join("old")).unwrap();
    fs::create_dir_all(store.cache_dir().join("new")).unwrap();

    let other = Store::open(store.dir()).unwrap();
    assert!(matches!(store.prune(&crate::testing::KEEP_ALL), Err(Error::Busy { .. })));
    assert!(store.has(&gone.descriptor));
    drop(other);

    let pruned = store
        .prune(&PruneOptions { keep_cache: &|cache| cache.ends_with("new"), ..crate::testing::KEEP_ALL })
        .unwrap();
    // The configuration and the layer are gone with the manifest.
    assert_eq!((pruned.blobs, pruned.rootfs, pruned.caches), (3, 1, 1));
    assert!(pruned.bytes > 0);
    assert!(!store.has(&gone.descriptor));
    assert!(!store.dir().join("rootfs/ids").join(gone.layers()[0].diff_id.hex()).exists());
    assert!(store.dir().join("rootfs/ids").join(kept.layers()[0].diff_id.hex()).exists());
    assert!(store.cache_dir().join("new").exists());
    assert!(store.image(&"kept".parse().unwrap(), &host()).unwrap().is_some());
    assert!(store.verify().unwrap().problems.is_empty());
    assert_eq!(store.prune(&crate::testing::KEEP_ALL).unwrap(), Pruned::default(), "nothing is left to free");
    // After a prune others can open the store again.
    Store::open(store.dir()).unwrap();
}

#[test]
fn prune_forgets_packages_that_nobody_asks_for() {
    let (_temp, store) = store();
    fs::create_dir_all(store.packages_dir()).unwrap();
    let (old, new) = (store.packages_dir().join("old.json"), store.packages_dir().join("new.json"));
    for file in [&old, &new] {
        fs::write(file, "{}").unwrap();
    }
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(31 * 24 * 60 * 60);
    fs::File::open(&old).unwrap().set_modified(long_ago).unwrap();
    let pruned = store.prune(&crate::testing::KEEP_ALL).unwrap();
    assert!(pruned.bytes > 0 && !old.exists() && new.exists());
}

#[test]
fn prune_refuses_to_guess() {
    let (_temp, store) = store();
    let image = fill(&store, b"1");
    store.tag_image(&"app".parse().unwrap(), &image).unwrap();
    fs::write(store.blob_path(image.digest()), "x").unwrap();
    let error = store.prune(&crate::testing::KEEP_ALL).unwrap_err().to_string();
    assert!(error.starts_with("invalid image `docker.io/library/app:latest`: blob sha256:"), "{error}");
    assert!(store.has(&image.layers()[0].descriptor));
}

#[test]
fn verify_names_the_blob_and_the_images_that_need_it() {
    let (_temp, store) = store();
    let image = fill(&store, b"1");
    store.tag_image(&"one".parse().unwrap(), &image).unwrap();
    store.tag_image(&"two".parse().unwrap(), &image).unwrap();
    let report = store.verify().unwrap();
    assert_eq!((report.blobs, report.images, report.problems.len()), (3, 2, 0));

    let layer = &image.layers()[0].descriptor;
    fs::write(store.blob_path(layer.digest), vec![0; layer.size as usize]).unwrap();
    fs::remove_file(store.blob_path(image.manifest.config.digest)).unwrap();
    fs::write(store.dir().join("blobs/sha256/stray"), "").unwrap();
    let report = store.verify().unwrap();
    let both = ["docker.io/library/one:latest", "docker.io/library/two:latest"];
    let find = |digest: Option<Digest>| {
        report.problems.iter().find(|problem| problem.part == digest.map(Part::Blob)).unwrap()
    };
    assert_eq!(report.problems.len(), 3);
    assert!(matches!(find(Some(layer.digest)).error, Error::CorruptBlob { .. }));
    assert!(matches!(find(Some(image.manifest.config.digest)).error, Error::MissingBlob { .. }));
    assert_eq!(find(Some(image.manifest.config.digest)).images, both);
    assert!(find(None).error.to_string().contains("stray"));
}

#[test]
fn prune_removes_nothing_that_has_no_name_of_ours() {
    let (temp, store) = store();
    let precious = temp.path().join("precious");
    fs::create_dir_all(&precious).unwrap();
    let hex = Digest::of(b"x").hex();
    fs::write(precious.join(&hex), "x").unwrap();
    for name in ["blobs/sha256/notes", "rootfs/kind/notes", "steps/notes", "tmp/notes", "cache/notes"] {
        let path = store.dir().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    for folder in ["rootfs", "steps", "mounts"] {
        std::os::unix::fs::symlink(&precious, store.dir().join(folder).join("link")).unwrap();
    }
    let options = PruneOptions { keep_cache: &|_| true, keep_steps: None };
    assert_eq!(store.prune(&options).unwrap(), Pruned::default());
    assert!(precious.join(&hex).exists());
    for name in ["blobs/sha256/notes", "rootfs/kind/notes", "steps/notes", "tmp/notes", "cache/notes"] {
        assert!(store.dir().join(name).exists(), "{name}");
    }
}

#[test]
fn flat_trees_are_made_once_and_pruned() {
    let (_temp, store) = store();
    let lower = |name: &str| {
        let tree = store.dir().join("rootfs/ids").join(name);
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join(name), name).unwrap();
        fs::write(tree.join("both"), name).unwrap();
        tree
    };
    let lowers = [lower("top"), lower("low")];
    assert_eq!(store.flat(&lowers[1..]).unwrap(), lowers[1], "one tree is flat");
    let flat = store.flat(&lowers).unwrap();
    for (name, text) in [("both", "top"), ("top", "top"), ("low", "low")] {
        assert_eq!(fs::read_to_string(flat.join(name)).unwrap(), text);
    }
    fs::write(flat.join("mark"), "").unwrap();
    assert_eq!(store.flat(&lowers).unwrap(), flat);
    assert!(flat.join("mark").exists(), "not made again");
    let other = store.flat(&[lowers[1].clone(), lowers[0].clone()]).unwrap();
    assert_eq!(fs::read_to_string(other.join("both")).unwrap(), "low");
    store.prune(&crate::testing::KEEP_ALL).unwrap();
    assert!(!flat.exists());
}
