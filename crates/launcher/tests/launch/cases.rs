//! The cases: which process, which environment, which messages.

use crate::fixture::Case;

/// One buildpack, a direct process `web` that prints its environment, and a few more processes.
const METADATA: &str = r#"
[[buildpacks]]
id = "some/buildpack"
api = "0.10"
[[buildpacks]]
id = "old"
api = "0.8"
[[processes]]
type = "web"
command = ["env"]
direct = true
buildpack-id = "some/buildpack"
[[processes]]
type = "pwd"
command = ["pwd"]
direct = true
working-dir = "{root}/elsewhere"
buildpack-id = "some/buildpack"
[[processes]]
type = "list"
command = ["printf", "[%s]\\n", "fixed"]
args = ["default"]
direct = true
buildpack-id = "some/buildpack"
[[processes]]
type = "args"
command = ["echo"]
args = ["default"]
direct = true
buildpack-id = "some/buildpack"
[[processes]]
type = "shell"
command = "echo"
args = ["$GREETING", "two words", '"quoted"', "it's", "*"]
buildpack-id = "old"
[[processes]]
type = "script"
command = "echo $0 $GREETING | tr a-z A-Z; pwd"
buildpack-id = "old"
[[processes]]
type = "words"
command = ["echo", "$GREETING"]
buildpack-id = "some/buildpack"
[[processes]]
type = "tests"
command = ["echo", "testing"]
direct = true
exec-env = ["test"]
buildpack-id = "some/buildpack"
[[processes]]
type = "anywhere"
command = ["echo", "anywhere"]
direct = true
exec-env = ["*"]
buildpack-id = "some/buildpack"
[[processes]]
type = "orphan"
command = "echo"
args = ["x"]
buildpack-id = "gone"
[[processes]]
type = "nothing"
direct = true
buildpack-id = "some/buildpack"
[[processes]]
type = "missing"
command = ["no-such-program"]
direct = true
buildpack-id = "some/buildpack"
[[processes]]
type = "local"
command = ["./run"]
direct = true
working-dir = "{root}/elsewhere"
buildpack-id = "some/buildpack"
"#;

/// Every case, in groups.
pub fn all() -> Vec<Case> {
    [selection(), arguments(), environment(), env_dirs(), execd(), shell(), failures()].concat()
}

fn case(name: &'static str, caller: &'static str, stdout: &'static str) -> Case {
    Case { name, caller, stdout, metadata: METADATA, ..Case::default() }
}

fn selection() -> Vec<Case> {
    vec![
        Case {
            args: &["--", "echo", "$GREETING", "x"],
            ..case("after two dashes a command is executed", "launcher", "$GREETING x\n")
        },
        Case {
            args: &["echo $GREETING"],
            env: &[("GREETING", "hi")],
            ..case("a command goes to the shell", "launcher", "hi\n")
        },
        Case {
            args: &["echo", "$GREETING", "a  b"],
            env: &[("GREETING", "hi")],
            ..case("a command with arguments goes to the shell as words", "launcher", "hi a b\n")
        },
        case("a process of every environment", "anywhere", "anywhere\n"),
        Case {
            env: &[("CNB_EXEC_ENV", "test")],
            ..case("a process of this environment", "tests", "testing\n")
        },
        Case {
            platform: "0.14",
            ..case("an older platform knows no execution environments", "tests", "testing\n")
        },
        Case {
            files: &[("elsewhere/", "")],
            ..case("the working directory of the process", "pwd", "{root}/elsewhere\n")
        },
        Case {
            files: &[("elsewhere/run", "#!/bin/sh\necho wrong"), ("workspace/run", "#!/bin/sh\necho right")],
            ..case(
                "a path is checked in the app folder and executed in the working directory",
                "local",
                "wrong\n",
            )
        },
    ]
}

fn arguments() -> Vec<Case> {
    vec![
        case("fixed and default arguments", "list", "[fixed]\n[default]\n"),
        Case { args: &["a", "b"], ..case("fixed and the user's arguments", "list", "[fixed]\n[a]\n[b]\n") },
        Case {
            args: &["a"],
            platform: "0.9",
            ..case("before Platform API 0.10 all are appended", "list", "[fixed]\n[default]\n[a]\n")
        },
        Case { args: &["a", "b"], ..case("the user's arguments replace", "args", "a b\n") },
        Case {
            args: &["a"],
            env: &[("GREETING", "hi")],
            ..case(
                "for an old buildpack the user's arguments are appended",
                "shell",
                "hi two words quoted it's * a\n",
            )
        },
        Case { args: &["--", "x"], ..case("two dashes mean nothing to a process", "args", "-- x\n") },
    ]
}

