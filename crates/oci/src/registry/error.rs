//! What can go wrong with a registry, and what to do about it. No text here ever holds a credential.

use std::io;
use std::time::Duration;

use layer::Digest;

use crate::auth;
use crate::tls::TlsError;

/// Something asked of a registry did not work out.
#[derive(Debug, thiserror::Error)]
#[error("{}", crate::auth::mask(&format!("cannot {action} {subject}: {kind}")))]
pub struct Error {
    /// What was attempted: `pull manifest`, `push blob`.
    pub action: &'static str,
    /// With what: a reference, or a digest and a repository.
    pub subject: String,
    /// Why it did not work.
    pub kind: Box<ErrorKind>,
}

impl Error {
    /// What the user can do, where something can be said.
    pub fn hint(&self) -> Option<String> {
        self.kind.hint()
    }

    /// True when the registry says there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(*self.kind, ErrorKind::NotFound { .. })
    }

    /// The error inside one that came out of a [`std::io::Read`] of this module.
    pub fn from_io(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::other(error)
    }
}

/// Why something asked of a registry did not work out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The name cannot be looked up.
    #[error("cannot find host `{host}` ({reason})")]
    HostNotFound {
        /// Its name.
        host: String,
        /// What the system said.
        reason: String,
    },
    /// There is no name service on this machine.
    #[error("cannot look up host `{host}`: this machine has no {file}")]
    NoNameService {
        /// The host's name.
        host: String,
        /// The file that would name a server.
        file: String,
    },
    /// Nobody listens there.
    #[error("{host} refused the connection")]
    Refused {
        /// `host[:port]`.
        host: String,
    },
    /// No answer in time.
    #[error("no answer from {host} for {} ({step})", seconds(*.after))]
    TimedOut {
        /// `host[:port]`.
        host: String,
        /// What was waited for.
        step: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// It was given up because something else of the same task failed.
    #[error("stopped because of another error")]
    Stopped,
    /// The certificate is signed by nobody we trust.
    #[error("the certificate of {host} is signed by an unknown authority")]
    UnknownAuthority {
        /// `host[:port]`.
        host: String,
    },
    /// The registry wants a client certificate, or another one.
    #[error("{host} does not accept our client certificate ({reason})")]
    ClientCertificate {
        /// `host[:port]`.
        host: String,
        /// What it said.
        reason: String,
    },
    /// TLS failed otherwise: a wrong name, an expired certificate, no TLS at all.
    #[error("no secure connection to {host}: {reason}")]
    Tls {
        /// `host[:port]`.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// The connection broke, or could not be made for another reason.
    #[error("connection to {host} failed: {reason}")]
    Connection {
        /// `host[:port]`.
        host: String,
        /// What the system said.
        reason: String,
    },
    /// The proxy did not let us through.
    #[error("the proxy {proxy} did not connect us to {host}: {reason}")]
    Proxy {
        /// The proxy's `host:port`.
        proxy: String,
        /// `host[:port]`.
        host: String,
        /// What it said.
        reason: String,
    },
    /// 401, after credentials were tried if there were any.
    #[error("{host} says unauthorized{}{message}", if *.had_credentials { " to the credentials it was shown" } else { "" })]
    Unauthorized {
        /// The registry or its token server.
        host: String,
        /// Its own words, after `: `, or nothing.
        message: String,
        /// True when credentials were found and sent.
        had_credentials: bool,
    },
    /// 403.
    #[error("{host} says denied{message}")]
    Denied {
        /// The registry or its token server.
        host: String,
        /// Its own words, after `: `, or nothing.
        message: String,
    },
    /// 404.
    #[error("not found{message}")]
    NotFound {
        /// The registry's own words, after `: `, or nothing.
        message: String,
    },
    /// 429, after all tries.
    #[error("{host} says too many requests{message}")]
    RateLimited {
        /// The registry.
        host: String,
        /// Its own words, after `: `, or nothing.
        message: String,
        /// When to come back, where it said.
        retry_after: Option<Duration>,
    },
    /// Another answer that is not a success.
    #[error("{host} answered {status}{message}")]
    Status {
        /// Who answered.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own words, after `: `, or nothing.
        message: String,
    },
    /// An answer that breaks the protocol.
    #[error("{host} answered nonsense: {reason}")]
    Answer {
        /// Who answered.
        host: String,
        /// What was expected.
        reason: String,
    },
    /// The bytes are not those that were asked for.
    #[error("content is {actual}, expected {expected}")]
    DigestMismatch {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// More or fewer bytes than the descriptor says.
    #[error("content has {actual} bytes, expected {expected}")]
    Size {
        /// What the descriptor says.
        expected: u64,
        /// What came, or more than what was read when it did not end.
        actual: u64,
    },
    /// What is to be pushed cannot be read.
    #[error("cannot read what is to be sent: {0}")]
    Source(#[source] io::Error),
    /// Credentials cannot be had.
    #[error(transparent)]
    Credentials(#[from] auth::Error),
    /// Certificates cannot be read.
    #[error(transparent)]
    Certificates(#[from] TlsError),
    /// A setting is not what it should be.
    #[error("invalid setting: {0}")]
    Setting(String),
}

impl ErrorKind {
    pub(super) fn during(self, action: &'static str, subject: impl ToString) -> Error {
        Error { action, subject: subject.to_string(), kind: Box::new(self) }
    }

    /// True when it may work a moment later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::TimedOut { .. } | Self::Connection { .. } => true,
            Self::RateLimited { .. } => true,
            Self::Status { status, .. } => is_passing_status(*status),
            _ => false,
        }
    }

    /// True when there was no way to a server, so that nothing is known of what it has.
    pub fn is_out_of_reach(&self) -> bool {
        matches!(
            self,
            Self::HostNotFound { .. }
                | Self::NoNameService { .. }
                | Self::Refused { .. }
                | Self::TimedOut { .. }
                | Self::Connection { .. }
        )
    }

    /// True when there was nothing but silence, or nobody: what rarely changes within seconds.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::TimedOut { .. })
    }

    /// True when nobody could be reached: another host may do.
    pub(super) fn is_unreachable(&self) -> bool {
        self.is_out_of_reach()
            || matches!(
                self,
                Self::UnknownAuthority { .. }
                    | Self::ClientCertificate { .. }
                    | Self::Tls { .. }
                    | Self::Proxy { .. }
            )
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::HostNotFound { host, .. } => {
                format!("check the spelling of `{host}`, and that this machine can look up names")
            }
            Self::NoNameService { file, .. } => {
                format!("give this machine {file} (mount it into the container), or use an address")
            }
            Self::Refused { host } => format!("check that a registry runs at {host}, and its port"),
            Self::TimedOut { .. } => {
                "check the network; behind a proxy, set HTTPS_PROXY and NO_PROXY".to_owned()
            }
            Self::UnknownAuthority { host } => format!(
                "give its CA with --registry-ca FILE, SSL_CERT_FILE or /etc/docker/certs.d/{host}/ca.crt; \
                 --insecure-registry {host} does without any check"
            ),
            Self::ClientCertificate { host, .. } => {
                format!("put client.cert and client.key into /etc/docker/certs.d/{host}/")
            }
            Self::Tls { host, .. } => format!(
                "check the registry's certificate; when it speaks no TLS, use --insecure-registry {host}"
            ),
            Self::Proxy { .. } => "check HTTPS_PROXY; NO_PROXY names hosts to reach without it".to_owned(),
            Self::Unauthorized { host, had_credentials: true, .. } => {
                format!("log in again (`docker login {host}` or `podman login {host}`)")
            }
            Self::Unauthorized { host, had_credentials: false, .. } => format!(
                "no credentials for {host} were found: log in (`docker login {host}`) or set \
                 CNB_REGISTRY_AUTH; the repository may also not exist"
            ),
            Self::Denied { .. } => {
                "the credentials were accepted but do not allow this: check the repository's name and rights"
                    .to_owned()
            }
            Self::RateLimited { retry_after: Some(wait), .. } => {
                format!("try again in {} s, or log in for a higher limit", wait.as_secs())
            }
            Self::RateLimited { .. } => "try again later, or log in for a higher limit".to_owned(),
            Self::Credentials(auth::Error::Helper { program, .. }) => {
                format!("check that `{program} list` works, or take the helper out of Docker's config.json")
            }
            Self::Status { status: 413, .. } => {
                "a server before the registry limits the size of uploads (nginx: client_max_body_size)"
                    .to_owned()
            }
            Self::DigestMismatch { .. } | Self::Size { .. } => {
                "the registry, or something between, changed the content: try again, then ask its owner"
                    .to_owned()
            }
            Self::Answer { host, .. } => format!(
                "check that {host} is a registry: a proxy, a login page or another server may answer in its place"
            ),
            Self::Status { status: 500.., .. } => "the registry has a problem: try again later".to_owned(),
            _ => return None,
        })
    }
}

/// `30 s`; what tests wait for in `ms`.
pub(super) fn seconds(time: Duration) -> String {
    match time.as_millis() {
        millis if millis < 1000 => format!("{millis} ms"),
        _ => format!("{} s", time.as_secs()),
    }
}

/// Statuses that pass: the same request may succeed a moment later.
pub(super) fn is_passing_status(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502..=504)
}
