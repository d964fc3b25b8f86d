//! `config.toml`: what a user always wants, so that it need not be said on every command line. Options win.
//!
//! Where the file is, the caller says. Only keys that do something are known; others are warnings, so that a file
//! made for a newer version still works.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use crate::document::{Document, DocumentError};
use crate::run_image::RunImage;

/// The user's configuration. The default is that of a user without one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `default-builder-image`: the builder where neither an option nor the descriptor names one.
    pub default_builder_image: Option<String>,
    /// `pull-policy`: `always`, `never` or `if-not-present`.
    pub pull_policy: Option<String>,
    /// `[[run-images]]`: other places that run images can be had from, asked before those the builder names.
    pub run_images: Vec<RunImage>,
    /// `[registry-mirrors]`: where to read instead of a registry; `*` for every registry that is not named.
    pub registry_mirrors: BTreeMap<String, Vec<String>>,
    /// `insecure-registries`: registries without TLS, or with a certificate that is not checked.
    pub insecure_registries: Vec<String>,
    /// `compression`: how new layers are compressed.
    pub compression: Option<layer::Compression>,
    /// What is odd and does no harm: complete lines.
    pub warnings: Vec<String>,
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is there and cannot be read.
    #[error("failed to read the configuration `{path}`: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What it says is wrong.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

impl Config {
    /// Reads the file; one that is not there is an empty one.
    ///
    /// # Errors
    /// A file that cannot be read, or as [`Config::parse`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        match Document::read(path) {
            Ok(document) => Ok(Self::parse(&document)?),
            Err(error) if error.is_not_found() => Ok(Self::default()),
            Err(error) => Err(ConfigError::Read { path: path.to_path_buf(), source: error.source }),
        }
    }

    /// Parses and checks a document.
    ///
    /// # Errors
    /// Not TOML, a value of a wrong type, a policy, compression, registry or image that is none; with the place.
    pub fn parse(document: &Document) -> Result<Self, DocumentError> {
        let (raw, unknown) = document.parse::<Raw>()?;
        let warning = |key: &crate::document::UnknownKey| {
            format!("{}: unknown key `{key}`", document.place(key.span.as_ref()))
        };
        let reader = Reader { document };
        Ok(Self {
            default_builder_image: raw
                .default_builder_image
                .map(|name| reader.image_name(name))
                .transpose()?,
            pull_policy: raw.pull_policy.map(|policy| reader.pull_policy(policy)).transpose()?,
            run_images: raw
                .run_images
                .into_iter()
                .map(|run| reader.run_image(run))
                .collect::<Result<_, _>>()?,
            registry_mirrors: reader.mirrors(raw.registry_mirrors)?,
            insecure_registries: raw.insecure_registries.into_iter().map(Spanned::into_inner).collect(),
            compression: raw.compression.map(|text| reader.compression(text)).transpose()?,
            warnings: unknown.iter().map(warning).collect(),
        })
    }
}

type Text = Spanned<String>;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Raw {
    default_builder_image: Option<Text>,
    pull_policy: Option<Text>,
    #[serde(default)]
    run_images: Vec<RawRunImage>,
    #[serde(default)]
    registry_mirrors: BTreeMap<String, Spanned<toml::Value>>,
    #[serde(default)]
    insecure_registries: Vec<Text>,
    compression: Option<Text>,
}

#[derive(Deserialize)]
struct RawRunImage {
    image: Text,
    #[serde(default)]
    mirrors: Vec<Text>,
}

/// Checks values of one document.
struct Reader<'a> {
    document: &'a Document,
}

