//! `cache.json`: which layers a cache has, and which tree each one is.

use std::io::{self, Write};
use std::path::Path;

use cnb::layer::LayerTypes;
use fs_err as fs;
use layer::Digest;
use oci::Descriptor;
use serde::{Deserialize, Serialize};

const FILE: &str = "cache.json";
/// Of the file's form: another one is not read.
const VERSION: u32 = 1;

/// The index of a cache.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct Index {
    pub version: u32,
    /// The start of the machine at which it was written.
    pub boot: String,
    /// The tree with SBOM files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sbom: Option<TreeRecord>,
    pub buildpacks: Vec<BuildpackRecord>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct BuildpackRecord {
    pub id: String,
    pub version: String,
    /// The text of `store.toml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    pub layers: Vec<LayerRecord>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct LayerRecord {
    pub name: String,
    pub tree: TreeRecord,
    pub build: bool,
    pub launch: bool,
    pub cache: bool,
    /// `[metadata]` of `<layer>.toml`, as TOML: JSON would lose kinds of numbers, and dates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff_id: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<Descriptor>,
    /// What the tar depended on besides the tree.
    #[serde(default)]
    pub made_as: String,
}

/// A folder in `trees`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct TreeRecord {
    pub name: String,
    /// What can be seen of it without reading a file.
    pub shape: Digest,
}

impl Default for Index {
    fn default() -> Self {
        Self { version: VERSION, boot: String::new(), sbom: None, buildpacks: Vec::new() }
    }
}

impl Index {
    /// Reads the index in `dir`. One that cannot be used is the same as none, with the reason.
    pub(super) fn read(dir: &Path) -> io::Result<(Self, Option<String>)> {
        let text = match fs::read(dir.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Self::default(), None)),
            result => result?,
        };
        let reason = match serde_json::from_slice::<Self>(&text) {
            Ok(index) if index.version != VERSION => format!("{FILE} is of version {}", index.version),
            Ok(index) if !index.names().all(is_plain) => {
                format!("{FILE} names something outside of the cache")
            }
            Ok(index) => return Ok((index, None)),
            Err(error) => format!("{FILE} is damaged: {error}"),
        };
        Ok((Self::default(), Some(reason)))
    }

    /// Replaces the index in `dir`: after this the cache is the new one.
    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        let temporary = dir.join(format!("{FILE}.new"));
        let mut file = fs::File::create(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        oci::publish::rename(&temporary, &dir.join(FILE))?;
        fs::File::open(dir)?.sync_all()
    }

    pub(super) fn layer(&self, id: &str, name: &str) -> Option<&LayerRecord> {
        let buildpack = self.buildpacks.iter().find(|buildpack| buildpack.id == id)?;
        buildpack.layers.iter().find(|layer| layer.name == name)
    }

    /// All trees that are in use.
    pub(super) fn trees(&self) -> impl Iterator<Item = &TreeRecord> {
        let layers = self.buildpacks.iter().flat_map(|buildpack| &buildpack.layers);
        layers.map(|layer| &layer.tree).chain(&self.sbom)
    }

    /// All that becomes part of a path.
    fn names(&self) -> impl Iterator<Item = &str> {
        let layers = self.buildpacks.iter().flat_map(|buildpack| &buildpack.layers);
        layers.map(|layer| layer.name.as_str()).chain(self.trees().map(|tree| tree.name.as_str()))
    }
}

impl LayerRecord {
    pub(super) fn types(&self) -> LayerTypes {
        LayerTypes { build: self.build, launch: self.launch, cache: self.cache }
    }

    pub(super) fn table(&self) -> Option<toml::Table> {
        self.metadata.as_ref()?.parse().ok()
    }
}

/// True for the name of a file in a folder.
pub(super) fn is_plain(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}
