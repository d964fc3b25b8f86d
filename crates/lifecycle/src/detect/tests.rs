//! The detect phase with buildpacks that are shell scripts.

use cnb::resolve::Verdict;
use cnb::target::Distro;

use super::*;
use crate::testing::{Folders, Heard, InPlace, base_env, variable};

const PROVIDE: &str = "printf '[[provides]]\\nname = \"%s\"\\n' x >> \"$2\"";
const REQUIRE: &str = "printf '[[requires]]\\nname = \"%s\"\\n' x >> \"$2\"";

const PLAN: &str = "[[provides]]\nname = \"x\"\n";

struct Case {
    folders: Folders,
    executor: InPlace,
    events: Heard,
    system: Option<System>,
    exec_env: &'static str,
    platform_api: ApiVersion,
    target: TargetMetadata,
}

impl Case {
    fn new() -> Self {
        Self {
            folders: Folders::new(),
            executor: InPlace::default(),
            events: Heard::default(),
            system: None,
            exec_env: "production",
            platform_api: ApiVersion::PLATFORM_LATEST,
            target: TargetMetadata {
                os: "linux".into(),
                arch: "amd64".into(),
                distro: Some(Distro { name: "debian".into(), version: "12".into() }),
                ..TargetMetadata::default()
            },
        }
    }

    /// A buildpack of this API whose `bin/detect` is this script.
    fn buildpack(&self, id: &str, detect: &str) {
        self.folders.buildpack(id, "0.12", "", [detect, "true"]);
    }

    fn composite(&self, id: &str, order: &str) {
        self.folders.buildpack(id, "0.12", &order_toml(order), ["", ""]);
    }

    /// `a b? | c`: groups of entries of version 1; extensions after `+`.
    fn detect(&self, order: &str) -> Result<Detected, DetectError> {
        let (buildpacks, extensions) = order.split_once(" + ").unwrap_or((order, ""));
        let extensions = order_toml(extensions).replace("[[order", "[[order-extensions");
        let order = Order::parse("order.toml", &(order_toml(buildpacks) + &extensions)).unwrap();
        let platform_env = EnvDir::from_iter([("FROM_USER", "user"), ("PATH", "/user")]);
        let operator = EnvDir::from_iter([("FROM_OPERATOR", "operator")]);
        let buildpacks = Root::open(self.folders.path("buildpacks")).unwrap();
        let extensions = Root::open(self.folders.path("extensions")).unwrap();
        let inputs = DetectInputs {
            order: &order,
            system: self.system.as_ref(),
            platform_api: self.platform_api,
            buildpacks: ModuleDir { root: &buildpacks, guest: self.folders.path("buildpacks") },
            extensions: Some(ModuleDir { root: &extensions, guest: self.folders.path("extensions") }),
            app: self.folders.path("app"),
            platform: self.folders.path("platform"),
            plans: &self.folders.place("plans"),
            base_env: base_env(),
            platform_env: &platform_env,
            build_config_env: Some(&operator),
            target: &self.target,
            exec_env: self.exec_env,
            owner: None,
            parallel: 3,
        };
        detect(&inputs, &self.executor, &self.events)
    }

    /// Ids of the group that passes.
    fn ids(&self, order: &str) -> String {
        let group = self.detect(order).unwrap().group;
        let all: Vec<_> =
            group.group_extensions.iter().chain(&group.group).map(|element| element.id.as_str()).collect();
        all.join(" ")
    }

    /// Verdicts of the groups that fail, and whether somebody did not work.
    fn failure(&self, order: &str) -> (Vec<Verdict>, bool) {
        match self.detect(order) {
            Err(DetectError::NoGroup { errored, report }) => {
                let members = report.groups.into_iter().flat_map(|group| group.members);
                (members.map(|member| member.verdict).collect(), errored)
            }
            other => panic!("expected no group, got {other:?}"),
        }
    }

    fn ran(&self) -> usize {
        self.executor.ran.lock().unwrap().len()
    }
}

fn order_toml(text: &str) -> String {
    let mut out = String::new();
    for group in text.split('|').filter(|group| !group.trim().is_empty()) {
        out.push_str("[[order]]\n");
        for word in group.split_whitespace() {
            let (id, optional) = (word.trim_end_matches('?'), word.ends_with('?'));
            out.push_str(&format!(
                "[[order.group]]\nid = \"{id}\"\nversion = \"1\"\noptional = {optional}\n"
            ));
        }
    }
    out
}

