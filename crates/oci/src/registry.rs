//! Registries: a blocking client for the OCI distribution specification.
//!
//! | module | what lives there |
//! |---|---|
//! | `registry` | [`Client`]: who is asked, access checks |
//! | `registry/manifest`, `registry/lists` | manifests; tags and referrers |
//! | `registry/blob` | reading blobs, going on where a connection broke |
//! | `registry/push` | sending blobs, mounting them from another repository |
//! | `registry/download` | files that are no part of a registry |
//! | `registry/upload` | sending a blob whose digest is not known yet |
//! | `registry/endpoint`, `registry/patience` | one registry's manners, redirects, retries; how long and how often |
//! | `registry/wire`, `registry/access` | one registry's connections; challenges met and tokens fetched |
//! | `registry/token`, `registry/names`, `registry/http`, `registry/body` | challenges and scopes; hosts and proxies; URLs, statuses and errors; bodies of answers |
//!
//! One client serves everything a program does: connections, tokens and answers of credential helpers are shared
//! by its clones and threads. It sends no request it does not need: a challenge is met once for a registry, a
//! token is fetched once for a set of scopes.
//!
//! **TLS.** A registry is spoken to with TLS. Those on this machine (`localhost`, loopback addresses) and those
//! named insecure are tried with TLS first, and without when nothing there speaks it. Certificates are checked for
//! all but those named insecure.

mod access;
mod blob;
mod body;
mod config;
mod download;
mod endpoint;
mod error;
mod http;
mod lists;
mod manifest;
mod names;
mod patience;
mod push;
mod token;
mod upload;
mod wire;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ureq::http::{Method, Uri};

pub use blob::BlobReader;
pub use config::{ClientConfig, Listener, NameService, ProxySettings, RetryPolicy, Timeouts};
pub use download::FileVersion;
pub use error::{Error, ErrorKind};
pub use patience::Stop;
pub use push::Open;
pub use token::Challenge;
pub use upload::Upload;

use crate::{Descriptor, Digest, Reference};
use endpoint::{Answer, Endpoint, Request, Shared, lock};
use token::Scope;

/// The largest manifest or page of a list of manifests that is read, in bytes. The specification asks registries to take
/// at least 4 MiB.
const MAX_MANIFEST: u64 = 16 << 20;

/// Talks to registries. Clones share everything.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    /// What ends the tasks that are begun with this clone.
    stop: Stop,
}

struct Inner {
    config: Arc<ClientConfig>,
    /// By registry and whether it is insecure.
    endpoints: Mutex<HashMap<(String, bool), Arc<Shared>>>,
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
    endpoint: Endpoint,
    repository: String,
    /// The mirror's name, if it is one.
    mirror: Option<String>,
}

impl Client {
    /// A client that knows what `config` says.
    pub fn new(config: ClientConfig) -> Self {
        let inner = Inner { config: Arc::new(config), endpoints: Mutex::default(), down: Mutex::default() };
        Self { inner: Arc::new(inner), stop: Stop::default() }
    }

    /// The same client for tasks that `stop` ends.
    #[must_use]
    pub fn until(&self, stop: &Stop) -> Self {
        Self { inner: Arc::clone(&self.inner), stop: stop.clone() }
    }

    /// True when the image can be read; false when there is none. An error when we may not, or cannot.
    pub fn check_read(&self, reference: &Reference) -> Result<bool, Error> {
        self.head_manifest(reference).map(|found| found.is_some())
    }

    /// An error when we may not push to the reference's repository. Nothing is left there.
    pub fn check_write(&self, reference: &Reference) -> Result<(), Error> {
        let check = || {
            let endpoint = self.endpoint(reference.registry(), reference.repository());
            let upload = push::start(&endpoint, reference.repository(), false)?;
            push::cancel(&endpoint, reference.repository(), upload);
            Ok(())
        };
        check().map_err(|kind: ErrorKind| kind.during("write to", reference.name()))
    }

    /// The registry itself, never a mirror.
    fn endpoint(&self, registry: &str, repository: &str) -> Endpoint {
        let insecure = is_insecure(&self.inner.config.insecure_registries, registry, repository);
        let mut endpoints = lock(&self.inner.endpoints);
        let shared = endpoints
            .entry((registry.to_owned(), insecure))
            .or_insert_with(|| Shared::new(Arc::clone(&self.inner.config), registry, insecure));
        Endpoint::new(Arc::clone(shared), &self.stop)
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
            let endpoint = self.endpoint(host, &repository).hasty();
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
    /// Reads a document: what `read` makes of the answer, all of which is there at the moment that it is told. One that
    /// breaks off is asked for again.
    fn read<T>(
        &self,
        method: Method,
        url: Uri,
        accept: &[&str],
        read: impl FnMut(Answer, Instant) -> Result<T, ErrorKind>,
    ) -> Result<T, ErrorKind> {
        let headers = if accept.is_empty() { Vec::new() } else { vec![("accept", accept.join(", "))] };
        let scopes = [Scope::pull(&self.repository)];
        self.endpoint.send_then(&mut Request { headers, ..Request::new(method, url, &scopes) }, read)
    }
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
}
