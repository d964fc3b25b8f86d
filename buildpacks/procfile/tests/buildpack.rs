//! The real buildpack, called as a lifecycle calls it, and the real runner.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use testkit::Stage;

struct Build(Stage);

impl Build {
    fn new(files: &[(&str, &str)]) -> Self {
        let program = env!("CARGO_BIN_EXE_pannier-buildpack-procfile");
        let build = Build(Stage::new(include_str!("../buildpack.toml"), program));
        fs_err::copy(env!("CARGO_BIN_EXE_pannier-procfile-run"), build.path("buildpack/bin/procfile-run"))
            .unwrap();
        for (name, content) in files {
            fs_err::write(build.path("app").join(name), content).unwrap();
            let mode = if *name == "Procfile" { 0o644 } else { 0o755 };
            fs_err::set_permissions(build.path("app").join(name), PermissionsExt::from_mode(mode)).unwrap();
        }
        build
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    fn detect(&self) -> Output {
        self.0.detect()
    }

    fn build(&self) -> Output {
        self.0.build()
    }

    fn launch(&self) -> String {
        fs_err::read_to_string(self.path("layers/launch.toml")).unwrap()
    }
}

fn shown(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_procfile_is_what_is_looked_for() {
    let output = Build::new(&[]).detect();
    assert_eq!((output.status.code(), shown(&output).as_str()), (Some(100), "no Procfile\n"));
    assert_eq!(Build::new(&[("Procfile", "x")]).detect().status.code(), Some(0));
}

#[test]
fn plain_lines_need_nothing_but_themselves() {
    let build = Build::new(&[
        ("Procfile", "web: ./server --port 80 'a b'\nworker: work\n"),
        ("server", "#!/bin/sh\n"),
    ]);
    let output = build.build();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(shown(&output), "web: ./server --port 80 'a b'\nworker: work\n");
    let launch = build.launch();
    assert!(
        launch.contains("command = [\"./server\", \"--port\", \"80\", \"a b\"]\ndefault = true"),
        "{launch}"
    );
    assert!(launch.contains("type = \"worker\"\ncommand = [\"work\"]"), "{launch}");
    assert!(!build.path("layers/runner").exists());
}

#[test]
fn lines_with_variables_bring_the_runner() {
    let build = Build::new(&[("Procfile", "only: A=1 ./server $PORT"), ("server", "#!/bin/sh\n")]);
    assert!(build.build().status.success());
    let launch = build.launch();
    assert!(
        launch.contains("command = [\"procfile-run\", \"A=1 ./server $PORT\"]\ndefault = true"),
        "{launch}"
    );
    let runner = build.path("layers/runner/bin/procfile-run");
    assert_eq!(fs_err::metadata(&runner).unwrap().permissions().mode() & 0o777, 0o755);
    assert!(fs_err::read_to_string(build.path("layers/runner.toml")).unwrap().contains("launch = true"));

    // Built again with the layer restored, the file is not written again.
    let before = inode(&runner);
    fs_err::write(build.path("layers/runner.toml"), "[metadata]\n").unwrap();
    assert!(build.build().status.success());
    assert_eq!(inode(&runner), before);
    // A layer of another version is replaced.
    fs_err::write(&runner, "old").unwrap();
    assert!(build.build().status.success());
    assert_ne!(fs_err::read(&runner).unwrap(), b"old");
}

fn inode(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs_err::metadata(path).unwrap())
}

#[test]
fn mistakes_name_their_line() {
    for (procfile, message) in [
        ("web: ./none", "error: Procfile line 1: ./none is not in the app\n"),
        ("\nweb", "error: Procfile line 2: expected `type: command`, found `web`\n"),
        ("web: a 'b", "error: Procfile line 1: no closing '\n"),
    ] {
        let output = Build::new(&[("Procfile", procfile)]).build();
        assert!(!output.status.success());
        assert_eq!(shown(&output), message);
    }
}

#[test]
fn a_missing_interpreter_is_a_warning() {
    let build = Build::new(&[("Procfile", "web: ./server"), ("server", "#!/no/such/python\n")]);
    let output = build.build();
    assert!(output.status.success());
    assert!(
        shown(&output).starts_with("warning: Procfile line 1: ./server needs /no/such/python"),
        "{output:?}"
    );
}

#[test]
fn the_runner_fills_in_and_becomes_the_command() {
    let run = |line: &str, arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_pannier-procfile-run"))
            .arg(line)
            .args(arguments)
            .env("PORT", "8080")
            .output()
            .unwrap()
    };
    let output = run("A=$PORT/x /bin/sh -c 'echo \"$A\" \"$@\"' sh ${NONE:-b} $PORT", &["$PORT", "d e"]);
    assert_eq!(shown(&output), "8080/x b 8080 $PORT d e\n");
    let output = run("/no/such/program $PORT", &[]);
    assert_eq!(output.status.code(), Some(127));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "procfile: cannot run /no/such/program: No such file or directory (os error 2)\n"
    );
    let output = run("$NOTHING", &[]);
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "procfile: $NOTHING: no command is left after the variables are filled in\n"
    );
}
