//! Uppers of real overlays, put together with their lowers.
#![allow(clippy::print_stderr)] // to say what is skipped and why

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use pannier_layer::overlay::{Reduced, UpperState, apply, link_tree, reduce, same, state, strip};
use pannier_layer::pack::{self, Ids, Parent, Tree, Upper, UpperOwners, hash};
use pannier_layer::unpack::{Owners, unpack};
use pannier_layer::{CopyOptions, Digest, copy_tree};

/// A lower, and what an upper makes of it.
struct Stack {
    temp: tempfile::TempDir,
}

impl Stack {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join("lower/bp/layer").join(name);
        fs_err::create_dir_all(at("bin")).unwrap();
        fs_err::create_dir_all(at("lib/deep/er")).unwrap();
        fs_err::write(at("bin/run"), "#!/bin/sh\n").unwrap();
        fs_err::set_permissions(at("bin/run"), PermissionsExt::from_mode(0o755)).unwrap();
        fs_err::write(at("lib/a.so"), "a".repeat(300_000)).unwrap();
        fs_err::write(at("lib/deep/er/x"), "x").unwrap();
        fs_err::write(at("lib/deep/y"), "y").unwrap();
        symlink("lib/a.so", at("current")).unwrap();
        for name in ["upper", "work", "merged"] {
            fs_err::create_dir(temp.path().join(name)).unwrap();
        }
        Self { temp }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// Runs a script in the mounted overlay, in its layer's folder, and copies what it left to `expected`. False when
    /// this user may not mount one.
    fn run(&self, script: &str) -> bool {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        let mount = "mount -t overlay overlay \
            -o userxattr,lowerdir=lower,upperdir=upper,workdir=work merged || exit 77";
        // The kernel leaves a folder that only root can remove.
        let after = "cp -a merged expected; chmod 700 work/work";
        command.args(["--mount", "sh", "-ec"]);
        command.arg(format!("{mount}\n(cd merged/bp/layer\n{script}\n)\n{after}\n"));
        let output = command.current_dir(self.temp.path()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => true,
            _ if error.contains("unshare failed") || output.status.code() == Some(77) => {
                eprintln!("skipped: no overlay can be mounted here: {error}");
                false
            }
            code => panic!("{script}: {code:?}: {error}"),
        }
    }
}

/// What a layer made of the tree would be.
fn content(dir: &Path) -> Digest {
    let name = Path::new("/layers/bp/layer");
    let parents = Some(vec![Parent { mode: 0o755, uid: 0, gid: 0 }; 2]);
    let tree = Tree { parents, ..Tree::new(dir, name) };
    hash(&|_| (), |tar| tar.tree(&tree, Ids::tree(1, 1))).unwrap().diff_id
}

/// The entries of a tree that have an attribute of overlayfs.
fn attributes(path: &Path) -> Vec<PathBuf> {
    let mut names = [0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap();
    let mut found = Vec::new();
    if names[..length].starts_with(b"user.overlay.") {
        found.push(path.to_owned());
    }
    if fs_err::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs_err::read_dir(path).unwrap() {
            found.extend(attributes(&entry.unwrap().path()));
        }
    }
    found
}

const LAYER: &str = "bp/layer";

/// Scripts that leave the layer as it was, as far as a layer goes.
const UNCHANGED: &[&str] = &[
    ": > /dev/null",
    "touch lib/a.so",
    "touch bin lib/deep",
    "chmod 600 bin/run; chmod 755 bin/run",
    "cat lib/a.so > /tmp/a.$$; cat /tmp/a.$$ > lib/a.so; rm /tmp/a.$$",
    "echo new > lib/new; rm lib/new",
    "mkdir -p lib/d/e; rm -r lib/d",
    "rm lib/deep/y; printf y > lib/deep/y",
    "rm current; ln -s lib/a.so current",
    "rm -r lib/deep; mkdir -p lib/deep/er; printf x > lib/deep/er/x; printf y > lib/deep/y",
    "mv bin/run bin/other; mv bin/other bin/run",
];

