//! Random trees, packed and unpacked: the same trees.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use pannier_layer::pack::{self, Ids, Slices, Tree};
use pannier_layer::unpack::{Options, Owners, unpack};
use pannier_layer::{Compression, Digest};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Node {
    File(Vec<u8>, u32),
    Link(String),
    Dir(BTreeMap<String, Node>, u32),
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c.]{1,3}", "[a-z]{90,110}", "[a-z]{150,255}", "[äß語x]{1,60}", "[ -.0-~\n]{1,20}",]
        .prop_filter("a name of its own", |name| name != "." && name != ".." && !name.starts_with(".wh."))
}

fn node() -> impl Strategy<Value = Node> {
    let mode = prop::sample::select(vec![0o644u32, 0o755, 0o600, 0o4755, 0o2755, 0o1777]);
    let dir_mode = prop::sample::select(vec![0o755u32, 0o700, 0o1777]);
    let leaf = prop_oneof![
        (prop::collection::vec(any::<u8>(), 0..2000), mode).prop_map(|(bytes, mode)| Node::File(bytes, mode)),
        "[a-z./ü]{1,200}".prop_map(Node::Link),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        (prop::collection::btree_map(name(), inner, 0..6), dir_mode.clone())
            .prop_map(|(children, mode)| Node::Dir(children, mode))
    })
}

fn make(path: &Path, node: &Node) {
    match node {
        Node::Link(target) => return symlink(target, path).unwrap(),
        Node::File(bytes, _) => fs_err::write(path, bytes).unwrap(),
        Node::Dir(children, _) => {
            fs_err::create_dir(path).unwrap();
            children.iter().for_each(|(name, child)| make(&path.join(name), child));
        }
    }
    if let Node::File(_, mode) | Node::Dir(_, mode) = node {
        fs_err::set_permissions(path, PermissionsExt::from_mode(*mode)).unwrap();
    }
}

fn check(path: &Path, node: &Node) {
    let meta = fs_err::symlink_metadata(path).unwrap();
    assert_eq!(meta.mtime(), pack::MTIME, "{path:?}");
    match node {
        Node::Link(target) => assert_eq!(fs_err::read_link(path).unwrap(), Path::new(target)),
        Node::File(bytes, mode) => {
            assert!(fs_err::read(path).unwrap() == *bytes, "{path:?}");
            assert_eq!(meta.mode() & 0o7777, *mode, "{path:?}");
        }
        Node::Dir(children, mode) => {
            assert_eq!(meta.mode() & 0o7777, *mode, "{path:?}");
            assert_eq!(fs_err::read_dir(path).unwrap().count(), children.len(), "{path:?}");
            children.iter().for_each(|(name, child)| check(&path.join(name), child));
        }
    }
}

fn compression() -> impl Strategy<Value = Compression> {
    prop::sample::select(vec![
        Compression::Gzip(1),
        Compression::Gzip(9),
        Compression::Zstd(1),
        Compression::None,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn trees_come_back(
        children in prop::collection::btree_map(name(), node(), 0..6),
        compression in compression(),
        uid in prop::sample::select(vec![0u32, 1000, 2_097_152, 4_000_000_000]),
    ) {
        let temp = tempfile::tempdir().unwrap();
        let root = Node::Dir(children, 0o755);
        let (dir, dest) = (temp.path().join("tree"), temp.path().join("dest"));
        make(&dir, &root);
        let name = Path::new("/workspace");
        let tree = Tree { parents: Some(Vec::new()), ..Tree::new(&dir, name) };
        let options = pack::Options { compression, ..pack::Options::default() };
        let mut layer = Vec::new();
        let packed = pack::pack_tree(&options, &mut layer, &tree, Ids::tree(uid, uid)).unwrap();
        let options = Options { owners: Owners::Ours, diff_id: Some(packed.diff_id), ..Options::default() };
        let unpacked = unpack(&layer[..], &dest, &options).unwrap();
        prop_assert_eq!(unpacked.entries, packed.entries);
        prop_assert_eq!(packed.digest, Digest::of(&layer));
        check(&dest.join("workspace"), &root);
        // A single slice without patterns is the tree in the order of whole paths: as large, and with as many entries.
        let slices = Slices::new(&dir, &[]).unwrap();
        let sliced = pack::hash(&|_| (), |tar| slices.add(0, tar, &tree, Ids::tree(uid, uid))).unwrap();
        prop_assert_eq!((sliced.entries, sliced.tar_size), (packed.entries, packed.tar_size));
    }

    /// However a tree is sliced, each file is in one layer, and the layers together are the tree.
    #[test]
    fn slices_together_are_the_tree(
        children in prop::collection::btree_map("[a-c.]{1,3}".prop_filter("", |n| n != "." && n != ".."), node(), 0..6),
        patterns in prop::collection::vec(
            prop::collection::vec(prop::sample::select(vec!["*", "a*", "*/*", "[a-b]", "?", "../x", ".", "c/*"]), 0..3),
            0..4,
        ),
    ) {
        let temp = tempfile::tempdir().unwrap();
        let root = Node::Dir(children, 0o755);
        let dir = temp.path().join("tree");
        make(&dir, &root);
        let tree = Tree { parents: Some(Vec::new()), ..Tree::new(&dir, Path::new("/workspace")) };
        let patterns: Vec<Vec<String>> =
            patterns.into_iter().map(|slice| slice.into_iter().map(str::to_owned).collect()).collect();
        let slices = Slices::new(&dir, &patterns).unwrap();
        prop_assert_eq!(slices.len(), patterns.len() + 1);
        let dest = temp.path().join("dest");
        let options = Options { owners: Owners::Ours, ..Options::default() };
        for index in 0..slices.len() {
            let mut layer = Vec::new();
            let fill = |tar: &mut pack::Tar<'_, '_>| slices.add(index, tar, &tree, Ids::tree(1, 1));
            pack::pack(&pack::Options::default(), &mut layer, fill).unwrap();
            unpack(&layer[..], &dest, &options).unwrap();
        }
        check(&dest.join("workspace"), &root);
    }
}
