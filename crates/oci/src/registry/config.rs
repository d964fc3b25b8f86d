//! What a client is told: who we are, whom to trust, how to get there, how long to try.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use events::Events;

use crate::auth::{Anonymous, Credentials};
use crate::tls::TlsSettings;

/// Everything a [`Client`](super::Client) needs to know. The default talks to public registries as nobody.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Who we are.
    pub credentials: Arc<dyn Credentials>,
    /// Registries (`host[:port]`) or parts of them (`host/ns`) whose certificates are not checked, and that may
    /// be spoken to without TLS when nothing there speaks TLS.
    pub insecure_registries: Vec<String>,
    /// Read from these instead (`host[:port][/prefix]`), the first that answers; then from the registry itself.
    /// `*` stands for every registry that is not named.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Certificates.
    pub tls: TlsSettings,
    /// Proxies.
    pub proxy: ProxySettings,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// What is tried again.
    pub retry: RetryPolicy,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// Where names are looked up.
    pub names: NameService,
    /// Who is told that something is tried again.
    pub events: Listener,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            credentials: Arc::new(Anonymous),
            insecure_registries: Vec::new(),
            mirrors: BTreeMap::new(),
            tls: TlsSettings::default(),
            proxy: ProxySettings::default(),
            user_agent: concat!("pannier/", env!("CARGO_PKG_VERSION")).to_owned(),
            retry: RetryPolicy::default(),
            timeouts: Timeouts::default(),
            names: NameService::default(),
            events: Listener::default(),
        }
    }
}

/// Who hears what a client does by itself. The default is nobody.
#[derive(Clone)]
pub struct Listener(pub Arc<dyn Events>);

impl Default for Listener {
    fn default() -> Self {
        Self(Arc::new(events::Silent))
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

/// The values of `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` (or of their lower-case twins).
#[derive(Clone, Default)]
pub struct ProxySettings {
    /// For plain-HTTP registries.
    pub http: Option<String>,
    /// For registries that speak TLS.
    pub https: Option<String>,
    /// Hosts that are reached without a proxy. Loopback hosts always are.
    pub no_proxy: Option<String>,
}

impl fmt::Debug for ProxySettings {
    // A proxy's URL may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxySettings")
            .field("http", &self.http.as_ref().map(|_| "***"))
            .field("https", &self.https.as_ref().map(|_| "***"))
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

/// How often and how soon something is tried again: after 408, 429 and 5xx answers, and when a connection
/// cannot be made or breaks.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// Tries after the first.
    pub retries: u32,
    /// The wait before the second try; it doubles each time.
    pub base: Duration,
    /// The longest wait. When a registry asks (`Retry-After`) for a longer one, its answer counts as the last.
    pub longest: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { retries: 4, base: Duration::from_millis(250), longest: Duration::from_secs(60) }
    }
}

impl RetryPolicy {
    /// The wait before try number `attempt` (the second is 1), without regard to `Retry-After`.
    pub(super) fn delay(&self, attempt: u32) -> Duration {
        self.base.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(self.longest)
    }
}

/// How long to wait for things that normally take no time.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// Looking up a name, and making a connection with TLS: each.
    pub connect: Duration,
    /// Without a single byte, while an answer or a request is on its way: not the whole of it, which may be large.
    pub idle: Duration,
    /// A request with all its tries and waits, and the whole of an answer that is small by nature. Not the content of
    /// blobs and files: these may take as long as bytes move.
    pub whole: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            idle: Duration::from_secs(30),
            whole: Duration::from_secs(150),
        }
    }
}

impl Timeouts {
    /// How long a registry may be silent after it got a blob of this many bytes: it reads what it got once more before it
    /// answers.
    pub(super) fn after_upload(&self, size: u64) -> Duration {
        self.idle + Duration::from_secs(size / CHECKED_PER_SECOND)
    }
}

/// What the slowest registry checks in a second, in bytes.
const CHECKED_PER_SECOND: u64 = 16 << 20;

/// Files that tell whether host names can be looked up at all.
///
/// With musl, a machine without `resolv.conf` (a bare container) makes every lookup hang for five seconds; so
/// where `resolv_conf` is given and missing, only names in `hosts` are looked up. Addresses never are.
#[derive(Clone, Debug)]
pub struct NameService {
    /// `/etc/resolv.conf`; `None` means that lookups are always tried.
    pub resolv_conf: Option<PathBuf>,
    /// `/etc/hosts`.
    pub hosts: PathBuf,
}

impl Default for NameService {
    fn default() -> Self {
        Self {
            resolv_conf: cfg!(target_env = "musl").then(|| PathBuf::from("/etc/resolv.conf")),
            hosts: PathBuf::from("/etc/hosts"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_proxy_password() {
        let proxy = ProxySettings {
            https: Some("http://me:hunter2@proxy:3128".to_owned()),
            ..ProxySettings::default()
        };
        let config = ClientConfig { proxy, ..ClientConfig::default() };
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let retry = RetryPolicy { longest: Duration::from_secs(1), ..RetryPolicy::default() };
        let waits: Vec<u128> = (1..5).map(|attempt| retry.delay(attempt).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 1000]);
        assert_eq!(retry.delay(u32::MAX), Duration::from_secs(1));
    }
}
