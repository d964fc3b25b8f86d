use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use events::Silent;
use fs_err as fs;

use super::*;
use crate::image::{Blobs, Format};
use crate::model::Platform;
use crate::registry::ClientConfig;
use crate::source::Sources;
use crate::testing::{Memory, image_of, tar};

struct Places {
    temp: tempfile::TempDir,
    sinks: Sinks,
    sources: Sources,
    image: Image,
}

fn places() -> Places {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(temp.path().join("store")).unwrap();
    let client = Client::new(ClientConfig::default());
    let memory = Arc::new(Memory::default());
    let image = image_of(&memory, &[tar("one", b"1"), tar("two", b"2"), tar("one", b"1")], Format::Oci);
    let sinks = Sinks { store: store.clone(), client: client.clone() };
    Places { temp, sinks, sources: Sources { store, client }, image }
}

impl Places {
    fn path(&self, name: &str) -> String {
        self.temp.path().join(name).display().to_string()
    }

    fn write(&self, to: &str, names: &[&str]) -> Result<()> {
        let names: Vec<Reference> = names.iter().map(|name| name.parse().unwrap()).collect();
        self.sinks.write(&self.image, &to.parse().unwrap(), &names, &Silent)
    }

    fn open(&self, name: &str) -> Result<Image> {
        self.sources.open(&name.parse().unwrap(), &host())
    }
}

fn host() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_local_sink_is_a_source() {
    let places = places();
    for (to, names, from) in [
        ("me/app".to_owned(), &["me/app:v2"][..], vec!["me/app".to_owned(), "me/app:v2".to_owned()]),
        (
            format!("oci:{}:v1", places.path("l")),
            &["x"],
            vec![
                format!("oci:{}:v1", places.path("l")),
                format!("oci:{}:docker.io/library/x:latest", places.path("l")),
                format!("oci:{}:x", places.path("l")),
            ],
        ),
        (format!("oci:{}", places.path("m")), &[], vec![format!("oci:{}", places.path("m"))]),
        (
            format!("oci-archive:{}", places.path("o.tar")),
            &["x:1"],
            vec![
                format!("oci-archive:{}", places.path("o.tar")),
                format!("oci-archive:{}:1", places.path("o.tar")),
                format!("docker-archive:{}:x:1", places.path("o.tar")),
            ],
        ),
        (
            format!("docker-archive:{}:x:1", places.path("d.tar")),
            &["y"],
            vec![
                format!("docker-archive:{}:x:1", places.path("d.tar")),
                format!("docker-archive:{}:y", places.path("d.tar")),
            ],
        ),
    ] {
        places.write(&to, names).unwrap();
        for name in from {
            let image = places.open(&name).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(image.id(), places.image.id(), "{name}");
            if !name.starts_with("docker-archive") {
                assert_eq!(image.digest(), places.image.digest(), "{name}");
            }
            for layer in image.layers() {
                std::io::copy(&mut layer.open().unwrap(), &mut std::io::sink()).unwrap();
            }
        }
    }
    assert!(places.sinks.store.verify().unwrap().problems.is_empty());
}

#[test]
fn others_read_the_store_and_layouts() {
    testkit::needs!("skopeo", "umoci");
    let places = places();
    places.write("me/app:v1", &[]).unwrap();
    let layout = places.path("layout");
    places.write(&format!("oci:{layout}:v1"), &[]).unwrap();
    let store = places.path("store");
    let shown = run("skopeo", &["inspect", &format!("oci:{store}:docker.io/me/app:v1")]);
    assert!(shown.contains(&places.image.digest().to_string()), "{shown}");
    let copy = format!("dir:{}", places.path("dir"));
    run("skopeo", &["copy", "--insecure-policy", &format!("oci:{layout}:v1"), &copy]);
    let bundle = places.path("bundle");
    run("umoci", &["unpack", "--rootless", "--image", &format!("{layout}:v1"), &bundle]);
    assert_eq!(fs::read_to_string(Path::new(&bundle).join("rootfs/two")).unwrap(), "2");
}

#[test]
fn a_failed_write_gives_no_name() {
    let mut places = places();
    let broken = Arc::new(Memory::default());
    places.image = places.image.with_blobs(&(broken as Arc<dyn Blobs>));
    let layout = places.path("layout");
    for to in ["me/app", &format!("oci:{layout}:v1"), &format!("oci-archive:{}", places.path("o.tar"))] {
        assert!(matches!(places.write(to, &[]), Err(crate::Error::MissingBlob { .. })), "{to}");
    }
    assert!(places.sinks.store.list().unwrap().is_empty());
    assert!(Layout::open(&layout).unwrap().names().unwrap().is_empty());
    assert!(!Path::new(&places.path("o.tar")).exists());
}
