//! Images out of layers, written as OCI layouts.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::{Compression, write::GzEncoder};
use fs_err as fs;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::tree::Tree;

/// The annotation that names an image in a layout.
const NAME: &str = "org.opencontainers.image.ref.name";

/// How layers are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stored {
    /// gzip, as nearly every image has it.
    #[default]
    Gzip,
    /// The tar as it is.
    Plain,
    /// gzip, with the media types of Docker's schema 2.
    Docker,
}

/// An image in the making: layers below, config beside.
#[derive(Debug, Clone)]
pub struct Image {
    layers: Vec<Layer>,
    env: Vec<(String, String)>,
    labels: Map<String, Value>,
    fields: Map<String, Value>,
    architecture: String,
    os: String,
    stored: Stored,
}

/// A layer: bytes that are still to be stored, or a blob of another layout, taken over as it is.
#[derive(Debug, Clone)]
enum Layer {
    Tar { tar: Vec<u8>, diff_id: String },
    Blob { path: PathBuf, descriptor: Value, diff_id: String },
}

impl Layer {
    fn diff_id(&self) -> &str {
        match self {
            Layer::Tar { diff_id, .. } | Layer::Blob { diff_id, .. } => diff_id,
        }
    }
}

impl Default for Image {
    fn default() -> Self {
        Self {
            layers: Vec::new(),
            env: vec![("PATH".into(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into())],
            labels: Map::new(),
            fields: Map::new(),
            architecture: architecture().into(),
            os: "linux".into(),
            stored: Stored::default(),
        }
    }
}

impl Image {
    /// No layers, the usual PATH, this machine's architecture.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a layer on top.
    #[must_use]
    pub fn layer(self, tree: Tree) -> Self {
        self.layer_tar(tree.into_tar())
    }

    /// Adds a layer, given as an uncompressed tar, on top.
    #[must_use]
    pub fn layer_tar(mut self, tar: Vec<u8>) -> Self {
        self.layers.push(Layer::Tar { diff_id: digest(&tar), tar });
        self
    }

    /// The image `tag` of a layout, to be built on. Its layers are not copied until it is added to another layout, and
    /// not compressed again then.
    ///
    /// # Panics
    ///
    /// When there is no such image.
    pub fn from_layout(layout: &Layout, tag: &str) -> Self {
        let read = |digest: &Value| {
            let path = layout.blob_path(digest.as_str().expect("a digest"));
            json(&fs::read(path).expect("a blob can be read"))
        };
        let index = json(&fs::read(layout.path().join("index.json")).expect("the index can be read"));
        let manifests = index["manifests"].as_array().expect("an index has manifests");
        let found = manifests.iter().find(|known| known["annotations"][NAME] == tag);
        let manifest =
            read(&found.unwrap_or_else(|| panic!("no {tag} in {}", layout.path().display()))["digest"]);
        let config = read(&manifest["config"]["digest"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let layers = manifest["layers"].as_array().expect("a manifest has layers");
        let diff_ids = config["rootfs"]["diff_ids"].as_array().expect("a config has diff ids");
        let layers = layers.iter().zip(diff_ids).map(|(descriptor, diff_id)| Layer::Blob {
            path: layout.blob_path(&text(&descriptor["digest"])),
            descriptor: descriptor.clone(),
            diff_id: text(diff_id),
        });
        let mut fields = config["config"].as_object().cloned().unwrap_or_default();
        let env = fields.remove("Env").and_then(|env| env.as_array().cloned()).unwrap_or_default();
        let env = env
            .iter()
            .filter_map(|line| text(line).split_once('=').map(|(name, value)| (name.into(), value.into())));
        let labels =
            fields.remove("Labels").and_then(|labels| labels.as_object().cloned()).unwrap_or_default();
        Self {
            layers: layers.collect(),
            env: env.collect(),
            labels,
            fields,
            architecture: text(&config["architecture"]),
            os: text(&config["os"]),
            stored: Stored::default(),
        }
    }

    /// Sets a variable of the config's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.into(), value.into()));
        self
    }

    /// Sets a label.
    #[must_use]
    pub fn label(mut self, name: &str, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), Value::String(value.into()));
        self
    }

    /// Sets any other field of the config's `config`: `User`, `Cmd`, `WorkingDir`, …
    #[must_use]
    pub fn field(mut self, name: &str, value: Value) -> Self {
        self.fields.insert(name.into(), value);
        self
    }

    /// The user of the config.
    #[must_use]
    pub fn user(self, user: &str) -> Self {
        self.field("User", json!(user))
    }

    /// The platform the config names, in place of this machine's.
    #[must_use]
    pub fn platform(mut self, os: &str, architecture: &str) -> Self {
        self.os = os.into();
        self.architecture = architecture.into();
        self
    }

    /// How the layers are stored.
    #[must_use]
    pub fn stored(mut self, stored: Stored) -> Self {
        self.stored = stored;
        self
    }

