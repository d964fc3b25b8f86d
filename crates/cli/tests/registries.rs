//! Registries that fail for good while several blobs move: the program ends soon, with one clear error.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use testkit::registry::{Fault, Kind, Registry};
use testkit::{Base, Layout, Tree};

/// More than one silence would be longer.
const SOON: Duration = Duration::from_secs(20);

fn pannier(home: &Path, arguments: &[&str]) -> (Output, Duration) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pannier"));
    let start = Instant::now();
    let output = command.args(arguments).env("PANNIER_HOME", home.join("home")).current_dir(home).output();
    (output.unwrap(), start.elapsed())
}

/// An image of many layers as `oci:` of a layout.
fn image(home: &Path) -> String {
    let mut image = Base::Small.run();
    for number in 0..12 {
        image =
            image.layer(Tree::new().file(&format!("file-{number}"), 0o644, format!("{number}").repeat(500)));
    }
    let layout = Layout::new(home.join("layout"));
    layout.add("it", &image);
    layout.reference("it")
}

fn fails_soon(home: &Path, arguments: &[&str], words: &[&str]) {
    let (output, took) = pannier(home, arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("error:")).count(), 1, "{text}");
    words.iter().for_each(|word| assert!(text.contains(word), "{text}"));
    assert!(took < SOON, "{took:?}: {text}");
}

#[test]
fn one_blob_that_is_refused_ends_the_others() {
    let temp = tempfile::tempdir().unwrap();
    let (home, registry) = (temp.path(), Registry::default());
    let from = image(home);
    let to = format!("docker://{}/me/app:v1", registry.host());
    for kind in [Kind::UploadPut, Kind::UploadStart, Kind::BlobHead] {
        registry.recover();
        registry.fail(kind, Fault::Hang, 2);
        registry.fail(kind, Fault::Status(403), 1);
        registry.fail(kind, Fault::RetryAfter(50), 1000);
        fails_soon(home, &["image", "copy", &from, &to], &["says denied"]);
    }
    registry.recover();
    assert!(registry.manifest("me/app", "v1").is_none());
    assert!(pannier(home, &["image", "copy", &from, &to]).0.status.success());

    registry.fail(Kind::BlobGet, Fault::Hang, 2);
    registry.fail(Kind::BlobGet, Fault::Status(403), 1);
    registry.fail(Kind::BlobGet, Fault::Stall(10), 1000);
    let fresh = tempfile::tempdir().unwrap();
    // The configuration comes first, by itself.
    registry.recover();
    registry.fail(Kind::BlobGet, Fault::Slow(1 << 30), 1);
    registry.fail(Kind::BlobGet, Fault::Stall(10), 3);
    registry.fail(Kind::BlobGet, Fault::Status(403), 1);
    registry.fail(Kind::BlobGet, Fault::Stall(10), 1000);
    fails_soon(fresh.path(), &["image", "copy", &to, "me/app:v1"], &["says denied"]);
}

#[test]
fn too_many_requests_for_ever() {
    let temp = tempfile::tempdir().unwrap();
    let (home, registry) = (temp.path(), Registry::default());
    let (from, to) = (image(home), format!("docker://{}/me/app:v1", registry.host()));
    for kind in [Kind::UploadPut, Kind::UploadStart, Kind::BlobHead] {
        registry.fail(kind, Fault::Status(429), 100_000);
    }
    fails_soon(home, &["image", "copy", &from, &to], &["says too many requests", "hint: "]);
}

#[test]
fn what_is_no_registry_gets_no_image() {
    let temp = tempfile::tempdir().unwrap();
    let (home, registry) = (temp.path(), Registry::default());
    let (from, to) = (image(home), format!("docker://{}/me/app:v1", registry.host()));
    for fault in [Fault::Page(200), Fault::Empty(200), Fault::Empty(201), Fault::Empty(204)] {
        registry.recover();
        registry.fail(Kind::ManifestPut, fault, 1);
        let words = ["answered nonsense: expected 201 for a manifest that it took, got 20", "is a registry"];
        fails_soon(home, &["image", "copy", &from, &to], &words);
    }
    assert!(pannier(home, &["image", "copy", &from, &to]).0.status.success());
}
