//! Challenges, tokens, and that credentials go nowhere else.

use oci::auth::{DockerConfig, HelperAnswer, HelperRunner, RegistryAuth};
use oci::registry::ErrorKind;
use testkit::registry::{Auth, Fault, Kind, Options, Registry, TokenSetup};

use super::*;

const PASSWORD: &str = "hunter2-secret";

fn with_credentials(credentials: Arc<dyn Credentials>) -> Client {
    Client::new(ClientConfig { credentials, ..config() })
}

fn token_registry(change: impl FnOnce(&mut TokenSetup)) -> Registry {
    let mut setup = TokenSetup::user("me", PASSWORD);
    change(&mut setup);
    let registry = Registry::start(Options { auth: Auth::Token(setup), ..Options::default() });
    for repository in ["a", "b", "c"] {
        registry.add_manifest(repository, "v1", media_type::OCI_MANIFEST, b"{}");
        registry.add_blob(repository, repository.as_bytes());
    }
    registry
}

#[test]
fn basic() {
    let auth = Auth::Basic("me".to_owned(), PASSWORD.to_owned());
    let registry = Registry::start(Options { auth, ..Options::default() });
    registry.add_manifest("a", "v1", media_type::OCI_MANIFEST, b"{}");
    let reference = reference(&registry.host(), "a:v1");
    with_credentials(super::basic("me", PASSWORD)).manifest(&reference).unwrap();
    let error = with_credentials(super::basic("me", "wrong")).manifest(&reference).unwrap_err();
    assert!(matches!(*error.kind, ErrorKind::Unauthorized { had_credentials: true, .. }), "{error}");
    assert!(error.to_string().contains("says unauthorized to the credentials it was shown"), "{error}");
    let error = client().manifest(&reference).unwrap_err();
    assert!(matches!(*error.kind, ErrorKind::Unauthorized { had_credentials: false, .. }), "{error}");
    assert!(error.hint().unwrap().contains("no credentials"), "{:?}", error.hint());
}

#[test]
fn one_token_serves_many_requests_and_threads() {
    let registry = token_registry(|_| {});
    let client = with_credentials(super::basic("me", PASSWORD));
    let reference = reference(&registry.host(), "a:v1");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| client.manifest(&reference).unwrap());
        }
    });
    assert_eq!(registry.count(Kind::Token), 1);
    push(&client, &reference, b"x").unwrap();
    push(&client, &reference, b"y").unwrap();
    client.check_write(&reference).unwrap();
    client.manifest(&reference).unwrap();
    assert_eq!(registry.count(Kind::Token), 2, "one to pull, one to push");
    let seen = registry.seen();
    let unauthorized = seen.iter().filter(|seen| seen.status == 401 && seen.kind != Kind::Ping).count();
    assert_eq!(unauthorized, 0, "the challenge was met once, at the start");
}

#[test]
fn a_password_goes_to_the_token_server_only() {
    let registry = token_registry(|_| {});
    let client = with_credentials(super::basic("me", PASSWORD));
    client.manifest(&reference(&registry.host(), "a:v1")).unwrap();
    for seen in registry.seen() {
        let header = seen.authorization.unwrap_or_default();
        assert_eq!(header.starts_with("Basic "), seen.kind == Kind::Token, "{header}");
    }
}

#[test]
fn anybody_may_pull_and_nobody_may_push() {
    let registry = token_registry(|setup| setup.anonymous_pull = true);
    let (client, reference) = (client(), reference(&registry.host(), "a:v1"));
    client.manifest(&reference).unwrap();
    let error = push(&client, &reference, b"x").unwrap_err();
    assert!(matches!(*error.kind, ErrorKind::Unauthorized { had_credentials: false, .. }), "{error}");
    assert_eq!(registry.count(Kind::Token), 2, "a refused token is not asked for again");
}

#[test]
fn a_wrong_password_is_told_by_the_token_server() {
    let registry = token_registry(|_| {});
    let client = with_credentials(super::basic("me", "wrong"));
    let error = client.manifest(&reference(&registry.host(), "a:v1")).unwrap_err();
    assert!(matches!(*error.kind, ErrorKind::Unauthorized { had_credentials: true, .. }), "{error}");
    assert!(error.to_string().contains("incorrect username or password"), "{error}");
    assert_eq!(registry.count(Kind::Token), 1);
}

