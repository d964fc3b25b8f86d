//! What a program cannot change of files that are the machine's or the caller's: their modes, owners and times.

use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use pannier_sandbox::{ExitStatus, Ids, Stdio};
use rustix::fs::OFlags;

use crate::Case;
use crate::place::{Place, Ran, run};

pub const CASES: &[Case] = &[
    ("nodes_of_the_machine_stay_as_they_are", nodes_of_the_machine_stay_as_they_are),
    ("devices_can_be_used", devices_can_be_used),
    ("files_of_proc_stay_as_they_are", files_of_proc_stay_as_they_are),
    ("files_of_the_caller_as_streams_are_written_and_no_more", files_as_streams),
    ("two_streams_to_one_file_keep_their_order", two_streams_to_one_file_keep_their_order),
    ("a_terminal_of_the_callers_is_one_and_no_more", a_terminal_of_the_callers_is_one_and_no_more),
];

const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];

/// Mode, owner, and when both and the content changed.
type About = (u32, u32, u32, i64, i64, i64, i64);

fn about(path: impl AsRef<Path>) -> About {
    let meta = fs_err::metadata(path.as_ref()).expect("there");
    let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
    (meta.mode(), meta.uid(), meta.gid(), times.0, times.1, times.2, times.3)
}

/// A script that tries to change all that can be changed without writing.
fn spoil(path: &str) -> String {
    format!(
        "chmod 600 {path}; chmod 604 {path}; chown 1000:1000 {path}; touch -d 2001-01-01 {path}; touch {path};\n"
    )
}

fn nodes_of_the_machine_stay_as_they_are(place: &Place) {
    let nodes = DEVICES.map(|name| format!("/dev/{name}"));
    let look = || -> Vec<_> {
        let about = |path: &String| match (path.as_str(), about(path)) {
            // Whoever writes to a terminal by this name changes its times.
            ("/dev/tty", about) => (about.0, about.1, about.2, 0, 0, 0, 0),
            (_, about) => about,
        };
        nodes.iter().map(about).collect()
    };
    let before = look();
    let root = place.root();
    for uid in [0, 1000] {
        let covered = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/kallsyms"].map(str::to_owned);
        let streams = ["/dev/stdin", "/dev/stdout", "/dev/stderr", "/proc/self/fd/0"].map(str::to_owned);
        let script: String = nodes.iter().chain(&covered).chain(&streams).map(|path| spoil(path)).collect();
        for own_streams in [true, false] {
            let mut spec = root.sh(&script);
            spec.uid = uid;
            if own_streams {
                (spec.stdin, spec.stdout, spec.stderr) = (Stdio::Null, Stdio::Null, Stdio::Null);
            } else {
                let null = || {
                    let file = fs_err::OpenOptions::new().read(true).write(true).open("/dev/null");
                    Stdio::Fd(file.expect("opened").into_parts().0.into())
                };
                (spec.stdin, spec.stdout, spec.stderr) = (null(), null(), null());
            }
            run(spec);
            assert_eq!(look(), before, "as {uid}");
        }
    }
}

fn devices_can_be_used(place: &Place) {
    let root = place.root();
    for uid in [0, 1000] {
        let mut spec = root.sh("cat /dev/null; echo x > /dev/null; echo x >> /dev/null; head -c 2 /dev/zero | wc -c; \
             head -c 3 /dev/random | wc -c; head -c 4 /dev/urandom | wc -c; echo x > /dev/full || echo full; \
             cat < /dev/stdin; echo x > /proc/self/fd/2; stat -c '%a %t:%T' /dev/null; (echo x > /dev/tty) || echo none");
        spec.uid = uid;
        assert_eq!(run(spec).ok(), "2\n3\n4\nfull\n666 1:3\nnone", "as {uid}");
    }
    // What is root's own there, it may change.
    if place.entered.ids == Ids::Host {
        assert_eq!(place.sh("chmod 600 /dev/full && stat -c %a /dev/full").ok(), "600");
    }
}

