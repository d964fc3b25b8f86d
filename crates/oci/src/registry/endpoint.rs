//! One registry as it is spoken to: with or without TLS, through which proxy, with which token; and what is tried
//! again.
//!
//! Not here: what is asked for (see the other modules).

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use ureq::http::{Method, Request as HttpRequest, Response, Uri, header};
use ureq::tls::TlsConfig;
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, Proxy, SendBody};

use super::config::ClientConfig;
use super::error::{ErrorKind, is_passing_status};
use super::http::{
    Payload, classify, drain, failure, host_port, location, may_speak_plainly, origin, retry_after,
};
use super::names::{Names, is_loopback, proxy_for};
use super::token::{Challenge, Scope, TokenAnswer, Tokens, token_query};
use crate::auth::{self, Credential, Secret};
use crate::tls;

/// Redirects that are followed for one request.
const MAX_REDIRECTS: usize = 5;
/// The largest token answer that is read, in bytes.
const MAX_TOKEN_BODY: u64 = 1 << 20;

/// A registry's connections, tokens and manners.
pub(super) struct Endpoint {
    config: Arc<ClientConfig>,
    /// As in references.
    registry: String,
    /// What is connected to.
    authority: String,
    insecure: bool,
    plain: Mutex<Option<bool>>,
    tls: OnceLock<TlsConfig>,
    agents: Mutex<Vec<(Option<String>, Agent)>>,
    access: Mutex<Access>,
}

#[derive(Default)]
struct Access {
    challenge: Option<Challenge>,
    tokens: Tokens,
    /// A credential helper that failed. Nobody needs it to read what is public, so it counts only when we are not
    /// let in.
    helper: Option<auth::Error>,
}

/// An `Authorization` header.
struct Shown {
    header: String,
    /// Made for this request: when it is refused, another one would be too.
    fresh: bool,
}

/// What a 401 means.
enum Renewed {
    /// Another try would end the same way.
    InVain,
    /// Try again, asking for this scope too.
    Scope(Option<String>),
}

/// What is asked of a registry.
pub(super) struct Request<'a> {
    pub method: Method,
    pub url: Uri,
    pub scopes: &'a [Scope],
    pub headers: Vec<(&'static str, String)>,
    pub payload: Payload<'a>,
    /// Sent once, with what is at hand: its success does not matter.
    pub casual: bool,
}

/// An answer, whatever its status.
pub(super) struct Answer {
    pub response: Response<Body>,
    /// Where it came from in the end.
    pub url: Uri,
    /// The `Authorization` header that was sent to that place.
    authorization: Option<String>,
    /// True when it was made of credentials of the user's.
    had_credentials: bool,
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The answer as an error.
    pub fn into_error(self) -> ErrorKind {
        let host = host_port(&self.url);
        failure(&host, self.response, self.authorization.as_deref(), self.had_credentials)
    }

    /// Itself when it has one of these statuses, else an error.
    pub fn expect(self, statuses: &[u16]) -> Result<Self, ErrorKind> {
        if statuses.contains(&self.status()) { Ok(self) } else { Err(self.into_error()) }
    }

    pub fn drain(self) {
        drain(self.response);
    }
}

impl Endpoint {
    /// The registry named `registry`; `insecure` when the user said so.
    pub fn new(config: Arc<ClientConfig>, registry: &str, insecure: bool) -> Self {
        let authority = match registry {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            other => other,
        };
        Self {
            config,
            registry: registry.to_owned(),
            authority: authority.to_owned(),
            insecure,
            plain: Mutex::default(),
            tls: OnceLock::new(),
            agents: Mutex::default(),
            access: Mutex::default(),
        }
    }

    /// Who this is, for messages.
    pub fn host(&self) -> &str {
        &self.authority
    }

    /// The URL of a path of the registry: `/v2/…`.
    pub fn url(&self, path: &str) -> Result<Uri, ErrorKind> {
        let scheme = if self.is_plain()? { "http" } else { "https" };
        self.parse_url(&format!("{scheme}://{}{path}", self.authority))
    }

    fn parse_url(&self, url: &str) -> Result<Uri, ErrorKind> {
        url.parse()
            .map_err(|_| ErrorKind::Setting(format!("`{}` is not a usable registry name", self.registry)))
    }

