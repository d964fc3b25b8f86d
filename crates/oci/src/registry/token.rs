//! Challenges, scopes and tokens: what a registry asks for in `WWW-Authenticate`, and how an access token is had
//! (Docker's token authentication specification).
//!
//! Pure but for the clock: requests are made by [`super::endpoint`].

use std::fmt::{self, Write as _};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::auth::Secret;

/// The longest token that is shown, in bytes. Servers take 8 to 16 KiB of headers.
const MAX_TOKEN: usize = 64 << 10;

/// What may be done with one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    pub repository: String,
    pub pull: bool,
    pub push: bool,
    pub delete: bool,
}

impl Scope {
    pub fn pull(repository: &str) -> Self {
        Self { repository: repository.to_owned(), pull: true, push: false, delete: false }
    }

    pub fn push(repository: &str) -> Self {
        Self { push: true, ..Self::pull(repository) }
    }

    pub fn delete(repository: &str) -> Self {
        Self { delete: true, ..Self::push(repository) }
    }

    /// True when whoever may do all of `self` may do all of `other`.
    fn covers(&self, other: &Self) -> bool {
        self.repository == other.repository
            && (self.pull || !other.pull)
            && (self.push || !other.push)
            && (self.delete || !other.delete)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "repository:{}:", self.repository)?;
        let actions = [(self.pull, "pull"), (self.push, "push"), (self.delete, "delete")];
        let mut first = true;
        for (_, action) in actions.iter().filter(|(wanted, _)| *wanted) {
            write!(f, "{}{action}", if first { "" } else { "," })?;
            first = false;
        }
        Ok(())
    }
}

/// One way a server offers to let us in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// With a name and a password.
    Basic,
    /// With a token that another server gives.
    Bearer {
        /// That server's URL, as it came: not checked.
        realm: String,
        /// What that server calls this one.
        service: Option<String>,
        /// What the token has to allow; several are divided by spaces.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The best of what the `WWW-Authenticate` headers offer: a token before a password. None when they offer neither.
    pub fn best<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut best = None;
        for (scheme, params) in headers.flat_map(parse_challenges) {
            let param = |name: &str| params.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
            match scheme.as_str() {
                "bearer" => {
                    let Some(realm) = param("realm") else { continue };
                    return Some(Self::Bearer { realm, service: param("service"), scope: param("scope") });
                }
                "basic" => best = Some(Self::Basic),
                _ => {}
            }
        }
        best
    }
}

type Params = Vec<(String, String)>;

/// Splits one header into challenges: scheme and parameters, names in lower case (RFC 9110, 11.6.1). What cannot
/// be understood is passed over.
fn parse_challenges(header: &str) -> Vec<(String, Params)> {
    let mut challenges: Vec<(String, Params)> = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let end = rest.find([' ', ',', '=', '\t']).unwrap_or(rest.len());
        let word = rest[..end].to_ascii_lowercase();
        rest = rest[end..].trim_start_matches([' ', '\t']);
        if let Some(value) = rest.strip_prefix('=') {
            let (value, after) = parse_value(value.trim_start_matches([' ', '\t']));
            if let Some((_, params)) = challenges.last_mut() {
                params.push((word, value));
            }
            rest = after;
        } else if word.is_empty() {
            // A character that starts nothing.
            rest = rest.get(1..).unwrap_or_default();
        } else {
            challenges.push((word, Vec::new()));
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    challenges
}

/// A token or a quoted string, and what follows it.
fn parse_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    (value, "")
}

/// An access token that is still good, with what it is good for.
#[derive(Debug)]
struct Cached {
    scopes: Vec<Scope>,
    token: Secret,
    expires: Instant,
}

/// The access tokens of one registry.
#[derive(Debug, Default)]
pub(super) struct Tokens(Vec<Cached>);

impl Tokens {
    /// A token that allows all of `wanted`.
    pub fn find(&self, wanted: &[Scope], now: Instant) -> Option<&Secret> {
        let covers =
            |cached: &&Cached| wanted.iter().all(|want| cached.scopes.iter().any(|s| s.covers(want)));
        self.0.iter().filter(|cached| cached.expires > now).find(covers).map(|cached| &cached.token)
    }

    /// Keeps a token.
    pub fn add(&mut self, scopes: &[Scope], answer: &TokenAnswer, now: Instant) {
        self.0.retain(|cached| cached.expires > now);
        let expires = now + answer.lifetime();
        self.0.push(Cached { scopes: scopes.to_vec(), token: answer.token.clone(), expires });
    }

    /// Forgets a token that was refused.
    pub fn forget(&mut self, token: &str) {
        self.0.retain(|cached| cached.token.expose() != token);
    }
}

/// What a token server gives.
#[derive(Clone, Debug)]
pub(super) struct TokenAnswer {
    pub token: Secret,
    expires_in: u64,
}

