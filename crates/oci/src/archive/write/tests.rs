use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fs_err as fs;

use super::*;
use crate::archive::{DockerArchive, OciArchive};
use crate::image::{Blobs, Format, NewImage};
use crate::model::{Platform, media_type};
use crate::testing::{Memory, config, image_of, tar};

fn host() -> Platform {
    "linux/amd64".parse().unwrap()
}

/// One layer of each compression.
fn mixed() -> (Arc<Memory>, Image) {
    let memory = Arc::new(Memory::default());
    let tars = [tar("plain", b"1"), tar("gz", b"2"), tar("zst", b"3")];
    let gz = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&tars[1]).unwrap();
        encoder.finish().unwrap()
    };
    let blobs = [
        (media_type::OCI_LAYER, tars[0].clone()),
        (media_type::OCI_LAYER_GZIP, gz),
        (media_type::OCI_LAYER_ZSTD, zstd::encode_all(&tars[2][..], 3).unwrap()),
    ];
    let layers = blobs
        .iter()
        .zip(&tars)
        .map(|((media_type, blob), tar)| Layer {
            descriptor: memory.put(media_type, blob),
            diff_id: Digest::of(tar),
            blobs: Arc::clone(&memory) as Arc<dyn Blobs>,
        })
        .collect();
    let new = NewImage { config: config(), layers, format: Format::Oci, annotations: Default::default() };
    (memory, new.finish().unwrap())
}

fn read_all(image: &Image) {
    for layer in image.layers() {
        std::io::copy(&mut layer.open().unwrap(), &mut std::io::sink()).unwrap();
    }
}

fn skopeo_copy(from: &str, to: &str) {
    let output = Command::new("skopeo").args(["copy", "--insecure-policy", from, to]).output().unwrap();
    assert!(output.status.success(), "{from} {to}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn oci_archives_are_read_back_by_us_and_as_docker_archives() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a.tar");
    let (_memory, image) = mixed();
    let name: Reference = "me/app:v1".parse().unwrap();
    oci_archive(&path, &image, &[name.to_string(), "v1".to_owned()], std::slice::from_ref(&name), &|_, _| {})
        .unwrap();

    let archive = OciArchive::open(&path, temp.path()).unwrap();
    for tag in [Some("docker.io/me/app:v1"), Some("v1")] {
        let again = archive.image(tag, &host()).unwrap();
        assert_eq!(again.digest(), image.digest());
        read_all(&again);
    }
    assert!(archive.image(Some("v2"), &host()).is_err());
    let docker = DockerArchive::open(&path, temp.path()).unwrap().image(Some(&name)).unwrap();
    assert_eq!(docker.id(), image.id());
    assert_eq!(docker.layers()[1].descriptor.digest, image.layers()[1].descriptor.digest);
    read_all(&docker);

    let again = temp.path().join("b.tar");
    oci_archive(&again, &image, &[name.to_string(), "v1".to_owned()], &[name], &|_, _| {}).unwrap();
    assert_eq!(fs::read(&path).unwrap(), fs::read(&again).unwrap(), "the same image gives the same bytes");
}

#[test]
fn docker_archives_are_read_back() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a.tar");
    let (_memory, image) = mixed();
    let names: Vec<Reference> = ["me/app:v1", "me/app:v2"].map(|name| name.parse().unwrap()).to_vec();
    let bytes = AtomicU64::new(0);
    docker_archive(&path, &image, &names, &|_, count| {
        bytes.fetch_add(count, Ordering::Relaxed);
    })
    .unwrap();
    assert_eq!(bytes.into_inner(), image.layers().iter().map(|layer| layer.descriptor.size).sum::<u64>());

    let archive = DockerArchive::open(&path, temp.path()).unwrap();
    assert_eq!(archive.names().collect::<Vec<_>>(), ["docker.io/me/app:v1", "docker.io/me/app:v2"]);
    let again = archive.image(Some(&names[1])).unwrap();
    assert_eq!(again.config, image.config);
    assert_eq!(again.format(), Format::Docker);
    // The zstd layer went in uncompressed.
    assert_eq!(again.layers()[2].descriptor.digest, image.layers()[2].diff_id);
    read_all(&again);
    let other = archive.image(Some(&"other".parse().unwrap())).unwrap_err();
    assert!(matches!(other, Error::NoSuchImage { .. }));
}

#[test]
fn skopeo_reads_what_we_write() {
    testkit::needs!("skopeo");
    let temp = tempfile::tempdir().unwrap();
    let file = |name: &str| temp.path().join(name).display().to_string();
    let (_memory, image) = mixed();
    let name: Reference = "me/app:v1".parse().unwrap();
    oci_archive(
        Path::new(&file("o.tar")),
        &image,
        &["v1".to_owned()],
        std::slice::from_ref(&name),
        &|_, _| {},
    )
    .unwrap();
    docker_archive(Path::new(&file("d.tar")), &image, &[name], &|_, _| {}).unwrap();
    for (from, to) in [
        (format!("oci-archive:{}:v1", file("o.tar")), format!("dir:{}", file("dir1"))),
        (format!("docker-archive:{}", file("d.tar")), format!("dir:{}", file("dir2"))),
        (
            format!("docker-archive:{}:me/app:v1", file("d.tar")),
            format!("docker-archive:{}:me/app:v1", file("s.tar")),
        ),
        (format!("docker-archive:{}", file("d.tar")), format!("oci:{}:x", file("layout"))),
    ] {
        skopeo_copy(&from, &to);
    }
    // And we read what skopeo wrote: uncompressed layers, one a link to another folder.
    let again = DockerArchive::open(file("s.tar"), temp.path()).unwrap().image(None).unwrap();
    assert_eq!(again.config.rootfs, image.config.rootfs);
    read_all(&again);
    let layout = crate::Layout::open(file("layout")).unwrap().image(Some("x"), &host()).unwrap();
    assert_eq!(layout.config.rootfs, image.config.rootfs);
    read_all(&layout);
}

#[test]
fn a_failed_write_leaves_what_was_there() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a.tar");
    fs::write(&path, "before").unwrap();
    let memory = Arc::new(Memory::default());
    let image = image_of(&memory, &[tar("a", b"1")], Format::Oci);
    memory.put_as(image.layers()[0].descriptor.digest, b"something else");
    let name: Vec<Reference> = vec!["a".parse().unwrap()];
    assert!(oci_archive(&path, &image, &[], &name, &|_, _| {}).unwrap_err().is_corrupt_blob());
    assert!(docker_archive(&path, &image, &name, &|_, _| {}).unwrap_err().is_corrupt_blob());
    assert_eq!(fs::read_to_string(&path).unwrap(), "before");
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
}
