//! The tables of `project.toml` as they are written, per schema version. Nothing is checked here but types.

use serde::Deserialize;
use toml::Spanned;

/// A string and where it is written.
pub(super) type Text = Spanned<String>;
/// A list of strings, each with its place, and the place of the whole.
pub(super) type Texts = Spanned<Vec<Text>>;

/// Schema 0.1: `[project]` and `[build]`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct V01 {
    #[serde(default)]
    pub project: About,
    #[serde(default)]
    pub build: BuildV01,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct BuildV01 {
    pub include: Option<Texts>,
    pub exclude: Option<Texts>,
    #[serde(default)]
    pub buildpacks: Vec<Spanned<Entry>>,
    #[serde(default)]
    pub env: Vec<Env>,
    pub builder: Option<Text>,
}

/// Schemas 0.2 and 0.3: `[_]` and `[io.buildpacks]`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct V02 {
    #[serde(default, rename = "_")]
    pub about: About,
    #[serde(default)]
    pub io: Io,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Io {
    #[serde(default)]
    pub buildpacks: Buildpacks,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Buildpacks {
    pub include: Option<Texts>,
    pub exclude: Option<Texts>,
    pub builder: Option<Text>,
    #[serde(default)]
    pub group: Vec<Spanned<Entry>>,
    #[serde(default)]
    pub pre: Group,
    #[serde(default)]
    pub post: Group,
    #[serde(default)]
    pub build: BuildTable,
    /// `[[io.buildpacks.env.build]]`, an old spelling of `[[io.buildpacks.build.env]]` that schema 0.2 accepts.
    #[serde(default)]
    pub env: EnvTable,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Group {
    #[serde(default)]
    pub group: Vec<Spanned<Entry>>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct BuildTable {
    #[serde(default)]
    pub env: Vec<Env>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct EnvTable {
    #[serde(default)]
    pub build: Vec<Env>,
}

/// `[project]` or `[_]`: what is said about the project.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct About {
    /// Read beforehand to choose the schema; here so that it is a known key.
    #[serde(rename = "schema-version")]
    pub _schema_version: Option<String>,
    pub id: Option<String>,
    pub name: Option<String>,
    pub version: Option<String>,
    #[serde(default)]
    pub authors: Vec<String>,
    pub documentation_url: Option<String>,
    pub source_url: Option<String>,
    #[serde(default)]
    pub licenses: Vec<Spanned<License>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct License {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub uri: Option<String>,
}

/// One buildpack of a group.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Entry {
    pub id: Option<Text>,
    pub version: Option<Text>,
    pub uri: Option<Text>,
    pub script: Option<Spanned<Script>>,
    pub exec_env: Option<Texts>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Script {
    pub api: Option<Text>,
    pub inline: Option<Text>,
    pub shell: Option<Text>,
}

/// One environment variable of the build.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Env {
    pub name: Text,
    pub value: Text,
    pub exec_env: Option<Texts>,
}
