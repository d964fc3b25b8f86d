//! Which buildpacks take part: groups, optional ones, plans, composites, targets, system buildpacks.

use testkit::{Base, Builder, Buildpack, Layout};

use crate::support::*;

/// A buildpack that detects, or does not, with this exit code.
fn exits(id: &str, code: i32) -> Buildpack {
    Buildpack::new(id, "1").detect(&format!("echo \"verdict of {id}\"; exit {code}"))
}

/// A buildpack whose `bin/detect` writes this plan, and which keeps the plan that its build is given.
fn plans(id: &str, plan: &str) -> Buildpack {
    let detect = format!("cat > \"$CNB_BUILD_PLAN_PATH\" <<'END'\n{plan}\nEND");
    facts(id, "fact plan \"$(cat \"$CNB_BP_PLAN_PATH\")\"").detect(&detect)
}

#[test]
fn the_first_group_that_detects() {
    let Some(machine) = machine() else { return };
    let order = Builder::new(Base::Small)
        .buildpack(exits("test/yes", 0))
        .buildpack(exits("test/no", 100))
        .buildpack(exits("test/maybe", 100))
        .group(&["test/yes", "test/no"])
        .group(&["test/maybe?", "test/yes"])
        .group(&["test/yes"]);
    build(&machine, &builder(&machine, &order)).ok();
    assert_eq!(participants(&built(&machine)), ["test/yes"]);
}

#[test]
fn no_group() {
    let Some(machine) = machine() else { return };
    let order = Builder::new(Base::Small)
        .buildpack(exits("test/no", 100))
        .buildpack(exits("test/broken", 7))
        .buildpack(exits("test/yes", 0))
        .group(&["test/no", "test/yes"])
        .group(&["test/broken"]);
    let output = build(&machine, &builder(&machine, &order)).fails();
    // Each buildpack's verdict and what it said.
    for text in ["test/no", "verdict of test/no", "test/broken", "verdict of test/broken", "7", "test/yes"] {
        output.says(text);
    }
    assert!(!machine.path("work/out").join("index.json").exists(), "no image was begun");
}

#[test]
fn plans_have_to_fit() {
    let Some(machine) = machine() else { return };
    let requires = "[[requires]]\nname = \"node\"\n[requires.metadata]\nversion = \"18.*\"\ncount = 3";
    let order = Builder::new(Base::Small)
        .buildpack(plans("test/node", "[[provides]]\nname = \"node\""))
        .buildpack(plans("test/app", requires))
        .buildpack(plans("test/unused", "[[provides]]\nname = \"nobody-wants-this\""))
        .buildpack(plans("test/unmet", "[[requires]]\nname = \"nobody-has-this\""))
        .group(&["test/node", "test/app", "test/unmet"])
        .group(&["test/node", "test/unused?", "test/app", "test/unmet?"]);
    build(&machine, &builder(&machine, &order)).ok();
    let image = built(&machine);
    assert_eq!(participants(&image), ["test/node", "test/app"]);
    let plan = fact(&image, "test/node", "plan");
    for line in ["[[entries]]", "name = \"node\"", "version = \"18.*\"", "count = 3"] {
        assert!(plan.contains(line), "{plan}");
    }
    assert!(!fact(&image, "test/app", "plan").contains("entries"), "a requirement is met once");
}

#[test]
fn alternatives_in_plans() {
    let Some(machine) = machine() else { return };
    // The first choice asks for what nobody has; the second is nothing at all.
    let choosy = "[[provides]]\nname = \"a\"\n[[requires]]\nname = \"nobody-has-this\"\n[[or]]\n[[or.provides]]\nname = \"a\"";
    let order = Builder::new(Base::Small)
        .buildpack(plans("test/choosy", choosy))
        .buildpack(plans("test/wants", "[[requires]]\nname = \"a\""))
        .group(&["test/choosy", "test/wants"]);
    build(&machine, &builder(&machine, &order)).ok();
    let image = built(&machine);
    assert_eq!(participants(&image), ["test/choosy", "test/wants"]);
    assert!(fact(&image, "test/choosy", "plan").contains("name = \"a\""));
}

#[test]
fn unmet_goes_to_the_next_provider() {
    let Some(machine) = machine() else { return };
    let provides = "[[provides]]\nname = \"x\"\n[[requires]]\nname = \"x\"";
    let passes_on =
        facts("test/passes-on", "printf '[[unmet]]\nname = \"x\"\n' > \"$CNB_LAYERS_DIR/build.toml\"");
    let passes_on =
        passes_on.detect(&format!("printf '{}' > \"$CNB_BUILD_PLAN_PATH\"", provides.replace('\n', "\\n")));
    build(&machine, &builder_of(&machine, &[passes_on, plans("test/second", provides)])).ok();
    assert!(fact(&built(&machine), "test/second", "plan").contains("name = \"x\""));

    let lies = Buildpack::new("test/lies", "1")
        .build("printf '[[unmet]]\nname = \"y\"\n' > \"$CNB_LAYERS_DIR/build.toml\"");
    build(&machine, &builder_of(&machine, &[lies])).fails().says("test/lies").says("y");
}

#[test]
fn composites() {
    let Some(machine) = machine() else { return };
    let group = |ids: &[&str]| {
        let member = |id: &&str| {
            let optional = if id.ends_with('?') { "\noptional = true" } else { "" };
            format!("[[order.group]]\nid = \"{}\"\nversion = \"1\"{optional}\n", id.trim_end_matches('?'))
        };
        format!("[[order]]\n{}", ids.iter().map(member).collect::<String>())
    };
    let order = Builder::new(Base::Small)
        .buildpack(exits("test/a", 0))
        .buildpack(exits("test/b", 100))
        .buildpack(exits("test/c", 0))
        .buildpack(Buildpack::composite(
            "test/inner",
            "1",
            &format!("{}{}", group(&["test/b"]), group(&["test/b?", "test/c"])),
        ))
        .buildpack(Buildpack::composite("test/outer", "1", &group(&["test/a", "test/inner"])))
        .group(&["test/outer"]);
    build(&machine, &builder(&machine, &order)).ok();
    assert_eq!(participants(&built(&machine)), ["test/a", "test/c"]);
}

