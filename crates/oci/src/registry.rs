//! Registries: a blocking client for the OCI distribution specification.
//!
//! | module | what lives there |
//! |---|---|
//! | `registry` | [`Client`]: manifests, tags, referrers, access checks |
//! | `registry/blob` | reading blobs, going on where a connection broke |
//! | `registry/push` | sending blobs, mounting them from another repository |
//! | `registry/download` | files that are no part of a registry |
//! | `registry/upload` | sending a blob whose digest is not known yet |
//! | `registry/endpoint` | one registry's connections, tokens, redirects, retries |
//! | `registry/token`, `registry/names`, `registry/http` | challenges and scopes; hosts and proxies; answers and errors |
//!
//! One client serves everything a program does: connections, tokens and answers of credential helpers are shared
//! by its clones and threads. It sends no request it does not need: a challenge is met once for a registry, a
//! token is fetched once for a set of scopes.
//!
//! **TLS.** A registry is spoken to with TLS. Those on this machine (`localhost`, loopback addresses) and those
//! named insecure are tried with TLS first, and without when nothing there speaks it. Certificates are checked for
//! all but those named insecure.

mod blob;
mod config;
mod download;
mod endpoint;
mod error;
mod http;
mod names;
mod push;
mod token;
mod upload;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::Read as _;
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use ureq::http::{Method, header};

pub use blob::BlobReader;
pub use config::{ClientConfig, NameService, ProxySettings, RetryPolicy, Timeouts};
pub use download::FileVersion;
pub use error::{Error, ErrorKind};
pub use push::Open;
pub use upload::Upload;

use crate::{Descriptor, Digest, Index, Reference, media_type};
use endpoint::{Answer, Endpoint, Request, lock};
use http::Payload;
use token::{Scope, encode};

/// The largest manifest that is read, in bytes. The specification asks registries to take at least 4 MiB.
const MAX_MANIFEST: u64 = 16 << 20;
/// The largest list of tags that is read at once, in bytes.
const MAX_LIST: u64 = 64 << 20;

/// Talks to registries. Clones share everything.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    config: Arc<ClientConfig>,
    /// By registry and whether it is insecure.
    endpoints: Mutex<HashMap<(String, bool), Arc<Endpoint>>>,
    /// Mirrors that could not be reached: not tried again.
    down: Mutex<HashSet<String>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

/// A manifest or index as the registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawManifest {
    /// Its bytes, whose digest is `digest`.
    pub bytes: Vec<u8>,
    /// What it is.
    pub media_type: String,
    /// The digest of the bytes: checked, never just believed.
    pub digest: Digest,
}

impl RawManifest {
    /// A descriptor of it.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest, self.bytes.len() as u64)
    }
}

/// A place that an image can be read from.
struct Source {
    endpoint: Arc<Endpoint>,
    repository: String,
    /// The mirror's name, if it is one.
    mirror: Option<String>,
}

