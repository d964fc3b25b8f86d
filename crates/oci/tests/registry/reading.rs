//! Manifests, blobs, tags, referrers, mirrors.

use std::collections::BTreeMap;
use std::io::Read;

use testkit::registry::{Fault, Kind, Options, Registry};

use super::*;

#[test]
fn manifests_by_tag_and_digest() {
    let registry = Registry::default();
    let bytes = br#"{"schemaVersion":2,"manifests":[]}"#;
    registry.add_manifest("a/b", "v1", media_type::OCI_INDEX, bytes);
    let client = client();
    let tag = reference(&registry.host(), "a/b:v1");
    let found = client.manifest(&tag).unwrap();
    assert_eq!((found.bytes.as_slice(), found.media_type.as_str()), (&bytes[..], media_type::OCI_INDEX));
    assert_eq!(found.digest, Digest::of(bytes));
    assert_eq!(client.manifest(&tag.with_digest(found.digest)).unwrap(), found);
    assert_eq!(client.head_manifest(&tag).unwrap(), Some(found.descriptor()));
    assert!(client.check_read(&tag).unwrap());
}

#[test]
fn what_is_not_there() {
    let registry = Registry::default();
    let (client, missing) = (client(), reference(&registry.host(), "a:none"));
    let error = client.manifest(&missing).unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(
        error.to_string(),
        format!("cannot pull manifest {missing}: not found: manifest unknown, MANIFEST_UNKNOWN")
    );
    assert_eq!(client.head_manifest(&missing).unwrap(), None);
    assert!(!client.check_read(&missing).unwrap());
    assert!(!client.has_blob(&missing, &descriptor(b"x")).unwrap());
    assert_eq!(registry.count(Kind::ManifestGet), 1, "a 404 is not tried again");
}

#[test]
fn a_wrong_manifest_is_refused() {
    let registry = Registry::default();
    let digest = registry.add_manifest("a", "v1", media_type::OCI_MANIFEST, b"{}\n");
    let by_digest = reference(&registry.host(), &format!("a@{digest}"));
    registry.fail(Kind::ManifestGet, Fault::WrongByte, 2);
    for wanted in [by_digest, reference(&registry.host(), "a:v1")] {
        let error = client().manifest(&wanted).unwrap_err().to_string();
        assert!(error.contains("content is sha256:") && error.contains(&digest), "{error}");
    }
}

#[test]
fn blobs_from_any_offset() {
    let registry = Registry::default();
    let bytes = content(300_000);
    registry.add_blob("a", &bytes);
    let (client, reference, wanted) = (client(), reference(&registry.host(), "a"), descriptor(&bytes));
    for offset in [0, 1, 299_999, 300_000] {
        let mut got = Vec::new();
        client.blob(&reference, &wanted, offset as u64).unwrap().read_to_end(&mut got).unwrap();
        assert!(got == bytes[offset..], "from {offset}");
    }
    let ranges: Vec<_> = registry.seen().into_iter().filter_map(|seen| seen.range).collect();
    assert_eq!(ranges, ["bytes=1-299999", "bytes=299999-299999"]);
}

#[test]
fn a_registry_without_ranges() {
    let registry = Registry::default();
    let bytes = content(300_000);
    registry.add_blob("a", &bytes);
    registry.fail(Kind::BlobGet, Fault::NoRange, 1);
    let mut got = Vec::new();
    let reference = reference(&registry.host(), "a");
    client().blob(&reference, &descriptor(&bytes), 1000).unwrap().read_to_end(&mut got).unwrap();
    assert!(got == bytes[1000..]);
}

#[test]
fn a_broken_connection_is_taken_up_where_it_broke() {
    let registry = Registry::default();
    let bytes = content(3_000_000);
    registry.add_blob("a", &bytes);
    registry.fail(Kind::BlobGet, Fault::CutAnswer(1_000_000), 1);
    registry.fail(Kind::BlobGet, Fault::CutAnswer(500_000), 1);
    registry.fail(Kind::BlobGet, Fault::CutAnswer(0), 1);
    registry.fail(Kind::BlobGet, Fault::Status(503), 1);
    let reference = reference(&registry.host(), "a");
    assert!(pull(&client(), &reference, &descriptor(&bytes)).unwrap() == bytes);
    let ranges: Vec<_> = registry.seen().into_iter().filter_map(|seen| seen.range).collect();
    assert_eq!(ranges.len(), 4);
    assert_eq!(ranges[0], "bytes=1000000-2999999");
    assert!(ranges[1..].iter().all(|range| range == "bytes=1500000-2999999"), "{ranges:?}");
}

#[test]
fn a_connection_that_always_breaks_is_given_up() {
    let registry = Registry::default();
    let bytes = content(1000);
    registry.add_blob("a", &bytes);
    registry.fail(Kind::BlobGet, Fault::CutAnswer(100), 1);
    registry.fail(Kind::BlobGet, Fault::CutAnswer(0), 100);
    let error = pull(&client(), &reference(&registry.host(), "a"), &descriptor(&bytes)).unwrap_err();
    assert!(error.to_string().ends_with("content has 100 bytes, expected 1000"), "{error}");
    assert_eq!(registry.count(Kind::BlobGet), 5 + 1 - 1, "four tries after the first");
}

