//! Whole images through registries: resolving, pulling, pushing, mounting, and what goes wrong on the way.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use pannier_oci as oci;

use events::{Event, Events, Silent};
use oci::registry::{Client, ClientConfig, RetryPolicy};
use oci::sink::Push;
use oci::source::remote;
use oci::{
    Digest, Error, Format, Image, ImageConfig, ImageName, Layer, NewImage, Owners, Platform, Reference,
    Sinks, Sources, Store, Unpacker, media_type,
};
use testkit::registry::{DockerRegistry, Fault, Kind, Options, Registry, Setup};

struct Here {
    temp: tempfile::TempDir,
    store: Store,
    client: Client,
}

fn here() -> Here {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(temp.path().join("store")).unwrap();
    let retry = RetryPolicy { base: Duration::from_millis(2), ..RetryPolicy::default() };
    let client = Client::new(ClientConfig { retry, ..ClientConfig::default() });
    Here { temp, store, client }
}

impl Here {
    fn sinks(&self) -> Sinks {
        Sinks { store: self.store.clone(), client: self.client.clone() }
    }

    fn push(&self, image: &Image, name: &str) -> oci::Result<()> {
        self.sinks().write(image, &format!("docker://{name}").parse().unwrap(), &[], &Silent)
    }

    fn remote(&self, name: &str) -> oci::Result<Image> {
        remote(&self.client, &name.parse().unwrap(), &amd64())
    }

    fn pull(&self, name: &str) -> oci::Result<(Image, Vec<std::path::PathBuf>)> {
        self.store.fetch_unpacked(&self.remote(name)?, &unpacker(), &Silent)
    }

    fn scratch_is_empty(&self) -> bool {
        fs_err::read_dir(self.store.scratch_dir().unwrap()).unwrap().count() == 0
    }
}

fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn unpacker() -> Unpacker {
    Unpacker { kind: "ours".to_owned(), owners: Owners::Ours }
}

/// Bytes that do not compress: xorshift.
fn noise(size: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_add(1).wrapping_mul(2_654_435_761);
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..size).map(next).collect()
}

/// A layer in the store with one file, `name`.
fn layer(store: &Store, name: &str, content: &[u8]) -> Layer {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, content).unwrap();
    let tar = builder.into_inner().unwrap();
    let mut writer = store.blob_writer().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(&mut writer, flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    gzip.finish().unwrap();
    let descriptor = writer.commit(media_type::OCI_LAYER_GZIP).unwrap();
    Layer { descriptor, diff_id: Digest::of(&tar), blobs: store.blobs() }
}

fn image_for(platform: &str, layers: Vec<Layer>) -> Image {
    let platform: Platform = platform.parse().unwrap();
    let config: ImageConfig = serde_json::from_value(serde_json::json!({
        "os": platform.os, "architecture": platform.architecture, "rootfs": { "type": "layers" },
    }))
    .unwrap();
    NewImage { config, layers, format: Format::Oci, annotations: Default::default() }.finish().unwrap()
}

/// Four layers of 300 KB each.
fn image(store: &Store) -> Image {
    let layers = (0..4).map(|n| layer(store, &format!("file{n}"), &noise(300_000, n))).collect();
    image_for("linux/amd64", layers)
}

#[test]
fn an_image_goes_to_a_registry_and_comes_back() {
    let registry = Registry::default();
    let name = format!("{}/me/app:v1", registry.host());
    let (from, to) = (here(), here());
    let image = image(&from.store);
    from.push(&image, &name).unwrap();

    let (pulled, lowers) = to.pull(&name).unwrap();
    assert_eq!(pulled.digest(), image.digest());
    assert_eq!(fs_err::read(lowers[0].join("file3")).unwrap(), noise(300_000, 3), "highest first");
    assert_eq!(fs_err::read(lowers[3].join("file0")).unwrap(), noise(300_000, 0));
    assert!(to.store.verify().unwrap().problems.is_empty());
    assert!(to.scratch_is_empty());

    // A second time nothing moves but the manifest.
    let (sent, fetched) = (registry.count(Kind::UploadStart), registry.count(Kind::BlobGet));
    from.push(&image, &name).unwrap();
    to.pull(&name).unwrap();
    assert_eq!(registry.count(Kind::UploadStart), sent);
    assert_eq!(registry.count(Kind::BlobGet), fetched + 1, "the configuration");
}

#[test]
fn layers_are_read_only_when_somebody_asks() {
    let registry = Registry::default();
    let name = format!("{}/me/app", registry.host());
    let here = here();
    here.push(&image(&here.store), &name).unwrap();
    let image = here.remote(&name).unwrap();
    assert_eq!((registry.count(Kind::ManifestGet), registry.count(Kind::BlobGet)), (1, 1));
    std::io::copy(&mut image.layers()[2].open().unwrap(), &mut std::io::sink()).unwrap();
    assert_eq!(registry.count(Kind::BlobGet), 2);
}