fn environment() -> Vec<Case> {
    vec![
        Case {
            env: &[
                ("CNB_PROCESS_TYPE", ""),
                ("CNB_DEPRECATION_MODE", "quiet"),
                ("CNB_EXEC_ENV", "production"),
                ("KEPT", "a=b\tc"),
            ],
            ..case(
                "the lifecycle's variables are hidden",
                "web",
                "sorted:CNB_EXEC_ENV=production\nCNB_NO_COLOR=true\nKEPT=a=b\tc\nPATH=/usr/bin:/bin",
            )
        },
        Case {
            files: &[
                ("layers/some_buildpack/a/bin/", ""),
                ("layers/some_buildpack/a/lib/", ""),
                ("layers/some_buildpack/a/include/", ""),
                ("layers/some_buildpack/b/bin/", ""),
                ("layers/some_buildpack/b.toml", "[types]\nlaunch = false\n"),
                ("layers/old/c/lib/", ""),
                ("layers/unknown/d/bin/", ""),
            ],
            ..case(
                "folders of layers",
                "web",
                "sorted:CNB_NO_COLOR=true\nLD_LIBRARY_PATH={root}/layers/old/c/lib:{root}/layers/some_buildpack/a/lib\nPATH={root}/layers/some_buildpack/b/bin:{root}/layers/some_buildpack/a/bin:/usr/bin:/bin",
            )
        },
        Case {
            files: &[("layers/some_buildpack/a/bin/", "")],
            env: &[
                ("CNB_LAYERS_DIR", "{root}/bin/..//layers/./"),
                ("PATH", "/cnb/process::/usr/bin:/cnb/lifecycle:/bin:"),
            ],
            ..case(
                "a layers folder that is written in an odd way",
                "web",
                "sorted:CNB_NO_COLOR=true\nPATH={root}/layers/some_buildpack/a/bin::/usr/bin:/bin:",
            )
        },
        Case {
            files: &[
                ("other/bin/", ""),
                ("layers/some_buildpack/link", "-> {root}/other"),
                ("layers/some_buildpack/a/bin", "a file"),
            ],
            ..case(
                "a link is not a layer, and a file is good enough for bin",
                "web",
                "sorted:CNB_NO_COLOR=true\nPATH={root}/layers/some_buildpack/a/bin:/usr/bin:/bin",
            )
        },
        Case {
            files: &[("layers/some_buildpack/a/bin/env", "#!/bin/sh\necho mine")],
            ..case("programs of layers are found first", "web", "mine\n")
        },
    ]
}

fn env_dirs() -> Vec<Case> {
    vec![
        Case {
            files: &[
                ("layers/some_buildpack/a/env/A.append", "1"),
                ("layers/some_buildpack/a/env/A.delim", ";"),
                ("layers/some_buildpack/a/env/B.prepend", "1"),
                ("layers/some_buildpack/a/env/C.default", "1"),
                ("layers/some_buildpack/a/env/D", "1\n"),
                ("layers/some_buildpack/a/env/E.override", "1"),
                ("layers/some_buildpack/a/env/F.", "1"),
                ("layers/some_buildpack/a/env/G.unknown", "1"),
                ("layers/some_buildpack/a/env/H.x.append", "1"),
                ("layers/some_buildpack/a/env/I/x", "1"),
                ("layers/some_buildpack/a/env/J", "-> D"),
                ("layers/some_buildpack/a/env/K", "-> I"),
                ("layers/some_buildpack/b/env/A.append", "2"),
                ("layers/some_buildpack/b/env/B.prepend", "2"),
                ("layers/some_buildpack/b/env/B.delim", ","),
                ("layers/some_buildpack/b/env/C.default", "2"),
                ("layers/some_buildpack/b/env/F.", "2"),
                ("layers/some_buildpack/b/env.build/D", "2"),
            ],
            env: &[("C", ""), ("E", "0"), ("A", "0")],
            ..case(
                "what the suffixes do",
                "web",
                "sorted:\n\nA=0;12\nB=2,1\nC=1\nCNB_NO_COLOR=true\nD=1\nE=1\nF=2:1\nJ=1\nPATH=/usr/bin:/bin",
            )
        },
        Case {
            files: &[
                ("layers/some_buildpack/a/env/X", "env"),
                ("layers/some_buildpack/a/env.launch/X.append", "+launch"),
                ("layers/some_buildpack/a/env.launch/web/X.append", "+web"),
                ("layers/some_buildpack/a/env.launch/worker/X.append", "+worker"),
                ("layers/old/z/env.launch/X.append", "+old"),
                ("layers/old/z/bin/", ""),
                ("layers/old/z/env/PATH.prepend", "/first:"),
            ],
            ..case(
                "three folders, in the order of the group",
                "web",
                "sorted:CNB_NO_COLOR=true\nPATH=/first:{root}/layers/old/z/bin:/usr/bin:/bin\nX=env+launch+web+old",
            )
        },
        Case {
            args: &["--", "env"],
            files: &[
                ("layers/some_buildpack/a/env.launch/X", "launch"),
                ("layers/some_buildpack/a/env.launch/web/X", "web"),
            ],
            ..case(
                "no process type, no folder of a type",
                "launcher",
                "sorted:CNB_NO_COLOR=true\nPATH=/usr/bin:/bin\nX=launch",
            )
        },
    ]
}

