//! Builder images out of buildpacks and image extensions, laid out as `pack builder create` lays them out.

use serde_json::{Map, Value, json};

use crate::base::{Base, CNB};
use crate::buildpack::Buildpack;
use crate::image::{Image, digest};
use crate::tree::Tree;

/// A builder in the making.
#[derive(Debug, Clone)]
pub struct Builder {
    base: Base,
    buildpacks: Vec<Buildpack>,
    extensions: Vec<Buildpack>,
    order: Vec<Vec<(String, bool)>>,
    order_extensions: Vec<Vec<(String, bool)>>,
    run_images: Vec<String>,
    files: Vec<(String, String)>,
    system: Option<Value>,
}

impl Builder {
    /// A builder with the base's build image, which builds for its run image.
    pub fn new(base: Base) -> Self {
        Self {
            base,
            buildpacks: Vec::new(),
            extensions: Vec::new(),
            order: Vec::new(),
            order_extensions: Vec::new(),
            run_images: vec![base.run_reference()],
            files: Vec::new(),
            system: None,
        }
    }

    /// A builder whose order is one group: these buildpacks, none optional.
    pub fn of(base: Base, buildpacks: &[Buildpack]) -> Self {
        let group = buildpacks.iter().map(|buildpack| (buildpack.id().to_owned(), false)).collect();
        let mut builder = buildpacks.iter().cloned().fold(Self::new(base), Self::buildpack);
        builder.order.push(group);
        builder
    }

    /// Adds a buildpack, in no group yet.
    #[must_use]
    pub fn buildpack(mut self, buildpack: Buildpack) -> Self {
        self.buildpacks.push(buildpack);
        self
    }

    /// Adds an image extension, in no group yet.
    #[must_use]
    pub fn extension(mut self, extension: Buildpack) -> Self {
        self.extensions.push(extension);
        self
    }

    /// Adds a group of image extensions, all of them optional as they always are.
    #[must_use]
    pub fn extension_group(mut self, members: &[&str]) -> Self {
        self.order_extensions.push(members.iter().map(|&name| (name.to_owned(), false)).collect());
        self
    }

    /// Adds a group to the order. An id that ends with `?` is optional; `id@version` names a version.
    #[must_use]
    pub fn group(mut self, members: &[&str]) -> Self {
        let member = |name: &&str| (name.trim_end_matches('?').to_owned(), name.ends_with('?'));
        self.order.push(members.iter().map(member).collect());
        self
    }

    /// The run images, the first one first, in place of the base's.
    #[must_use]
    pub fn run_images(mut self, references: &[&str]) -> Self {
        self.run_images = references.iter().map(|&reference| reference.to_owned()).collect();
        self
    }

    /// A variable of the build config: `name` may end in `.append`, `.delim` and so on.
    #[must_use]
    pub fn build_config(self, name: &str, value: &str) -> Self {
        self.file(&format!("/cnb/build-config/env/{name}"), value)
    }

    /// System buildpacks: before and after every group.
    #[must_use]
    pub fn system(mut self, pre: &[&str], post: &[&str]) -> Self {
        let entries = |ids: &[&str]| {
            ids.iter()
                .map(|id| {
                    let (id, version) = split(id, &self.buildpacks);
                    json!({"id": id, "version": version})
                })
                .collect::<Vec<_>>()
        };
        let system = json!({"pre": {"buildpacks": entries(pre)}, "post": {"buildpacks": entries(post)}});
        let mut toml = String::new();
        for (when, ids) in [("pre", pre), ("post", post)] {
            for id in ids {
                let (id, version) = split(id, &self.buildpacks);
                toml.push_str(&format!(
                    "[[system.{when}.buildpacks]]\nid = \"{id}\"\nversion = \"{version}\"\n"
                ));
            }
        }
        self.system = Some(system);
        self.file("/cnb/system.toml", &toml)
    }

    /// Adds a file in a layer of its own.
    #[must_use]
    pub fn file(mut self, path: &str, content: &str) -> Self {
        self.files.push((path.to_owned(), content.to_owned()));
        self
    }

