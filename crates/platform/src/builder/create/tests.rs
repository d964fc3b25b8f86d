use std::io::Write as _;
use std::path::PathBuf;

use events::Silent;
use fs_err as fs;
use oci::registry::ClientConfig;
use testkit::{Buildpack, Layout, ReadImage, Tree};

use super::*;
use crate::document::Document;

struct World {
    dir: tempfile::TempDir,
}

const IMAGES: &str = "[build]\nimage = \"oci:images:build\"\n[[run.images]]\nimage = \"oci:images:run\"\n";
const ONE: &str = "[[buildpacks]]\nuri = \"a\"\n[[order]]\ngroup = [{ id = \"x/a\" }]\n";

impl World {
    /// Base images, and a buildpack `x/a` in the folder `a`.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = Self { dir };
        let base = testkit::Image::new()
            .layer(Tree::new().dir("/etc", 0o755))
            .label("io.buildpacks.base.distro.name", "small")
            .label("io.buildpacks.base.distro.version", "1");
        let images = Layout::new(world.path("images"));
        images.add("build", &base.clone().env("CNB_USER_ID", "1000").env("CNB_GROUP_ID", "1001"));
        images.add("run", &base);
        Buildpack::new("x/a", "1").keys("name = \"A\"").file("data", 0o600, "x").write(&world.path("a"));
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn request(&self, config: &str, to: &str) -> CreateRequest {
        let document = Document::new(self.path("builder.toml"), format!("{config}{IMAGES}"));
        CreateRequest {
            store: Store::open(self.path("store")).unwrap(),
            ids: Ids::Host,
            client: Arc::new(Client::new(ClientConfig::default())),
            destination: format!("oci:{}:{to}", self.path("out").display()).parse().unwrap(),
            tags: Vec::new(),
            config: BuilderToml::parse(&document).unwrap(),
            labels: vec![("a".to_owned(), "b".to_owned())],
            platform: None,
            pull_policy: PullPolicy::default(),
            compression: Compression::None,
            build_config_dir: BUILD_CONFIG.into(),
            created_by: CreatedBy { name: "test".to_owned(), version: "1".to_owned() },
        }
    }

    fn create(&self, config: &str) -> ReadImage {
        create(&self.request(config, "b"), &Silent).unwrap();
        ReadImage::from_layout(&self.path("out"), Some("b"))
    }

    fn error(&self, config: &str) -> String {
        create(&self.request(config, "b"), &Silent).unwrap_err().to_string()
    }

    /// A lifecycle archive with these programs.
    fn lifecycle(&self, programs: &[&str]) -> String {
        let descriptor = "[apis.buildpack]\nsupported = [\"0.12\"]\n[apis.platform]\nsupported = [\"0.15\"]\n\
                          [lifecycle]\nversion = \"9.9.9\"\n";
        let mut tree = Tree::new().file("lifecycle.toml", 0o644, descriptor).dir("lifecycle", 0o755);
        for program in programs {
            tree = tree.symlink(&format!("lifecycle/{program}"), "lifecycle");
        }
        tree = tree.file("lifecycle/lifecycle", 0o755, "program");
        let file = fs::File::create(self.path("lifecycle.tgz")).unwrap();
        let mut gz = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        gz.write_all(&tree.into_tar()).unwrap();
        gz.finish().unwrap();
        "[lifecycle]\nuri = \"lifecycle.tgz\"\n".to_owned()
    }
}

#[test]
fn variables_of_the_builder_in_another_folder() {
    let world = World::new();
    let config = format!("{ONE}\n[[build.env]]\nname = \"V\"\nvalue = \"1\"\n");
    let mut request = world.request(&config, "b");
    request.build_config_dir = "/etc/ours".into();
    create(&request, &Silent).unwrap();
    let image = ReadImage::from_layout(&world.path("out"), Some("b"));
    assert_eq!(image.text("/etc/ours/env/V"), "1");
    assert!(image.entry("/cnb/build-config").is_none());
    assert_eq!(image.env("CNB_BUILD_CONFIG_DIR"), Some("/etc/ours"));
}

