//! Registries that say nothing: noticed after a while without a byte, told, tried again, given up.

use std::net::TcpListener;
use std::sync::Mutex;
use std::time::Instant;

use events::{Event, Events};
use oci::registry::{ErrorKind, Listener, Stop, Timeouts};
use testkit::registry::{Auth, Fault, Kind, Options, Registry, TokenSetup};

use super::*;

const IDLE: Duration = Duration::from_millis(300);
/// Three silences, the waits between them, and a machine that is slow.
const SOON: Duration = Duration::from_millis(2500);

/// What was said.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Events for Heard {
    fn event(&self, event: Event<'_>) {
        if let Event::Warning { text } = event {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }
}

fn impatient() -> (Client, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    let timeouts = Timeouts { connect: IDLE, idle: IDLE, whole: IDLE * 6 };
    let events = Listener(heard.clone());
    (Client::new(ClientConfig { timeouts, events, ..config() }), heard)
}

/// That it ends soon with a silence, and how it was told.
fn hangs<T: std::fmt::Debug>(
    what: &str,
    host: &str,
    act: impl FnOnce(&Client) -> Result<T, oci::registry::Error>,
) {
    let (client, heard) = impatient();
    let start = Instant::now();
    let error = act(&client).expect_err(what);
    let took = start.elapsed();
    assert!(matches!(*error.kind, ErrorKind::TimedOut { .. }), "{what}: {error}");
    assert!(error.to_string().contains(&format!("no answer from {host} for 300 ms")), "{what}: {error}");
    assert!(took >= IDLE * 3 && took < SOON, "{what}: {took:?}");
    let heard = heard.0.lock().unwrap();
    assert_eq!(heard.len(), 2, "{what}: {heard:?}");
    for (text, number) in heard.iter().zip(["(2 of 3)", "(3 of 3)"]) {
        let told = text.starts_with(&format!("no answer from {host} for 300 ms")) && text.ends_with(number);
        assert!(told && text.contains("; trying again"), "{what}: {text}");
    }
}

#[test]
fn the_first_request() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = silent.local_addr().unwrap().to_string();
    hangs("a listener", &host, |client| client.manifest(&reference(&host, "a")));
}

