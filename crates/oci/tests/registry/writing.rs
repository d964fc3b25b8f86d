//! Pushing, mounting, deleting, uploads of content in the making.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use oci::registry::{Error, ErrorKind};
use testkit::registry::{Fault, Kind, Options, Registry};

use super::*;

#[test]
fn a_blob_is_sent_once_and_whole() {
    let registry = Registry::default();
    let bytes = content(2_000_000);
    let (client, reference, told) = (client(), reference(&registry.host(), "a/b"), RefCell::new(Vec::new()));
    let open = || -> io::Result<Box<dyn Read + Send>> { Ok(Box::new(io::Cursor::new(bytes.clone()))) };
    let digest = descriptor(&bytes).digest;
    client.push_blob(&reference, &descriptor(&bytes), &open, &|n| told.borrow_mut().push(n)).unwrap();
    assert_eq!(registry.blob("a/b", &digest.to_string()).unwrap(), bytes);
    assert!(client.has_blob(&reference, &descriptor(&bytes)).unwrap());
    let told = told.into_inner();
    assert!(told.is_sorted() && told.first() == Some(&0) && told.last() == Some(&2_000_000), "{told:?}");
    assert_eq!((registry.count(Kind::UploadStart), registry.count(Kind::UploadPut)), (1, 1));
    assert_eq!(registry.count(Kind::UploadPatch), 0);
    assert_eq!(registry.open_uploads(), 0);
}

#[test]
fn an_empty_blob() {
    let registry = Registry::default();
    push(&client(), &reference(&registry.host(), "a"), b"").unwrap();
    assert_eq!(registry.blob("a", &Digest::of(b"").to_string()).unwrap(), b"");
}

#[test]
fn a_broken_push_starts_again() {
    let registry = Registry::default();
    registry.fail(Kind::UploadPut, Fault::CutRequest(100_000), 2);
    registry.fail(Kind::UploadPut, Fault::Status(503), 1);
    let bytes = content(1_000_000);
    let (reference, opened) = (reference(&registry.host(), "a"), AtomicUsize::new(0));
    let open = || -> io::Result<Box<dyn Read + Send>> {
        opened.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(io::Cursor::new(bytes.clone())))
    };
    client().push_blob(&reference, &descriptor(&bytes), &open, &|_| {}).unwrap();
    assert_eq!(opened.into_inner(), 4);
    assert_eq!(registry.blob("a", &descriptor(&bytes).digest.to_string()).unwrap(), bytes);
}

#[test]
fn a_push_that_arrived_is_not_sent_again() {
    let registry = Registry::default();
    registry.fail(Kind::UploadPut, Fault::NoAnswer, 1);
    push(&client(), &reference(&registry.host(), "a"), &content(1000)).unwrap();
    assert_eq!(registry.count(Kind::UploadPut), 1);
}

#[test]
fn content_that_is_not_the_descriptors() {
    let registry = Registry::default();
    let (client, reference, bytes) = (client(), reference(&registry.host(), "a"), content(1000));
    let open = || -> io::Result<Box<dyn Read + Send>> { Ok(Box::new(io::Cursor::new(bytes.clone()))) };
    for size in [999, 1001] {
        let wrong = Descriptor::new(media_type::OCI_LAYER, Digest::of(&bytes), size);
        let error = client.push_blob(&reference, &wrong, &open, &|_| {}).unwrap_err();
        assert!(matches!(*error.kind, ErrorKind::Size { .. }), "{error}");
    }
    let wrong = Descriptor::new(media_type::OCI_LAYER, Digest::of(b"other"), 1000);
    let error = client.push_blob(&reference, &wrong, &open, &|_| {}).unwrap_err().to_string();
    assert!(error.contains("answered 400: provided digest did not match"), "{error}");
    let gone = || -> io::Result<Box<dyn Read + Send>> { Err(io::ErrorKind::NotFound.into()) };
    let error = client.push_blob(&reference, &descriptor(&bytes), &gone, &|_| {}).unwrap_err();
    assert!(matches!(*error.kind, ErrorKind::Source(_)), "{error}");
    assert_eq!(registry.count(Kind::UploadStart), 4, "none of it is tried again");
}

#[test]
fn manifests_are_pushed_and_deleted() {
    let registry = Registry::default();
    let (client, tag) = (client(), reference(&registry.host(), "a:v1"));
    let bytes = manifest(b"{}", b"layer");
    let error = client.put_manifest(&tag, &bytes, media_type::OCI_MANIFEST).unwrap_err().to_string();
    assert!(error.contains("blob unknown"), "{error}");
    push(&client, &tag, b"{}").unwrap();
    push(&client, &tag, b"layer").unwrap();
    registry.fail(Kind::ManifestPut, Fault::Status(502), 2);
    let digest = client.put_manifest(&tag, &bytes, media_type::OCI_MANIFEST).unwrap();
    assert_eq!(digest, Digest::of(&bytes));
    assert_eq!(registry.manifest("a", "v1").unwrap(), (media_type::OCI_MANIFEST.to_owned(), bytes.clone()));
    let other = tag.with_digest(Digest::of(b"other"));
    assert!(client.put_manifest(&other, &bytes, media_type::OCI_MANIFEST).is_err());
    client.delete_manifest(&tag).unwrap();
    assert!(registry.manifest("a", "v1").is_none());
    assert!(client.delete_manifest(&tag).unwrap_err().is_not_found());
}

