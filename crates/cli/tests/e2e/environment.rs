//! What a buildpack finds around it: variables, arguments, folders, rights.

use testkit::{Base, Builder, Person};

use crate::support::*;

everyone! {
    /// Who a buildpack is, where it stands, and what it can write.
    fn surroundings(machine: &Machine) {
        let script = r#"
fact ids "$(id -u):$(id -g)"
fact home "$HOME"
fact pwd "$PWD"
fact umask "$(umask)"
fact arguments "$1 $2 $(basename "$3" | grep -c .) $#"
fact stdin "$(cat | wc -c)"
fact target "$CNB_TARGET_OS $CNB_TARGET_DISTRO_NAME $CNB_TARGET_DISTRO_VERSION"
fact dirs "$CNB_LAYERS_DIR $CNB_PLATFORM_DIR $CNB_BUILDPACK_DIR"
fact self "$(head -n 1 "$CNB_BUILDPACK_DIR/buildpack.toml")"
fact app-writable "$(touch made && echo yes)"
fact seen-before "$(ls /etc/made "$CNB_BUILDPACK_DIR/made" 2>/dev/null || true)"
fact root-writable "$(touch /etc/made 2>/dev/null && echo yes || echo no)"
fact buildpack-writable "$(touch "$CNB_BUILDPACK_DIR/made" 2>/dev/null && echo yes || echo no)"
fact platform-writable "$(touch "$CNB_PLATFORM_DIR/made" 2>/dev/null && echo yes || echo no)"
fact tmp-writable "$(touch /tmp/made && echo yes)"
fact null "$(echo x > /dev/null && head -c 2 /dev/zero | wc -c)"
"#;
        let image = build_with(machine, &[facts("test/look", script)]);
        let fact = |name| fact(&image, "test/look", name);
        assert_eq!(fact("ids"), "1000:1000");
        assert_eq!(fact("home"), "/home/cnb");
        assert_eq!(fact("pwd"), "/workspace");
        assert!(fact("umask").ends_with("022"), "{}", fact("umask"));
        assert_eq!(fact("arguments"), "/layers/test_look /platform 1 3");
        assert_eq!(fact("stdin"), "0");
        assert_eq!(fact("target"), "linux small 1");
        assert_eq!(fact("dirs"), "/layers/test_look /platform /cnb/buildpacks/test_look/1.0.0");
        assert_eq!(fact("self"), "api = \"0.12\"");
        assert_eq!(fact("app-writable"), "yes");
        assert_eq!(fact("tmp-writable"), "yes");
        assert_eq!(fact("null"), "2");
        assert!(image.entry("/workspace/made").is_some());
        // With one id, every file of the build image is the build user's own. What is written there is gone after.
        if machine.person() != Person::Plain {
            assert_eq!(fact("root-writable"), "no");
            assert_eq!(fact("buildpack-writable"), "no");
            assert_eq!(fact("platform-writable"), "no");
        }
        let again = build_with(machine, &[facts("test/look", script)]);
        assert_eq!(crate::support::fact(&again, "test/look", "seen-before"), "");
    }
}

#[test]
fn only_some_variables_get_through() {
    let Some(machine) = machine() else { return };
    let builder =
        builder_of(&machine, &[facts("test/env", "fact env \"$(env | cut -d= -f1 | sort | tr '\\n' ' ')\"")]);
    build(&machine, &builder).env("SECRET_OF_THE_HOST", "x").env("DOCKER_CONFIG", "/nowhere").ok();
    let image = built(&machine);
    let names =
        fact(&image, "test/env", "env").split(' ').filter(|name| !name.is_empty()).collect::<Vec<_>>();
    let known = [
        "CNB_BP_PLAN_PATH",
        "CNB_BUILDPACK_DIR",
        "CNB_EXEC_ENV",
        "CNB_LAYERS_DIR",
        "CNB_PLATFORM_DIR",
        "CNB_TARGET_ARCH",
        "CNB_TARGET_ARCH_VARIANT",
        "CNB_TARGET_DISTRO_NAME",
        "CNB_TARGET_DISTRO_VERSION",
        "CNB_TARGET_OS",
        "HOME",
        "HOSTNAME",
        "OLDPWD",
        "PATH",
        "PWD",
        "SHLVL",
        "_",
    ];
    let strange = names.iter().filter(|name| !known.contains(name)).collect::<Vec<_>>();
    assert!(strange.is_empty(), "{strange:?}");
    for needed in ["CNB_BP_PLAN_PATH", "CNB_LAYERS_DIR", "CNB_TARGET_ARCH", "HOME", "PATH"] {
        assert!(names.contains(&needed), "{needed} is not among {names:?}");
    }
}

