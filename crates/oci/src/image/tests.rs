use super::*;
use crate::testing::{Memory, config, image_of, tar};

fn memory() -> (Arc<Memory>, Arc<dyn Blobs>) {
    let memory = Arc::new(Memory::default());
    (Arc::clone(&memory), memory)
}

fn entry(platform: Option<&str>) -> Descriptor {
    let name = platform.unwrap_or("none");
    let mut descriptor = describe(media_type::OCI_MANIFEST, name.as_bytes());
    descriptor.platform = platform.map(|p| p.parse().unwrap());
    descriptor
}

fn index(platforms: &[Option<&str>]) -> Index {
    Index {
        schema_version: 2,
        media_type: None,
        manifests: platforms.iter().map(|p| entry(*p)).collect(),
        annotations: BTreeMap::new(),
        extra: serde_json::Map::new(),
    }
}

#[test]
fn a_new_image_reads_back_the_same() {
    for format in [Format::Oci, Format::Docker] {
        let (memory, blobs) = memory();
        let image = image_of(&memory, &[tar("a", b"1"), tar("b", b"2")], format);
        let again = Image::load(image.descriptor.clone(), &blobs).unwrap();
        assert_eq!(again.manifest, image.manifest);
        assert_eq!(again.config, image.config);
        assert_eq!(again.format(), format);
        assert_eq!(again.layers().len(), 2);
        assert_eq!(again.layers()[1].diff_id, Digest::of(&tar("b", b"2")));
        let same = again.derive().finish().unwrap();
        assert_eq!(same.digest(), image.digest());
    }
}

#[test]
fn layers_take_the_media_types_of_the_format() {
    let (memory, _) = memory();
    let image = image_of(&memory, &[tar("a", b"1")], Format::Docker);
    assert_eq!(image.manifest.layers[0].media_type, media_type::DOCKER_LAYER);
    assert_eq!(image.manifest.config.media_type, media_type::DOCKER_CONFIG);
    let new = NewImage { format: Format::Oci, ..image.derive() };
    assert_eq!(new.finish().unwrap().manifest.layers[0].media_type, media_type::OCI_LAYER);
}

#[test]
fn history_must_fit_the_layers() {
    let (memory, _) = memory();
    let mut new = image_of(&memory, &[tar("a", b"1")], Format::Oci).derive();
    new.config.history = vec![Default::default(), Default::default()];
    let error = new.clone().finish().unwrap_err().to_string();
    assert!(error.contains("2 entries with a layer, expected 1"), "{error}");
    new.config.history[0].empty_layer = true;
    new.finish().unwrap();
}

#[test]
fn documents_that_disagree_are_refused() {
    let (memory, blobs) = memory();
    let image = image_of(&memory, &[tar("a", b"1")], Format::Oci);
    let load = |manifest: &Manifest, media_type: &str| {
        let bytes = to_json(manifest, "test").unwrap();
        let descriptor = memory.put(media_type, &bytes);
        Image::load(descriptor, &blobs).unwrap_err().to_string()
    };

    let fewer = Manifest { layers: Vec::new(), ..image.manifest.clone() };
    assert!(load(&fewer, media_type::OCI_MANIFEST).contains("1 diff_ids, expected 0"));

    let other = load(&image.manifest, media_type::DOCKER_MANIFEST);
    assert!(other.contains("it says media type"), "{other}");

    let mut both = image.manifest.clone();
    both.extra.insert("manifests".to_owned(), serde_json::json!([]));
    assert!(load(&both, media_type::OCI_MANIFEST).contains("it says media type"));

    let mut artifact = image.manifest.clone();
    artifact.config.media_type = "application/vnd.example+json".to_owned();
    assert!(load(&artifact, media_type::OCI_MANIFEST).contains("it is not an image"));

    let old = Manifest { schema_version: 1, ..image.manifest.clone() };
    assert!(load(&old, media_type::OCI_MANIFEST).contains("schema version 1, expected 2"));

    let mut missing = image.manifest.clone();
    missing.config.digest = Digest::of(b"nowhere");
    assert!(load(&missing, media_type::OCI_MANIFEST).contains("is missing in memory"));

    let mut large = image.descriptor.clone();
    large.size = MAX_DOCUMENT + 1;
    assert!(Image::load(large, &blobs).unwrap_err().to_string().contains("expected at most"));

    memory.put_as(image.manifest.config.digest, &vec![b'x'; image.config_bytes.len()]);
    let error = Image::load(image.descriptor.clone(), &blobs).unwrap_err();
    assert!(matches!(error, Error::CorruptBlob { digest, .. } if digest == image.manifest.config.digest));
}

#[test]
fn an_unknown_member_of_a_configuration_stays() {
    let (memory, _) = memory();
    let mut new = image_of(&memory, &[], Format::Oci).derive();
    new.config = config();
    new.config.extra.insert("docker_version".to_owned(), "20.10".into());
    assert!(String::from_utf8(new.finish().unwrap().config_bytes).unwrap().contains("docker_version"));
}

#[test]
fn selects_by_platform() {
    let pick = |entries: &[Option<&str>], wanted: &str| {
        select(&index(entries), &wanted.parse().unwrap(), "x")
            .map(|d| d.platform.as_ref().map(ToString::to_string).unwrap_or_default())
            .map_err(|e| e.to_string())
    };
    let all = [
        Some("unknown/unknown"),
        Some("linux/amd64/v3"),
        Some("linux/amd64"),
        Some("linux/arm/v6"),
        Some("linux/arm/v7"),
    ];
    assert_eq!(pick(&all, "linux/amd64").unwrap(), "linux/amd64");
    assert_eq!(pick(&all, "linux/amd64/v3").unwrap(), "linux/amd64/v3");
    assert_eq!(pick(&all, "linux/arm/v7").unwrap(), "linux/arm/v7");
    assert_eq!(
        pick(&all, "linux/s390x").unwrap_err(),
        "no image for linux/s390x in x: it has linux/amd64/v3, linux/amd64, linux/arm/v6, linux/arm/v7"
    );
    assert_eq!(pick(&[None], "linux/amd64").unwrap(), "");
    assert!(pick(&[None, None], "linux/amd64").is_err());
    assert!(pick(&[], "linux/amd64").is_err());
}

#[test]
fn verified_reader_names_what_is_wrong() {
    let read = |bytes: &[u8], descriptor: &Descriptor| {
        let mut out = Vec::new();
        Verified::new(bytes, descriptor, "here".to_owned())
            .read_to_end(&mut out)
            .map(|_| out)
            .map_err(Error::from_io)
    };
    let descriptor = describe("x", b"hello");
    assert_eq!(read(b"hello", &descriptor).unwrap(), b"hello");
    assert!(matches!(read(b"hallo", &descriptor), Err(Error::CorruptBlob { .. })));
    assert!(matches!(read(b"hell", &descriptor), Err(Error::BlobSize { found: 4, .. })));
    assert!(matches!(read(b"hello!", &descriptor), Err(Error::BlobSize { .. })));
}
