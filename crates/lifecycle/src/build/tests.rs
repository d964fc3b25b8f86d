//! The build phase with buildpacks that are shell scripts.

use super::*;
use crate::testing::{Folders, Heard, InPlace, base_env, variable};

/// Three buildpacks, of which the first is asked for `node` and the second may be.
const PLAN: &str = r#"
[[entries]]
[[entries.providers]]
id = "some/a"
version = "1"
[[entries.providers]]
id = "b"
version = "1"
[[entries.requires]]
name = "node"
[entries.requires.metadata]
version = 18
"#;

struct Case {
    folders: Folders,
    executor: InPlace,
    events: Heard,
    platform_api: ApiVersion,
}

impl Case {
    fn new() -> Self {
        let (executor, events) = (InPlace::default(), Heard::default());
        Self { folders: Folders::new(), executor, events, platform_api: ApiVersion::PLATFORM_LATEST }
    }

    /// A buildpack of the newest API whose `bin/build` is this script.
    fn buildpack(&self, id: &str, build: &str) {
        self.folders.buildpack(id, "0.12", "", ["", build]);
    }

    fn build(&self, ids: &[&str]) -> Result<Built, BuildError> {
        let element = |id: &&str| GroupElement {
            id: (*id).to_owned(),
            version: "1".into(),
            api: Some(ApiVersion::new(0, 12)),
            ..GroupElement::default()
        };
        let group: Vec<_> = ids.iter().map(element).collect();
        let platform_env = EnvDir::from_iter([("FROM_USER", "user"), ("PATH", "/user")]);
        let operator = EnvDir::from_iter([("FROM_OPERATOR", "operator")]);
        let buildpacks = Root::open(self.folders.path("buildpacks")).unwrap();
        let target = TargetMetadata { os: "linux".into(), arch: "amd64".into(), ..TargetMetadata::default() };
        let inputs = BuildInputs {
            group: &group,
            group_extensions: &[],
            plan: &Plan::parse("plan.toml", PLAN).unwrap(),
            platform_api: self.platform_api,
            buildpacks: &buildpacks,
            buildpacks_guest: self.folders.path("buildpacks"),
            layers: &self.folders.place("layers"),
            app: self.folders.path("app"),
            platform: self.folders.path("platform"),
            plans: &self.folders.place("plans"),
            base_env: base_env(),
            extended_env: std::collections::BTreeMap::new(),
            platform_env: &platform_env,
            build_config_env: Some(&operator),
            target: &target,
            exec_env: "production",
            owner: None,
        };
        build(&inputs, &self.executor, &self.events)
    }

    fn error(&self, id: &str) -> String {
        let error = self.build(&[id]).unwrap_err();
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        format!("{error}{}", source.unwrap_or_default())
    }

    /// All files below the layers folder, from there.
    fn files(&self, below: &str) -> Vec<String> {
        fn walk(dir: &Path, base: &Path, out: &mut Vec<String>) {
            for entry in fs_err::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, base, out);
                } else {
                    out.push(path.strip_prefix(base).unwrap().display().to_string());
                }
            }
        }
        let (mut out, base) = (Vec::new(), self.folders.path("layers").join(below));
        walk(&base, &base, &mut out);
        out.sort();
        out
    }
}

