//! Extensions that are at fault: one clear error with its place, and nothing left behind.

use std::time::{Duration, Instant};

use testkit::registry::Registry;
use testkit::{Buildpack, Machine};

use crate::fixture::*;
use crate::support::*;

const FROM: &str = "ARG base_image\nFROM ${base_image}\n";

/// Processes that have `mark` in their command line or environment.
fn processes(mark: &str) -> Vec<String> {
    let about = |file: std::path::PathBuf| {
        String::from_utf8_lossy(&fs_err::read(file).unwrap_or_default()).into_owned()
    };
    let all = fs_err::read_dir("/proc").expect("/proc is mounted").flatten();
    all.map(|entry| {
        format!("{} {}", about(entry.path().join("cmdline")), about(entry.path().join("environ")))
    })
    .filter(|text| text.contains(mark))
    .collect()
}

fn scratch(machine: &Machine) -> Vec<std::path::PathBuf> {
    let dir = machine.path("home/.local/share/pannier/store/tmp");
    let inner = fs_err::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    inner.filter(|path| fs_err::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())).collect()
}

/// Builds with this extension, and gives what the failure says. What was there before is still there, and nothing else.
fn fails(machine: &Machine, ext: Buildpack, code: i32) -> testkit::machine::Output {
    let before = built(machine).digest;
    let output = build(machine, &with_extensions(machine, &[ext], &[web()])).fails();
    assert_eq!(output.code(), code, "{output}");
    output.never_says("panicked");
    let errors = output.stderr.lines().filter(|line| line.starts_with("error:")).count();
    assert_eq!(errors, 1, "{output}");
    assert_eq!(built(machine).digest, before, "the image of before stays");
    assert!(scratch(machine).is_empty(), "{:?}", scratch(machine));
    let _ = fs_err::remove_dir_all(machine.path("images"));
    output
}

fn with_image() -> Option<Machine> {
    let machine = machine()?;
    build_with(&machine, &[web()]);
    let _ = fs_err::remove_dir_all(machine.path("images"));
    Some(machine)
}

/// What is wrong with a text is found before anything is applied.
#[test]
fn dockerfiles_that_are_none() {
    let Some(machine) = with_image() else { return };
    let cases = [
        ("run.Dockerfile", format!("{FROM}COPPY a b\n"), "run.Dockerfile:3:1", "COPPY"),
        ("run.Dockerfile", format!("{FROM}RUN true\nFROM other\n"), "run.Dockerfile:4:1", "FROM"),
        (
            "build.Dockerfile",
            "FROM ${base_image}\nRUN true\n".to_owned(),
            "build.Dockerfile:1:1",
            "base_image",
        ),
        ("build.Dockerfile", "ARG base_image\nFROM other\n".to_owned(), "build.Dockerfile:2:6", "base_image"),
        ("run.Dockerfile", "RUN true\n".to_owned(), "run.Dockerfile:1:1", "FROM"),
        ("run.Dockerfile", format!("{FROM}RUN <<END\nnever ends\n"), "run.Dockerfile:3", "END"),
    ];
    for (name, text, place, word) in cases {
        let output = fails(&machine, exactly(name, &text), 92);
        output.says(place).says(word).says("test/ext").says("^");
    }
}

#[test]
fn dockerfiles_that_fail() {
    let Some(machine) = with_image() else { return };
    let registry = Registry::default();
    let digest = registry.add_blob("files", b"content");
    let url = format!("{}/v2/files/blobs/{digest}", registry.url());
    let other = format!("sha256:{}", "0".repeat(64));
    let cases = [
        ("COPY missing /etc/", "run.Dockerfile:6:", "missing"),
        ("COPY ../../etc/passwd /etc/", "run.Dockerfile:6:", "etc/passwd"),
        ("RUN echo words; exit 42", "run.Dockerfile:6:1", "exit code 42"),
        ("RUN echo words; exit 42", "run.Dockerfile:6:1", "words"),
        ("RUN mkdir -p /layers/x && touch /layers/x/y", "run.Dockerfile:6:1", "/layers"),
        ("RUN mkdir -p /workspace && echo > /workspace/y", "run.Dockerfile:6:1", "/workspace"),
        ("RUN mkdir -p /platform/env /cnb && echo > /cnb/y", "run.Dockerfile:6:1", "/cnb"),
        (&format!("ADD --checksum={other} {url} /etc/file"), "run.Dockerfile:6:", "checksum"),
        ("RUN kill -9 $$", "run.Dockerfile:6:1", "signal"),
        ("SHELL [\"/no/such/shell\"]\nRUN true", "run.Dockerfile:7:1", "/no/such/shell"),
    ];
    for (text, place, word) in cases {
        fails(&machine, extension("test/ext", "", text), 102).says(place).says(word);
    }
    let root = exactly("run.Dockerfile", &format!("{FROM}USER root\nRUN echo > /etc/x\n"));
    fails(&machine, root, 102).says("root").says("hint: ");
}

