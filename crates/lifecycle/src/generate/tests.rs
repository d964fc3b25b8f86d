//! The generation phase with extensions that are shell scripts.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use cnb::group::Kind;
use cnb::plan::{PlanEntry, Require};
use cnb::target::Distro;
use fs_err as fs;
use layer::Root;

use super::*;
use crate::executor::Exit;
use crate::testing::{Folders, Heard, InPlace, base_env, variable};

/// A Dockerfile for the build image that adds a file.
const BUILD: &str = "ARG base_image\nFROM ${base_image}\nRUN touch /b\n";
/// The same for the run image.
const RUN: &str = "ARG base_image\nFROM ${base_image}\nRUN touch /r\n";
/// A Dockerfile that only switches the run image.
const SWITCH: &str = "FROM other/run:1\n";

struct Case {
    folders: Folders,
    executor: InPlace,
    events: Heard,
    plan: Plan,
    platform_api: ApiVersion,
    run_image: Option<&'static str>,
    run_images: Vec<RunImageMirrors>,
    /// What is said to be in the images.
    packages: Vec<&'static str>,
}

impl Case {
    fn new() -> Self {
        let folders = Folders::new();
        fs::create_dir(folders.path("generated")).unwrap();
        Self {
            folders,
            executor: InPlace::default(),
            events: Heard::default(),
            plan: Plan::default(),
            platform_api: ApiVersion::PLATFORM_LATEST,
            run_image: Some("given/run"),
            run_images: vec![RunImageMirrors {
                image: "given/run".into(),
                mirrors: vec!["other/run:1".into()],
            }],
            packages: Vec::new(),
        }
    }

    fn with_api(minor: u32) -> Self {
        Self { platform_api: ApiVersion::new(0, minor), ..Self::new() }
    }

    /// Adds version 1 of an extension.
    fn extension(&self, id: &str, generate: &str) {
        self.descriptor(id, "0.12", "");
        self.folders.script(&format!("extensions/{}/1/bin/generate", escape_id(id)), generate);
    }

    fn descriptor(&self, id: &str, api: &str, tail: &str) {
        let text = format!("api = \"{api}\"\n[extension]\nid = \"{id}\"\nversion = \"1\"\n{tail}");
        self.folders.write(&format!("extensions/{}/1/extension.toml", escape_id(id)), &text);
    }

    /// An extension without a program that leaves these files.
    fn written(&self, id: &str, files: &[(&str, &str)]) {
        self.descriptor(id, "0.10", "");
        for (name, text) in files {
            self.folders.write(&format!("extensions/{}/1/generate/{name}", escape_id(id)), text);
        }
    }

    /// These providers are asked for a thing; those that end in `!` are extensions.
    fn entry(&mut self, name: &str, providers: &[&str]) {
        let provider = |id: &&str| GroupElement {
            id: id.trim_end_matches('!').to_owned(),
            version: "1".to_owned(),
            extension: id.ends_with('!'),
            ..GroupElement::default()
        };
        let require = Require { name: name.to_owned(), ..Require::default() };
        let providers = providers.iter().map(provider).collect();
        self.plan.entries.push(PlanEntry { providers, requires: vec![require] });
    }

    fn generate(&self, ids: &[&str]) -> Result<Generated, GenerateError> {
        let platform_env = EnvDir::from_iter([("FROM_USER", "user")]);
        let operator = EnvDir::from_iter([("FROM_OPERATOR", "operator")]);
        let extensions = Root::open(self.folders.path("extensions")).unwrap();
        let covered = |element: &GroupElement, packages: &ImagePackages, switched: Option<&str>| {
            let all = packages.build.iter().chain(&packages.run).all(|name| self.packages.contains(&&**name));
            (all && switched.is_none()).then(|| format!("{} has nothing to do", element.id))
        };
        let target = TargetMetadata {
            os: "linux".into(),
            arch: "amd64".into(),
            distro: Some(Distro { name: "debian".into(), version: "12".into() }),
            ..TargetMetadata::default()
        };
        let inputs = GenerateInputs {
            group_extensions: &group(ids),
            plan: &self.plan,
            platform_api: self.platform_api,
            extensions: ModuleDir { root: &extensions, guest: self.folders.path("extensions") },
            app: self.folders.path("app"),
            platform: self.folders.path("platform"),
            plans: &self.folders.place("plans"),
            generated: &self.folders.place("generated"),
            base_env: base_env(),
            platform_env: &platform_env,
            build_config_env: Some(&operator),
            target: &target,
            exec_env: "production",
            owner: None,
            run_image: self.run_image,
            run_images: &self.run_images,
            covered: (!self.packages.is_empty()).then_some(&covered),
        };
        generate(&inputs, &self.executor, &self.events)
    }

