//! What cannot be started, and how that is said.

use std::os::unix::fs::PermissionsExt;

use pannier_sandbox::{ExitStatus, Failure, GuestMount, SpawnError, Spec};

use crate::Case;
use crate::place::{Place, children, run};

pub const CASES: &[Case] = &[
    ("programs_that_cannot_run_are_explained", programs_that_cannot_run_are_explained),
    ("places_that_are_missing_are_named", places_that_are_missing_are_named),
    ("ids_that_do_not_exist_are_refused", ids_that_do_not_exist_are_refused),
    ("nonsense_is_refused_before_anything_starts", nonsense_is_refused_before_anything_starts),
    ("failed_starts_leave_nothing", failed_starts_leave_nothing),
];

fn failure(spec: Spec) -> Failure {
    match spec.spawn() {
        Err(SpawnError::Failure(failure)) => failure,
        other => panic!("expected a failure from inside, got {other:?}"),
    }
}

fn programs_that_cannot_run_are_explained(place: &Place) {
    let root = place.root();
    let write = |name: &str, content: &[u8], mode: u32| {
        let path = root.path().join(name);
        fs_err::write(&path, content).expect("written");
        fs_err::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("chmod");
    };
    write("script", b"#!/opt/python -u\n", 0o755);
    write("text", b"echo no first line\n", 0o755);
    write("closed", b"#!/bin/sh\n", 0o644);
    let mut foreign = fs_err::read(root.path().join("bin/busybox")).expect("busybox");
    (foreign[18], foreign[19]) = (243, 0);
    write("foreign", &foreign, 0o755);

    assert!(matches!(failure(root.program("nothing")), Failure::NotFound(name) if name == "nothing"));
    assert!(matches!(failure(root.program("/no/thing")), Failure::NotFound(name) if name == "/no/thing"));
    assert!(matches!(failure(root.program("/closed")), Failure::NotExecutable(name) if name == "/closed"));
    assert!(matches!(failure(root.program("/bin")), Failure::NotExecutable(name) if name == "/bin"));
    let missing = failure(root.program("/script"));
    assert_eq!(missing.to_string(), "program `/script` needs `/opt/python`, which is not in the sandbox");
    assert!(missing.hint().is_some());
    assert!(matches!(failure(root.program("/text")), Failure::ExecFormat(_)));
    assert!(
        matches!(failure(root.program("/foreign")), Failure::WrongArchitecture { found, .. } if found == "riscv64")
    );
    // A dynamic program where there are no libraries.
    let mut spec = root.program("/own");
    spec.mount(GuestMount::bind_read_only(std::env::current_exe().expect("own file"), "/own"));
    assert!(matches!(failure(spec), Failure::MissingInterpreter { .. }));
}

fn places_that_are_missing_are_named(place: &Place) {
    let root = place.root();
    let mut spec = root.program("true");
    spec.cwd = "/no/where".into();
    assert!(matches!(failure(spec), Failure::WorkingDirectory { path, .. } if path == "/no/where"));
    let mut spec = root.program("true");
    spec.mount(GuestMount::bind("/no/source", "/mnt"));
    let failure_of_mount = failure(spec);
    assert!(failure_of_mount.to_string().contains("/mnt"), "{failure_of_mount}");
    let spec = Spec::new("/no/root", "true");
    assert!(failure(spec).to_string().contains("/no/root"));
}

fn ids_that_do_not_exist_are_refused(place: &Place) {
    let root = place.root();
    let mut spec = root.program("true");
    spec.uid = 3_000_000;
    match place.entered.ids {
        pannier_sandbox::Ids::Ranges => {
            assert!(failure(spec).to_string().contains("become user 3000000"));
        }
        // Everything exists for root, and one id can have any number.
        _ => assert_eq!(run(spec).status, ExitStatus::Code(0)),
    }
}

fn nonsense_is_refused_before_anything_starts(place: &Place) {
    let root = place.root();
    let refused = |change: &dyn Fn(&mut Spec)| {
        let mut spec = root.program("true");
        change(&mut spec);
        assert!(matches!(spec.spawn(), Err(SpawnError::Invalid { .. })));
    };
    refused(&|spec| spec.uid = u32::MAX);
    refused(&|spec| spec.groups = vec![u32::MAX]);
    refused(&|spec| spec.cwd = "relative".into());
    refused(&|spec| {
        spec.mount(GuestMount::bind("/bin", "relative"));
    });
    refused(&|spec| {
        spec.arg("zero\0byte");
    });
    refused(&|spec| {
        spec.env("A=B", "c");
    });
    refused(&|spec| spec.program = "".into());
}

fn failed_starts_leave_nothing(place: &Place) {
    let root = place.root();
    let mounts = || fs_err::read_to_string("/proc/self/mountinfo").expect("mounts").lines().count();
    let before = mounts();
    for _ in 0..10 {
        failure(root.program("nothing"));
    }
    assert_eq!(mounts(), before);
    assert_eq!(children(), Vec::<i32>::new());
    assert!(fs_err::read_dir(root.upper()).expect("the upper").next().is_none(), "nothing was made in it");
}