#[test]
fn a_token_that_ran_out_is_replaced() {
    let registry = token_registry(|_| {});
    let client = with_credentials(super::basic("me", PASSWORD));
    let reference = reference(&registry.host(), "a:v1");
    client.manifest(&reference).unwrap();
    registry.revoke_tokens();
    client.manifest(&reference).unwrap();
    assert_eq!(registry.count(Kind::Token), 2);
    // On its way: the upload is opened with a good token, which is worthless when the blob ends.
    push(&client, &reference, b"x").unwrap();
    registry.fail(Kind::UploadPut, Fault::Status(401), 1);
    push(&client, &reference, b"y").unwrap();
    assert!(registry.blob("a", &Digest::of(b"y").to_string()).is_some());
}

#[test]
fn expiry_is_honoured() {
    let registry = token_registry(|setup| setup.expires_in = 1);
    let client = with_credentials(super::basic("me", PASSWORD));
    let reference = reference(&registry.host(), "a:v1");
    client.manifest(&reference).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    registry.forget();
    client.manifest(&reference).unwrap();
    let statuses: Vec<u16> = registry.seen().iter().map(|seen| seen.status).collect();
    assert_eq!(statuses, [200, 200], "a new token without asking with the old one");
}

#[test]
fn mounting_asks_for_both_repositories() {
    let registry = token_registry(|setup| setup.forbidden = vec!["c".to_owned()]);
    let client = with_credentials(super::basic("me", PASSWORD));
    let target = reference(&registry.host(), "a");
    assert!(client.mount_blob(&target, Digest::of(b"b"), "b").unwrap());
    let token = registry.seen().into_iter().find(|seen| seen.kind == Kind::Token).unwrap();
    let scopes: Vec<_> =
        token.query.iter().filter(|(name, _)| name == "scope").map(|(_, s)| s.as_str()).collect();
    assert_eq!(scopes, ["repository:a:pull,push", "repository:b:pull"]);
    assert!(!client.mount_blob(&target, Digest::of(b"c"), "c").unwrap());
    // The wider token serves the push too.
    registry.forget();
    push(&client, &target, b"x").unwrap();
    assert_eq!(registry.count(Kind::Token), 0);
}

#[test]
fn identity_tokens_are_exchanged() {
    let registry = token_registry(|setup| setup.identity = Some("refresh-me".to_owned()));
    let client = with_credentials(Arc::new(Always(Credential::Identity(Secret::new("refresh-me")))));
    let reference = reference(&registry.host(), "a:v1");
    client.manifest(&reference).unwrap();
    push(&client, &reference, b"x").unwrap();
    let token = registry.seen().into_iter().find(|seen| seen.kind == Kind::Token).unwrap();
    assert_eq!((token.method.as_str(), token.query.len()), ("POST", 0));
    let wrong = with_credentials(Arc::new(Always(Credential::Identity(Secret::new("stale-identity")))));
    let error = wrong.manifest(&reference).unwrap_err();
    assert!(matches!(*error.kind, ErrorKind::Unauthorized { had_credentials: true, .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("stale-identity"));
}

#[test]
fn access_tokens_are_sent_as_they_are() {
    let registry = token_registry(|_| {});
    let reference = reference(&registry.host(), "a:v1");
    with_credentials(super::basic("me", PASSWORD)).manifest(&reference).unwrap();
    let text = format!(r#"{{"{}":"Bearer test-token-1"}}"#, registry.host());
    let client = with_credentials(Arc::new(RegistryAuth::parse(&text).unwrap()));
    client.manifest(&reference).unwrap();
    assert_eq!(registry.count(Kind::Token), 1, "the first client's");
}

#[test]
fn repositories_may_have_credentials_of_their_own() {
    let auth = Auth::Basic("me".to_owned(), PASSWORD.to_owned());
    let registry = Registry::start(Options { auth, ..Options::default() });
    registry.add_manifest("ns/a", "v1", media_type::OCI_MANIFEST, b"{}");
    let host = registry.host();
    let text = format!(
        r#"{{"auths":{{"{host}":{{"username":"me","password":"wrong"}},
            "{host}/ns":{{"username":"me","password":"{PASSWORD}"}}}}}}"#
    );
    let file = DockerConfig::parse("config.json", &text, Arc::new(oci::auth::NoHelpers)).unwrap();
    let client = with_credentials(Arc::new(file));
    client.manifest(&reference(&host, "ns/a:v1")).unwrap();
    assert!(client.manifest(&reference(&host, "other:v1")).is_err());
}