#[test]
fn a_builder_has_what_others_read() {
    let world = World::new();
    let config = format!(
        "description = \"mine\"\n{ONE}{}\n[[system.pre.buildpacks]]\nid = \"x/a\"\n\
         [[build.env]]\nname = \"V\"\nvalue = \"1\"\nsuffix = \"append\"\ndelim = \":\"\n",
        world.lifecycle(&PROGRAMS)
    );
    let image = world.create(&config);
    assert_eq!(
        image.text("/cnb/order.toml"),
        "[[order]]\n\n  [[order.group]]\n    id = \"x/a\"\n    version = \"1\"\n"
    );
    assert!(image.text("/cnb/system.toml").contains("[[system.pre.buildpacks]]"));
    assert_eq!(image.text("/cnb/build-config/env/V.append"), "1");
    assert_eq!(image.text("/cnb/build-config/env/V.delim"), ":");
    assert_eq!(image.text("/cnb/run.toml"), "[[images]]\n  image = \"oci:images:run\"\n");
    assert_eq!(image.text("/cnb/stack.toml"), "[run-image]\n  image = \"oci:images:run\"\n");
    assert_eq!(image.entry("/cnb/lifecycle/creator").unwrap().link, "lifecycle");
    assert_eq!(image.text("/cnb/lifecycle/lifecycle"), "program");
    assert_eq!(image.entry("/lifecycle").unwrap().link, "/cnb/lifecycle");
    let entry = |path: &str| image.entry(path).map(|entry| (entry.uid, entry.gid, entry.mode));
    assert_eq!(entry("/layers"), Some((1000, 1001, 0o755)));
    assert_eq!(entry("/cnb/buildpacks/x_a/1/data"), Some((0, 0, 0o644)));
    assert_eq!(entry("/cnb/buildpacks/x_a/1/bin/build"), Some((0, 0, 0o755)));
    let metadata = image.json_label("io.buildpacks.builder.metadata");
    assert_eq!(metadata["description"], "mine");
    assert_eq!(metadata["lifecycle"]["version"], "9.9.9");
    assert_eq!(metadata["buildpacks"][0]["name"], "A");
    assert_eq!(metadata["createdBy"]["name"], "test");
    let layers = image.json_label("io.buildpacks.buildpack.layers");
    let diff_id = layers["x/a"]["1"]["layerDiffID"].as_str().unwrap();
    assert!(image.layers.iter().any(|layer| layer.diff_id == diff_id));
    assert_eq!(image.json_label("io.buildpacks.buildpack.order")[0]["group"][0]["version"], "1");
    assert_eq!(image.json_label("io.buildpacks.buildpack.system")["pre"]["buildpacks"][0]["id"], "x/a");
    assert_eq!(image.label("io.buildpacks.extension.layers"), Some("{}"));
    assert_eq!(image.label("io.buildpacks.buildpack.order-extensions"), Some("null"));
    assert_eq!(image.label("a"), Some("b"));
}

const PROGRAMS: [&str; 9] =
    ["analyzer", "builder", "creator", "detector", "exporter", "extender", "launcher", "rebaser", "restorer"];

#[test]
fn the_same_input_makes_the_same_image() {
    let world = World::new();
    let first = create(&world.request(ONE, "one"), &Silent).unwrap().image.digest();
    let other = World::new();
    fs::remove_dir_all(other.path("a")).unwrap();
    // Other times, another owner's modes: nothing that counts.
    Buildpack::new("x/a", "1").keys("name = \"A\"").file("data", 0o640, "x").write(&other.path("a"));
    assert_eq!(create(&other.request(ONE, "two"), &Silent).unwrap().image.digest(), first);
}

#[test]
fn packages_give_their_layers_as_they_are() {
    let world = World::new();
    let order = "[[order]]\n[[order.group]]\nid = \"p/leaf\"\nversion = \"1\"";
    let leaf = Buildpack::new("p/leaf", "1");
    Layout::new(world.path("images"))
        .add("pkg", &Buildpack::composite("p/root", "2", order).package(std::slice::from_ref(&leaf)));
    let image = world.create("[[buildpacks]]\nuri = \"oci:images:pkg\"\nid = \"p/root\"\n");
    let diff_id = testkit::image::digest(&leaf.layer().into_tar());
    // The kit's layers begin with /cnb, which no other module may be in.
    assert!(image.layers.iter().any(|layer| layer.diff_id == diff_id));
    assert_eq!(image.json_label("io.buildpacks.builder.metadata")["buildpacks"][1]["id"], "p/leaf");
}

