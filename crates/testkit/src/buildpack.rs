//! Buildpacks and image extensions out of shell scripts.

use std::path::Path;

use fs_err as fs;

use serde_json::{Map, Value, json};

use crate::builder::composite_order;
use crate::image::{Image, digest};
use crate::tree::Tree;

/// A buildpack in the making: a descriptor and scripts.
#[derive(Debug, Clone)]
pub struct Buildpack {
    id: String,
    version: String,
    api: String,
    keys: String,
    tables: String,
    kind: Kind,
    files: Vec<(String, u32, Vec<u8>)>,
}

/// What a descriptor describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Component,
    Composite,
    Extension,
}

/// What every script starts with: it stops at the first thing that goes wrong, and has the specification's names.
const PRELUDE: &str = "#!/usr/bin/env bash\nset -euo pipefail\n";

impl Buildpack {
    /// A buildpack of API 0.12 that always detects and builds nothing.
    pub fn new(id: &str, version: &str) -> Self {
        let plain = Self {
            id: id.into(),
            version: version.into(),
            api: "0.12".into(),
            keys: String::new(),
            tables: String::new(),
            kind: Kind::Component,
            files: Vec::new(),
        };
        plain.detect("exit 0").build("exit 0")
    }

    /// A composite buildpack; `order` is TOML: `[[order]]` and `[[order.group]]` tables.
    pub fn composite(id: &str, version: &str, order: &str) -> Self {
        let mut composite = Self::new(id, version).tables(order);
        composite.files.clear();
        composite.kind = Kind::Composite;
        composite
    }

    /// An image extension of API 0.12 without any program: it always detects, and what it has for Dockerfiles is added
    /// with [`Buildpack::generate`], or as files below `generate/`.
    pub fn extension(id: &str, version: &str) -> Self {
        let mut extension = Self::new(id, version);
        extension.files.clear();
        extension.kind = Kind::Extension;
        extension
    }

    /// The buildpack API.
    #[must_use]
    pub fn api(mut self, api: &str) -> Self {
        self.api = api.into();
        self
    }

    /// Adds lines to the descriptor's `[buildpack]` table: `clear-env = true`, `sbom-formats = […]`.
    #[must_use]
    pub fn keys(mut self, toml: &str) -> Self {
        self.keys.push_str(toml);
        self.keys.push('\n');
        self
    }

    /// Adds tables to the descriptor: `[[targets]]`, `[[stacks]]`.
    #[must_use]
    pub fn tables(mut self, toml: &str) -> Self {
        self.tables.push_str(toml);
        self.tables.push('\n');
        self
    }

    /// The body of `bin/detect`, a bash script. `$CNB_BUILD_PLAN_PATH` is where a plan goes.
    #[must_use]
    pub fn detect(self, script: &str) -> Self {
        self.script("bin/detect", script)
    }

    /// The body of `bin/build`, a bash script. `$CNB_LAYERS_DIR` is where layers go.
    #[must_use]
    pub fn build(self, script: &str) -> Self {
        self.script("bin/build", script)
    }

    /// The body of an extension's `bin/generate`, a bash script. `$CNB_OUTPUT_DIR` is where Dockerfiles go.
    #[must_use]
    pub fn generate(self, script: &str) -> Self {
        self.script("bin/generate", script)
    }

    /// Adds (or replaces) a script with the usual first lines.
    #[must_use]
    pub fn script(self, name: &str, body: &str) -> Self {
        self.file(name, 0o755, format!("{PRELUDE}{body}\n"))
    }

    /// Adds (or replaces) a file as it is; `buildpack.toml` too.
    #[must_use]
    pub fn file(mut self, name: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.files.retain(|(known, _, _)| known != name);
        self.files.push((name.into(), mode, content.into()));
        self
    }

    /// Takes a file out (a buildpack without `bin/build`, say).
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.files.retain(|(known, _, _)| known != name);
        self
    }

    /// The id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The buildpack API.
    pub fn api_version(&self) -> &str {
        &self.api
    }

    /// Whether it is a composite.
    pub fn is_composite(&self) -> bool {
        self.kind == Kind::Composite
    }

    /// Whether it is an image extension.
    pub fn is_extension(&self) -> bool {
        self.kind == Kind::Extension
    }

    /// The order's TOML, for a composite.
    pub fn tables_toml(&self) -> &str {
        &self.tables
    }

    /// The descriptor, `buildpack.toml` or `extension.toml`.
    pub fn descriptor(&self) -> String {
        let Self { id, version, api, keys, tables, .. } = self;
        let table = self.kind();
        format!("api = \"{api}\"\n\n[{table}]\nid = \"{id}\"\nversion = \"{version}\"\n{keys}\n{tables}")
    }

    /// Writes the buildpack to a folder, which is made.
    ///
    /// # Panics
    ///
    /// When it can't be written.
    pub fn write(&self, folder: &Path) {
        use std::os::unix::fs::PermissionsExt as _;
        for (name, mode, content) in self.all_files() {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().expect("it has a folder")).expect("a folder can be made");
            fs::write(&path, content).expect("a buildpack can be written");
            fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("modes can be set");
        }
    }

    /// The layer that a builder or a buildpack package has for it: `/cnb/buildpacks/<id>/<version>`, or below
    /// `/cnb/extensions`.
    pub fn layer(&self) -> Tree {
        let modules = format!("/cnb/{}s", self.kind());
        let root = format!("{modules}/{}", self.id.replace('/', "_"));
        let root = [root.clone(), format!("{root}/{}", self.version)];
        let mut tree = Tree::new().dir("/cnb", 0o755).dir(&modules, 0o755);
        for folder in &root {
            tree = tree.dir(folder, 0o755);
        }
        let root = &root[1];
        let mut made = Vec::<String>::new();
        for (name, mode, content) in self.all_files() {
            for (at, _) in name.match_indices('/') {
                let folder = format!("{root}/{}", &name[..at]);
                if !made.contains(&folder) {
                    tree = tree.dir(&folder, 0o755);
                    made.push(folder);
                }
            }
            tree = tree.file(&format!("{root}/{name}"), mode, content);
        }
        tree
    }

    /// A buildpackage of this buildpack and those that it needs, as `pack buildpack package` makes it.
    pub fn package(&self, dependencies: &[Buildpack]) -> Image {
        let mut image = Image::new().field("Cmd", Value::Null);
        let mut layers = Map::new();
        for buildpack in std::iter::once(self).chain(dependencies) {
            let tar = buildpack.layer().into_tar();
            let mut about = json!({"api": buildpack.api_version(), "layerDiffID": digest(&tar)});
            if buildpack.is_composite() {
                about["order"] = composite_order(buildpack.tables_toml());
            }
            layers.entry(buildpack.id()).or_insert_with(|| json!({}))[buildpack.version()] = about;
            image = image.layer_tar(tar);
        }
        let metadata = json!({"id": self.id, "version": self.version, "stacks": [{"id": "*"}]});
        image
            .label("io.buildpacks.buildpackage.metadata", metadata.to_string())
            .label(&format!("io.buildpacks.{}.layers", self.kind()), Value::Object(layers).to_string())
    }

    fn kind(&self) -> &'static str {
        if self.is_extension() { "extension" } else { "buildpack" }
    }

    fn all_files(&self) -> Vec<(String, u32, Vec<u8>)> {
        let mut files = self.files.clone();
        let descriptor = format!("{}.toml", self.kind());
        if !files.iter().any(|(name, ..)| *name == descriptor) {
            files.push((descriptor, 0o644, self.descriptor().into_bytes()));
        }
        files
    }
}