    /// True when the registry is to be spoken to without TLS: only if it is insecure or on this machine, and
    /// nothing there speaks TLS. Found out once.
    fn is_plain(&self) -> Result<bool, ErrorKind> {
        let url = |scheme: &str| self.parse_url(&format!("{scheme}://{}/v2/", self.authority));
        let secure = url("https")?;
        if !self.insecure && !is_loopback(secure.host().unwrap_or_default()) {
            return Ok(false);
        }
        let mut plain = lock(&self.plain);
        if let Some(known) = *plain {
            return Ok(known);
        }
        let ping = |url: &Uri| self.exchange(&Method::GET, url, &[], &mut Payload::None);
        let error = match ping(&secure) {
            Ok(response) => {
                self.learn(&response);
                drain(response);
                return Ok(*plain.insert(false));
            }
            Err(error) if may_speak_plainly(&error) => error,
            Err(error) => return Err(error),
        };
        let http = url("http")?;
        for tries in 1.. {
            match ping(&http) {
                Ok(response) => {
                    self.learn(&response);
                    drain(response);
                    return Ok(*plain.insert(true));
                }
                Err(ErrorKind::Refused { .. }) => break,
                // A connection that broke says nothing about what is spoken there.
                Err(_) if tries <= self.config.retry.retries => {
                    std::thread::sleep(self.config.retry.delay(tries));
                }
                Err(_) => break,
            }
        }
        Err(error)
    }

    /// Sends a request with what the registry wants to see, follows redirects, and tries again what may pass.
    /// Gives the answer whatever its status. A stream is sent once: its answer is given as it is.
    pub fn send(&self, request: &mut Request<'_>) -> Result<Answer, ErrorKind> {
        let once = request.casual || matches!(request.payload, Payload::Stream(..));
        let repository = request.scopes.first().map_or("", |scope| scope.repository.as_str());
        let mut renewals = 0;
        let mut more: Option<String> = None;
        let mut answer = self.persist(once, || {
            loop {
                let shown = self.authorization(request.scopes, more.as_deref())?;
                let header = shown.as_ref().map(|shown| shown.header.as_str());
                let answer = self.follow(request, header)?;
                let elsewhere = origin(&answer.url) != origin(&request.url);
                if answer.status() != 401 || elsewhere || request.casual {
                    return Ok(answer);
                }
                let renewed = self.challenged(&answer.response, shown.as_ref(), request.scopes);
                renewals += 1;
                if once || renewals > 2 {
                    return Ok(answer);
                }
                match renewed {
                    Renewed::InVain => return Ok(answer),
                    Renewed::Scope(scope) => more = scope,
                }
                answer.drain();
            }
        });
        let refused = match &answer {
            Ok(answer) => matches!(answer.status(), 401 | 403),
            Err(error) => matches!(error, ErrorKind::Unauthorized { .. } | ErrorKind::Denied { .. }),
        };
        if refused && let Some(error) = lock(&self.access).helper.clone() {
            return Err(error.into());
        }
        if let Ok(answer) = &mut answer
            && answer.status() == 401
        {
            answer.had_credentials = self.config.credentials.find(&self.registry, repository)?.is_some();
        }
        answer
    }

    /// Tries until it works, cannot work, or has been tried often enough.
    fn persist(
        &self,
        once: bool,
        mut attempt: impl FnMut() -> Result<Answer, ErrorKind>,
    ) -> Result<Answer, ErrorKind> {
        let retry = &self.config.retry;
        let mut tries = 0;
        loop {
            tries += 1;
            let outcome = attempt();
            let last = once || tries > retry.retries;
            let wait = match &outcome {
                Ok(answer) if is_passing_status(answer.status()) => retry_after(answer.response.headers()),
                // Somebody who does not listen rarely starts to within seconds.
                Err(ErrorKind::Refused { .. } | ErrorKind::TimedOut { .. }) if tries > 2 => return outcome,
                Err(error) if error.is_passing() => None,
                _ => return outcome,
            };
            if last || wait.is_some_and(|wait| wait > retry.longest) {
                return outcome;
            }
            if let Ok(answer) = outcome {
                answer.drain();
            }
            std::thread::sleep(wait.unwrap_or(Duration::ZERO).max(retry.delay(tries)));
        }
    }