    /// The finished image.
    pub fn image(&self) -> Image {
        let mut image = self.base.build().layer(folders());
        let mut layers = [Map::new(), Map::new()];
        for module in self.buildpacks.iter().chain(&self.extensions) {
            let tar = module.layer().into_tar();
            let mut about = json!({"api": module.api_version(), "layerDiffID": digest(&tar)});
            if module.is_composite() {
                about["order"] = composite_order(module.tables_toml());
            }
            let of_kind = &mut layers[usize::from(module.is_extension())];
            of_kind.entry(module.id()).or_insert_with(|| json!({}))[module.version()] = about;
            image = image.layer_tar(tar);
        }
        let [buildpack_layers, extension_layers] = layers;
        let order_toml = self.order_toml();
        image = image.layer(Tree::new().dir("/cnb", 0o755).file("/cnb/order.toml", 0o644, order_toml));
        image = image.layer(Tree::new().dir("/cnb", 0o755).file("/cnb/run.toml", 0o644, self.run_toml()));
        let stack = format!("[run-image]\n  image = {:?}\n", self.run_images[0]);
        image = image.layer(Tree::new().dir("/cnb", 0o755).file("/cnb/stack.toml", 0o644, stack));
        for (path, content) in &self.files {
            image = image.layer(Tree::new().file(path, 0o644, content));
        }
        if let Some(system) = &self.system {
            image = image.label("io.buildpacks.buildpack.system", system.to_string());
        }
        if !self.extensions.is_empty() {
            let order = order_label(&self.order_extensions, &self.extensions);
            image = image
                .label("io.buildpacks.extension.layers", Value::Object(extension_layers).to_string())
                .label("io.buildpacks.buildpack.order-extensions", order.to_string());
        }
        image
            .field("WorkingDir", json!("/layers"))
            .user(&format!("{CNB}:{CNB}"))
            .label("io.buildpacks.builder.metadata", self.metadata().to_string())
            .label("io.buildpacks.buildpack.layers", Value::Object(buildpack_layers).to_string())
            .label("io.buildpacks.buildpack.order", order_label(&self.order, &self.buildpacks).to_string())
    }

    fn order_toml(&self) -> String {
        let orders = [
            ("order", &self.order, &self.buildpacks),
            ("order-extensions", &self.order_extensions, &self.extensions),
        ];
        let mut toml = String::new();
        for (table, groups, known) in orders {
            for group in groups {
                toml.push_str(&format!("[[{table}]]\n"));
                for (id, optional) in group {
                    let (id, version) = split(id, known);
                    toml.push_str(&format!("[[{table}.group]]\nid = \"{id}\"\nversion = \"{version}\"\n"));
                    if *optional {
                        toml.push_str("optional = true\n");
                    }
                }
            }
        }
        toml
    }

    fn run_toml(&self) -> String {
        self.run_images.iter().map(|image| format!("[[images]]\n  image = {image:?}\n")).collect()
    }

    fn metadata(&self) -> Value {
        let ids = |modules: &[Buildpack]| {
            let ids = modules.iter().map(|known| json!({"id": known.id(), "version": known.version()}));
            Value::Array(ids.collect())
        };
        let extensions = Some(&self.extensions).filter(|extensions| !extensions.is_empty());
        let images =
            self.run_images.iter().map(|image| json!({"image": image, "mirrors": null})).collect::<Vec<_>>();
        json!({
            "description": "made by a test",
            "buildpacks": ids(&self.buildpacks),
            "extensions": extensions.map(|extensions| ids(extensions)),
            "stack": {"runImage": images[0]},
            "images": images,
            "lifecycle": {
                "version": "0.21.17",
                "api": {"buildpack": "0.7", "platform": "0.7"},
                "apis": {
                    "buildpack": {"deprecated": [], "supported": ["0.7", "0.8", "0.9", "0.10", "0.11", "0.12"]},
                    "platform": {"deprecated": [], "supported": ["0.7", "0.8", "0.9", "0.10", "0.11", "0.12", "0.13", "0.14", "0.15"]},
                },
            },
            "createdBy": {"name": "testkit", "version": "1"},
        })
    }
}

/// An order as labels have it.
fn order_label(order: &[Vec<(String, bool)>], known: &[Buildpack]) -> Value {
    let groups = order.iter().map(|group| {
        let members = group.iter().map(|(id, optional)| {
            let (id, version) = split(id, known);
            let mut member = json!({"id": id, "version": version});
            if *optional {
                member["optional"] = json!(true);
            }
            member
        });
        json!({"group": members.collect::<Vec<_>>()})
    });
    Value::Array(groups.collect())
}

