//! Debian's `docker-registry`: plain, with TLS, passwords and tokens.

use std::io::Write as _;
use std::path::PathBuf;

use oci::registry::{ErrorKind, NameService, ProxySettings};
use oci::tls::TlsSettings;
use testkit::registry::{DockerRegistry, Pki, Proxy, Setup, TokenSetup};

use super::*;

/// Pushes an image, pulls it again, and tries what else a registry is for.
fn there_and_back(client: &Client, host: &str) {
    let app = reference(host, "me/app:v1");
    let layer = content(5_000_000);
    assert!(!client.has_blob(&app, &descriptor(&layer)).unwrap());
    client.check_write(&app).unwrap();
    push(client, &app, &layer).unwrap();
    let mut upload = client.start_upload(&app).unwrap();
    upload.write_all(b"{}").unwrap();
    upload.finish(Digest::of(b"{}")).unwrap();
    let bytes = manifest(b"{}", &layer);
    let digest = client.put_manifest(&app, &bytes, media_type::OCI_MANIFEST).unwrap();

    assert!(client.check_read(&app).unwrap());
    let found = client.manifest(&app).unwrap();
    assert_eq!((found.digest, found.bytes), (digest, bytes));
    assert!(pull(client, &app, &descriptor(&layer)).unwrap() == layer);
    let mut rest = Vec::new();
    client.blob(&app, &descriptor(&layer), 4_999_000).unwrap().read_to_end(&mut rest).unwrap();
    assert_eq!(rest, layer[4_999_000..]);
    assert_eq!(client.tags(&app).unwrap(), ["v1"]);
    assert_eq!(client.referrers(&app, digest, None).unwrap(), []);

    let other = reference(host, "me/other:v1");
    assert!(client.mount_blob(&other, Digest::of(&layer), "me/app").unwrap());
    assert!(client.has_blob(&other, &descriptor(&layer)).unwrap());
    assert!(!client.mount_blob(&other, Digest::of(b"none"), "me/app").unwrap());
    client.delete_manifest(&app).unwrap();
    assert!(!client.check_read(&app).unwrap());
}

#[test]
fn plain() {
    testkit::needs!("docker-registry");
    let registry = DockerRegistry::start(&Setup::default());
    there_and_back(&client(), registry.host());
}

#[test]
fn wrong_digest() {
    testkit::needs!("docker-registry");
    let registry = DockerRegistry::start(&Setup::default());
    let (client, app, bytes) = (client(), reference(registry.host(), "a"), content(1_000_000));
    let wrong = Descriptor::new(media_type::OCI_LAYER, Digest::of(b"other"), 1_000_000);
    let open =
        || -> std::io::Result<Box<dyn Read + Send>> { Ok(Box::new(std::io::Cursor::new(bytes.clone()))) };
    let error = client.push_blob(&app, &wrong, &open, &|_| {}).unwrap_err();
    assert!(matches!(*error.kind, ErrorKind::Status { status: 400, .. }), "{error}");
    assert!(error.to_string().contains("DIGEST_INVALID"), "{error}");
    let mut upload = client.start_upload(&app).unwrap();
    upload.write_all(&bytes).unwrap();
    let error = upload.finish(Digest::of(b"other")).unwrap_err();
    assert!(error.to_string().contains("DIGEST_INVALID"), "{error}");
}

#[test]
fn a_blob_damaged_on_the_registrys_disk_is_found() {
    testkit::needs!("docker-registry");
    let registry = DockerRegistry::start(&Setup::default());
    let (client, app, bytes) = (client(), reference(registry.host(), "a"), content(1000));
    push(&client, &app, &bytes).unwrap();
    let hex = Digest::of(&bytes).hex();
    let folder = registry.storage().join("docker/registry/v2/blobs/sha256");
    let mut damaged = bytes.clone();
    damaged[7] ^= 1;
    fs_err::write(folder.join(&hex[..2]).join(&hex).join("data"), damaged).unwrap();
    let error = client.blob_bytes(&app, &descriptor(&bytes), 1000).unwrap_err();
    assert!(matches!(*error.kind, ErrorKind::DigestMismatch { .. }), "{error}");
}

#[test]
fn passwords() {
    testkit::needs!("docker-registry", "htpasswd");
    let registry = DockerRegistry::start(&Setup { password: Some(("me", "hunter2")), ..Setup::default() });
    let with = |password| Client::new(ClientConfig { credentials: basic("me", password), ..config() });
    there_and_back(&with("hunter2"), registry.host());
    for client in [with("wrong"), client()] {
        let app = reference(registry.host(), "me/app:v1");
        for error in [client.manifest(&app).unwrap_err(), client.check_write(&app).unwrap_err()] {
            assert!(matches!(*error.kind, ErrorKind::Unauthorized { .. }), "{error}");
            assert!(!error.to_string().contains("wrong"), "{error}");
        }
    }
}

