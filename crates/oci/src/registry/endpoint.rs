//! One registry as it is spoken to: with or without TLS, following redirects; and what is tried again.
//!
//! Not here: connections (see [`super::wire`]), who we are there (see [`super::access`]), and what is asked for (see
//! the other modules).

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use ureq::http::{Method, Response, Uri};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body as AnswerBody};

use super::access::Access;
use super::body::Body;
use super::config::ClientConfig;
use super::error::ErrorKind;
use super::http::{Payload, failure, host_port, location, may_speak_plainly, origin, retry_after};
use super::names::is_loopback;
use super::patience::{Patience, Stop};
use super::token::Scope;
use crate::Digest;

/// Redirects that are followed for one request.
const MAX_REDIRECTS: usize = 5;
/// What is read of an answer that nobody needs, in bytes, so that its connection can be used again.
const MAX_DRAINED: u64 = 64 << 10;

/// A registry's connections, tokens and manners, for one task: clones with other [`Stop`]s share the rest.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) shared: Arc<Shared>,
    pub(super) stop: Stop,
    /// See [`Endpoint::hasty`].
    hasty: bool,
}

/// What all tasks share.
pub(super) struct Shared {
    pub(super) config: Arc<ClientConfig>,
    /// As in references.
    pub(super) registry: String,
    /// What is connected to.
    pub(super) authority: String,
    pub(super) insecure: bool,
    probe: Mutex<Probe>,
    pub(super) tls: OnceLock<TlsConfig>,
    pub(super) agents: Mutex<Vec<(Option<String>, Agent)>>,
    pub(super) access: Mutex<Access>,
}

/// Whether TLS is spoken there.
#[derive(Default)]
struct Probe {
    plain: Option<bool>,
    hung: Hung,
}