fn execd() -> Vec<Case> {
    vec![
        Case {
            files: &[
                ("layers/some_buildpack/a/env/FIRST", "env"),
                ("layers/some_buildpack/a/exec.d/10", "#!/bin/sh\necho \"10: $FIRST in $(pwd)\"; echo 'X = \"a\"' >&3"),
                ("layers/some_buildpack/a/exec.d/20", "#!/bin/sh\necho \"20: $X\"; printf 'X = \"%sb\"\\nY = \"\"\"one\\ntwo\"\"\"\\n' \"$X\" >&3"),
                ("layers/some_buildpack/a/exec.d/web/5", "#!/bin/sh\necho \"web: $X\"; printf 'X = \"%sc\"\\n' \"$X\" >&3"),
                ("layers/some_buildpack/a/exec.d/worker/5", "#!/bin/sh\necho never"),
                ("layers/some_buildpack/b/exec.d/1", "#!/bin/sh\necho \"b: $X\"; cat; test ! -e /proc/self/fd/4 && echo 'clean'"),
                ("layers/some_buildpack/c/exec.d/1", "#!/bin/sh\nexec 3>&-; (exit 0)"),
            ],
            ..case(
                "variables are handed on",
                "web",
                "sorted:10: env in {root}/workspace\n20: a\nCNB_NO_COLOR=true\nFIRST=env\nPATH=/usr/bin:/bin\nX=abc\nY=one\nb: abc\nclean\ntwo\nweb: ab",
            )
        },
        Case {
            files: &[("layers/some_buildpack/a/exec.d/1", "#!/bin/sh\necho x; exit 3")],
            code: 82,
            ..case(
                "a failing program",
                "web",
                "x\nERROR: failed to launch: exec.d: failed to execute exec.d file at path '{root}/layers/some_buildpack/a/exec.d/1': exit status 3\n",
            )
        },
        Case {
            files: &[("layers/some_buildpack/a/exec.d/1", "#!/bin/sh\nkill -9 $$")],
            code: 82,
            ..case(
                "a killed program",
                "web",
                "ERROR: failed to launch: exec.d: failed to execute exec.d file at path '{root}/layers/some_buildpack/a/exec.d/1': signal: killed\n",
            )
        },
        Case {
            files: &[("layers/some_buildpack/a/exec.d/1", "no program")],
            code: 82,
            ..case(
                "a file that is no program",
                "web",
                "ERROR: failed to launch: exec.d: failed to execute exec.d file at path '{root}/layers/some_buildpack/a/exec.d/1': fork/exec {root}/layers/some_buildpack/a/exec.d/1: permission denied\n",
            )
        },
        Case {
            files: &[("layers/some_buildpack/a/exec.d/1", "#!/no/such/interpreter\n")],
            code: 82,
            ..case(
                "a program without its interpreter",
                "web",
                "ERROR: failed to launch: exec.d: failed to execute exec.d file at path '{root}/layers/some_buildpack/a/exec.d/1': fork/exec {root}/layers/some_buildpack/a/exec.d/1: no such file or directory\n",
            )
        },
        Case {
            files: &[("layers/some_buildpack/a/exec.d/1", "#!/bin/sh\necho X=1 >&3")],
            code: 82,
            ..case(
                "output that is no table of strings",
                "web",
                "ERROR: failed to launch: exec.d: failed to decode output from exec.d file at path '{root}/layers/some_buildpack/a/exec.d/1': toml: line 1: invalid type: integer `1`, expected a string\n",
            )
        }
        .ours(),
        Case {
            files: &[("layers/some_buildpack/a/exec.d/1", "#!/bin/sh\nhead -c 20000000 /dev/zero >&3")],
            code: 82,
            ..case(
                "output that never ends",
                "web",
                "ERROR: failed to launch: exec.d: failed to execute exec.d file at path '{root}/layers/some_buildpack/a/exec.d/1': it wrote more than 16777216 bytes\n",
            )
        }
        .ours(),
    ]
}