#[test]
fn proxies_get_through() {
    let Some(machine) = machine() else { return };
    let builder = builder_of(&machine, &[facts("test/env", "fact proxy \"${https_proxy-} ${NO_PROXY-}\"")]);
    // No registry is asked in this build, so the proxy need not exist.
    build(&machine, &builder).env("https_proxy", "http://127.0.0.1:9").env("NO_PROXY", "example.test").ok();
    assert_eq!(fact(&built(&machine), "test/env", "proxy"), "http://127.0.0.1:9 example.test");
}

#[test]
fn a_clear_environment() {
    let Some(machine) = machine() else { return };
    let script = "fact user \"${FROM_USER-unset}\"; fact file \"$(cat \"$CNB_PLATFORM_DIR/env/FROM_USER\")\"; fact config \"${FROM_CONFIG-unset}\"";
    let clear = facts("test/clear", script).keys("clear-env = true");
    let order =
        Builder::of(Base::Small, &[clear, facts("test/usual", script)]).build_config("FROM_CONFIG", "config");
    build(&machine, &builder(&machine, &order)).args(["--env", "FROM_USER=user"]).ok();
    let image = built(&machine);
    let found = |id| ["user", "file", "config"].map(|name| fact(&image, id, name));
    assert_eq!(found("test/clear"), ["unset", "user", "config"]);
    assert_eq!(found("test/usual"), ["user", "user", "config"]);
}

#[test]
fn the_build_config() {
    let Some(machine) = machine() else { return };
    let script = "for name in PLAIN GIVEN OVER PRE POST; do fact $name \"${!name-unset}\"; done";
    let order = Builder::of(Base::Small, &[facts("test/env", script)])
        .build_config("PLAIN", "config")
        .build_config("GIVEN", "config")
        .build_config("OVER.override", "config")
        .build_config("PRE.prepend", "config")
        .build_config("PRE.delim", ":")
        .build_config("POST.append", "config")
        .build_config("POST.delim", "-");
    let given = ["GIVEN", "OVER", "PRE", "POST"].map(|name| format!("--env={name}=user"));
    build(&machine, &builder(&machine, &order)).args(given).ok();
    let image = built(&machine);
    let found = ["PLAIN", "GIVEN", "OVER", "PRE", "POST"].map(|name| fact(&image, "test/env", name));
    assert_eq!(found, ["config", "user", "config", "config:user", "user-config"]);
}

