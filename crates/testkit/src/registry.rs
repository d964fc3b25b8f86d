//! Registries for tests: one in this process that can be told to fail, and Debian's `docker-registry`.
//!
//! | module | what it gives |
//! |---|---|
//! | `registry` | [`Registry`]: the one in this process, its faults, and what it was asked |
//! | `registry/http` | just enough HTTP/1.1 for it |
//! | `registry/routes` | the distribution specification, as far as clients use it |
//! | `registry/token` | [`TokenServer`]: Docker's token authentication |
//! | `registry/proxy` | [`Proxy`]: a proxy that leads everywhere to one place |
//! | `registry/debian` | [`DockerRegistry`], [`Pki`]: the real one, with TLS, passwords and tokens |

mod debian;
mod http;
mod proxy;
mod routes;
mod token;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use sha2::Digest as _;

pub use debian::{DockerRegistry, Pki, Setup};
pub use proxy::Proxy;
pub use token::{Grants, TokenServer, TokenSetup};

/// What a request to a registry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `GET /v2/`.
    Ping,
    /// A token is fetched.
    Token,
    /// `GET` of a manifest.
    ManifestGet,
    /// `HEAD` of a manifest.
    ManifestHead,
    /// `PUT` of a manifest.
    ManifestPut,
    /// `DELETE` of a manifest.
    ManifestDelete,
    /// `GET` of a blob.
    BlobGet,
    /// `HEAD` of a blob.
    BlobHead,
    /// An upload is opened.
    UploadStart,
    /// A blob is to be mounted.
    Mount,
    /// A piece of an upload.
    UploadPatch,
    /// An upload ends.
    UploadPut,
    /// An upload is given up.
    UploadDelete,
    /// The list of tags.
    Tags,
    /// The list of referrers.
    Referrers,
    /// Anything else.
    Other,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status, with a message of the registry's.
    Status(u16),
    /// 429 with this `Retry-After`, in seconds.
    RetryAfter(u64),
    /// The connection is closed after this many bytes of the answer's body.
    CutAnswer(usize),
    /// The connection is closed after this many bytes of the request's body.
    CutRequest(usize),
    /// The connection is closed before any answer; the request has been carried out.
    NoAnswer,
    /// This status at once, without reading the request's body; the connection is closed.
    Reject(u16),
    /// The last byte of the answer's body is another one.
    WrongByte,
    /// The answer's body lacks this many bytes, and its length says so.
    Short(usize),
    /// A range in the request is passed over.
    NoRange,
    /// The answer's body comes at this many bytes a second.
    Slow(u64),
    /// No answer, and the connection stays open.
    Hang,
    /// After this many bytes of the answer's body nothing more comes, and the connection stays open.
    Stall(usize),
    /// The answer comes a byte at a time, with this many milliseconds between two.
    Trickle(u64),
    /// A page of HTML with this status: what a proxy or a login puts in the registry's place.
    Page(u16),
    /// This status with this message, as registries put it.
    Says(u16, String),
    /// Nothing but this status.
    Empty(u16),
    /// The status of a redirect, to this URL.
    Redirect(u16, String),
    /// The answer says that its content has the digest of something else.
    WrongDigest,
    /// The answer is as it should be, with this status instead.
    Instead(u16),
    /// The answer's body is what gzip made of it, and a header says so.
    Gzip,
    /// The body of the answer never ends.
    Endless,
    /// Headers without an end.
    EndlessHeaders,
    /// The answer repeats the `Authorization` header of the request in its message, with this status.
    Echo(u16),
}

#[derive(Debug)]
struct Rule {
    kind: Kind,
    fault: Fault,
    times: u32,
    /// Requests of the kind that go well before.
    after: u32,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What it was about.
    pub kind: Kind,
    /// `GET`.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query, decoded.
    pub query: Vec<(String, String)>,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The `Range` header.
    pub range: Option<String>,
    /// The status it was answered with; 0 when the connection was closed instead.
    pub status: u16,
    /// The bytes of its body that were read.
    pub received: u64,
}

/// How a [`Registry`] behaves.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Who gets in.
    pub auth: Auth,
    /// Whether it has the referrers API.
    pub referrers: bool,
    /// Whether it refuses to mount blobs.
    pub no_mount: bool,
    /// Blobs are to be had at this `http://host:port` instead.
    pub blobs_at: Option<String>,
    /// Uploads go to this `http://host:port` instead.
    pub uploads_at: Option<String>,
    /// Tags on a page of the list, when there are more.
    pub page: Option<usize>,
    /// Whether the last page of the list leads to the first.
    pub endless_pages: bool,
}

/// Who gets into a [`Registry`].
#[derive(Clone, Debug, Default)]
pub enum Auth {
    /// Everybody.
    #[default]
    Open,
    /// A user with a password.
    Basic(String, String),
    /// Whoever has a token that allows it.
    Token(TokenSetup),
}

