use testkit::Buildpack;

use super::*;
use crate::document::Document;
use crate::module::tests::Bench;

/// A bench with a builder's files: `x/a` and `x/b` in one version, `x/c` in two.
struct World {
    bench: Bench,
    order: Order,
}

impl World {
    fn new() -> Self {
        let bench = Bench::new();
        for (id, version) in [("x/a", "1"), ("x/b", "2"), ("x/c", "1"), ("x/c", "2")] {
            let dir = format!("builder/cnb/buildpacks/{}/{version}", id.replace('/', "_"));
            Buildpack::new(id, version).write(&bench.path(&dir));
        }
        let order = "[[order]]\n[[order.group]]\nid=\"x/a\"\nversion=\"1\"\n\
                     [[order]]\n[[order.group]]\nid=\"x/b\"\nversion=\"2\"\noptional=true\n";
        Self { bench, order: Order::parse("order.toml", order).unwrap() }
    }

    /// Only extensions are asked for.
    fn extensions(&self, extensions: &[&str]) -> Result<Selected, SelectionError> {
        self.select_with(NONE, extensions, HEAD)
    }

    fn folder(&self, id: &str) -> String {
        let path = self.bench.path(&id.replace('/', "-"));
        Buildpack::new(id, "7").write(&path);
        path.display().to_string()
    }

    fn select(&self, lists: [&[&str]; 3], project: &str) -> Result<Selected, SelectionError> {
        self.select_with(lists, &[], project)
    }

    fn select_with(
        &self,
        [buildpacks, pre, post]: [&[&str]; 3],
        extensions: &[&str],
        project: &str,
    ) -> Result<Selected, SelectionError> {
        let [buildpacks, pre, post, extensions] = [buildpacks, pre, post, extensions]
            .map(|list| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        let project = Document::new(self.bench.path("project.toml"), project);
        let mut project = Project::parse(&project).unwrap();
        project.select_exec_env("production");
        let selection = Selection {
            buildpacks: &buildpacks,
            pre: &pre,
            post: &post,
            extensions: &extensions,
            project: &project,
        };
        let root = Root::open(self.bench.path("builder")).unwrap();
        self.bench.with(|loader| select(&selection, &self.order, &root, loader))
    }

    /// The groups that result, as text.
    fn groups(&self, lists: [&[&str]; 3], project: &str) -> Vec<String> {
        groups(&self.select(lists, project).unwrap())
    }
}

fn groups(selected: &Selected) -> Vec<String> {
    group_texts(&selected.order.order)
}

fn group_texts(groups: &[OrderGroup]) -> Vec<String> {
    let entry = |entry: &OrderEntry| {
        format!("{}@{}{}", entry.id, entry.version, if entry.optional { "?" } else { "" })
    };
    let group = |group: &OrderGroup| group.group.iter().map(entry).collect::<Vec<_>>().join(" ");
    groups.iter().map(group).collect()
}

const NONE: [&[&str]; 3] = [&[], &[], &[]];
const HEAD: &str = "[_]\nschema-version = \"0.2\"\n";

#[test]
fn nothing_asked_for_is_the_builders_order_and_no_work() {
    let world = World::new();
    let selected = world.select(NONE, HEAD).unwrap();
    assert_eq!(selected.order, world.order);
    assert!(selected.lowers.is_empty() && selected.scratch().is_none());
}

#[test]
fn named_buildpacks_replace_the_order() {
    let world = World::new();
    let mine = world.folder("me/mine");
    assert_eq!(world.groups([&["x/a"], &[], &[]], HEAD), ["x/a@1"]);
    assert_eq!(
        world.groups([&["x/c@2", &mine, "urn:cnb:builder:x/b"], &[], &[]], HEAD),
        ["x/c@2 me/mine@7 x/b@2"]
    );
}

#[test]
fn from_builder_stands_for_each_group() {
    let world = World::new();
    let mine = world.folder("me/mine");
    let all = ["x/c@1", "from=builder", mine.as_str()];
    assert_eq!(world.groups([&all, &[], &[]], HEAD), ["x/c@1 x/a@1 me/mine@7", "x/c@1 x/b@2? me/mine@7"]);
    assert_eq!(world.groups([&["from=builder"], &[], &[]], HEAD), ["x/a@1", "x/b@2?"]);
    let error = world.select([&["from=builder", "from=builder"], &[], &[]], HEAD).unwrap_err();
    assert!(matches!(error, SelectionError::Twice));
}

#[test]
fn before_and_after_each_group() {
    let world = World::new();
    let mine = world.folder("me/mine");
    let expected = ["x/c@1 me/mine@7 x/a@1 x/c@2", "x/c@1 me/mine@7 x/b@2? x/c@2"];
    assert_eq!(world.groups([&[], &["x/c@1", &mine], &["x/c@2"]], HEAD), expected);
    // They belong to the builder's order: named buildpacks leave them out.
    assert_eq!(world.groups([&["x/b"], &[&mine], &[]], HEAD), ["x/b@2"]);
}

#[test]
fn the_descriptor_counts_where_the_command_line_says_nothing() {
    let world = World::new();
    world.folder("me/mine");
    let group = format!(
        "{HEAD}[[io.buildpacks.group]]\nuri = \"me-mine\"\n[[io.buildpacks.group]]\nid = \"x/b\"\n\
         [[io.buildpacks.group]]\nid = \"me/script\"\nscript = {{ api = \"0.10\", inline = \"true\" }}\n"
    );
    let selected = world.select(NONE, &group).unwrap();
    assert_eq!(groups(&selected), ["me/mine@7 x/b@2 me/script@0.0.0"]);
    let names: Vec<_> = selected.added.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["me/mine@7", "me/script@0.0.0"]);
    assert_eq!(world.groups([&["x/a"], &[], &[]], &group), ["x/a@1"]);
    let ends = format!(
        "{HEAD}[[io.buildpacks.pre.group]]\nuri = \"me-mine\"\n[[io.buildpacks.post.group]]\nid = \"x/c\"\nversion = \"1\"\n"
    );
    assert_eq!(world.groups(NONE, &ends), ["me/mine@7 x/a@1 x/c@1", "me/mine@7 x/b@2? x/c@1"]);
    assert_eq!(world.groups([&[], &["x/b"], &[]], &ends), ["x/b@2 x/a@1 x/c@1", "x/b@2 x/b@2? x/c@1"]);
}