    fn config(&self) -> Value {
        let diff_ids = self.layers.iter().map(Layer::diff_id).collect::<Vec<_>>();
        let mut config = self.fields.clone();
        let env = self.env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
        config.insert("Env".into(), json!(env));
        config.insert("Labels".into(), Value::Object(self.labels.clone()));
        let history = (0..self.layers.len())
            .map(|n| json!({"created_by": format!("testkit layer {n}")}))
            .collect::<Vec<_>>();
        json!({
            "architecture": self.architecture,
            "os": self.os,
            "created": "1980-01-01T00:00:01Z",
            "config": config,
            "history": history,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
    }
}

/// This machine's architecture, as OCI names it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `sha256:` and the digest of `bytes`.
pub fn digest(bytes: &[u8]) -> String {
    let hex = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("sha256:{hex}")
}

/// An OCI layout folder that images are added to.
#[derive(Debug, Clone)]
pub struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// Makes a new layout, or opens the one that is there.
    ///
    /// # Panics
    ///
    /// When the folder can't be written (as in all of this type's functions: a test can't go on).
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        fs::create_dir_all(folder.join("blobs/sha256")).expect("a layout folder can be made");
        let layout = Self { folder };
        if !layout.folder.join("index.json").exists() {
            layout.write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
            layout.write_index(&json!({"schemaVersion": 2, "manifests": []}));
        }
        layout
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// How Pannier (and skopeo) name an image in here: `oci:FOLDER:TAG`.
    pub fn reference(&self, tag: &str) -> String {
        format!("oci:{}:{tag}", self.folder.display())
    }

    /// Writes `image` and names it `tag`. Returns the digest of its manifest.
    pub fn add(&self, tag: &str, image: &Image) -> String {
        let descriptor = self.write_image(image);
        let digest = descriptor["digest"].as_str().expect("it was just made").to_owned();
        self.tag(tag, descriptor);
        digest
    }

    /// Writes an image index over several images and names it `tag`. Returns the digest of the index.
    pub fn add_index(&self, tag: &str, images: &[Image]) -> String {
        let manifests = images
            .iter()
            .map(|image| {
                let mut descriptor = self.write_image(image);
                descriptor["platform"] = json!({"os": image.os, "architecture": image.architecture});
                descriptor
            })
            .collect::<Vec<_>>();
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
        let descriptor = self.blob(media_type, &bytes(&index));
        let digest = descriptor["digest"].as_str().expect("it was just made").to_owned();
        self.tag(tag, descriptor);
        digest
    }

    /// Where a blob is.
    pub fn blob_path(&self, digest: &str) -> PathBuf {
        self.folder.join("blobs").join(digest.replace(':', "/"))
    }

    fn write_image(&self, image: &Image) -> Value {
        let oci = "application/vnd.oci.image";
        let docker = "application/vnd.docker";
        let (manifest_type, config_type, layer_type) = match image.stored {
            Stored::Gzip => (
                format!("{oci}.manifest.v1+json"),
                format!("{oci}.config.v1+json"),
                format!("{oci}.layer.v1.tar+gzip"),
            ),
            Stored::Plain => (
                format!("{oci}.manifest.v1+json"),
                format!("{oci}.config.v1+json"),
                format!("{oci}.layer.v1.tar"),
            ),
            Stored::Docker => (
                format!("{docker}.distribution.manifest.v2+json"),
                format!("{docker}.container.image.v1+json"),
                format!("{docker}.image.rootfs.diff.tar.gzip"),
            ),
        };
        let store = |layer: &Layer| match layer {
            Layer::Tar { tar, .. } if image.stored == Stored::Plain => self.blob(&layer_type, tar),
            Layer::Tar { tar, .. } => self.blob(&layer_type, &gzip(tar)),
            Layer::Blob { path, descriptor, .. } => self.take_over(path, descriptor),
        };
        let layers = image.layers.iter().map(store).collect::<Vec<_>>();
        let config = self.blob(&config_type, &bytes(&image.config()));
        let manifest =
            json!({"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": layers});
        self.blob(&manifest_type, &bytes(&manifest))
    }

    /// Writes a blob and returns its descriptor.
    fn blob(&self, media_type: &str, content: &[u8]) -> Value {
        let digest = digest(content);
        let path = self.blob_path(&digest);
        if !path.exists() {
            fs::write(path, content).expect("a blob can be written");
        }
        json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    }

    /// Takes a blob of another layout over.
    fn take_over(&self, path: &Path, descriptor: &Value) -> Value {
        let own = self.blob_path(descriptor["digest"].as_str().expect("a digest"));
        if !own.exists() && fs::hard_link(path, &own).is_err() {
            fs::copy(path, &own).expect("a blob can be copied");
        }
        descriptor.clone()
    }

    fn tag(&self, tag: &str, mut descriptor: Value) {
        let mut index = json(&fs::read(self.folder.join("index.json")).expect("the index can be read"));
        descriptor["annotations"] = json!({NAME: tag});
        let manifests = index["manifests"].as_array_mut().expect("an index has manifests");
        manifests.retain(|known| known["annotations"][NAME] != tag);
        manifests.push(descriptor);
        self.write_index(&index);
    }

    fn write_index(&self, index: &Value) {
        self.write("index.json", &bytes(index));
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.folder.join(name), content).expect("a layout can be written");
    }
}

fn gzip(tar: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(tar).expect("memory can be written");
    encoder.finish().expect("memory can be written")
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("a layout has JSON")
}

fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("a value is JSON")
}