#[test]
fn the_first_group_that_passes_is_taken_and_has_a_plan() {
    let case = Case::new();
    case.buildpack("some/a", PROVIDE);
    case.buildpack("b", REQUIRE);
    case.buildpack("no", "exit 100");
    let detected = case.detect("no b | some/a no? b | b").unwrap();
    assert_eq!(
        detected.group.to_toml(),
        "[[group]]\n  id = \"some/a\"\n  version = \"1\"\n  api = \"0.12\"\n\n[[group]]\n  id = \"b\"\n  version = \"1\"\n  api = \"0.12\"\n"
    );
    assert_eq!(
        detected.plan.to_toml(),
        "[[entries]]\n\n  [[entries.providers]]\n    id = \"some/a\"\n    version = \"1\"\n\n  [[entries.requires]]\n    name = \"x\"\n"
    );
    assert_eq!(detected.report.groups.len(), 2);
    assert_eq!(detected.report.groups[1].members[1].verdict, Verdict::Failed);
}

#[test]
fn nobody_is_asked_twice() {
    let case = Case::new();
    case.buildpack("a", "true");
    case.buildpack("no", "exit 100");
    case.buildpack("never", "exit 100");
    assert_eq!(case.ids("a no | a never | a no? never?"), "a");
    assert_eq!(case.ran(), 3);
}

#[test]
fn who_says_no_is_told_from_who_does_not_work() {
    let case = Case::new();
    case.buildpack("a", "true");
    case.buildpack("no", "exit 100");
    case.buildpack("broken", "echo 100% of %s %d; echo worse >&2; exit 3");
    case.buildpack("killed", "kill -9 $$");
    case.folders.buildpack("none", "0.12", "", ["", "true"]);
    assert_eq!(case.failure("a no"), (vec![Verdict::Passed, Verdict::Failed], false));
    let (verdicts, errored) = case.failure("broken killed none");
    assert!(errored);
    assert_eq!(verdicts[0], Verdict::Errored("bin/detect ended with exit code 3".into()));
    assert_eq!(verdicts[1], Verdict::Errored("bin/detect ended with signal 9".into()));
    assert!(
        matches!(&verdicts[2], Verdict::Errored(why) if why.contains("none/1/bin/detect")),
        "{verdicts:?}"
    );
    let Err(DetectError::NoGroup { report, .. }) = case.detect("broken") else { panic!("it passed") };
    assert_eq!(report.runs[&ModuleId::buildpack("broken", "1")].output, b"100% of %s %d\nworse\n");
    assert_eq!(case.ids("broken? a"), "a");
    assert_eq!(case.ids("broken | a"), "a");
}

#[test]
fn a_plan_that_is_not_valid_is_an_error_of_the_buildpack() {
    let case = Case::new();
    case.buildpack("bad", "echo 'provides = 3' > \"$2\"");
    case.buildpack("old", "printf '[[requires]]\\nname=\"x\"\\nversion=\"1\"\\n' > \"$2\"");
    let (verdicts, errored) = case.failure("bad old");
    assert!(errored);
    assert!(
        matches!(&verdicts[0], Verdict::Errored(why) if why.contains(".toml:1:12: invalid type")),
        "{verdicts:?}"
    );
    assert!(
        matches!(&verdicts[1], Verdict::Errored(why) if why.contains("'metadata.version'")),
        "{verdicts:?}"
    );
}

#[test]
fn a_plan_is_read_only_below_its_folder() {
    let case = Case::new();
    case.folders.write("secret.toml", "[[requires]]\nname = \"secret\"\n");
    let secret = case.folders.path("secret.toml");
    case.buildpack("link", &format!("rm \"$2\"; ln -s {} \"$2\"", secret.display()));
    let (verdicts, errored) = case.failure("link");
    assert!(errored, "{verdicts:?}");
    case.buildpack("pipe", "rm \"$2\"; mkfifo \"$2\"");
    assert!(case.failure("pipe").1);
    case.buildpack("gone", "rm \"$2\"");
    assert_eq!(case.ids("gone"), "gone");
}

#[test]
fn a_symlink_in_place_of_a_plan_is_not_followed() {
    let case = Case::new();
    case.folders.write("mine", "untouched");
    let (mine, plans) = (case.folders.path("mine"), case.folders.path("plans"));
    case.buildpack("plant", &format!("ln -s {} {}/detect-1.toml; exit 100", mine.display(), plans.display()));
    case.buildpack("a", PROVIDE);
    case.buildpack("b", REQUIRE);
    assert_eq!(case.ids("plant | a b"), "a b");
    assert_eq!(case.folders.read("mine"), "untouched");
}

