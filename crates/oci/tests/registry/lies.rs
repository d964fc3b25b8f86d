//! Answers of what is no registry, or of one that lies: none counts for more than it shows.

use std::cell::Cell;

use oci::registry::ErrorKind;
use testkit::registry::{Fault, Kind, Options, Registry};

use super::*;

/// What something that is no registry says to everything.
fn strangers(registry: &Registry) -> Vec<Fault> {
    let login = format!("{}/login", registry.url());
    vec![
        Fault::Page(200),
        Fault::Page(201),
        Fault::Empty(200),
        Fault::Empty(201),
        Fault::Empty(202),
        Fault::Empty(204),
        Fault::Page(404),
        Fault::Redirect(302, login.clone()),
        Fault::Redirect(307, login),
    ]
}

fn with_blobs() -> (Registry, Reference, Vec<u8>) {
    let registry = Registry::default();
    registry.add_blob("a", b"{}");
    registry.add_blob("a", b"layer");
    let reference = reference(&registry.host(), "a:v1");
    (registry, reference, manifest(b"{}", b"layer"))
}

#[test]
fn a_manifest_is_pushed_when_the_registry_has_it() {
    let (registry, reference, bytes) = with_blobs();
    let push = || client().put_manifest(&reference, &bytes, media_type::OCI_MANIFEST);
    for fault in strangers(&registry).into_iter().chain([Fault::WrongDigest]) {
        registry.recover();
        registry.fail(Kind::ManifestPut, fault.clone(), 1);
        let error = push().expect_err(&format!("{fault:?}")).to_string();
        assert!(error.starts_with(&format!("cannot push manifest {reference}: ")), "{fault:?}: {error}");
        if !matches!(fault, Fault::WrongDigest) {
            assert!(registry.manifest("a", "v1").is_none(), "{fault:?}");
        }
        // One that was there before is not ours.
        registry.add_manifest("a", "v1", media_type::OCI_MANIFEST, b"{}");
        registry.fail(Kind::ManifestPut, fault.clone(), 1);
        push().expect_err(&format!("{fault:?}"));
        registry.remove_manifests();
    }
    // It took it, and says so in its own words.
    for status in [200, 202, 204] {
        registry.remove_manifests();
        registry.fail(Kind::ManifestPut, Fault::Instead(status), 1);
        push().unwrap_or_else(|e| panic!("{status}: {e}"));
        assert!(registry.manifest("a", "v1").is_some());
    }
    registry.forget();
    push().unwrap();
    assert_eq!(registry.seen().iter().filter(|seen| seen.kind != Kind::Ping).count(), 1, "no question more");
}

#[test]
fn a_stranger_that_says_200_to_everything_gets_nothing() {
    let (registry, reference, bytes) = with_blobs();
    for fault in [Fault::Page(200), Fault::Empty(200), Fault::Page(201), Fault::Empty(201), Fault::Empty(204)]
    {
        for kind in [
            Kind::ManifestPut,
            Kind::ManifestGet,
            Kind::ManifestHead,
            Kind::ManifestDelete,
            Kind::BlobHead,
            Kind::BlobGet,
            Kind::UploadStart,
            Kind::UploadPut,
            Kind::Mount,
            Kind::Tags,
            Kind::Referrers,
        ] {
            registry.fail(kind, fault.clone(), 1000);
        }
        let client = client();
        let told = |error: Error| {
            assert!(
                matches!(*error.kind, ErrorKind::Answer { .. } | ErrorKind::Status { .. }),
                "{fault:?}: {error}"
            );
            assert!(error.to_string().contains(&registry.host()), "{error}");
        };
        told(client.put_manifest(&reference, &bytes, media_type::OCI_MANIFEST).unwrap_err());
        told(client.manifest(&reference).unwrap_err());
        told(client.head_manifest(&reference).unwrap_err());
        told(client.check_write(&reference).unwrap_err());
        told(push(&client, &reference, b"new").unwrap_err());
        told(client.tags(&reference).unwrap_err());
        told(client.referrers(&reference, Digest::of(b"x"), None).unwrap_err());
        told(client.delete_manifest(&reference.with_digest(Digest::of(b"x"))).unwrap_err());
        if !matches!(fault, Fault::Empty(201 | 204) | Fault::Page(201)) {
            assert!(!client.has_blob(&reference, &descriptor(b"layer")).unwrap(), "{fault:?}");
        }
        assert!(!client.mount_blob(&reference, Digest::of(b"layer"), "b").unwrap_or(false), "{fault:?}");
        registry.recover();
    }
}

