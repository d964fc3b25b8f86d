//! What a program gets: ids, environment, streams, signals, its exit code on the way back.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use pannier_sandbox::{EnterOptions, ExitStatus, GuestMount, Network, Output, Overlay, Spec, Stdio};

use crate::Case;
use crate::place::{Place, finish, run};

pub const CASES: &[Case] = &[
    ("exit_codes_and_signals_come_back", exit_codes_and_signals_come_back),
    ("ids_are_those_asked_for", ids_are_those_asked_for),
    ("the_environment_is_exact", the_environment_is_exact),
    ("arguments_are_bytes", arguments_are_bytes),
    ("streams_are_connected", streams_are_connected),
    ("output_comes_as_it_is_written", output_comes_as_it_is_written),
    ("signals_are_passed_on", signals_are_passed_on),
    ("programs_are_looked_up_in_the_guests_path", programs_are_looked_up_in_the_guests_path),
    ("working_directories_are_made_when_asked_for", working_directories_are_made_when_asked_for),
    ("the_surroundings_are_a_containers", the_surroundings_are_a_containers),
    ("network_none_is_loopback_alone", network_none_is_loopback_alone),
    ("network_host_is_the_hosts", network_host_is_the_hosts),
    ("a_program_that_was_replaced_still_works", a_program_that_was_replaced_still_works),
    ("many_threads_start_many", many_threads_start_many),
    ("starts_are_timed", starts_are_timed),
];

fn exit_codes_and_signals_come_back(place: &Place) {
    for code in [0, 1, 7, 127, 255] {
        assert_eq!(place.sh(&format!("exit {code}")).status, ExitStatus::Code(code));
    }
    for signal in [1, 2, 9, 13, 15] {
        assert_eq!(place.sh(&format!("kill -{signal} $$")).status, ExitStatus::Signal(signal));
    }
}

fn ids_are_those_asked_for(place: &Place) {
    let root = place.root();
    assert_eq!(run(root.sh("id -u; id -g")).ok(), "0\n0");
    let mut spec = root.sh("id -u; id -g; id -G");
    (spec.uid, spec.gid, spec.groups) = (1000, 1001, vec![1001, 44]);
    let ran = run(spec);
    let lines: Vec<_> = ran.ok().lines().collect();
    assert_eq!(lines[..2], ["1000", "1001"]);
    if place.has_ranges() {
        assert_eq!(lines[2], "1001 44");
    }
    // Only the group differs.
    let mut spec = root.sh("id -u; id -g");
    spec.gid = 7;
    assert_eq!(run(spec).ok(), "0\n7");
}

fn the_environment_is_exact(place: &Place) {
    let root = place.root();
    let mut spec = root.program("env");
    spec.env("ONE", "1 = one").env("EMPTY", "");
    assert_eq!(run(spec).ok(), "PATH=/bin\nONE=1 = one\nEMPTY=");
    let mut spec = root.program("/bin/env");
    spec.env.clear();
    assert_eq!(run(spec).ok(), "");
}

fn arguments_are_bytes(place: &Place) {
    let root = place.root();
    let mut spec = root.program("/bin/busybox");
    spec.arg0 = Some("echo".into());
    spec.arg("a b").arg("").arg(OsString::from_vec(vec![0xc3, 0x28]));
    let mut child = spec.spawn().expect("a sandbox");
    let mut bytes = Vec::new();
    child.stdout.take().expect("a pipe").read_to_end(&mut bytes).expect("read");
    assert_eq!(bytes, b"a b  \xc3\x28\n");
}

fn streams_are_connected(place: &Place) {
    let root = place.root();
    let mut spec = root.sh("cat; echo problem >&2");
    spec.stdin = Stdio::Pipe;
    let mut child = spec.spawn().expect("a sandbox");
    child.stdin.take().expect("a pipe").write_all(b"question").expect("written");
    let ran = finish(child);
    assert_eq!((ran.ok(), ran.stderr.as_str()), ("question", "problem\n"));
    assert_eq!(run(root.sh("cat; readlink /proc/self/fd/0")).ok(), "/dev/null");
    let file = tempfile::tempfile().expect("a file");
    let mut spec = root.sh("echo to a file");
    spec.stdout = Stdio::Fd(file.try_clone().expect("cloned").into());
    run(spec).ok();
    let mut text = String::new();
    let mut file = file;
    std::io::Seek::rewind(&mut file).expect("sought");
    file.read_to_string(&mut text).expect("read");
    assert_eq!(text, "to a file\n");
}

