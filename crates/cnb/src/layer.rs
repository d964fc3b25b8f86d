//! What a buildpack says of its layers and wants to remember: `<layer>.toml` and `store.toml` (buildpack.md, "Layer
//! Content Metadata", `store.toml`).

use serde::de::Deserializer;
use serde::ser::{SerializeStruct, Serializer};
use serde::{Deserialize, Serialize};
use toml::value::Table;

use crate::encode::{Fields, Node};
use crate::{ParseError, error, table};

/// What a layer is for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct LayerTypes {
    /// Later buildpacks have it in their environment.
    pub build: bool,
    /// It is in the app image.
    pub launch: bool,
    /// It is kept for the next build.
    pub cache: bool,
}

impl LayerTypes {
    /// True when it is for nothing: then it is ignored.
    pub fn is_ignored(self) -> bool {
        !(self.build || self.launch || self.cache)
    }
}

/// Whether a layer with this metadata is for an execution environment: what it names as `exec-env` has it, or `*`, or
/// there is no such list (Buildpack API 0.12).
pub fn matches_exec_env(metadata: Option<&Table>, exec_env: &str) -> bool {
    let list = metadata.and_then(|table| table.get("exec-env")).and_then(toml::Value::as_array);
    let names: Vec<_> =
        list.into_iter().flatten().filter_map(toml::Value::as_str).map(str::to_owned).collect();
    crate::launch::matches_exec_env(&names, exec_env)
}

/// `<layer>.toml`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct LayerToml {
    /// What the layer is for.
    pub types: LayerTypes,
    /// What the buildpack wants to know of it in the next build.
    #[serde(deserialize_with = "table::deserialize")]
    pub metadata: Option<Table>,
}

impl LayerToml {
    /// Reads the text of `<layer>.toml`.
    ///
    /// # Errors
    /// Text that is not TOML or not of this shape; types outside of `[types]`, where they were before Buildpack API
    /// 0.6.
    pub fn parse(file: &str, text: &str) -> Result<Self, ParseError> {
        #[derive(Deserialize)]
        struct Misplaced {
            build: Option<toml::Spanned<toml::Value>>,
            launch: Option<toml::Spanned<toml::Value>>,
            cache: Option<toml::Spanned<toml::Value>>,
        }
        let misplaced: Misplaced = error::from_toml(file, text)?;
        if let Some(value) = misplaced.build.or(misplaced.launch).or(misplaced.cache) {
            let message = "the flags launch, cache and build have to be in the table [types]";
            return Err(ParseError::at(file, message, text, value.span()));
        }
        error::from_toml(file, text)
    }

    /// The text of a restored `<layer>.toml`: the metadata alone, since the buildpack has to say again what the layer
    /// is for.
    pub fn restored_toml(metadata: Option<&Table>) -> String {
        Fields::new().maybe("metadata", metadata).to_toml()
    }
}

/// `store.toml`. In a label, the same as JSON.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Store {
    /// What the buildpack wants to remember.
    pub metadata: Option<Table>,
}

impl Store {
    /// Reads the text of `store.toml`.
    ///
    /// # Errors
    /// Text that is not TOML, or not of this shape.
    pub fn parse(file: &str, text: &str) -> Result<Self, ParseError> {
        error::from_toml(file, text)
    }

    /// The text of `store.toml`.
    pub fn to_toml(&self) -> String {
        self.fields().to_toml()
    }

    fn fields(&self) -> Fields {
        Fields::new().maybe("metadata", self.metadata.as_ref())
    }
}

impl From<Store> for Node {
    fn from(store: Store) -> Self {
        store.fields().into()
    }
}

impl Serialize for Store {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let lossy = self.metadata.as_ref().and_then(table::toml_if_lossy);
        let mut out = serializer.serialize_struct("Store", 1 + usize::from(lossy.is_some()))?;
        out.serialize_field("metadata", &self.metadata.as_ref().map(table::Json))?;
        if let Some(text) = lossy {
            out.serialize_field("metadata-toml", &text)?;
        }
        out.end()
    }
}

impl<'de> Deserialize<'de> for Store {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "kebab-case", default)]
        struct Raw {
            #[serde(deserialize_with = "table::deserialize")]
            metadata: Option<Table>,
            metadata_toml: Option<String>,
        }
        let raw = Raw::deserialize(deserializer)?;
        Ok(Self { metadata: table::restore(raw.metadata, raw.metadata_toml)? })
    }
}

/// A layer as labels, cache metadata and `analyzed.toml` know it.
///
/// Written as `{"sha","data","build","launch","cache"}`. Metadata that JSON can not say (dates, infinities) is there
/// once more as TOML in `data-toml`, which other programs ignore.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerMetadata {
    /// The diffID of the layer, `sha256:…`; empty where there is none.
    pub sha: String,
    /// The metadata of `<layer>.toml`.
    pub data: Option<Table>,
    /// What the layer is for.
    pub types: LayerTypes,
}

impl Serialize for LayerMetadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let lossy = self.data.as_ref().and_then(table::toml_if_lossy);
        let mut out = serializer.serialize_struct("LayerMetadata", 5 + usize::from(lossy.is_some()))?;
        out.serialize_field("sha", &self.sha)?;
        out.serialize_field("data", &self.data.as_ref().map(table::Json))?;
        out.serialize_field("build", &self.types.build)?;
        out.serialize_field("launch", &self.types.launch)?;
        out.serialize_field("cache", &self.types.cache)?;
        if let Some(text) = lossy {
            out.serialize_field("data-toml", &text)?;
        }
        out.end()
    }
}

