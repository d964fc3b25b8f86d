//! `pannier run` and `pannier doctor`, the real program, as root and as ordinary users.

#[path = "e2e/support.rs"]
#[allow(dead_code, unused_imports, unused_macros)]
mod support;

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use testkit::registry::{Kind, Options, Registry};
use testkit::{Base, Image, Layout, Machine, Person};

const PANNIER: &str = env!("CARGO_BIN_EXE_pannier");

/// Runs a case for everybody, with a layout whose `app` is an image on the small base.
fn everybody(change: impl Fn(Image) -> Image, case: impl Fn(&Machine, &str)) {
    if !Base::Small.available() {
        return;
    }
    for person in Person::all() {
        let machine = Machine::new(PANNIER, person);
        let layout = Layout::new(machine.make_dir("images"));
        layout.add("app", &change(Base::Small.run()));
        person.own_all(layout.path());
        case(&machine, &layout.reference("app"));
        assert_eq!(scratch(&machine), Vec::<PathBuf>::new(), "as {}", person.name());
    }
}

/// What is left of runs in the store.
fn scratch(machine: &Machine) -> Vec<PathBuf> {
    let Ok(entries) = fs_err::read_dir(machine.path("home/.local/share/pannier/store/tmp")) else {
        return Vec::new();
    };
    entries.map(|entry| entry.expect("readable").path()).collect()
}

fn shell(image: Image) -> Image {
    image.field("Entrypoint", serde_json::json!(["/bin/sh", "-c"]))
}

#[test]
fn the_image_says_what_runs_and_how() {
    let image = |image: Image| {
        image
            .field(
                "Entrypoint",
                serde_json::json!(["/bin/sh", "-c", "echo \"$0:$*\"; id -u; id -g; pwd; echo $HOME $OWN"]),
            )
            .field("Cmd", serde_json::json!(["zero", "one"]))
            .field("WorkingDir", serde_json::json!("/made/here"))
            .env("OWN", "of the image")
    };
    everybody(image, |machine, name| {
        let output = machine.pannier(["run", name]).ok();
        assert_eq!(output.stdout, "zero:one\n1000\n1000\n/made/here\n/home/cnb of the image\n");
        let output = machine.pannier(["run", name, "--env", "OWN=mine", "--", "a b", "-c"]).ok();
        assert_eq!(output.stdout, "a b:-c\n1000\n1000\n/made/here\n/home/cnb mine\n");
    });
}

#[test]
fn the_caller_can_say_otherwise() {
    everybody(shell, |machine, name| {
        let run = |arguments: &[&str]| machine.pannier([&["run", name], arguments].concat());
        assert_eq!(run(&["--user", "root", "--", "id -u; echo $HOME"]).ok().stdout, "0\n/root\n");
        assert_eq!(
            run(&["--user", "4:5", "--workdir", "/tmp", "--", "id -u; id -g; pwd"]).ok().stdout,
            "4\n5\n/tmp\n"
        );
        assert_eq!(run(&["--entrypoint", "echo", "--", "plain"]).ok().stdout, "plain\n");
        assert_eq!(run(&["--entrypoint", "", "--", "/bin/echo", "-n", "x"]).ok().stdout, "x");
        machine.write("work/env", "FROM_FILE=file value\nHOST_ONLY\n");
        let output = run(&["--env-file", "env", "-e", "HOST_ONLY", "--", "echo $FROM_FILE,$HOST_ONLY"])
            .env("HOST_ONLY", "from here")
            .ok();
        assert_eq!(output.stdout, "file value,from here\n");
    });
}

#[test]
fn nothing_else_of_the_caller_is_seen() {
    everybody(shell, |machine, name| {
        let secret = machine.write("home/secret", "secret");
        let script = format!("cat {}; env", secret.display());
        let output = machine.pannier(["run", name, "--", &script]).env("TOKEN", "secret").run();
        output.never_says("secret\n").never_says("TOKEN");
        assert_eq!(output.code(), 0, "{output}");
    });
}

#[test]
fn exit_codes_are_passed_back() {
    everybody(shell, |machine, name| {
        for (script, code) in [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill -15 $$", 143)] {
            assert_eq!(machine.pannier(["run", name, "--", script]).run().code(), code, "{script}");
        }
        let run = |arguments: &[&str]| machine.pannier([&["run", name], arguments].concat()).fails();
        let output = run(&["--entrypoint", "nothing-like-it"]);
        output.says("error: program `nothing-like-it` not found in the sandbox");
        assert_eq!(output.code(), 127);
        assert_eq!(run(&["--entrypoint", "/etc"]).code(), 126);
        let output = run(&["--user", "somebody"]);
        output.says("no user `somebody`");
        assert_eq!(output.code(), 125);
        assert_eq!(machine.pannier(["run", "oci:nowhere"]).fails().code(), 125);
    });
}

