//! Docker's `config.json` and Podman's `auth.json`: `auths`, `credHelpers`, `credsStore`.
//!
//! Keys of `auths` may name a registry or, as Podman allows, a part of one (`host/ns/repo`); the most specific
//! wins.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use serde::Deserialize;

use super::helper::{HelperAnswer, HelperRunner};
use super::{Credential, Credentials, Error, Secret, bare_key, decode_basic, server_names};

/// The credentials of one such file. Answers of helpers are kept, so each is asked once for a server.
#[derive(Debug)]
pub struct DockerConfig {
    /// By key without scheme and closing slash.
    auths: BTreeMap<String, Entry>,
    helpers: BTreeMap<String, String>,
    store: Option<String>,
    runner: Arc<dyn HelperRunner>,
    asked: Mutex<HashMap<(String, String), Option<Credential>>>,
}

#[derive(Debug)]
enum Entry {
    Known(Credential),
    /// Named, with nothing in it: the file's helper knows.
    Empty,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawFile {
    auths: BTreeMap<String, Option<RawEntry>>,
    #[serde(rename = "credHelpers")]
    cred_helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    creds_store: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawEntry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl DockerConfig {
    /// Parses the text of the file `name` (its path, for errors). Helpers it names are run by `runner`.
    pub fn parse(name: &str, text: &str, runner: Arc<dyn HelperRunner>) -> Result<Self, Error> {
        let invalid = |reason: String| Error::Invalid { source_name: name.to_owned(), reason };
        let raw: RawFile = if text.trim().is_empty() {
            RawFile::default()
        } else {
            // The parser's message may quote what it read, so only the place is told.
            serde_json::from_str(text).map_err(|e| {
                invalid(format!(
                    "expected a Docker config.json: not valid JSON, or a member of another type, at line {}, \
                     column {}",
                    e.line(),
                    e.column()
                ))
            })?
        };
        let mut auths = BTreeMap::new();
        for (key, entry) in raw.auths {
            let entry = parse_entry(entry.unwrap_or_default())
                .ok_or_else(|| invalid(format!("auths: `{key}`: `auth` is not `user:password` in base64")))?;
            auths.insert(bare_key(&key).to_owned(), entry);
        }
        let helpers = raw.cred_helpers.into_iter().map(|(k, v)| (bare_key(&k).to_owned(), v)).collect();
        let store = Some(raw.creds_store).filter(|store| !store.is_empty());
        Ok(Self { auths, helpers, store, runner, asked: Mutex::default() })
    }

    fn ask(&self, helper: &str, registry: &str) -> Result<Option<Credential>, Error> {
        let server = helper_server(registry);
        let key = (helper.to_owned(), server.to_owned());
        // Held while the helper runs: a second thread waits for the answer instead of asking too.
        let mut asked = self.asked.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(known) = asked.get(&key) {
            return Ok(known.clone());
        }
        let answer = match self.runner.get(helper, server)? {
            HelperAnswer::NotFound => None,
            HelperAnswer::Found { username, secret } if username == "<token>" => {
                Some(Credential::Identity(secret))
            }
            HelperAnswer::Found { username, secret } => {
                Some(Credential::Basic { username, password: secret })
            }
        };
        asked.insert(key, answer.clone());
        Ok(answer)
    }
}

impl Credentials for DockerConfig {
    fn find(&self, registry: &str, repository: &str) -> Result<Option<Credential>, Error> {
        let mut keys: Vec<String> = Vec::new();
        for name in server_names(registry) {
            let mut path = format!("{name}/{repository}");
            loop {
                keys.push(path.clone());
                match path.rfind('/') {
                    Some(cut) => path.truncate(cut),
                    None => break,
                }
            }
        }
        // The most specific first, whichever of the registry's names it was written under.
        keys.sort_by_key(|key| std::cmp::Reverse(key.matches('/').count()));
        for key in &keys {
            // A helper named for exactly this key is asked before the file is read, as Docker does.
            if let Some(helper) = self.helpers.get(key)
                && let Some(found) = self.ask(helper, registry)?
            {
                return Ok(Some(found));
            }
            if let Some(Entry::Known(found)) = self.auths.get(key) {
                return Ok(Some(found.clone()));
            }
        }
        match &self.store {
            Some(store) => self.ask(store, registry),
            None => Ok(None),
        }
    }
}

/// The name under which a helper knows the registry: Docker Hub's is a URL of long ago.
fn helper_server(registry: &str) -> &str {
    if server_names(registry).len() > 1 { "https://index.docker.io/v1/" } else { registry }
}

fn parse_entry(raw: RawEntry) -> Option<Entry> {
    if !raw.identitytoken.is_empty() {
        return Some(Entry::Known(Credential::Identity(Secret::new(raw.identitytoken))));
    }
    if !raw.registrytoken.is_empty() {
        return Some(Entry::Known(Credential::Bearer(Secret::new(raw.registrytoken))));
    }
    if !raw.auth.is_empty() {
        let (username, password) = decode_basic(&raw.auth)?;
        return Some(Entry::Known(Credential::Basic { username, password }));
    }
    if !raw.username.is_empty() {
        let password = Secret::new(raw.password);
        return Some(Entry::Known(Credential::Basic { username: raw.username, password }));
    }
    Some(Entry::Empty)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::super::helper::NoHelpers;
    use super::*;

    fn config(text: &str) -> DockerConfig {
        DockerConfig::parse("/c/config.json", text, Arc::new(NoHelpers)).unwrap()
    }

    fn user(found: Option<Credential>) -> String {
        match found {
            Some(Credential::Basic { username, password }) => format!("{username}:{}", password.expose()),
            Some(Credential::Identity(token)) => format!("identity {}", token.expose()),
            Some(Credential::Bearer(token)) => format!("bearer {}", token.expose()),
            None => "nobody".to_owned(),
        }
    }

    #[test]
    fn the_most_specific_key_wins() {
        let config = config(
            r#"{"auths":{"h:5000":{"auth":"YTph"},"h:5000/ns":{"username":"b","password":"b"},
                "h:5000/ns/repo":{"identitytoken":"c"},"x.io":{}}}"#,
        );
        let find = |registry, repository| user(config.find(registry, repository).unwrap());
        assert_eq!(find("h:5000", "other"), "a:a");
        assert_eq!(find("h:5000", "ns/other"), "b:b");
        assert_eq!(find("h:5000", "ns/repo"), "identity c");
        assert_eq!(find("h:5000", "nsx/repo"), "a:a");
        assert_eq!(find("x.io", "r"), "nobody");
        assert_eq!(find("h", "r"), "nobody");
    }

