//! The build cache under real overlays, and under a build that is killed.
#![allow(clippy::print_stderr)] // to say what is skipped and why

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cnb::layer::LayerTypes;
use fs_err as fs;
use layer::pack::{Ids, Parent, Tree, hash};
use pannier_lifecycle::cache::{Cache, Change, Commit, CommitBuildpack, CommitLayer, Contents};

const ID: &str = "acme/java";

fn commit(cache: &mut Cache, layers: Vec<(&str, Contents)>) {
    let layers = layers.into_iter().map(|(name, contents)| CommitLayer {
        name,
        types: LayerTypes { cache: true, ..LayerTypes::default() },
        metadata: None,
        known: None,
        made_as: "",
        contents,
    });
    let buildpacks = vec![CommitBuildpack { id: ID, version: "1", store: None, layers: layers.collect() }];
    cache.commit(&Commit { buildpacks, sbom: None }).unwrap();
}

/// Runs a build's script in an overlay of the cache's lowers, in `<layers>`. None where none can be mounted; else the
/// upper, and a copy of what the layers folder showed.
fn build(cache: &Cache, layers: &[(&str, &str)], script: &str) -> Option<(PathBuf, PathBuf)> {
    let scratch = cache.scratch();
    for entry in fs::read_dir(&scratch).unwrap() {
        fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
    for name in ["upper", "work", "merged", "empty"] {
        fs::create_dir(scratch.join(name)).unwrap();
    }
    let mut lowers = cache.lowers(layers.iter().copied());
    lowers.push(scratch.join("empty"));
    let lowers: Vec<_> = lowers.iter().map(|lower| lower.to_str().unwrap()).collect();
    let mut command = Command::new("unshare");
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let mount = format!(
        "mount -t overlay overlay -o userxattr,lowerdir={},upperdir=upper,workdir=work merged || exit 77",
        lowers.join(":")
    );
    let after = "cp -a merged shown; chmod 700 work/work";
    command.args(["--mount", "sh", "-ec", &format!("{mount}\n(cd merged\n{script}\n)\n{after}")]);
    let output = command.current_dir(&scratch).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) || error.contains("unshare failed") {
        eprintln!("skipped: no overlay can be mounted here: {error}");
        return None;
    }
    assert!(output.status.success(), "{script}: {error}");
    Some((scratch.join("upper"), scratch.join("shown")))
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// What a layer of that tree would be.
fn diff_id(dir: &Path) -> layer::Digest {
    let parents = Some(vec![Parent { mode: 0o755, uid: 0, gid: 0 }; 2]);
    let tree = Tree { parents, ..Tree::new(dir, Path::new("/layers/acme_java/x")) };
    hash(&|_| (), |tar| tar.tree(&tree, Ids::tree(1, 1))).unwrap().diff_id
}

/// A build: its script, what was restored for it, and what it did with the layers `jdk` and `maven`.
type Step<'a> = (&'a str, &'a [(&'a str, &'a str)], [Change; 2]);

/// Builds, one after the other, and after each the cache holds what its layers folder showed.
#[test]
fn builds_on_overlays() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("cache");
    let make = "mkdir -p acme_java/jdk/bin acme_java/jdk/lib acme_java/maven; echo java > acme_java/jdk/bin/java
        seq 50000 > acme_java/jdk/lib/modules; ln -s bin/java acme_java/jdk/link; echo a > acme_java/maven/a.jar";
    let all: &[(&str, &str)] = &[(ID, "jdk"), (ID, "maven")];
    let steps: &[Step<'_>] = &[
        (make, &[], [Change::New, Change::New]),
        (":", all, [Change::Unchanged, Change::Unchanged]),
        ("cat acme_java/jdk/bin/java >> /dev/null; echo 2 > acme_java/jdk.toml", all, [Change::Unchanged; 2]),
        ("touch acme_java/jdk/lib/modules", all, [Change::Unchanged, Change::Unchanged]),
        ("echo b > acme_java/maven/b.jar", all, [Change::Unchanged, Change::Changed]),
        (
            "rm acme_java/maven/a.jar; chmod 700 acme_java/jdk/bin/java",
            all,
            [Change::Changed, Change::Changed],
        ),
        (
            "rm -r acme_java/maven; mkdir acme_java/maven; echo b > acme_java/maven/b.jar",
            all,
            [Change::Unchanged; 2],
        ),
        (
            "rm -r acme_java/jdk; mkdir acme_java/jdk; echo new > acme_java/jdk/f",
            all,
            [Change::New, Change::Unchanged],
        ),
        ("echo x > acme_java/jdk/f; rm -r acme_java/maven", all, [Change::Changed, Change::Gone]),
        (
            "mkdir acme_java/maven; echo 1 > acme_java/maven/1",
            &[(ID, "jdk")],
            [Change::Unchanged, Change::New],
        ),
        (
            "rm -r acme_java; mkdir -p acme_java/jdk; echo 9 > acme_java/jdk/9",
            all,
            [Change::New, Change::Gone],
        ),
        (&format!("rm -rf acme_java; {make}"), &[(ID, "jdk")], [Change::New, Change::New]),
    ];
    for (number, (script, restored, expected)) in steps.iter().enumerate() {
        let mut cache = Cache::open(&dir).unwrap();
        assert_eq!(cache.discarded(), None);
        let Some((upper, shown)) = build(&cache, restored, script) else { return };
        let mut layers = Vec::new();
        for (name, expected) in ["jdk", "maven"].into_iter().zip(expected) {
            let was_restored = restored.contains(&(ID, name));
            let change = cache.change(&upper, ID, name, was_restored).unwrap();
            assert_eq!(change, *expected, "{name} in step {number}: {script}");
            let in_upper = upper.join("acme_java").join(name);
            match change {
                Change::Unchanged => layers.push((name, Contents::Cached)),
                Change::Changed => layers.push((name, Contents::Upper(in_upper))),
                Change::New => layers.push((name, Contents::Whole(in_upper))),
                Change::Gone => assert!(!shown.join("acme_java").join(name).exists()),
            }
        }
        let names: Vec<_> = layers.iter().map(|(name, _)| *name).collect();
        commit(&mut cache, layers);
        for name in names {
            let tree = cache.lowers([(ID, name)]).remove(0).join("acme_java").join(name);
            let shown = shown.join("acme_java").join(name);
            assert_eq!(diff_id(&tree), diff_id(&shown), "{name} in step {number}: {script}");
        }
    }
}