    fn error(&self, ids: &[&str]) -> String {
        let error = self.generate(ids).unwrap_err();
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |cause| cause.source());
        let text = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        text.replace(&*self.folders.dir.path().to_string_lossy(), "")
    }

    fn warnings(&self) -> Vec<String> {
        self.events.warnings.lock().unwrap().clone()
    }

    /// All files and empty folders below `<generated>`.
    fn tree(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.folders.path("generated")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
                match entry.file_type().unwrap().is_dir() {
                    true => folders.push(entry.path()),
                    false => found.push(entry.path()),
                }
            }
        }
        let top = self.folders.path("generated");
        let mut found: Vec<_> =
            found.iter().map(|path| path.strip_prefix(&top).unwrap().display().to_string()).collect();
        found.sort();
        found
    }
}

fn group(ids: &[&str]) -> Vec<GroupElement> {
    let element = |id: &&str| GroupElement {
        id: (*id).to_owned(),
        version: "1".to_owned(),
        api: Some(ApiVersion::new(0, 12)),
        extension: true,
        ..GroupElement::default()
    };
    ids.iter().map(element).collect()
}

/// A script that leaves a file with this text.
fn leave(name: &str, text: &str) -> String {
    format!("cat > \"$CNB_OUTPUT_DIR/{name}\" <<'END'\n{text}END\n")
}

#[test]
fn programs_get_what_they_are_asked_for_and_leave_dockerfiles() {
    let mut case = Case::new();
    case.entry("x", &["some/a!", "b"]);
    case.entry("y", &["b", "c!"]);
    case.entry("z", &["b"]);
    // An extension of that name is not the buildpack.
    case.entry("w", &["some/a"]);
    let script = leave("build.Dockerfile", BUILD)
        + &leave("run.Dockerfile", RUN)
        + &leave("extend-config.toml", "[[build.args]]\nname='a'\nvalue='1 = 2'\n[run]\npackages=['p']\n")
        + "cp \"$3\" \"$1/plan\"; pwd > \"$1/pwd\"; echo said; ! read -r line";
    case.extension("some/a", &script);
    case.extension("c", "test ! -e \"$1/plan\"");
    let generated = case.generate(&["some/a", "c"]).unwrap();

    let left = &generated.extensions[0];
    let (build, run) = (left.build.as_ref().unwrap(), left.run.as_ref().unwrap());
    assert_eq!((left.element.id.as_str(), left.element.version.as_str()), ("some/a", "1"));
    assert_eq!(build.path, case.folders.path("generated/some_a/build.Dockerfile"));
    assert_eq!(build.args, [("a".to_owned(), "1 = 2".to_owned())]);
    assert_eq!((run.args.len(), run.packages.as_slice()), (0, ["p".to_owned()].as_slice()));
    assert_eq!((&build.context, &run.context), (&None, &None));
    let none = &generated.extensions[1];
    assert!(none.build.is_none() && none.run.is_none() && none.covered.is_none());
    assert_eq!((generated.extend_build, generated.extend_run, generated.run_image), (true, true, None));
    // What extensions were asked for, nobody else is.
    let names: Vec<_> = generated.plan.entries.iter().map(|it| it.requires[0].name.as_str()).collect();
    assert_eq!(names, ["z", "w"]);

    assert_eq!(case.folders.read("generated/some_a/plan"), "[[entries]]\n  name = \"x\"\n");
    assert_eq!(Path::new(case.folders.read("generated/some_a/pwd").trim()), case.folders.path("app"));
    assert_eq!(*case.events.output.lock().unwrap(), b"said\n");
    let ran = case.executor.ran.lock().unwrap();
    assert_eq!(ran[0].args[0], case.folders.path("generated/some_a"));
    assert_eq!(ran[0].args[1], case.folders.path("platform"));
    for (name, value) in [
        ("CNB_OUTPUT_DIR", &*case.folders.path("generated/some_a")),
        ("CNB_PLATFORM_DIR", &case.folders.path("platform")),
        ("CNB_EXTENSION_DIR", &case.folders.path("extensions/some_a/1")),
        ("CNB_BP_PLAN_PATH", Path::new(&ran[0].args[2])),
        ("CNB_TARGET_DISTRO_NAME", Path::new("debian")),
        ("CNB_EXEC_ENV", Path::new("production")),
        ("FROM_USER", Path::new("user")),
        ("FROM_OPERATOR", Path::new("operator")),
    ] {
        assert_eq!(variable(&ran[0], name), Some(value), "{name}");
    }
    for name in ["SECRET", "CNB_BUILDPACK_DIR", "CNB_LAYERS_DIR"] {
        assert_eq!(variable(&ran[0], name), None, "{name}");
    }
}

