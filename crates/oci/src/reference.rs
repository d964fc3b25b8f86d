//! Image references: `[registry/]repository[:tag][@digest]`, with Docker's rules for what may be left out.
//!
//! Not here: transports such as `oci:DIR`.

use std::fmt;
use std::str::FromStr;

use layer::Digest;

/// The registry that a name without one means.
pub const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";

/// Names an image in a registry, and in the local store too. Always complete: the registry is filled in, and
/// where neither tag nor digest was given, the tag is `latest`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text is not an image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid image reference `{}`: {reason}", without_secrets(text))]
pub struct InvalidReference {
    /// The text that was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The text without what a URL would have before its host and after its path: a name has neither, and a password or a
/// signature is not shown.
fn without_secrets(text: &str) -> String {
    let (text, query) = text.split_once('?').map_or((text, ""), |(text, _)| (text, "?***"));
    match text.rsplit_once('@') {
        Some((_, host)) if !host.starts_with("sha") => format!("***@{host}{query}"),
        _ => format!("{text}{query}"),
    }
}

impl Reference {
    /// The registry's host, with its port where one was given: `docker.io`, `127.0.0.1:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry: `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if the reference has one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the reference has one. It wins over the tag.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// `registry/repository`: the name without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// What a registry is asked for: the digest, else the tag.
    pub fn tag_or_digest(&self) -> String {
        match (self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }

    /// The same repository at this digest, without a tag.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The same repository and tag, without a digest.
    pub fn without_digest(&self) -> Self {
        Self { digest: None, ..self.clone() }
    }

    /// The same repository at this tag, without a digest. The tag is not checked.
    pub fn with_tag(&self, tag: &str) -> Self {
        Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() }
    }

    /// As people write it: without `docker.io/` and `library/`, with the tag. What would name another image without them
    /// (`docker.io/a.b/c`, `docker.io/library/a/b`) keeps them.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let short = full.strip_prefix("docker.io/").unwrap_or(&full);
        let shortest = short.strip_prefix("library/").unwrap_or(short);
        let same = |text: &&str| text.parse().as_ref() == Ok(self);
        [shortest, short].into_iter().find(same).unwrap_or(&full).to_owned()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let invalid = |reason: &str| InvalidReference { text: text.to_owned(), reason: reason.to_owned() };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let rule = "the digest must be `sha256:` and 64 lower-case hex digits";
                (rest, Some(digest.parse::<Digest>().map_err(|_| invalid(rule))?))
            }
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid("the tag must be at most 128 letters, digits, `_`, `.` and `-`"));
        }
        let (registry, repository) = match name.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" || has_upper(host) => {
                (host, path.to_owned())
            }
            Some(_) => (DEFAULT_REGISTRY, name.to_owned()),
            None => (DEFAULT_REGISTRY, format!("library/{name}")),
        };
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
        if name.is_empty() || !repository.split('/').all(is_component) {
            return Err(invalid(if has_upper(&repository) {
                "the repository must be lower case"
            } else {
                "expected `[registry/]repository[:tag][@digest]`"
            }));
        }
        if !is_host(registry) {
            return Err(invalid("the registry is not a host name with an optional port"));
        }
        let tag = match (tag, digest) {
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

fn has_upper(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= 128
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
}

/// One path component: runs of lower-case letters and digits, joined by `.`, `_`, `__` or dashes.
fn is_component(part: &str) -> bool {
    let alnum = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    part.starts_with(alnum)
        && part.ends_with(alnum)
        && part.split(alnum).all(|sep| matches!(sep, "" | "." | "_" | "__") || sep.bytes().all(|b| b == b'-'))
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    // A number may have a sign elsewhere.
    let port_ok = port.is_none_or(|port| !port.starts_with('+') && port.parse::<u16>().is_ok());
    let v6 = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    let name_ok = match v6 {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
        }
    };
    port_ok && name_ok
}

impl serde::Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <String as serde::Deserialize>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(text: &str) -> String {
        text.parse::<Reference>().map(|r| r.to_string()).unwrap_or_else(|e| e.to_string())
    }

    #[test]
    fn fills_in_what_was_left_out() {
        assert_eq!(full("debian"), "docker.io/library/debian:latest");
        assert_eq!(full("me/app:v1"), "docker.io/me/app:v1");
        assert_eq!(full("127.0.0.1:5000/a/b__c.d-e"), "127.0.0.1:5000/a/b__c.d-e:latest");
        assert_eq!(full("localhost/app"), "localhost/app:latest");
        assert_eq!(full("[::1]:5000/app:x"), "[::1]:5000/app:x");
        assert_eq!(full("index.docker.io/library/debian"), "docker.io/library/debian:latest");
        let digest = Digest::of(b"");
        assert_eq!(full(&format!("a.b/c@{digest}")), format!("a.b/c@{digest}"));
        assert_eq!(full(&format!("a.b/c:t@{digest}")), format!("a.b/c:t@{digest}"));
    }

    #[test]
    fn errors_show_no_password() {
        for text in [
            "me:hunter2@x.io/a",
            "http://me:hunter2@x.io/a",
            "x.io/a?sig=hunter2",
            "http://me:hun/hunter2@x.io",
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn refuses_what_is_not_one() {
        for text in [
            "",
            ":",
            "a:",
            "A",
            "me/App",
            "a//b",
            "-a",
            "a/..",
            "a b",
            "x.y/",
            "h:99999/a",
            "h:+80/a",
            "a@sha256:00",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }

    #[test]
    fn familiar_form() {
        assert_eq!("debian".parse::<Reference>().unwrap().familiar(), "debian:latest");
        assert_eq!("x.io/a/b:1".parse::<Reference>().unwrap().familiar(), "x.io/a/b:1");
        assert_eq!("docker.io/me/app".parse::<Reference>().unwrap().familiar(), "me/app:latest");
    }

    #[test]
    fn the_familiar_form_names_the_same_image() {
        for name in
            ["docker.io/library/a/b", "docker.io/a.io/b", "docker.io/localhost/b", "docker.io/library/a.io/b"]
        {
            let reference: Reference = name.parse().unwrap();
            assert_eq!(reference.familiar().parse(), Ok(reference.clone()), "{name}");
            assert_eq!(reference.name(), name);
        }
        let reference: Reference = "docker.io/library/a/b".parse().unwrap();
        assert_eq!(reference.familiar(), "library/a/b:latest");
    }
}