impl Client {
    /// A client that knows what `config` says.
    pub fn new(config: ClientConfig) -> Self {
        let inner = Inner { config: Arc::new(config), endpoints: Mutex::default(), down: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Pulls the manifest or index that `reference` names. Its digest is checked against the reference's, or else
    /// against what the registry says it is.
    pub fn manifest(&self, reference: &Reference) -> Result<RawManifest, Error> {
        self.read_from(reference, |source| get_manifest(source, reference))
            .map_err(|kind| kind.during("pull manifest", reference))
    }

    /// Like [`Self::manifest`], without the content: what and how large it is. `None` when there is no such thing.
    pub fn head_manifest(&self, reference: &Reference) -> Result<Option<Descriptor>, Error> {
        let head = |source: &Source| {
            let answer = source.manifest_request(Method::HEAD, &reference.tag_or_digest())?;
            if answer.status() == 404 {
                return Ok(None);
            }
            let answer = answer.expect(&[200])?;
            let digest = answer.header("docker-content-digest").and_then(|d| d.parse().ok());
            let size = answer.header("content-length").and_then(|size| size.parse().ok());
            let media_type = answer.header("content-type").map(bare_media_type);
            match (digest, size, media_type) {
                (Some(digest), Some(size), Some(media_type)) => {
                    Ok(Some(Descriptor::new(media_type, digest, size)))
                }
                // Not all registries say all of it.
                _ => get_manifest(source, reference).map(|manifest| Some(manifest.descriptor())),
            }
        };
        let found = self.read_from(reference, |source| match head(source) {
            // A mirror that does not have it says nothing about the registry.
            Ok(None) if source.mirror.is_some() => Err(ErrorKind::NotFound { message: String::new() }),
            other => other,
        });
        found.map_err(|kind| kind.during("look up", reference))
    }

    /// Pushes a manifest or index under the reference's digest or else tag. Returns the bytes' digest.
    pub fn put_manifest(
        &self,
        reference: &Reference,
        bytes: &[u8],
        media_type: &str,
    ) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        let put = || {
            if let Some(expected) = reference.digest().filter(|expected| *expected != digest) {
                return Err(ErrorKind::DigestMismatch { expected, actual: digest });
            }
            let endpoint = self.endpoint(reference.registry(), reference.repository());
            let path = format!("/v2/{}/manifests/{}", reference.repository(), reference.tag_or_digest());
            let answer = endpoint.send(&mut Request {
                method: Method::PUT,
                url: endpoint.url(&path)?,
                scopes: &[Scope::push(reference.repository())],
                headers: vec![("content-type", media_type.to_owned())],
                payload: Payload::Bytes(bytes),
                casual: false,
            })?;
            answer.expect(&[200, 201, 202])?.drain();
            Ok(digest)
        };
        put().map_err(|kind| kind.during("push manifest", reference))
    }

    /// Deletes the manifest that the reference names; a tag is looked up first, as registries delete by digest.
    pub fn delete_manifest(&self, reference: &Reference) -> Result<(), Error> {
        let digest = match reference.digest() {
            Some(digest) => Some(digest),
            None => self.head_manifest(reference)?.map(|found| found.digest),
        };
        let delete = || {
            let Some(digest) = digest else { return Err(ErrorKind::NotFound { message: String::new() }) };
            let endpoint = self.endpoint(reference.registry(), reference.repository());
            let path = format!("/v2/{}/manifests/{digest}", reference.repository());
            let scopes = [Scope::delete(reference.repository())];
            let answer = endpoint.send(&mut Request {
                method: Method::DELETE,
                url: endpoint.url(&path)?,
                scopes: &scopes,
                headers: Vec::new(),
                payload: Payload::None,
                casual: false,
            })?;
            answer.expect(&[200, 202, 204])?.drain();
            Ok(())
        };
        delete().map_err(|kind| kind.during("delete manifest", reference))
    }

    /// The repository's tags, in the registry's order.
    pub fn tags(&self, reference: &Reference) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let list = |source: &Source| {
            let mut tags = Vec::new();
            let mut next = Some(source.endpoint.url(&format!("/v2/{}/tags/list", source.repository))?);
            while let Some(url) = next.take() {
                let answer = source.get(url, &[])?.expect(&[200])?;
                next = next_page(&answer);
                let page: Page = json(source.endpoint.host(), answer, MAX_LIST)?;
                let page = page.tags.unwrap_or_default();
                // A page without tags ends the list, whatever it links to.
                if page.is_empty() {
                    break;
                }
                tags.extend(page);
            }
            Ok(tags)
        };
        self.read_from(reference, list).map_err(|kind| kind.during("list tags of", reference.name()))
    }

