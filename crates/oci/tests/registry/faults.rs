//! What goes wrong: which of it is tried again, and how the rest is told.

use std::net::TcpListener;
use std::time::Instant;

use oci::registry::{ErrorKind, NameService, ProxySettings, Timeouts};
use testkit::registry::{Fault, Kind, Registry};

use super::*;

fn with_manifest() -> (Registry, Reference) {
    let registry = Registry::default();
    registry.add_manifest("a", "v1", media_type::OCI_MANIFEST, b"{}");
    let reference = reference(&registry.host(), "a:v1");
    (registry, reference)
}

#[test]
fn what_passes_is_tried_again() {
    let (registry, reference) = with_manifest();
    for status in [408, 429, 500, 502, 503, 504] {
        registry.fail(Kind::ManifestGet, Fault::Status(status), 2);
        client().manifest(&reference).unwrap_or_else(|e| panic!("{status}: {e}"));
    }
    registry.fail(Kind::ManifestGet, Fault::NoAnswer, 2);
    client().manifest(&reference).unwrap();
}

#[test]
fn what_stays_is_not() {
    let (registry, reference) = with_manifest();
    for status in [400, 401, 403, 404, 405, 501] {
        registry.forget();
        registry.fail(Kind::ManifestGet, Fault::Status(status), 1);
        let error = client().manifest(&reference).unwrap_err();
        assert_eq!(registry.count(Kind::ManifestGet), 1, "{status}");
        let as_expected = match *error.kind {
            ErrorKind::Unauthorized { had_credentials, .. } => status == 401 && !had_credentials,
            ErrorKind::Denied { .. } => status == 403,
            ErrorKind::NotFound { .. } => status == 404,
            ErrorKind::Status { status: told, .. } => status == told,
            _ => false,
        };
        assert!(as_expected, "{status}: {error}");
        assert!(error.to_string().contains("this fault was ordered, FAULT"), "{error}");
    }
}

#[test]
fn trying_ends() {
    let (registry, reference) = with_manifest();
    registry.fail(Kind::ManifestGet, Fault::Status(503), 100);
    let error = client().manifest(&reference).unwrap_err();
    assert_eq!(registry.count(Kind::ManifestGet), 5);
    assert!(error.to_string().ends_with("answered 503: this fault was ordered, FAULT"), "{error}");
    assert!(error.hint().unwrap().contains("try again later"));
}

#[test]
fn retry_after_is_kept() {
    let (registry, reference) = with_manifest();
    registry.fail(Kind::ManifestGet, Fault::RetryAfter(1), 1);
    let start = Instant::now();
    client().manifest(&reference).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    // Longer than anybody wants to wait: told at once.
    registry.forget();
    registry.fail(Kind::ManifestGet, Fault::RetryAfter(3600), 1);
    let error = client().manifest(&reference).unwrap_err();
    assert_eq!(registry.count(Kind::ManifestGet), 1);
    assert!(error.to_string().ends_with("says too many requests: slow down, TOOMANYREQUESTS"), "{error}");
    assert!(error.hint().unwrap().contains("3600 s"));
}

#[test]
fn nobody_listens() {
    let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let error = client().manifest(&reference(&host, "a")).unwrap_err();
    assert!(matches!(*error.kind, ErrorKind::Refused { .. }), "{error}");
    assert!(error.hint().unwrap().contains("check that a registry runs at"));
}

#[test]
fn nobody_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let short = Duration::from_millis(200);
    let timeouts = Timeouts { connect: short, idle: short, whole: short * 5 };
    let retry = RetryPolicy { retries: 0, ..RetryPolicy::default() };
    let client = Client::new(ClientConfig { timeouts, retry, ..config() });
    let start = Instant::now();
    let host = silent.local_addr().unwrap().to_string();
    let error = client.manifest(&reference(&host, "a")).unwrap_err();
    assert!(matches!(*error.kind, ErrorKind::TimedOut { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn no_such_host() {
    let error = client().manifest(&reference("no-such-host.invalid", "a")).unwrap_err();
    assert!(
        matches!(*error.kind, ErrorKind::HostNotFound { .. } | ErrorKind::NoNameService { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
}

#[test]
fn without_resolv_conf_names_fail_at_once_and_addresses_work() {
    let (_registry, reference) = with_manifest();
    let dir = tempfile::tempdir().unwrap();
    let names =
        NameService { resolv_conf: Some(dir.path().join("resolv.conf")), hosts: dir.path().join("hosts") };
    let port = reference.registry().rsplit_once(':').unwrap().1;
    fs_err::write(&names.hosts, "127.0.0.1 reg.localhost\n").unwrap();
    let client = Client::new(ClientConfig { names, ..config() });
    client.manifest(&reference).unwrap();
    client.manifest(&super::reference(&format!("localhost:{port}"), "a:v1")).unwrap();
    client.manifest(&super::reference(&format!("reg.localhost:{port}"), "a:v1")).unwrap();
    let start = Instant::now();
    let error = client.manifest(&super::reference("reg.example.com", "a:v1")).unwrap_err();
    assert!(matches!(*error.kind, ErrorKind::NoNameService { .. }), "{error}");
    assert!(error.to_string().contains("resolv.conf"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_slow_registry_is_waited_for() {
    let registry = Registry::default();
    let bytes = content(200_000);
    registry.add_blob("a", &bytes);
    registry.fail(Kind::BlobGet, Fault::Slow(130_000), 1);
    let timeouts = Timeouts { idle: Duration::from_secs(1), ..Timeouts::default() };
    let client = Client::new(ClientConfig { timeouts, ..config() });
    let start = Instant::now();
    let got = pull(&client, &reference(&registry.host(), "a"), &descriptor(&bytes)).unwrap();
    assert!(got == bytes && start.elapsed() > Duration::from_millis(1200));
    assert_eq!(registry.count(Kind::BlobGet), 1, "slow is not silent");
}

#[test]
fn a_proxy_that_refuses_is_named_without_its_password() {
    // A registry answers CONNECT with 404: not a proxy.
    let not_a_proxy = Registry::default();
    let https = Some(format!("http://me:hunter2@{}", not_a_proxy.host()));
    let proxy = ProxySettings { https, ..ProxySettings::default() };
    let retry = RetryPolicy { retries: 0, ..RetryPolicy::default() };
    let client = Client::new(ClientConfig { proxy, retry, ..config() });
    let error = client.manifest(&reference("reg.example.com", "a")).unwrap_err();
    assert!(matches!(*error.kind, ErrorKind::Proxy { .. }), "{error}");
    let shown = format!("{error} {error:?} {client:?}");
    assert!(shown.contains(&not_a_proxy.host()) && !shown.contains("hunter2"), "{shown}");
    assert_eq!(not_a_proxy.seen()[0].method, "CONNECT");
}
