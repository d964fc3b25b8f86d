//! Who we are at a registry: credentials, and where they come from.
//!
//! Everything here works on values and texts that the caller read. The files and variables are the usual ones
//! (`CNB_REGISTRY_AUTH`, Docker's `config.json`, Podman's `auth.json`), but finding them is the caller's business.
//!
//! Not here: how a credential becomes a header or a token (see [`crate::registry`]).

mod cnb;
mod docker_config;
mod helper;
mod told;

use std::fmt;
use std::sync::Arc;

pub use cnb::RegistryAuth;
pub use docker_config::DockerConfig;
pub use helper::{HelperAnswer, HelperRunner, NoHelpers, PathHelpers};
pub(crate) use told::{mask, note_url};

/// A text that must not be shown: its `Debug` says only that it is there.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends it: what comes back from there must not show it.
    pub fn expose(&self) -> &str {
        told::note(&self.0);
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What to show to a registry, or to its token server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A user's name and password.
    Basic {
        /// The name.
        username: String,
        /// The password, or an access token used as one.
        password: Secret,
    },
    /// A refresh token, exchanged for access tokens (Docker calls it an identity token).
    Identity(Secret),
    /// An access token, sent as it is.
    Bearer(Secret),
}

/// Finds credentials.
pub trait Credentials: fmt::Debug + Send + Sync {
    /// What to show to `registry` (as in a reference: `docker.io`, `127.0.0.1:5000`) for `repository`; `None`
    /// means to go on as nobody. Errors when a source that should know cannot be used.
    fn find(&self, registry: &str, repository: &str) -> Result<Option<Credential>, Error>;
}

/// Knows no credentials: every request is made as nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

impl Credentials for Anonymous {
    fn find(&self, _registry: &str, _repository: &str) -> Result<Option<Credential>, Error> {
        Ok(None)
    }
}

/// Asks several sources in turn; the first that knows something wins. A helper that cannot be asked counts only
/// when no later source knows anything.
#[derive(Clone, Debug, Default)]
pub struct Chain(Vec<Arc<dyn Credentials>>);

impl Chain {
    /// Sources, the one that wins first.
    pub fn new(sources: Vec<Arc<dyn Credentials>>) -> Self {
        Self(sources)
    }
}

impl Credentials for Chain {
    fn find(&self, registry: &str, repository: &str) -> Result<Option<Credential>, Error> {
        let mut unasked = None;
        for source in &self.0 {
            match source.find(registry, repository) {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(error @ Error::Helper { .. }) => unasked = unasked.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        unasked.map_or(Ok(None), Err)
    }
}

/// A source of credentials cannot be used. Never says what the credential is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A file or variable does not hold what it should.
    #[error("{source_name}: {reason}")]
    Invalid {
        /// The file's path or the variable's name.
        source_name: String,
        /// What was expected, without the text that was found.
        reason: String,
    },
    /// A credential helper cannot be run or answers nonsense.
    #[error("credential helper `{program}` for `{server}` {reason}")]
    Helper {
        /// Its file name.
        program: String,
        /// The server it was asked about.
        server: String,
        /// What went wrong.
        reason: String,
    },
}

/// The keys under which files and helpers may know a registry, best first: Docker Hub has several names.
fn server_names(registry: &str) -> Vec<&str> {
    match registry {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => {
            vec!["docker.io", "index.docker.io", "registry-1.docker.io"]
        }
        other => vec![other],
    }
}

/// A key as people write it (`https://index.docker.io/v1/`, `host:5000`, `host/ns/repo/`) without its scheme,
/// API version and closing slash.
fn bare_key(key: &str) -> &str {
    let key = key.trim();
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key)
}

/// `user:password` in base64, as in `Basic` headers and `auth` members. `None` when it is not that.
pub(crate) fn decode_basic(text: &str) -> Option<(String, Secret)> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (username, password) = text.split_once(':')?;
    // Docker pads what it writes with NUL bytes on some platforms.
    Some((username.to_owned(), Secret::new(password.trim_end_matches('\0'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct One(&'static str);

    impl Credentials for One {
        fn find(&self, registry: &str, _: &str) -> Result<Option<Credential>, Error> {
            Ok((registry == "a").then(|| Credential::Bearer(Secret::new(self.0))))
        }
    }

    #[test]
    fn the_first_source_that_knows_wins() {
        let chain = Chain::new(vec![Arc::new(Anonymous), Arc::new(One("x")), Arc::new(One("y"))]);
        assert_eq!(chain.find("a", "r").unwrap(), Some(Credential::Bearer(Secret::new("x"))));
        assert_eq!(chain.find("b", "r").unwrap(), None);
    }

    #[derive(Debug)]
    struct Broken;

    impl Credentials for Broken {
        fn find(&self, server: &str, _: &str) -> Result<Option<Credential>, Error> {
            let (program, server) = ("docker-credential-x".to_owned(), server.to_owned());
            Err(Error::Helper { program, server, reason: "failed".to_owned() })
        }
    }

    #[test]
    fn a_helper_that_fails_does_not_hide_later_sources() {
        let chain = Chain::new(vec![Arc::new(Broken), Arc::new(One("x"))]);
        assert!(chain.find("a", "r").unwrap().is_some());
        assert!(chain.find("b", "r").is_err());
    }

    #[test]
    fn debug_shows_no_secret() {
        let credential = Credential::Basic { username: "me".to_owned(), password: Secret::new("hunter2") };
        let text = format!("{credential:?}");
        assert!(text.contains("me") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn keys() {
        assert_eq!(bare_key("https://index.docker.io/v1/"), "index.docker.io");
        assert_eq!(bare_key("http://127.0.0.1:5000"), "127.0.0.1:5000");
        assert_eq!(bare_key("host/ns/repo/"), "host/ns/repo");
    }
}