/// Scripts that change it.
const CHANGED: &[&str] = &[
    "echo more >> lib/a.so",
    "printf b | dd of=lib/a.so conv=notrunc bs=1 seek=1000 2>/dev/null",
    "chmod 644 bin/run",
    "chmod 700 lib/deep",
    "chmod 711 .",
    "rm lib/a.so",
    "rm -r lib",
    "rm -r lib; mkdir lib; echo 1 > lib/only",
    "rm -r lib/deep; mkdir -p lib/deep/er; printf x > lib/deep/er/x",
    "mkdir -p new/dir; echo 1 > new/dir/f; ln new/dir/f new/dir/g",
    "rm bin/run; mkdir bin/run; echo 1 > bin/run/x",
    "rm -r bin; echo 1 > bin",
    "ln -sf elsewhere current",
    "rm current; cp lib/a.so current",
    "ln lib/a.so lib/b.so",
    "mv bin/run bin/other",
    "mkfifo lib/pipe",
    "rm -r lib/deep; ln -s ../bin lib/deep",
    "mkdir lib/t; echo 1 > lib/t/f; rm -r lib/deep; mv lib/t lib/deep",
];

#[test]
fn unchanged_is_told_from_changed() {
    for (scripts, expected) in [(UNCHANGED, true), (CHANGED, false)] {
        for script in scripts {
            let stack = Stack::new();
            if !stack.run(script) {
                return;
            }
            let (upper, lower) = (stack.at("upper").join(LAYER), stack.at("lower").join(LAYER));
            let found = match state(&stack.at("upper"), Path::new(LAYER)).unwrap() {
                UpperState::Untouched => true,
                UpperState::Merged => same(&upper, &lower).unwrap(),
                other => panic!("{script}: {other:?}"),
            };
            assert_eq!(found, expected, "{script}");
            let now = content(&stack.at("expected").join(LAYER));
            assert_eq!(content(&lower) == now, expected, "the test's own idea of {script}");
        }
    }
}

#[test]
fn an_upper_applied_is_what_the_overlay_showed() {
    for script in UNCHANGED.iter().chain(CHANGED) {
        let stack = Stack::new();
        if !stack.run(script) {
            return;
        }
        let (upper, lower) = (stack.at("upper").join(LAYER), stack.at("lower").join(LAYER));
        let before = content(&lower);
        let new = stack.at("new");
        link_tree(&lower, &new).unwrap();
        assert_eq!(content(&new), before);
        if upper.exists() {
            apply(&upper, &new).unwrap();
        }
        assert_eq!(content(&new), content(&stack.at("expected").join(LAYER)), "{script}");
        assert_eq!(content(&lower), before, "{script} changed the lower");
        assert_eq!(attributes(&new), Vec::<PathBuf>::new(), "{script}");
    }
}

#[test]
fn a_linked_tree_shares_files_and_not_directories() {
    let stack = Stack::new();
    let (lower, new) = (stack.at("lower").join(LAYER), stack.at("new"));
    link_tree(&lower, &new).unwrap();
    let inode = |dir: &Path, name: &str| fs_err::symlink_metadata(dir.join(name)).unwrap().ino();
    assert_eq!(inode(&lower, "lib/a.so"), inode(&new, "lib/a.so"));
    assert_eq!(inode(&lower, "current"), inode(&new, "current"));
    assert_ne!(inode(&lower, "lib"), inode(&new, "lib"));
}

