//! What a program cannot do: see out, reach out, or get more rights than it was given.

use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;

use pannier_sandbox::{ExitStatus, Ids, Network};

use crate::Case;
use crate::place::{Place, run};

pub const CASES: &[Case] = &[
    ("other_processes_are_not_seen_or_signalled", other_processes_are_not_seen_or_signalled),
    ("files_of_the_caller_are_not_there", files_of_the_caller_are_not_there),
    ("open_files_of_the_caller_are_closed", open_files_of_the_caller_are_closed),
    ("init_cannot_be_looked_into", init_cannot_be_looked_into),
    ("nothing_can_be_mounted", nothing_can_be_mounted),
    ("setuid_programs_give_nothing", setuid_programs_give_nothing),
    ("capabilities_are_a_containers", capabilities_are_a_containers),
    ("others_packets_and_low_ports_are_out_of_reach", others_packets_and_low_ports_are_out_of_reach),
    ("abstract_sockets_of_the_machine_are_closed", abstract_sockets_of_the_machine_are_closed),
    ("dangerous_calls_are_denied", dangerous_calls_are_denied),
    ("programs_for_other_processors_are_ended", programs_for_other_processors_are_ended),
    ("kernel_switches_are_out_of_reach", kernel_switches_are_out_of_reach),
    ("device_nodes_do_nothing", device_nodes_do_nothing),
    ("our_own_program_cannot_be_written", our_own_program_cannot_be_written),
];

fn other_processes_are_not_seen_or_signalled(place: &Place) {
    let mut outside = std::process::Command::new("sleep").arg("60").spawn().expect("a process");
    let pid = outside.id();
    let root = place.root();
    for uid in [0, 1000] {
        let mut spec = root.sh(&format!(
            "ls /proc | grep -c '^[0-9]'; test -e /proc/{pid} && echo seen; kill -9 {pid}; kill -9 -1"
        ));
        spec.uid = uid;
        let ran = run(spec);
        // Init, the shell, ls and grep.
        assert!(ran.stdout.trim().parse::<u32>().is_ok_and(|count| count <= 4), "{ran:?}");
    }
    assert_eq!(outside.try_wait().expect("looked"), None, "it lives");
    outside.kill().expect("killed");
    outside.wait().expect("waited");
}

fn files_of_the_caller_are_not_there(place: &Place) {
    let outside = place.scratch();
    let secret = outside.path().join("secret");
    fs_err::write(&secret, "secret").expect("written");
    let root = place.root();
    let path = secret.display();
    for prefix in ["", "/proc/1/root", "/proc/self/root", "/proc/1/cwd/../../../../..", "/../../../.."] {
        let ran = run(root.sh(&format!("cat {prefix}{path}")));
        assert!(!ran.stdout.contains("secret") && !ran.status.success(), "{prefix}: {ran:?}");
    }
    // The classic way out of a chroot.
    let ran = run(root.sh(&format!("mkdir /tmp/x; chroot /tmp/x true; cat ../../../../../..{path}")));
    assert!(!ran.stdout.contains("secret"), "{ran:?}");
    let ran = run(root.inside(&["escape-chroot", &path.to_string()]));
    assert_eq!(ran.ok(), "not found");
}

fn open_files_of_the_caller_are_closed(place: &Place) {
    let outside = place.scratch();
    let file = fs_err::File::create(outside.path().join("open")).expect("a file");
    // Without close-on-exec, as a careless library leaves them, on a number that is easily guessed.
    let copy = rustix::io::fcntl_dupfd_cloexec(&file, 40).expect("copied");
    rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty()).expect("marked");
    let root = place.root();
    let ran = run(root.sh("ls /proc/self/fd"));
    assert_eq!(ran.ok(), "0\n1\n2\n3", "its streams, and the directory it reads ({})", copy.as_raw_fd());
}