#[test]
fn targets() {
    let Some(machine) = machine() else { return };
    let distro = |id: &str, name: &str| {
        let tables =
            format!("[[targets]]\nos = \"linux\"\n[[targets.distros]]\nname = \"{name}\"\nversion = \"1\"");
        exits(id, 0).tables(&tables)
    };
    let order = Builder::new(Base::Small)
        .buildpack(distro("test/elsewhere", "plan9"))
        .buildpack(exits("test/other-os", 0).tables("[[targets]]\nos = \"windows\""))
        .buildpack(distro("test/here", "small"))
        .group(&["test/elsewhere", "test/here"])
        .group(&["test/other-os", "test/here"])
        .group(&["test/here"]);
    build(&machine, &builder(&machine, &order)).ok();
    assert_eq!(participants(&built(&machine)), ["test/here"]);
}

#[test]
fn the_build_image_says_what_the_run_image_does_not() {
    let Some(machine) = machine() else { return };
    let tables = "[[targets]]\nos = \"linux\"\n[[targets.distros]]\nname = \"fromfile\"\nversion = \"7\"";
    let said = "fact distro \"$CNB_TARGET_DISTRO_NAME $CNB_TARGET_DISTRO_VERSION\"";
    let order = Builder::new(Base::Small)
        .buildpack(facts("test/here", said).tables(tables))
        .group(&["test/here"])
        .file("/etc/os-release", "NAME=any\nID=fromfile\nVERSION_ID=\"7\"\n");
    let builder = builder(&machine, &order);
    build(&machine, &builder).fails();

    let nameless = ["name", "version"]
        .iter()
        .fold(Base::Small.run(), |image, key| image.label(&format!("io.buildpacks.base.distro.{key}"), ""));
    let layout = Layout::new(machine.path("images"));
    layout.add("nameless", &nameless);
    build(&machine, &builder).args(["--run-image", &layout.reference("nameless")]).ok();
    assert_eq!(fact(&built(&machine), "test/here", "distro"), "fromfile 7");
}

#[test]
fn execution_environments() {
    let Some(machine) = machine() else { return };
    let order = Builder::new(Base::Small)
        .buildpack(exits("test/tests", 0).keys("exec-env = [\"test\"]"))
        .buildpack(exits("test/all", 0).keys("exec-env = [\"*\"]"))
        .buildpack(facts("test/any", "fact exec-env \"$CNB_EXEC_ENV\""))
        .group(&["test/tests", "test/all", "test/any"]);
    let builder = builder(&machine, &order);
    build(&machine, &builder).ok();
    let image = built(&machine);
    assert_eq!(participants(&image), ["test/all", "test/any"]);
    assert_eq!(fact(&image, "test/any", "exec-env"), "production");
    assert_eq!(image.label("io.buildpacks.exec-env"), Some("production"));

    build(&machine, &builder).args(["--exec-env", "test"]).ok();
    let image = built(&machine);
    assert_eq!(participants(&image), ["test/tests", "test/all", "test/any"]);
    assert_eq!(image.label("io.buildpacks.exec-env"), Some("test"));
}

#[test]
fn system_buildpacks() {
    let Some(machine) = machine() else { return };
    let order = Builder::new(Base::Small)
        .buildpack(exits("test/before", 0))
        .buildpack(exits("test/app", 0))
        .buildpack(exits("test/after", 0))
        .group(&["test/app"])
        .system(&["test/before"], &["test/after"]);
    let builder = builder(&machine, &order);
    build(&machine, &builder).ok();
    assert_eq!(participants(&built(&machine)), ["test/before", "test/app", "test/after"]);
    build(&machine, &builder).arg("--disable-system-buildpacks").ok();
    assert_eq!(participants(&built(&machine)), ["test/app"]);
}

#[test]
fn older_buildpack_apis() {
    let Some(machine) = machine() else { return };
    for api in ["0.7", "0.8", "0.9", "0.10", "0.11", "0.12"] {
        let old = Buildpack::new("test/old", "1").api(api).tables("[[stacks]]\nid = \"*\"").build(
            r#"layers=$1
mkdir -p "$layers/l"; printf '[types]\nlaunch = true\n' > "$layers/l.toml"; echo "made by $0 with $# arguments" > "$layers/l/file"
case "$API" in
0.7|0.8) printf '[[processes]]\ntype = "web"\ncommand = "echo"\nargs = ["old"]\ndirect = true\n' ;;
*) printf '[[processes]]\ntype = "web"\ncommand = ["echo", "new"]\n' ;;
esac > "$layers/launch.toml""#,
        );
        let builder = builder_of(&machine, &[old]);
        build(&machine, &builder).args(["--env", &format!("API={api}")]).ok();
        let image = built(&machine);
        assert!(image.text("/layers/test_old/l/file").ends_with("with 3 arguments\n"), "{api}");
        let expected = if api < "0.9" && api.len() == 3 { "old\n" } else { "new\n" };
        let run = machine.pannier(["run", OUT, "--entrypoint", "/cnb/process/web"]).ok().stdout;
        assert_eq!(run, expected, "{api}");
    }
    for api in ["0.6", "0.13", "1.0", "nonsense"] {
        let builder = builder_of(&machine, &[Buildpack::new("test/alien", "1").api(api)]);
        build(&machine, &builder).fails().says("alien").says(api);
    }
}
