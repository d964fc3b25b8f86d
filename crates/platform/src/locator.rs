//! What a text that names a buildpack means: `--buildpack`, the `uri` of a descriptor or of `builder.toml`.
//!
//! Deciding needs to know what is on the builder and which files exist; it fetches nothing (see
//! [`crate::module`]).

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use cnb::group::Kind;

/// Where a buildpack or extension is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locator {
    /// `from=builder`: the groups of the builder's own order.
    BuilderOrder,
    /// On the builder.
    OnBuilder(ModuleId),
    /// `from=default-builder:ID`: on the builder inside the program, whatever builder is used.
    OnDefaultBuilder(ModuleId),
    /// A folder, an archive of one, or a package file on this machine.
    Path(PathBuf),
    /// An archive or package file to download, `http://` or `https://`.
    Url(String),
    /// A package image, named as images are: `docker://…`, `oci:DIR`, a plain reference.
    Image(String),
}

/// An id and perhaps a version: `id[@version]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleId {
    /// The id.
    pub id: String,
    /// The version; none for the only one there is.
    pub version: Option<String>,
}

/// A text does not say where a buildpack is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind} `{}`: {reason}", without_user(text))]
pub struct LocatorError {
    /// What it was to name.
    pub kind: Kind,
    /// The text that was given.
    pub text: String,
    /// Why it cannot be used.
    pub reason: String,
    /// What to do instead, where there is something to say.
    pub help: Option<String>,
}

/// The text without a user and password before a host, which is not how images are named: `ID@VERSION` stays, and so do
/// digests.
fn without_user(text: &str) -> std::borrow::Cow<'_, str> {
    let is_id = ["from=", "urn:"].iter().any(|start| text.starts_with(start));
    match text.rsplit_once('@') {
        Some((user, host)) if user.contains(':') && !is_id && !host.starts_with("sha") => {
            format!("***@{host}").into()
        }
        _ => text.into(),
    }
}

/// The modules that a builder has.
pub trait OnBuilder {
    /// True when the builder has this id (at this version, if the id has one).
    fn has(&self, id: &ModuleId) -> bool;
}

/// No builder: nothing is on it.
impl OnBuilder for () {
    fn has(&self, _id: &ModuleId) -> bool {
        false
    }
}

impl OnBuilder for [ModuleId] {
    fn has(&self, wanted: &ModuleId) -> bool {
        self.iter()
            .any(|one| one.id == wanted.id && (wanted.version.is_none() || one.version == wanted.version))
    }
}

impl ModuleId {
    /// An id at a version.
    pub fn new(id: impl Into<String>, version: impl Into<String>) -> Self {
        Self { id: id.into(), version: Some(version.into()) }
    }
}

impl FromStr for ModuleId {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.rsplit_once('@') {
            Some((id, version)) => Self::new(id, version),
            None => Self { id: text.to_owned(), version: None },
        })
    }
}

impl fmt::Display for ModuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        self.version.iter().try_for_each(|version| write!(f, "@{version}"))
    }
}