fn init_cannot_be_looked_into(place: &Place) {
    let root = place.root();
    for uid in [0, 1000] {
        let mut spec = root.sh("for name in environ exe mem maps root cwd fd/3 ns/mnt; do \
             head -c1 /proc/1/$name >/dev/null 2>&1 && echo $name; readlink /proc/1/$name; done");
        spec.uid = uid;
        let ran = run(spec);
        assert_eq!(ran.stdout, "", "as {uid}: {ran:?}");
        let mut spec = root.inside(&["ptrace-init"]);
        spec.uid = uid;
        assert_eq!(run(spec).ok(), "1", "as {uid}: EPERM");
    }
}

fn nothing_can_be_mounted(place: &Place) {
    let root = place.root();
    for uid in [0, 1000] {
        for attempt in [
            "mount -t tmpfs none /tmp",
            "mount -t proc none /tmp",
            "mount -o bind / /tmp",
            "mount -o remount,rw /proc/sys",
            "umount /proc/sys",
            "umount /tmp",
            "unshare -m true",
            "unshare -U true",
            "unshare -Ur mount -t tmpfs none /tmp",
        ] {
            let mut spec = root.sh(attempt);
            spec.uid = uid;
            let ran = run(spec);
            assert!(!ran.status.success(), "{attempt} as {uid}: {ran:?}");
        }
    }
}

fn setuid_programs_give_nothing(place: &Place) {
    let root = place.root();
    let setuid = root.path().join("setuid");
    fs_err::copy(root.path().join("bin/busybox"), &setuid).expect("copied");
    fs_err::set_permissions(&setuid, PermissionsExt::from_mode(0o6755)).expect("chmod");
    let mut spec = root.program("/setuid");
    spec.arg0 = Some("sh".into());
    spec.arg("-c").arg("id -u; grep -E 'NoNewPrivs|CapEff' /proc/self/status");
    (spec.uid, spec.gid) = (1000, 1000);
    assert_eq!(run(spec).ok(), "1000\nCapEff:\t0000000000000000\nNoNewPrivs:\t1");
}

fn capabilities_are_a_containers(place: &Place) {
    let root = place.root();
    let script = "grep -E '^(Cap(Inh|Prm|Eff|Bnd|Amb)|Seccomp):' /proc/self/status";
    let none = "0000000000000000";
    let text = |sets: [&str; 5]| {
        let names = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
        let lines: Vec<_> = names.iter().zip(sets).map(|(name, set)| format!("{name}:\t{set}\n")).collect();
        lines.concat() + "Seccomp:\t2"
    };
    // On the machine's network neither CAP_NET_BIND_SERVICE nor CAP_NET_RAW.
    for (network, container) in [(Network::Host, "00000000a80401fb"), (Network::None, "00000000a80425fb")] {
        let with = |uid: u32| {
            let mut spec = root.sh(script);
            (spec.uid, spec.gid, spec.network) = (uid, uid, network);
            run(spec)
        };
        assert_eq!(with(0).ok(), text([none, container, container, container, none]));
        assert_eq!(with(1000).ok(), text([none, none, none, container, none]));
    }
}

fn others_packets_and_low_ports_are_out_of_reach(place: &Place) {
    let root = place.root();
    let ran = |uid: u32, network: Network| {
        let mut spec = root.inside(&["sockets"]);
        (spec.uid, spec.network) = (uid, network);
        run(spec)
    };
    for uid in [0, 1000] {
        assert_eq!(ran(uid, Network::Host).ok(), "", "as {uid}");
    }
    // On a network of its own, root may do what root does there.
    assert_eq!(ran(0, Network::None).ok(), "raw\nraw IPv6\npacket\npacket datagram\nport 80");
    assert_eq!(ran(1000, Network::None).ok(), "");
}

