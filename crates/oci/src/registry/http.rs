//! One HTTP exchange and its failures: URLs, bodies, statuses, and the HTTP library's errors in our words.

use std::io::{self, Read};
use std::time::Duration;

use serde::Deserialize;
use ureq::Timeout;
use ureq::http::{HeaderMap, Uri, header};

use super::config::Timeouts;
use super::error::ErrorKind;
use super::names::LookupError;

/// What a request carries.
pub(super) enum Payload<'a> {
    /// Nothing.
    None,
    /// These bytes; can be sent again.
    Bytes(&'a [u8]),
    /// What the reader gives, of this size where it is known; can be sent once.
    Stream(&'a mut dyn Read, Option<u64>),
}

/// Scheme, host and port: what decides whether two URLs are the same server.
pub(super) fn origin(uri: &Uri) -> (String, String, u16) {
    let scheme = uri.scheme_str().unwrap_or("https").to_ascii_lowercase();
    let port = uri.port_u16().unwrap_or(if scheme == "http" { 80 } else { 443 });
    (scheme, uri.host().unwrap_or_default().to_ascii_lowercase(), port)
}

/// `host[:port]` of a URL, without a user.
pub(super) fn host_port(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    uri.port_u16().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The URL that `location` means in an answer to a request for `base`.
///
/// A registry behind a proxy that ends TLS often names itself with `http`: then the connection stays secure.
pub(super) fn join(base: &Uri, location: &str) -> Option<Uri> {
    let (scheme, _, port) = origin(base);
    let authority = host_port(base);
    let text = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.contains("://") {
        location.to_owned()
    } else {
        let path = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{path}/{location}")
    };
    let text = text.split('#').next().unwrap_or_default();
    let uri: Uri = text.parse().ok()?;
    // A signature, or the state of an upload: whoever has it can do what we can.
    crate::auth::note_url(&uri);
    uri.host().filter(|host| !host.is_empty())?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return None;
    }
    let same_host = uri.host().map(str::to_ascii_lowercase) == base.host().map(str::to_ascii_lowercase);
    let downgrade = scheme == "https" && uri.scheme_str() == Some("http");
    if downgrade && same_host && uri.port_u16().is_none_or(|p| p == port) {
        let rest = uri.path_and_query().map_or("/", |rest| rest.as_str());
        return format!("https://{authority}{rest}").parse().ok();
    }
    Some(uri)
}

/// The `Location` of an answer to a request for `base`.
pub(super) fn location(base: &Uri, headers: &HeaderMap) -> Option<Uri> {
    join(base, headers.get(header::LOCATION)?.to_str().ok()?)
}

/// The wait that the answer asks for. Only seconds are understood: no registry is known to send a date.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// An answer that is not a success, as an error: what of its body was read, and when to come back if it says so.
/// `authorization` is the header that was sent: should the server repeat it, it is not shown.
pub(super) fn failure(
    host: String,
    status: u16,
    body: &[u8],
    wait: Option<Duration>,
    authorization: Option<&str>,
    had_credentials: bool,
) -> ErrorKind {
    let message = without_secrets(message(body), authorization);
    match status {
        401 => ErrorKind::Unauthorized { host, message, had_credentials },
        403 => ErrorKind::Denied { host, message },
        404 => ErrorKind::NotFound { message },
        429 => ErrorKind::RateLimited { host, message, retry_after: wait },
        status => ErrorKind::Status { host, status, message },
    }
}

/// The words in a registry's (or token server's) error answer, after `: `; nothing when there are none.
fn message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: Option<String>,
        #[serde(default)]
        message: Option<String>,
    }
    #[derive(Deserialize)]
    struct Details {
        #[serde(alias = "error_description", alias = "message", alias = "error")]
        details: String,
    }
    let words = if let Ok(parsed) = serde_json::from_slice::<Errors>(body) {
        let words = parsed.errors.into_iter().map(|one| {
            let parts = [one.message.filter(|m| !m.is_empty()), one.code.filter(|c| !c.is_empty())];
            parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
        });
        words.filter(|w| !w.is_empty()).collect::<Vec<_>>().join("; ")
    } else if let Ok(parsed) = serde_json::from_slice::<Details>(body) {
        parsed.details
    } else {
        // A page of HTML helps nobody; a line of text may.
        let text = String::from_utf8_lossy(body);
        if text.trim_start().starts_with(['<', '{']) { String::new() } else { text.into_owned() }
    };
    // Before it is cut: half of a secret is too much.
    let words = crate::auth::mask(&words);
    let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    if words.trim().is_empty() { String::new() } else { format!(": {}", words.trim()) }
}

fn without_secrets(message: String, authorization: Option<&str>) -> String {
    let Some((_, value)) = authorization.and_then(|header| header.split_once(' ')) else { return message };
    let mut message = message.replace(value, "***");
    if let Some((_, password)) = crate::auth::decode_basic(value)
        && !password.expose().is_empty()
    {
        message = message.replace(password.expose(), "***");
    }
    message
}