#[test]
fn programs_get_what_their_api_has() {
    let case = Case::new();
    case.folders.buildpack("old", "0.7", "clear-env = true\n", ["true", "true"]);
    case.folders.buildpack("middle", "0.9", "", ["true", "true"]);
    case.buildpack("new", "! read -r line");
    assert_eq!(case.ids("old middle new"), "old middle new");
    let ran = case.executor.ran.lock().unwrap();
    let of = |id: &str| {
        let program = case.folders.path("buildpacks").join(id).join("1/bin/detect");
        ran.iter().find(|invocation| invocation.program == program).unwrap()
    };
    for id in ["old", "middle", "new"] {
        let invocation = of(id);
        assert_eq!(invocation.cwd, case.folders.path("app"));
        assert_eq!(invocation.args[0], case.folders.path("platform"));
        assert_eq!(
            variable(invocation, "CNB_BUILDPACK_DIR"),
            Some(&*case.folders.path("buildpacks").join(id).join("1"))
        );
        assert_eq!(variable(invocation, "SECRET"), None);
        assert_eq!(variable(invocation, "HOME"), Some(Path::new("/home/cnb")));
        assert_eq!(variable(invocation, "FROM_OPERATOR"), Some(Path::new("operator")));
    }
    let has = |id: &str, name: &str| variable(of(id), name).is_some();
    assert!(!has("old", "FROM_USER") && has("middle", "FROM_USER"));
    assert_eq!(variable(of("new"), "PATH"), Some(Path::new("/user:/usr/bin:/bin")));
    assert!(!has("old", "CNB_PLATFORM_DIR") && has("middle", "CNB_PLATFORM_DIR"));
    assert!(!has("old", "CNB_BUILD_PLAN_PATH"));
    assert_eq!(variable(of("new"), "CNB_BUILD_PLAN_PATH"), Some(Path::new(&of("new").args[1])));
    assert!(!has("middle", "CNB_TARGET_OS") && !has("middle", "CNB_EXEC_ENV"));
    assert_eq!(variable(of("new"), "CNB_TARGET_DISTRO_NAME"), Some(Path::new("debian")));
    assert_eq!(variable(of("new"), "CNB_EXEC_ENV"), Some(Path::new("production")));
}

#[test]
fn composites_system_buildpacks_and_extensions_are_resolved() {
    let mut case = Case::new();
    case.buildpack("a", "exit 100");
    case.buildpack("b", REQUIRE);
    case.buildpack("system", "true");
    case.composite("some/composite", "a | b");
    let head = "api = \"0.10\"\n[extension]\nid = \"e\"\nversion = \"1\"\n";
    case.folders.write("extensions/e/1/extension.toml", head);
    case.folders.write("extensions/e/1/detect/plan.toml", "[[provides]]\nname = \"x\"\n");
    case.folders.write("extensions/f/1/extension.toml", &head.replace("\"e\"", "\"f\""));
    case.folders.script("extensions/f/1/bin/detect", "test -n \"$CNB_EXTENSION_DIR\"; exit 100");
    case.system =
        Some(System::parse("system.toml", "[[system.pre.buildpacks]]\nid='system'\nversion='1'\n").unwrap());
    assert_eq!(case.ids("some/composite + e f"), "e system b");
    let plan = case.detect("some/composite + e f").unwrap().plan;
    assert!(plan.entries[0].providers[0].extension);
    case.platform_api = ApiVersion::new(0, 14);
    assert_eq!(case.ids("some/composite + e"), "e b");
}

/// Adds version 1 of an extension with the usual head, and what stands below it.
fn extension(case: &Case, id: &str, tail: &str) {
    let head = format!("api = \"0.12\"\n[extension]\nid = \"{id}\"\nversion = \"1\"\n{tail}");
    case.folders.write(&format!("extensions/{id}/1/extension.toml"), &head);
}

#[test]
fn extensions_alone_are_no_group() {
    let case = Case::new();
    case.buildpack("no", "exit 100");
    extension(&case, "e", "");
    assert_eq!(case.failure("no? + e").0, vec![Verdict::Passed, Verdict::Failed, Verdict::Failed]);
    let Err(DetectError::NoGroup { errored: false, .. }) = case.detect("no? + e") else {
        panic!("it passed")
    };
}

