//! Which extensions take part, what they are asked for, and what they may write. What Dockerfiles do is tested elsewhere.

use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::{Base, Builder, Buildpack, Layout, Machine, ReadImage};

use crate::support::*;

/// A buildpack that requires `tool` and `other`, and leaves what it is asked for itself.
fn needy() -> Buildpack {
    facts("test/needy", "fact plan \"$(cat \"$CNB_BP_PLAN_PATH\")\"; fact target \"$CNB_TARGET_DISTRO_NAME\"").detect(
        "printf '[[provides]]\\nname = \"other\"\\n[[requires]]\\nname = \"tool\"\\n[[requires]]\\nname = \"other\"\\n' \
         > \"$CNB_BUILD_PLAN_PATH\"",
    )
}

/// An extension that provides `tool`.
fn tool(id: &str) -> Buildpack {
    Buildpack::extension(id, "1")
        .detect("printf '[[provides]]\\nname = \"tool\"\\n' > \"$CNB_BUILD_PLAN_PATH\"")
}

/// A builder with the needy buildpack and these extensions, each of them in its order.
fn builder_with(machine: &Machine, extensions: &[Buildpack]) -> String {
    let mut with = Builder::new(Base::Small).buildpack(needy()).group(&["test/needy"]);
    for extension in extensions {
        with = with.extension(extension.clone());
    }
    let ids: Vec<&str> = extensions.iter().map(Buildpack::id).collect();
    if !ids.is_empty() {
        with = with.extension_group(&ids);
    }
    builder(machine, &with)
}