#[test]
fn tokens() {
    testkit::needs!("docker-registry", "openssl");
    let token = TokenSetup::user("me", "hunter2");
    let registry = DockerRegistry::start(&Setup { token: Some(token), ..Setup::default() });
    let credentials = basic("me", "hunter2");
    there_and_back(&Client::new(ClientConfig { credentials, ..config() }), registry.host());
    let fetched = registry.token_server().unwrap().count();
    assert_eq!(fetched, 3, "to push, to mount, to delete");
    let error = client().manifest(&reference(registry.host(), "me/app:v1")).unwrap_err();
    assert!(matches!(*error.kind, ErrorKind::Unauthorized { had_credentials: false, .. }), "{error}");
}

fn trusting(ca: PathBuf) -> Client {
    let tls = TlsSettings { ca_files: vec![ca], ..TlsSettings::default() };
    Client::new(ClientConfig { tls, ..config() })
}

#[test]
fn authorities() {
    testkit::needs!("docker-registry", "openssl");
    let pki = Pki::new();
    let registry = DockerRegistry::start(&Setup { tls: Some(&pki), ..Setup::default() });
    there_and_back(&trusting(pki.ca()), registry.host());

    let app = reference(registry.host(), "me/app:v1");
    for client in [client(), trusting(pki.other_ca())] {
        let error = client.manifest(&app).unwrap_err();
        assert!(matches!(*error.kind, ErrorKind::UnknownAuthority { .. }), "{error}");
        assert!(error.hint().unwrap().contains("--registry-ca"), "{:?}", error.hint());
    }
    let bundle = TlsSettings { ssl_cert_file: Some(pki.ca()), ..TlsSettings::default() };
    Client::new(ClientConfig { tls: bundle, ..config() }).check_read(&app).unwrap();
    let insecure_registries = vec![registry.host().to_owned()];
    Client::new(ClientConfig { insecure_registries, ..config() }).check_read(&app).unwrap();
    let error = trusting(PathBuf::from("/no/such/ca.crt")).manifest(&app).unwrap_err().to_string();
    assert!(error.contains("/no/such/ca.crt: no such file"), "{error}");
}

#[test]
fn folders_of_certificates() {
    testkit::needs!("docker-registry", "openssl");
    let pki = Pki::new();
    let setup = Setup { tls: Some(&pki), client_certificate: true, ..Setup::default() };
    let registry = DockerRegistry::start(&setup);
    let certs = tempfile::tempdir().unwrap();
    let folder = certs.path().join(registry.host());
    fs_err::create_dir(&folder).unwrap();
    let tls = TlsSettings { certs_dirs: vec![certs.path().to_owned()], ..TlsSettings::default() };
    let client = || Client::new(ClientConfig { tls: tls.clone(), ..config() });
    let app = reference(registry.host(), "me/app:v1");
    let kind = |client: &Client| *client.manifest(&app).unwrap_err().kind;

    assert!(matches!(kind(&client()), ErrorKind::UnknownAuthority { .. }));
    fs_err::copy(pki.ca(), folder.join("ca.crt")).unwrap();
    let error = client().manifest(&app).unwrap_err();
    assert!(matches!(*error.kind, ErrorKind::ClientCertificate { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("client.cert"));

    let (certificate, key) = pki.client();
    fs_err::copy(certificate, folder.join("client.cert")).unwrap();
    let error = client().manifest(&app).unwrap_err().to_string();
    assert!(error.contains("client.key: expected the key of"), "{error}");
    fs_err::copy(pki.other_ca().with_extension("key"), folder.join("client.key")).unwrap();
    let error = client().manifest(&app).unwrap_err().to_string();
    assert!(error.contains("client.key: does not fit"), "{error}");
    fs_err::copy(key, folder.join("client.key")).unwrap();
    there_and_back(&client(), registry.host());
}

#[test]
fn through_a_proxy() {
    testkit::needs!("docker-registry", "openssl");
    let pki = Pki::new();
    let registry = DockerRegistry::start(&Setup { tls: Some(&pki), ..Setup::default() });
    let proxy = Proxy::start(registry.host());
    let tls = TlsSettings { ca_files: vec![pki.ca()], ..TlsSettings::default() };
    // The proxy looks names up: none can be looked up here.
    let names = NameService { resolv_conf: Some(PathBuf::from("/no/such/file")), ..NameService::default() };
    let with = |no_proxy: Option<&str>| {
        let https = Some(format!("http://me:p%40ss@{}", proxy.host()));
        let proxy = ProxySettings { https, http: None, no_proxy: no_proxy.map(str::to_owned) };
        Client::new(ClientConfig { proxy, tls: tls.clone(), names: names.clone(), ..config() })
    };
    there_and_back(&with(None), "registry.test:5000");
    let asked = proxy.asked();
    // `me:p@ss`.
    assert_eq!(asked[0], ("registry.test:5000".to_owned(), Some("Basic bWU6cEBzcw==".to_owned())));
    // Loopback and NO_PROXY go their own way.
    with(None).check_read(&reference(registry.host(), "me/app:v1")).unwrap();
    let error = with(Some("registry.test")).check_read(&reference("registry.test:5000", "a")).unwrap_err();
    assert!(matches!(*error.kind, ErrorKind::NoNameService { .. }), "{error}");
    assert_eq!(proxy.asked().len(), asked.len());
}