#[test]
fn variables_of_earlier_layers() {
    let Some(machine) = machine() else { return };
    let zero = "layer zero build; mkdir \"$CNB_LAYERS_DIR/zero/env\"; cd \"$CNB_LAYERS_DIR/zero/env\"\n\
                for name in OVERRIDE OVERRIDE2 SET PRE POST; do printf zero > $name; done";
    let script = r#"
layer tools build
mkdir -p "$CNB_LAYERS_DIR"/tools/{bin,lib,include,pkgconfig,env,env.build,env.launch}
printf '#!/bin/sh\necho found\n' > "$CNB_LAYERS_DIR/tools/bin/tool"; chmod +x "$CNB_LAYERS_DIR/tools/bin/tool"
cd "$CNB_LAYERS_DIR/tools/env"
printf one > OVERRIDE; printf one > OVERRIDE2.override; printf one > DEFAULT.default; printf one > SET.default
printf one > PRE.prepend; printf : > PRE.delim; printf one > POST.append
printf build > ../env.build/BUILD; printf launch > ../env.launch/LAUNCH; printf 'no newline\n' > VERBATIM; printf x > IGNORED.nonsense
layer quiet launch
mkdir -p "$CNB_LAYERS_DIR/quiet/env"; printf x > "$CNB_LAYERS_DIR/quiet/env/NOT_BUILD"
"#;
    let names = "OVERRIDE OVERRIDE2 DEFAULT SET PRE POST BUILD LAUNCH VERBATIM IGNORED NOT_BUILD";
    let look = format!(
        "for name in {names}; do fact $name \"${{!name-unset}}\"; done\n\
         fact tool \"$(tool)\"; fact paths \"$LD_LIBRARY_PATH $LIBRARY_PATH $CPATH $PKG_CONFIG_PATH\""
    );
    let builder = builder_of(
        &machine,
        &[facts("test/zero", zero), facts("test/gives", script), facts("test/looks", &look)],
    );
    build(&machine, &builder).ok();
    let image = built(&machine);
    let fact = |name| fact(&image, "test/looks", name);
    let found = names.split(' ').map(fact).collect::<Vec<_>>();
    let expected = [
        "one",
        "one",
        "one",
        "zero",
        "one:zero",
        "zeroone",
        "build",
        "unset",
        "no newline",
        "unset",
        "unset",
    ];
    // A shell drops the newline that ends VERBATIM when the fact is written; that it was there is seen by the length.
    assert_eq!(found.iter().map(|value| value.trim_end()).collect::<Vec<_>>(), expected);
    assert_eq!(fact("VERBATIM"), "no newline\n");
    assert_eq!(fact("tool"), "found");
    let root = "/layers/test_gives/tools";
    assert_eq!(fact("paths"), format!("{root}/lib {root}/lib {root}/include {root}/pkgconfig"));

    // What the user says wins over layers.
    build(&machine, &builder).args(["--env", "PRE=user", "--env", "PATH=/from/user"]).ok();
    assert_eq!(crate::support::fact(&built(&machine), "test/looks", "PRE"), "user");
}

everyone! {
    /// Nothing that `bin/detect` writes into the app stays, and it is said.
    fn detect_writes_are_undone(machine: &Machine) {
        let writes = facts("test/writes", "fact file \"$(ls)\"").detect("echo x > from-detect; echo y >> app.sh");
        let builder = builder_of(machine, &[writes]);
        let output = build(machine, &builder).ok();
        output.says("test/writes");
        let image = built(machine);
        assert_eq!(fact(&image, "test/writes", "file"), "app.sh");
        assert!(image.entry("/workspace/from-detect").is_none());
        assert!(!image.text("/workspace/app.sh").contains('y'));
        assert!(!machine.path("work/app/from-detect").exists());
    }
}

everyone! {
    /// Folders of the host, read-only unless said otherwise.
    fn volumes(machine: &Machine) {
        machine.write("work/shared/given", "from the host");
        machine.make_dir("work/results");
        let script = r#"
fact given "$(cat /mnt/shared/given)"
fact writable "$(touch /mnt/shared/new 2>/dev/null && echo yes || echo no)"
echo result > /mnt/results/file
"#;
        let builder = builder_of(machine, &[facts("test/volumes", script)]);
        let shared = format!("{}:/mnt/shared", machine.path("work/shared").display());
        let results = format!("{}:/mnt/results:rw", machine.path("work/results").display());
        // What the build's user may write is for the folder's modes to say.
        machine.call("chmod", ["0777", "results"]).ok();
        build(machine, &builder).args(["--volume", &shared, "--volume", &results]).ok();
        let image = built(machine);
        assert_eq!(fact(&image, "test/volumes", "given"), "from the host");
        assert_eq!(fact(&image, "test/volumes", "writable"), "no");
        assert_eq!(fs_err::read_to_string(machine.path("work/results/file")).expect("it was written"), "result\n");
        let missing = machine.path("work/missing");
        let volume = format!("{}:/x", missing.display());
        build(machine, &builder).args(["--volume", &volume]).fails().says(&missing.display().to_string());
    }
}