/// A silence that ended a task. Tasks that waited for that one to find something out do not wait for the same once more.
#[derive(Default)]
pub(super) struct Hung(Option<(Instant, String, &'static str, Duration)>);

impl Hung {
    /// Remembers the error if it is a silence.
    pub fn note(&mut self, error: &ErrorKind) {
        if let ErrorKind::TimedOut { host, step, after } = error {
            self.0 = Some((Instant::now(), host.clone(), *step, *after));
        }
    }

    /// An error where the silence ended after `asked`, the moment from which somebody waited.
    pub fn check(&self, asked: Instant) -> Result<(), ErrorKind> {
        match &self.0 {
            Some((at, host, step, after)) if *at > asked => {
                Err(ErrorKind::TimedOut { host: host.clone(), step, after: *after })
            }
            _ => Ok(()),
        }
    }
}

/// What is asked of a registry.
pub(super) struct Request<'a> {
    pub method: Method,
    pub url: Uri,
    pub scopes: &'a [Scope],
    pub headers: Vec<(&'static str, String)>,
    pub payload: Payload<'a>,
    /// Whether it is tried again is the caller's to decide.
    pub once: bool,
    /// Sent once, with what is at hand: its success does not matter.
    pub casual: bool,
}

impl<'a> Request<'a> {
    /// One without headers and content, that is tried again.
    pub fn new(method: Method, url: Uri, scopes: &'a [Scope]) -> Self {
        let (headers, payload) = (Vec::new(), Payload::None);
        Self { method, url, scopes, headers, payload, once: false, casual: false }
    }
}

/// An answer, whatever its status.
pub(super) struct Answer {
    pub response: Response<AnswerBody>,
    /// Where it came from in the end.
    pub url: Uri,
    pub(super) config: Arc<ClientConfig>,
    pub(super) stop: Stop,
    /// The `Authorization` header that was sent to that place.
    pub(super) authorization: Option<String>,
    /// True when it was made of credentials of the user's.
    pub(super) had_credentials: bool,
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// What the registry says its content is.
    pub fn digest(&self) -> Option<Digest> {
        self.header("docker-content-digest")?.trim().parse().ok()
    }

    /// How many bytes its content has.
    pub fn length(&self) -> Option<u64> {
        self.header("content-length")?.trim().parse().ok()
    }

    /// What came, for messages about what should have come.
    pub fn described(&self) -> String {
        let media_type =
            self.header("content-type").map(|it| it.split(';').next().unwrap_or_default().trim());
        let encoding = self.header("content-encoding").filter(|it| *it != "identity");
        let mut text = self.status().to_string();
        media_type.iter().for_each(|it| text.push_str(&format!(" with {it}")));
        encoding.iter().for_each(|it| text.push_str(&format!(" in {it}")));
        text
    }

    /// An answer that no registry gives: `expected` says what one would have.
    pub fn nonsense(&self, expected: &str) -> ErrorKind {
        let reason = format!("expected {expected}, got {}", self.described());
        ErrorKind::Answer { host: host_port(&self.url), reason }
    }

    /// Its content.
    pub fn into_body(self) -> Body {
        Body::new(self.response, &host_port(&self.url), &self.config.timeouts, &self.stop)
    }

    /// The answer as an error.
    pub fn into_error(self) -> ErrorKind {
        let (status, wait) = (self.status(), retry_after(self.response.headers()));
        let (host, had_credentials) = (host_port(&self.url), self.had_credentials);
        let authorization = self.authorization.clone();
        let elsewhere = location(&self.url, self.response.headers()).map(|url| host_port(&url));
        if let (300..=399, Some(elsewhere)) = (status, elsewhere) {
            let message = format!(": it leads to {elsewhere}");
            return ErrorKind::Status { host, status, message };
        }
        let body = self.into_body().read_some(MAX_DRAINED);
        failure(host, status, &body, wait, authorization.as_deref(), had_credentials)
    }

    /// Itself when it has one of these statuses, else an error.
    pub fn expect(self, statuses: &[u16]) -> Result<Self, ErrorKind> {
        if statuses.contains(&self.status()) { Ok(self) } else { Err(self.into_error()) }
    }

    /// Itself when it is a success of any kind, else an error.
    pub fn expect_success(self) -> Result<Self, ErrorKind> {
        if self.response.status().is_success() { Ok(self) } else { Err(self.into_error()) }
    }

    /// Reads what is left of a small answer, so that its connection can be used again.
    pub fn drain(self) {
        if self.length().is_some_and(|length| length <= MAX_DRAINED) {
            self.into_body().read_some(MAX_DRAINED);
        }
    }
}

impl Shared {
    /// The registry named `registry`; `insecure` when the user said so.
    pub fn new(config: Arc<ClientConfig>, registry: &str, insecure: bool) -> Arc<Self> {
        let authority = match registry {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            other => other,
        };
        Arc::new(Self {
            config,
            registry: registry.to_owned(),
            authority: authority.to_owned(),
            insecure,
            probe: Mutex::default(),
            tls: OnceLock::new(),
            agents: Mutex::default(),
            access: Mutex::default(),
        })
    }
}

impl Endpoint {
    /// What all share, for a task that `stop` ends.
    pub fn new(shared: Arc<Shared>, stop: &Stop) -> Self {
        stop.watch(&shared);
        Self { shared, stop: stop.clone(), hasty: false }
    }

    /// For a place beside which there is another: when it is silent, it is not asked again.
    #[must_use]
    pub fn hasty(self) -> Self {
        Self { hasty: true, ..self }
    }

    /// Who this is, for messages.
    pub fn host(&self) -> &str {
        &self.shared.authority
    }

    /// The tries of a task.
    pub fn patience(&self) -> Patience {
        Patience::new(&self.shared.config, &self.stop, self.hasty)
    }

    pub(super) fn answer(&self, response: Response<AnswerBody>, url: Uri) -> Answer {
        let (config, stop) = (Arc::clone(&self.shared.config), self.stop.clone());
        Answer { response, url, config, stop, authorization: None, had_credentials: false }
    }

    /// The URL of a path of the registry: `/v2/…`.
    pub fn url(&self, path: &str) -> Result<Uri, ErrorKind> {
        let scheme = if self.is_plain()? { "http" } else { "https" };
        self.parse_url(&format!("{scheme}://{}{path}", self.shared.authority))
    }

    fn parse_url(&self, url: &str) -> Result<Uri, ErrorKind> {
        let registry = &self.shared.registry;
        url.parse().map_err(|_| ErrorKind::Setting(format!("`{registry}` is not a usable registry name")))
    }

    /// True when the registry is to be spoken to without TLS: only if it is insecure or on this machine, and
    /// nothing there speaks TLS. Found out once.
    fn is_plain(&self) -> Result<bool, ErrorKind> {
        let url = |scheme: &str| self.parse_url(&format!("{scheme}://{}/v2/", self.shared.authority));
        let secure = url("https")?;
        if !self.shared.insecure && !is_loopback(secure.host().unwrap_or_default()) {
            return Ok(false);
        }
        let asked = Instant::now();
        let mut probe = lock(&self.shared.probe);
        if let Some(known) = probe.plain {
            return Ok(known);
        }
        probe.hung.check(asked)?;
        let (plain, mut patience) = (url("http")?, self.patience());
        loop {
            self.stop.check()?;
            let error = match self.speaks_plainly(&secure, &plain) {
                Ok(found) => return Ok(*probe.plain.insert(found)),
                Err(error) => error,
            };
            if let Err(error) = patience.again(error) {
                probe.hung.note(&error);
                return Err(error);
            }
        }
    }

    /// Asks with TLS, then without. Of two failures gives the one that says more.
    fn speaks_plainly(&self, secure: &Uri, plain: &Uri) -> Result<bool, ErrorKind> {
        let ping = |url: &Uri, limit| -> Result<(), ErrorKind> {
            let response = self.exchange(&Method::GET, url, &[], &mut Payload::None, limit)?;
            self.learn(&response);
            self.answer(response, url.clone()).drain();
            Ok(())
        };
        // Who does not speak TLS may wait for the rest of a request for ever.
        let error = match ping(secure, Some(self.shared.config.timeouts.idle / 3)) {
            Ok(()) => return Ok(false),
            Err(error) if may_speak_plainly(&error) => error,
            Err(error) => return Err(error),
        };
        match ping(plain, None) {
            Ok(()) => Ok(true),
            Err(without @ (ErrorKind::TimedOut { .. } | ErrorKind::Stopped)) => Err(without),
            // That a connection broke says nothing about what is spoken there.
            Err(without @ ErrorKind::Connection { .. }) if matches!(error, ErrorKind::Tls { .. }) => {
                Err(without)
            }
            Err(_) => Err(error),
        }
    }

    /// [`Endpoint::send_then`], of which the answer is all.
    pub fn send(&self, request: &mut Request<'_>) -> Result<Answer, ErrorKind> {
        self.send_then(request, |answer, _| Ok(answer))
    }

    /// Sends a request with what the registry wants to see, follows redirects, and tries again what may pass, along
    /// with what `read` makes of the answer, whatever its status, until the moment that it is told. A stream is sent
    /// once: its answer is given as it is.
    pub fn send_then<T>(
        &self,
        request: &mut Request<'_>,
        mut read: impl FnMut(Answer, Instant) -> Result<T, ErrorKind>,
    ) -> Result<T, ErrorKind> {
        let once = request.once || request.casual || matches!(request.payload, Payload::Stream(..));
        let repository = request.scopes.first().map_or("", |scope| scope.repository.as_str());
        let mut renewals = Renewals::default();
        let outcome = self.persist(
            once,
            || self.send_authorized(request, &mut renewals),
            |answer, until| read(self.admitted(answer, repository)?, until),
        );
        outcome.map_err(|error| match error {
            ErrorKind::Unauthorized { .. } | ErrorKind::Denied { .. } => {
                self.failed_helper().unwrap_or(error)
            }
            error => error,
        })
    }

    /// Tries until it works, cannot work, or has been tried often enough.
    pub(super) fn persist<T>(
        &self,
        once: bool,
        mut attempt: impl FnMut() -> Result<Answer, ErrorKind>,
        mut read: impl FnMut(Answer, Instant) -> Result<T, ErrorKind>,
    ) -> Result<T, ErrorKind> {
        let mut patience = self.patience();
        loop {
            self.stop.check()?;
            let outcome = match attempt() {
                Ok(answer) if once => return read(answer, patience.until()),
                Ok(answer) => {
                    let (host, wait) = (host_port(&answer.url), retry_after(answer.response.headers()));
                    if patience.again_after(&host, answer.status(), wait)? {
                        answer.drain();
                        continue;
                    }
                    read(answer, patience.until())
                }
                Err(error) => Err(error),
            };
            match outcome {
                Err(error) if !once => patience.again(error)?,
                outcome => return outcome,
            }
        }
    }

    /// One request with its redirects. The header goes to the registry only.
    pub(super) fn follow(
        &self,
        request: &mut Request<'_>,
        authorization: Option<&str>,
    ) -> Result<Answer, ErrorKind> {
        let mut url = request.url.clone();
        let home = self.url("/")?;
        for _ in 0..=MAX_REDIRECTS {
            let ours = authorization.filter(|_| origin(&url) == origin(&home));
            let mut headers: Vec<(&str, &str)> =
                request.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            headers.extend(ours.map(|value| ("authorization", value)));
            let response = self.exchange(&request.method, &url, &headers, &mut request.payload, None)?;
            let again = match response.status().as_u16() {
                301..=303 => matches!(request.method, Method::GET | Method::HEAD),
                307 | 308 => !matches!(request.payload, Payload::Stream(..)),
                _ => false,
            };
            let answer = self.answer(response, url.clone());
            if !again {
                return Ok(Answer { authorization: ours.map(str::to_owned), ..answer });
            }
            url = location(&url, answer.response.headers())
                .ok_or_else(|| answer.nonsense("a usable Location in a redirect"))?;
            answer.drain();
        }
        Err(too_many_redirects(self.host().to_owned()))
    }

    /// Gets a URL that is no part of the registry, as anybody: no credentials are shown. A secure URL never leads
    /// to one that is not. Gives the answer whatever its status.
    pub fn get_plain(&self, url: &Uri, headers: &[(&str, &str)]) -> Result<Answer, ErrorKind> {
        let attempt = || {
            let mut url = url.clone();
            for _ in 0..=MAX_REDIRECTS {
                let response = self.exchange(&Method::GET, &url, headers, &mut Payload::None, None)?;
                let answer = self.answer(response, url.clone());
                if !matches!(answer.status(), 301..=303 | 307 | 308) {
                    return Ok(answer);
                }
                let next = location(&url, answer.response.headers())
                    .ok_or_else(|| answer.nonsense("a usable Location in a redirect"))?;
                if url.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                    let reason = "it redirects to a place without TLS".to_owned();
                    return Err(ErrorKind::Answer { host: host_port(&url), reason });
                }
                answer.drain();
                url = next;
            }
            Err(too_many_redirects(host_port(&url)))
        };
        self.persist(false, attempt, |answer, _| Ok(answer))
    }

    /// The registry's root as far as known already; for relative realms only.
    pub(super) fn url_without_probe(&self) -> Uri {
        let plain = self.shared.probe.try_lock().ok().and_then(|probe| probe.plain) == Some(true);
        let (scheme, authority) = (if plain { "http" } else { "https" }, &self.shared.authority);
        format!("{scheme}://{authority}/").parse().unwrap_or_else(|_| Uri::from_static("https://x/"))
    }
}

/// How a request is let in: how often it was tried anew because of a 401, and for which scope besides its own.
#[derive(Default)]
pub(super) struct Renewals {
    pub count: u32,
    pub more: Option<String>,
}

fn too_many_redirects(host: String) -> ErrorKind {
    ErrorKind::Answer { host, reason: "too many redirects".to_owned() }
}

/// A lock whose holder cannot have left things half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