#[test]
fn states_of_paths() {
    let script =
        "cd ..; rm -r layer; mkdir layer; echo 1 > layer/x; mkdir other; cd ..; mkdir bp2; echo 1 > bp2/f";
    let stack = Stack::new();
    fs_err::create_dir_all(stack.at("lower/gone/layer")).unwrap();
    fs_err::create_dir_all(stack.at("lower/again/layer")).unwrap();
    fs_err::create_dir_all(stack.at("lower/kept/layer")).unwrap();
    if !stack.run(&format!("{script}; rm -r gone; rm -r again; mkdir -p again; touch kept/layer")) {
        return;
    }
    let upper = stack.at("upper");
    let state = |path: &str| state(&upper, Path::new(path)).unwrap();
    assert_eq!(state("bp/layer"), UpperState::Whole);
    assert_eq!(state("bp/layer/lib"), UpperState::Deleted);
    assert_eq!(state("bp"), UpperState::Merged);
    assert_eq!(state("kept/layer"), UpperState::Merged);
    assert_eq!(state("nothing/layer"), UpperState::Untouched);
    for path in ["gone", "gone/layer", "again/layer", "bp2/f/layer"] {
        assert_eq!(state(path), UpperState::Deleted, "{path}");
    }
    // A whole directory moves as it is, and is an ordinary one then.
    let to = stack.at("moved");
    fs_err::rename(upper.join("bp/layer"), &to).unwrap();
    assert_eq!(attributes(&to), [to.as_path()]);
    strip(&to).unwrap();
    assert_eq!(attributes(&to), Vec::<PathBuf>::new());
    assert_eq!(content(&to), content(&stack.at("expected/bp/layer")));
    let copy = stack.at("copy");
    copy_tree(&to, &copy, &CopyOptions::default()).unwrap();
    assert!(same(&copy, &to).unwrap());
}

/// An upper packed, and unpacked as a layer of its own, shows the same on the same lower.
#[test]
fn an_upper_packed_is_a_layer_that_does_the_same() {
    for script in UNCHANGED.iter().chain(CHANGED) {
        let stack = Stack::new();
        if !stack.run(script) {
            return;
        }
        let mut layer = Vec::new();
        let reduced = reduce(&stack.at("upper"), &stack.at("lower"), None).unwrap();
        let upper = Upper { dir: &stack.at("upper"), owners: UpperOwners::OnDisk };
        let packed = pack::pack(&pack::Options::default(), &mut layer, |tar| tar.upper(&upper)).unwrap();
        assert_eq!(packed.entries, reduced.entries, "{script}");
        let options = pannier_layer::unpack::Options { owners: Owners::Ours, ..Default::default() };
        unpack(&layer[..], &stack.at("unpacked"), &options).unwrap();
        // Stacked by the rules that are tested against real overlays above.
        let (lower, new) = (stack.at("lower"), stack.at("new"));
        link_tree(&lower, &new).unwrap();
        apply(&stack.at("unpacked"), &new).unwrap();
        assert_eq!(content(&new.join(LAYER)), content(&stack.at("expected").join(LAYER)), "{script}");
    }
}

#[test]
fn a_packed_upper_keeps_links_and_attributes() {
    let stack = Stack::new();
    let upper = stack.at("upper");
    fs_err::write(upper.join("a"), "content").unwrap();
    fs_err::hard_link(upper.join("a"), upper.join("b")).unwrap();
    rustix::fs::setxattr(upper.join("a"), "user.note", b"kept", rustix::fs::XattrFlags::empty()).unwrap();
    rustix::fs::setxattr(upper.join("a"), "user.overlay.origin", b"x", rustix::fs::XattrFlags::empty())
        .unwrap();
    reduce(&upper, &stack.at("lower"), None).unwrap();
    let mut layer = Vec::new();
    let from = Upper { dir: &upper, owners: UpperOwners::Recorded { uid: 0, gid: 0 } };
    let packed = pack::pack(&pack::Options::default(), &mut layer, |tar| tar.upper(&from)).unwrap();
    assert_eq!(packed.entries, 2);
    let options = pannier_layer::unpack::Options { owners: Owners::Ours, ..Default::default() };
    let to = stack.at("unpacked");
    unpack(&layer[..], &to, &options).unwrap();
    let inode = |name: &str| fs_err::symlink_metadata(to.join(name)).unwrap().ino();
    assert_eq!(inode("a"), inode("b"));
    let mut value = [0; 16];
    assert_eq!(rustix::fs::getxattr(to.join("a"), "user.note", &mut value), Ok(4));
    assert_eq!(attributes(&to), Vec::<PathBuf>::new());
}

