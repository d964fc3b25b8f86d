use std::os::unix::fs::symlink;

use cnb::layer::LayerTypes;

use super::*;

const ID: &str = "acme/java";

/// A cache, and a folder in place of an upper.
struct Bench {
    temp: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { temp: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> Cache {
        Cache::open(&self.temp.path().join("cache")).unwrap()
    }

    /// An empty upper.
    fn upper(&self) -> PathBuf {
        let upper = self.temp.path().join("upper");
        if upper.exists() {
            fs::remove_dir_all(&upper).unwrap();
        }
        fs::create_dir_all(upper.join("acme_java")).unwrap();
        upper
    }

    fn cache_dir(&self) -> PathBuf {
        self.temp.path().join("cache")
    }
}

fn write(path: impl AsRef<Path>, text: &str) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn layer<'a>(name: &'a str, contents: Contents) -> CommitLayer<'a> {
    CommitLayer {
        name,
        types: LayerTypes { cache: true, ..LayerTypes::default() },
        metadata: None,
        known: None,
        made_as: "1000:1000",
        contents,
    }
}

fn commit(cache: &mut Cache, layers: Vec<CommitLayer<'_>>) {
    let buildpacks = vec![CommitBuildpack { id: ID, version: "1", store: None, layers }];
    cache.commit(&Commit { buildpacks, sbom: None }).unwrap();
}

/// A first build that leaves the layers `jdk` and `maven`.
fn first(bench: &Bench) -> Cache {
    let upper = bench.upper();
    write(upper.join("acme_java/jdk/bin/java"), "java");
    write(upper.join("acme_java/jdk/lib/modules"), "modules");
    write(upper.join("acme_java/maven/repo/a.jar"), "a");
    let mut cache = bench.open();
    for name in ["jdk", "maven"] {
        assert_eq!(cache.change(&upper, ID, name, false).unwrap(), Change::New);
    }
    assert_eq!(cache.change(&upper, ID, "none", false).unwrap(), Change::Gone);
    let whole = |name| layer(name, Contents::Whole(upper.join("acme_java").join(name)));
    commit(&mut cache, vec![whole("maven"), whole("jdk")]);
    cache
}

#[test]
fn new_layers_move_into_the_cache_and_come_back_as_lowers() {
    let bench = Bench::new();
    let cache = first(&bench);
    assert!(!bench.temp.path().join("upper/acme_java/jdk").exists(), "moved, not copied");
    drop(cache);
    let cache = bench.open();
    assert_eq!(cache.discarded(), None);
    let lowers = cache.lowers([(ID, "jdk"), (ID, "maven"), (ID, "none"), ("other", "jdk")]);
    assert_eq!(lowers.len(), 2);
    assert_eq!(fs::read_to_string(lowers[0].join("acme_java/jdk/bin/java")).unwrap(), "java");
    assert!(!lowers[0].join("acme_java/maven").exists());
    assert_eq!(fs::read_to_string(lowers[1].join("acme_java/maven/repo/a.jar")).unwrap(), "a");
    let metadata = cache.metadata();
    let names: Vec<_> = metadata.buildpack(ID).unwrap().layers.keys().collect();
    assert_eq!(names, ["jdk", "maven"]);
}

#[test]
fn a_build_that_changes_nothing_writes_nothing() {
    let bench = Bench::new();
    let mut cache = first(&bench);
    let lowers = cache.lowers([(ID, "jdk"), (ID, "maven")]);
    let index = bench.cache_dir().join("cache.json");
    let before = fs::metadata(&index).unwrap().ino();
    let upper = bench.upper();
    for name in ["jdk", "maven"] {
        assert_eq!(cache.change(&upper, ID, name, true).unwrap(), Change::Unchanged);
    }
    commit(&mut cache, vec![layer("jdk", Contents::Cached), layer("maven", Contents::Cached)]);
    assert_eq!(fs::metadata(&index).unwrap().ino(), before);
    assert_eq!(cache.lowers([(ID, "jdk"), (ID, "maven")]), lowers);
}