/// The ids of the extensions that took part, as the image says.
fn extensions(image: &ReadImage) -> Vec<String> {
    let metadata = image.json_label("io.buildpacks.build.metadata");
    let extensions = metadata["extensions"].as_array().cloned().unwrap_or_default();
    extensions.iter().map(|known| known["id"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Another run image; gives its name.
fn other_run_image(machine: &Machine) -> String {
    let layout = Layout::new(machine.path("images"));
    layout.add("other", &Base::Small.run().label("io.buildpacks.base.distro.name", "other"));
    layout.reference("other")
}

everyone! {
    /// It is asked for what it provides, sees a view of the app, and what it was asked for no buildpack is.
    fn is_asked(machine: &Machine) {
        let script = "echo \"asked: $(tr '\\n' ' ' < \"$CNB_BP_PLAN_PATH\")\"; echo \"app: $(ls)\"
            echo written > written; echo changed >> app.sh; test -d \"$CNB_OUTPUT_DIR\"; test -z \"$(ls $CNB_OUTPUT_DIR)\"";
        let name = builder_with(machine, &[tool("test/tool").generate(script), Buildpack::extension("test/idle", "1")]);
        let output = build(machine, &name).ok();
        output.says("asked: [[entries]]   name = \"tool\"").says("app: app.sh");
        output.says("what image extensions wrote to the app is gone: /workspace/app.sh and 1 more");
        let image = built(machine);
        assert_eq!(extensions(&image), ["test/tool", "test/idle"]);
        assert_eq!(fact(&image, "test/needy", "plan"), "[[entries]]\n  name = \"other\"");
        assert_eq!(image.text("/workspace/app.sh"), "#!/usr/bin/env bash\necho the app runs\n");
        assert!(image.entry("/workspace/written").is_none());
        // Without it nobody provides what the buildpack requires.
        let output = build(machine, &builder_with(machine, &[])).fails();
        output.says("requires `tool`, which nobody before it provides");
        assert_eq!(output.code(), 20);
    }
}

everyone! {
    /// An extension without programs that only switches the run image.
    fn switches_the_run_image(machine: &Machine) {
        let other = other_run_image(machine);
        let plan = "[[provides]]\nname = \"tool\"\n";
        let written = Buildpack::extension("test/written", "1").file("detect/plan.toml", 0o644, plan);
        let written = written.file("generate/run.Dockerfile", 0o644, format!("FROM {other}\n"));
        let before = Buildpack::extension("test/before", "1");
        let before = before.file("generate/run.Dockerfile", 0o644, "FROM never:1\nRUN never\n");
        let output = build(machine, &builder_with(machine, &[before, written])).ok();
        output.says(&format!("the run image {other}, which an extension switches to, is none of the builder's"));
        let image = built(machine);
        assert_eq!(image.label("io.buildpacks.base.distro.name"), Some("other"));
        assert_eq!(image.json_label("io.buildpacks.lifecycle.metadata")["runImage"]["image"], other);
        assert_eq!(fact(&image, "test/needy", "target"), "other");
    }
}

everyone! {
    /// The run image that is switched to is extended, by the extension that switches and by those after it; files come
    /// from the context, of both images or of one, and else from the app.
    fn switches_extends_and_copies(machine: &Machine) {
        let other = other_run_image(machine);
        let file = |extension: Buildpack, name: &str, text: &str| extension.file(&format!("generate/{name}"), 0o644, text);
        let before = file(Buildpack::extension("test/before", "1"), "run.Dockerfile", "FROM never:1\nRUN never\n");
        let copy = |base: &str, from: &str, to: &str| format!("ARG base_image\nFROM {base}\nCOPY {from} {to}\n");
        let switch = file(tool("test/switch"), "run.Dockerfile", &copy(&other, "who", "/switch"));
        let switch = file(switch, "build.Dockerfile", &copy("${base_image}", "who", "/switch"));
        let switch = file(file(switch, "context.run/who", "run"), "context.build/who", "build");
        let shared = file(Buildpack::extension("test/shared", "1"), "context/who", "shared");
        let shared = file(shared, "run.Dockerfile", &copy("${base_image}", "who", "/shared"));
        let from_app = Buildpack::extension("test/app", "1");
        let from_app = file(from_app, "run.Dockerfile", &copy("$base_image", "app.sh", "/app-context.sh"));
        let needy = facts("test/needy", "fact switch \"$(cat /switch)\"")
            .detect("printf '[[requires]]\\nname = \"tool\"\\n' > \"$CNB_BUILD_PLAN_PATH\"");
        let mut with = Builder::new(Base::Small).buildpack(needy).group(&["test/needy"]);
        for extension in [before, switch, shared, from_app] {
            with = with.extension(extension);
        }
        let with = with.extension_group(&["test/before", "test/switch", "test/shared", "test/app"]);
        build(machine, &builder(machine, &with)).ok();
        let image = built(machine);
        assert_eq!(image.label("io.buildpacks.base.distro.name"), Some("other"));
        assert_eq!((image.text("/switch"), image.text("/shared")), ("run", "shared"));
        assert_eq!(image.text("/app-context.sh"), "#!/usr/bin/env bash\necho the app runs\n");
        assert_eq!(fact(&image, "test/needy", "switch"), "build");
        let shown = machine.pannier(["inspect", OUT]).ok();
        shown.says("test/switch").says("test/shared").says("test/app").never_says("never");
    }
}

/// Makes an archive of what is in a folder.
fn pack(how: &str, file: &Path, folder: &Path) {
    let mut tar = Command::new("tar");
    let tar = tar.arg("-C").arg(folder).arg(how).arg(file).arg(".");
    assert!(tar.status().expect("tar starts").success());
}

/// `--extension` takes what `--buildpack` takes, in place of the builder's extensions and in this order.
#[test]
fn from_everywhere() {
    let Some(machine) = machine() else { return };
    let generate = "echo \"from $(cat \"$CNB_EXTENSION_DIR/where\")\"";
    let from = |id: &str, place: &str| tool(id).generate(generate).file("where", 0o644, place);
    let on_builder = [from("test/on", "builder"), from("test/never", "order")];
    let mut with = Builder::new(Base::Small).buildpack(needy()).group(&["test/needy"]);
    for extension in on_builder {
        with = with.extension(extension);
    }
    let name = builder(&machine, &with.extension_group(&["test/never"]));
    from("test/folder", "folder").write(&machine.make_dir("work/folder"));
    from("test/tgz", "tgz").write(&machine.make_dir("work/tgz"));
    let work = machine.path("work");
    pack("-czf", &work.join("ext.tgz"), &work.join("tgz"));
    let layout = Layout::new(machine.path("images"));
    layout.add("package", &from("test/package", "package").package(&[]));
    let cnb = Layout::new(machine.path("cnb"));
    cnb.add("latest", &from("test/cnb", "cnb").package(&[]));
    pack("-cf", &work.join("ext.cnb"), &machine.path("cnb"));
    let package = layout.reference("package");
    let call = build(&machine, &name).args(["--extension", "./folder,ext.tgz", "--extension", "ext.cnb"]);
    let output = call.args(["--extension", &package, "--extension", "test/on@1"]).ok();
    for place in ["folder", "tgz", "cnb", "package", "builder"] {
        output.says(&format!("from {place}"));
    }
    output.never_says("from order").says("Adding extension test/folder@1");
    let order = ["test/folder", "test/tgz", "test/cnb", "test/package", "test/on"];
    assert_eq!(extensions(&built(&machine)), order);

    let output = build(&machine, &name).args(["--extension", "urn:cnb:builder:test/none"]).fails();
    output.says("invalid extension").says("the builder has: test/never@1, test/on@1");
    let output = build(&machine, &name).args(["--extension", "from=builder"]).fails();
    output.says("it stands for the builder's buildpacks");
    needy().write(&machine.make_dir("work/buildpack"));
    let output = build(&machine, &name).args(["--extension", "./buildpack"]).fails();
    output.says("./buildpack is not an extension: it has no extension.toml");
}

/// What is wrong is one error that names the extension, and nothing is left behind.
#[test]
fn what_is_wrong_is_told() {
    let Some(machine) = machine() else { return };
    let wrong = |generate: &str| {
        let name = builder_with(&machine, &[tool("test/tool").generate(generate)]);
        let output = build(&machine, &name).arg("--quiet").fails();
        assert_eq!(machine.temporary_files(), Vec::<PathBuf>::new());
        assert!(!machine.path("work/out").exists());
        output
    };
    let output = wrong("echo first; echo last words >&2; exit 3");
    output.says("extension test/tool 1 failed: bin/generate ended with exit code 3").says("  | last words");
    assert_eq!(output.code(), 91);
    let output = wrong(
        "printf 'ARG base_image\\nFROM ${base_image}\\nRUM x\\n' > \"$CNB_OUTPUT_DIR/build.Dockerfile\"",
    );
    output.says("extension test/tool wrote an invalid Dockerfile");
    output.says("--> test/tool/build.Dockerfile:3:1").says("3 | RUM x").says("^^^");
    assert_eq!(output.code(), 92);
    let output =
        wrong("printf '[[run.args]]\\nname = \"user_id\"\\n' > \"$CNB_OUTPUT_DIR/extend-config.toml\"");
    output.says("the argument 'user_id' is the lifecycle's to give").says("1 | [[run.args]]");
    let output = wrong("mkdir \"$CNB_OUTPUT_DIR\"/context{,.run}");
    output.says("extension test/tool left the folders context and context.run: expected either");
    let output = wrong("ln -s /etc/passwd \"$CNB_OUTPUT_DIR/run.Dockerfile\"");
    output.says("run.Dockerfile").never_says("root:");
    let output = wrong("ln -s /etc \"$CNB_OUTPUT_DIR/context\"");
    output.says("context is not a folder");
    // An extension can not require anything: it is optional, so that the group goes on without it.
    let requires = "printf '[[requires]]\\nname = \"x\"\\n' >> \"$CNB_BUILD_PLAN_PATH\"";
    let name = builder_with(&machine, &[tool("test/tool").detect(requires)]);
    let output = build(&machine, &name).fails();
    output.says("an extension can not require anything, but requires 'x'");
    // Nor can it be a group on its own.
    let with = Builder::new(Base::Small).buildpack(needy()).group(&["test/needy?"]);
    let name =
        builder(&machine, &with.extension(Buildpack::extension("test/e", "1")).extension_group(&["test/e"]));
    let output = build(&machine, &name).fails();
    assert_eq!(output.code(), 20);
}

/// An extension that is not for this image's system or execution environment is left out.
#[test]
fn targets_and_execution_environments() {
    let Some(machine) = machine() else { return };
    let arm = Buildpack::extension("test/arm", "1").tables("[[targets]]\nos = \"linux\"\narch = \"mips\"");
    let test = Buildpack::extension("test/test", "1").keys("exec-env = [\"test\"]");
    let name = builder_with(&machine, &[arm, test, tool("test/tool").generate("echo env $CNB_EXEC_ENV")]);
    build(&machine, &name).ok().says("env production");
    assert_eq!(extensions(&built(&machine)), ["test/tool"]);
}
