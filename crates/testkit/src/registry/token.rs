//! Docker's token authentication: users, what they may do, and the tokens that say so.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;

use super::Server;
use super::http::{self, Reply, Request, decode};

/// Who gets tokens for what.
#[derive(Clone, Debug)]
pub struct TokenSetup {
    /// A user who may do everything.
    pub user: String,
    /// The user's password.
    pub password: String,
    /// An identity token that stands for the user.
    pub identity: Option<String>,
    /// Whether anybody may pull.
    pub anonymous_pull: bool,
    /// Repositories whose scopes are never granted.
    pub forbidden: Vec<String>,
    /// How long tokens are good for, in seconds.
    pub expires_in: u64,
}

impl TokenSetup {
    /// One user with all rights, and nobody else.
    pub fn user(user: &str, password: &str) -> Self {
        Self {
            user: user.to_owned(),
            password: password.to_owned(),
            identity: None,
            anonymous_pull: false,
            forbidden: Vec::new(),
            expires_in: 300,
        }
    }
}

/// The tokens given out, and what each allows.
#[derive(Debug, Default)]
pub struct Grants {
    granted: HashMap<String, (Vec<String>, Instant)>,
    next: u64,
}

/// Why a token does not do.
pub(super) enum Refusal {
    NoToken,
    Insufficient,
}

impl Grants {
    pub(super) fn revoke(&mut self) {
        self.granted.clear();
    }

    fn add(&mut self, scopes: Vec<String>, lifetime: Duration) -> String {
        self.next += 1;
        let token = format!("test-token-{}", self.next);
        self.granted.insert(token.clone(), (scopes, Instant::now() + lifetime));
        token
    }

    /// Whether the header's token allows all of the scopes.
    pub(super) fn check(&self, header: Option<&str>, scopes: &[String]) -> Result<(), Refusal> {
        let token = header.and_then(|header| header.strip_prefix("Bearer ")).ok_or(Refusal::NoToken)?;
        let (granted, expires) = self.granted.get(token).ok_or(Refusal::NoToken)?;
        if *expires < Instant::now() {
            return Err(Refusal::NoToken);
        }
        let allowed = |scope: &String| {
            let Some((name, actions)) = scope.rsplit_once(':') else { return false };
            actions.split(',').all(|action| {
                granted
                    .iter()
                    .filter_map(|granted| granted.rsplit_once(':'))
                    .any(|(granted, may)| granted == name && may.split(',').any(|may| may == action))
            })
        };
        if scopes.iter().all(allowed) { Ok(()) } else { Err(Refusal::Insufficient) }
    }
}

/// Makes a token of the scopes that were granted: for registries that check signatures.
pub(super) type Sign = dyn Fn(&[String]) -> String + Send + Sync;

/// Answers a request for a token.
pub(super) fn answer(
    setup: &TokenSetup,
    grants: &mut Grants,
    request: &Request<'_>,
    body: &[u8],
    sign: Option<&Sign>,
) -> Reply {
    let form: Vec<(String, String)> = String::from_utf8_lossy(body)
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect();
    let params = if request.method == "POST" { &form } else { &request.query };
    let find = |name: &str| params.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let known = if request.method == "POST" {
        let token = find("refresh_token");
        find("grant_type") == Some("refresh_token") && token.is_some() && token == setup.identity.as_deref()
    } else {
        match request.header("authorization") {
            Some(header) => {
                if header != basic(&setup.user, &setup.password) {
                    return Reply::error(401, "UNAUTHORIZED", "incorrect username or password");
                }
                true
            }
            None => false,
        }
    };
    if request.method == "POST" && !known {
        return Reply::error(401, "UNAUTHORIZED", "invalid refresh token");
    }
    let asked = params.iter().filter(|(name, _)| name == "scope").flat_map(|(_, value)| value.split(' '));
    let granted: Vec<String> = asked.filter_map(|scope| grant(setup, known, scope)).collect();
    let token = match sign {
        Some(sign) => sign(&granted),
        None => grants.add(granted, Duration::from_secs(setup.expires_in)),
    };
    let body = serde_json::json!({ "token": token, "access_token": token, "expires_in": setup.expires_in });
    Reply::new(200, Arc::new(body.to_string().into_bytes())).with("content-type", "application/json")
}

/// What of a scope is granted, if anything.
fn grant(setup: &TokenSetup, known: bool, scope: &str) -> Option<String> {
    let (name, actions) = scope.rsplit_once(':')?;
    let repository = name.strip_prefix("repository:")?;
    if setup.forbidden.iter().any(|forbidden| forbidden == repository) {
        return None;
    }
    let actions: Vec<&str> =
        actions.split(',').filter(|action| known || (setup.anonymous_pull && *action == "pull")).collect();
    (!actions.is_empty()).then(|| format!("{name}:{}", actions.join(",")))
}

/// A token server on a free loopback port, for registries elsewhere.
pub struct TokenServer {
    server: Server,
    requests: Arc<Mutex<usize>>,
}

impl fmt::Debug for TokenServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenServer").field("server", &self.server).finish_non_exhaustive()
    }
}

impl TokenServer {
    /// Starts one that gives out tokens made by `sign` of the scopes granted.
    pub(super) fn start(setup: TokenSetup, sign: Box<Sign>) -> Self {
        let requests = Arc::new(Mutex::new(0));
        let counter = Arc::clone(&requests);
        let server = Server::start(move |stream| {
            let _ = http::serve(stream, |request| {
                *counter.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) += 1;
                let Ok(Some(body)) = request.read_body(1 << 20) else { return Reply::hang_up() };
                answer(&setup, &mut Grants::default(), request, &body, Some(&*sign))
            });
        });
        Self { server, requests }
    }

    /// The realm: where tokens are fetched.
    pub fn url(&self) -> String {
        format!("http://{}/token", self.server.address)
    }

    /// How many tokens were asked for.
    pub fn count(&self) -> usize {
        *self.requests.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A `Basic` header.
pub(super) fn basic(user: &str, password: &str) -> String {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Basic {pair}")
}