impl Locator {
    /// Decides what `text` means. A relative path starts from `base`.
    ///
    /// In this order: `from=builder`; `from=builder:ID[@VERSION]` and `urn:cnb:builder:ID[@VERSION]`;
    /// `from=default-builder:ID[@VERSION]`; a URI; a path that exists; an `ID[@VERSION]` on the builder; an image.
    ///
    /// # Errors
    /// An id that is not on the builder, a file that is not there, a URI of an unknown scheme, a text that is
    /// nothing of all this; the buildpack registry.
    pub fn parse(text: &str, base: &Path, builder: &(impl OnBuilder + ?Sized)) -> Result<Self, LocatorError> {
        let error = |reason: &str| LocatorError {
            kind: Kind::Buildpack,
            text: text.to_owned(),
            reason: reason.to_owned(),
            help: None,
        };
        if matches!(text, "from=builder" | "urn:cnb:builder") {
            return Ok(Self::BuilderOrder);
        }
        if let Some(id) = strip_any(text, &["from=builder:", "urn:cnb:builder:"]) {
            let id = parse_id(id);
            return if builder.has(&id) {
                Ok(Self::OnBuilder(id))
            } else {
                Err(error(&format!("the builder has no `{id}`")))
            };
        }
        if let Some(id) = text.strip_prefix("from=default-builder:") {
            return Ok(Self::OnDefaultBuilder(parse_id(id)));
        }
        if let Some(id) = text.strip_prefix("urn:cnb:registry:") {
            return Err(no_registry(text, id));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return match scheme {
                "file" => file_uri(rest).map(Self::Path).ok_or_else(|| error("expected `file:///PATH`")),
                "http" | "https" => Ok(Self::Url(text.to_owned())),
                "docker" => Ok(Self::Image(text.to_owned())),
                other => Err(error(&format!("unknown scheme `{other}://`"))),
            };
        }
        if strip_any(text, &["oci:", "oci-archive:", "docker-archive:"]).is_some() {
            return Ok(Self::Image(text.to_owned()));
        }
        if text.is_empty() {
            return Err(error("it is empty"));
        }
        Self::parse_naked(text, base, builder)
    }

    fn parse_naked(
        text: &str,
        base: &Path,
        builder: &(impl OnBuilder + ?Sized),
    ) -> Result<Self, LocatorError> {
        let path = base.join(text);
        if path.exists() {
            return Ok(Self::Path(path));
        }
        let id = parse_id(text);
        if builder.has(&id) {
            return Ok(Self::OnBuilder(id));
        }
        let error = |reason: String| LocatorError {
            kind: Kind::Buildpack,
            text: text.to_owned(),
            reason,
            help: None,
        };
        if looks_like_path(text) {
            return Err(error(format!("there is no file or folder `{}`", path.display())));
        }
        match text.parse::<oci::Reference>() {
            Ok(_) => Ok(Self::Image(text.to_owned())),
            // What the registry would have been asked for: `namespace/name@1.2.3`.
            Err(_) if id.version.is_some() && id.id.split('/').count() == 2 => Err(no_registry(text, &id.id)),
            Err(invalid) => Err(error(format!(
                "it is neither a path, nor on the builder, nor an image ({})",
                invalid.reason
            ))),
        }
    }
}

fn parse_id(text: &str) -> ModuleId {
    match text.parse() {
        Ok(id) => id,
        Err(never) => match never {},
    }
}

fn strip_any<'a>(text: &'a str, prefixes: &[&str]) -> Option<&'a str> {
    prefixes.iter().find_map(|prefix| text.strip_prefix(prefix))
}

fn no_registry(text: &str, id: &str) -> LocatorError {
    let name = id.split('@').next().unwrap_or(id);
    LocatorError {
        kind: Kind::Buildpack,
        text: text.to_owned(),
        reason: "it is not on the builder, and the buildpack registry is not available".to_owned(),
        help: Some(format!("name the package image instead, such as `docker://docker.io/{name}:TAG`")),
    }
}

fn looks_like_path(text: &str) -> bool {
    let extension = Path::new(text).extension().and_then(|extension| extension.to_str());
    text.starts_with(['/', '.', '~']) || matches!(extension, Some("tgz" | "tar" | "gz" | "cnb" | "toml"))
}