#[test]
fn each_program_gets_what_its_api_has_and_runs_in_the_app() {
    let case = Case::new();
    case.folders.buildpack("old", "0.7", "clear-env = true\n", ["", "pwd > ../cwd"]);
    case.folders.buildpack("middle", "0.9", "", ["", "! read -r line"]);
    case.buildpack("new", "echo out; echo err >&2");
    case.build(&["old", "middle", "new"]).unwrap();
    let ran = case.executor.ran.lock().unwrap();
    let [old, middle, new] = ran.as_slice() else { panic!("{ran:?}") };
    for (id, invocation) in [("old", old), ("middle", middle), ("new", new)] {
        let layers = case.folders.path("layers").join(id);
        let dir = case.folders.path("buildpacks").join(id).join("1");
        assert_eq!(invocation.program, dir.join("bin/build"));
        assert_eq!(invocation.args[0], layers);
        assert_eq!(invocation.args[1], case.folders.path("platform"));
        assert_eq!(variable(invocation, "CNB_BUILDPACK_DIR"), Some(&*dir));
        assert_eq!(variable(invocation, "SECRET"), None);
        assert_eq!(variable(invocation, "FROM_OPERATOR"), Some(Path::new("operator")));
    }
    let has = |invocation, name| variable(invocation, name).is_some();
    assert!(!has(old, "FROM_USER") && has(middle, "FROM_USER"));
    assert!(!has(old, "CNB_LAYERS_DIR") && !has(old, "CNB_BP_PLAN_PATH") && !has(old, "CNB_PLATFORM_DIR"));
    assert_eq!(variable(new, "CNB_LAYERS_DIR"), Some(Path::new(&new.args[0])));
    assert_eq!(variable(new, "CNB_PLATFORM_DIR"), Some(Path::new(&new.args[1])));
    assert_eq!(variable(new, "CNB_BP_PLAN_PATH"), Some(Path::new(&new.args[2])));
    assert!(!has(middle, "CNB_TARGET_OS") && has(new, "CNB_TARGET_OS"));
    assert!(!has(middle, "CNB_EXEC_ENV") && has(new, "CNB_EXEC_ENV"));
    assert_eq!(case.folders.read("cwd").trim(), case.folders.path("app").display().to_string());
    assert_eq!(*case.events.output.lock().unwrap(), b"out\nerr\n");
}

#[test]
fn layers_for_builds_reach_the_buildpacks_that_follow() {
    let case = Case::new();
    case.buildpack(
        "some/a",
        r#"cd "$CNB_LAYERS_DIR"
        mkdir -p one/bin one/lib one/env one/env.build one/env.launch two/bin two/env
        printf '[types]\nbuild = true\n' > one.toml
        printf '[types]\nlaunch = true\n' > two.toml
        printf first > one/env/WORDS.append
        printf second > one/env.build/WORDS.append
        printf , > one/env/WORDS.delim
        printf ';' > one/env.build/WORDS.delim
        printf launch > one/env.launch/LAUNCHED
        printf no > two/env/NOT_FOR_BUILDS"#,
    );
    case.buildpack("b", "test -z \"$(ls -A \"$CNB_LAYERS_DIR\")\"");
    let built = case.build(&["some/a", "b"]).unwrap();
    let ran = case.executor.ran.lock().unwrap();
    let layer = case.folders.path("layers/some_a/one");
    let get = |name| variable(&ran[1], name);
    assert_eq!(
        get("PATH").unwrap().display().to_string(),
        format!("/user:{}/bin:/usr/bin:/bin", layer.display())
    );
    assert_eq!(get("LIBRARY_PATH"), Some(&*layer.join("lib")));
    assert_eq!(get("WORDS"), Some(Path::new("first;second")));
    assert_eq!((get("LAUNCHED"), get("NOT_FOR_BUILDS")), (None, None));
    assert_eq!(variable(&ran[0], "WORDS"), None);
    let names: Vec<_> = built.modules[0].layers.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names, ["one", "two"]);
    assert!(built.modules[0].layers[0].toml.types.build && built.modules[0].layers[0].has_contents);
}

#[test]
fn layers_for_other_environments_take_no_part() {
    let script = r#"cd "$CNB_LAYERS_DIR"
        mkdir -p all/env some/env gone
        printf '[types]\nbuild = true\nlaunch = true\n[metadata]\nexec-env = ["production", "test"]\n' > all.toml
        printf '[types]\nbuild = true\nlaunch = true\ncache = true\n[metadata]\nexec-env = ["test"]\n' > some.toml
        printf '[types]\nlaunch = true\n[metadata]\nexec-env = ["test"]\n' > gone.toml
        printf x > all/env/ALL
        printf x > some/env/SOME"#;
    let take_part = |case: Case| {
        let built = case.build(&["a", "b"]).unwrap();
        let ran = case.executor.ran.lock().unwrap();
        assert!(variable(&ran[1], "ALL").is_some());
        let types = |layer: &BuiltLayer| {
            let types = layer.toml.types;
            (layer.name.clone(), types.build, types.launch, types.cache)
        };
        let layers: Vec<_> = built.modules[0].layers.iter().map(types).collect();
        (layers, variable(&ran[1], "SOME").is_some())
    };
    let named = |name: &str, build, launch, cache| (name.to_owned(), build, launch, cache);
    let (all, some) = (named("all", true, true, false), named("some", true, true, true));
    let new = Case::new();
    new.buildpack("a", script);
    new.buildpack("b", "true");
    assert_eq!(take_part(new), (vec![all.clone(), named("some", false, false, true)], false));
    let old = Case { platform_api: ApiVersion::new(0, 14), ..Case::new() };
    old.buildpack("a", script);
    old.buildpack("b", "true");
    assert_eq!(take_part(old), (vec![all, named("gone", false, true, false), some], true));
}