    /// What refers to the manifest `digest` in the reference's repository (SBOMs, signatures), of one artifact type
    /// or any. Registries without that list keep it under a tag (`sha256-…`), which is looked up then.
    pub fn referrers(
        &self,
        reference: &Reference,
        digest: Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, Error> {
        let list = |source: &Source| {
            let mut found = match source.referrers_list(digest, artifact_type)? {
                Some(found) => found,
                None => source.referrers_tag(digest)?,
            };
            // Registries may leave the filtering to us.
            if let Some(wanted) = artifact_type {
                found.retain(|one| one.extra.get("artifactType").and_then(|t| t.as_str()) == Some(wanted));
            }
            Ok(found)
        };
        let subject = format!("{}@{digest}", reference.name());
        self.read_from(reference, list).map_err(|kind| kind.during("list referrers of", subject))
    }

    /// True when the image can be read; false when there is none. An error when we may not, or cannot.
    pub fn check_read(&self, reference: &Reference) -> Result<bool, Error> {
        self.head_manifest(reference).map(|found| found.is_some())
    }

    /// An error when we may not push to the reference's repository. Nothing is left there.
    pub fn check_write(&self, reference: &Reference) -> Result<(), Error> {
        let check = || {
            let endpoint = self.endpoint(reference.registry(), reference.repository());
            let upload = push::start(&endpoint, reference.repository())?;
            push::cancel(&endpoint, reference.repository(), upload);
            Ok(())
        };
        check().map_err(|kind: ErrorKind| kind.during("write to", reference.name()))
    }

    /// The registry itself, never a mirror.
    fn endpoint(&self, registry: &str, repository: &str) -> Arc<Endpoint> {
        let insecure = is_insecure(&self.inner.config.insecure_registries, registry, repository);
        let mut endpoints = lock(&self.inner.endpoints);
        let endpoint = endpoints
            .entry((registry.to_owned(), insecure))
            .or_insert_with(|| Arc::new(Endpoint::new(Arc::clone(&self.inner.config), registry, insecure)));
        Arc::clone(endpoint)
    }

    /// Where to read from: mirrors that can be reached, then the registry.
    fn sources(&self, reference: &Reference) -> Vec<Source> {
        let mirrors = &self.inner.config.mirrors;
        let mirrors = mirrors.get(reference.registry()).or_else(|| mirrors.get("*"));
        let mut sources = Vec::new();
        for mirror in mirrors.into_iter().flatten() {
            let (host, prefix) = mirror.split_once('/').unwrap_or((mirror, ""));
            let prefix = prefix.trim_matches('/');
            if host == reference.registry() || lock(&self.inner.down).contains(host) {
                continue;
            }
            let repository = match prefix {
                "" => reference.repository().to_owned(),
                prefix => format!("{prefix}/{}", reference.repository()),
            };
            let endpoint = self.endpoint(host, &repository);
            sources.push(Source { endpoint, repository, mirror: Some(host.to_owned()) });
        }
        sources.push(Source {
            endpoint: self.endpoint(reference.registry(), reference.repository()),
            repository: reference.repository().to_owned(),
            mirror: None,
        });
        sources
    }

    /// Reads from the first source that can; the registry's own error counts.
    fn read_from<T>(
        &self,
        reference: &Reference,
        read: impl Fn(&Source) -> Result<T, ErrorKind>,
    ) -> Result<T, ErrorKind> {
        for source in self.sources(reference) {
            match (read(&source), source.mirror) {
                (Err(error), Some(mirror)) => {
                    if error.is_unreachable() {
                        lock(&self.inner.down).insert(mirror);
                    }
                }
                (outcome, _) => return outcome,
            }
        }
        Err(ErrorKind::Setting("no registry to read from".to_owned()))
    }
}

impl Source {
    fn get(&self, url: ureq::http::Uri, accept: &[&str]) -> Result<Answer, ErrorKind> {
        self.request(Method::GET, url, accept)
    }

    fn request(&self, method: Method, url: ureq::http::Uri, accept: &[&str]) -> Result<Answer, ErrorKind> {
        let accept = if accept.is_empty() { Vec::new() } else { vec![("accept", accept.join(", "))] };
        self.endpoint.send(&mut Request {
            method,
            url,
            scopes: &[Scope::pull(&self.repository)],
            headers: accept,
            payload: Payload::None,
            casual: false,
        })
    }

