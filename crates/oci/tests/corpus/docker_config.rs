//! Docker's `config.json`, and `CNB_REGISTRY_AUTH`: read, asked, and never quoted in an error.

use std::sync::Arc;

use pannier_oci::auth::{Credential, Credentials, DockerConfig, Error, NoHelpers, RegistryAuth};
use serde_json::Value;

/// What is secret in every input here.
const SECRET: &str = "hunter2";

/// What comes of reading `input` as either, and asking for some registries.
pub fn outcome(input: &[u8]) -> String {
    let text = String::from_utf8_lossy(input);
    let config = DockerConfig::parse("config.json", &text, Arc::new(NoHelpers));
    let auth = RegistryAuth::parse(&text);
    format!("config.json: {}; CNB_REGISTRY_AUTH: {}", summary(config, &text), summary(auth, &text))
}

fn summary<C: Credentials>(parsed: Result<C, Error>, text: &str) -> String {
    let credentials = match parsed {
        Ok(credentials) => credentials,
        Err(error) => {
            // Keys are names of registries, and are told.
            let told = format!("{error} {error:?}");
            let json = serde_json::from_str(text).unwrap_or(Value::Null);
            assert!(!told.contains(SECRET) || is_in_a_key(&json), "{told}");
            return "not one".to_owned();
        }
    };
    let asked =
        ["docker.io", "a.io", "a.io:5000"].map(|registry| match credentials.find(registry, "b/c").unwrap() {
            Some(Credential::Basic { .. }) => "basic",
            Some(Credential::Bearer(_)) => "bearer",
            Some(Credential::Identity(_)) => "identity",
            None => "nobody",
        });
    asked.join(" ")
}

fn is_in_a_key(json: &Value) -> bool {
    match json {
        Value::Object(members) => members.iter().any(|(key, it)| key.contains(SECRET) || is_in_a_key(it)),
        Value::Array(items) => items.iter().any(is_in_a_key),
        _ => false,
    }
}