const LAYERS: [&str; 3] = ["a", "b", "c"];
const FILES: usize = 20;

/// Not a test: what the next test runs and kills. Each build gives all files of all layers its number.
#[test]
#[ignore = "run by a_killed_build_leaves_the_old_cache_or_the_new_one"]
fn builds_until_it_is_killed() {
    let Ok(dir) = std::env::var("CACHE_TO_BUILD") else { return };
    let dir = Path::new(&dir);
    for number in 0u64.. {
        let mut cache = Cache::open(dir).unwrap();
        // Whole layers and parts of layers in turn.
        build_all(&mut cache, &format!("{}-{number}", std::process::id()), number % 2 == 0);
    }
}

fn build_all(cache: &mut Cache, text: &str, partly: bool) {
    let upper = cache.scratch().join("upper/acme_java");
    let mut layers = Vec::new();
    for name in LAYERS {
        for file in 0..FILES {
            fs::create_dir_all(upper.join(name).join(format!("d{}", file % 3))).unwrap();
            fs::write(upper.join(name).join(format!("d{}/{file}", file % 3)), text).unwrap();
        }
        let path = upper.join(name);
        layers.push((name, if partly { Contents::Upper(path) } else { Contents::Whole(path) }));
    }
    commit(cache, layers);
}

#[test]
fn a_killed_build_leaves_the_old_cache_or_the_new_one() {
    let temp = tempfile::tempdir().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    build_all(&mut Cache::open(temp.path()).unwrap(), "first", false);
    for round in 0..50u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "builds_until_it_is_killed", "--ignored"])
            .env("CACHE_TO_BUILD", temp.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // However slow the machine is, a build has ended before the next one is killed, at moments all over it.
        let before = index(temp.path());
        let start = Instant::now();
        while index(temp.path()) == before && start.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(round * 1_700 % 23_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let cache = Cache::open(temp.path()).unwrap();
        assert_eq!(cache.discarded(), None);
        let lowers = cache.lowers(LAYERS.map(|name| (ID, name)));
        assert_eq!(lowers.len(), LAYERS.len());
        let mut numbers = std::collections::BTreeSet::new();
        for (lower, name) in lowers.iter().zip(LAYERS) {
            for file in 0..FILES {
                let path = lower.join("acme_java").join(name).join(format!("d{}/{file}", file % 3));
                numbers.insert(fs::read_to_string(path).unwrap());
            }
        }
        assert_eq!(numbers.len(), 1, "a mixture of builds: {numbers:?}");
        seen.extend(numbers);
        let trees = fs::read_dir(temp.path().join("trees")).unwrap().count();
        assert_eq!(trees, lowers.len(), "leftovers are swept");
    }
    assert_eq!(seen.len(), 50, "every round ended a build: {seen:?}");
}

/// Which file the index is.
fn index(dir: &Path) -> (u64, i64) {
    let meta = fs::metadata(dir.join("cache.json")).unwrap();
    (meta.ino(), meta.mtime_nsec())
}