#[test]
fn a_requirement_goes_on_to_the_next_who_can_until_it_is_met() {
    let case = Case::new();
    let keep = "cp \"$CNB_BP_PLAN_PATH\" ../plan-$(basename \"$CNB_LAYERS_DIR\")";
    let unmet = "printf '[[unmet]]\\nname = \"node\"\\n' > \"$CNB_LAYERS_DIR/build.toml\"";
    case.buildpack("some/a", &format!("{keep}\n{unmet}"));
    case.buildpack("b", keep);
    case.build(&["some/a", "b"]).unwrap();
    let asked = "[[entries]]\n  name = \"node\"\n  [entries.metadata]\n    version = 18\n";
    assert_eq!(case.folders.read("plan-some_a"), asked);
    assert_eq!(case.folders.read("plan-b"), asked);

    let case = Case::new();
    case.buildpack("some/a", keep);
    case.buildpack("b", keep);
    case.build(&["some/a", "b"]).unwrap();
    assert_eq!(case.folders.read("plan-b"), "");
}

#[test]
fn layers_are_kept_with_their_metadata_and_those_without_a_type_ignored() {
    let case = Case::new();
    case.buildpack(
        "a",
        r#"cd "$CNB_LAYERS_DIR"
        mkdir kept ignored stray
        printf '[types]\nlaunch = true\ncache = true\n[metadata]\nn = 3\nd = 1979-05-27\n' > kept.toml
        printf '[metadata]\nn = 3\n' > ignored.toml
        printf '[types]\nlaunch = true\n' > reused.toml
        printf '[metadata]\nseen = 1\n' > store.toml"#,
    );
    let module = case.build(&["a"]).unwrap().modules.remove(0);
    let layers: Vec<_> = module.layers.iter().map(|it| (it.name.as_str(), it.has_contents)).collect();
    assert_eq!(layers, [("kept", true), ("reused", false)]);
    let metadata = module.layers[0].toml.metadata.as_ref().unwrap();
    assert_eq!(metadata["n"].as_integer(), Some(3));
    assert!(metadata["d"].is_datetime());
    assert_eq!(module.store.unwrap().metadata.unwrap()["seen"].as_integer(), Some(1));
    assert!(case.folders.path("layers/a/ignored.ignore").is_dir());
    assert!(!case.folders.path("layers/a/ignored").exists());
    assert!(case.folders.path("layers/a/stray").is_dir());
}

#[test]
fn metadata_is_gathered_for_the_launcher() {
    let case = Case::new();
    let launch = |text: &str| format!("cat > \"$CNB_LAYERS_DIR/launch.toml\" <<'EOF'\n{text}\nEOF");
    case.buildpack(
        "some/a",
        &launch("[[processes]]\ntype='web'\ncommand=['a']\ndefault=true\n[[slices]]\npaths=['x']\n[[labels]]\nkey='k'\nvalue='1'"),
    );
    case.buildpack(
        "b",
        &launch("[[processes]]\ntype='alpha'\ncommand=['b','-x']\nargs=['y']\nworking-dir='/w'\n[[labels]]\nkey='k'\nvalue='2'"),
    );
    let built = case.build(&["some/a", "b"]).unwrap();
    assert_eq!(built.default_process.as_deref(), Some("web"));
    assert_eq!(built.labels.iter().map(|label| label.value.as_str()).collect::<Vec<_>>(), ["1", "2"]);
    let text = r#"buildpack-default-process-type = "web"

[[buildpacks]]
  id = "some/a"
  version = "1"
  api = "0.12"

[[buildpacks]]
  id = "b"
  version = "1"
  api = "0.12"

[[labels]]
  key = "k"
  value = "1"

[[labels]]
  key = "k"
  value = "2"

[[processes]]
  type = "alpha"
  command = ["b", "-x"]
  args = ["y"]
  direct = true
  buildpack-id = "b"
  working-dir = "/w"

[[processes]]
  type = "web"
  command = ["a"]
  direct = true
  buildpack-id = "some/a"

[[slices]]
  paths = ["x"]
"#;
    assert_eq!(case.folders.read("layers/config/metadata.toml"), text);
    assert!(case.events.warnings.lock().unwrap().is_empty());
}