fn output_comes_as_it_is_written(place: &Place) {
    let root = place.root();
    let mut child = root
        .sh("echo one; sleep 0.05; echo two >&2; sleep 0.05; echo three; seq 100000; exit 4")
        .spawn()
        .expect("a sandbox");
    let mut parts: Vec<(Output, String)> = Vec::new();
    let status = child.wait_with_output(|output, bytes| {
        parts.push((output, String::from_utf8_lossy(bytes).into_owned()));
    });
    assert_eq!(status.expect("waited"), ExitStatus::Code(4));
    assert_eq!(parts[0], (Output::Stdout, "one\n".to_owned()));
    assert_eq!(parts[1], (Output::Stderr, "two\n".to_owned()));
    let rest: String = parts[2..].iter().map(|(_, text)| text.as_str()).collect();
    assert!(rest.starts_with("three\n1\n") && rest.ends_with("\n100000\n"));
}

fn signals_are_passed_on(place: &Place) {
    let root = place.root();
    for (name, number) in [("TERM", 15), ("INT", 2), ("HUP", 1), ("USR1", 10)] {
        let script =
            format!("trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.01; done");
        let mut child = root.sh(&script).spawn().expect("a sandbox");
        let mut first = [0; 6];
        child.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("read");
        child.signaller().signal(number);
        let ran = finish(child);
        assert_eq!((ran.status, ran.stdout.trim()), (ExitStatus::Code(9), format!("got {name}").as_str()));
    }
    let mut child = root.sh("while :; do sleep 1; done").spawn().expect("a sandbox");
    assert_eq!(child.try_wait().expect("looked"), None);
    child.signal(15);
    assert_eq!(child.wait().expect("waited"), ExitStatus::Signal(15));
    // Afterwards a signal finds nobody.
    child.signal(15);
    assert_eq!(child.try_wait().expect("looked"), Some(ExitStatus::Signal(15)));
}

fn programs_are_looked_up_in_the_guests_path(place: &Place) {
    let root = place.root();
    assert_eq!(run(root.program("true")).ok(), "");
    let mut spec = root.program("pwd");
    spec.env.clear();
    assert_eq!(run(spec).ok(), "/", "a default PATH has /bin");
    let mut spec = root.program("./busybox");
    spec.arg("pwd");
    spec.cwd = "/bin".into();
    assert_eq!(run(spec).ok(), "/bin");
}

fn working_directories_are_made_when_asked_for(place: &Place) {
    let root = place.root();
    let mut spec = root.sh("pwd; stat -c '%u %a' .");
    spec.cwd = "/not/there/yet".into();
    spec.create_cwd = true;
    spec.uid = 1000;
    let owner = if place.has_ranges() { "0" } else { "1000" };
    assert_eq!(run(spec).ok(), format!("/not/there/yet\n{owner} 755"));
}

fn the_surroundings_are_a_containers(place: &Place) {
    let root = place.root();
    let mut spec = root.sh(
        "umask; hostname; stat -c '%a' /tmp; cat /dev/null; head -c 4 /dev/zero | wc -c; head -c 9 /dev/urandom | wc -c; \
         readlink /dev/fd; test -d /dev/shm && touch /dev/shm/x && echo shm; cat /proc/1/comm; \
         test $(cut -d' ' -f6 /proc/self/stat 2>/dev/null || echo 1) && echo done; nproc > /dev/null && echo cpus",
    );
    spec.hostname = "box".into();
    assert_eq!(run(spec).ok(), "0022\nbox\n1777\n4\n9\n/proc/self/fd\nshm\npannier-sandbox\ndone\ncpus");
}