type Content = Arc<Vec<u8>>;

#[derive(Default)]
struct State {
    options: Options,
    host: String,
    blobs: HashMap<(String, String), Content>,
    /// By repository and tag or digest: media type and bytes.
    manifests: BTreeMap<(String, String), (String, Content)>,
    uploads: HashMap<String, Vec<u8>>,
    next_upload: u64,
    rules: Vec<Rule>,
    seen: Vec<Seen>,
    grants: Grants,
}

impl State {
    /// The fault for a request of this kind, which is then used up.
    fn fault(&mut self, kind: Kind) -> Option<Fault> {
        let rule = self.rules.iter_mut().find(|rule| rule.kind == kind && rule.times > 0)?;
        if rule.after > 0 {
            rule.after -= 1;
            return None;
        }
        rule.times -= 1;
        Some(rule.fault.clone())
    }
}

/// A registry in this process, on a free loopback port, without TLS. It ends with its owner.
#[derive(Debug)]
pub struct Registry {
    server: Server,
    state: Shared,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<State>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::start(Options::default())
    }
}

impl Registry {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// When there is no free port.
    pub fn start(options: Options) -> Self {
        let state = Shared(Arc::new(Mutex::new(State { options, ..State::default() })));
        let shared = state.clone();
        let server = Server::start(move |stream| {
            let _ = http::serve(stream, |request| routes::answer(&shared, request));
        });
        state.lock().host = server.address.to_string();
        Self { server, state }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.server.address.to_string()
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// The next `times` requests of a kind go wrong like this. Faults of one kind happen in the order they were
    /// given.
    pub fn fail(&self, kind: Kind, fault: Fault, times: u32) {
        self.fail_after(0, kind, fault, times);
    }

    /// As [`Registry::fail`], once `after` requests of the kind have gone well.
    pub fn fail_after(&self, after: u32, kind: Kind, fault: Fault, times: u32) {
        self.state.lock().rules.push(Rule { kind, fault, times, after });
    }

    /// Nothing goes wrong any more.
    pub fn recover(&self) {
        self.state.lock().rules.clear();
    }

    /// Puts a blob into a repository; its digest.
    pub fn add_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        self.state.lock().blobs.insert((repository.to_owned(), digest.clone()), Arc::new(bytes.to_vec()));
        digest
    }

    /// Puts a manifest into a repository, under its digest and a tag; its digest.
    pub fn add_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let entry = (media_type.to_owned(), Arc::new(bytes.to_vec()));
        let mut state = self.state.lock();
        state.manifests.insert((repository.to_owned(), tag.to_owned()), entry.clone());
        state.manifests.insert((repository.to_owned(), digest.clone()), entry);
        digest
    }

    /// A blob's bytes.
    pub fn blob(&self, repository: &str, digest: &str) -> Option<Vec<u8>> {
        let state = self.state.lock();
        state.blobs.get(&(repository.to_owned(), digest.to_owned())).map(|bytes| bytes.to_vec())
    }

    /// A manifest's media type and bytes, by tag or digest.
    pub fn manifest(&self, repository: &str, tag: &str) -> Option<(String, Vec<u8>)> {
        let state = self.state.lock();
        let (media_type, bytes) = state.manifests.get(&(repository.to_owned(), tag.to_owned()))?;
        Some((media_type.clone(), bytes.to_vec()))
    }

    /// Takes all manifests away.
    pub fn remove_manifests(&self) {
        self.state.lock().manifests.clear();
    }

    /// Uploads that were opened and have neither ended nor been given up.
    pub fn open_uploads(&self) -> usize {
        self.state.lock().uploads.len()
    }

    /// Every request so far, in the order of their ends.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().seen.clone()
    }

    /// How many requests of a kind there were.
    pub fn count(&self, kind: Kind) -> usize {
        self.state.lock().seen.iter().filter(|seen| seen.kind == kind).count()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.state.lock().seen.clear();
    }

    /// Makes all tokens that were given out worthless.
    pub fn revoke_tokens(&self) {
        self.state.lock().grants.revoke();
    }
}

/// Accepts connections, each in its own thread, until dropped.
#[derive(Debug)]
struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
        let address = listener.local_addr().expect("a bound address");
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, serve) = (Arc::clone(&stop), Arc::new(serve));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(stream));
            }
        });
        Self { address, stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the listener, so that it looks.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// `sha256:…` of some bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let hash = sha2::Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Waits a little so that `count` bytes take as long as `rate` (bytes a second) allows.
fn throttle(rate: u64, count: usize) {
    std::thread::sleep(Duration::from_secs_f64(count as f64 / rate as f64));
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