#[test]
fn redefining_the_default_process_leaves_none_and_warns() {
    let case = Case::new();
    let launch = |tail: &str| {
        format!(
            "printf '[[processes]]\\ntype = \"web\"\\ncommand = [\"a\"]\\n{tail}' > \"$CNB_LAYERS_DIR/launch.toml\""
        )
    };
    case.buildpack("some/a", &launch("default = true\\n"));
    case.buildpack("b", &launch(""));
    let built = case.build(&["some/a", "b"]).unwrap();
    assert_eq!(built.default_process, None);
    assert_eq!(case.events.warnings.lock().unwrap().len(), 1);
}

const SBOM: &str = r#"cd "$CNB_LAYERS_DIR"
    mkdir app tool
    printf '[types]\nlaunch = true\ncache = true\n' > app.toml
    printf '[types]\nbuild = true\n' > tool.toml
    for name in app tool launch build nobody; do echo "$name" > $name.sbom.cdx.json; done
    printf '[[bom]]\nname = "old"\n' > launch.toml"#;

#[test]
fn sbom_files_are_gathered_by_what_they_are_of() {
    let case = Case::new();
    let formats = "sbom-formats = [\"application/vnd.cyclonedx+json\"]\n";
    case.folders.buildpack("some/a", "0.12", formats, ["", SBOM]);
    case.folders.write("layers/sbom/launch/stale", "from an earlier build");
    case.build(&["some/a"]).unwrap();
    assert_eq!(
        case.files("sbom"),
        [
            "build/sbom.legacy.json",
            "build/some_a/sbom.cdx.json",
            "build/some_a/tool/sbom.cdx.json",
            "cache/some_a/app/sbom.cdx.json",
            "launch/sbom.legacy.json",
            "launch/some_a/app/sbom.cdx.json",
            "launch/some_a/sbom.cdx.json",
        ]
    );
    assert_eq!(case.folders.read("layers/sbom/launch/some_a/app/sbom.cdx.json"), "app\n");
    assert_eq!(case.folders.read("layers/sbom/build/sbom.legacy.json"), "null\n");
    assert_eq!(
        case.folders.read("layers/sbom/launch/sbom.legacy.json"),
        "[{\"name\":\"old\",\"metadata\":null,\"buildpack\":{\"id\":\"some/a\",\"version\":\"1\"}}]\n"
    );
    assert!(!case.folders.read("layers/config/metadata.toml").contains("bom"));
}

#[test]
fn old_platforms_have_no_sbom_files() {
    let mut case = Case::new();
    case.platform_api = ApiVersion::new(0, 7);
    let formats = "sbom-formats = [\"application/vnd.cyclonedx+json\"]\n";
    case.folders.buildpack("a", "0.12", formats, ["", SBOM]);
    let built = case.build(&["a"]).unwrap();
    assert!(!case.folders.path("layers/sbom").exists());
    assert_eq!(built.launch_bom.len(), 1);
    assert!(case.folders.read("layers/config/metadata.toml").contains("[[bom]]\n  name = \"old\"\n"));
}

#[test]
fn an_sbom_of_a_kind_that_is_not_declared_fails_the_build() {
    let case = Case::new();
    case.buildpack("a", SBOM);
    let error = case.error("a");
    assert!(error.contains("`sbom-formats`") && error.contains("application/vnd.cyclonedx+json"), "{error}");
}