/// The folders every builder has.
fn folders() -> Tree {
    let mut tree = Tree::new();
    for folder in [
        "/cnb",
        "/cnb/buildpacks",
        "/cnb/extensions",
        "/cnb/build-config",
        "/cnb/build-config/env",
        "/platform",
        "/platform/env",
    ] {
        tree = tree.dir(folder, 0o755);
    }
    tree.owner(CNB, CNB).dir("/workspace", 0o755).dir("/layers", 0o755)
}

/// An id, with the version it names or the one among `known`.
fn split(id: &str, known: &[Buildpack]) -> (String, String) {
    if let Some((id, version)) = id.split_once('@') {
        return (id.to_owned(), version.to_owned());
    }
    let version = known.iter().find(|buildpack| buildpack.id() == id).map(Buildpack::version);
    (id.to_owned(), version.unwrap_or_default().to_owned())
}

/// The order of a composite, from `[[order]]` and `[[order.group]]` tables whose keys are strings and booleans, a line
/// each: what the tests here write.
pub(crate) fn composite_order(toml: &str) -> Value {
    let mut order = Vec::<Vec<Map<String, Value>>>::new();
    for line in toml.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line {
            "[[order]]" => order.push(Vec::new()),
            "[[order.group]]" => order.last_mut().expect("an [[order]] first").push(Map::new()),
            _ => {
                let (key, value) = line.split_once('=').expect("key = value");
                let value = serde_json::from_str(value.trim()).expect("a string or a boolean");
                let member =
                    order.last_mut().and_then(|group| group.last_mut()).expect("an [[order.group]] first");
                member.insert(key.trim().to_owned(), value);
            }
        }
    }
    Value::Array(order.into_iter().map(|group| json!({"group": group})).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Layout, ReadImage};

    #[test]
    fn has_what_a_builder_has() {
        if !Base::Small.available() {
            return;
        }
        let inner = Buildpack::new("test/inner", "2").build("echo hi");
        let outer = Buildpack::composite(
            "test/outer",
            "1",
            "[[order]]\n[[order.group]]\nid = \"test/inner\"\nversion = \"2\"",
        );
        let builder =
            Builder::new(Base::Small).buildpack(inner).buildpack(outer).group(&["test/outer", "test/inner?"]);
        let extension = Buildpack::extension("test/ext", "3").generate("exit 0");
        let builder = builder.extension(extension).extension_group(&["test/ext"]);
        let folder = tempfile::tempdir().expect("a folder");
        let layout = Layout::new(folder.path());
        layout.add("b", &builder.system(&["test/inner"], &[]).build_config("A.append", "x").image());
        let image = ReadImage::from_layout(folder.path(), Some("b"));
        let layers = image.json_label("io.buildpacks.buildpack.layers");
        let diff_id = layers["test/inner"]["2"]["layerDiffID"].as_str().expect("a digest");
        let layer =
            image.layers.iter().find(|layer| layer.diff_id == diff_id).expect("the layer the label names");
        assert!(layer.names().contains(&"/cnb/buildpacks/test_inner/2/bin/build"));
        assert_eq!(layers["test/outer"]["1"]["order"][0]["group"][0]["id"], "test/inner");
        assert!(image.text("/cnb/extensions/test_ext/3/extension.toml").contains("[extension]"));
        assert_eq!(
            image.json_label("io.buildpacks.buildpack.order-extensions"),
            json!([{"group": [{"id": "test/ext", "version": "3"}]}])
        );
        assert!(image.json_label("io.buildpacks.extension.layers")["test/ext"]["3"]["api"] == "0.12");
        let order = image.json_label("io.buildpacks.buildpack.order");
        assert_eq!(order[0]["group"][1], json!({"id": "test/inner", "version": "2", "optional": true}));
        assert!(image.text("/cnb/system.toml").contains("[[system.pre.buildpacks]]"));
        assert_eq!(image.text("/cnb/build-config/env/A.append"), "x");
        assert_eq!(image.env("CNB_USER_ID"), Some("1000"));
    }
}