fn abstract_sockets_of_the_machine_are_closed(place: &Place) {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("pannier-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
    let _service = std::os::unix::net::UnixListener::bind_addr(&address).expect("bound");
    // SAFETY: asks for the version; there is no structure to read.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, 1) };
    let root = place.root();
    for (uid, network) in
        [(0, Network::Host), (1000, Network::Host), (0, Network::None), (1000, Network::None)]
    {
        let mut spec = root.inside(&["abstract-sockets", &name]);
        (spec.uid, spec.network) = (uid, network);
        let outside = match network {
            Network::Host if version < 6 => "reached",
            Network::Host => "error 1",
            // There is none of this name.
            Network::None => "error 111",
        };
        assert_eq!(run(spec).ok(), format!("{outside}\nown reached"), "as {uid}, {network:?}, {version}");
    }
}

fn dangerous_calls_are_denied(place: &Place) {
    let root = place.root();
    for uid in [0, 1000] {
        let mut spec = root.inside(&["calls"]);
        spec.uid = uid;
        let ran = run(spec);
        assert_eq!(ran.ok(), "", "as {uid}, calls that were not denied");
    }
}

/// A 32-bit program could make calls by numbers that the filter does not know.
fn programs_for_other_processors_are_ended(place: &Place) {
    if std::env::consts::ARCH != "x86_64" {
        return;
    }
    // An ELF file for the 80386 of one segment, at 0x8048000, whose program begins after both headers: exit(0).
    let mut program = b"\x7fELF\x01\x01\x01".to_vec();
    program.resize(16, 0);
    program.extend([2, 0, 3, 0]);
    for number in [1u32, 0x0804_8054, 52, 0, 0] {
        program.extend(number.to_le_bytes());
    }
    program.extend([52, 0, 32, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    for number in [1u32, 0, 0x0804_8000, 0x0804_8000, 0x60, 0x60, 5, 0x1000] {
        program.extend(number.to_le_bytes());
    }
    program.extend([0x31, 0xdb, 0xb8, 1, 0, 0, 0, 0xcd, 0x80]);
    program.resize(0x60, 0x90);
    let root = place.root();
    let path = root.path().join("bin/program");
    fs_err::write(&path, program).expect("written");
    fs_err::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("chmod");
    let outside = std::process::Command::new(&path).status();
    if !outside.is_ok_and(|status| status.success()) {
        println!("  no 32-bit programs run on this machine");
        return;
    }
    let ran = run(root.program("/bin/program"));
    assert_eq!(ran.status, ExitStatus::Signal(31));
    assert!(ran.status.to_string().contains("32-bit"), "{}", ran.status);
    assert_eq!(run(root.sh("/bin/program; exit $?")).status, ExitStatus::Code(159));
}

fn kernel_switches_are_out_of_reach(place: &Place) {
    let root = place.root();
    for path in [
        "/proc/sys/kernel/hostname",
        "/proc/sys/vm/drop_caches",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/anything",
    ] {
        let ran = run(root.sh(&format!("echo 1 > {path}")));
        assert!(!ran.status.success(), "{path}: {ran:?}");
    }
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/kallsyms"] {
        let ran = run(root.sh(&format!("head -c 100 {path} | wc -c")));
        assert_eq!(ran.stdout.trim(), "0", "{path}");
    }
    assert_eq!(run(root.sh("ls -A /proc/acpi /proc/scsi 2>/dev/null | grep -v :")).stdout.trim(), "");
}

fn device_nodes_do_nothing(place: &Place) {
    let root = place.root();
    // Memory, as a device everybody has: 1:1 is /dev/mem, 1:3 /dev/null.
    let ran = run(root.sh("mknod /dev/own c 1 3 && echo x > /dev/own && echo written; mknod /own c 1 3 && cat /own && echo read"));
    assert_eq!(ran.stdout.trim(), "", "{ran:?}");
    if place.entered.ids == Ids::Host {
        // It is made, as in any container; the mount it lies on gives it no meaning.
        assert_eq!(run(root.sh("mknod /made c 1 3")).status, ExitStatus::Code(0));
        assert!(!run(root.sh("cat /made")).status.success());
    }
}

fn our_own_program_cannot_be_written(place: &Place) {
    let root = place.root();
    // Started through /proc/self/exe, the program is our own file; its descriptor survives into a shell.
    let mut spec = root.inside(&["hold-own-file"]);
    spec.program = "/proc/self/exe".into();
    let ran = run(spec);
    assert!(ran.stderr.contains("Read-only file system"), "{ran:?}");
}