#[test]
fn a_program_that_fails_ends_the_build_with_its_last_words() {
    let case = Case::new();
    case.buildpack("a", "head -c 100000 /dev/zero; echo 100% %s broken >&2; exit 7");
    case.buildpack("b", "true");
    let Err(BuildError::Failed { id, exit, tail, .. }) = case.build(&["a", "b"]) else { panic!("it passed") };
    assert_eq!((id.as_str(), exit), ("a", Exit::Code(7)));
    assert!(tail.ends_with("100% %s broken\n") && tail.len() <= 4096, "{}", tail.len());
    assert_eq!(case.executor.ran.lock().unwrap().len(), 1);
    assert!(!case.folders.path("layers/config").exists());
}

#[test]
fn files_that_are_not_valid_say_where() {
    let case = Case::new();
    for (file, text, expected) in [
        (
            "l.toml",
            "launch = true\n",
            "l.toml:1:10: the flags launch, cache and build have to be in the table [types]",
        ),
        (
            "launch.toml",
            "[[processes]]\ntype = \"w\"\ncommand = \"x\"\n",
            "launch.toml:1:1: process 'w': the command is string",
        ),
        (
            "build.toml",
            "[[unmet]]\nname = \"x\"\n",
            "build.toml:1:1: unmet 'x' is nothing that the buildpack was asked for",
        ),
        ("store.toml", "metadata = 1\n", "store.toml:1:12: invalid type: integer, expected a table"),
        ("...toml", "[types]\nlaunch = true\n", "'..' can not be the name of a layer"),
        ("..toml", "", "'.' can not be the name of a layer"),
        (".toml", "", "'' can not be the name of a layer"),
    ] {
        case.buildpack(
            "a",
            &format!(
                "rm -rf \"$CNB_LAYERS_DIR\"/{{*,.*toml}}; cat > \"$CNB_LAYERS_DIR/{file}\" <<'EOF'\n{text}EOF"
            ),
        );
        let error = case.error("a");
        assert!(
            error.starts_with("buildpack a left an invalid file: ") && error.contains(expected),
            "{error}"
        );
    }
}

#[test]
fn nothing_outside_is_read_or_written() {
    let case = Case::new();
    case.folders.write("secret.toml", "[metadata]\nsecret = 1\n");
    case.folders.write("mine/file", "untouched");
    let outside = |name: &str| case.folders.path(name).display().to_string();
    let (secret, mine) = (outside("secret.toml"), outside("mine"));

    case.buildpack("a", &format!("ln -s {secret} \"$CNB_LAYERS_DIR/store.toml\""));
    assert!(case.build(&["a"]).is_err());

    case.buildpack("b", &format!("cd ..; rm -rf layers/b; ln -s {mine} layers/b"));
    let error = case.build(&["b"]).unwrap_err();
    assert!(
        matches!(&error, BuildError::Files { id, source } if id == "b" && matches!(**source, BuildError::NotAFolder { .. }))
    );

    // What is written after the last program replaces whatever that left in its place.
    case.buildpack("c", &format!("cd ../layers; rm -rf sbom config; ln -s {mine} sbom; ln -s {mine} config"));
    case.build(&["c"]).unwrap();
    assert!(case.folders.path("layers/config/metadata.toml").exists());

    // The plan of the next buildpack has a name that can be guessed.
    let plans = outside("plans");
    case.buildpack("d", &format!("ln -s {mine}/file {plans}/e.toml"));
    case.buildpack("e", "true");
    case.build(&["d", "e"]).unwrap();

    let left: Vec<_> = fs_err::read_dir(case.folders.path("mine")).unwrap().collect();
    assert_eq!((left.len(), case.folders.read("mine/file").as_str()), (1, "untouched"));
}

#[test]
fn a_folder_of_another_buildpack_is_refused() {
    let case = Case::new();
    case.buildpack("other", "true");
    fs_err::rename(case.folders.path("buildpacks/other"), case.folders.path("buildpacks/a")).unwrap();
    assert_eq!(
        case.error("a"),
        "buildpack a left an invalid file: buildpack.toml: describes other@1, expected a@1"
    );
    assert!(case.executor.ran.lock().unwrap().is_empty());
}