#[test]
fn layers_are_mounted_from_the_same_registry() {
    for no_mount in [false, true] {
        let registry = Registry::start(Options { no_mount, ..Options::default() });
        let here = here();
        let (base, app) = (format!("{}/base:1", registry.host()), format!("{}/team/app:1", registry.host()));
        here.push(&image(&here.store), &base).unwrap();
        let before = (registry.count(Kind::UploadStart), registry.count(Kind::BlobGet));

        let mut new = here.remote(&base).unwrap().derive();
        new.layers.push(layer(&here.store, "app", b"the app"));
        let new = new.finish().unwrap();
        here.push(&new, &app).unwrap();

        let sent = registry.count(Kind::UploadStart) - before.0;
        // The base's configuration is read; its layers are not where mounting works.
        let read = registry.count(Kind::BlobGet) - before.1 - 1;
        match no_mount {
            false => {
                assert_eq!((sent, read, registry.count(Kind::Mount)), (2, 0, 4), "layer and configuration")
            }
            true => assert_eq!((sent, read), (6, 4)),
        }
        assert_eq!(here.remote(&app).unwrap().digest(), new.digest());
        assert_eq!(registry.open_uploads(), 0);
    }
}

#[test]
fn an_index_gives_the_image_of_the_platform() {
    let registry = Registry::default();
    let name: Reference = format!("{}/multi:1", registry.host()).parse().unwrap();
    let here = here();
    let mut entries = Vec::new();
    for platform in ["linux/amd64", "linux/arm64"] {
        let image = image_for(platform, vec![layer(&here.store, "arch", platform.as_bytes())]);
        here.push(&image, &name.with_tag(&platform.replace('/', "-")).to_string()).unwrap();
        entries.push(serde_json::to_value(&image.descriptor).unwrap());
    }
    let index =
        serde_json::json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries });
    let index = here.client.put_manifest(&name, index.to_string().as_bytes(), media_type::OCI_INDEX).unwrap();

    let image = remote(&here.client, &name, &"linux/arm64".parse().unwrap()).unwrap();
    assert_eq!((image.config.architecture.as_str(), image.index), ("arm64", Some(index)));
    let error = remote(&here.client, &name, &"linux/s390x".parse().unwrap()).unwrap_err().to_string();
    assert!(error.ends_with("it has linux/amd64, linux/arm64"), "{error}");

    // In the store, both platforms have the name.
    let sources = Sources { store: here.store.clone(), client: here.client.clone() };
    for platform in ["linux/amd64", "linux/arm64"].map(|p| p.parse::<Platform>().unwrap()) {
        let image = here.store.fetch(&remote(&here.client, &name, &platform).unwrap(), &Silent).unwrap();
        here.store.tag_image(&name, &image.with_index(Some(index))).unwrap();
        let asked = registry.seen().len();
        let found = sources.open(&ImageName::Plain(name.clone()), &platform).unwrap();
        assert_eq!((found.platform(), found.index), (platform, Some(index)));
        assert_eq!(registry.seen().len(), asked, "the registry is not asked");
    }
    assert_eq!(here.store.list().unwrap().len(), 2);
}

#[test]
fn a_broken_connection_is_taken_up_again() {
    let registry = Registry::default();
    let name = format!("{}/me/app", registry.host());
    let (from, to) = (here(), here());
    let image = image(&from.store);
    from.push(&image, &name).unwrap();
    let remote = to.remote(&name).unwrap();
    registry.fail(Kind::BlobGet, Fault::CutAnswer(100_000), 3);
    to.store.fetch_unpacked(&remote, &unpacker(), &Silent).unwrap();
    assert!(to.store.verify().unwrap().problems.is_empty());
    let ranges: Vec<_> = registry.seen().into_iter().filter_map(|seen| seen.range).collect();
    assert_eq!(ranges.len(), 3, "{ranges:?}");
    assert!(ranges[0].starts_with("bytes=100000-"), "{ranges:?}");
}

#[test]
fn wrong_content_is_an_error_and_leaves_nothing() {
    for fault in [Fault::WrongByte, Fault::Short(10), Fault::Status(404)] {
        let registry = Registry::default();
        let name = format!("{}/me/app", registry.host());
        let (from, to) = (here(), here());
        from.push(&image(&from.store), &name).unwrap();
        let remote = to.remote(&name).unwrap();
        registry.fail(Kind::BlobGet, fault.clone(), 1000);
        let error = to.store.fetch_unpacked(&remote, &unpacker(), &Silent).unwrap_err();
        match fault {
            Fault::WrongByte => assert!(matches!(error, Error::CorruptBlob { .. }), "{error}"),
            _ => assert!(matches!(error, Error::Registry(_)), "{error}"),
        }
        assert!(to.scratch_is_empty());
        assert!(to.store.list().unwrap().is_empty());
        let report = to.store.verify().unwrap();
        assert_eq!((report.blobs, report.problems.len()), (0, 0));
    }
}