#[test]
fn a_changed_layer_becomes_a_new_tree() {
    let bench = Bench::new();
    let mut cache = first(&bench);
    let old = cache.lowers([(ID, "jdk")]).remove(0);
    let upper = bench.upper();
    write(upper.join("acme_java/jdk/lib/modules"), "modules");
    assert_eq!(cache.change(&upper, ID, "jdk", true).unwrap(), Change::Unchanged);
    write(upper.join("acme_java/jdk/lib/modules"), "other");
    write(upper.join("acme_java/jdk/lib/more"), "more");
    assert_eq!(cache.change(&upper, ID, "jdk", true).unwrap(), Change::Changed);
    assert_eq!(cache.change(&upper, ID, "maven", true).unwrap(), Change::Unchanged);
    commit(&mut cache, vec![layer("jdk", Contents::Upper(upper.join("acme_java/jdk")))]);
    let new = cache.lowers([(ID, "jdk")]).remove(0);
    let text = |path: &str| fs::read_to_string(new.join("acme_java/jdk").join(path)).unwrap();
    assert_eq!((text("lib/modules").as_str(), text("lib/more").as_str()), ("other", "more"));
    assert_eq!(text("bin/java"), "java");
    assert!(!old.exists(), "the old tree is gone");
    assert_eq!(cache.lowers([(ID, "maven")]).len(), 0, "what was not named is gone");
    assert_eq!(fs::read_dir(bench.cache_dir().join("trees")).unwrap().count(), 1);
}

#[test]
fn an_error_leaves_the_cache_as_it_was() {
    let bench = Bench::new();
    let mut cache = first(&bench);
    let before = cache.metadata();
    let upper = bench.upper();
    write(upper.join("acme_java/new/x"), "x");
    let good = layer("new", Contents::Whole(upper.join("acme_java/new")));
    let bad = layer("bad", Contents::Whole(upper.join("acme_java/none")));
    let buildpacks = vec![CommitBuildpack { id: ID, version: "2", store: None, layers: vec![good, bad] }];
    assert!(cache.commit(&Commit { buildpacks, sbom: None }).is_err());
    for name in ["..", "a/b", ""] {
        let bad = layer(name, Contents::Cached);
        let buildpacks = vec![CommitBuildpack { id: ID, version: "2", store: None, layers: vec![bad] }];
        let error = cache.commit(&Commit { buildpacks, sbom: None }).unwrap_err();
        assert!(matches!(error, CacheError::BadName { .. }));
    }
    assert_eq!(cache.metadata(), before);
    drop(cache);
    let cache = bench.open();
    assert_eq!(cache.metadata(), before);
    assert_eq!(fs::read_dir(bench.cache_dir().join("trees")).unwrap().count(), 2, "leftovers are swept");
}

#[test]
fn copies_are_their_own_files_and_changes_of_them_show() {
    let bench = Bench::new();
    let mut cache = first(&bench);
    let layers = bench.temp.path().join("layers");
    fs::create_dir(&layers).unwrap();
    let snapshot = cache.restore_copy(ID, "jdk", &layers).unwrap();
    assert_eq!(snapshot.path, layers.join("acme_java/jdk"));
    assert_eq!(Cache::change_of_copy(&snapshot).unwrap(), Change::Unchanged);
    std::thread::sleep(std::time::Duration::from_millis(12));
    write(snapshot.path.join("bin/java"), "JAVA");
    assert_eq!(Cache::change_of_copy(&snapshot).unwrap(), Change::New);
    let original = cache.lowers([(ID, "jdk")]).remove(0).join("acme_java/jdk/bin/java");
    assert_eq!(fs::read_to_string(original).unwrap(), "java");
    commit(&mut cache, vec![layer("jdk", Contents::Whole(snapshot.path.clone()))]);
    let now = cache.lowers([(ID, "jdk")]).remove(0).join("acme_java/jdk/bin/java");
    assert_eq!(fs::read_to_string(now).unwrap(), "JAVA");
    assert_eq!(Cache::change_of_copy(&snapshot).unwrap(), Change::Gone);
    assert!(matches!(cache.restore_copy(ID, "none", &layers), Err(CacheError::NoLayer { .. })));
}

