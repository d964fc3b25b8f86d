//! Buildpacks and extensions by name: orders and groups (platform.md, `order.toml`, `system.toml`, `group.toml`).

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::encode::{Fields, Node};
use crate::{ApiVersion, ParseError, error};

/// What a module is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A buildpack.
    #[default]
    Buildpack,
    /// An image extension.
    Extension,
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Buildpack => "buildpack",
            Self::Extension => "extension",
        })
    }
}

/// The name of one buildpack or extension. Displays as `id@version`.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ModuleId {
    /// Buildpack or extension: the two have separate names.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
}

impl ModuleId {
    /// A buildpack.
    pub fn buildpack(id: impl Into<String>, version: impl Into<String>) -> Self {
        Self { kind: Kind::Buildpack, id: id.into(), version: version.into() }
    }

    /// An extension.
    pub fn extension(id: impl Into<String>, version: impl Into<String>) -> Self {
        Self { kind: Kind::Extension, id: id.into(), version: version.into() }
    }
}

impl fmt::Display for ModuleId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}@{}", self.id, self.version)
    }
}

/// An entry of an order: a buildpack (component or composite) or an extension.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct OrderEntry {
    /// Its id.
    pub id: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// True when the group can do without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// Execution environments in which the entry counts; none or `*` for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exec_env: Vec<String>,
}

impl OrderEntry {
    /// Its name as a module of this kind.
    pub fn module(&self, kind: Kind) -> ModuleId {
        ModuleId { kind, id: self.id.clone(), version: self.version.clone() }
    }
}

impl From<OrderEntry> for Node {
    fn from(entry: OrderEntry) -> Self {
        Fields::new()
            .with("id", entry.id)
            .text("version", &entry.version)
            .list("exec-env", &entry.exec_env)
            .flag("optional", entry.optional)
            .into()
    }
}

/// One of the alternatives of an order.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct OrderGroup {
    /// Its entries, in the order in which they build.
    #[serde(default)]
    pub group: Vec<OrderEntry>,
}

impl From<OrderGroup> for Node {
    fn from(group: OrderGroup) -> Self {
        Fields::new().with("group", group.group).into()
    }
}

/// `order.toml`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", default)]
pub struct Order {
    /// Groups of buildpacks, tried one after the other.
    pub order: Vec<OrderGroup>,
    /// Groups of extensions, put in front of each of them.
    pub order_extensions: Vec<OrderGroup>,
}

impl Order {
    /// Reads the text of `order.toml`.
    ///
    /// # Errors
    /// Text that is not TOML, or not of this shape.
    pub fn parse(file: &str, text: &str) -> Result<Self, ParseError> {
        error::from_toml(file, text)
    }

    /// The text of `order.toml`.
    pub fn to_toml(&self) -> String {
        Fields::new().list("order", &self.order).list("order-extensions", &self.order_extensions).to_toml()
    }

    /// The order with the system buildpacks at both ends of each group, but for those whose id the group has already
    /// (platform.md, "detector"; Platform API 0.15 and newer).
    #[must_use]
    pub fn with_system(mut self, system: &System) -> Self {
        for OrderGroup { group } in &mut self.order {
            let present: HashSet<&str> = group.iter().map(|entry| entry.id.as_str()).collect();
            let missing = |entries: &[OrderEntry]| -> Vec<OrderEntry> {
                entries.iter().filter(|entry| !present.contains(entry.id.as_str())).cloned().collect()
            };
            let (pre, post) = (missing(&system.pre.buildpacks), missing(&system.post.buildpacks));
            group.splice(0..0, pre);
            group.extend(post);
        }
        self
    }
}

/// Buildpacks for one end of each group.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct SystemBuildpacks {
    /// In the order in which they build.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub buildpacks: Vec<OrderEntry>,
}

impl From<SystemBuildpacks> for Node {
    fn from(end: SystemBuildpacks) -> Self {
        Fields::new().list("buildpacks", &end.buildpacks).into()
    }
}

/// The `[system]` table of `system.toml`. Also the label `io.buildpacks.buildpack.system` of a builder.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct System {
    /// What comes before each group.
    pub pre: SystemBuildpacks,
    /// What comes after each group.
    pub post: SystemBuildpacks,
}

impl System {
    /// Reads the text of `system.toml`.
    ///
    /// # Errors
    /// Text that is not TOML, or not of this shape.
    pub fn parse(file: &str, text: &str) -> Result<Self, ParseError> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct File {
            system: System,
        }
        error::from_toml::<File>(file, text).map(|file| file.system)
    }

    /// The text of `system.toml`.
    pub fn to_toml(&self) -> String {
        let ends = Fields::new()
            .maybe("pre", (!self.pre.buildpacks.is_empty()).then(|| self.pre.clone()))
            .maybe("post", (!self.post.buildpacks.is_empty()).then(|| self.post.clone()));
        Fields::new().with("system", ends).to_toml()
    }

    /// True when it names no buildpack.
    pub fn is_empty(&self) -> bool {
        self.pre.buildpacks.is_empty() && self.post.buildpacks.is_empty()
    }
}

