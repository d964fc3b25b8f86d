//! Labels of builders and buildpackages, as `pack` writes and reads them, and `lifecycle.toml`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::descriptor::{License, ModuleDescriptor, ModuleInfo, Stack};
use crate::encode::to_json;
use crate::group::OrderGroup;
use crate::label::null_is_default;
use crate::target::Target;
use crate::{ApiVersion, ParseError, error};

/// The label of a builder with [`BuilderMetadata`].
pub const BUILDER_METADATA: &str = "io.buildpacks.builder.metadata";
/// The label of a buildpackage with [`BuildpackageMetadata`].
pub const BUILDPACKAGE_METADATA: &str = "io.buildpacks.buildpackage.metadata";
/// The label with the [`ModuleLayers`] of buildpacks.
pub const BUILDPACK_LAYERS: &str = "io.buildpacks.buildpack.layers";
/// The label with the [`ModuleLayers`] of extensions.
pub const EXTENSION_LAYERS: &str = "io.buildpacks.extension.layers";
/// The label of a builder with its groups of buildpacks.
pub const BUILDPACK_ORDER: &str = "io.buildpacks.buildpack.order";
/// The label of a builder with its groups of extensions.
pub const EXTENSION_ORDER: &str = "io.buildpacks.buildpack.order-extensions";
/// The label of a builder with its [`System`](crate::group::System) buildpacks.
pub const SYSTEM: &str = "io.buildpacks.buildpack.system";

/// Reads one of the labels of this module.
///
/// # Errors
/// Text that is not JSON, or not of the shape of `T`.
pub fn parse_label<T: for<'de> Deserialize<'de>>(label: &str, text: &str) -> Result<T, ParseError> {
    error::from_json(label, text)
}

/// Writes one of the labels of this module, as the reference does.
pub fn label_text(value: &impl Serialize) -> String {
    to_json(value)
}

/// A module as a label lists it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ModuleEntry {
    /// Its id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Its name for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// What it does.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Where to read about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub homepage: String,
    /// Words to find it by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keywords: Vec<String>,
    /// Execution environments that it is for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exec_env: Vec<String>,
    /// Its licences.
    #[serde(skip_serializing_if = "Vec::is_empty", with = "licenses")]
    pub licenses: Vec<License>,
    /// True when it does not want the user's variables.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub clear_env: bool,
}

/// Licences have no names for their fields in the reference's JSON, so they are written with upper case.
mod licenses {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::License;

    #[derive(Deserialize, Serialize)]
    struct Upper {
        #[serde(rename = "Type", alias = "type", default)]
        r#type: String,
        #[serde(rename = "URI", alias = "uri", default)]
        uri: String,
    }

    pub(super) fn serialize<S: Serializer>(list: &[License], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(
            list.iter().map(|entry| Upper { r#type: entry.r#type.clone(), uri: entry.uri.clone() }),
        )
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<License>, D::Error> {
        let list: Vec<Upper> = crate::label::null_is_default(deserializer)?;
        Ok(list.into_iter().map(|entry| License { r#type: entry.r#type, uri: entry.uri }).collect())
    }
}

impl From<&ModuleInfo> for ModuleEntry {
    fn from(info: &ModuleInfo) -> Self {
        Self {
            id: info.id.clone(),
            name: info.name.clone(),
            version: info.version.clone(),
            description: info.description.clone(),
            homepage: info.homepage.clone(),
            keywords: info.keywords.clone(),
            exec_env: info.exec_env.clone(),
            licenses: info.licenses.clone(),
            clear_env: info.clear_env,
        }
    }
}

/// A run image and other places where it is, with nothing left out.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct BuilderRunImage {
    /// Its name.
    pub image: String,
    /// Its other names.
    pub mirrors: Option<Vec<String>>,
}

/// The stack of a builder: its run image.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BuilderStack {
    /// The run image.
    pub run_image: BuilderRunImage,
}

/// API versions that a lifecycle speaks.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct ApiVersions {
    /// Those that it will not speak for long.
    #[serde(deserialize_with = "null_is_default")]
    pub deprecated: Vec<ApiVersion>,
    /// All that it speaks.
    #[serde(deserialize_with = "null_is_default")]
    pub supported: Vec<ApiVersion>,
}

/// The API versions of both kinds.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct LifecycleApis {
    /// Of the Buildpack API.
    pub buildpack: ApiVersions,
    /// Of the Platform API.
    pub platform: ApiVersions,
}

/// One API version of each kind, as it was before there were lists.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct LifecycleApi {
    /// Of the Buildpack API.
    pub buildpack: Option<ApiVersion>,
    /// Of the Platform API.
    pub platform: Option<ApiVersion>,
}

/// The lifecycle of a builder.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct LifecycleMetadata {
    /// Its version.
    pub version: Option<String>,
    /// The oldest API versions that it speaks.
    pub api: LifecycleApi,
    /// All API versions that it speaks.
    pub apis: LifecycleApis,
}