/// A layer's entries as `tar` lists them, names only.
fn names(layer: &[u8]) -> Vec<String> {
    use std::io::Write as _;
    let mut child = Command::new("tar")
        .args(["-tzPf", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(layer).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// What a script leaves in a layer: only what it changed, and nothing for what it put back.
#[test]
fn a_reduced_upper_has_only_changes() {
    let cases: &[(&str, &[&str])] = &[
        ("touch lib/a.so", &[]),
        ("touch bin lib/deep", &[]),
        ("cat lib/a.so > /tmp/a.$$; cat /tmp/a.$$ > lib/a.so; rm /tmp/a.$$", &[]),
        ("echo new > lib/new; rm lib/new", &[]),
        ("mv bin/run bin/other; mv bin/other bin/run", &[]),
        ("rm current; ln -s lib/a.so current", &[]),
        ("echo 1 > lib/deep/er/new", &["/bp/layer/lib/deep/er/new"]),
        ("rm lib/deep/y", &["/bp/layer/lib/deep/.wh.y"]),
        ("mkdir lib/d; echo 1 > lib/d/f", &["/bp/layer/lib/d", "/bp/layer/lib/d/f"]),
        ("chmod 700 lib/deep", &["/bp/layer/lib/deep"]),
        ("rm -r lib/deep; mkdir lib/deep", &["/bp/layer/lib/deep", "/bp/layer/lib/deep/.wh..wh..opq"]),
        ("rm bin/run; mkdir bin/run", &["/bp/layer/bin/run"]),
        ("ln lib/a.so lib/b.so", &["/bp/layer/lib/a.so", "/bp/layer/lib/b.so"]),
        ("rm current; ln -s lib current", &["/bp/layer/current"]),
    ];
    for (script, expected) in cases {
        let stack = Stack::new();
        if !stack.run(script) {
            return;
        }
        let reduced = reduce(&stack.at("upper"), &stack.at("lower"), None).unwrap();
        let upper = Upper { dir: &stack.at("upper"), owners: UpperOwners::OnDisk };
        let mut layer = Vec::new();
        pack::pack(&pack::Options::default(), &mut layer, |tar| tar.upper(&upper)).unwrap();
        assert_eq!(names(&layer), *expected, "{script}");
        assert_eq!(reduced.entries, expected.len() as u64, "{script}");
        if expected.is_empty() {
            assert_eq!(reduced, Reduced::default());
            assert_eq!(fs_err::read_dir(stack.at("upper")).unwrap().count(), 0, "{script}");
        }
    }
}

/// Where the disk cannot say whose a file is, it is written beside it, from one layer to the next.
#[test]
fn owners_are_recorded_where_there_is_one_id() {
    let stack = Stack::new();
    let upper = stack.at("upper");
    fs_err::create_dir(upper.join("d")).unwrap();
    fs_err::write(upper.join("d/theirs"), "1").unwrap();
    fs_err::write(upper.join("d/own"), "2").unwrap();
    symlink("own", upper.join("d/link")).unwrap();
    let theirs = fs_err::File::open(upper.join("d/theirs")).unwrap();
    pannier_layer::record_owner(std::os::fd::AsFd::as_fd(&theirs), 7, 8).unwrap();
    reduce(&upper, &stack.at("lower"), Some((1000, 1001))).unwrap();
    let from = Upper { dir: &upper, owners: UpperOwners::Recorded { uid: 1000, gid: 1001 } };
    let mut layer = Vec::new();
    pack::pack(&pack::Options::default(), &mut layer, |tar| tar.upper(&from)).unwrap();
    let options = pannier_layer::unpack::Options { owners: Owners::Ours, ..Default::default() };
    let to = stack.at("unpacked");
    unpack(&layer[..], &to, &options).unwrap();
    // Unpacked, the records are there again, so packing it gives the same.
    let mut again = Vec::new();
    let from = Upper { dir: &to, ..from };
    pack::pack(&pack::Options::default(), &mut again, |tar| tar.upper(&from)).unwrap();
    assert!(layer == again);
    let mut value = [0; 32];
    let length = rustix::fs::getxattr(to.join("d/theirs"), "user.pannier.owner", &mut value).unwrap();
    assert_eq!(&value[..length], b"7:8");
    let length = rustix::fs::getxattr(to.join("d/own"), "user.pannier.owner", &mut value).unwrap();
    assert_eq!(&value[..length], b"1000:1001");
}