#[test]
fn a_push_that_fails_leaves_the_tag_as_it_was() {
    let registry = Registry::default();
    let name = format!("{}/me/app:v1", registry.host());
    let here = here();
    let old = image_for("linux/amd64", vec![layer(&here.store, "old", b"old")]);
    here.push(&old, &name).unwrap();
    registry.fail(Kind::UploadPut, Fault::Status(403), 1000);
    let error = here.push(&image(&here.store), &name).unwrap_err();
    assert!(matches!(error, Error::Registry(_)), "{error}");
    assert_eq!(registry.count(Kind::ManifestPut), 1);
    assert_eq!(here.remote(&name).unwrap().digest(), old.digest());
}

/// Remembers what ended, and whether it had to move.
#[derive(Default)]
struct Ended(Mutex<Vec<(String, bool)>>);

impl Events for Ended {
    fn event(&self, event: Event<'_>) {
        if let Event::TransferEnded { id, reused, .. } = event {
            self.0.lock().unwrap().push((id.to_owned(), reused));
        }
    }
}

#[test]
fn layers_are_on_their_way_before_the_image_is_made() {
    let registry = Registry::default();
    let reference: Reference = format!("{}/me/app:v1", registry.host()).parse().unwrap();
    let here = here();
    let events = Ended::default();
    let tags = [reference.clone(), reference.with_tag("latest")];
    std::thread::scope(|scope| {
        let push = Push::start(scope, &here.client, &reference, &events);
        let first = layer(&here.store, "first", b"1");
        push.add(&first);
        push.add(&first);
        let start = std::time::Instant::now();
        while events.0.lock().unwrap().is_empty() {
            assert!(start.elapsed() < Duration::from_secs(30), "the layer never arrives");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(registry.count(Kind::ManifestPut), 0);
        let image = image_for("linux/amd64", vec![first, layer(&here.store, "second", b"2")]);
        push.finish(&image, &tags).unwrap();
    });
    assert_eq!(events.0.lock().unwrap().len(), 2);
    for tag in tags {
        assert!(here.remote(&tag.to_string()).is_ok());
    }

    // Without `finish` nothing has a name.
    let other: Reference = format!("{}/me/other", registry.host()).parse().unwrap();
    std::thread::scope(|scope| {
        Push::start(scope, &here.client, &other, &events).add(&layer(&here.store, "third", b"3"));
    });
    assert!(here.remote(&other.to_string()).is_err());
}

fn skopeo(arguments: &[&str]) {
    let output = Command::new("skopeo").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_real_registry_and_skopeo_agree() {
    testkit::needs!("docker-registry", "skopeo");
    let registry = DockerRegistry::start(&Setup::default());
    let here = here();
    let (ours, theirs) =
        (format!("{}/ours/app:1", registry.host()), format!("{}/theirs/app:1", registry.host()));
    let image = image(&here.store);
    here.push(&image, &ours).unwrap();
    let layout = here.temp.path().join("layout").display().to_string();
    let tls = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    skopeo(&["copy", "--insecure-policy", tls[0], &format!("docker://{ours}"), &format!("oci:{layout}:x")]);
    let back = oci::Layout::open(Path::new(&layout)).unwrap().image(Some("x"), &amd64()).unwrap();
    assert_eq!(back.digest(), image.digest());

    // As Docker would push it, with Docker's media types.
    let to = format!("docker://{theirs}");
    skopeo(&["copy", "--insecure-policy", "--format", "v2s2", tls[1], &format!("oci:{layout}:x"), &to]);
    let (pulled, _) = here.pull(&theirs).unwrap();
    assert_eq!((pulled.format(), &pulled.config.rootfs), (Format::Docker, &image.config.rootfs));

    // From repository to repository without passing through us.
    let copy = format!("{}/copy/app:1", registry.host());
    here.push(&here.remote(&ours).unwrap(), &copy).unwrap();
    assert_eq!(here.remote(&copy).unwrap().digest(), image.digest());
}

#[test]
fn an_image_for_several_platforms_goes_everywhere_whole() {
    let registry = Registry::default();
    let here = here();
    let shared = layer(&here.store, "shared", b"both");
    let images = ["linux/amd64", "linux/arm64"].map(|platform| {
        image_for(platform, vec![shared.clone(), layer(&here.store, "own", platform.as_bytes())])
    });
    let at = |place: &str| here.temp.path().join(place).display().to_string();
    let layout: ImageName = format!("oci:{}:both", at("first")).parse().unwrap();
    images.iter().for_each(|image| here.sinks().write(image, &layout, &[], &Silent).unwrap());

    let mut from = layout;
    let sources = Sources { store: here.store.clone(), client: here.client.clone() };
    let digest = sources.open_all(&from).unwrap().digest();
    let first = format!("docker://{}/a:1", registry.host());
    for to in [
        first.clone(),
        format!("docker://{}/b:1", registry.host()),
        format!("oci:{}:x", at("second")),
        format!("oci-archive:{}:x", at("a.tar")),
        "both".to_owned(),
        first,
    ] {
        let set = sources.open_all(&from).unwrap();
        assert_eq!(
            (set.digest(), set.platforms.as_slice()),
            (digest, &["linux/amd64", "linux/arm64"].map(str::to_owned)[..])
        );
        let to: ImageName = to.parse().unwrap();
        here.sinks().write_all(&set, &to, &[], &Silent).unwrap();
        for image in &images {
            let found = sources.open(&to, &image.platform()).unwrap();
            assert_eq!((found.digest(), found.index), (image.digest(), Some(digest)), "{to}");
            for layer in found.layers() {
                std::io::copy(&mut layer.open().unwrap(), &mut std::io::sink()).unwrap();
            }
        }
        from = to;
    }
    assert_eq!(
        registry.count(Kind::UploadStart),
        5,
        "two configurations, three layers; the others are mounted"
    );

    let list = here.store.list().unwrap();
    assert_eq!((list.len(), list[0].platforms.len(), list[0].digest), (1, 2, digest));
    // A name is an index or an image.
    let name: Reference = "both".parse().unwrap();
    here.store.tag_image(&name, &here.store.fetch(&images[0], &Silent).unwrap()).unwrap();
    assert_eq!(here.store.list().unwrap()[0].platforms, [amd64()]);
    here.sinks()
        .write_all(&sources.open_all(&from).unwrap(), &"both".parse().unwrap(), &[], &Silent)
        .unwrap();
    here.store.prune(&oci::store::PruneOptions { keep_cache: &|_| false, keep_steps: None }).unwrap();
    assert!(here.store.image(&name, &"linux/arm64".parse().unwrap()).unwrap().is_some());
    assert!(here.store.verify().unwrap().problems.is_empty());
}

#[test]
fn what_is_no_set_of_images_is_refused() {
    let here = here();
    let image = image(&here.store);
    let layout: ImageName = format!("oci:{}", here.temp.path().join("l").display()).parse().unwrap();
    here.sinks().write(&image, &layout, &[], &Silent).unwrap();
    let sources = Sources { store: here.store.clone(), client: here.client.clone() };
    let set = sources.open_all(&layout).unwrap();
    assert_eq!(set.digest(), image.digest(), "one image is its own set");
    let archive: ImageName =
        format!("docker-archive:{}", here.temp.path().join("d").display()).parse().unwrap();
    let refused = here.sinks().write_all(&set, &archive, &[], &Silent).unwrap_err();
    assert!(refused.to_string().ends_with("cannot hold an image for several platforms"), "{refused}");

    let pinned = |digest: Digest| format!("{layout}@{digest}").parse::<ImageName>().unwrap();
    assert!(sources.open(&pinned(image.digest()), &amd64()).is_ok());
    let other = sources.open(&pinned(Digest::of(b"other")), &amd64()).unwrap_err();
    assert!(other.is_not_found() && other.to_string().contains("what is there now is sha256:"), "{other}");
    assert!(here.sinks().write(&image, &pinned(image.digest()), &[], &Silent).is_err());
}

#[test]
fn others_copy_what_is_for_several_platforms() {
    testkit::needs!("skopeo");
    let here = here();
    let at = |place: &str| here.temp.path().join(place).display().to_string();
    let layout: ImageName = format!("oci:{}:both", at("first")).parse().unwrap();
    for platform in ["linux/amd64", "linux/arm64"] {
        let image = image_for(platform, vec![layer(&here.store, "own", platform.as_bytes())]);
        here.sinks().write(&image, &layout, &[], &Silent).unwrap();
    }
    let sources = Sources { store: here.store.clone(), client: here.client.clone() };
    let set = sources.open_all(&layout).unwrap();
    for (number, to) in
        [format!("oci:{}:x", at("second")), format!("oci-archive:{}:x", at("a.tar"))].into_iter().enumerate()
    {
        here.sinks().write_all(&set, &to.parse().unwrap(), &[], &Silent).unwrap();
        let copy = format!("oci:{}:y", at(&format!("copy{number}")));
        let output = Command::new("skopeo")
            .args(["copy", "--quiet", "--all", "--insecure-policy", &to, &copy])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let copied = sources.open_all(&copy.parse().unwrap()).unwrap();
        assert_eq!((copied.digest(), copied.platforms), (set.digest(), set.platforms.clone()));
    }
}
