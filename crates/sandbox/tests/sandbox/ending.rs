//! How a sandbox ends: with its program, with its caller, by force; and that nothing outlives it.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use pannier_sandbox::{EnterOptions, ExitStatus, GuestMount, Spec};

use crate::Case;
use crate::place::{Place, children, eventually, finish, processes_with, run};

pub const CASES: &[Case] = &[
    ("daemons_end_with_the_program", daemons_end_with_the_program),
    ("orphans_are_reaped", orphans_are_reaped),
    ("killing_ends_everything", killing_ends_everything),
    ("dropping_ends_everything", dropping_ends_everything),
    ("the_starting_thread_may_end", the_starting_thread_may_end),
    ("a_killed_caller_leaves_nothing", a_killed_caller_leaves_nothing),
    ("a_killed_monitor_leaves_nothing", a_killed_monitor_leaves_nothing),
];

fn marker(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

fn daemons_end_with_the_program(place: &Place) {
    let marker = marker("daemon");
    let root = place.root();
    // It keeps the pipes open too: reading them ends nevertheless.
    let ran =
        run(root.sh(&format!("setsid sh -c 'while :; do sleep 1; done # {marker}' & sleep 0.1; echo out")));
    assert_eq!(ran.ok(), "out");
    assert_eq!(processes_with(&marker), 0);
}

fn orphans_are_reaped(place: &Place) {
    let ran = place.sh(
        "for i in $(seq 50); do (sleep 0.01 &) ; done; sleep 0.5; cat /proc/[0-9]*/status | grep -c 'Z (zombie)'",
    );
    assert_eq!(ran.stdout.trim(), "0", "{ran:?}");
}

fn killing_ends_everything(place: &Place) {
    let marker = marker("kill");
    let root = place.root();
    let script =
        format!("trap '' TERM INT HUP; (while :; do sleep 1; done) & while :; do sleep 1; done # {marker}");
    let child = root.sh(&script).spawn().expect("a sandbox");
    assert!(processes_with(&marker) > 0);
    child.kill();
    assert_eq!(finish(child).status, ExitStatus::Signal(9));
    assert_eq!(processes_with(&marker), 0);
}

fn dropping_ends_everything(place: &Place) {
    let marker = marker("drop");
    let root = place.root();
    drop(root.sh(&format!("while :; do sleep 1; done # {marker}")).spawn().expect("a sandbox"));
    assert_eq!(processes_with(&marker), 0);
}

fn the_starting_thread_may_end(place: &Place) {
    let root = place.root();
    let spec = root.sh("sleep 0.3; echo finished");
    let child = std::thread::scope(|scope| scope.spawn(|| spec.spawn()).join()).expect("joined");
    assert_eq!(finish(child.expect("a sandbox")).ok(), "finished");
}

fn a_killed_caller_leaves_nothing(place: &Place) {
    let folder = place.scratch();
    let own = std::env::current_exe().expect("this test's own file");
    let lower = folder.path().join("root");
    fs_err::create_dir(&lower).expect("made");
    let busybox = bind_busybox(place);
    let mut victim = Command::new(own)
        .arg("--victim")
        .arg(folder.path())
        .env("BUSYBOX", busybox)
        .stdin(Stdio::null())
        .spawn()
        .expect("a victim");
    assert!(eventually(|| folder.path().join("alive").exists()), "it runs");
    victim.kill().expect("killed");
    victim.wait().expect("waited");
    let marker = folder.path().display().to_string();
    assert!(eventually(|| processes_with(&marker) == 0), "its sandbox is gone");
}

fn bind_busybox(place: &Place) -> std::path::PathBuf {
    place.lower().join("bin/busybox")
}

/// Another process that starts a sandbox from a thread that ends, and then waits to be killed.
pub fn victim(folder: &Path) -> ExitCode {
    pannier_sandbox::enter(&EnterOptions::default()).expect("namespaces");
    let mut spec = Spec::new(folder.join("root"), "/busybox");
    spec.arg("sh").arg("-c").arg(format!(
        "/busybox touch /folder/alive; while :; do /busybox sleep 1; done # {}",
        folder.display()
    ));
    spec.mount(GuestMount::bind_read_only(std::env::var_os("BUSYBOX").expect("set by the case"), "/busybox"));
    spec.mount(GuestMount::bind(folder, "/folder"));
    let child = std::thread::spawn(|| spec.spawn()).join().expect("joined").expect("a sandbox");
    let mut child = child;
    let _ = child.wait();
    ExitCode::SUCCESS
}

fn a_killed_monitor_leaves_nothing(place: &Place) {
    let marker = marker("monitor");
    let root = place.root();
    let child = root.sh(&format!("while :; do sleep 1; done # {marker}")).spawn().expect("a sandbox");
    for monitor in children() {
        if let Some(pid) = rustix::process::Pid::from_raw(monitor) {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
        }
    }
    assert_eq!(finish(child).status, ExitStatus::Signal(9));
    assert!(eventually(|| processes_with(&marker) == 0));
}