/// A link in what an extension generates leads nowhere but into its context.
#[test]
fn links_that_lead_out_of_the_context() {
    let Some(machine) = with_image() else { return };
    machine.write("secret/key", "the secret");
    let secret = machine.path("secret").display().to_string();
    for copy in ["COPY link/key /etc/", "COPY link /etc/copied", "COPY . /etc/all"] {
        let script = format!(
            "mkdir \"$CNB_OUTPUT_DIR/context\"; ln -s {secret} \"$CNB_OUTPUT_DIR/context/link\"; printf '%s\\n' 'ARG base_image' \
             'FROM ${{base_image}}' 'USER root' '{copy}' 'USER 1000:1000' > \"$CNB_OUTPUT_DIR/run.Dockerfile\""
        );
        let ext = Buildpack::extension("test/ext", "1.0.0").generate(&script);
        let output = build(&machine, &with_extensions(&machine, &[ext], &[web()])).run();
        output.never_says("panicked").never_says("the secret");
        if output.status.success() {
            let all = built(&machine);
            let leaked =
                all.layers.iter().flat_map(|layer| &layer.entries).any(|it| it.content == b"the secret");
            assert!(!leaked, "{copy}");
        } else {
            assert_eq!(output.code(), 102, "{output}");
            output.says("run.Dockerfile:4:");
        }
        let _ = fs_err::remove_dir_all(machine.path("images"));
    }
}

everyone! {
    /// A daemon that a RUN leaves ends with it, and what it wrote until then is in the layer.
    fn daemons_do_not_stay(machine: &Machine) {
        let mark = format!("mark-{}", std::process::id());
        let run = format!("RUN echo 1 > /etc/one; (MARK={mark}-{:?} setsid sleep 1000 > /dev/null 2>&1 &); true", machine.person());
        let builder = with_extensions(machine, &[extension("test/ext", &run, &run)], &[web()]);
        let start = Instant::now();
        build(machine, &builder).ok();
        assert!(start.elapsed() < Duration::from_secs(100));
        assert_eq!(built(machine).text("/etc/one"), "1\n");
        assert_eq!(processes(&format!("{mark}-{:?}", machine.person())), [""; 0]);
    }
}

everyone! {
    /// Killed in the middle of a RUN: no process stays, and the next build does what was left undone.
    fn killed_in_the_middle(machine: &Machine) {
        let mark = format!("kill-{}-{:?}", std::process::id(), machine.person());
        let run = format!("RUN echo 1 > /etc/one; if [ -e slow ]; then MARK={mark} sleep 1000; fi; echo done > /etc/two");
        let layout = testkit::Layout::new(machine.path("images"));
        layout.add("builder", &extended_builder(&[extension("test/ext", &run, "")], &[web()]).image().env("MARK", &mark));
        // The script of the RUN looks at the image: with --env it cannot be made slow.
        let slow = extension("test/ext", &run.replace("[ -e slow ]", "true"), "");
        layout.add("slow", &extended_builder(&[slow], &[web()]).image());
        let mut child = build(machine, &layout.reference("slow")).start();
        let start = Instant::now();
        while processes(&format!("MARK={mark}")).is_empty() {
            assert!(start.elapsed() < Duration::from_secs(60), "the RUN starts");
            assert!(child.try_wait().expect("it can be asked").is_none(), "it runs");
            std::thread::sleep(Duration::from_millis(20));
        }
        let kill = machine.person().command("kill").args(["-KILL", &child.id().to_string()]).status();
        assert!(kill.is_ok_and(|status| status.success()));
        child.wait().expect("it ends");
        let start = Instant::now();
        while !processes(&format!("MARK={mark}")).is_empty() {
            assert!(start.elapsed() < Duration::from_secs(10), "{:?}", processes(&mark));
            std::thread::sleep(Duration::from_millis(20));
        }
        build(machine, &layout.reference("builder")).ok().never_says("kept from an earlier build");
        assert!(scratch(machine).is_empty(), "{:?}", scratch(machine));
    }
}

everyone! {
    /// Interrupted in the middle of a RUN: it ends by the signal, and nothing is left at once.
    fn interrupted_in_the_middle(machine: &Machine) {
        let mark = format!("interrupt-{}-{:?}", std::process::id(), machine.person());
        let slow = extension("test/ext", &format!("RUN echo 1 > /etc/one; MARK={mark} sleep 1000"), "");
        let builder = with_extensions(machine, &[slow], &[web()]);
        let mut child = build(machine, &builder).start();
        let start = Instant::now();
        while processes(&format!("MARK={mark}")).is_empty() {
            assert!(start.elapsed() < Duration::from_secs(60), "the RUN starts");
            assert!(child.try_wait().expect("it can be asked").is_none(), "it runs");
            std::thread::sleep(Duration::from_millis(20));
        }
        let kill = machine.person().command("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(kill.is_ok_and(|status| status.success()));
        let status = child.wait().expect("it ends");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(2), "{status}");
        assert!(processes(&format!("MARK={mark}")).is_empty(), "{:?}", processes(&mark));
        assert!(scratch(machine).is_empty(), "{:?}", scratch(machine));
    }
}
