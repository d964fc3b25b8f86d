//! The tables of `builder.toml` as they are written. Nothing is checked here but types.

use serde::Deserialize;
use toml::Spanned;

/// A string and where it is written.
pub(super) type Text = Spanned<String>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Top {
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub buildpacks: Vec<Spanned<Module>>,
    #[serde(default)]
    pub extensions: Vec<Spanned<Module>>,
    #[serde(default)]
    pub order: Vec<Spanned<Group>>,
    #[serde(default)]
    pub order_extensions: Vec<Spanned<Group>>,
    pub stack: Option<Stack>,
    pub lifecycle: Option<Spanned<Lifecycle>>,
    pub run: Option<Run>,
    pub build: Option<Build>,
    #[serde(default)]
    pub targets: Vec<Spanned<Target>>,
    #[serde(default)]
    pub system: System,
}

/// What pack accepts wherever a module is named, though a builder takes it from the module itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Module {
    pub id: Option<Text>,
    pub version: Option<Text>,
    pub uri: Option<Text>,
    pub image: Option<Text>,
    #[serde(rename = "name")]
    pub _name: Option<String>,
    #[serde(rename = "description")]
    pub _description: Option<String>,
    #[serde(rename = "homepage")]
    pub _homepage: Option<String>,
    #[serde(rename = "keywords")]
    pub _keywords: Option<Vec<String>>,
    #[serde(rename = "clear-env")]
    pub _clear_env: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Group {
    #[serde(default)]
    pub group: Vec<Spanned<Reference>>,
}

/// A module in a group or among the system buildpacks.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Reference {
    pub id: Text,
    pub version: Option<Text>,
    #[serde(default)]
    pub optional: bool,
    #[serde(default)]
    pub exec_env: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Stack {
    pub id: Option<Text>,
    pub build_image: Option<Text>,
    pub run_image: Option<Text>,
    #[serde(default)]
    pub run_image_mirrors: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Lifecycle {
    pub uri: Option<Text>,
    pub version: Option<Text>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Run {
    #[serde(default)]
    pub images: Vec<RunImage>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RunImage {
    pub image: Text,
    #[serde(default)]
    pub mirrors: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Build {
    pub image: Option<Text>,
    #[serde(default)]
    pub env: Vec<Env>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Env {
    pub name: Text,
    pub value: Text,
    pub suffix: Option<Text>,
    pub delim: Option<Text>,
    pub exec_env: Option<Spanned<Vec<String>>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Target {
    pub os: Option<Text>,
    pub arch: Option<String>,
    pub variant: Option<String>,
    #[serde(default)]
    pub distros: Vec<Distro>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Distro {
    pub name: Option<String>,
    pub version: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct System {
    #[serde(default)]
    pub pre: SystemGroup,
    #[serde(default)]
    pub post: SystemGroup,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct SystemGroup {
    #[serde(default)]
    pub buildpacks: Vec<Spanned<Reference>>,
}