#[test]
fn what_is_not_there_is_an_error_that_helps() {
    let world = World::new();
    let error = world.select([&["urn:cnb:builder:x/z"], &[], &[]], HEAD).unwrap_err();
    let SelectionError::Locator { on_builder, .. } = &error else { panic!("{error}") };
    assert_eq!(on_builder, &["x/a@1", "x/b@2", "x/c@1", "x/c@2"]);
    assert!(error.to_string().contains("the builder has no `x/z`"), "{error}");
    let error = world.select([&["x/c"], &[], &[]], HEAD).unwrap_err();
    assert_eq!(error.to_string(), "the builder has several versions of the buildpack x/c: 1, 2");
}

#[test]
fn added_modules_lie_on_top_and_hide_the_builders() {
    let world = World::new();
    let package = Buildpack::new("x/a", "1").package(&[Buildpack::new("p/dep", "1")]);
    testkit::Layout::new(world.bench.path("layout")).add("pkg", &package);
    let mine = world.folder("x/b");
    let name = format!("oci:{}:pkg", world.bench.path("layout").display());
    let selected = world.select([&[&mine, &name], &[], &[]], HEAD).unwrap();
    let [top, first, second, bottom] = selected.lowers.as_slice() else { panic!("{:?}", selected.lowers) };
    assert!(top.join("cnb/buildpacks/x_b/7/bin/build").is_file());
    let has = |path: &str| [first, second].iter().filter(|tree| tree.join(path).is_file()).count();
    assert_eq!((has("cnb/buildpacks/x_a/1/bin/build"), has("cnb/buildpacks/p_dep/1/bin/build")), (1, 1));
    // The builder has another x/a@1: an empty folder hides it.
    assert_eq!(fs::read_dir(bottom.join("cnb/buildpacks/x_a/1")).unwrap().count(), 0);
    assert!(!bottom.join("cnb/buildpacks/p_dep").exists());
    let scratch = selected.scratch().unwrap().to_owned();
    drop(selected);
    assert!(!scratch.exists());
}