#[test]
fn mounting() {
    let registry = Registry::default();
    let digest = registry.add_blob("base/run", b"layer").parse().unwrap();
    let (client, app) = (client(), reference(&registry.host(), "me/app"));
    assert!(client.mount_blob(&app, digest, "base/run").unwrap());
    assert_eq!(registry.blob("me/app", &digest.to_string()).unwrap(), b"layer");
    assert!(!client.mount_blob(&app, Digest::of(b"none"), "base/run").unwrap());
    assert_eq!(registry.open_uploads(), 0, "the upload opened instead is given up");
    registry.fail(Kind::Mount, Fault::Status(405), 1);
    assert!(!client.mount_blob(&app, digest, "base/run").unwrap());
    registry.fail(Kind::Mount, Fault::Status(403), 1);
    assert!(!client.mount_blob(&app, digest, "base/run").unwrap());
}

#[test]
fn an_upload_while_it_is_made() {
    let registry = Registry::default();
    let (client, reference, bytes) = (client(), reference(&registry.host(), "a"), content(3_000_000));
    let mut upload = client.start_upload(&reference).unwrap();
    for piece in bytes.chunks(70_001) {
        upload.write_all(piece).unwrap();
    }
    assert_eq!(upload.sent(), 3_000_000);
    upload.finish(Digest::of(&bytes)).unwrap();
    assert_eq!(registry.blob("a", &Digest::of(&bytes).to_string()).unwrap(), bytes);
    assert_eq!((registry.count(Kind::UploadPatch), registry.count(Kind::UploadPut)), (1, 1));
    client.start_upload(&reference).unwrap().finish(Digest::of(b"")).unwrap();
}

#[test]
fn an_upload_given_up_leaves_nothing() {
    let registry = Registry::default();
    let (client, reference) = (client(), reference(&registry.host(), "a"));
    let mut upload = client.start_upload(&reference).unwrap();
    upload.write_all(&content(1_000_000)).unwrap();
    drop(upload);
    for _ in 0..200 {
        if registry.open_uploads() == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(registry.open_uploads(), 0);
    assert_eq!(registry.count(Kind::UploadPut), 0);
}

#[test]
fn an_upload_that_breaks_says_so() {
    let registry = Registry::default();
    let (client, reference) = (client(), reference(&registry.host(), "a"));
    registry.fail(Kind::UploadPatch, Fault::CutRequest(100_000), 1);
    let mut upload = client.start_upload(&reference).unwrap();
    let error = loop {
        if let Err(error) = upload.write_all(&content(1_000_000)) {
            break error;
        }
    };
    let inner = Error::from_io(&error).expect("an error of the client's");
    assert!(matches!(*inner.kind, ErrorKind::Connection { .. }), "{inner}");
    let mut upload = client.start_upload(&reference).unwrap();
    upload.write_all(b"abc").unwrap();
    let error = upload.finish(Digest::of(b"other")).unwrap_err().to_string();
    assert!(error.contains("provided digest did not match"), "{error}");
}

#[test]
fn write_access_is_checked_without_leaving_anything() {
    let registry = Registry::default();
    let (client, reference) = (client(), reference(&registry.host(), "a"));
    client.check_write(&reference).unwrap();
    assert_eq!((registry.count(Kind::UploadStart), registry.open_uploads()), (1, 0));
    registry.fail(Kind::UploadStart, Fault::Status(403), 1);
    let error = client.check_write(&reference).unwrap_err();
    assert!(matches!(*error.kind, ErrorKind::Denied { .. }), "{error}");
}

#[test]
fn uploads_elsewhere_get_no_credentials() {
    let storage = Registry::default();
    let auth = testkit::registry::Auth::Basic("me".to_owned(), "hunter2".to_owned());
    let registry = Registry::start(Options { auth, uploads_at: Some(storage.url()), ..Options::default() });
    let client = Client::new(ClientConfig { credentials: basic("me", "hunter2"), ..config() });
    push(&client, &reference(&registry.host(), "a"), b"layer").unwrap();
    let put: Vec<_> = storage.seen().into_iter().filter(|seen| seen.kind == Kind::UploadPut).collect();
    assert_eq!(put.len(), 1);
    assert_eq!(put[0].authorization, None);
    assert_eq!(put[0].query[0], ("state".to_owned(), "a/b".to_owned()));
    assert!(storage.blob("a", &Digest::of(b"layer").to_string()).is_some());
}

#[test]
fn a_refusal_while_sending_is_heard() {
    let registry = Registry::default();
    registry.fail(Kind::UploadPut, Fault::Reject(413), 100);
    // Larger than what the sockets hold, so that the answer comes while it is being sent.
    let error = push(&client(), &reference(&registry.host(), "a"), &content(64 << 20)).unwrap_err();
    assert!(matches!(*error.kind, ErrorKind::Status { status: 413, .. }), "{error}");
    assert!(error.hint().unwrap().contains("client_max_body_size"));
    assert_eq!(registry.count(Kind::UploadPut), 2, "once blindly, once asking first");
}