/// The path of `file://[localhost]/…`, percent-decoded.
fn file_uri(rest: &str) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return None;
    }
    let bytes = path.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let hex = path.get(at + 1..at + 3).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))?;
            decoded.push(u8::from_str_radix(hex, 16).ok()?);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    Some(PathBuf::from(std::ffi::OsString::from_vec(decoded)))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        folder: tempfile::TempDir,
        builder: Vec<ModuleId>,
    }

    impl Case {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            for name in ["ns/on-disk", "bp"] {
                fs_err::create_dir_all(folder.path().join(name)).unwrap();
            }
            let builder = vec![ModuleId::new("ns/one", "1.0"), ModuleId::new("ns/on-disk", "2")];
            Self { folder, builder }
        }

        fn parse(&self, text: &str) -> Result<Locator, LocatorError> {
            Locator::parse(text, self.folder.path(), self.builder.as_slice())
        }

        fn error(&self, text: &str) -> String {
            self.parse(text).unwrap_err().to_string()
        }
    }

    #[test]
    fn errors_show_no_password() {
        let error = |text: &str| {
            let (kind, reason, help) = (Kind::Buildpack, "no".to_owned(), None);
            LocatorError { kind, text: text.to_owned(), reason, help }.to_string()
        };
        assert_eq!(error("me:hunter2@x.io/a"), "invalid buildpack `***@x.io/a`: no");
        for text in ["me/a@1.2.3", "from=builder:me/a@1", "urn:cnb:builder:me/a@1", "x.io/a:1@sha256:00"] {
            assert_eq!(error(text), format!("invalid buildpack `{text}`: no"));
        }
    }

    #[test]
    fn the_order_of_meanings() {
        let case = Case::new();
        let path = |name: &str| Ok(Locator::Path(case.folder.path().join(name)));
        let image = |name: &str| Ok(Locator::Image(name.to_owned()));
        let on = |text: &str| Ok(Locator::OnBuilder(parse_id(text)));
        assert_eq!(case.parse("from=builder"), Ok(Locator::BuilderOrder));
        assert_eq!(case.parse("from=builder:ns/one"), on("ns/one"));
        assert_eq!(case.parse("urn:cnb:builder:ns/one@1.0"), on("ns/one@1.0"));
        let inside = case.parse("from=default-builder:pannier/procfile");
        assert_eq!(inside, Ok(Locator::OnDefaultBuilder("pannier/procfile".parse().unwrap())));
        assert_eq!(case.parse("./bp"), path("./bp"));
        assert_eq!(case.parse("bp"), path("bp"));
        assert_eq!(case.parse("ns/on-disk"), path("ns/on-disk"));
        assert_eq!(case.parse("ns/one"), on("ns/one"));
        assert_eq!(case.parse("ns/one@1.0"), on("ns/one@1.0"));
        assert_eq!(case.parse("docker://ns/one"), image("docker://ns/one"));
        assert_eq!(case.parse("oci:some/dir"), image("oci:some/dir"));
        assert_eq!(case.parse("ns/other:1"), image("ns/other:1"));
        assert_eq!(case.parse("ns/other"), image("ns/other"));
        assert_eq!(case.parse("file:///a%20b"), Ok(Locator::Path("/a b".into())));
        assert_eq!(case.parse("https://x/y.tgz"), Ok(Locator::Url("https://x/y.tgz".into())));
    }

    #[test]
    fn errors_say_why() {
        let case = Case::new();
        assert_eq!(
            case.error("from=builder:ns/one@2"),
            "invalid buildpack `from=builder:ns/one@2`: the builder has no `ns/one@2`"
        );
        assert!(case.error("./missing").contains("there is no file or folder"));
        assert!(case.error("missing.tgz").contains("there is no file or folder"));
        assert!(case.error("ftp://x").contains("unknown scheme `ftp://`"));
        assert!(case.error("file://x").contains("expected `file:///PATH`"));
        assert!(case.error("file:///%zz").contains("expected `file:///PATH`"));
        assert!(case.error("").contains("it is empty"));
        assert!(case.error("No Such").contains("neither a path, nor on the builder, nor an image"));
        for text in ["urn:cnb:registry:ns/name@1.0.0", "ns/name@1.0.0"] {
            let error = case.parse(text).unwrap_err();
            assert!(error.reason.contains("the buildpack registry is not available"), "{error}");
            assert!(error.help.unwrap().contains("docker://docker.io/ns/name:TAG"));
        }
    }
}