impl LifecycleMetadata {
    /// Reads `lifecycle.toml`, which every lifecycle archive has.
    ///
    /// # Errors
    /// Text that is not TOML, or not of this shape.
    pub fn parse(file: &str, text: &str) -> Result<Self, ParseError> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Info {
            version: Option<String>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct File {
            lifecycle: Info,
            api: LifecycleApi,
            apis: LifecycleApis,
        }
        let File { lifecycle, mut api, apis } = error::from_toml(file, text)?;
        let oldest =
            |versions: &ApiVersions| versions.deprecated.iter().chain(&versions.supported).min().copied();
        api.buildpack = oldest(&apis.buildpack).or(api.buildpack);
        api.platform = oldest(&apis.platform).or(api.platform);
        Ok(Self { version: lifecycle.version, api, apis })
    }
}

/// What made a builder.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct CreatedBy {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The label `io.buildpacks.builder.metadata`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BuilderMetadata {
    /// What it is for.
    pub description: String,
    /// Its buildpacks.
    pub buildpacks: Option<Vec<ModuleEntry>>,
    /// Its extensions.
    pub extensions: Option<Vec<ModuleEntry>>,
    /// Its run image, before Platform API 0.12.
    pub stack: BuilderStack,
    /// Its lifecycle.
    pub lifecycle: LifecycleMetadata,
    /// What made it.
    pub created_by: CreatedBy,
    /// Its run images.
    #[serde(rename = "images")]
    pub run_images: Option<Vec<BuilderRunImage>>,
}

/// A module and the layer that has it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct ModuleLayer {
    /// The Buildpack API that it was written for.
    pub api: ApiVersion,
    /// What it ran on before targets.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub stacks: Vec<Stack>,
    /// What it runs on.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub targets: Vec<Target>,
    /// The groups of a composite buildpack.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub order: Vec<OrderGroup>,
    /// The diffID of the layer.
    #[serde(rename = "layerDiffID")]
    pub layer_diff_id: String,
    /// Where to read about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub homepage: String,
    /// Its name for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

impl ModuleLayer {
    /// The entry of a module that is in the layer of this diffID.
    pub fn new(descriptor: &ModuleDescriptor, layer_diff_id: impl Into<String>) -> Self {
        Self {
            api: descriptor.api,
            stacks: descriptor.stacks.clone(),
            targets: descriptor.declared_targets.clone(),
            order: descriptor.order.clone(),
            layer_diff_id: layer_diff_id.into(),
            homepage: descriptor.info.homepage.clone(),
            name: descriptor.info.name.clone(),
        }
    }
}

/// The labels `io.buildpacks.buildpack.layers` and `io.buildpacks.extension.layers`: by id, then by version.
pub type ModuleLayers = BTreeMap<String, BTreeMap<String, ModuleLayer>>;

