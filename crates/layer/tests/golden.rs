//! Layers of the reference lifecycle, made again from the same trees: same tar, same diffID.
#![allow(clippy::print_stderr)] // to say what is skipped and why

use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use pannier_layer::pack::{self, Ids, Options, Parent, Slices, Tar, Tree};
use pannier_layer::{Compression, Digest};
use rustix::fs::{CWD, Mode};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    kind: String,
    uid: u32,
    gid: u32,
    root: PathBuf,
    entries: Vec<Entry>,
    #[serde(default)]
    slices: Vec<Vec<String>>,
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Entry {
    path: String,
    r#type: String,
    #[serde(default)]
    mode: u32,
    #[serde(default)]
    content: String,
    #[serde(default)]
    repeat: usize,
    #[serde(default)]
    target: String,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Deserialize)]
struct Layer {
    diff_id: Digest,
    tar_size: u64,
    entries: Vec<serde_json::Value>,
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Makes the tree of a case at `root`. Owners are set when they can be: the layer's do not depend on them.
fn make(root: &Path, entries: &[Entry]) {
    fs_err::create_dir_all(root).unwrap();
    let mut modes = Vec::new();
    for entry in entries {
        let path = if entry.path.is_empty() { root.to_owned() } else { root.join(&entry.path) };
        let parent = path.parent().unwrap();
        if !parent.exists() {
            fs_err::create_dir_all(parent).unwrap();
        }
        match entry.r#type.as_str() {
            "dir" => fs_err::create_dir_all(&path).unwrap(),
            "file" => fs_err::write(&path, entry.content.repeat(entry.repeat)).unwrap(),
            "symlink" => symlink(&entry.target, &path).unwrap(),
            "fifo" => rustix::fs::mkfifoat(CWD, &path, Mode::empty()).unwrap(),
            "socket" => drop(UnixListener::bind(&path).unwrap()),
            other => panic!("unknown type {other}"),
        }
        if is_root() && entry.uid.is_some() {
            chown(&path, entry.uid, entry.gid).unwrap();
        }
        if !matches!(entry.r#type.as_str(), "symlink" | "socket") {
            modes.push((path, entry.mode));
        }
    }
    for (path, mode) in modes {
        fs_err::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }
}

fn read_back(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    match compression {
        Compression::Gzip(_) => flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut tar).unwrap(),
        Compression::Zstd(_) => zstd::Decoder::new(bytes).unwrap().read_to_end(&mut tar).unwrap(),
        Compression::None => (&mut { bytes }).read_to_end(&mut tar).unwrap(),
    };
    tar
}

fn check(name: &str, expected: &Layer, fill: impl Fn(&mut Tar<'_, '_>) -> Result<(), pack::PackError>) {
    let hashed = pack::hash(&|_| (), &fill).unwrap();
    assert_eq!(hashed.diff_id, expected.diff_id, "{name}");
    for compression in [Compression::Gzip(1), Compression::Zstd(3), Compression::None] {
        let mut outputs = Vec::new();
        for workers in [1, 3] {
            let options = Options { compression, workers, ..Options::default() };
            let mut sink = Vec::new();
            let packed = pack::pack(&options, &mut sink, &fill).unwrap();
            assert_eq!(packed.diff_id, expected.diff_id, "{name}");
            assert_eq!(packed.tar_size, expected.tar_size, "{name}");
            assert_eq!(packed.entries, expected.entries.len() as u64, "{name}");
            assert_eq!((packed.digest, packed.size), (Digest::of(&sink), sink.len() as u64), "{name}");
            assert_eq!(Digest::of(&read_back(compression, &sink)), expected.diff_id, "{name}");
            outputs.push(sink);
        }
        assert!(outputs[0] == outputs[1], "{name}: the number of workers shows in the output");
    }
}

#[test]
fn layers_are_those_of_the_reference() {
    let golden: Golden = serde_json::from_str(include_str!("golden/layers.json")).unwrap();
    assert_eq!(golden.cases.len(), 16);
    for case in golden.cases {
        if case.name == "mode-000" && !is_root() {
            eprintln!("skipped mode-000: only root can read such a file");
            continue;
        }
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join(case.root.strip_prefix("/").unwrap());
        make(&dir, &case.entries);
        let above = case.root.ancestors().skip(2).count();
        let parents = vec![Parent { mode: 0o755, uid: 0, gid: 0 }; above];
        let tree = Tree { parents: Some(parents), ..Tree::new(&dir, &case.root) };
        let ids = Ids::tree(case.uid, case.gid);
        if case.kind == "layer" {
            assert_eq!(case.layers.len(), 1);
            check(&case.name, &case.layers[0], |tar| tar.tree(&tree, ids));
        } else {
            let slices = Slices::new(&dir, &case.slices).unwrap();
            assert_eq!(slices.len(), case.layers.len(), "{}", case.name);
            for (index, layer) in case.layers.iter().enumerate() {
                check(&format!("{} {index}", case.name), layer, |tar| slices.add(index, tar, &tree, ids));
            }
        }
    }
}