impl Reader<'_> {
    fn image_name(&self, text: Text) -> Result<String, DocumentError> {
        match text.get_ref().parse::<oci::ImageName>() {
            Ok(_) => Ok(text.into_inner()),
            Err(error) => Err(self.document.error(text.span(), error.to_string())),
        }
    }

    fn pull_policy(&self, text: Text) -> Result<String, DocumentError> {
        if matches!(text.get_ref().as_str(), "always" | "never" | "if-not-present") {
            return Ok(text.into_inner());
        }
        let message = format!("invalid pull policy `{}`", text.get_ref());
        Err(self
            .document
            .error(text.span(), message)
            .with_help("expected `always`, `never` or `if-not-present`"))
    }

    fn run_image(&self, run: RawRunImage) -> Result<RunImage, DocumentError> {
        let mirrors = run.mirrors.into_iter().map(|mirror| self.image_name(mirror));
        Ok(RunImage { mirrors: mirrors.collect::<Result<_, _>>()?, image: self.image_name(run.image)? })
    }

    /// One mirror for each registry, as pack has it, or several, of which the first that answers counts.
    fn mirrors(
        &self,
        mirrors: BTreeMap<String, Spanned<toml::Value>>,
    ) -> Result<BTreeMap<String, Vec<String>>, DocumentError> {
        let mut checked = BTreeMap::new();
        for (registry, value) in mirrors {
            let span = value.span();
            let texts = match value.into_inner() {
                toml::Value::Array(values) => values,
                one => vec![one],
            };
            let mut hosts = Vec::new();
            for text in texts {
                let wrong = |message: String| {
                    let help = "expected `host[:port][/prefix]` without `https://`, or a list of them";
                    self.document.error(span.clone(), message).with_help(help)
                };
                match text {
                    toml::Value::String(host) if is_mirror(&host) => hosts.push(host),
                    toml::Value::String(host) => {
                        return Err(wrong(format!("invalid mirror `{host}` of `{registry}`")));
                    }
                    _ => return Err(wrong(format!("the mirror of `{registry}` is not a text"))),
                }
            }
            checked.insert(registry, hosts);
        }
        Ok(checked)
    }

    fn compression(&self, text: Text) -> Result<layer::Compression, DocumentError> {
        text.get_ref()
            .parse()
            .map_err(|error: layer::InvalidCompression| self.document.error(text.span(), error.to_string()))
    }
}

fn is_mirror(text: &str) -> bool {
    !text.is_empty() && !text.contains("://") && !text.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, DocumentError> {
        Config::parse(&Document::new("config.toml", text))
    }

    #[test]
    fn all_keys() {
        let config = parse(
            r#"
            default-builder-image = "example/builder:1"
            pull-policy = "always"
            insecure-registries = ["registry.lan:5000"]
            compression = "zstd:5"
            [[run-images]]
            image = "example/run"
            mirrors = ["registry.lan/run"]
            [registry-mirrors]
            "docker.io" = "mirror.lan"
            "*" = ["one.lan/cache", "two.lan:5000"]
            "#,
        )
        .unwrap();
        let expected = Config {
            default_builder_image: Some("example/builder:1".into()),
            pull_policy: Some("always".into()),
            run_images: vec![RunImage {
                image: "example/run".into(),
                mirrors: vec!["registry.lan/run".into()],
            }],
            registry_mirrors: BTreeMap::from([
                ("docker.io".into(), vec!["mirror.lan".into()]),
                ("*".into(), vec!["one.lan/cache".into(), "two.lan:5000".into()]),
            ]),
            insecure_registries: vec!["registry.lan:5000".into()],
            compression: Some(layer::Compression::Zstd(5)),
            warnings: Vec::new(),
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn unknown_keys_warn() {
        let config = parse("experimental = true\n[[run-images]]\nimage = \"a\"\nmirror = \"b\"\n").unwrap();
        assert_eq!(
            config.warnings,
            [
                "config.toml:1:1: unknown key `experimental`",
                "config.toml:4:1: unknown key `run-images.mirror`"
            ]
        );
    }

    #[test]
    fn errors_have_a_place() {
        for (text, expected) in [
            ("pull-policy = \"daily\"", "1:15: invalid pull policy `daily`"),
            ("compression = \"lzma\"", "1:15: invalid compression `lzma`"),
            ("default-builder-image = \"UPPER\"", "1:25: invalid image reference `UPPER`"),
            ("[registry-mirrors]\nx = \"https://y\"", "2:5: invalid mirror `https://y` of `x`"),
            ("[registry-mirrors]\nx = 3", "2:5: the mirror of `x` is not a text"),
            ("[[run-images]]\nimage = \"a\"\nmirrors = [\"b\", \"C\"]", "3:17: invalid image reference `C`"),
            ("x", "1:2: "),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(
                error.starts_with(&format!("config.toml:{expected}")),
                "got {error}, expected {expected}"
            );
        }
    }

    #[test]
    fn a_missing_file_is_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Config::load(&folder.path().join("config.toml")).unwrap(), Config::default());
        let error = Config::load(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("failed to read the configuration"), "{error}");
    }
}
