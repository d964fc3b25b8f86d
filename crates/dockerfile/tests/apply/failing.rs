//! What goes wrong: one clear error with its place, and nothing left.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use oci::{Layout, Platform, Store};
use pannier_dockerfile::{ApplyError, Need};
use sandbox::Ids;

use crate::Case;
use crate::lab::{self, Lab};

pub const CASES: &[Case] = &[
    ("a_program_that_fails", program),
    ("a_program_that_is_not_there", no_program),
    ("folders_of_the_build_are_not_the_images", forbidden),
    ("the_user_of_a_run_image_is_not_root", root),
    ("files_that_are_not_in_the_context", files),
    ("one_id_is_named_as_the_reason", single),
    ("a_kill_leaves_nothing", kill),
];

fn program(lab: &Lab) {
    let error = lab.fails("RUN true\nRUN echo out; echo err >&2; \\\n  exit 7");
    assert!(matches!(error, ApplyError::Run(_)));
    let text = error.to_string();
    assert!(text.starts_with("run.Dockerfile:4:1: `RUN echo out;"), "{text}");
    assert!(text.contains("of extension test/ext failed with exit code 7"), "{text}");
    assert!(text.contains("\n    out") && text.contains("\n    err"), "{text}");
    // The step before is kept, the failed one is not.
    assert!(lab.run("RUN true").steps[0].cached);
    let error = lab.fails("RUN kill -9 $$");
    assert!(error.to_string().contains("failed with signal 9"), "{error}");
}

fn no_program(lab: &Lab) {
    let error = lab.fails("RUN [\"/no/such\"]");
    assert!(error.to_string().starts_with("run.Dockerfile:3:1: cannot apply"), "{error}");
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    assert_eq!(cause, "program `/no/such` not found in the sandbox");
    let error = lab.fails("USER nobody-here\nRUN true");
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    assert!(error.to_string().contains(":4:") && cause.contains("no user `nobody-here`"), "{error}: {cause}");
}

fn forbidden(lab: &Lab) {
    for (lines, place, path) in [
        ("USER root\nRUN mkdir /layers && touch /layers/x", ":4:1:", "/layers/x"),
        ("USER root\nRUN mkdir -p /workspace/a/b", ":4:1:", "/workspace/a/b"),
        ("COPY <<E /platform/env/X\n1\nE", ":3:1:", "/platform/env/X"),
        ("WORKDIR /cnb/process", ":3:1:", "/cnb/process"),
        ("USER root\nRUN ln -s /tmp /layers", ":4:1:", "/layers"),
    ] {
        let error = lab.fails(lines).to_string();
        assert!(error.contains(place), "{error}");
        assert!(error.contains(&format!("it writes to `{path}`")), "{error}");
    }
    // A bare folder of that name is nothing.
    let applied =
        lab.run("USER root\nRUN mkdir /layers /workspace\nWORKDIR /cnb\nRUN echo 1 > /layered\nUSER cnb");
    assert_eq!(lab.entries(&applied), ["-rw-r--r-- 0/0 /layered"]);
    // What the image has there is not to be changed either.
    let tree = testkit::Tree::new().dir("cnb", 0o755).file("cnb/f", 0o644, "1");
    lab.base(&testkit::Base::Small.run().layer(tree));
    for script in ["echo 2 >> /cnb/f", "rm /cnb/f", "chmod 700 /cnb", "rm -r /cnb", "rm -r /cnb; mkdir /cnb"]
    {
        let error = lab.fails(&format!("USER root\nRUN {script}")).to_string();
        assert!(error.contains("it writes to `/cnb"), "{script}: {error}");
    }
    assert!(!lab.run("RUN cat /cnb/f").changed);
}