#[test]
fn what_is_known_of_a_layer_comes_back() {
    let bench = Bench::new();
    let upper = bench.upper();
    write(upper.join("acme_java/jdk/x"), "x");
    write(upper.join("sbom/cache/acme_java/jdk/sbom.cdx.json"), "{}");
    let mut cache = bench.open();
    let table: toml::Table = "n = 3\nwhen = 1979-05-27T07:32:00Z\n[a.b]\nc = 1.5\n".parse().unwrap();
    let store = Store { metadata: Some("x = 1".parse().unwrap()) };
    let known = KnownLayer {
        diff_id: Digest::of(b"tar"),
        blob: Some(oci::Descriptor::new("application/x", Digest::of(b"blob"), 4)),
    };
    let jdk = CommitLayer {
        types: LayerTypes { cache: true, launch: true, build: false },
        metadata: Some(&table),
        known: Some(known.clone()),
        ..layer("jdk", Contents::Whole(upper.join("acme_java/jdk")))
    };
    let buildpacks = vec![CommitBuildpack { id: ID, version: "1.2", store: Some(&store), layers: vec![jdk] }];
    let sbom = upper.join("sbom/cache");
    cache.commit(&Commit { buildpacks, sbom: Some(&sbom) }).unwrap();
    drop(cache);
    let mut cache = bench.open();
    let metadata = cache.metadata();
    let buildpack = metadata.buildpack(ID).unwrap();
    assert_eq!((buildpack.version.as_str(), buildpack.store.as_ref()), ("1.2", Some(&store)));
    let layer_ = &buildpack.layers["jdk"];
    assert_eq!((layer_.sha.clone(), layer_.data.as_ref()), (Digest::of(b"tar").to_string(), Some(&table)));
    assert!(layer_.types.launch && layer_.types.cache && !layer_.types.build);
    assert_eq!(cache.known(ID, "jdk", "1000:1000"), Some(known));
    assert_eq!(cache.known(ID, "jdk", "0:0"), None);
    assert_eq!(cache.known(ID, "none", "1000:1000"), None);
    let expected = RestoredSbom {
        buildpack: "acme_java".to_owned(),
        layer: "jdk".to_owned(),
        file: "sbom.cdx.json".to_owned(),
        content: b"{}".to_vec(),
    };
    assert_eq!(cache.sboms().unwrap(), [expected]);
    // The same files again are the same tree.
    let trees = || fs::read_dir(bench.cache_dir().join("trees")).unwrap().count();
    let again = |cache: &mut Cache, sbom: Option<&Path>| {
        let layers = vec![layer("jdk", Contents::Cached)];
        let buildpacks = vec![CommitBuildpack { id: ID, version: "1.2", store: None, layers }];
        cache.commit(&Commit { buildpacks, sbom }).unwrap();
    };
    let before = cache.index.sbom.clone();
    again(&mut cache, Some(&sbom));
    assert_eq!((cache.index.sbom.clone(), trees()), (before, 2));
    write(sbom.join("acme_java/jdk/sbom.spdx.json"), "{}");
    again(&mut cache, Some(&sbom));
    assert_eq!((cache.sboms().unwrap().len(), trees()), (2, 2));
    again(&mut cache, None);
    assert_eq!((cache.sboms().unwrap(), trees()), (vec![], 1));
}