use oci::registry::Error;

#[test]
fn a_blob_is_pushed_when_the_registry_has_it() {
    for fault in strangers(&Registry::default()).into_iter().chain([Fault::WrongDigest]) {
        let registry = Registry::default();
        registry.fail(Kind::UploadPut, fault.clone(), 100);
        let reference = reference(&registry.host(), "a");
        if matches!(fault, Fault::WrongDigest) {
            continue;
        }
        let error = push(&client(), &reference, b"layer").expect_err(&format!("{fault:?}")).to_string();
        assert!(error.contains("cannot push blob sha256:"), "{error}");
    }
    for status in [200, 202, 204] {
        let registry = Registry::default();
        registry.fail(Kind::UploadPut, Fault::Instead(status), 1);
        push(&client(), &reference(&registry.host(), "a"), b"layer").unwrap();
        assert_eq!(registry.count(Kind::UploadPut), 1, "{status}");
    }
    let registry = Registry::default();
    push(&client(), &reference(&registry.host(), "a"), b"layer").unwrap();
    assert_eq!(registry.count(Kind::BlobHead), 0, "no question more");
}

#[test]
fn a_blob_that_may_be_another_is_sent() {
    let registry = Registry::default();
    registry.add_blob("a", b"layer");
    let (client, reference) = (client(), reference(&registry.host(), "a"));
    for fault in [Fault::Page(200), Fault::Empty(200), Fault::WrongDigest] {
        registry.fail(Kind::BlobHead, fault.clone(), 1);
        assert!(!client.has_blob(&reference, &descriptor(b"layer")).unwrap(), "{fault:?}");
    }
    assert!(client.has_blob(&reference, &descriptor(b"layer")).unwrap());
}

#[test]
fn a_mount_that_only_says_so_is_none() {
    let registry = Registry::default();
    let digest = registry.add_blob("base", b"layer").parse().unwrap();
    let (client, reference) = (client(), reference(&registry.host(), "app"));
    for fault in [Fault::Empty(201), Fault::Page(201), Fault::Page(200), Fault::Empty(204)] {
        registry.fail(Kind::Mount, fault.clone(), 1);
        assert!(!client.mount_blob(&reference, digest, "base").unwrap(), "{fault:?}");
    }
    assert!(client.mount_blob(&reference, digest, "base").unwrap());
}

#[test]
fn a_deletion_that_only_says_so_is_none() {
    let (registry, reference, _) = with_blobs();
    let digest: Digest = registry.add_manifest("a", "v1", media_type::OCI_MANIFEST, b"{}").parse().unwrap();
    let reference = reference.with_digest(digest);
    for fault in [Fault::Page(200), Fault::Empty(204)] {
        registry.fail(Kind::ManifestDelete, fault.clone(), 1);
        client().delete_manifest(&reference).expect_err(&format!("{fault:?}"));
    }
    registry.fail(Kind::ManifestDelete, Fault::Instead(200), 1);
    client().delete_manifest(&reference).unwrap();
}

#[test]
fn documents_that_are_not() {
    let (registry, reference, bytes) = with_blobs();
    registry.add_manifest("a", "v1", media_type::OCI_MANIFEST, &bytes);
    let whole = || client().manifest(&reference);
    for (fault, words) in [
        (Fault::Page(200), "expected a manifest in JSON, got 200 with text/html"),
        (Fault::Empty(200), "expected a manifest in JSON, got 200"),
        (Fault::Empty(204), "answered 204"),
        (Fault::Gzip, "got 200 with application/vnd.oci.image.manifest.v1+json in gzip"),
        (Fault::WrongDigest, "content is sha256:"),
        (Fault::Endless, "more than 16777216 bytes"),
        (Fault::EndlessHeaders, "headers of more than"),
        (Fault::Redirect(302, format!("{}/login", registry.url())), "not found"),
        (Fault::Redirect(302, "nonsense://x".to_owned()), "expected a usable Location"),
        (Fault::Redirect(304, "/x".to_owned()), "answered 304"),
    ] {
        registry.recover();
        registry.fail(Kind::ManifestGet, fault.clone(), 100);
        let error = whole().expect_err(&format!("{fault:?}")).to_string();
        assert!(error.contains(words), "{fault:?}: {error}");
    }
    registry.recover();
    let round = format!("{}/v2/a/manifests/v1", registry.url());
    registry.fail(Kind::ManifestGet, Fault::Redirect(302, round), 100);
    assert!(whole().unwrap_err().to_string().contains("too many redirects"));
}