    #[test]
    fn docker_hub_has_several_names() {
        for key in ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io"] {
            let config = config(&format!(r#"{{"auths":{{"{key}":{{"auth":"YTph"}}}}}}"#));
            assert_eq!(user(config.find("docker.io", "library/debian").unwrap()), "a:a", "{key}");
        }
        let config = config(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"YTph"},"docker.io/me":{"auth":"Yjpi"}}}"#,
        );
        assert_eq!(user(config.find("docker.io", "me/app").unwrap()), "b:b");
    }

    #[derive(Debug, Default)]
    struct Fake(AtomicUsize);

    impl HelperRunner for Fake {
        fn get(&self, helper: &str, server: &str) -> Result<HelperAnswer, Error> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(match (helper, server) {
                ("one", "a.io") => HelperAnswer::Found { username: "u".into(), secret: Secret::new("p") },
                ("all", "https://index.docker.io/v1/") => {
                    HelperAnswer::Found { username: "<token>".into(), secret: Secret::new("id") }
                }
                _ => HelperAnswer::NotFound,
            })
        }
    }

    #[test]
    fn helpers_are_asked_once() {
        let runner = Arc::new(Fake::default());
        let text = r#"{"auths":{"docker.io":{},"b.io":{"auth":"YTph"}},"credHelpers":{"a.io":"one"},"credsStore":"all"}"#;
        let config = DockerConfig::parse("c", text, runner.clone()).unwrap();
        for _ in 0..3 {
            assert_eq!(user(config.find("a.io", "x/y").unwrap()), "u:p");
            assert_eq!(user(config.find("docker.io", "library/y").unwrap()), "identity id");
            assert_eq!(user(config.find("b.io", "y").unwrap()), "a:a");
            assert_eq!(user(config.find("c.io", "y").unwrap()), "nobody");
        }
        assert_eq!(runner.0.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn errors_name_the_file_and_never_the_secret() {
        for text in
            [r#"{"auths":{"a":{"auth":"hunter2"}}}"#, r#"{"auths":{"a":{"auth":["hunter2"]}}}"#, "hunter2"]
        {
            let error = DockerConfig::parse("/c/config.json", text, Arc::new(NoHelpers)).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("/c/config.json") && !shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn an_empty_file_knows_nobody() {
        assert_eq!(config("").find("a", "b").unwrap(), None);
        assert_eq!(config("{}").find("a", "b").unwrap(), None);
        assert_eq!(config(r#"{"auths":{"a":null}}"#).find("a", "b").unwrap(), None);
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in ".*") {
            let _ = DockerConfig::parse("c", &text, Arc::new(NoHelpers));
        }
    }
}
