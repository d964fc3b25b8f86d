//! What this test's own file does when it runs inside a sandbox: things no shell can try.

use std::ffi::CString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::fs::{Mode, OFlags};

pub fn run(what: &str, arguments: &[&str]) -> ExitCode {
    match what {
        "calls" => calls(),
        "sockets" => sockets(),
        "abstract-sockets" => abstract_sockets(arguments[0]),
        "ptrace-init" => ptrace_init(),
        "escape-chroot" => escape_chroot(arguments[0]),
        "rename" => return rename(arguments[0], arguments[1]),
        "rename-much" => rename_much(arguments[0]),
        "hold-own-file" => hold_own_file(),
        other => panic!("nothing called {other}"),
    }
    ExitCode::SUCCESS
}

/// Renames without a word.
fn rename(from: &str, to: &str) -> ExitCode {
    // In a thread, by a relative path: nothing may depend on the first thread or its working directory.
    let (parent, name) = from.rsplit_once('/').expect("a parent");
    let parent = if parent.is_empty() { "/" } else { parent };
    let (parent, name, to) = (parent.to_owned(), name.to_owned(), to.to_owned());
    let renamed = std::thread::spawn(move || {
        let folder = fs_err::File::open(parent).expect("opened");
        rustix::fs::renameat(&folder, name, rustix::fs::CWD, to)
    });
    match renamed.join().expect("joined") {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(u8::try_from(error.raw_os_error()).expect("a small number")),
    }
}

/// Renames a file to and fro ten thousand times, and prints how many nanoseconds one took.
fn rename_much(folder: &str) {
    let [one, other] = ["one", "other"].map(|name| std::path::Path::new(folder).join(name));
    fs_err::write(&one, "x").expect("written");
    let start = std::time::Instant::now();
    for _ in 0..5_000 {
        fs_err::rename(&one, &other).expect("renamed");
        fs_err::rename(&other, &one).expect("renamed");
    }
    println!("{}", start.elapsed().as_nanos() / 10_000);
}

/// Prints the calls that are not denied, with what they gave.
fn calls() {
    let expect = |name: &str, expected: i32, number: i64, arguments: [u64; 4]| {
        let [a, b, c, d] = arguments;
        // SAFETY: every call here is expected to be refused before it looks at its arguments, which are no pointers of
        // this program's but zero.
        let result = unsafe { libc::syscall(number, a, b, c, d) };
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        if result != -1 || errno != expected {
            println!("{name}: {result}, error {errno}");
        }
    };
    let eperm = libc::EPERM;
    expect("unshare user", eperm, libc::SYS_unshare, [libc::CLONE_NEWUSER as u64, 0, 0, 0]);
    expect("unshare mount", eperm, libc::SYS_unshare, [libc::CLONE_NEWNS as u64, 0, 0, 0]);
    expect("clone", eperm, libc::SYS_clone, [(libc::CLONE_NEWUSER | libc::SIGCHLD) as u64, 0, 0, 0]);
    expect("clone3", libc::ENOSYS, libc::SYS_clone3, [0, 0, 0, 0]);
    expect("setns", eperm, libc::SYS_setns, [0, 0, 0, 0]);
    expect("keyctl", eperm, libc::SYS_keyctl, [0, 0, 0, 0]);
    expect("add_key", eperm, libc::SYS_add_key, [0, 0, 0, 0]);
    expect("request_key", eperm, libc::SYS_request_key, [0, 0, 0, 0]);
    expect("bpf", eperm, libc::SYS_bpf, [0, 0, 0, 0]);
    expect("perf_event_open", eperm, libc::SYS_perf_event_open, [0, 0, 0, 0]);
    expect("userfaultfd", eperm, libc::SYS_userfaultfd, [0, 0, 0, 0]);
    expect("open_by_handle_at", eperm, libc::SYS_open_by_handle_at, [0, 0, 0, 0]);
    expect("io_uring_setup", eperm, libc::SYS_io_uring_setup, [1, 0, 0, 0]);
    expect("kexec_load", eperm, libc::SYS_kexec_load, [0, 0, 0, 0]);
    expect("init_module", eperm, libc::SYS_init_module, [0, 0, 0, 0]);
    expect("mount", eperm, libc::SYS_mount, [0, 0, 0, 0]);
    expect("fsopen", eperm, libc::SYS_fsopen, [0, 0, 0, 0]);
    expect("pivot_root", eperm, libc::SYS_pivot_root, [0, 0, 0, 0]);
    expect("swapon", eperm, libc::SYS_swapon, [0, 0, 0, 0]);
    expect("TIOCSTI", eperm, libc::SYS_ioctl, [0, libc::TIOCSTI, 0, 0]);
    // The upper half of a request is ignored by the kernel, and must not hide it from the filter.
    expect("TIOCSTI with high bits", eperm, libc::SYS_ioctl, [0, libc::TIOCSTI | 1 << 32, 0, 0]);
    expect("vsock", eperm, libc::SYS_socket, [libc::AF_VSOCK as u64, libc::SOCK_STREAM as u64, 0, 0]);
    for (name, family) in [("xdp", libc::AF_XDP), ("can", libc::AF_CAN), ("bluetooth", libc::AF_BLUETOOTH)] {
        expect(name, eperm, libc::SYS_socket, [family as u64, libc::SOCK_RAW as u64, 0, 0]);
        expect(name, eperm, libc::SYS_socketpair, [family as u64, libc::SOCK_STREAM as u64, 0, 0]);
    }
    // The kernel looks at the lower half alone.
    expect("vsock with high bits", eperm, libc::SYS_socket, [libc::AF_VSOCK as u64 | 1 << 32, 1, 0, 0]);
    expect("personality", eperm, libc::SYS_personality, [libc::ADDR_NO_RANDOMIZE as u64, 0, 0, 0]);
    #[cfg(target_arch = "x86_64")]
    expect("x32 mount", libc::ENOSYS, 0x4000_0000 | libc::SYS_mount, [0, 0, 0, 0]);
    // And what every program needs still works.
    assert!(Command::new("/bin/true").status().is_ok_and(|status| status.success()));
    assert!(std::thread::spawn(|| 1).join().is_ok());
}