    /// One request with its redirects. The header goes to the registry only.
    fn follow(&self, request: &mut Request<'_>, authorization: Option<&str>) -> Result<Answer, ErrorKind> {
        let mut url = request.url.clone();
        let home = self.url("/")?;
        for _ in 0..=MAX_REDIRECTS {
            let ours = authorization.filter(|_| origin(&url) == origin(&home));
            let mut headers: Vec<(&str, &str)> =
                request.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            headers.extend(ours.map(|value| ("authorization", value)));
            let response = self.exchange(&request.method, &url, &headers, &mut request.payload)?;
            let again = match response.status().as_u16() {
                301..=303 => matches!(request.method, Method::GET | Method::HEAD),
                307 | 308 => !matches!(request.payload, Payload::Stream(..)),
                _ => false,
            };
            if !again {
                let authorization = ours.map(str::to_owned);
                return Ok(Answer { response, url, authorization, had_credentials: false });
            }
            let next = location(&url, response.headers()).ok_or_else(|| ErrorKind::Answer {
                host: host_port(&url),
                reason: "expected a usable Location in a redirect".to_owned(),
            })?;
            drain(response);
            url = next;
        }
        Err(ErrorKind::Answer { host: self.authority.clone(), reason: "too many redirects".to_owned() })
    }