fn root(lab: &Lab) {
    for user in ["root", "0", "0:1000", "admin"] {
        let error = lab.fails(&format!("COPY <<E /etc/passwd\nadmin:x:0:0::/:/bin/sh\nE\nUSER {user}"));
        assert!(matches!(error, ApplyError::RootUser { .. }), "{user}: {error}");
        assert!(error.to_string().contains(&format!("`{user}`")) && error.to_string().contains("test/ext"));
        assert!(error.hint().is_some_and(|hint| hint.contains("${user_id}")));
    }
    let texts = [("first", "FROM x\nUSER root\nRUN true"), ("second", "FROM x\nUSER 1000\nENV A=1")];
    lab.try_apply(&texts, Need::Image, |_| ()).expect("the second takes it back");
    assert!(
        lab.told().iter().any(|line| line.contains("extension first changes the user")),
        "{:?}",
        lab.told()
    );
}

fn files(lab: &Lab) {
    lab.write("there", "1");
    fs_err::write(lab.path("outside"), "secret").expect("written");
    std::os::unix::fs::symlink("../outside", lab.path("context/out")).expect("linked");
    for (line, says) in [
        ("COPY their /x", "`their` is not in the context"),
        ("COPY ../outside /x", "outside of the context"),
        ("COPY out /x", "leads out of the context"),
        ("RUN --mount=source=none,target=/x true", "not in the context"),
        ("RUN --mount=source=out,target=/x true", "leads out of the context"),
    ] {
        let error = lab.fails(line).to_string();
        assert!(error.starts_with("run.Dockerfile:3:") && error.contains(says), "{line}: {error}");
    }
}

fn single(lab: &Lab) {
    if lab.ids != Ids::Single {
        return;
    }
    let error = lab.fails("USER root\nRUN touch /x && chown 1000 /x");
    assert!(error.hint().is_some_and(|hint| hint.contains("/etc/subuid")), "{error}: {:?}", error.hint());
    assert!(lab.fails("RUN exit 1").hint().is_none());
}

/// Applies a step that takes for ever, in a process of its own.
pub fn victim(store: &Path) -> std::process::ExitCode {
    let entered = sandbox::enter(&sandbox::EnterOptions { single_id: false }).expect("entered");
    let image = Layout::open(store.with_file_name("layout")).expect("a layout");
    let image = image.image(Some("run"), &Platform::host()).expect("an image");
    let store = Store::open(store).expect("a store");
    let unpacker = lab::unpacker(entered.ids);
    lab::apply_alone(&store, &image, &unpacker, entered.ids, "RUN echo 1 > /tmp/x; exec sleep 4567.1234");
    std::process::ExitCode::FAILURE
}

fn kill(lab: &Lab) {
    lab.base(&testkit::Base::Small.run());
    let store = lab.path("store");
    let own = std::env::current_exe().expect("this test's own file");
    let mut victim = Command::new(own);
    victim.arg("--victim").arg(&store).stdout(Stdio::null()).stderr(Stdio::null());
    let mut victim = victim.spawn().expect("started");
    assert!(eventually(|| sleepers() > 0), "it sleeps");
    victim.kill().expect("killed");
    victim.wait().expect("waited");
    assert!(eventually(|| sleepers() == 0), "no process is left");
    let mounts = fs_err::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains(&*store.to_string_lossy()), "no mount is left");
    // Nothing half-applied, and who comes next sweeps what was in the making.
    let line = "RUN echo 1 > /tmp/x; exec sleep 0.01";
    assert!(!lab.run(line).steps[0].cached);
    let tmp: Vec<_> =
        fs_err::read_dir(store.join("tmp")).expect("read").flatten().map(|it| it.path()).collect();
    let other: Vec<_> = tmp
        .iter()
        .filter(|path| !path.to_string_lossy().contains(&format!("/{}-", std::process::id())))
        .collect();
    assert!(other.is_empty(), "{other:?}");
}

fn sleepers() -> usize {
    let entries = fs_err::read_dir("/proc").expect("/proc");
    entries
        .filter_map(|entry| fs_err::read(entry.ok()?.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).starts_with("sleep\x004567.1234"))
        .count()
}

fn eventually(condition: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
