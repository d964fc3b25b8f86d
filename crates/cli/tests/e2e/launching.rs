//! What the launcher does with an image: processes, environment, exec.d, profiles.

use testkit::{Buildpack, Machine};

use crate::support::*;

/// Runs the image that was built with an entry point and arguments, and returns what it says.
fn run(machine: &Machine, entrypoint: &str, arguments: &[&str]) -> String {
    let call = machine.pannier(["run", OUT, "--entrypoint", entrypoint, "--"]);
    call.args(arguments).ok().stdout
}

const LAUNCHER: &str = "/cnb/lifecycle/launcher";

everyone! {
    /// Direct and shell processes, with arguments of the user and without.
    fn processes(machine: &Machine) {
        let launch = r#"cat > "$CNB_LAYERS_DIR/launch.toml" <<'END'
[[processes]]
type = "fixed"
command = ["echo", "fixed"]
args = ["default"]
[[processes]]
type = "open"
command = ["echo"]
args = ["default"]
END"#;
        let old = r#"cat > "$1/launch.toml" <<'END'
[[processes]]
type = "shell"
command = "echo \"shell $WORD $0\""
[[processes]]
type = "shell-args"
command = "echo"
args = ["$WORD", "and more"]
END"#;
        let old = Buildpack::new("test/old", "1").api("0.8").tables("[[stacks]]\nid = \"*\"").build(old);
        build_with(machine, &[Buildpack::new("test/new", "1").build(launch), old]);
        assert_eq!(run(machine, "/cnb/process/fixed", &[]), "fixed default\n");
        assert_eq!(run(machine, "/cnb/process/fixed", &["mine"]), "fixed mine\n");
        assert_eq!(run(machine, "/cnb/process/open", &[]), "default\n");
        assert_eq!(run(machine, "/cnb/process/open", &["a b", "c"]), "a b c\n");
        let with_word = |entrypoint: &str| {
            let call = machine.pannier(["run", OUT, "--env", "WORD=spoken", "--entrypoint", entrypoint]);
            call.ok().stdout
        };
        assert!(with_word("/cnb/process/shell").starts_with("shell spoken "));
        assert_eq!(with_word("/cnb/process/shell-args"), "spoken and more\n");
        assert_eq!(run(machine, LAUNCHER, &["echo said by a shell; echo $((6*7))"]), "said by a shell\n42\n");
        assert_eq!(run(machine, LAUNCHER, &["--", "echo", "$HOME"]), "$HOME\n");
        let output = machine.pannier(["run", OUT, "--entrypoint", LAUNCHER]).fails();
        assert_eq!(output.code(), 82, "{output}");
    }
}

#[test]
fn environment_of_layers() {
    let Some(machine) = machine() else { return };
    let script = r#"
layer a launch
mkdir -p "$CNB_LAYERS_DIR"/a/{bin,lib,env,env.build,env.launch/web}
printf '#!/bin/sh\necho "from a"\n' > "$CNB_LAYERS_DIR/a/bin/program"; chmod +x "$CNB_LAYERS_DIR/a/bin/program"
cd "$CNB_LAYERS_DIR/a"
printf a > env/BOTH; printf a > env.build/ONLY_BUILD; printf a > env.launch/ONLY_LAUNCH; printf a > env.launch/web/ONLY_WEB
printf a > env/LIST.append; printf , > env/LIST.delim
layer b launch
mkdir -p "$CNB_LAYERS_DIR"/b/{bin,env}
printf b > "$CNB_LAYERS_DIR/b/env/LIST.append"; printf , > "$CNB_LAYERS_DIR/b/env/LIST.delim"
printf '#!/bin/sh\necho "from b"\n' > "$CNB_LAYERS_DIR/b/bin/program"; chmod +x "$CNB_LAYERS_DIR/b/bin/program"
printf '[[processes]]\ntype = "web"\ncommand = ["env"]\n[[processes]]\ntype = "other"\ncommand = ["env"]\n' > "$CNB_LAYERS_DIR/launch.toml"
"#;
    build_with(&machine, &[facts("test/env", script)]);
    let other = run(&machine, "/cnb/process/other", &[]);
    let has = |text: &str, line: &str| text.lines().any(|known| known == line);
    assert!(has(&other, "BOTH=a") && has(&other, "ONLY_LAUNCH=a") && has(&other, "LIST=a,b"), "{other}");
    assert!(!other.contains("ONLY_BUILD") && !other.contains("ONLY_WEB"), "{other}");
    assert!(has(&other, "LD_LIBRARY_PATH=/layers/test_env/a/lib"), "{other}");
    assert!(!other.contains("CNB_") && !other.contains("/cnb/process"), "{other}");
    assert!(has(&run(&machine, "/cnb/process/web", &[]), "ONLY_WEB=a"));
    assert_eq!(run(&machine, LAUNCHER, &["--", "program"]), "from b\n");
    let given =
        machine.pannier(["run", OUT, "--env", "LIST=user", "--entrypoint", "/cnb/process/other"]).ok().stdout;
    assert!(has(&given, "LIST=user,a,b"), "{given}");
}