#[test]
fn a_package_gets_nothing_but_its_modules_into_a_builder() {
    let world = World::new();
    let buildpack = Buildpack::new("p/evil", "1");
    let tar = buildpack.layer().file("/cnb/lifecycle/creator", 0o755, "evil").into_tar();
    let label =
        format!(r#"{{"p/evil":{{"1":{{"api":"0.12","layerDiffID":"{}"}}}}}}"#, testkit::image::digest(&tar));
    let package = buildpack.package(&[]).layer_tar(tar).label("io.buildpacks.buildpack.layers", label);
    Layout::new(world.path("images")).add("evil", &package);
    let image = world.create("[[buildpacks]]\nuri = \"oci:images:evil\"\n");
    assert!(image.entry("/cnb/buildpacks/p_evil/1/bin/build").is_some());
    assert!(image.entry("/cnb/lifecycle/creator").is_none());
}

#[test]
fn a_builder_on_a_builder_replaces_what_has_the_same_name() {
    let world = World::new();
    let first = world.create(ONE);
    let before = first.json_label("io.buildpacks.buildpack.layers")["x/a"]["1"]["layerDiffID"].clone();
    Layout::new(world.path("images"))
        .add("first", &testkit::Image::from_layout(&Layout::new(world.path("out")), "b"));
    Buildpack::new("x/a", "1").file("new", 0o644, "x").write(&world.path("b"));
    fs::remove_file(world.path("b/bin/detect")).unwrap();
    let document = Document::new(
        world.path("builder.toml"),
        format!("{}{}", ONE.replace("\"a\"", "\"b\""), IMAGES.replace(":build", ":first")),
    );
    let request =
        CreateRequest { config: BuilderToml::parse(&document).unwrap(), ..world.request(ONE, "second") };
    create(&request, &Silent).unwrap();
    let second = ReadImage::from_layout(&world.path("out"), Some("second"));
    assert!(second.entry("/cnb/buildpacks/x_a/1/new").is_some());
    let at = |name: &str| second.layers.iter().rposition(|layer| layer.names().contains(&name)).unwrap();
    // The former one is hidden, and then the new one comes.
    assert!(at("/cnb/buildpacks/x_a/.wh.1") > at("/cnb/buildpacks/x_a/1/data"));
    assert!(at("/cnb/buildpacks/x_a/1/new") > at("/cnb/buildpacks/x_a/.wh.1"));
    let layers = second.json_label("io.buildpacks.buildpack.layers");
    assert_ne!(layers["x/a"]["1"]["layerDiffID"], before);
    assert_eq!(
        second.json_label("io.buildpacks.builder.metadata")["buildpacks"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn what_does_not_fit_is_an_error_with_its_place() {
    let world = World::new();
    let place = world.path("builder.toml").display().to_string();
    let with = |group: &str| format!("[[buildpacks]]\nuri = \"a\"\n[[order]]\ngroup = [{{ {group} }}]\n");
    Buildpack::new("x/arm", "1")
        .tables("[[targets]]\nos = \"linux\"\narch = \"mips\"")
        .write(&world.path("arm"));
    let order = "[[order]]\n[[order.group]]\nid = \"no/such\"\nversion = \"1\"";
    Buildpack::composite("x/half", "1", order).write(&world.path("half"));
    Buildpack::new("x/old", "1").api("0.8").write(&world.path("old"));
    Buildpack::new("x/a", "2").write(&world.path("a2"));
    let lifecycle = world.lifecycle(&PROGRAMS);
    for (config, expected) in [
        (with("id = \"x/b\""), format!("{place}:4:10: the builder will have no buildpack x/b")),
        (
            with("id = \"x/a\", version = \"2\""),
            format!("{place}:4:10: the builder will have no buildpack x/a@2"),
        ),
        (
            format!("[[buildpacks]]\nuri = \"a2\"\n{}", with("id = \"x/a\"")),
            format!("{place}:6:10: the builder will have several versions of x/a: 2, 1"),
        ),
        (
            "[[buildpacks]]\nuri = \"a\"\nversion = \"3\"\n".to_owned(),
            format!("{place}:1:1: a is x/a@1, and the configuration says x/a@3"),
        ),
        (
            "[[buildpacks]]\nuri = \"./none\"\n".to_owned(),
            format!("{place}:1:1: failed to get the buildpack ./none"),
        ),
        (
            "[[buildpacks]]\nuri = \"arm\"\n".to_owned(),
            "x/arm@1 does not run on the build image (linux/".to_owned(),
        ),
        (
            "[[buildpacks]]\nuri = \"half\"\n".to_owned(),
            "buildpack x/half@1 needs no/such@1, which the builder will not have".to_owned(),
        ),
        (
            format!("[[buildpacks]]\nuri = \"old\"\n{lifecycle}"),
            "x/old@1 is for Buildpack API 0.8, and the lifecycle 9.9.9 speaks 0.12".to_owned(),
        ),
        ("[stack]\nid = \"s\"\n".to_owned(), "the build image oci:".to_owned()),
        ("[lifecycle]\nuri = \"a\"\n".to_owned(), "failed to get the lifecycle a".to_owned()),
    ] {
        let error = world.error(&config);
        assert!(error.starts_with(&expected), "{error}");
    }
    assert!(!world.path("out").join("index.json").exists(), "nothing was written");
}

#[test]
fn a_lifecycle_must_be_whole() {
    let world = World::new();
    let config = world.lifecycle(&PROGRAMS[1..]);
    assert_eq!(world.error(&config), "lifecycle.tgz is not a lifecycle: it has no program `analyzer`");
    fs::write(world.path("lifecycle.tgz"), Tree::new().dir("lifecycle", 0o755).into_tar()).unwrap();
    assert_eq!(world.error(&config), "lifecycle.tgz is not a lifecycle: it has no lifecycle.toml");
}

#[test]
fn of_several_targets_one_is_made() {
    let world = World::new();
    let host = Platform::host();
    let target = |arch: &str| format!("[[targets]]\nos = \"linux\"\narch = \"{arch}\"\n");
    world.create(&format!("{ONE}{}{}", target("mips"), target(&host.architecture)));
    let error = world.error(&format!("{ONE}{}{}", target("mips"), target("sparc")));
    assert_eq!(
        error,
        "the configuration has several targets (linux/mips, linux/sparc), and none of them is chosen"
    );
    let error = world.error(&format!("{ONE}{}", target("mips")));
    assert!(error.ends_with("and the builder is for linux/mips"), "{error}");
}
