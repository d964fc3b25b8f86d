//! What cannot be seen in output alone: that the launcher becomes the process, and in what state.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use crate::fixture::Case;
use crate::ours;

const METADATA: &str = r#"
[[buildpacks]]
id = "a"
api = "0.10"
[[processes]]
type = "web"
command = ["cat"]
args = ["/proc/self/status"]
direct = true
buildpack-id = "a"
[[processes]]
type = "fail"
command = ["sh", "-c", "kill -TERM $$"]
direct = true
buildpack-id = "a"
[[processes]]
type = "code"
command = "exit 7"
buildpack-id = "a"
"#;

fn case(caller: &'static str) -> Case {
    Case { metadata: METADATA, caller, ..Case::default() }
}

#[test]
fn the_launcher_becomes_the_process() {
    let root = tempfile::tempdir().unwrap();
    let case = case("web");
    case.lay_out(root.path(), &ours());
    let mut child = case.command(root.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut status = String::new();
    child.stdout.take().unwrap().read_to_string(&mut status).unwrap();
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default().to_owned()
    };
    assert_eq!(field("Name:"), "cat");
    assert_eq!(field("Pid:"), child.id().to_string());
    assert_eq!(field("Threads:"), "1");
    assert_eq!(field("SigBlk:"), "0000000000000000");
    // SIGPIPE is number 13: ignored, it would turn every `yes | head` of the app into an endless loop.
    assert_eq!(u64::from_str_radix(&field("SigIgn:"), 16).unwrap() & (1 << 12), 0);
    assert!(child.wait().unwrap().success());
}

#[test]
fn exec_d_programs_do_not_ignore_broken_pipes() {
    let root = tempfile::tempdir().unwrap();
    let case = Case {
        files: &[("layers/a/l/exec.d/1", "#!/bin/sh\ngrep SigIgn: /proc/self/status")],
        args: &["/dev/null"],
        ..case("web")
    };
    case.lay_out(root.path(), &ours());
    let output = case.command(root.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mask = text.trim().strip_prefix("SigIgn:").unwrap().trim();
    assert_eq!(u64::from_str_radix(mask, 16).unwrap() & (1 << 12), 0, "{text}");
}

#[test]
fn the_end_of_the_process_is_the_end_of_the_launcher() {
    for (caller, code, signal) in [("code", Some(7), None), ("fail", None, Some(15))] {
        let root = tempfile::tempdir().unwrap();
        let case = case(caller);
        case.lay_out(root.path(), &ours());
        let status = case.command(root.path()).status().unwrap();
        assert_eq!((status.code(), status.signal()), (code, signal), "{caller}");
    }
}

/// A container runtime may hand descriptors over from number 3 on (socket activation); `exec.d` programs get their
/// pipe there all the same, and the process still finds what was handed over.
#[test]
fn a_descriptor_that_was_handed_over_stays() {
    let root = tempfile::tempdir().unwrap();
    let case = Case {
        files: &[
            ("layers/a/l/exec.d/1", "#!/bin/sh\necho 'X = \"from exec.d\"' >&3"),
            ("handed", "handed over"),
        ],
        args: &["/dev/fd/3"],
        ..case("web")
    };
    case.lay_out(root.path(), &ours());
    let command = case.command(root.path());
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg("exec \"$0\" /dev/fd/3 3<handed").arg(command.get_program());
    shell.current_dir(root.path()).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = shell.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "handed over");
}
