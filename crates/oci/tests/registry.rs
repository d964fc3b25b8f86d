//! The registry client against a registry that can be told to fail, and against Debian's `docker-registry`.

#[path = "registry/auth.rs"]
mod auth;
#[path = "registry/faults.rs"]
mod faults;
#[path = "registry/hanging.rs"]
mod hanging;
#[path = "registry/lies.rs"]
mod lies;
#[path = "registry/reading.rs"]
mod reading;
#[path = "registry/real.rs"]
mod real;
#[path = "registry/writing.rs"]
mod writing;

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use pannier_oci as oci;

use oci::auth::{Credential, Credentials, Secret};
use oci::registry::{Client, ClientConfig, RetryPolicy};
use oci::{Descriptor, Digest, Reference, media_type};

/// Credentials for everything.
#[derive(Debug)]
struct Always(Credential);

impl Credentials for Always {
    fn find(&self, _: &str, _: &str) -> Result<Option<Credential>, oci::auth::Error> {
        Ok(Some(self.0.clone()))
    }
}

fn basic(username: &str, password: &str) -> Arc<dyn Credentials> {
    let password = Secret::new(password);
    Arc::new(Always(Credential::Basic { username: username.to_owned(), password }))
}

/// A configuration that waits only milliseconds before it tries again.
fn config() -> ClientConfig {
    let retry = RetryPolicy {
        base: Duration::from_millis(5),
        longest: Duration::from_secs(2),
        ..RetryPolicy::default()
    };
    ClientConfig { retry, ..ClientConfig::default() }
}

fn client() -> Client {
    Client::new(config())
}

fn reference(host: &str, rest: &str) -> Reference {
    format!("{host}/{rest}").parse().unwrap()
}

/// Bytes that are not all alike.
fn content(size: usize) -> Vec<u8> {
    (0..size as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type::OCI_LAYER, Digest::of(bytes), bytes.len() as u64)
}

/// Pushes a blob held in memory.
fn push(client: &Client, reference: &Reference, bytes: &[u8]) -> Result<(), oci::registry::Error> {
    let open =
        || -> std::io::Result<Box<dyn Read + Send>> { Ok(Box::new(std::io::Cursor::new(bytes.to_vec()))) };
    client.push_blob(reference, &descriptor(bytes), &open, &|_| {})
}

/// Pulls a blob whole.
fn pull(client: &Client, reference: &Reference, wanted: &Descriptor) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    client.blob(reference, wanted, 0).map_err(std::io::Error::other)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A manifest of one configuration and one layer.
fn manifest(config: &[u8], layer: &[u8]) -> Vec<u8> {
    let one = |media_type: &str, bytes: &[u8]| serde_json::json!({ "mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len() });
    let value = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": one(media_type::OCI_CONFIG, config),
        "layers": [one(media_type::OCI_LAYER, layer)],
    });
    value.to_string().into_bytes()
}