#[test]
fn leftovers_and_damage_are_no_errors() {
    let bench = Bench::new();
    let cache = first(&bench);
    write(cache.scratch().join("upper/x"), "x");
    write(bench.cache_dir().join("trees/99/half/made"), "x");
    drop(cache);
    let cache = bench.open();
    assert_eq!(fs::read_dir(cache.scratch()).unwrap().count(), 0);
    assert!(!bench.cache_dir().join("trees/99").exists());
    // A tree that is not there any more.
    fs::remove_dir_all(cache.lowers([(ID, "jdk")]).remove(0)).unwrap();
    drop(cache);
    let cache = bench.open();
    assert_eq!(cache.discarded(), Some("cached layers are damaged: acme/java:jdk"));
    assert_eq!(cache.metadata().buildpack(ID).unwrap().layers.len(), 1);
    drop(cache);
    // The machine stopped before a file had reached the disk.
    let index = bench.cache_dir().join("cache.json");
    let text = fs::read_to_string(&index).unwrap();
    let boot = fs::read_to_string(BOOT_ID).unwrap();
    fs::write(&index, text.replace(boot.trim(), "an earlier start")).unwrap();
    assert_eq!(bench.open().discarded(), None, "nothing was lost");
    fs::write(&index, text.replace(boot.trim(), "an earlier start")).unwrap();
    let tree = bench.open().lowers([(ID, "maven")]).remove(0);
    fs::write(tree.join("acme_java/maven/repo/a.jar"), "").unwrap();
    fs::write(&index, text.replace(boot.trim(), "an earlier start")).unwrap();
    assert_eq!(bench.open().discarded(), Some("cached layers are damaged: acme/java:maven"));
    for text in
        ["{", "{\"version\": 99, \"boot\": \"\", \"buildpacks\": []}", &text.replace("maven", "../..")]
    {
        fs::write(&index, text).unwrap();
        let cache = bench.open();
        assert!(cache.discarded().is_some(), "{text}");
        assert_eq!(cache.metadata(), CacheMetadata::default());
    }
}

#[test]
fn damage_is_found_and_repaired() {
    let bench = Bench::new();
    let cache = first(&bench);
    let dir = bench.cache_dir();
    assert_eq!(Cache::damage(&dir).unwrap(), None, "a build has it");
    let tree = cache.lowers([(ID, "maven")]).remove(0);
    drop(cache);
    assert_eq!(Cache::damage(&dir).unwrap(), Some(Vec::new()));

    fs::write(tree.join("acme_java/maven/repo/a.jar"), "longer than it was").unwrap();
    let expected = vec!["the cached layer acme/java:maven is not what it was".to_owned()];
    for _ in 0..2 {
        assert_eq!(Cache::damage(&dir).unwrap(), Some(expected.clone()), "to look changes nothing");
    }
    Cache::repair(&dir).unwrap();
    assert_eq!(Cache::damage(&dir).unwrap(), Some(Vec::new()));
    assert!(!tree.exists());
    let cache = bench.open();
    assert_eq!(cache.discarded(), None);
    assert_eq!(cache.metadata().buildpack(ID).unwrap().layers.len(), 1, "the other layer is still there");
    drop(cache);

    fs::write(dir.join("cache.json"), "{").unwrap();
    assert!(Cache::damage(&dir).unwrap().unwrap()[0].contains("cache.json is damaged"));
    Cache::repair(&dir).unwrap();
    assert_eq!(Cache::damage(&dir).unwrap(), Some(Vec::new()));
}

#[test]
fn one_build_at_a_time() {
    let bench = Bench::new();
    let cache = first(&bench);
    assert!(Cache::try_open(&bench.cache_dir()).unwrap().is_none());
    let dir = bench.cache_dir();
    let waiting = std::thread::spawn(move || Cache::open(&dir).unwrap().metadata());
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(!waiting.is_finished());
    drop(cache);
    assert_eq!(waiting.join().unwrap().buildpacks.len(), 1);
    // Waits: a program that another test is just starting has the lock until it is executed.
    let mut cache = Cache::open(&bench.cache_dir()).unwrap();
    cache.clear().unwrap();
    assert_eq!(cache.metadata(), CacheMetadata::default());
    assert_eq!(fs::read_dir(bench.cache_dir().join("trees")).unwrap().count(), 0);
}

#[test]
fn a_link_in_place_of_a_layer_is_none() {
    let bench = Bench::new();
    let cache = first(&bench);
    let upper = bench.upper();
    symlink("/etc", upper.join("acme_java/jdk")).unwrap();
    assert_eq!(cache.change(&upper, ID, "jdk", true).unwrap(), Change::Gone);
    assert_eq!(cache.change(&upper, ID, "jdk", false).unwrap(), Change::Gone);
    fs::remove_dir(upper.join("acme_java"))
        .unwrap_or_else(|_| fs::remove_dir_all(upper.join("acme_java")).unwrap());
    symlink("/etc", upper.join("acme_java")).unwrap();
    assert_eq!(cache.change(&upper, ID, "jdk", true).unwrap(), Change::Gone);
}
