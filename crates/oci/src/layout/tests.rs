use super::*;
use crate::image::Format;
use crate::testing::{Memory, image_of, tar};

fn write(layout: &Layout, image: &Image) {
    layout.put(&image.descriptor.media_type, &image.manifest_bytes).unwrap();
    layout.put(&image.manifest.config.media_type, &image.config_bytes).unwrap();
    for layer in image.layers() {
        layout.copy_blob(&layer.descriptor, layer.open().unwrap(), |_| {}).unwrap();
    }
}

fn host() -> Platform {
    "linux/amd64".parse().unwrap()
}

#[test]
fn images_are_found_by_name_and_tag() {
    let temp = tempfile::tempdir().unwrap();
    let layout = Layout::create(temp.path().join("layout")).unwrap();
    let memory = Arc::new(Memory::default());
    let one = image_of(&memory, &[tar("a", b"1")], Format::Oci);
    let two = image_of(&memory, &[tar("a", b"2")], Format::Oci);
    for (name, image) in [("x.io/a:one", &one), ("two", &two)] {
        write(&layout, image);
        layout.tag(Some(name), &image.descriptor).unwrap();
    }
    let layout = Layout::open(layout.dir()).unwrap();
    let digest = |name| layout.image(name, &host()).map(|image| image.digest());
    assert_eq!(digest(Some("one")).unwrap(), one.digest());
    assert_eq!(digest(Some("x.io/a:one")).unwrap(), one.digest());
    assert_eq!(digest(Some("two")).unwrap(), two.digest());
    assert!(matches!(digest(Some("three")), Err(Error::NoSuchImage { .. })));
    let error = digest(None).unwrap_err().to_string();
    assert!(error.ends_with("expected one of x.io/a:one, two"), "{error}");
}

#[test]
fn a_name_moves_to_the_new_image() {
    let temp = tempfile::tempdir().unwrap();
    let layout = Layout::create(temp.path().join("layout")).unwrap();
    let memory = Arc::new(Memory::default());
    for content in [b"1", b"2"] {
        let image = image_of(&memory, &[tar("a", content)], Format::Oci);
        write(&layout, &image);
        layout.tag(Some("a"), &image.descriptor).unwrap();
        assert_eq!(layout.names().unwrap().len(), 1);
        assert_eq!(layout.image(None, &host()).unwrap().digest(), image.digest());
    }
}

#[test]
fn goes_through_nested_indexes_but_not_for_ever() {
    let temp = tempfile::tempdir().unwrap();
    let layout = Layout::create(temp.path().join("layout")).unwrap();
    let memory = Arc::new(Memory::default());
    let image = image_of(&memory, &[tar("a", b"1")], Format::Oci);
    write(&layout, &image);
    let mut entry = image.descriptor.clone();
    for depth in 1..=6 {
        let index = Index { manifests: vec![entry], ..empty_index() };
        entry = layout.put(media_type::OCI_INDEX, &to_json(&index, "test").unwrap()).unwrap();
        layout.tag(Some(&depth.to_string()), &entry).unwrap();
        let found = layout.image(Some(&depth.to_string()), &host());
        match depth {
            1..=3 => assert_eq!(found.unwrap().digest(), image.digest()),
            4..=6 => assert!(found.unwrap_err().to_string().contains("nested more than"), "{depth}"),
            _ => unreachable!(),
        }
    }
}

#[test]
fn a_corrupt_blob_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let layout = Layout::create(temp.path().join("layout")).unwrap();
    let descriptor = describe("x", b"hello");
    for wrong in [&b"hallo"[..], b"hell", b"hello!"] {
        assert!(layout.copy_blob(&descriptor, wrong, |_| {}).unwrap_err().is_corrupt_blob());
    }
    assert_eq!(fs::read_dir(layout.dir().join("blobs/sha256")).unwrap().count(), 0);
    layout.copy_blob(&descriptor, &b"hello"[..], |_| {}).unwrap();
    assert!(layout.has(&descriptor));
}

#[test]
fn refuses_folders_that_hold_something_else() {
    let temp = tempfile::tempdir().unwrap();
    assert!(Layout::open(temp.path().join("absent")).unwrap_err().is_not_found());
    fs::write(temp.path().join("precious"), "").unwrap();
    assert!(!Layout::open(temp.path()).unwrap_err().is_not_found());
    assert!(Layout::create(temp.path()).unwrap_err().to_string().contains("holds something else"));
    fs::write(temp.path().join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    assert!(Layout::open(temp.path()).unwrap_err().to_string().contains("version `2.0.0`, expected 1.0.0"));
    fs::write(temp.path().join("oci-layout"), "x").unwrap();
    assert!(matches!(Layout::open(temp.path()), Err(Error::Json { .. })));
}

#[test]
fn files_of_a_layout_are_regular_and_lie_in_it() {
    let temp = tempfile::tempdir().unwrap();
    let layout = Layout::create(temp.path().join("layout")).unwrap();
    let memory = Arc::new(Memory::default());
    let image = image_of(&memory, &[tar("a", b"1")], Format::Oci);
    write(&layout, &image);
    layout.tag(None, &image.descriptor).unwrap();
    let secret = temp.path().join("secret");
    fs::write(&secret, "\"hunter2\"").unwrap();
    let blob = layout.blob_path(image.digest());
    for file in [layout.dir().join("oci-layout"), layout.dir().join("index.json"), blob] {
        let whole = fs::read(&file).unwrap();
        let read = || Layout::open(layout.dir())?.image(None, &host());
        let failure = || {
            let error = read().unwrap_err().to_string();
            assert!(error.contains(file.file_name().unwrap().to_str().unwrap()), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
            fs::remove_file(&file).unwrap();
            error
        };
        fs::remove_file(&file).unwrap();
        for target in [secret.as_path(), Path::new("/dev/zero"), Path::new("/proc/self/environ")] {
            fs_err::os::unix::fs::symlink(target, &file).unwrap();
            let error = failure();
            assert!(error.contains("leads out of"), "{error}");
        }
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        rustix::fs::mkfifoat(rustix::fs::CWD, &file, mode).unwrap();
        let error = failure();
        assert!(error.contains("is a FIFO, expected a regular file"), "{error}");
        fs::write(&file, &whole).unwrap();
        assert_eq!(read().unwrap().digest(), image.digest());
    }
    // What the layout has says nothing of what it leads to.
    fs::remove_file(layout.blob_path(image.digest())).unwrap();
    fs_err::os::unix::fs::symlink(&secret, layout.blob_path(image.digest())).unwrap();
    assert!(!layout.has(&image.descriptor));
}

#[test]
fn the_folder_of_blobs_may_be_on_another_disk() {
    let temp = tempfile::tempdir().unwrap();
    let layout = Layout::create(temp.path().join("layout")).unwrap();
    fs::rename(layout.dir().join("blobs"), temp.path().join("blobs")).unwrap();
    fs_err::os::unix::fs::symlink(temp.path().join("blobs"), layout.dir().join("blobs")).unwrap();
    let descriptor = layout.put("x", b"hello").unwrap();
    assert!(layout.has(&descriptor));
    assert!(layout.open_blob(&descriptor).is_ok());
}