fn network_none_is_loopback_alone(place: &Place) {
    let root = place.root();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let mut spec = root.sh(&format!(
        "grep -c : /proc/net/dev; ifconfig lo | grep -c RUNNING; nc -w 1 127.0.0.1 {port} </dev/null || echo refused; \
         grep -c localhost /etc/hosts"
    ));
    spec.network = Network::None;
    let ran = run(spec);
    assert_eq!(ran.ok(), "1\n1\nrefused\n2", "{ran:?}");
}

fn network_host_is_the_hosts(place: &Place) {
    let root = place.root();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let answer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a caller");
        stream.write_all(b"hello\n").expect("written");
    });
    let mut spec = root.sh(&format!("nc -w 5 127.0.0.1 {port} </dev/null; cat /etc/resolv.conf /etc/hosts"));
    spec.stdin = Stdio::Null;
    let ran = run(spec);
    answer.join().expect("answered");
    let host =
        ["/etc/resolv.conf", "/etc/hosts"].map(|path| fs_err::read_to_string(path).unwrap_or_default());
    assert_eq!(ran.stdout, format!("hello\n{}", host.concat()));
    // What is written there reaches neither the host nor the image.
    run(root.sh("echo written >> /etc/hosts")).ok();
    assert_eq!(fs_err::read_to_string("/etc/hosts").unwrap_or_default(), host[1]);
    assert!(!root.upper().join("etc/hosts").exists());
}

fn a_program_that_was_replaced_still_works(place: &Place) {
    let folder = place.scratch();
    let copy = folder.path().join("own");
    fs_err::copy("/proc/self/exe", &copy).expect("copied");
    let output = std::process::Command::new(&copy).arg("--deleted").arg(place.lower()).output().expect("run");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "from a deleted program\n", "{output:?}");
}

/// Deletes its own file, as an upgrade does, and starts a sandbox.
pub fn deleted(lower: &Path) -> ExitCode {
    fs_err::remove_file(std::env::current_exe().expect("own file")).expect("removed");
    pannier_sandbox::enter(&EnterOptions::default()).expect("namespaces");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let skeleton = folder.path().join("skeleton");
    let root = folder.path().join("root");
    pannier_sandbox::make_skeleton(&skeleton).expect("made");
    fs_err::create_dir(&root).expect("made");
    let lowers = vec![lower.to_owned(), skeleton];
    let overlay = Overlay { lowers, ..Overlay::default() };
    let _mount = overlay.mount(&root).expect("an overlay");
    let mut spec = Spec::new(&root, "/bin/echo");
    spec.arg("from a deleted program");
    spec.stdout = Stdio::Inherit;
    let mut child = spec.spawn().expect("a sandbox");
    assert!(child.wait().expect("waited").success());
    ExitCode::SUCCESS
}

fn many_threads_start_many(place: &Place) {
    let root = place.root();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let root = &root;
            scope.spawn(move || {
                for number in 0..5 {
                    let text = format!("{thread}-{number}");
                    assert_eq!(run(root.sh(&format!("echo {text}"))).ok(), text);
                }
            });
        }
    });
}

/// Prints, and only fails when a start takes so long that something is broken: a timed test would fail on busy
/// machines.
fn starts_are_timed(place: &Place) {
    const STARTS: u32 = 200;
    let root = place.root();
    let mut times: Vec<Duration> = (0..STARTS)
        .map(|_| {
            let mut spec = root.program("/bin/true");
            spec.mount(GuestMount::bind_read_only(place.lower(), "/mnt"));
            let start = Instant::now();
            let mut child = spec.spawn().expect("a sandbox");
            assert!(child.wait().expect("waited").success());
            start.elapsed()
        })
        .collect();
    times.sort();
    let total: Duration = times.iter().sum();
    println!(
        "  {STARTS} starts to exit: median {:.2?}, mean {:.2?}, fastest {:.2?}, slowest {:.2?}",
        times[times.len() / 2],
        total / STARTS,
        times[0],
        times[times.len() - 1]
    );
    assert!(times[times.len() / 2] < Duration::from_millis(500));
}
