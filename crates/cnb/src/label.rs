//! What is written into the labels of app images and into caches (platform.md, "Labels").

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toml::value::Table;

use crate::encode::{Fields, Node, to_json};
use crate::image::{RunImageMirrors, StackToml};
use crate::layer::{LayerMetadata, Store};
use crate::{ParseError, error, table};

/// The label with [`LayersMetadata`].
pub const LIFECYCLE_METADATA: &str = "io.buildpacks.lifecycle.metadata";
/// The label with [`BuildMetadata`](crate::metadata::BuildMetadata).
pub const BUILD_METADATA: &str = "io.buildpacks.build.metadata";
/// The label with [`ProjectMetadata`].
pub const PROJECT_METADATA: &str = "io.buildpacks.project.metadata";
/// The label with the execution environment of an app image (Platform API 0.15 and newer).
pub const EXEC_ENV: &str = "io.buildpacks.exec-env";
/// The label that says whether an app image may get another run image.
pub const REBASABLE: &str = "io.buildpacks.rebasable";
/// The label with the id of a base image's stack, before Platform API 0.12.
pub const STACK_ID: &str = "io.buildpacks.stack.id";
/// The label with the packages of a base image's stack, before Platform API 0.12.
pub const STACK_MIXINS: &str = "io.buildpacks.stack.mixins";
/// The label with the id of a base image's target.
pub const BASE_ID: &str = "io.buildpacks.base.id";
/// The label with the name of a base image's distribution.
pub const BASE_DISTRO_NAME: &str = "io.buildpacks.base.distro.name";
/// The label with the version of a base image's distribution.
pub const BASE_DISTRO_VERSION: &str = "io.buildpacks.base.distro.version";
/// The label of a cache image, with [`CacheMetadata`].
pub const CACHE_METADATA: &str = "io.buildpacks.lifecycle.cache.metadata";

/// A layer by its content.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct LayerSha {
    /// The diffID of the layer, `sha256:…`.
    pub sha: String,
}

impl LayerSha {
    /// The layer of this diffID.
    pub fn new(sha: impl Into<String>) -> Self {
        Self { sha: sha.into() }
    }
}

impl From<LayerSha> for Node {
    fn from(layer: LayerSha) -> Self {
        Fields::new().with("sha", layer.sha).into()
    }
}

/// The layers of one buildpack.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct BuildpackLayers {
    /// Its id.
    pub key: String,
    /// Its version.
    pub version: String,
    /// Its layers by name.
    #[serde(deserialize_with = "null_is_default")]
    pub layers: BTreeMap<String, LayerMetadata>,
    /// Its `store.toml`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<Store>,
}

impl From<BuildpackLayers> for Node {
    fn from(buildpack: BuildpackLayers) -> Self {
        let layers = buildpack
            .layers
            .into_iter()
            .fold(Fields::new(), |fields, (name, layer)| fields.with(&name, layer));
        Fields::new()
            .with("key", buildpack.key)
            .with("version", buildpack.version)
            .with("layers", layers)
            .maybe("store", buildpack.store)
            .into()
    }
}

/// The run image below an app image, for a rebase.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunImageForRebase {
    /// The diffID of its last layer.
    #[serde(alias = "top-layer")]
    pub top_layer: String,
    /// The image itself: a reference with a digest, or an image id.
    pub reference: String,
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Its other names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
}

impl RunImageForRebase {
    /// The same image as the `stack` key has it.
    pub fn to_stack(&self) -> StackToml {
        StackToml { run_image: RunImageMirrors { image: self.image.clone(), mirrors: self.mirrors.clone() } }
    }
}

impl From<RunImageForRebase> for Node {
    fn from(image: RunImageForRebase) -> Self {
        Fields::new()
            .with("top-layer", image.top_layer)
            .with("reference", image.reference)
            .text("image", &image.image)
            .list("mirrors", &image.mirrors)
            .into()
    }
}

/// The label `io.buildpacks.lifecycle.metadata`, and the table `[metadata]` of `analyzed.toml`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct LayersMetadata {
    /// The layers of the app, one for each slice.
    #[serde(deserialize_with = "null_is_default")]
    pub app: Vec<LayerSha>,
    /// The layer of the launch SBOM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sbom: Option<LayerSha>,
    /// The layers of each buildpack, in the order of the group.
    #[serde(deserialize_with = "null_is_default")]
    pub buildpacks: Vec<BuildpackLayers>,
    /// The layer of the launcher's configuration.
    pub config: LayerSha,
    /// The layer of the launcher.
    pub launcher: LayerSha,
    /// The layer of the process links.
    pub process_types: LayerSha,
    /// The run image.
    #[serde(rename = "runImage", alias = "run-image")]
    pub run_image: RunImageForRebase,
    /// The run image once more, for readers of old.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack: Option<StackToml>,
}

impl LayersMetadata {
    /// Reads the label; `label` is how errors name it.
    ///
    /// # Errors
    /// Text that is not JSON, or not of this shape. A missing part is no error.
    pub fn parse(label: &str, text: &str) -> Result<Self, ParseError> {
        error::from_json(label, text)
    }

    /// The label, as the reference writes it.
    pub fn to_json(&self) -> String {
        to_json(self)
    }

    /// The layers of one buildpack.
    pub fn buildpack(&self, id: &str) -> Option<&BuildpackLayers> {
        self.buildpacks.iter().find(|buildpack| buildpack.key == id)
    }
}