/// A buildpack or extension that takes part in a build.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct GroupElement {
    /// Its id.
    pub id: String,
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// The Buildpack API that it was written for. Not in labels.
    #[serde(default, skip_serializing)]
    pub api: Option<ApiVersion>,
    /// Where to read about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub homepage: String,
    /// True for an extension where a list can have both. Not in labels.
    #[serde(default, skip_serializing)]
    pub extension: bool,
    /// As in the order. Not written for a group that was detected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

impl GroupElement {
    /// Its name as a module of this kind.
    pub fn module(&self, kind: Kind) -> ModuleId {
        ModuleId { kind, id: self.id.clone(), version: self.version.clone() }
    }
}

impl From<GroupElement> for Node {
    fn from(element: GroupElement) -> Self {
        Fields::new()
            .with("id", element.id)
            .with("version", element.version)
            .maybe("api", element.api.map(|api| api.to_string()))
            .text("homepage", &element.homepage)
            .flag("extension", element.extension)
            .flag("optional", element.optional)
            .into()
    }
}

/// `group.toml`: what the detector chose.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", default)]
pub struct Group {
    /// The buildpacks, in the order in which they build.
    pub group: Vec<GroupElement>,
    /// The extensions, in the order in which they generate.
    pub group_extensions: Vec<GroupElement>,
}

impl Group {
    /// Reads the text of `group.toml`.
    ///
    /// # Errors
    /// Text that is not TOML, or not of this shape.
    pub fn parse(file: &str, text: &str) -> Result<Self, ParseError> {
        error::from_toml(file, text)
    }

    /// The text of `group.toml`.
    pub fn to_toml(&self) -> String {
        Fields::new().list("group", &self.group).list("group-extensions", &self.group_extensions).to_toml()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = r#"[[order]]

  [[order.group]]
    id = "a"
    version = "1"

  [[order.group]]
    id = "b"
    version = "2"
    optional = true

[[order-extensions]]

  [[order-extensions.group]]
    id = "e"
    version = "1"
"#;

    #[test]
    fn an_order_is_read_and_written() {
        let order = Order::parse("order.toml", ORDER).unwrap();
        assert_eq!(order.order[0].group[1].module(Kind::Buildpack), ModuleId::buildpack("b", "2"));
        assert!(order.order[0].group[1].optional);
        assert_eq!(order.to_toml(), ORDER);
    }

    #[test]
    fn an_order_without_ids_is_an_error_with_its_place() {
        let error = Order::parse("order.toml", "[[order]]\n[[order.group]]\nversion = \"1\"\n").unwrap_err();
        assert_eq!(error.to_string(), "order.toml:2:1: missing field `id`");
    }

    #[test]
    fn system_buildpacks_go_to_both_ends_unless_they_are_there() {
        let system = System::parse(
            "system.toml",
            r#"
            [[system.pre.buildpacks]]
            id = "pre"
            version = "1"
            optional = true
            [[system.pre.buildpacks]]
            id = "b"
            version = "9"
            [[system.post.buildpacks]]
            id = "post"
            version = "1"
            "#,
        )
        .unwrap();
        let order = Order::parse("order.toml", ORDER).unwrap().with_system(&system);
        let names: Vec<_> =
            order.order[0].group.iter().map(|entry| entry.module(Kind::Buildpack).to_string()).collect();
        assert_eq!(names, ["pre@1", "a@1", "b@2", "post@1"]);
        assert!(order.order[0].group[0].optional);
        assert_eq!(System::parse("system.toml", &system.to_toml()).unwrap(), system);
    }

    #[test]
    fn a_group_is_read_and_written() {
        let text = r#"[[group]]
  id = "a"
  version = "1"
  api = "0.10"
  homepage = "https://a"

[[group-extensions]]
  id = "e"
  version = "1"
  api = "0.9"
"#;
        let group = Group::parse("group.toml", text).unwrap();
        assert_eq!(group.group[0].api, Some(ApiVersion::new(0, 10)));
        assert_eq!(group.to_toml(), text);
    }

    #[test]
    fn a_label_has_neither_api_nor_kind() {
        let element = GroupElement {
            id: "a".into(),
            version: "1".into(),
            api: Some(ApiVersion::new(0, 10)),
            extension: true,
            ..GroupElement::default()
        };
        assert_eq!(crate::encode::to_json(&element), r#"{"id":"a","version":"1"}"#);
    }
}