    fn manifest_request(&self, method: Method, tag_or_digest: &str) -> Result<Answer, ErrorKind> {
        let accept = [
            media_type::OCI_MANIFEST,
            media_type::OCI_INDEX,
            media_type::DOCKER_MANIFEST,
            media_type::DOCKER_INDEX,
        ];
        let path = format!("/v2/{}/manifests/{tag_or_digest}", self.repository);
        self.request(method, self.endpoint.url(&path)?, &accept)
    }

    /// The referrers API; `None` when the registry does not have it.
    fn referrers_list(
        &self,
        digest: Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<Vec<Descriptor>>, ErrorKind> {
        let filter = artifact_type.map(|t| format!("?artifactType={}", encode(t))).unwrap_or_default();
        let mut next =
            Some(self.endpoint.url(&format!("/v2/{}/referrers/{digest}{filter}", self.repository))?);
        let mut found = Vec::new();
        while let Some(url) = next.take() {
            let answer = self.get(url, &[media_type::OCI_INDEX])?;
            if matches!(answer.status(), 400 | 404 | 405 | 501) {
                answer.drain();
                return Ok(None);
            }
            let answer = answer.expect(&[200])?;
            next = next_page(&answer);
            let page: Index = json(self.endpoint.host(), answer, MAX_MANIFEST)?;
            if page.manifests.is_empty() {
                break;
            }
            found.extend(page.manifests);
        }
        Ok(Some(found))
    }

    /// The index under the tag that stands in for the referrers API.
    fn referrers_tag(&self, digest: Digest) -> Result<Vec<Descriptor>, ErrorKind> {
        let answer = self.manifest_request(Method::GET, &digest.to_string().replace(':', "-"))?;
        if answer.status() == 404 {
            answer.drain();
            return Ok(Vec::new());
        }
        let index: Index = json(self.endpoint.host(), answer.expect(&[200])?, MAX_MANIFEST)?;
        Ok(index.manifests)
    }
}

fn get_manifest(source: &Source, reference: &Reference) -> Result<RawManifest, ErrorKind> {
    let answer = source.manifest_request(Method::GET, &reference.tag_or_digest())?.expect(&[200])?;
    let said = answer.header("docker-content-digest").and_then(|digest| digest.parse().ok());
    let content_type = answer.header("content-type").map(bare_media_type).map(str::to_owned);
    let bytes = read_all(source.endpoint.host(), answer, MAX_MANIFEST)?;
    let digest = Digest::of(&bytes);
    if let Some(expected) = reference.digest().or(said).filter(|expected| *expected != digest) {
        return Err(ErrorKind::DigestMismatch { expected, actual: digest });
    }
    let media_type = manifest_media_type(content_type.as_deref(), &bytes)
        .map_err(|reason| ErrorKind::Answer { host: source.endpoint.host().to_owned(), reason })?;
    Ok(RawManifest { bytes, media_type, digest })
}

/// What a manifest is, by its own word or the registry's. When both speak they must agree: bytes that are a
/// manifest to one reader and an index to another are an attack.
fn manifest_media_type(content_type: Option<&str>, bytes: &[u8]) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Peek {
        #[serde(rename = "mediaType", default)]
        media_type: Option<String>,
        #[serde(default)]
        manifests: Option<serde::de::IgnoredAny>,
    }
    let peek: Peek = serde_json::from_slice(bytes).map_err(|_| "expected a manifest in JSON".to_owned())?;
    let known = |t: &&str| media_type::is_index(t) || media_type::is_manifest(t);
    match (peek.media_type, content_type.filter(known)) {
        (Some(own), Some(told)) if own != told => {
            Err(format!("the manifest says it is {own}, its header says {told}"))
        }
        (Some(own), _) => Ok(own),
        (None, Some(told)) => Ok(told.to_owned()),
        (None, None) if peek.manifests.is_some() => Ok(media_type::OCI_INDEX.to_owned()),
        (None, None) => Ok(content_type.unwrap_or(media_type::OCI_MANIFEST).to_owned()),
    }
}

/// A media type without parameters.
fn bare_media_type(header: &str) -> &str {
    header.split(';').next().unwrap_or_default().trim()
}

fn read_all(host: &str, answer: Answer, limit: u64) -> Result<Vec<u8>, ErrorKind> {
    let mut bytes = Vec::new();
    let reader = answer.response.into_body().into_reader();
    reader.take(limit + 1).read_to_end(&mut bytes).map_err(|e| http::classify(host, None, e.into()))?;
    if bytes.len() as u64 > limit {
        let reason = format!("more than {limit} bytes where that is far too much");
        return Err(ErrorKind::Answer { host: host.to_owned(), reason });
    }
    Ok(bytes)
}

fn json<T: serde::de::DeserializeOwned>(host: &str, answer: Answer, limit: u64) -> Result<T, ErrorKind> {
    let bytes = read_all(host, answer, limit)?;
    serde_json::from_slice(&bytes)
        .map_err(|e| ErrorKind::Answer { host: host.to_owned(), reason: format!("unexpected JSON: {e}") })
}

/// The `Link: <…>; rel="next"` of a list, if it stays with the registry.
fn next_page(answer: &Answer) -> Option<ureq::http::Uri> {
    let link = answer.header(header::LINK.as_str())?;
    let (url, rel) = link.split_once('<')?.1.split_once('>')?;
    if !rel.contains("next") {
        return None;
    }
    let next = http::join(&answer.url, url)?;
    (http::origin(&next) == http::origin(&answer.url)).then_some(next)
}

/// True when `registry/repository` begins with one of the entries, at a border: `host` names `host/a` and
/// `host:5000/a`, never `hostile/a`.
fn is_insecure(entries: &[String], registry: &str, repository: &str) -> bool {
    let name = format!("{registry}/{repository}");
    entries.iter().map(|entry| entry.trim().trim_end_matches('/')).filter(|e| !e.is_empty()).any(|entry| {
        name.strip_prefix(entry).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insecure_entries_end_at_a_border() {
        let entries = ["reg.io".to_owned(), "127.0.0.1:5000/ns/".to_owned()];
        let insecure = |registry, repository| is_insecure(&entries, registry, repository);
        assert!(insecure("reg.io", "a"));
        assert!(insecure("reg.io:5000", "a"));
        assert!(!insecure("reg.io.evil.net", "a"));
        assert!(insecure("127.0.0.1:5000", "ns/a"));
        assert!(!insecure("127.0.0.1:5000", "nsx/a"));
        assert!(!is_insecure(&[String::new(), "/".to_owned()], "reg.io", "a"));
    }

    #[test]
    fn a_manifest_is_one_thing_only() {
        let of = |header, body: &str| manifest_media_type(header, body.as_bytes());
        let oci = format!(r#"{{"mediaType":"{}"}}"#, media_type::OCI_MANIFEST);
        assert_eq!(of(Some(media_type::OCI_MANIFEST), &oci).unwrap(), media_type::OCI_MANIFEST);
        assert_eq!(of(Some("text/plain"), &oci).unwrap(), media_type::OCI_MANIFEST);
        assert_eq!(of(Some(media_type::OCI_INDEX), "{}").unwrap(), media_type::OCI_INDEX);
        assert_eq!(of(None, r#"{"manifests":[]}"#).unwrap(), media_type::OCI_INDEX);
        assert_eq!(of(None, "{}").unwrap(), media_type::OCI_MANIFEST);
        assert!(of(Some(media_type::OCI_INDEX), &oci).is_err());
        assert!(of(None, "not json").is_err());
    }
}