#[derive(Debug)]
struct Helper;

impl HelperRunner for Helper {
    fn get(&self, _: &str, _: &str) -> Result<HelperAnswer, oci::auth::Error> {
        Ok(HelperAnswer::Found { username: "me".to_owned(), secret: Secret::new(PASSWORD) })
    }
}

#[test]
fn helpers_are_asked_for_the_registry() {
    let registry = token_registry(|_| {});
    let text = format!(r#"{{"credHelpers":{{"{}":"test"}}}}"#, registry.host());
    let file = DockerConfig::parse("config.json", &text, Arc::new(Helper)).unwrap();
    with_credentials(Arc::new(file)).manifest(&reference(&registry.host(), "a:v1")).unwrap();
}

#[derive(Debug)]
struct BrokenHelper;

impl HelperRunner for BrokenHelper {
    fn get(&self, helper: &str, server: &str) -> Result<HelperAnswer, oci::auth::Error> {
        let (program, server) = (format!("docker-credential-{helper}"), server.to_owned());
        Err(oci::auth::Error::Helper { program, server, reason: "is not on the PATH".to_owned() })
    }
}

#[test]
fn a_broken_helper_matters_only_when_it_is_needed() {
    let registry = token_registry(|setup| setup.anonymous_pull = true);
    let file = DockerConfig::parse("c", r#"{"credsStore":"desktop"}"#, Arc::new(BrokenHelper)).unwrap();
    let client = with_credentials(Arc::new(file));
    let reference = reference(&registry.host(), "a:v1");
    client.manifest(&reference).unwrap();
    let error = push(&client, &reference, b"x").unwrap_err();
    assert!(error.to_string().contains("credential helper `docker-credential-desktop`"), "{error}");
    assert!(error.hint().unwrap().contains("config.json"));
}

#[test]
fn redirects_elsewhere_get_no_credentials() {
    let storage = Registry::default();
    let bytes = content(1000);
    storage.add_blob("a", &bytes);
    let auth = Auth::Basic("me".to_owned(), PASSWORD.to_owned());
    let registry = Registry::start(Options { auth, blobs_at: Some(storage.url()), ..Options::default() });
    let client = with_credentials(super::basic("me", PASSWORD));
    let reference = reference(&registry.host(), "a");
    storage.fail(Kind::BlobGet, Fault::CutAnswer(500), 1);
    assert_eq!(pull(&client, &reference, &descriptor(&bytes)).unwrap(), bytes);
    let seen = storage.seen();
    assert_eq!(seen.len(), 2, "cut once, and on from there");
    assert!(seen.iter().all(|seen| seen.authorization.is_none()), "{seen:?}");
    assert_eq!(seen[1].range.as_deref(), Some("bytes=500-999"));
    // A 401 from there says nothing about us at the registry.
    storage.fail(Kind::BlobGet, Fault::Status(401), 1);
    let error = client.blob(&reference, &descriptor(&bytes), 0).unwrap_err();
    assert!(error.to_string().contains(&storage.host()), "{error}");
}

#[test]
fn no_error_shows_a_credential() {
    let registry = token_registry(|_| {});
    let reference = reference(&registry.host(), "a:v1");
    let client = with_credentials(super::basic("me", PASSWORD));
    client.manifest(&reference).unwrap();
    for kind in [Kind::ManifestGet, Kind::Token] {
        for status in [400, 401, 403, 404, 418] {
            registry.revoke_tokens();
            registry.fail(kind, Fault::Echo(status), 2);
            let fresh = with_credentials(super::basic("me", PASSWORD));
            let Err(error) = fresh.manifest(&reference) else { continue };
            let shown = format!("{error} {error:?} {:?} {fresh:?}", error.hint());
            assert!(shown.contains("you sent") || status == 401, "{shown}");
            for secret in [PASSWORD, "test-token-", &testkit_basic()] {
                assert!(!shown.contains(secret), "{kind:?} {status}: {shown}");
            }
        }
    }
}

/// The base64 of the `Basic` header.
fn testkit_basic() -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(format!("me:{PASSWORD}"))
}