/// The HTTP library's error in our words. `host` is whom we wanted to reach, `proxy` through whom, `timeouts` what it
/// was told.
pub(super) fn classify(
    host: &str,
    proxy: Option<&str>,
    error: ureq::Error,
    timeouts: &Timeouts,
) -> ErrorKind {
    let host = host.to_owned();
    match error {
        ureq::Error::Io(error) => classify_io(host, error, timeouts),
        ureq::Error::Rustls(error) => classify_tls(host, &error),
        ureq::Error::Tls(reason) => ErrorKind::Tls { host, reason: reason.to_owned() },
        ureq::Error::Timeout(timeout) => {
            let (step, after) = match timeout {
                Timeout::Resolve => ("looking up its name", timeouts.connect),
                Timeout::Connect => ("connecting", timeouts.connect),
                Timeout::PerWrite | Timeout::SendBody | Timeout::SendRequest => ("sending", timeouts.idle),
                Timeout::RecvResponse => ("waiting", timeouts.idle * 2),
                _ => ("waiting", timeouts.idle),
            };
            ErrorKind::TimedOut { host, step, after }
        }
        ureq::Error::HostNotFound => ErrorKind::HostNotFound { host, reason: "no address".to_owned() },
        ureq::Error::ConnectProxyFailed(reason) => {
            ErrorKind::Proxy { proxy: proxy.unwrap_or("?").to_owned(), host, reason }
        }
        ureq::Error::Other(other) => match other.downcast_ref::<LookupError>() {
            Some(LookupError::NoService { file }) => ErrorKind::NoNameService { host, file: file.clone() },
            Some(LookupError::Failed { reason }) => {
                ErrorKind::HostNotFound { host: proxy.map_or(host, str::to_owned), reason: reason.clone() }
            }
            None => ErrorKind::Connection { host, reason: other.to_string() },
        },
        // These name URLs, which may hold signatures.
        ureq::Error::BadUri(_) | ureq::Error::RequireHttpsOnly(_) => {
            ErrorKind::Answer { host, reason: "expected a usable URL".to_owned() }
        }
        ureq::Error::LargeResponseHeader(_, limit) => {
            let reason = format!("headers of more than {limit} bytes");
            ErrorKind::Answer { host, reason }
        }
        ureq::Error::Protocol(error) => ErrorKind::Connection { host, reason: format!("not HTTP: {error}") },
        other => ErrorKind::Connection { host, reason: other.to_string() },
    }
}

fn classify_io(host: String, error: io::Error, timeouts: &Timeouts) -> ErrorKind {
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return classify_tls(host, tls);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ErrorKind::Refused { host },
        io::ErrorKind::TimedOut => ErrorKind::TimedOut { host, step: "connecting", after: timeouts.connect },
        io::ErrorKind::UnexpectedEof => ErrorKind::Connection { host, reason: CLOSED.to_owned() },
        _ => ErrorKind::Connection { host, reason: error.to_string() },
    }
}

fn classify_tls(host: String, error: &rustls::Error) -> ErrorKind {
    use rustls::{AlertDescription as Alert, CertificateError, Error, InvalidMessage};
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => ErrorKind::UnknownAuthority { host },
        Error::InvalidCertificate(reason) => ErrorKind::Tls { host, reason: reason.to_string() },
        Error::AlertReceived(
            alert @ (Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnknownCA
            | Alert::CertificateUnknown
            | Alert::CertificateExpired
            | Alert::HandshakeFailure),
        ) => ErrorKind::ClientCertificate { host, reason: format!("{alert:?}") },
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            ErrorKind::Tls { host, reason: NOT_TLS.to_owned() }
        }
        other => ErrorKind::Tls { host, reason: other.to_string() },
    }
}

/// How an answer ends that is shorter than it should be.
pub(super) const CLOSED: &str = "closed by the other side";
const NOT_TLS: &str = "it does not speak TLS";

/// True when the failure means that the other side does not speak TLS, rather than that it is not to be trusted.
pub(super) fn may_speak_plainly(error: &ErrorKind) -> bool {
    match error {
        ErrorKind::Tls { reason, .. } => reason == NOT_TLS,
        ErrorKind::Refused { .. } | ErrorKind::TimedOut { .. } | ErrorKind::Connection { .. } => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        let base = Uri::from_static("https://r.io:5000/v2/a/blobs/uploads/");
        let joined = |location: &str| join(&base, location).map(|uri| uri.to_string());
        for (location, expected) in [
            ("/v2/a/x?s=1", Some("https://r.io:5000/v2/a/x?s=1")),
            ("x?s=1#f", Some("https://r.io:5000/v2/a/blobs/uploads/x?s=1")),
            ("//cdn.io/x", Some("https://cdn.io/x")),
            ("https://cdn.io/x", Some("https://cdn.io/x")),
            ("http://r.io:5000/x", Some("https://r.io:5000/x")),
            ("http://r.io/x", Some("https://r.io:5000/x")),
            ("http://r.io:80/x", Some("http://r.io:80/x")),
            ("http://cdn.io/x", Some("http://cdn.io/x")),
            ("ftp://cdn.io/x", None),
            ("https:///x", None),
        ] {
            assert_eq!(joined(location).as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn messages_of_registries() {
        let docker = br#"{"errors":[{"code":"DENIED","message":"requested access is denied","detail":[]}]}"#;
        assert_eq!(message(docker), ": requested access is denied, DENIED");
        assert_eq!(
            message(br#"{"details":"incorrect username or password"}"#),
            ": incorrect username or password"
        );
        assert_eq!(message(br#"{"errors":[]}"#), "");
        assert_eq!(message(b"<html>no</html>"), "");
        assert_eq!(message(b"try\r\nlater\n"), ": try  later");
        assert!(message("x".repeat(9999).as_bytes()).len() < 400);
    }

    #[test]
    fn what_was_sent_is_not_shown() {
        let shown = without_secrets(
            ": got Basic bWU6aHVudGVyMg== (hunter2)".to_owned(),
            Some("Basic bWU6aHVudGVyMg=="),
        );
        assert_eq!(shown, ": got Basic *** (***)");
    }
}