    /// Gets a URL that is no part of the registry, as anybody: no credentials are shown. A secure URL never leads
    /// to one that is not. Gives the answer whatever its status.
    pub fn get_plain(&self, url: &Uri, headers: &[(&str, &str)]) -> Result<Answer, ErrorKind> {
        self.persist(false, || {
            let mut url = url.clone();
            for _ in 0..=MAX_REDIRECTS {
                let response = self.exchange(&Method::GET, &url, headers, &mut Payload::None)?;
                if !matches!(response.status().as_u16(), 301..=303 | 307 | 308) {
                    return Ok(Answer { response, url, authorization: None, had_credentials: false });
                }
                let unusable =
                    |reason: &str| ErrorKind::Answer { host: host_port(&url), reason: reason.to_owned() };
                let next = location(&url, response.headers())
                    .ok_or_else(|| unusable("expected a usable Location in a redirect"))?;
                if url.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                    return Err(unusable("it redirects to a place without TLS"));
                }
                drain(response);
                url = next;
            }
            Err(ErrorKind::Answer { host: host_port(&url), reason: "too many redirects".to_owned() })
        })
    }

    /// One HTTP exchange.
    fn exchange(
        &self,
        method: &Method,
        url: &Uri,
        headers: &[(&str, &str)],
        payload: &mut Payload<'_>,
    ) -> Result<Response<Body>, ErrorKind> {
        let (agent, proxy) = self.agent(url)?;
        let mut request = HttpRequest::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Payload::Stream(_, Some(size)) = payload {
            request = request.header(header::CONTENT_LENGTH, *size);
        }
        let invalid = |_| ErrorKind::Setting("a header holds characters that it must not".to_owned());
        let result = match payload {
            // A method that may carry something says that it does not.
            Payload::None if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
                agent.run(request.body(&b""[..]).map_err(invalid)?)
            }
            Payload::None => agent.run(request.body(()).map_err(invalid)?),
            Payload::Bytes(bytes) => agent.run(request.body(*bytes).map_err(invalid)?),
            Payload::Stream(reader, _) => {
                agent.run(request.body(SendBody::from_reader(*reader)).map_err(invalid)?)
            }
        };
        result.map_err(|error| classify(&host_port(url), proxy.as_deref(), error))
    }

    /// The agent for a URL, and the proxy it goes through. Everything reached on behalf of a registry (its token
    /// server, its storage) uses the registry's certificates, as with Docker.
    fn agent(&self, url: &Uri) -> Result<(Agent, Option<String>), ErrorKind> {
        let proxy = proxy_for(&self.config.proxy, url);
        let mut agents = lock(&self.agents);
        if let Some((_, agent)) = agents.iter().find(|(known, _)| known.as_deref() == proxy) {
            return Ok((agent.clone(), proxy.map(proxy_name)));
        }
        let parsed = proxy
            .map(|proxy| {
                Proxy::new(proxy).map_err(|_| ErrorKind::Setting("the proxy is not a URL".to_owned()))
            })
            .transpose()?;
        let timeouts = &self.config.timeouts;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(self.config.user_agent.as_str())
            .proxy(parsed)
            .tls_config(self.tls_config()?)
            .timeout_resolve(Some(timeouts.connect))
            .timeout_connect(Some(timeouts.connect))
            .timeout_per_read(Some(timeouts.idle))
            .timeout_per_write(Some(timeouts.idle))
            .max_idle_connections(32)
            .max_idle_connections_per_host(16)
            .build();
        let names = Names(self.config.names.clone());
        let agent = Agent::with_parts(config, DefaultConnector::default(), names);
        agents.push((proxy.map(str::to_owned), agent.clone()));
        Ok((agent, proxy.map(proxy_name)))
    }

    /// Certificates, read once and only when something speaks TLS.
    fn tls_config(&self) -> Result<TlsConfig, ErrorKind> {
        if let Some(known) = self.tls.get() {
            return Ok(known.clone());
        }
        let names = if self.registry == self.authority {
            vec![self.registry.as_str()]
        } else {
            vec![self.registry.as_str(), self.authority.as_str()]
        };
        let host = self.config.tls.for_host(&names)?;
        let config = if self.insecure { tls::unverified(host.client) } else { tls::verified(host) };
        Ok(self.tls.get_or_init(|| config).clone())
    }

    /// Remembers what the registry wants to see, as told in an answer.
    fn learn(&self, response: &Response<Body>) -> Option<Challenge> {
        let headers = response.headers().get_all(header::WWW_AUTHENTICATE);
        let challenge = Challenge::best(headers.iter().filter_map(|value| value.to_str().ok()))?;
        lock(&self.access).challenge = Some(challenge.clone());
        Some(challenge)
    }

    /// After a 401: whether another try may go better.
    fn challenged(&self, response: &Response<Body>, sent: Option<&Shown>, scopes: &[Scope]) -> Renewed {
        match (self.learn(response), sent) {
            (None, _) => Renewed::InVain,
            (Some(Challenge::Basic), None) => Renewed::Scope(None),
            // The password was wrong.
            (Some(Challenge::Basic), Some(_)) => Renewed::InVain,
            (Some(Challenge::Bearer { scope, .. }), None) => Renewed::Scope(scope),
            (Some(Challenge::Bearer { scope, .. }), Some(sent)) => {
                if let Some((_, token)) = sent.header.split_once(' ') {
                    lock(&self.access).tokens.forget(token);
                }
                let asked = |word: &str| scopes.iter().any(|scope| scope.to_string() == word);
                let nothing_new = scope.as_deref().is_none_or(|scope| scope.split(' ').all(asked));
                if sent.fresh && nothing_new { Renewed::InVain } else { Renewed::Scope(scope) }
            }
        }
    }

    /// The `Authorization` header for a request, as far as it is known that one is wanted. `more` is a scope that
    /// the registry asked for.
    fn authorization(&self, scopes: &[Scope], more: Option<&str>) -> Result<Option<Shown>, ErrorKind> {
        // Held while a token is fetched: other requests wait for it instead of fetching one too.
        let mut access = lock(&self.access);
        let Some(challenge) = access.challenge.clone() else { return Ok(None) };
        let repository = scopes.first().map_or("", |scope| scope.repository.as_str());
        let bearer = |token: &Secret, fresh| Shown { header: format!("Bearer {}", token.expose()), fresh };
        if let Challenge::Bearer { .. } = challenge
            && let Some(token) = access.tokens.find(scopes, Instant::now())
        {
            return Ok(Some(bearer(token, false)));
        }
        let credential = match self.config.credentials.find(&self.registry, repository) {
            Err(error @ auth::Error::Helper { .. }) => {
                access.helper = Some(error);
                None
            }
            other => other?,
        };
        match (challenge, credential) {
            (_, Some(Credential::Bearer(token))) => Ok(Some(bearer(&token, true))),
            (Challenge::Basic, Some(Credential::Basic { username, password })) => {
                Ok(Some(Shown { header: basic(&username, password.expose()), fresh: true }))
            }
            (Challenge::Basic, _) => Ok(None),
            (Challenge::Bearer { realm, service, .. }, credential) => {
                let mut wanted: Vec<String> = scopes.iter().map(Scope::to_string).collect();
                for scope in more.into_iter().flat_map(|more| more.split(' ')) {
                    if !wanted.iter().any(|known| known == scope) {
                        wanted.push(scope.to_owned());
                    }
                }
                let answer = self.fetch_token(&realm, service.as_deref(), &wanted, credential.as_ref())?;
                access.tokens.add(scopes, &answer, Instant::now());
                Ok(Some(bearer(&answer.token, true)))
            }
        }
    }

    /// Asks the token server (Docker's "Token Authentication Specification"; "OAuth2" for identity tokens).
    fn fetch_token(
        &self,
        realm: &str,
        service: Option<&str>,
        scopes: &[String],
        credential: Option<&Credential>,
    ) -> Result<TokenAnswer, ErrorKind> {
        let bad_realm = || ErrorKind::Answer {
            host: self.authority.clone(),
            reason: "expected the URL of a token server in its challenge".to_owned(),
        };
        let home = self.url_without_probe();
        let realm = super::http::join(&home, realm).ok_or_else(bad_realm)?;
        let open_line = realm.scheme_str() == Some("http") && !is_loopback(realm.host().unwrap_or_default());
        if open_line && credential.is_some() && !self.insecure {
            return Err(ErrorKind::Answer {
                host: self.authority.clone(),
                reason: format!(
                    "its token server {} would get the credentials without TLS",
                    host_port(&realm)
                ),
            });
        }
        let form;
        let (url, method, headers, payload) = match credential {
            Some(Credential::Identity(token)) => {
                let more = [
                    ("grant_type", "refresh_token"),
                    ("client_id", "pannier"),
                    ("refresh_token", token.expose()),
                ];
                // One parameter, as OAuth2 has it.
                form = token_query(service, &[scopes.join(" ")], &more);
                let headers = vec![("content-type", "application/x-www-form-urlencoded".to_owned())];
                (realm, Method::POST, headers, Payload::Bytes(form.as_bytes()))
            }
            other => {
                let basic = match other {
                    Some(Credential::Basic { username, password }) => Some((username, password)),
                    _ => None,
                };
                let account = basic.map(|(username, _)| ("account", username.as_str()));
                let query = token_query(service, scopes, account.as_slice());
                let joint = if realm.query().is_some() { '&' } else { '?' };
                let url = format!("{realm}{joint}{query}").parse().map_err(|_| bad_realm())?;
                let header = basic.map(|(name, word)| ("authorization", self::basic(name, word.expose())));
                (url, Method::GET, header.into_iter().collect(), Payload::None)
            }
        };
        self.ask_token_server(method, url, headers, payload, credential.is_some())
    }

    fn ask_token_server(
        &self,
        method: Method,
        url: Uri,
        mut headers: Vec<(&'static str, String)>,
        payload: Payload<'_>,
        had_credentials: bool,
    ) -> Result<TokenAnswer, ErrorKind> {
        let host = host_port(&url);
        let authorization = headers.iter().position(|(name, _)| *name == "authorization");
        let authorization = authorization.map(|at| headers.swap_remove(at).1);
        let mut request = Request { method, url: url.clone(), scopes: &[], headers, payload, casual: false };
        let answer = self.persist(false, || {
            let url = request.url.clone();
            let mut all: Vec<(&str, &str)> = request.headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
            all.extend(authorization.as_deref().map(|value| ("authorization", value)));
            let response = self.exchange(&request.method, &url, &all, &mut request.payload)?;
            Ok(Answer { response, url, authorization: authorization.clone(), had_credentials })
        })?;
        if answer.status() != 200 {
            return Err(match answer.into_error() {
                // What some servers answer to a wrong identity token.
                ErrorKind::Status { host, status: 400, message } if had_credentials => {
                    ErrorKind::Unauthorized { host, message, had_credentials }
                }
                other => other,
            });
        }
        let mut body = Vec::new();
        let reader = answer.response.into_body().into_reader();
        std::io::Read::read_to_end(&mut std::io::Read::take(reader, MAX_TOKEN_BODY), &mut body)
            .map_err(|error| classify(&host, None, error.into()))?;
        TokenAnswer::parse(&body).map_err(|reason| ErrorKind::Answer { host, reason: reason.to_owned() })
    }

    /// The registry's root as far as known already; for relative realms only.
    fn url_without_probe(&self) -> Uri {
        let plain = self.plain.try_lock().ok().and_then(|plain| *plain) == Some(true);
        let scheme = if plain { "http" } else { "https" };
        format!("{scheme}://{}/", self.authority).parse().unwrap_or_else(|_| Uri::from_static("https://x/"))
    }
}

fn basic(username: &str, password: &str) -> String {
    let pair = format!("{username}:{password}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

/// A proxy's `host:port`: its URL may hold a password.
fn proxy_name(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split('/').next().unwrap_or_default();
    rest.rsplit_once('@').map_or(rest, |(_, host)| host).to_owned()
}

/// A lock whose holder cannot have left things half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
