//! What an image in a layout or an archive contains, read with nothing but JSON, gzip and tar.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use fs_err as fs;
use serde_json::Value;

use crate::image::digest;

/// An image, read whole. Every digest and size on the way was checked.
#[derive(Debug, Clone)]
pub struct ReadImage {
    /// The digest of the manifest.
    pub digest: String,
    /// The manifest.
    pub manifest: Value,
    /// The config.
    pub config: Value,
    /// The layers, the lowest first.
    pub layers: Vec<ReadLayer>,
}

/// A layer of an image.
#[derive(Debug, Clone)]
pub struct ReadLayer {
    /// The digest of the uncompressed tar.
    pub diff_id: String,
    /// The digest of the blob.
    pub digest: String,
    /// The entries of the tar, in its order.
    pub entries: Vec<ReadEntry>,
}

/// An entry of a layer's tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadEntry {
    /// The name, byte for byte (a leading `/` and all).
    pub name: String,
    /// The type flag: `0` file, `1` hard link, `2` symbolic link, `5` folder, …
    pub kind: char,
    /// Permissions, with the setuid, setgid and sticky bits.
    pub mode: u32,
    /// The owner.
    pub uid: u64,
    /// The group.
    pub gid: u64,
    /// Seconds since 1970.
    pub mtime: u64,
    /// What a link points to; empty otherwise.
    pub link: String,
    /// The file's content; empty otherwise.
    pub content: Vec<u8>,
}

impl ReadImage {
    /// Reads the image that `tag` names in an OCI layout folder; without a tag, the only one there.
    ///
    /// # Panics
    ///
    /// When there is no such image, or anything about it is wrong: a test can't go on.
    pub fn from_layout(folder: &Path, tag: Option<&str>) -> Self {
        let read = |path: &str| fs::read(folder.join(path)).unwrap_or_else(|error| panic!("{error}"));
        Self::read(&read, tag)
    }

    /// Reads the image in an OCI archive (a tar of a layout).
    ///
    /// # Panics
    ///
    /// As [`ReadImage::from_layout`].
    pub fn from_archive(file: &Path, tag: Option<&str>) -> Self {
        let files = tar_files(file);
        let read =
            |path: &str| files.get(path).unwrap_or_else(|| panic!("no {path} in {}", file.display())).clone();
        Self::read(&read, tag)
    }

    /// Reads the image in an archive as `docker save` writes it: `manifest.json`, a config, plain layer tars. What it
    /// has for a manifest is returned as the manifest; the digest is the config's, which is Docker's image id.
    ///
    /// # Panics
    ///
    /// As [`ReadImage::from_layout`].
    pub fn from_docker_archive(file: &Path) -> Self {
        let files = tar_files(file);
        let read =
            |path: &str| files.get(path).unwrap_or_else(|| panic!("no {path} in {}", file.display())).clone();
        let manifest = json(&read("manifest.json"))[0].clone();
        let config = read(text(&manifest["Config"]));
        let layers = list(&manifest["Layers"]).iter().map(|name| ReadLayer::new(&read(text(name)))).collect();
        let image = Self { digest: digest(&config), manifest, config: json(&config), layers };
        image.check_diff_ids();
        image
    }

    fn read(read: &dyn Fn(&str) -> Vec<u8>, tag: Option<&str>) -> Self {
        let index = json(&read("index.json"));
        let named = |descriptor: &&Value| {
            tag.is_none_or(|tag| descriptor["annotations"]["org.opencontainers.image.ref.name"] == tag)
        };
        let found = list(&index["manifests"]).iter().filter(named).collect::<Vec<_>>();
        assert_eq!(found.len(), 1, "one image named {tag:?} in {index:#}");
        let manifest = json(&checked(read, found[0]));
        let config = json(&checked(read, &manifest["config"]));
        let layers = list(&manifest["layers"])
            .iter()
            .map(|descriptor| ReadLayer::new(&checked(read, descriptor)))
            .collect();
        let image = Self { digest: text(&found[0]["digest"]).to_owned(), manifest, config, layers };
        image.check_diff_ids();
        image
    }

    fn check_diff_ids(&self) {
        let said = list(&self.config["rootfs"]["diff_ids"]).iter().map(text).collect::<Vec<_>>();
        let found = self.layers.iter().map(|layer| layer.diff_id.as_str()).collect::<Vec<_>>();
        assert_eq!(said, found, "the config's diff ids are those of the layers");
        let with_layers =
            list(&self.config["history"]).iter().filter(|step| step["empty_layer"] != true).count();
        assert_eq!(with_layers, found.len(), "the history has a step for each layer");
    }