impl From<LayersMetadata> for Node {
    fn from(metadata: LayersMetadata) -> Self {
        Fields::new()
            .list("app", &metadata.app)
            .maybe("sbom", metadata.sbom)
            .list("buildpacks", &metadata.buildpacks)
            .with("config", metadata.config)
            .with("launcher", metadata.launcher)
            .with("process-types", metadata.process_types)
            .with("run-image", metadata.run_image)
            .maybe("stack", metadata.stack)
            .into()
    }
}

/// What a cache has: the file or label `io.buildpacks.lifecycle.cache.metadata`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct CacheMetadata {
    /// The layer of the cache SBOM; an empty `sha` when there is none.
    pub sbom: LayerSha,
    /// The cached layers of each buildpack.
    #[serde(deserialize_with = "null_is_default")]
    pub buildpacks: Vec<BuildpackLayers>,
}

impl CacheMetadata {
    /// Reads the file or label; `file` is how errors name it.
    ///
    /// # Errors
    /// Text that is not JSON, or not of this shape. A missing part is no error.
    pub fn parse(file: &str, text: &str) -> Result<Self, ParseError> {
        error::from_json(file, text)
    }

    /// The file or label, as the reference writes it.
    pub fn to_json(&self) -> String {
        to_json(self)
    }

    /// The layers of one buildpack.
    pub fn buildpack(&self, id: &str) -> Option<&BuildpackLayers> {
        self.buildpacks.iter().find(|buildpack| buildpack.key == id)
    }
}

/// Where the source of an app came from.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct ProjectSource {
    /// What kind of place, such as `git`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub r#type: String,
    /// Which version of it.
    #[serde(
        deserialize_with = "table::deserialize",
        serialize_with = "table::serialize",
        skip_serializing_if = "is_empty"
    )]
    pub version: Option<Table>,
    /// Anything else.
    #[serde(
        deserialize_with = "table::deserialize",
        serialize_with = "table::serialize",
        skip_serializing_if = "is_empty"
    )]
    pub metadata: Option<Table>,
}

impl From<ProjectSource> for Node {
    fn from(source: ProjectSource) -> Self {
        Fields::new()
            .with("type", source.r#type)
            .maybe("version", source.version.as_ref())
            .maybe("metadata", source.metadata.as_ref())
            .into()
    }
}

/// `project-metadata.toml`, and the label `io.buildpacks.project.metadata`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct ProjectMetadata {
    /// Where the source came from, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<ProjectSource>,
}

impl ProjectMetadata {
    /// Reads the text of `project-metadata.toml`.
    ///
    /// # Errors
    /// Text that is not TOML, or not of this shape.
    pub fn parse(file: &str, text: &str) -> Result<Self, ParseError> {
        error::from_toml(file, text)
    }

    /// The text of `project-metadata.toml`.
    pub fn to_toml(&self) -> String {
        Fields::new().maybe("source", self.source.clone()).to_toml()
    }

    /// The label, as the reference writes it.
    pub fn to_json(&self) -> String {
        to_json(self)
    }
}

fn is_empty(table: &Option<Table>) -> bool {
    table.as_ref().is_none_or(Table::is_empty)
}

/// For `deserialize_with`: the reference writes an empty list as null.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_lists_are_empty() {
        let text = r#"{"app":null,"buildpacks":[{"key":"a","version":"1","layers":null}],"other":1}"#;
        let metadata = LayersMetadata::parse("label", text).unwrap();
        assert!(metadata.app.is_empty() && metadata.buildpack("a").unwrap().layers.is_empty());
        assert!(metadata.buildpack("b").is_none());
    }

    #[test]
    fn what_is_no_json_is_shown_where_it_is() {
        let error = LayersMetadata::parse("label", "{\"app\":\n 3}").unwrap_err();
        assert_eq!(error.place.as_ref().map(|place| (place.line, place.column)), Some((2, 2)), "{error}");
        assert!(error.message.starts_with("invalid type: integer `3`"), "{error}");
    }

    #[test]
    fn cache_metadata_is_written_as_the_reference_writes_it() {
        let mut cache = CacheMetadata::default();
        let layer = LayerMetadata { sha: "sha256:1".into(), ..LayerMetadata::default() };
        cache.buildpacks.push(BuildpackLayers {
            key: "a".into(),
            version: "1".into(),
            layers: BTreeMap::from([("l".into(), layer)]),
            store: None,
        });
        let text = r#"{"sbom":{"sha":""},"buildpacks":[{"key":"a","version":"1","layers":{"l":{"sha":"sha256:1","data":null,"build":false,"launch":false,"cache":false}}}]}"#;
        assert_eq!(cache.to_json(), text);
        assert_eq!(CacheMetadata::parse("cache", text).unwrap(), cache);
    }

    #[test]
    fn project_metadata_is_a_file_and_a_label() {
        let text = "[source]\n  type = \"git\"\n  [source.version]\n    commit = \"abc\"\n";
        let project = ProjectMetadata::parse("project-metadata.toml", text).unwrap();
        assert_eq!(project.to_toml(), text);
        assert_eq!(project.to_json(), r#"{"source":{"type":"git","version":{"commit":"abc"}}}"#);
        assert_eq!(ProjectMetadata::default().to_json(), "{}");
        assert_eq!(ProjectMetadata::default().to_toml(), "");
    }
}