impl<'de> Deserialize<'de> for LayerMetadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "kebab-case", default)]
        struct Raw {
            sha: String,
            #[serde(alias = "metadata", deserialize_with = "table::deserialize")]
            data: Option<Table>,
            data_toml: Option<String>,
            build: bool,
            launch: bool,
            cache: bool,
        }
        let raw = Raw::deserialize(deserializer)?;
        Ok(Self {
            data: table::restore(raw.data, raw.data_toml)?,
            sha: raw.sha,
            types: LayerTypes { build: raw.build, launch: raw.launch, cache: raw.cache },
        })
    }
}

impl From<LayerMetadata> for Node {
    fn from(layer: LayerMetadata) -> Self {
        Fields::new()
            .with("sha", layer.sha)
            .maybe("metadata", layer.data.as_ref())
            .with("build", layer.types.build)
            .with("launch", layer.types.launch)
            .with("cache", layer.types.cache)
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::to_json;

    const LAYER: &str = r#"
        [types]
        launch = true
        cache = true
        [metadata]
        count = 3
        half = 3.0
        [metadata.inner]
        list = ["<a>", 1]
    "#;

    #[test]
    fn types_have_their_table() {
        let layer = LayerToml::parse("l.toml", LAYER).unwrap();
        assert_eq!(layer.types, LayerTypes { build: false, launch: true, cache: true });
        assert!(LayerToml::parse("l.toml", "").unwrap().types.is_ignored());
        let error = LayerToml::parse("l.toml", "[metadata]\na = 1\n").unwrap();
        assert!(error.types.is_ignored());
        let error = LayerToml::parse("l.toml", "cache = true\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "l.toml:1:9: the flags launch, cache and build have to be in the table [types]"
        );
        assert!(LayerToml::parse("l.toml", "metadata = 3\n").is_err());
    }

    fn through_label(text: &str) -> (String, Option<Table>) {
        let layer = LayerToml::parse("l.toml", text).unwrap();
        let label = to_json(&LayerMetadata { sha: "s".into(), data: layer.metadata, types: layer.types });
        let back: LayerMetadata = serde_json::from_str(&label).unwrap();
        assert_eq!(back.types, layer.types);
        (label, back.data)
    }

    #[test]
    fn numbers_survive_a_label() {
        let (label, back) = through_label(LAYER);
        assert_eq!(
            label,
            r#"{"sha":"s","data":{"count":3,"half":3.0,"inner":{"list":["\u003ca\u003e",1]}},"build":false,"launch":true,"cache":true}"#
        );
        assert_eq!(
            LayerToml::restored_toml(back.as_ref()),
            "[metadata]\n  count = 3\n  half = 3.0\n  [metadata.inner]\n    list = [\"<a>\", 1]\n"
        );
    }

    #[test]
    fn dates_and_infinities_survive_a_label() {
        let text = "[metadata]\ndate = 1979-05-27T07:32:00Z\ninfinite = [inf]\n";
        let (label, back) = through_label(text);
        assert!(label.contains(r#""data":{"date":"1979-05-27T07:32:00Z","infinite":[null]}"#), "{label}");
        assert_eq!(back, LayerToml::parse("l.toml", text).unwrap().metadata);
    }

    #[test]
    fn no_metadata_is_null() {
        let (label, back) = through_label("");
        assert_eq!(label, r#"{"sha":"s","data":null,"build":false,"launch":false,"cache":false}"#);
        assert_eq!(back, None);
        assert_eq!(LayerToml::restored_toml(None), "");
    }

    #[test]
    fn nulls_of_other_programs_are_left_out() {
        let layer: LayerMetadata =
            serde_json::from_str(r#"{"sha":"","data":{"a":null,"b":[null,1]}}"#).unwrap();
        assert_eq!(layer.data, Some(toml::toml! { b = [1] }));
    }

    #[test]
    fn a_store_is_read_and_written() {
        let text = "[metadata]\n  n = 1\n";
        let store = Store::parse("store.toml", text).unwrap();
        assert_eq!(store.to_toml(), text);
        assert_eq!(to_json(&store), r#"{"metadata":{"n":1}}"#);
        assert_eq!(to_json(&Store::default()), r#"{"metadata":null}"#);
        let dated = Store::parse("store.toml", "[metadata]\nat = 07:32:00\n").unwrap();
        assert_eq!(serde_json::from_str::<Store>(&to_json(&dated)).unwrap(), dated);
    }

    #[test]
    fn layers_can_be_for_some_environments() {
        let matches = |text: &str| {
            let layer = LayerToml::parse("l.toml", text).unwrap();
            matches_exec_env(layer.metadata.as_ref(), "test")
        };
        assert!(matches(""));
        assert!(matches("[metadata]\na = 1"));
        assert!(matches("[metadata]\nexec-env = []"));
        assert!(matches("[metadata]\nexec-env = \"what a buildpack wrote before it meant anything\""));
        assert!(matches("[metadata]\nexec-env = [\"production\", \"test\"]"));
        assert!(matches("[metadata]\nexec-env = [\"*\"]"));
        assert!(!matches("[metadata]\nexec-env = [\"production\"]"));
    }
}