/// Prints which sockets can be had that others' packets, or a service's port, come with. What every program needs has to
/// work.
fn sockets() {
    let socket = |family: i32, kind: i32, protocol: i32| {
        // SAFETY: takes three integers; the descriptor is left open.
        unsafe { libc::socket(family, kind, protocol) != -1 }
    };
    let all = i32::from((libc::ETH_P_ALL as u16).to_be());
    for (name, family, kind, protocol) in [
        ("raw", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_TCP),
        ("raw IPv6", libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_TCP),
        ("packet", libc::AF_PACKET, libc::SOCK_RAW, all),
        ("packet datagram", libc::AF_PACKET, libc::SOCK_DGRAM, all),
        ("XDP", libc::AF_XDP, libc::SOCK_RAW, 0),
    ] {
        if socket(family, kind, protocol) {
            println!("{name}");
        }
    }
    if std::net::TcpListener::bind("127.0.0.1:80").is_ok() {
        println!("port 80");
    }
    assert!(std::net::TcpListener::bind("127.0.0.1:0").is_ok());
    assert!(std::net::UdpSocket::bind("127.0.0.1:0").is_ok());
    assert!(socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE));
    assert!(std::os::unix::net::UnixStream::pair().is_ok());
}

/// Prints whether an abstract socket of this name is reached, and one of its own, from a process of its own.
fn abstract_sockets(name: &str) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    let connect = |name: &str| {
        let address = SocketAddr::from_abstract_name(name).expect("a name");
        match UnixStream::connect_addr(&address) {
            Ok(_) => "reached".to_owned(),
            Err(error) => format!("error {}", error.raw_os_error().unwrap_or_default()),
        }
    };
    if let Some(own) = name.strip_prefix("own:") {
        return println!("own {}", connect(own));
    }
    println!("{}", connect(name));
    let own = format!("own-{}", std::process::id());
    let _listener =
        UnixListener::bind_addr(&SocketAddr::from_abstract_name(&own).expect("a name")).expect("bound");
    let child =
        Command::new("/inside").args(["--inside", "abstract-sockets", &format!("own:{own}")]).status();
    assert!(child.is_ok_and(|status| status.success()));
}

fn ptrace_init() {
    // SAFETY: attaches to a process; no memory is touched.
    let result = unsafe { libc::ptrace(libc::PTRACE_ATTACH, 1, 0, 0) };
    println!("{}", if result == 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) });
}

/// The way out of a chroot for who may call it: keep a directory above open, and go up from there.
fn escape_chroot(path: &str) {
    fs_err::create_dir_all("/tmp/jail").expect("made");
    let above = rustix::fs::open("/", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("opened");
    rustix::process::chroot("/tmp/jail").expect("allowed to root of a container");
    rustix::process::fchdir(above).expect("changed");
    for _ in 0..100 {
        rustix::process::chdir("..").expect("changed");
    }
    let relative = CString::new(path.trim_start_matches('/')).expect("no zero");
    match rustix::fs::open(relative, OFlags::RDONLY, Mode::empty()) {
        Ok(_) => println!("escaped"),
        Err(_) => println!("not found"),
    }
}

/// Tries to empty our own file. Should nothing else stop it, the file being executed still does.
fn hold_own_file() {
    let own = rustix::fs::open("/proc/self/exe", OFlags::PATH, Mode::empty()).expect("opened");
    let number = std::os::fd::AsRawFd::as_raw_fd(&own);
    let error = Command::new("/bin/sh").arg("-c").arg(format!(": > /proc/self/fd/{number}")).exec();
    panic!("{error}");
}