/// The label `io.buildpacks.buildpackage.metadata`: which buildpack a package is of.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct BuildpackageMetadata {
    /// Its main module.
    #[serde(flatten)]
    pub module: ModuleEntry,
    /// What it ran on before targets.
    pub stacks: Option<Vec<Stack>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{Kind, OrderEntry};

    /// Such a label as `pack builder create` writes it.
    const METADATA: &str = r#"{"description":"d","buildpacks":[{"id":"a","name":"A","version":"1","homepage":"h","licenses":[{"Type":"MIT","URI":""}]}],"extensions":null,"stack":{"runImage":{"image":"","mirrors":null}},"lifecycle":{"version":"0.21.17","api":{"buildpack":"0.7","platform":"0.7"},"apis":{"buildpack":{"deprecated":[],"supported":["0.7","0.12"]},"platform":{"deprecated":[],"supported":["0.7","0.15"]}}},"createdBy":{"name":"Pack CLI","version":"0.40.6"},"images":[{"image":"run","mirrors":null}]}"#;

    #[test]
    fn builder_metadata_is_written_as_it_was_read() {
        let metadata: BuilderMetadata = parse_label(BUILDER_METADATA, METADATA).unwrap();
        assert_eq!(metadata.buildpacks.as_ref().unwrap()[0].licenses[0].r#type, "MIT");
        assert_eq!(label_text(&metadata), METADATA);
    }

    #[test]
    fn lifecycle_toml_becomes_part_of_it() {
        let text = r#"
            [apis]
            [apis.buildpack]
            deprecated = []
            supported = ["0.9", "0.10"]
            [apis.platform]
            deprecated = ["0.7"]
            supported = ["0.8"]
            [lifecycle]
            version = "1.2.3"
        "#;
        let lifecycle = LifecycleMetadata::parse("lifecycle.toml", text).unwrap();
        assert_eq!(lifecycle.version.as_deref(), Some("1.2.3"));
        assert_eq!(lifecycle.api.buildpack, Some(ApiVersion::new(0, 9)));
        assert_eq!(lifecycle.api.platform, Some(ApiVersion::new(0, 7)));
    }

    #[test]
    fn layers_of_modules_are_written_as_they_were_read() {
        let text = r#"{"a":{"1":{"api":"0.10","targets":[{"os":"linux","arch":"arm","variant":"v7","distros":[{"name":"ubuntu","version":"24.04"}]}],"layerDiffID":"sha256:1","homepage":"h","name":"A"}},"c":{"2":{"api":"0.9","stacks":[{"id":"*"}],"order":[{"group":[{"id":"a","version":"1","optional":true}]}],"layerDiffID":"sha256:2"}}}"#;
        let layers: ModuleLayers = parse_label(BUILDPACK_LAYERS, text).unwrap();
        assert_eq!(label_text(&layers), text);
        let toml =
            "api='0.10'\n[buildpack]\nid='c'\nversion='2'\n[[order]]\n[[order.group]]\nid='a'\nversion='1'\n";
        let descriptor = ModuleDescriptor::parse(Kind::Buildpack, "buildpack.toml", toml).unwrap();
        assert_eq!(
            label_text(&ModuleLayer::new(&descriptor, "sha256:3")),
            r#"{"api":"0.10","order":[{"group":[{"id":"a","version":"1"}]}],"layerDiffID":"sha256:3"}"#
        );
    }

    #[test]
    fn orders_are_labels_too() {
        let text = r#"[{"group":[{"id":"a","version":"1"},{"id":"b","optional":true}]}]"#;
        let order: Vec<OrderGroup> = parse_label(BUILDPACK_ORDER, text).unwrap();
        assert_eq!(order[0].group[1], OrderEntry { id: "b".into(), optional: true, ..OrderEntry::default() });
        assert_eq!(label_text(&order), text);
        let none: Option<Vec<OrderGroup>> = parse_label(EXTENSION_ORDER, "null").unwrap();
        assert_eq!(none, None);
    }

    #[test]
    fn a_buildpackage_names_its_buildpack() {
        let text = r#"{"id":"a","version":"1","stacks":[{"id":"*"}]}"#;
        let package: BuildpackageMetadata = parse_label(BUILDPACKAGE_METADATA, text).unwrap();
        assert_eq!(label_text(&package), text);
    }
}