impl TokenAnswer {
    /// Parses the answer's body. The error never quotes it.
    pub fn parse(body: &[u8]) -> Result<Self, &'static str> {
        #[derive(Deserialize)]
        struct Raw {
            #[serde(default)]
            token: Option<String>,
            #[serde(default)]
            access_token: Option<String>,
            #[serde(default)]
            expires_in: Option<u64>,
        }
        let raw: Raw = serde_json::from_slice(body).map_err(|_| "expected JSON with a token")?;
        let token = raw.token.filter(|t| !t.is_empty()).or(raw.access_token).filter(|t| !t.is_empty());
        let token = token.ok_or("expected a token")?;
        if token.len() > MAX_TOKEN {
            return Err("expected a token that fits into a header");
        }
        if !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("expected a token of printable characters");
        }
        // The specification's default.
        Ok(Self { token: Secret::new(token), expires_in: raw.expires_in.unwrap_or(60) })
    }

    /// How long to use it: a tenth less than it is good for, as clocks differ and requests take time.
    fn lifetime(&self) -> Duration {
        Duration::from_secs(self.expires_in.min(24 * 3600)) * 9 / 10
    }
}

/// The query (or form) that asks for a token.
pub(super) fn token_query(service: Option<&str>, scopes: &[String], more: &[(&str, &str)]) -> String {
    let service = service.map(|service| ("service", service));
    let scopes = scopes.iter().map(|scope| ("scope", scope.as_str()));
    let mut query = String::new();
    for (name, value) in service.into_iter().chain(scopes).chain(more.iter().copied()) {
        let _ = write!(query, "{}{name}={}", if query.is_empty() { "" } else { "&" }, encode(value));
    }
    query
}

/// Percent-encodes a value of a query.
pub(super) fn encode(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(byte as char);
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn best(header: &str) -> Option<Challenge> {
        Challenge::best([header].into_iter())
    }

    #[test]
    fn challenges() {
        assert_eq!(best(r#"Basic realm="x y""#), Some(Challenge::Basic));
        let bearer = |scope: Option<&str>| {
            Some(Challenge::Bearer {
                realm: "https://t/token".to_owned(),
                service: Some("reg, x".to_owned()),
                scope: scope.map(str::to_owned),
            })
        };
        assert_eq!(best(r#"Bearer realm="https://t/token",service="reg, x""#), bearer(None));
        assert_eq!(
            best(
                r#"basic realm=a, bearer REALM="https://t/token" , service="reg\, x",scope="repository:a:pull,push""#
            ),
            bearer(Some("repository:a:pull,push"))
        );
        assert_eq!(best("Negotiate"), None);
        assert_eq!(best("Bearer service=x"), None);
        assert!(matches!(
            Challenge::best(["Basic", "Bearer realm=r"].into_iter()),
            Some(Challenge::Bearer { .. })
        ));
    }

    #[test]
    fn a_wider_token_serves_a_narrower_wish() {
        let now = Instant::now();
        let mut tokens = Tokens::default();
        let answer = TokenAnswer::parse(br#"{"access_token":"t","expires_in":100}"#).unwrap();
        tokens.add(&[Scope::push("a"), Scope::pull("b")], &answer, now);
        let found = |scopes: &[Scope], after| {
            tokens.find(scopes, now + Duration::from_secs(after)).map(|t| t.expose().to_owned())
        };
        assert_eq!(found(&[Scope::pull("a")], 0).as_deref(), Some("t"));
        assert_eq!(found(&[Scope::push("a"), Scope::pull("b")], 89).as_deref(), Some("t"));
        assert_eq!(found(&[Scope::push("a")], 91), None);
        assert_eq!(found(&[Scope::push("b")], 0), None);
        assert_eq!(found(&[Scope::pull("c")], 0), None);
        tokens.forget("t");
        assert!(tokens.find(&[Scope::pull("a")], now).is_none());
    }

    #[test]
    fn scopes_are_written_as_docker_does() {
        assert_eq!(Scope::pull("a/b").to_string(), "repository:a/b:pull");
        assert_eq!(Scope::push("a").to_string(), "repository:a:pull,push");
        assert_eq!(
            token_query(Some("my reg"), &[Scope::push("a").to_string()], &[("account", "me&you")]),
            "service=my%20reg&scope=repository%3Aa%3Apull%2Cpush&account=me%26you"
        );
    }

    #[test]
    fn answers_without_a_token_are_refused() {
        for body in ["", "{}", r#"{"token":""}"#, r#"{"token":"a\nb"}"#, r#"{"token":7}"#] {
            assert!(TokenAnswer::parse(body.as_bytes()).is_err(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_parsed(header in ".*") {
            let _ = best(&header);
        }

        #[test]
        fn quoted_values_come_back(value in "[ -~]*") {
            let escaped = value.replace('\\', r"\\").replace('"', "\\\"");
            let header = format!("Bearer realm=\"{escaped}\",service=s");
            prop_assert_eq!(
                best(&header),
                Some(Challenge::Bearer { realm: value, service: Some("s".to_owned()), scope: None })
            );
        }
    }
}