#[test]
fn the_last_of_two_with_one_name_wins() {
    let world = World::new();
    let layout = testkit::Layout::new(world.bench.path("layout"));
    let dep = Buildpack::new("p/dep", "1");
    layout.add("one", &Buildpack::new("p/one", "1").package(&[dep.clone().file("who", 0o644, "one")]));
    layout.add("two", &Buildpack::new("p/two", "1").package(&[dep.file("who", 0o644, "two")]));
    let name = |tag: &str| format!("oci:{}:{tag}", world.bench.path("layout").display());
    let selected = world.select([&[&name("one"), &name("two")], &[], &[]], HEAD).unwrap();
    let found =
        selected.lowers.iter().find(|tree| tree.join("cnb/buildpacks/p_dep/1/who").is_file()).unwrap();
    assert_eq!(fs::read_to_string(found.join("cnb/buildpacks/p_dep/1/who")).unwrap(), "two");
}

/// Puts extensions on the builder: `x/a` of the same name as a buildpack, `e/two` in two versions.
fn with_extensions(world: &World) {
    for (id, version) in [("x/a", "1"), ("e/two", "1"), ("e/two", "2")] {
        let dir = format!("builder/cnb/extensions/{}/{version}", id.replace('/', "_"));
        Buildpack::extension(id, version).write(&world.bench.path(&dir));
    }
}

#[test]
fn named_extensions_replace_the_builders() {
    let mut world = World::new();
    with_extensions(&world);
    world.order.order_extensions = vec![OrderGroup {
        group: vec![OrderEntry { id: "e/two".into(), version: "2".into(), ..OrderEntry::default() }],
    }];
    let mine = world.bench.path("mine");
    Buildpack::extension("me/mine", "7").write(&mine);
    let texts = [mine.to_str().unwrap(), "e/two@1", "urn:cnb:builder:x/a"];
    let selected = world.extensions(&texts).unwrap();
    assert_eq!(group_texts(&selected.order.order_extensions), ["me/mine@7 e/two@1 x/a@1"]);
    // The buildpacks are as they were.
    assert_eq!(selected.order.order, world.order.order);
    assert_eq!(selected.added, [ModuleId::extension("me/mine", "7")]);
    assert!(selected.lowers[0].join("cnb/extensions/me_mine/7/extension.toml").is_file());
    // Other buildpacks with the builder's extensions.
    let buildpacks = world.select([&["x/b"], &[], &[]], HEAD).unwrap();
    assert_eq!(group_texts(&buildpacks.order.order_extensions), ["e/two@2"]);
    let both = world.select_with([&["x/b"], &[], &[]], &["x/a"], HEAD).unwrap();
    assert_eq!(
        (groups(&both), group_texts(&both.order.order_extensions)),
        (vec!["x/b@2".into()], vec!["x/a@1".into()])
    );
}

#[test]
fn an_extension_that_is_not_there_is_an_error_that_speaks_of_extensions() {
    let world = World::new();
    with_extensions(&world);
    let mine = world.folder("me/mine");
    for (text, expected) in [
        ("e/two", "the builder has several versions of the extension e/two: 1, 2"),
        ("from=builder", "invalid extension `from=builder`: it stands for the builder's buildpacks"),
        ("urn:cnb:builder:x/b", "invalid extension `urn:cnb:builder:x/b`: the builder has no `x/b`"),
        ("./gone", "invalid extension `./gone`: there is no file or folder"),
        ("urn:cnb:registry:a/b", "invalid extension `urn:cnb:registry:a/b`: it is not on the builder"),
        (&mine, "is not an extension: it has no extension.toml"),
    ] {
        let error = world.extensions(&[text]).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        if let SelectionError::Locator { on_builder, .. } = &error {
            assert_eq!(on_builder, &["e/two@1", "e/two@2", "x/a@1"]);
        }
    }
}

#[test]
fn extensions_in_packages_hide_the_builders() {
    let world = World::new();
    with_extensions(&world);
    let layout = testkit::Layout::new(world.bench.path("layout"));
    layout.add("pkg", &Buildpack::extension("x/a", "1").package(&[]));
    let name = format!("oci:{}:pkg", world.bench.path("layout").display());
    let selected = world.extensions(&[&name]).unwrap();
    let [package, bottom] = selected.lowers.as_slice() else { panic!("{:?}", selected.lowers) };
    assert!(package.join("cnb/extensions/x_a/1/extension.toml").is_file());
    assert_eq!(fs::read_dir(bottom.join("cnb/extensions/x_a/1")).unwrap().count(), 0);
    // The buildpack of that name is not hidden.
    assert!(!bottom.join("cnb/buildpacks").exists());
}