#[test]
fn documents_that_break_off_are_asked_for_again() {
    let registry = Registry::start(Options { referrers: true, ..Options::default() });
    let bytes = manifest(b"{}", b"layer");
    let digest = registry.add_manifest("a", "v1", media_type::OCI_MANIFEST, &bytes).parse().unwrap();
    let reference = reference(&registry.host(), "a:v1");
    for kind in [Kind::ManifestGet, Kind::Tags, Kind::Referrers] {
        for bytes in [0, 10, 20] {
            registry.fail(kind, Fault::CutAnswer(bytes), 1);
        }
    }
    assert_eq!(client().manifest(&reference).unwrap().bytes, bytes);
    assert_eq!(client().tags(&reference).unwrap(), ["v1"]);
    client().referrers(&reference, digest, None).unwrap();
    for kind in [Kind::ManifestGet, Kind::Tags, Kind::Referrers] {
        assert_eq!(registry.count(kind), 4, "{kind:?}");
    }
    registry.fail(Kind::ManifestGet, Fault::CutAnswer(10), 100);
    let error = client().manifest(&reference).unwrap_err();
    assert!(matches!(*error.kind, ErrorKind::Connection { .. }), "{error}");
}

#[test]
fn a_list_has_an_end() {
    let registry = Registry::start(Options { page: Some(2), endless_pages: true, ..Options::default() });
    for tag in ["a", "b", "c"] {
        registry.add_manifest("r", tag, media_type::OCI_MANIFEST, b"{}");
    }
    let error = client().tags(&reference(&registry.host(), "r")).unwrap_err().to_string();
    assert!(error.contains("a list without an end"), "{error}");
}

#[test]
fn a_token_server_that_is_none() {
    let setup = testkit::registry::TokenSetup::user("me", "hunter2");
    let auth = testkit::registry::Auth::Token(setup);
    let registry = Registry::start(Options { auth, ..Options::default() });
    registry.add_manifest("a", "v1", media_type::OCI_MANIFEST, b"{}");
    let reference = reference(&registry.host(), "a:v1");
    let ask = || {
        let credentials = basic("me", "hunter2");
        Client::new(ClientConfig { credentials, ..config() }).manifest(&reference)
    };
    for (fault, words) in [
        (Fault::Page(200), "expected JSON with a token from the token server, got 200 with text/html"),
        (Fault::Empty(200), "expected JSON with a token"),
        (Fault::Empty(204), "answered 204"),
        (Fault::Redirect(302, "https://login.example.com/x?y".to_owned()), "it leads to login.example.com"),
        (Fault::Endless, "more than 1048576 bytes"),
        (Fault::Status(503), "answered 503"),
    ] {
        registry.recover();
        registry.forget();
        registry.fail(Kind::Token, fault.clone(), 100);
        let error = ask().expect_err(&format!("{fault:?}")).to_string();
        assert!(error.contains(words), "{fault:?}: {error}");
        let tries = if matches!(fault, Fault::Status(_)) { 5 } else { 1 };
        assert_eq!(registry.count(Kind::Token), tries, "{fault:?}");
    }
    registry.recover();
    registry.fail(Kind::Token, Fault::CutAnswer(5), 2);
    registry.fail(Kind::Token, Fault::NoAnswer, 1);
    ask().unwrap();
}

#[test]
fn tries_do_not_multiply() {
    let registry = Registry::default();
    let reference = reference(&registry.host(), "a");
    let opened = Cell::new(0);
    let bytes = content(1000);
    let open = || -> std::io::Result<Box<dyn Read + Send>> {
        opened.set(opened.get() + 1);
        Ok(Box::new(std::io::Cursor::new(bytes.clone())))
    };
    for kind in [Kind::UploadStart, Kind::UploadPut] {
        registry.forget();
        registry.fail(kind, Fault::Status(429), 1000);
        registry.fail(Kind::BlobHead, Fault::Status(429), 1000);
        let error = client().push_blob(&reference, &descriptor(&bytes), &open, &|_| {}).unwrap_err();
        assert!(matches!(*error.kind, ErrorKind::RateLimited { .. }), "{error}");
        assert_eq!(registry.count(kind), 5, "{kind:?}");
        registry.recover();
    }
    registry.add_blob("a", &bytes);
    registry.forget();
    registry.fail(Kind::BlobGet, Fault::CutAnswer(100), 1);
    registry.fail(Kind::BlobGet, Fault::Status(503), 1000);
    pull(&client(), &reference, &descriptor(&bytes)).unwrap_err();
    assert_eq!(registry.count(Kind::BlobGet), 1 + 4);
}