fn shell() -> Vec<Case> {
    vec![
        Case {
            env: &[("GREETING", "hi \"there\"")],
            ..case("every word is expanded", "shell", "hi \"there\" two words quoted it's *\n")
        },
        Case {
            env: &[("GREETING", "hi")],
            ..case("a command without arguments is a script", "script", "BASH HI\n{root}/workspace\n")
        },
        Case { env: &[("GREETING", "hi")], ..case("a list of words has arguments", "words", "hi\n") },
        Case {
            files: &[
                ("layers/some_buildpack/a/profile.d/1", "echo \"one $0\"; export GREETING=hello"),
                ("layers/some_buildpack/a/profile.d/2", "echo \"two\"; cd /"),
                ("layers/some_buildpack/a/profile.d/script/1", "echo \"three\""),
                ("layers/some_buildpack/a/profile.d/other/1", "echo never"),
                ("layers/old/b/profile.d/1", "echo \"four $(basename \"$PWD\")\"; cd {root}/workspace"),
                ("workspace/.profile", "echo five; GREETING+=s"),
            ],
            ..case(
                "profiles are sourced",
                "script",
                "one {root}/bin/script\ntwo\nthree\nfour /\nfive\nBASH HELLOS\n{root}/workspace\n",
            )
        },
        Case {
            files: &[("layers/some_buildpack/a/profile.d/1", "echo sourced"), ("workspace/.profile/", "")],
            ..case("a direct process sources nothing", "args", "default\n")
        },
        Case {
            files: &[("layers/some_buildpack/a/exec.d/1", "#!/bin/sh\necho 'GREETING = \"set\"' >&3")],
            ..case("exec.d comes before the shell", "script", "BASH SET\n{root}/workspace\n")
        },
    ]
}