#[test]
fn exec_d_and_profiles() {
    let Some(machine) = machine() else { return };
    machine.write("work/app/.profile", "echo app profile >&2; export ORDER=\"$ORDER app\"\n");
    let script = r#"
layer l launch
mkdir -p "$CNB_LAYERS_DIR"/l/{exec.d/web,profile.d/web}
cd "$CNB_LAYERS_DIR/l"
printf '#!/bin/bash\necho "FROM_EXEC = \\"exec $SEEN\\"" >&3; echo said aloud\n' > exec.d/10-first
printf '#!/bin/bash\necho "ONLY_WEB_EXEC = \\"yes\\"" >&3\n' > exec.d/web/20-second
chmod +x exec.d/10-first exec.d/web/20-second
echo 'export ORDER="layer"' > profile.d/one.sh
echo 'export ORDER="$ORDER web"' > profile.d/web/two.sh
cat > "$CNB_LAYERS_DIR/launch.toml" <<'END'
[[processes]]
type = "web"
command = "echo \"order: $ORDER; exec: $FROM_EXEC $ONLY_WEB_EXEC\""
[[processes]]
type = "direct"
command = "bash"
args = ["-c", "echo \"order: $ORDER; exec: $FROM_EXEC $ONLY_WEB_EXEC\""]
direct = true
END
"#;
    let builder =
        builder_of(&machine, &[facts("test/profile", script).api("0.8").tables("[[stacks]]\nid = \"*\"")]);
    build(&machine, &builder).ok();
    let said = |kind: &str| {
        let entrypoint = format!("/cnb/process/{kind}");
        machine.pannier(["run", OUT, "--env", "SEEN=env", "--entrypoint", &entrypoint]).ok().stdout
    };
    assert!(said("web").ends_with("order: layer web app; exec: exec env yes\n"), "{}", said("web"));
    assert!(said("direct").ends_with("order: ; exec: exec env \n"), "{}", said("direct"));
}

everyone! {
    /// `pannier run` passes on what a person would expect of a program: input, output, exit code, signals.
    fn running(machine: &Machine) {
        let script = "printf '[[processes]]\\ntype = \"web\"\\ncommand = [\"bash\", \"-c\", \"cat; echo err >&2; exit 42\"]\\ndefault = true\\n' > \"$CNB_LAYERS_DIR/launch.toml\"";
        build_with(machine, &[Buildpack::new("test/run", "1").build(script)]);
        let output = machine.pannier(["run", OUT]).stdin("given\n").run();
        assert_eq!((output.code(), output.stdout.as_str(), output.stderr.as_str()), (42, "given\n", "err\n"), "{output}");

        let shell = |script: &str| machine.pannier(["run", OUT, "--entrypoint", "bash", "--", "-c", script]);
        assert_eq!(shell("id -u; id -g; pwd; echo $HOME").ok().stdout, "1000\n1000\n/workspace\n/home/cnb\n");
        assert_eq!(shell("kill -KILL $$").run().code(), 137);
        assert_eq!(shell("ls /proc | grep -c '^[0-9]'").ok().stdout.trim().parse::<u32>().map(|count| count < 10), Ok(true));

        machine.write("work/data/file", "mounted");
        let volume = format!("{}:/mnt/data", machine.path("work/data").display());
        let mounted = machine.pannier(["run", OUT, "--volume", &volume, "--entrypoint", "cat", "--", "/mnt/data/file"]);
        assert_eq!(mounted.ok().stdout, "mounted");
        machine.pannier(["run", OUT, "--entrypoint", "/no/such/program"]).fails().says("/no/such/program");
    }
}

everyone! {
    /// A container platform stops a container with SIGTERM: it reaches the process, and its answer comes back.
    fn stopping(machine: &Machine) {
        use std::io::{BufRead as _, BufReader};
        build_with(machine, &[web()]);
        let script = "trap 'echo stopping; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
        let mut child = machine.pannier(["run", OUT, "--entrypoint", "bash", "--", "-c", script]).start();
        let mut lines = BufReader::new(child.stdout.take().expect("it is a pipe")).lines();
        assert_eq!(lines.next().expect("a line").expect("text"), "ready");
        let id = child.id().to_string();
        assert!(machine.person().command("kill").args(["-TERM", &id]).status().expect("kill runs").success());
        assert_eq!(lines.next().expect("a line").expect("text"), "stopping");
        assert_eq!(child.wait().expect("it ends").code(), Some(3));
    }
}