#[test]
fn an_image_without_a_program_or_for_another_machine_is_explained() {
    everybody(
        |image| image,
        |machine, name| {
            let output = machine.pannier(["run", name]).fails();
            output.says("error: no program to run: ").says("hint:");
        },
    );
    everybody(
        |image| shell(image).platform("linux", "s390x"),
        |machine, name| {
            let output = machine.pannier(["run", name, "--", "true"]).fails();
            output.says("s390x").says("hint:");
        },
    );
}

#[test]
fn volumes_are_as_writable_as_said() {
    everybody(shell, |machine, name| {
        let folder = machine.make_dir("data");
        machine.write("data/file", "text");
        let volume = |mode: &str| format!("{}:/mnt/data{mode}", folder.display());
        let run = |mode: &str, script: &str| {
            machine.pannier(["run", name, "--user", "0", "--volume", &volume(mode), "--", script]).run()
        };
        assert_eq!(run("", "cat /mnt/data/file").stdout, "text");
        run("", "echo x > /mnt/data/file").says("Read-only file system");
        assert_eq!(run(":rw", "echo changed > /mnt/data/file").code(), 0);
        assert_eq!(fs_err::read_to_string(folder.join("file")).expect("read"), "changed\n");
        machine.pannier(["run", name, "--volume", "/no/where:/mnt"]).fails().says("/no/where");
    });
}

#[test]
fn what_is_written_is_gone() {
    everybody(shell, |machine, name| {
        machine.pannier(["run", name, "--user", "0", "--", "echo x > /new; rm /bin/cat"]).ok();
        let output = machine.pannier(["run", name, "--", "test -e /new || echo gone; echo there | cat"]).ok();
        assert_eq!(output.stdout, "gone\nthere\n");
    });
}

#[test]
fn standard_input_is_passed_in() {
    everybody(shell, |machine, name| {
        let output = machine.pannier(["run", name, "--", "wc -c"]).stdin("twelve bytes").ok();
        assert_eq!(output.stdout.trim(), "12");
    });
}

#[test]
fn nodes_and_files_of_the_machine_keep_their_modes() {
    let before = support::devices();
    everybody(shell, |machine, name| {
        for user in ["0", "1000"] {
            machine.pannier(["run", name, "--user", user, "--", support::SPOIL]).ok();
            assert_eq!(support::devices(), before, "as {user}");
            // A file that the output goes to is written, and no more.
            let out = machine.write("work/out", "");
            let script = format!(
                "exec \"$PANNIER\" run {name} --user {user} -- 'chmod 4755 /dev/stdout; chown 1:1 /dev/stdout; echo said' \
                 > out 2>&1 < /dev/null"
            );
            machine.call("sh", ["-c", &script]).env("PANNIER", machine.program()).ok();
            let text = fs_err::read_to_string(&out).expect("it can be read");
            assert!(text.ends_with("said\n"), "{text}");
            let meta = fs_err::metadata(&out).expect("it is there");
            let about = (meta.mode() & 0o7777, meta.uid(), meta.gid());
            assert_eq!(about, (0o644, machine.person().id(), machine.person().id()), "as {user}");
        }
    });
}

#[test]
fn root_of_an_image_is_not_root_of_the_machines_network() {
    everybody(shell, |machine, name| {
        let script = "grep CapEff /proc/self/status; (timeout 1 nc -l -p 81 </dev/null) 2>&1; \
                      (timeout 1 arping -c 1 -I lo 127.0.0.1) 2>&1; true";
        let output = machine.pannier(["run", name, "--user", "0", "--", script]).ok();
        output.says("00000000a80401fb").says("ermission denied").says("not permitted");
        let output = machine.pannier(["run", name, "--user", "0", "--network", "none", "--", script]).ok();
        output.says("00000000a80425fb").never_says("ermission denied").never_says("not permitted");
    });
}

#[test]
fn the_network_can_be_taken_away() {
    everybody(shell, |machine, name| {
        let output =
            machine.pannier(["run", name, "--network", "none", "--", "grep -c : /proc/net/dev"]).ok();
        assert_eq!(output.stdout, "1\n");
    });
}

#[test]
fn signals_reach_the_program() {
    everybody(shell, |machine, name| {
        for (signal, number) in [("TERM", 15), ("INT", 2), ("HUP", 1), ("USR1", 10), ("QUIT", 3)] {
            let script = format!(
                "trap 'echo got {signal}; exit 7' {signal}; echo ready; while :; do sleep 0.01; done"
            );
            let mut child = machine.pannier(["run", name, "--", &script]).start();
            let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
            assert_eq!(lines.next().expect("a line").expect("read"), "ready");
            let pid = rustix::process::Pid::from_child(&child);
            let signal_to_send = rustix::process::Signal::from_named_raw(number).expect("a signal");
            rustix::process::kill_process(pid, signal_to_send).expect("sent");
            assert_eq!(lines.next().expect("a line").expect("read"), format!("got {signal}"));
            assert_eq!(child.wait().expect("waited").code(), Some(7), "{signal}");
        }
    });
}