fn failures() -> Vec<Case> {
    let fails = |name, caller, code, stdout| Case { code, ..case(name, caller, stdout) };
    vec![
        fails("no command", "launcher", 82, "ERROR: failed to launch: determine start command: when there is no default process a command is required\n"),
        fails("another execution environment", "tests", 82, "ERROR: failed to launch: determine start command: process type tests was not found\n"),
        fails("a process without a command", "nothing", 82, "ERROR: failed to launch: no command provided for process type \"nothing\"\n"),
        fails("no such program", "missing", 82, "ERROR: failed to launch: path lookup: exec: \"no-such-program\": executable file not found in $PATH\n"),
        fails("no such working directory", "pwd", 82, "ERROR: failed to launch: change directory: chdir {root}/elsewhere: no such file or directory\n"),
        fails("arguments of an unknown buildpack", "orphan", 82, "ERROR: failed to launch: process type 'orphan' provided by unknown buildpack 'gone'\n"),
        Case { args: &["x"], ..fails("the user's arguments for an unknown buildpack", "orphan", 82, "ERROR: failed to launch: determine start command: failed to find buildpack for process orphan with buildpack ID gone\n") },
        Case { args: &["--", "./x"], ..fails("no such file", "launcher", 82, "ERROR: failed to launch: path lookup: exec: \"./x\": stat ./x: no such file or directory\n") },
        Case { args: &["--", "x"], files: &[("workspace/x", "#!/bin/sh\n")], env: &[("PATH", ".")], ..fails("a program beside us", "launcher", 82, "ERROR: failed to launch: path lookup: exec: \"x\": cannot run executable found relative to current directory\n") },
        Case { args: &["--", "/"], ..fails("a folder is no program", "launcher", 82, "ERROR: failed to launch: path lookup: exec: \"/\": is a directory\n") },
        Case { args: &["--", "./x"], files: &[("workspace/x", "text")], ..fails("a file without permission", "launcher", 82, "ERROR: failed to launch: path lookup: exec: \"./x\": permission denied\n") },
        Case { args: &["--", "./x"], files: &[("workspace/x", "#!/no/such\n")], ..fails("a program without its interpreter", "launcher", 82, "ERROR: failed to launch: direct exec: no such file or directory\n") },
        Case { env: &[("CNB_APP_DIR", "/no/such")], ..fails("no app folder", "web", 82, "ERROR: failed to launch: change to app directory: chdir /no/such: no such file or directory\n") },
        Case { env: &[("CNB_LAYERS_DIR", "/no/such")], ..fails("no metadata", "web", 1, "ERROR: failed to read metadata: open /no/such/config/metadata.toml: no such file or directory\n") },
        Case { platform: "", ..fails("no Platform API", "web", 11, "ERROR: failed to get platform API version; please set 'CNB_PLATFORM_API' to specify the desired platform API version\n") },
        Case { platform: "0.6", ..fails("an old Platform API", "web", 11, "ERROR: failed to set platform API: platform API version '0.6' is incompatible with the lifecycle\n") },
        Case { platform: "1.x", ..fails("no number", "web", 11, "ERROR: failed to parse platform API '1.x'\n") },
        Case { metadata: "[[buildpacks]]\nid = \"a/b\"\napi = \"0.6\"\n", ..fails("an old Buildpack API", "web", 12, "ERROR: failed to set API for buildpack 'a/b': buildpack API version '0.6' is incompatible with the lifecycle\n") },
        Case { env: &[("CNB_PROCESS_TYPE", "other"), ("CNB_NO_COLOR", "0")], ..fails("a process type in the environment, in colour", "missing", 82, "\u{1b}[33;1mWarning: \u{1b}[0mCNB_PROCESS_TYPE is not supported in Platform API 0.15\n\u{1b}[33;1mWarning: \u{1b}[0mRun with ENTRYPOINT 'other' to invoke the 'other' process type\n\u{1b}[31;1mERROR: \u{1b}[0mfailed to launch: path lookup: exec: \"no-such-program\": executable file not found in $PATH\n") },
        Case { files: &[("layers/some_buildpack", "file")], ..fails("a file in place of a buildpack's layers", "web", 82, "ERROR: failed to launch: modify env: add layer root: failed to list files in dir '{root}/layers/some_buildpack': open {root}/layers/some_buildpack: not a directory\n") },
        Case { files: &[("layers/some_buildpack/a/env", "file")], ..fails("a file in place of an environment folder", "web", 82, "ERROR: failed to launch: modify env: add layer env: apply env files from dir '{root}/layers/some_buildpack/a/env': open {root}/layers/some_buildpack/a/env: not a directory\n") },
        Case { files: &[("layers/some_buildpack/a/env/X", "-> nowhere")], ..fails("a variable that leads nowhere", "web", 82, "ERROR: failed to launch: modify env: add layer env: apply env files from dir '{root}/layers/some_buildpack/a/env': stat {root}/layers/some_buildpack/a/env/X: no such file or directory\n") },
        Case { files: &[("layers/some_buildpack/a/exec.d", "file")], ..fails("a file in place of exec.d", "web", 82, "ERROR: failed to launch: exec.d: failed to list files in dir '{root}/layers/some_buildpack/a/exec.d': open {root}/layers/some_buildpack/a/exec.d: not a directory\n") },
        Case { files: &[("layers/some_buildpack/a/profile.d", "file")], ..fails("a file in place of profile.d", "script", 82, "ERROR: failed to launch: find profiles: failed to list files in dir '{root}/layers/some_buildpack/a/profile.d': open {root}/layers/some_buildpack/a/profile.d: not a directory\n") },
        Case { files: &[("workspace/.profile", "-> .profile")], ..fails("a profile that leads to itself", "script", 82, "ERROR: failed to launch: find profiles: failed to determine if app profile script exists at path '{root}/workspace/.profile': stat {root}/workspace/.profile: too many levels of symbolic links\n") },
        Case { metadata: "[[processes]]\ncommand = 3\n", ..fails("metadata of another shape", "web", 1, "ERROR: failed to read metadata: {root}/layers/config/metadata.toml:2:11: invalid type: integer `3`, expected a string or an array of strings\n") }.ours(),
    ]
}