    /// A label's value.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.config["config"]["Labels"][name].as_str()
    }

    /// A label whose value is JSON.
    ///
    /// # Panics
    ///
    /// When there is no such label.
    pub fn json_label(&self, name: &str) -> Value {
        json(self.label(name).unwrap_or_else(|| panic!("no label {name}")).as_bytes())
    }

    /// A variable of the config's environment.
    pub fn env(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}=");
        list(&self.config["config"]["Env"]).iter().find_map(|line| text(line).strip_prefix(prefix.as_str()))
    }

    /// What the history says made each layer.
    pub fn created_by(&self) -> Vec<&str> {
        list(&self.config["history"]).iter().map(|step| text(&step["created_by"])).collect()
    }

    /// The entry that a container would see at `path` (absolute): the topmost. Whiteouts are not looked at.
    pub fn entry(&self, path: &str) -> Option<&ReadEntry> {
        let wanted = path.trim_matches('/');
        self.layers.iter().rev().find_map(|layer| {
            layer
                .entries
                .iter()
                .rev()
                .find(|entry| entry.name.trim_start_matches("./").trim_matches('/') == wanted)
        })
    }

    /// The text of the file at `path`.
    ///
    /// # Panics
    ///
    /// When there is none, or it is not UTF-8.
    pub fn text(&self, path: &str) -> &str {
        let entry = self.entry(path).unwrap_or_else(|| panic!("no {path} in the image"));
        std::str::from_utf8(&entry.content).expect("the file is text")
    }

    /// The layer whose history step is `created_by`.
    pub fn layer_by(&self, created_by: &str) -> Option<&ReadLayer> {
        let steps = list(&self.config["history"]).iter().filter(|step| step["empty_layer"] != true);
        let position = steps.into_iter().position(|step| step["created_by"] == created_by)?;
        self.layers.get(position)
    }
}

impl ReadLayer {
    fn new(blob: &[u8]) -> Self {
        let mut tar = Vec::new();
        match blob {
            [0x1f, 0x8b, ..] => {
                MultiGzDecoder::new(blob).read_to_end(&mut tar).expect("the layer is whole");
            }
            [0x28, 0xb5, 0x2f, 0xfd, ..] => tar = unzstd(blob),
            _ => tar.extend_from_slice(blob),
        }
        let mut archive = tar::Archive::new(tar.as_slice());
        let entries = archive
            .entries()
            .expect("a tar")
            .map(|entry| ReadEntry::new(entry.expect("a whole tar")))
            .collect();
        Self { diff_id: digest(&tar), digest: digest(blob), entries }
    }

    /// The names, in order.
    pub fn names(&self) -> Vec<&str> {
        self.entries.iter().map(|entry| entry.name.as_str()).collect()
    }
}

impl ReadEntry {
    fn new(mut entry: tar::Entry<'_, &[u8]>) -> Self {
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("a whole entry");
        let header = entry.header();
        Self {
            name: String::from_utf8_lossy(&entry.path_bytes()).into_owned(),
            kind: char::from(header.entry_type().as_byte()),
            mode: header.mode().expect("a mode"),
            uid: header.uid().expect("an owner"),
            gid: header.gid().expect("a group"),
            mtime: header.mtime().expect("a time"),
            link: entry
                .link_name_bytes()
                .map(|link| String::from_utf8_lossy(&link).into_owned())
                .unwrap_or_default(),
            content,
        }
    }
}

/// With the `zstd` program: the crate under test must not be what checks itself.
fn unzstd(blob: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut child = Command::new("zstd")
        .args(["-d", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the zstd program reads zstd layers");
    let mut stdin = child.stdin.take().expect("it is a pipe");
    let blob = blob.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&blob));
    let output = child.wait_with_output().expect("zstd ends");
    writer.join().expect("no panic").expect("zstd reads everything");
    assert!(output.status.success(), "zstd says the layer is whole");
    output.stdout
}

fn checked(read: &dyn Fn(&str) -> Vec<u8>, descriptor: &Value) -> Vec<u8> {
    let wanted = text(&descriptor["digest"]);
    let blob = read(&format!("blobs/{}", wanted.replace(':', "/")));
    assert_eq!(digest(&blob), wanted, "the digest of a blob");
    assert_eq!(Some(blob.len() as u64), descriptor["size"].as_u64(), "the size of {wanted}");
    blob
}

fn tar_files(file: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(fs::File::open(file).unwrap_or_else(|error| panic!("{error}")));
    let mut files = BTreeMap::new();
    for entry in archive.entries().expect("a tar") {
        let entry = ReadEntry::of_file(entry.expect("a whole tar"));
        files.insert(entry.0, entry.1);
    }
    files
}

impl ReadEntry {
    fn of_file(mut entry: tar::Entry<'_, fs::File>) -> (String, Vec<u8>) {
        let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("a whole entry");
        (name, content)
    }
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Image, Layout, Stored};
    use crate::tree::Tree;

    #[test]
    fn reads_what_was_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let layout = Layout::new(folder.path());
        for stored in [Stored::Gzip, Stored::Plain, Stored::Docker] {
            let tree =
                Tree::new().owner(3, 4).dir("/a", 0o755).file("/a/b", 0o4711, "text").symlink("/c", "../a");
            let image = Image::new().layer(tree).label("x", "{\"y\":1}").env("A", "b=c").stored(stored);
            let digest = layout.add("t", &image);
            let read = ReadImage::from_layout(folder.path(), Some("t"));
            assert_eq!(read.digest, digest);
            assert_eq!(read.json_label("x")["y"], 1);
            assert_eq!(read.env("A"), Some("b=c"));
            assert_eq!(read.text("/a/b"), "text");
            let names = read.layers[0]
                .entries
                .iter()
                .map(|entry| (entry.name.as_str(), entry.kind, entry.mode, entry.uid));
            let expected = [("/a", '5', 0o755, 3), ("/a/b", '0', 0o4711, 3), ("/c", '2', 0o777, 3)];
            assert_eq!(names.collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    #[should_panic(expected = "the digest of a blob")]
    fn sees_a_changed_blob() {
        let folder = tempfile::tempdir().expect("a folder");
        let layout = Layout::new(folder.path());
        let digest = layout.add("t", &Image::new());
        fs::write(layout.blob_path(&digest), "{}").expect("it can be written");
        ReadImage::from_layout(folder.path(), None);
    }
}