#[test]
fn the_environment_is_that_of_the_api_and_cleared_where_that_is_wanted() {
    let case = Case::new();
    case.extension("old", "true");
    case.descriptor("old", "0.9", "clear-env = true\n");
    case.generate(&["old"]).unwrap();
    let ran = case.executor.ran.lock().unwrap();
    for name in ["FROM_USER", "CNB_TARGET_OS", "CNB_EXEC_ENV"] {
        assert_eq!(variable(&ran[0], name), None, "{name}");
    }
    assert!(variable(&ran[0], "FROM_OPERATOR").is_some() && variable(&ran[0], "CNB_OUTPUT_DIR").is_some());
}

#[test]
fn a_program_that_fails_ends_the_phase_with_its_last_lines() {
    let case = Case::new();
    case.extension("bad", "echo 100% bad; echo worse >&2; exit 7");
    case.extension("never", "true");
    let error = case.generate(&["bad", "never"]).unwrap_err();
    assert_eq!(error.to_string(), "extension bad 1 failed: bin/generate ended with exit code 7");
    assert!(
        matches!(&error, GenerateError::Failed { exit: Exit::Code(7), tail, .. } if tail == "100% bad\nworse\n"),
        "{error:?}"
    );
    assert_eq!(case.executor.ran.lock().unwrap().len(), 1);
    case.extension("bad", "kill -9 $$");
    assert_eq!(case.error(&["bad"]), "extension bad 1 failed: bin/generate ended with signal 9");
    fs::set_permissions(
        case.folders.path("extensions/bad/1/bin/generate"),
        std::fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    assert!(
        case.error(&["bad"]).starts_with("extension bad could not be run: failed to run /extensions/bad")
    );
}

#[test]
fn what_is_written_beforehand_counts_at_every_platform_api() {
    let files = [
        ("build.Dockerfile", BUILD),
        ("extend-config.toml", "[[build.args]]\nname='a'\nvalue='1'\n"),
        ("context/file", "content"),
    ];
    for minor in [10, 12, 13, 15] {
        let case = Case::with_api(minor);
        case.written("some/a", &files);
        let generated = case.generate(&["some/a"]).unwrap();
        let build = generated.extensions[0].build.as_ref().unwrap();
        assert_eq!(build.args.len(), 1, "{minor}");
        assert!(generated.extend_build && !generated.extend_run);
        assert_eq!(fs::read_to_string(&build.path).unwrap(), BUILD);
        if minor >= 13 {
            assert_eq!(build.path, case.folders.path("generated/some_a/build.Dockerfile"));
            assert_eq!(build.context, Some(case.folders.path("generated/some_a/context")));
            assert_eq!(case.folders.read("generated/some_a/context/file"), "content");
        } else {
            let expected = ["build/some_a/Dockerfile", "build/some_a/extend-config.toml"];
            assert_eq!(case.tree(), expected, "{minor}");
            assert_eq!((&build.context, case.warnings().len()), (&None, 1));
        }
        // The extension itself is as it was.
        assert_eq!(case.folders.read("extensions/some_a/1/generate/context/file"), "content");
    }
}

#[test]
fn a_run_image_can_be_switched() {
    let case = Case::new();
    case.written("a", &[("run.Dockerfile", RUN), ("build.Dockerfile", BUILD)]);
    case.written("b", &[("run.Dockerfile", SWITCH)]);
    let generated = case.generate(&["a", "b"]).unwrap();
    assert_eq!(generated.run_image.as_deref(), Some("other/run:1"));
    assert!(generated.extend_build && !generated.extend_run);
    let [a, b] = &generated.extensions[..] else { panic!("{generated:?}") };
    assert!(a.run.is_none() && b.ignored_run.is_none());
    let ignored = a.ignored_run.as_ref().unwrap();
    assert_eq!(ignored.path, case.folders.path("generated/a/run.Dockerfile.ignore"));
    assert_eq!(case.tree(), ["a/build.Dockerfile", "a/run.Dockerfile.ignore", "b/run.Dockerfile"]);
    assert_eq!(case.warnings(), Vec::<String>::new());

    let mut analyzed = Analyzed::parse(
        "analyzed.toml",
        "[run-image]\nreference='r@sha256:1'\nimage='given/run'\n[run-image.target]\nos='linux'\narch='amd64'\n",
    )
    .unwrap();
    generated.update(&mut analyzed);
    let run_image = analyzed.run_image.unwrap();
    assert_eq!((run_image.image.as_str(), run_image.reference.as_str()), ("other/run:1", "other/run:1"));
    assert!(!run_image.extend && run_image.target.is_none());
    assert!(analyzed.build_image.unwrap().extend);
}

#[test]
fn a_switched_run_image_can_be_extended() {
    let case = Case::new();
    case.written("a", &[("run.Dockerfile", "FROM first/run\nRUN never\n")]);
    case.written("b", &[("run.Dockerfile", &format!("{SWITCH}RUN touch /x\n"))]);
    case.written("c", &[("build.Dockerfile", BUILD)]);
    case.written("d", &[("run.Dockerfile", RUN)]);
    for (ids, extend) in
        [(vec!["a", "b", "c"], true), (vec!["a", "b", "d"], true), (vec!["b"], true), (vec!["d", "a"], true)]
    {
        let generated = case.generate(&ids).unwrap();
        assert_eq!((generated.run_image.is_some(), generated.extend_run), (true, extend), "{ids:?}");
    }
    case.generate(&["a", "b", "d"]).unwrap();
    assert_eq!(
        case.tree(),
        ["a/run.Dockerfile.ignore", "b/run.Dockerfile", "c/build.Dockerfile", "d/run.Dockerfile"]
    );
    case.written("b", &[("run.Dockerfile", SWITCH)]);
    assert!(!case.generate(&["a", "b", "c"]).unwrap().extend_run);
    assert!(case.generate(&["a", "b", "d"]).unwrap().extend_run);
}

#[test]
fn a_run_image_that_nobody_knows_is_a_warning() {
    let mut case = Case::new();
    case.run_images =
        vec![RunImageMirrors { image: "known/run".into(), mirrors: vec!["mirror/run:2".into()] }];
    for (image, warns) in [
        ("unknown/run", true),
        ("known/run:other", true),
        ("known/run", false),
        ("docker.io/known/run:latest", false),
        ("mirror/run:2", false),
    ] {
        case.written("a", &[("run.Dockerfile", &format!("FROM {image}\n"))]);
        let generated = case.generate(&["a"]).unwrap();
        assert_eq!(generated.run_image.as_deref(), Some(image));
        let warnings = std::mem::take(&mut *case.events.warnings.lock().unwrap());
        assert_eq!(warnings.iter().any(|it| it.contains(image)), warns, "{image}: {warnings:?}");
    }
}

#[test]
fn the_run_image_in_use_is_no_other() {
    let mut case = Case::new();
    case.run_image = Some("other/run:1");
    case.written("a", &[("run.Dockerfile", SWITCH)]);
    case.written("b", &[("run.Dockerfile", RUN)]);
    let generated = case.generate(&["b", "a"]).unwrap();
    assert_eq!((generated.run_image.as_deref(), generated.extend_run), (None, false));
    // All the same it is where the image starts anew.
    assert!(generated.extensions[0].ignored_run.is_some());
    let mut analyzed = Analyzed { run_image: Some(RunImage::default()), ..Analyzed::default() };
    case.generate(&["a", "b"]).unwrap().update(&mut analyzed);
    assert_eq!(analyzed.run_image, Some(RunImage { extend: true, ..RunImage::default() }));
    case.platform_api = ApiVersion::new(0, 11);
    assert_eq!(case.generate(&["a"]).unwrap().run_image.as_deref(), Some("other/run:1"));
}

#[test]
fn older_platforms_get_older_folders() {
    let case = Case::with_api(12);
    case.extension("some/a", &(leave("build.Dockerfile", BUILD) + &leave("run.Dockerfile", RUN)));
    case.extension(
        "b",
        &(leave("run.Dockerfile", SWITCH) + &leave("extend-config.toml", "") + "touch \"$1/extra\""),
    );
    let generated = case.generate(&["some/a", "b"]).unwrap();
    let expected = [
        "build/some_a/Dockerfile",
        "run/b/Dockerfile",
        "run/b/extend-config.toml",
        "run/some_a/Dockerfile.ignore",
    ];
    assert_eq!(case.tree(), expected);
    let [a, b] = &generated.extensions[..] else { panic!("{generated:?}") };
    assert_eq!(a.build.as_ref().unwrap().path, case.folders.path("generated/build/some_a/Dockerfile"));
    assert_eq!(b.run.as_ref().unwrap().path, case.folders.path("generated/run/b/Dockerfile"));
    assert_eq!(case.folders.read("generated/run/some_a/Dockerfile.ignore"), RUN);
    assert!(!case.folders.path("generated/output").exists());
    // Nothing is left of an extension that fails either.
    case.extension("b", "exit 1");
    case.generate(&["b"]).unwrap_err();
    assert!(!case.folders.path("generated/output").exists());
}

#[test]
fn what_was_left_can_be_read_again() {
    for minor in [12, 13] {
        let case = Case::with_api(minor);
        case.written("some/a", &[("build.Dockerfile", BUILD), ("run.Dockerfile", RUN)]);
        let config = "[[run.args]]\nname='r'\nvalue='1'\n";
        case.written(
            "b",
            &[
                ("run.Dockerfile", &format!("{SWITCH}RUN x\n")),
                ("extend-config.toml", config),
                ("context.run/f", ""),
            ],
        );
        case.written("none", &[]);
        let ids = ["some/a", "b", "none"];
        let generated = case.generate(&ids).unwrap();
        let root = Root::open(case.folders.path("generated")).unwrap();
        let again = read(&root, &group(&ids), case.platform_api, &case.events).unwrap();
        for (left, again) in generated.extensions.iter().zip(&again) {
            let facts = |dockerfile: &Option<GeneratedDockerfile>| {
                dockerfile
                    .as_ref()
                    .map(|it| (it.path.clone(), it.args.clone(), it.context.clone(), it.base.clone()))
            };
            assert_eq!(facts(&left.build), facts(&again.build), "{minor}");
            assert_eq!(facts(&left.run), facts(&again.run), "{minor}");
        }
        assert_eq!(again.len(), 3);
        assert_eq!(again[1].run.as_ref().unwrap().context.is_some(), minor >= 13);
        assert_eq!(again[1].run.as_ref().unwrap().args.len(), 1);
        fs::remove_dir_all(case.folders.path("generated")).unwrap();
        fs::create_dir(case.folders.path("generated")).unwrap();
        let root = Root::open(case.folders.path("generated")).unwrap();
        assert!(read(&root, &group(&ids), case.platform_api, &case.events).unwrap()[0].build.is_none());
    }
}

#[test]
fn contexts_are_for_both_images_or_for_each() {
    let dockerfiles = [("build.Dockerfile", BUILD), ("run.Dockerfile", RUN)];
    let contexts = |folders: &[&str]| {
        let case = Case::new();
        case.written("a", &dockerfiles);
        folders.iter().for_each(|it| case.folders.write(&format!("extensions/a/1/generate/{it}/f"), ""));
        case.generate(&["a"]).map(|generated| {
            let name = |dockerfile: &Option<GeneratedDockerfile>| {
                let context = dockerfile.as_ref().unwrap().context.clone();
                context.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            };
            (name(&generated.extensions[0].build), name(&generated.extensions[0].run))
        })
    };
    let some = |name: &str| Some(name.to_owned());
    assert_eq!(contexts(&[]).unwrap(), (None, None));
    assert_eq!(contexts(&["context"]).unwrap(), (some("context"), some("context")));
    assert_eq!(contexts(&["context.run"]).unwrap(), (None, some("context.run")));
    let both = contexts(&["context.build", "context.run"]).unwrap();
    assert_eq!(both, (some("context.build"), some("context.run")));
    for (folders, named) in [
        (vec!["context", "context.build"], "context and context.build"),
        (vec!["context", "context.run"], "context and context.run"),
        (vec!["context", "context.build", "context.run"], "context and context.build and context.run"),
    ] {
        let error = contexts(&folders).unwrap_err().to_string();
        assert!(error.starts_with(&format!("extension a left the folders {named}: expected")), "{error}");
    }
}

#[test]
fn nothing_is_followed_out_of_the_folder() {
    let case = Case::new();
    case.folders.write("secret", "FROM secret\n");
    let secret = case.folders.path("secret");
    for (script, expected) in [
        (format!("ln -s {} \"$1/run.Dockerfile\"", secret.display()), "/generated/a/run.Dockerfile"),
        ("ln -s ../../secret \"$1/build.Dockerfile\"".to_owned(), "/generated/a/build.Dockerfile"),
        (format!("ln -s {} \"$1/extend-config.toml\"", secret.display()), "/generated/a/extend-config.toml"),
        ("mkfifo \"$1/run.Dockerfile\"".to_owned(), "/generated/a/run.Dockerfile"),
        ("mkdir \"$1/run.Dockerfile\"".to_owned(), "/generated/a/run.Dockerfile"),
        ("ln -s .. \"$1/context\"".to_owned(), "/generated/a/context is not a folder"),
        ("rmdir \"$1\"; ln -s ../app \"$1\"".to_owned(), "/generated/a is not a folder"),
        ("touch \"$1/context.run\"".to_owned(), "/generated/a/context.run is not a folder"),
    ] {
        case.extension("a", &script);
        let error = case.error(&["a"]);
        assert!(error.contains(expected) && !error.contains("FROM"), "{error}");
    }
    // Its own files may be links to each other.
    case.extension("a", &(leave("both", RUN) + "ln -s both \"$1/run.Dockerfile\""));
    assert_eq!(case.generate(&["a"]).unwrap().extensions[0].run.as_ref().unwrap().dockerfile.text(), RUN);
}

#[test]
fn a_folder_that_is_written_beforehand_is_the_extensions_own() {
    let case = Case::new();
    case.folders.write("secrets/build.Dockerfile", BUILD);
    case.descriptor("a", "0.12", "");
    let link = case.folders.path("extensions/a/1/generate");
    std::os::unix::fs::symlink(case.folders.path("secrets"), &link).unwrap();
    // The link leads nowhere beneath the folder of extensions.
    assert!(case.generate(&["a"]).unwrap().extensions[0].build.is_none());
    assert_eq!(case.tree(), Vec::<String>::new());
}

#[test]
fn later_extensions_cannot_lead_earlier_ones_astray() {
    let case = Case::new();
    case.folders.write("app/mine", "mine");
    case.extension("a", &(leave("run.Dockerfile", RUN) + "mkdir \"$1/context\"; touch \"$1/context/f\""));
    case.extension("b", "rm -r \"$1/../a/context\"; ln -s ../../app \"$1/../a/context\"");
    assert_eq!(case.error(&["a", "b"]), "/generated/a/context is not a folder");
    case.extension(
        "b",
        &("rm -r \"$1/../a\"; ln -s ../app \"$1/../a\"\n".to_owned() + &leave("run.Dockerfile", SWITCH)),
    );
    assert_eq!(case.error(&["a", "b"]), "/generated/a is not a folder");
    assert_eq!(case.folders.read("app/mine"), "mine");
    case.extension("b", &format!("ln -s ../app \"$1/../c\"; {}", leave("run.Dockerfile", RUN)));
    case.extension("c", &leave("run.Dockerfile", RUN));
    case.generate(&["a", "b", "c"]).unwrap();
    assert!(!case.folders.path("app/run.Dockerfile").exists());
}

#[test]
fn what_an_earlier_build_left_is_gone() {
    let case = Case::new();
    case.folders.write("generated/a/build.Dockerfile", BUILD);
    case.extension("a", "true");
    let generated = case.generate(&["a"]).unwrap();
    assert!(generated.extensions[0].build.is_none() && !generated.extend_build);
    assert_eq!(case.tree(), Vec::<String>::new());
}

#[test]
fn files_that_are_not_valid_are_errors_that_name_the_extension() {
    let case = Case::new();
    for (files, expected) in [
        (
            [("extend-config.toml", "[[build.args]]\nname='user_id'\n")],
            "extension some/a has an invalid file: some/a/extend-config.toml:1:1: the argument 'user_id' is",
        ),
        (
            [("extend-config.toml", "build = 3\n")],
            "extension some/a has an invalid file: some/a/extend-config.toml:1:9: invalid type",
        ),
    ] {
        case.written("some/a", &files);
        let error = case.error(&["some/a"]);
        assert!(error.starts_with(expected), "{error}");
    }
    for (name, text, expected) in [
        ("build.Dockerfile", "FROM x\n", "build.Dockerfile must begin with `ARG base_image`"),
        (
            "run.Dockerfile",
            "ARG base_image\nFROM ${base_image}\nFROM x\n",
            "run.Dockerfile:3:1: a second FROM",
        ),
        ("run.Dockerfile", "RUN x\n", "run.Dockerfile has RUN before FROM"),
    ] {
        case.written("b", &[(name, text)]);
        let error = case.error(&["b"]);
        let head = format!("extension b wrote an invalid Dockerfile: b/{name}:");
        assert!(error.starts_with(&head) && error.contains(expected), "{error}");
        fs::remove_file(case.folders.path(&format!("extensions/b/1/generate/{name}"))).unwrap();
    }
    case.folders.write("extensions/other/1/extension.toml", "api='0.12'\n[extension]\nid='b'\nversion='1'\n");
    let error = case.error(&["other"]);
    assert!(error.ends_with("describes b@1, expected other@1"), "{error}");
    assert!(case.error(&["gone"]).contains("/extensions/gone/1/extension.toml"));
    case.written("some_a", &[]);
    assert!(case.error(&["some/a", "some_a"]).starts_with("extension some_a has the same folder"));
}

#[test]
fn instructions_that_are_not_recommended_are_warnings() {
    let case = Case::new();
    case.written("some/a", &[("run.Dockerfile", &format!("{RUN}EXPOSE 80\n")), ("build.Dockerfile", BUILD)]);
    let generated = case.generate(&["some/a"]).unwrap();
    let warnings = case.warnings();
    let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert!(
        warning.starts_with("extension some/a: run.Dockerfile") && warning.contains("EXPOSE"),
        "{warning}"
    );
    assert!(generated.extend_run);
}

#[test]
fn a_dockerfile_without_instructions_extends_nothing() {
    let case = Case::new();
    let nothing = "ARG base_image\nFROM ${base_image}\nARG build_id=0\n";
    case.written("a", &[("run.Dockerfile", nothing), ("build.Dockerfile", nothing)]);
    let generated = case.generate(&["a"]).unwrap();
    assert!(!generated.extend_run && !generated.extend_build && generated.run_image.is_none());
    assert!(generated.extensions[0].run.is_some());
}

#[test]
fn an_extension_whose_packages_are_there_is_not_asked() {
    let mut case = Case::new();
    case.entry("pq", &["apt!"]);
    case.entry("other", &["b"]);
    case.extension("apt", &leave("run.Dockerfile", RUN));
    case.descriptor(
        "apt",
        "0.12",
        "[[metadata.packages]]\nprovides='pq'\nbuild=['libpq-dev']\nrun=['libpq5']\n",
    );
    case.packages = vec!["libpq5"];
    assert!(case.generate(&["apt"]).unwrap().extend_run);
    case.packages = vec!["libpq5", "libpq-dev"];
    let generated = case.generate(&["apt"]).unwrap();
    assert_eq!(generated.extensions[0].covered.as_deref(), Some("apt has nothing to do"));
    assert!(!generated.extend_run && generated.extensions[0].run.is_none());
    assert_eq!(case.executor.ran.lock().unwrap().len(), 1);
    assert_eq!(generated.plan.of(Kind::Extension, "apt").entries, []);
    assert_eq!(generated.plan.entries.len(), 1);
    // Another run image is another question.
    case.written("switch", &[("run.Dockerfile", SWITCH)]);
    assert!(case.generate(&["switch", "apt"]).unwrap().extensions[1].covered.is_none());
    // An extension that nobody asks for anything is asked as ever.
    case.plan = Plan::default();
    assert!(case.generate(&["apt"]).unwrap().extensions[0].covered.is_none());
}
