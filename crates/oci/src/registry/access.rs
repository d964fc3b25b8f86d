//! Who we are to a registry: challenges met, credentials found, tokens fetched and kept.

use std::time::Instant;

use base64::Engine as _;
use ureq::Body as AnswerBody;
use ureq::http::{Method, Response, Uri, header};

use super::endpoint::{Answer, Endpoint, Hung, Renewals, Request, lock};
use super::error::ErrorKind;
use super::http::{Payload, host_port, origin};
use super::names::is_loopback;
use super::token::{Challenge, Scope, TokenAnswer, Tokens, token_query};
use crate::auth::{self, Credential, Secret};

/// The largest token answer that is read, in bytes.
const MAX_TOKEN_BODY: u64 = 1 << 20;
/// How often a request is sent anew because of a 401.
const MAX_RENEWALS: u32 = 2;

/// What is known of how to be let in.
#[derive(Default)]
pub(super) struct Access {
    challenge: Option<Challenge>,
    tokens: Tokens,
    hung: Hung,
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

impl Endpoint {
    /// Sends a request with what the registry wants to see, once more where a 401 says what that is.
    pub(super) fn send_authorized(
        &self,
        request: &mut Request<'_>,
        renewals: &mut Renewals,
    ) -> Result<Answer, ErrorKind> {
        let final_answer = request.casual || matches!(request.payload, Payload::Stream(..));
        loop {
            let shown = self.authorization(request.scopes, renewals.more.as_deref())?;
            let header = shown.as_ref().map(|shown| shown.header.as_str());
            let answer = self.follow(request, header)?;
            let elsewhere = origin(&answer.url) != origin(&request.url);
            if answer.status() != 401 || elsewhere || request.casual {
                return Ok(answer);
            }
            let renewed = self.challenged(&answer.response, shown.as_ref(), request.scopes);
            renewals.count += 1;
            if final_answer || renewals.count > MAX_RENEWALS {
                return Ok(answer);
            }
            match renewed {
                Renewed::InVain => return Ok(answer),
                Renewed::Scope(scope) => renewals.more = scope,
            }
            answer.drain();
        }
    }

    /// The answer, with what there is to say when we are not let in.
    pub(super) fn admitted(&self, mut answer: Answer, repository: &str) -> Result<Answer, ErrorKind> {
        if matches!(answer.status(), 401 | 403)
            && let Some(error) = self.failed_helper()
        {
            return Err(error);
        }
        if answer.status() == 401 {
            let credentials = &self.shared.config.credentials;
            answer.had_credentials = credentials.find(&self.shared.registry, repository)?.is_some();
        }
        Ok(answer)
    }

    /// Why there are no credentials, when a helper failed.
    pub(super) fn failed_helper(&self) -> Option<ErrorKind> {
        lock(&self.shared.access).helper.clone().map(ErrorKind::from)
    }

    /// Remembers what the registry wants to see, as told in an answer.
    pub(super) fn learn(&self, response: &Response<AnswerBody>) -> Option<Challenge> {
        let headers = response.headers().get_all(header::WWW_AUTHENTICATE);
        let challenge = Challenge::best(headers.iter().filter_map(|value| value.to_str().ok()))?;
        lock(&self.shared.access).challenge = Some(challenge.clone());
        Some(challenge)
    }

    /// After a 401: whether another try may go better.
    fn challenged(&self, response: &Response<AnswerBody>, sent: Option<&Shown>, scopes: &[Scope]) -> Renewed {
        match (self.learn(response), sent) {
            (None, _) => Renewed::InVain,
            (Some(Challenge::Basic), None) => Renewed::Scope(None),
            // The password was wrong.
            (Some(Challenge::Basic), Some(_)) => Renewed::InVain,
            (Some(Challenge::Bearer { scope, .. }), None) => Renewed::Scope(scope),
            (Some(Challenge::Bearer { scope, .. }), Some(sent)) => {
                if let Some((_, token)) = sent.header.split_once(' ') {
                    lock(&self.shared.access).tokens.forget(token);
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
        let asked = Instant::now();
        let mut access = lock(&self.shared.access);
        self.stop.check()?;
        let Some(challenge) = access.challenge.clone() else { return Ok(None) };
        let repository = scopes.first().map_or("", |scope| scope.repository.as_str());
        let bearer = |token: &Secret, fresh| Shown { header: format!("Bearer {}", token.expose()), fresh };
        if let Challenge::Bearer { .. } = challenge
            && let Some(token) = access.tokens.find(scopes, Instant::now())
        {
            return Ok(Some(bearer(token, false)));
        }
        let credential = match self.shared.config.credentials.find(&self.shared.registry, repository) {
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
                access.hung.check(asked)?;
                let answer = self.fetch_token(&realm, service.as_deref(), &wanted, credential.as_ref());
                let answer = answer.inspect_err(|error| access.hung.note(error))?;
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
            host: self.host().to_owned(),
            reason: "expected the URL of a token server in its challenge".to_owned(),
        };
        let home = self.url_without_probe();
        let realm = super::http::join(&home, realm).ok_or_else(bad_realm)?;
        let open_line = realm.scheme_str() == Some("http") && !is_loopback(realm.host().unwrap_or_default());
        if open_line && credential.is_some() && !self.shared.insecure {
            return Err(ErrorKind::Answer {
                host: self.host().to_owned(),
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

    /// Once: what it is asked for is tried again, and so is this.
    fn ask_token_server(
        &self,
        method: Method,
        url: Uri,
        headers: Vec<(&'static str, String)>,
        mut payload: Payload<'_>,
        had_credentials: bool,
    ) -> Result<TokenAnswer, ErrorKind> {
        let all: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let response = self.exchange(&method, &url, &all, &mut payload, None)?;
        let authorization = headers.iter().find(|(name, _)| *name == "authorization");
        let authorization = authorization.map(|(_, value)| value.clone());
        let answer = Answer { authorization, had_credentials, ..self.answer(response, url) };
        if answer.status() != 200 {
            return Err(match answer.into_error() {
                // What some servers answer to a wrong identity token.
                ErrorKind::Status { host, status: 400, message } if had_credentials => {
                    ErrorKind::Unauthorized { host, message, had_credentials }
                }
                other => other,
            });
        }
        let (host, described) = (host_port(&answer.url), answer.described());
        let until = Instant::now() + self.shared.config.timeouts.idle;
        let body = answer.into_body().read_whole(MAX_TOKEN_BODY, until)?;
        TokenAnswer::parse(&body).map_err(|reason| {
            let reason = format!("{reason} from the token server, got {described}");
            ErrorKind::Answer { host, reason }
        })
    }
}

fn basic(username: &str, password: &str) -> String {
    let pair = format!("{username}:{password}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}