fn files_of_proc_stay_as_they_are(place: &Place) {
    // A file system of processes of our own shows what was noted for all of them, not what this one still remembers.
    let about = |name: &str| {
        let script = format!(
            "mount -t proc proc {0} && stat -c '%a %u %g' {0}/{name}",
            place.skeleton().join("proc").display()
        );
        let output = std::process::Command::new("unshare").args(["-pfm", "sh", "-c", &script]).output();
        let output = output.expect("run");
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let names = ["loadavg", "uptime", "tty/drivers", "sys/kernel/ostype"];
    let before = names.map(about);
    let script: String = names.iter().map(|name| spoil(&format!("/proc/{name}"))).collect();
    run(place.root().sh(&script));
    assert_eq!(names.map(about), before);
    // Processes are what they were: a program's own files can be written.
    assert_eq!(place.sh("echo 500 > /proc/self/oom_score_adj && cat /proc/self/oom_score_adj").ok(), "500");
    assert_eq!(place.sh("grep -c MemTotal /proc/meminfo; head -c 3 /proc/cpuinfo").ok(), "1\npro");
}

fn files_as_streams(place: &Place) {
    let folder = place.scratch();
    let path = |name: &str| folder.path().join(name);
    let root = place.root();
    for uid in [0, 1000] {
        fs_err::write(path("in"), "read ").expect("written");
        fs_err::write(path("out"), "before, which is long\n").expect("written");
        for name in ["in", "out"] {
            fs_err::set_permissions(path(name), PermissionsExt::from_mode(0o640)).expect("chmod");
        }
        let input = fs_err::File::open(path("in")).expect("opened");
        let mut output = fs_err::OpenOptions::new().write(true).open(path("out")).expect("opened");
        output.seek(std::io::SeekFrom::End(0)).expect("sought");
        let untouched = about(path("in"));
        let spoilt =
            spoil("/dev/stdin") + &spoil("/dev/stdout") + "truncate -s 1 /dev/stdout; : > /proc/self/fd/1;";
        let mut spec = root.sh(&format!("({spoilt}) 2>/dev/null; cat; echo written"));
        spec.uid = uid;
        (spec.stdin, spec.stdout) =
            (Stdio::Fd(input.into_parts().0.into()), Stdio::Fd(output.into_parts().0.into()));
        assert_eq!(run(spec).status, ExitStatus::Code(0));
        assert_eq!(about(path("in")), untouched, "as {uid}");
        let text = fs_err::read_to_string(path("out")).expect("read");
        assert_eq!(text, "before, which is long\nread written\n", "as {uid}");
        let (mode, owner, group, ..) = about(path("out"));
        assert_eq!((mode & 0o7777, owner, group), (0o640, untouched.1, untouched.2), "as {uid}");
    }
}

fn two_streams_to_one_file_keep_their_order(place: &Place) {
    let mut file = tempfile::tempfile().expect("a file");
    let root = place.root();
    let mut spec = root.sh("for n in $(seq 50); do echo out $n; echo err $n >&2; done");
    let stream = || Stdio::Fd(file.try_clone().expect("cloned").into());
    (spec.stdout, spec.stderr) = (stream(), stream());
    assert_eq!(run(spec).status, ExitStatus::Code(0));
    file.rewind().expect("sought");
    let mut text = String::new();
    file.read_to_string(&mut text).expect("read");
    let expected: String = (1..=50).map(|number| format!("out {number}\nerr {number}\n")).collect();
    assert_eq!(text, expected);
}

fn a_terminal_of_the_callers_is_one_and_no_more(place: &Place) {
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags).expect("a terminal");
    grantpt(&ours).expect("granted");
    unlockpt(&ours).expect("unlocked");
    let path = ptsname(&ours, Vec::new()).expect("a name").into_string().expect("a path");
    let theirs: OwnedFd = ioctl_tiocgptpeer(&ours, flags).expect("its other side");
    let before = about(&path);
    let root = place.root();
    let script =
        "test -t 1 && echo terminal >&2; echo hello; chmod 666 /dev/stdout; chown 7 /dev/stdout; true";
    let mut spec = root.sh(script);
    spec.stdout = Stdio::Fd(theirs.try_clone().expect("cloned"));
    let ran: Ran = run(spec);
    assert!(ran.stderr.starts_with("terminal\n"), "{ran:?}");
    let mut said = [0; 16];
    rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK).expect("set");
    let length = rustix::io::read(&ours, &mut said).expect("read");
    assert_eq!(&said[..length], b"hello\r\n");
    let after = about(&path);
    assert_eq!((after.0, after.1, after.2), (before.0, before.1, before.2));
}
