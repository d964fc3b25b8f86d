use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use events::Silent;
use oci::registry::{ClientConfig, RetryPolicy};
use oci::{Owners, Sources};
use testkit::{Buildpack, Tree};

use super::*;

/// A store and all else that a loader needs.
pub(crate) struct Bench {
    pub dir: tempfile::TempDir,
    store: Store,
    client: Client,
    unpacker: Unpacker,
    platform: Platform,
    pub pull_policy: PullPolicy,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        let unpacker = Unpacker { kind: "test".to_owned(), owners: Owners::Ours };
        let retry = RetryPolicy { retries: 0, ..RetryPolicy::default() };
        let client = Client::new(ClientConfig { retry, ..ClientConfig::default() });
        Self { dir, store, client, unpacker, platform: Platform::host(), pull_policy: PullPolicy::default() }
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&Loader<'_>) -> T) -> T {
        let sources = Sources { store: self.store.clone(), client: self.client.clone() };
        work(&Loader {
            store: &self.store,
            client: &self.client,
            open: &|name| sources.open(name, &self.platform),
            platform: &self.platform,
            unpacker: &self.unpacker,
            scratch: self.dir.path(),
            pull_policy: self.pull_policy,
            events: &Silent,
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn load(&self, text: &str) -> Result<Vec<Module>, ModuleError> {
        let locator = Locator::parse(text, self.dir.path(), &()).unwrap();
        self.with(|loader| loader.load(Kind::Buildpack, &locator, self.dir.path(), NamedBy::Person))
    }

    fn load_ids(&self, text: &str) -> Vec<String> {
        self.load(text).unwrap().iter().map(|module| module.id().to_string()).collect()
    }
}

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn tgz(path: &Path, tree: Tree) {
    let mut gz = flate2::write::GzEncoder::new(fs::File::create(path).unwrap(), flate2::Compression::fast());
    gz.write_all(&tree.into_tar()).unwrap();
    gz.finish().unwrap();
}

fn archive(id: &str) -> Tree {
    let toml = format!("api = \"0.12\"\n[buildpack]\nid = \"{id}\"\nversion = \"1\"\n");
    Tree::new().file("./buildpack.toml", 0o600, toml).dir("bin", 0o700).file(
        "bin/build",
        0o600,
        "#!/bin/sh\n",
    )
}

#[test]
fn a_folder_is_copied_to_its_place_and_left_as_it_is() {
    let bench = Bench::new();
    let folder = bench.path("mine");
    Buildpack::new("me/mine", "1.2").file("lib/data", 0o600, "x").file("tool", 0o711, "x").write(&folder);
    let module = bench.load("mine").unwrap().remove(0);
    let tree = bench.path("tree");
    fs::create_dir(&tree).unwrap();
    stage(&module, &tree).unwrap();
    let place = tree.join("cnb/buildpacks/me_mine/1.2");
    assert_eq!(mode_of(&place.join("lib/data")), 0o644);
    assert_eq!(mode_of(&place.join("tool")), 0o755);
    assert_eq!(mode_of(&place.join("bin/build")), 0o755);
    assert_eq!(mode_of(&folder.join("lib/data")), 0o600);
}

#[test]
fn what_package_toml_names_comes_along() {
    let bench = Bench::new();
    let order = "[[order]]\n[[order.group]]\nid = \"leaf\"\nversion = \"1\"";
    Buildpack::composite("root", "1", order)
        .file("package.toml", 0o644, "[buildpack]\nuri = \".\"\n[[dependencies]]\nuri = \"../leaf\"\n")
        .write(&bench.path("root"));
    Buildpack::new("leaf", "1").write(&bench.path("leaf"));
    assert_eq!(bench.load_ids("root"), ["root@1", "leaf@1"]);
    // One that needs itself.
    let itself = "[[dependencies]]\nuri = \".\"\n";
    Buildpack::new("loop", "1").file("package.toml", 0o644, itself).write(&bench.path("loop"));
    let error = bench.load("loop").unwrap_err().to_string();
    assert!(error.ends_with("nested more than 8 deep"), "{error}");
}

#[test]
fn archives() {
    let bench = Bench::new();
    tgz(&bench.path("a.tgz"), archive("a"));
    fs::write(bench.path("b.tar"), archive("b").into_tar()).unwrap();
    assert_eq!(bench.load_ids("a.tgz"), ["a@1"]);
    assert_eq!(bench.load_ids("b.tar"), ["b@1"]);
    let uri = format!("file://{}", bench.path("a.tgz").display());
    let module = bench.load(&uri).unwrap().remove(0);
    let tree = bench.path("tree");
    fs::create_dir(&tree).unwrap();
    stage(&module, &tree).unwrap();
    assert_eq!(mode_of(&tree.join("cnb/buildpacks/a/1/bin/build")), 0o755);
    assert_eq!(mode_of(&tree.join("cnb/buildpacks/a/1/buildpack.toml")), 0o644);
}

#[test]
fn hostile_archives_write_nothing_elsewhere() {
    let bench = Bench::new();
    let outside = bench.path("outside");
    fs::create_dir(&outside).unwrap();
    let target = outside.display().to_string();
    let tree =
        archive("a").symlink("out", &target).file("out/x", 0o644, "x").file("../../escaped", 0o644, "x");
    tgz(&bench.path("a.tgz"), tree);
    // What matters is not how it ends but where it wrote.
    let _ = bench.load("a.tgz");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!bench.path("escaped").exists() && !bench.path("../escaped").exists());
    fs::write(bench.path("junk.tgz"), "not a tar at all").unwrap();
    assert!(matches!(bench.load("junk.tgz"), Err(ModuleError::Archive { .. })));
}

#[test]
fn packages_with_what_they_need() {
    let bench = Bench::new();
    let order = "[[order]]\n[[order.group]]\nid = \"a/leaf\"\nversion = \"1\"";
    let package = Buildpack::composite("z/root", "2", order).package(&[Buildpack::new("a/leaf", "1")]);
    testkit::Layout::new(bench.path("layout")).add("pkg", &package);
    assert_eq!(bench.load_ids("oci:layout:pkg"), ["z/root@2", "a/leaf@1"]);
    // The same as a file: a tar of the layout.
    let mut tar = tar::Builder::new(fs::File::create(bench.path("p.cnb")).unwrap().into_parts().0);
    tar.append_dir_all(".", bench.path("layout")).unwrap();
    tar.finish().unwrap();
    drop(tar);
    fs::copy(bench.path("p.cnb"), bench.path("p.tar")).unwrap();
    for file in ["p.cnb", "p.tar"] {
        let modules = bench.load(file).unwrap();
        assert_eq!(modules[0].id().to_string(), "z/root@2", "{file}");
        let leaf = Root::open(modules[1].dir()).unwrap();
        assert!(leaf.is_executable("bin/build"), "{file}");
    }
}

#[test]
fn a_package_must_be_one() {
    let bench = Bench::new();
    let layout = testkit::Layout::new(bench.path("layout"));
    let package = Buildpack::new("a", "1").package(&[]);
    layout.add("plain", &testkit::Image::new());
    layout.add(
        "other",
        &package.clone().label("io.buildpacks.buildpackage.metadata", r#"{"id":"b","version":"1"}"#),
    );
    let missing = r#"{"a":{"1":{"api":"0.12","layerDiffID":"sha256:0000"}}}"#;
    layout.add("missing", &package.clone().label("io.buildpacks.buildpack.layers", missing));
    let climbing =
        package.clone().label("io.buildpacks.buildpackage.metadata", r#"{"id":"a","version":"../1"}"#);
    let layers = "io.buildpacks.buildpack.layers";
    let diff_id = testkit::image::digest(&Buildpack::new("a", "1").layer().into_tar());
    let label = format!(r#"{{"a":{{"../a/1":{{"api":"0.12","layerDiffID":"{diff_id}"}}}}}}"#);
    layout.add("climbing", &climbing.label(layers, label));
    for (tag, expected) in [
        ("plain", "it has no label"),
        ("other", "it does not contain b@1"),
        ("missing", "it has no layer sha256:0000 for a@1"),
        ("climbing", "holds a@1, expected a@../a/1"),
    ] {
        let error = bench.load(&format!("oci:layout:{tag}")).unwrap_err().to_string();
        assert!(error.contains(expected), "{tag}: {error}");
    }
}

#[test]
fn a_descriptor_is_needed_and_its_version_is_a_name() {
    let bench = Bench::new();
    fs::create_dir(bench.path("empty")).unwrap();
    let error = bench.load("./empty").unwrap_err().to_string();
    assert!(error.ends_with("/./empty is not a buildpack: it has no buildpack.toml"), "{error}");
    Buildpack::new("a", "../../../x").write(&bench.path("climb"));
    let error = bench.load("climb").unwrap_err().to_string();
    let (file, reason) = ("climb/buildpack.toml:", "'../../../x' is not a version");
    assert!(error.contains(file) && error.contains(reason), "{error}");
}

#[test]
fn a_script_becomes_a_buildpack() {
    let bench = Bench::new();
    let inline = InlineBuildpack {
        id: "me/inline".to_owned(),
        version: "0.0.0".to_owned(),
        api: "0.10".to_owned(),
        shell: "/bin/bash".to_owned(),
        script: "echo \"hi\"".to_owned(),
    };
    let module = bench.with(|loader| loader.inline(&inline, "project.toml")).unwrap();
    assert_eq!(module.id().to_string(), "me/inline@0.0.0");
    let text = fs::read_to_string(module.dir().join("bin/build")).unwrap();
    assert_eq!(text, "#!/bin/bash\n\necho \"hi\"\n");
    assert_eq!(mode_of(&module.dir().join("bin/detect")), 0o755);
    let bad = InlineBuildpack { api: "0.2".to_owned(), ..inline };
    assert!(bench.with(|loader| loader.inline(&bad, "project.toml")).is_err());
}

#[test]
fn the_buildpacks_inside_the_program_are_for_other_builders_too() {
    let bench = Bench::new();
    let module = bench.load("from=default-builder:pannier/procfile").unwrap().remove(0);
    assert_eq!(module.id().id, "pannier/procfile");
    assert_eq!(mode_of(&module.dir().join("bin/build")), 0o755);
    let error = bench.load("from=default-builder:pannier/procfile@77").unwrap_err().to_string();
    assert!(
        error.starts_with("the default builder has no buildpack `pannier/procfile@77`, only "),
        "{error}"
    );
    assert!(error.contains("pannier/static-site@"), "{error}");
}

#[test]
fn names_of_images_start_from_the_file_that_names_them() {
    let rebased = |text: &str| rebase(text.parse().unwrap(), Path::new("/base")).to_string();
    assert_eq!(rebased("oci:dir:tag"), "oci:/base/dir:tag");
    assert_eq!(rebased("oci:/dir"), "oci:/dir");
    assert!(rebased("oci-archive:x.tar").starts_with("oci-archive:/base/x.tar"));
}