#[test]
fn every_request() {
    let registry = Registry::start(Options { referrers: true, ..Options::default() });
    let host = registry.host();
    let bytes = content(1000);
    registry.add_blob("a", &bytes);
    registry.add_manifest("a", "v1", media_type::OCI_MANIFEST, b"{}");
    let name = reference(&host, "a:v1");
    let other = manifest(&bytes, &bytes);
    type Act<'a> = &'a dyn Fn(&Client) -> Result<(), oci::registry::Error>;
    let pull = |client: &Client| {
        pull(client, &name, &descriptor(&bytes)).map(drop).map_err(|e| e.downcast().unwrap())
    };
    let cases: [(Kind, Act<'_>); 10] = [
        (Kind::ManifestGet, &|client| client.manifest(&name).map(drop)),
        (Kind::ManifestHead, &|client| client.head_manifest(&name).map(drop)),
        (Kind::ManifestPut, &|client| client.put_manifest(&name, &other, media_type::OCI_MANIFEST).map(drop)),
        (Kind::BlobGet, &pull),
        (Kind::BlobHead, &|client| client.has_blob(&name, &descriptor(&bytes)).map(drop)),
        (Kind::UploadStart, &|client| push(client, &name, b"new")),
        (Kind::Mount, &|client| client.mount_blob(&name, Digest::of(b"x"), "b").map(drop)),
        (Kind::Tags, &|client| client.tags(&name).map(drop)),
        (Kind::Referrers, &|client| client.referrers(&name, Digest::of(b"x"), None).map(drop)),
        (Kind::UploadPut, &|client| push(client, &name, b"newer")),
    ];
    for (kind, act) in cases {
        registry.recover();
        registry.fail(kind, Fault::Hang, 100);
        hangs(&format!("{kind:?}"), &host, act);
        registry.recover();
        registry.fail(kind, Fault::Hang, 2);
        act(&impatient().0).unwrap_or_else(|e| panic!("{kind:?} after two silences: {e}"));
    }
}

#[test]
fn in_the_middle_of_an_answer() {
    let registry = Registry::default();
    let (host, bytes) = (registry.host(), content(100_000));
    registry.add_blob("a", &bytes);
    registry.add_manifest("a", "v1", media_type::OCI_MANIFEST, b"{\"schemaVersion\":2}");
    let name = reference(&host, "a:v1");
    registry.fail(Kind::ManifestGet, Fault::Stall(5), 100);
    hangs("a manifest", &host, |client| client.manifest(&name));
    registry.fail(Kind::BlobGet, Fault::Stall(1000), 1);
    registry.fail(Kind::BlobGet, Fault::Stall(0), 100);
    hangs("a blob", &host, |client| {
        pull(client, &name, &descriptor(&bytes)).map_err(|e| e.downcast::<oci::registry::Error>().unwrap())
    });
    registry.recover();
    registry.fail(Kind::BlobGet, Fault::Stall(30_000), 2);
    assert!(pull(&impatient().0, &name, &descriptor(&bytes)).unwrap() == bytes);
}

#[test]
fn a_token_server() {
    let auth = Auth::Token(TokenSetup::user("me", "hunter2"));
    let registry = Registry::start(Options { auth, ..Options::default() });
    let host = registry.host();
    registry.fail(Kind::Token, Fault::Hang, 100);
    hangs("a token server", &host, |client| client.manifest(&reference(&host, "a")));
    // Who waited for that token does not wait for the next one too.
    let (client, _) = impatient();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| client.manifest(&reference(&host, "a")).unwrap_err());
        }
    });
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn a_byte_now_and_then_is_silence() {
    let registry = Registry::default();
    let bytes = content(5000);
    registry.add_blob("a", &bytes);
    registry.add_manifest("a", "v1", media_type::OCI_MANIFEST, b"{\"schemaVersion\":2}");
    let name = reference(&registry.host(), "a:v1");
    for kind in [Kind::ManifestGet, Kind::BlobGet] {
        registry.fail(kind, Fault::Trickle(20), 100);
    }
    let (client, _) = impatient();
    let start = Instant::now();
    client.manifest(&name).unwrap_err();
    pull(&client, &name, &descriptor(&bytes)).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[test]
fn a_mirror_that_is_silent_is_asked_once() {
    let (registry, silent) = (Registry::default(), TcpListener::bind("127.0.0.1:0").unwrap());
    registry.add_manifest("a", "v1", media_type::OCI_MANIFEST, b"{}");
    let mirrors =
        std::collections::BTreeMap::from([(registry.host(), vec![silent.local_addr().unwrap().to_string()])]);
    let timeouts = Timeouts { connect: IDLE, idle: IDLE, whole: IDLE * 6 };
    let client = Client::new(ClientConfig { timeouts, mirrors, ..config() });
    let start = Instant::now();
    client.manifest(&reference(&registry.host(), "a:v1")).unwrap();
    assert!(start.elapsed() < IDLE * 4, "{:?}", start.elapsed());
}

#[test]
fn what_is_stopped_ends_at_once_and_nothing_else_does() {
    let registry = Registry::default();
    let bytes = content(1000);
    registry.add_blob("a", &bytes);
    registry.add_manifest("a", "v1", media_type::OCI_MANIFEST, b"{}");
    let name = reference(&registry.host(), "a:v1");
    let client = Client::new(ClientConfig::default());
    client.manifest(&name).unwrap();
    registry.fail(Kind::UploadPut, Fault::Hang, 100);
    registry.fail(Kind::ManifestHead, Fault::RetryAfter(50), 100);
    registry.fail(Kind::BlobGet, Fault::Stall(10), 100);
    let stop = Stop::default();
    let (mortal, start) = (client.until(&stop), Instant::now());
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| push(&mortal, &name, b"new").unwrap_err());
        let waiting = scope.spawn(|| mortal.head_manifest(&name).unwrap_err());
        let reading = scope.spawn(|| pull(&mortal, &name, &descriptor(&bytes)).unwrap_err());
        std::thread::sleep(Duration::from_millis(300));
        stop.stop();
        for error in [sending.join().unwrap(), waiting.join().unwrap()] {
            assert!(matches!(*error.kind, ErrorKind::Stopped), "{error}");
        }
        reading.join().unwrap();
    });
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    client.manifest(&name).unwrap();
    assert!(mortal.manifest(&name).is_err());
}