#[test]
fn sizes_are_the_descriptors() {
    let registry = Registry::default();
    let bytes = content(1000);
    registry.add_blob("a", &bytes);
    let reference = reference(&registry.host(), "a");
    for size in [999, 1001] {
        let wanted = Descriptor::new(media_type::OCI_LAYER, Digest::of(&bytes), size);
        let error = pull(&client(), &reference, &wanted).unwrap_err().to_string();
        assert!(error.contains(&format!("content has 1000 bytes, expected {size}")), "{error}");
    }
    registry.fail(Kind::BlobGet, Fault::Short(10), 100);
    let error = pull(&client(), &reference, &descriptor(&bytes)).unwrap_err().to_string();
    assert!(error.contains("content has 990 bytes, expected 1000"), "{error}");
}

#[test]
fn small_blobs_are_checked() {
    let registry = Registry::default();
    let bytes = content(1000);
    registry.add_blob("a", &bytes);
    let (client, reference, wanted) = (client(), reference(&registry.host(), "a"), descriptor(&bytes));
    assert_eq!(client.blob_bytes(&reference, &wanted, 1000).unwrap(), bytes);
    assert!(client.blob_bytes(&reference, &wanted, 999).is_err());
    registry.fail(Kind::BlobGet, Fault::WrongByte, 1);
    let error = client.blob_bytes(&reference, &wanted, 1000).unwrap_err().to_string();
    assert!(error.contains("content is sha256:"), "{error}");
}

#[test]
fn tags_come_in_pages() {
    let registry = Registry::start(Options { page: Some(2), ..Options::default() });
    for tag in ["a", "b", "c", "d", "e"] {
        registry.add_manifest("r", tag, media_type::OCI_MANIFEST, b"{}");
    }
    assert_eq!(client().tags(&reference(&registry.host(), "r")).unwrap(), ["a", "b", "c", "d", "e"]);
    assert_eq!(registry.count(Kind::Tags), 3);
}

/// An SBOM's manifest that refers to `subject`.
fn referrer(subject: &str, artifact_type: &str) -> Vec<u8> {
    serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "artifactType": artifact_type,
        "subject": { "mediaType": media_type::OCI_MANIFEST, "digest": subject, "size": 2 },
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::of(b"{}"), "size": 2 },
        "layers": [],
    })
    .to_string()
    .into_bytes()
}

#[test]
fn referrers_from_the_list() {
    let registry = Registry::start(Options { referrers: true, ..Options::default() });
    let subject = registry.add_manifest("r", "v1", media_type::OCI_MANIFEST, b"{}");
    for kind in ["application/spdx+json", "application/sig"] {
        registry.add_manifest(
            "r",
            &kind.replace('/', "-"),
            media_type::OCI_MANIFEST,
            &referrer(&subject, kind),
        );
    }
    let (client, reference, subject) = (client(), reference(&registry.host(), "r"), subject.parse().unwrap());
    assert_eq!(client.referrers(&reference, subject, None).unwrap().len(), 2);
    let one = client.referrers(&reference, subject, Some("application/sig")).unwrap();
    assert_eq!(one.len(), 1);
    assert_eq!(one[0].extra["artifactType"], "application/sig");
}

#[test]
fn referrers_from_the_tag() {
    let registry = Registry::default();
    let subject = registry.add_manifest("r", "v1", media_type::OCI_MANIFEST, b"{}");
    let (client, reference, digest) = (client(), reference(&registry.host(), "r"), subject.parse().unwrap());
    assert_eq!(client.referrers(&reference, digest, None).unwrap(), []);
    let index = serde_json::json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [
        { "mediaType": media_type::OCI_MANIFEST, "digest": Digest::of(b"x"), "size": 1, "artifactType": "a/b" },
        { "mediaType": media_type::OCI_MANIFEST, "digest": Digest::of(b"y"), "size": 1, "artifactType": "c/d" },
    ]});
    let tag = subject.replace(':', "-");
    registry.add_manifest("r", &tag, media_type::OCI_INDEX, index.to_string().as_bytes());
    assert_eq!(client.referrers(&reference, digest, None).unwrap().len(), 2);
    let one = client.referrers(&reference, digest, Some("c/d")).unwrap();
    assert_eq!(one.iter().map(|one| one.digest).collect::<Vec<_>>(), [Digest::of(b"y")]);
}

#[test]
fn mirrors_come_first_and_may_fail() {
    let (mirror, registry) = (Registry::default(), Registry::default());
    let nobody = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string() };
    let bytes = content(1000);
    mirror.add_blob("cache/a", &bytes);
    registry.add_blob("a", &bytes);
    registry.add_manifest("a", "v1", media_type::OCI_MANIFEST, b"{}");
    let mirrors = BTreeMap::from([("*".to_owned(), vec![nobody, format!("{}/cache", mirror.host())])]);
    let client = Client::new(ClientConfig { mirrors, ..config() });
    let reference = reference(&registry.host(), "a:v1");
    assert_eq!(pull(&client, &reference, &descriptor(&bytes)).unwrap(), bytes);
    assert_eq!((mirror.count(Kind::BlobGet), registry.count(Kind::BlobGet)), (1, 0));
    // What the mirror does not have comes from the registry; what is written never goes to the mirror.
    assert_eq!(client.manifest(&reference).unwrap().bytes, b"{}");
    assert!(client.head_manifest(&reference).unwrap().is_some());
    assert_eq!(mirror.count(Kind::ManifestGet), 1);
    push(&client, &reference, b"new").unwrap();
    assert_eq!((mirror.count(Kind::UploadPut), registry.count(Kind::UploadPut)), (0, 1));
    let error = client.manifest(&reference.with_tag("none")).unwrap_err();
    assert!(error.is_not_found(), "the registry's own answer counts: {error}");
}