#[test]
fn a_killed_run_leaves_nothing_running() {
    everybody(shell, |machine, name| {
        let marker = format!("marker-{}-{}", std::process::id(), machine.person().id());
        let script = format!("trap '' TERM HUP INT; echo ready; while :; do sleep 1; done # {marker}");
        let mut child = machine.pannier(["run", name, "--", &script]).start();
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        assert_eq!(lines.next().expect("a line").expect("read"), "ready");
        child.kill().expect("killed");
        child.wait().expect("waited");
        let running = || {
            let lines = fs_err::read_dir("/proc")
                .expect("/proc")
                .filter_map(|entry| fs_err::read(entry.ok()?.path().join("cmdline")).ok());
            lines.filter(|line| String::from_utf8_lossy(line).contains(&marker)).count()
        };
        let begin = Instant::now();
        while running() > 0 {
            assert!(begin.elapsed() < Duration::from_secs(10), "it runs on");
            std::thread::sleep(Duration::from_millis(10));
        }
        // The next one tidies up after it.
        machine.pannier(["run", name, "--", "true"]).ok();
    });
}

#[test]
fn a_terminal_is_given_to_the_program() {
    testkit::needs!("script");
    everybody(shell, |machine, name| {
        // `script` makes a terminal for us; the program gets another, of the same size.
        let pannier = machine.pannier(["version"]).ok();
        assert!(!pannier.stdout.is_empty());
        let program = machine.write_script(
            "work/in-terminal",
            format!(
                "#!/bin/sh\nstty rows 33 cols 77\nexec \"$PANNIER\" run {name} -- 'tty; stty size; echo $TERM; read line; echo =$line='\n"
            ),
        );
        let mut child = machine
            .call("script", ["-qec", &program.display().to_string(), "/dev/null"])
            .env("PANNIER", machine.program())
            .env("TERM", "xterm-test")
            .stdin("typed\n")
            .run();
        child.stdout.retain(|character| character != '\r');
        child.says("/dev/pts/0\n").says("33 77\n").says("xterm-test\n").says("=typed=\n");
        assert_eq!(child.code(), 0, "{child}");
    });
}

#[test]
fn an_image_of_a_registry_is_fetched_once() {
    if !Base::Small.available() {
        return;
    }
    let registry = Registry::start(Options::default());
    let layout = Layout::new(testkit::base::scratch().join(format!("run-{}", std::process::id())));
    let digest = layout.add("app", &shell(Base::Small.run()));
    publish(&registry, &layout, &digest);
    let name = format!("{}/team/app", registry.host());
    for person in Person::all() {
        let machine = Machine::new(PANNIER, person);
        registry.forget();
        assert_eq!(machine.pannier(["run", &name, "--", "echo fetched"]).ok().stdout, "fetched\n");
        assert!(registry.count(Kind::BlobGet) > 0);
        registry.forget();
        assert_eq!(machine.pannier(["run", &name, "--", "echo again"]).ok().stdout, "again\n");
        assert_eq!(registry.seen().len(), 0, "the store has it");
        machine.pannier(["doctor", "--store"]).ok().says("1 images");
    }
    fs_err::remove_dir_all(layout.path()).expect("removed");
}

/// Copies an image of a layout into a registry.
fn publish(registry: &Registry, layout: &Layout, digest: &str) {
    let manifest = fs_err::read(layout.blob_path(digest)).expect("a manifest");
    let parsed: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
    let layers = parsed["layers"].as_array().expect("layers").iter();
    for blob in layers.chain([&parsed["config"]]) {
        let digest = blob["digest"].as_str().expect("a digest");
        registry.add_blob("team/app", &fs_err::read(layout.blob_path(digest)).expect("a blob"));
    }
    let media_type = parsed["mediaType"].as_str().unwrap_or("application/vnd.oci.image.manifest.v1+json");
    registry.add_manifest("team/app", "latest", media_type, &manifest);
}

#[test]
fn doctor_says_what_works_and_what_is_broken() {
    everybody(shell, |machine, name| {
        let output = machine.pannier(["doctor", "--store"]).ok();
        for word in
            ["kernel", "namespaces", "user ids", "overlay", "sandbox", "pannier builds and runs images here."]
        {
            output.says(word);
        }
        output.says("none at").never_says("\u{1b}");
        if machine.person() == Person::Plain {
            output.says("note  user ids").says("usermod --add-subuids");
        }
        machine.pannier(["run", name, "--", "true"]).ok();
        machine.pannier(["doctor", "--store"]).ok().says("0 images");
        // A blob whose content is wrong is named, and can be removed.
        let blob = machine.write(format!("home/.local/share/pannier/store/blobs/sha256/{:064}", 7), "wrong");
        let output = machine.pannier(["doctor", "--store"]).fails();
        output.says(&format!("{:064}", 7)).says("--repair");
        machine.pannier(["doctor", "--store", "--repair"]).ok().says("removed");
        assert!(!blob.exists());
        machine.pannier(["doctor", "--store"]).ok();
    });
}