#[test]
fn what_an_extension_may_not_leaves_it_out() {
    let mut case = Case::new();
    case.buildpack("a", "true");
    case.buildpack("b", REQUIRE);
    extension(&case, "requires", "");
    case.folders.write("extensions/requires/1/detect/plan.toml", "[[requires]]\nname = \"x\"\n");
    extension(&case, "broken", "");
    case.folders.script("extensions/broken/1/bin/detect", "exit 3");
    extension(&case, "arm", "[[targets]]\narch = \"arm64\"\n");
    extension(&case, "test", "exec-env = [\"test\"]\n");
    assert_eq!(case.ids("a + requires broken arm test"), "a");
    case.exec_env = "test";
    assert_eq!(case.ids("a + requires test"), "test a");
    let (verdicts, _) = case.failure("b + requires");
    let requires = "an extension can not require anything, but requires 'x'";
    assert!(matches!(&verdicts[0], Verdict::Errored(why) if why.contains(requires)), "{verdicts:?}");
}

#[test]
fn the_plan_of_an_extension_is_read_only_below_its_folder() {
    let case = Case::new();
    case.buildpack("b", REQUIRE);
    case.folders.write("secret.toml", PLAN);
    extension(&case, "link", "");
    fs_err::create_dir(case.folders.path("extensions/link/1/detect")).unwrap();
    let link = case.folders.path("extensions/link/1/detect/plan.toml");
    std::os::unix::fs::symlink(case.folders.path("secret.toml"), &link).unwrap();
    assert_eq!(case.failure("b + link").0[1], Verdict::Unmet { requires: "x".into() });
    fs_err::remove_file(&link).unwrap();
    case.folders.write("extensions/link/1/detect/plan.toml", PLAN);
    assert_eq!(case.ids("b + link"), "link b");
}

#[test]
fn targets_and_execution_environments_are_minded() {
    let mut case = Case::new();
    case.buildpack("a", "true");
    case.folders.buildpack("arm", "0.12", "[[targets]]\narch = \"arm64\"\n", ["true", "true"]);
    case.folders.buildpack("test", "0.12", "exec-env = [\"test\"]\n", ["true", "true"]);
    assert_eq!(case.ids("arm? a test"), "a");
    assert_eq!(case.ran(), 1);
    assert_eq!(case.failure("arm a"), (vec![Verdict::OtherTarget, Verdict::Passed], true));
    case.exec_env = "test";
    assert_eq!(case.ids("a test"), "a test");
}

#[test]
fn an_order_that_leads_nowhere_is_an_error_of_its_own() {
    let case = Case::new();
    case.composite("c", "d");
    case.composite("d", "c");
    let error = case.detect("c").unwrap_err();
    assert!(matches!(error, DetectError::Order(OrderError::Cycle { .. })), "{error}");
    assert_eq!(
        case.detect("gone").unwrap_err().to_string(),
        "buildpack gone@1 is not there, but the order names it"
    );
    case.buildpack("other", "true");
    fs_err::rename(case.folders.path("buildpacks/other/1"), case.folders.path("buildpacks/1")).unwrap();
    let error = case.detect("..").unwrap_err().to_string();
    assert!(error.ends_with("buildpack.toml: describes other@1, expected ..@1"), "{error}");
    case.folders.write("buildpacks/bad/1/buildpack.toml", "api = \"0.12\"\n[buildpack]\nid = 3\n");
    let error = case.detect("bad").unwrap_err().to_string();
    assert!(
        error.ends_with("buildpacks/bad/1/buildpack.toml:3:6: invalid type: integer `3`, expected a string"),
        "{error}"
    );
}

#[test]
fn members_of_a_group_run_side_by_side() {
    let case = Case::new();
    // Each waits for the others: one after the other they would never end.
    let meet = "touch ../$(basename $(dirname $(dirname $(dirname $0)))); for i in $(seq 200); do [ -e ../p ] && [ -e ../q ] && [ -e ../r ] && exit 0; sleep 0.05; done; exit 1";
    ["p", "q", "r"].into_iter().for_each(|id| case.buildpack(id, meet));
    assert_eq!(case.ids("p q r"), "p q r");
}

#[test]
fn endless_output_is_bounded() {
    let case = Case::new();
    case.buildpack("loud", "head -c 3000000 /dev/zero; echo end; exit 100");
    let Err(DetectError::NoGroup { report, .. }) = case.detect("loud") else { panic!("it passed") };
    let output = &report.runs[&ModuleId::buildpack("loud", "1")].output;
    assert!(output.len() <= 256 * 1024 && output.ends_with(b"end\n"), "{}", output.len());
}
