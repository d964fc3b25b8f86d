//! The last steps before the program: its ids, its rights, its signals, and `execve`.

use fs_err::os::unix::fs::OpenOptionsExt as _;
use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::ptr;

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, UnshareFlags};

use super::{LISTENER, close_range, exit, report, send, set_streams, variable};
use crate::spec::Network;
use crate::status::Failure;
use crate::wire::Job;
use crate::{caps, landlock, renames, seccomp};

/// Where programs are looked up when the environment has no `PATH`, as in a default container.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Becomes the program, or says why not.
pub(super) fn run(job: &Job, terminal: Option<OwnedFd>, ready: &OwnedFd, control: &OwnedFd) -> ! {
    let failure = match prepare(job, terminal, control) {
        Ok(()) => execute(job),
        Err(failure) => failure,
    };
    report(ready, &failure);
    exit(127)
}

fn prepare(job: &Job, terminal: Option<OwnedFd>, control: &OwnedFd) -> Result<(), Failure> {
    let step = |step: &'static str| move |error: io::Error| Failure::step(step, "", error);
    // A new session: no job control of ours reaches it, and it cannot put characters into our terminal.
    rustix::process::setsid().map_err(|error| step("start a session")(error.into()))?;
    use_own_null(job.null_streams).map_err(|error| Failure::step("open", "/dev/null", error))?;
    if let Some(terminal) = terminal {
        rustix::process::ioctl_tiocsctty(&terminal)
            .map_err(|error| step("take the terminal")(error.into()))?;
        set_streams(terminal.as_fd());
    }
    // Everything that needs memory or a file of ours is done before rights are given up.
    let filter = seccomp::compile(job.network).map_err(step("compile the system call filter"))?;
    change_ids(job)?;
    rustix::thread::set_no_new_privs(true).map_err(|error| step("set no_new_privs")(error.into()))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::chdir(&job.cwd)
        .map_err(|error| Failure::WorkingDirectory { path: job.cwd.clone().into(), source: error.into() })?;
    close_range(3, libc::CLOSE_RANGE_CLOEXEC).map_err(step("mark files"))?;
    if job.watch_renames {
        // Without a listener, where there cannot be one, the program runs just so.
        let listener = renames::listen().ok();
        send(control, LISTENER[usize::from(listener.is_some())], listener.as_ref())
            .map_err(step("hand over its renames"))?;
    }
    if job.network == Network::Host {
        // A kernel that cannot leaves them open.
        let _ = landlock::close_abstract_sockets();
    }
    reset_signals();
    seccomp::load(&filter).map_err(step("load the system call filter"))
}

/// Makes these streams the sandbox's `/dev/null`. Through an open file of the host's, a program could change the mode
/// and the times of what is everybody's.
fn use_own_null(streams: [bool; 3]) -> io::Result<()> {
    if streams.contains(&true) {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let put = [rustix::stdio::dup2_stdin, rustix::stdio::dup2_stdout, rustix::stdio::dup2_stderr];
        for (put, _) in put.into_iter().zip(streams).filter(|(_, null)| *null) {
            put(&null)?;
        }
    }
    Ok(())
}

fn change_ids(job: &Job) -> Result<(), Failure> {
    let step = |step: &'static str| move |error: io::Error| Failure::step(step, "", error);
    let (uid, gid) = (job.uid, job.gid);
    let of_root = caps::of_root(job.network);
    if job.single_id {
        if uid != 0 || gid != 0 {
            // The one id there is gets another number in a namespace below. Groups cannot be set here at all.
            crate::enter::unshare(UnshareFlags::NEWUSER).map_err(step("create a user namespace"))?;
            crate::enter::map_self((uid, 0), (gid, 0))
                .map_err(|error| Failure::step(&format!("map user {uid} and group {gid}"), "", error))?;
        }
        caps::limit_bounding(of_root).map_err(step("limit capabilities"))?;
    } else {
        caps::limit_bounding(of_root).map_err(step("limit capabilities"))?;
        let groups: Vec<_> = job.groups.iter().copied().map(Gid::from_raw).collect();
        rustix::thread::set_thread_groups(&groups)
            .map_err(|error| Failure::step(&format!("set the groups {:?}", job.groups), "", error))?;
        let gids = Gid::from_raw(gid);
        rustix::thread::set_thread_res_gid(gids, gids, gids)
            .map_err(|error| Failure::step(&format!("become group {gid}"), "", error))?;
        let uids = Uid::from_raw(uid);
        rustix::thread::set_thread_res_uid(uids, uids, uids)
            .map_err(|error| Failure::step(&format!("become user {uid}"), "", error))?;
    }
    let keep = if uid == 0 { of_root } else { CapabilitySet::empty() };
    caps::limit(keep).map_err(step("limit capabilities"))
}

/// The defaults a program expects: nothing blocked, and not even SIGPIPE ignored, as Rust's runtime has it.
fn reset_signals() {
    // SAFETY: the set is initialised by sigemptyset; SIG_DFL is no handler of ours.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// Executes the first candidate that can be; returns only when none can.
fn execute(job: &Job) -> Failure {
    let mut failure = Failure::NotFound(job.program.clone());
    for candidate in candidates(&job.program, variable(&job.env, "PATH")) {
        let Ok(stat) = rustix::fs::stat(&candidate) else {
            continue;
        };
        let file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !file || rustix::fs::accessat(CWD, &candidate, Access::EXEC_OK, AtFlags::EACCESS).is_err() {
            failure = Failure::NotExecutable(job.program.clone());
            continue;
        }
        let error = exec(&candidate, &job.args, &job.env);
        return diagnose(&candidate, error);
    }
    failure
}

fn candidates(program: &OsStr, path: Option<&OsStr>) -> Vec<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return vec![PathBuf::from(program)];
    }
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    // An empty element is the working directory.
    let here =
        |dir: &[u8]| if dir.is_empty() { PathBuf::from(".") } else { PathBuf::from(OsStr::from_bytes(dir)) };
    path.as_bytes().split(|byte| *byte == b':').map(|dir| here(dir).join(program)).collect()
}

fn exec(path: &Path, args: &[OsString], env: &[OsString]) -> io::Error {
    let c_strings = |texts: &[OsString]| {
        texts.iter().map(|text| CString::new(text.as_bytes())).collect::<Result<Vec<_>, _>>()
    };
    let (Ok(path), Ok(args), Ok(env)) =
        (CString::new(path.as_os_str().as_bytes()), c_strings(args), c_strings(env))
    else {
        return io::Error::from_raw_os_error(libc::EINVAL);
    };
    let pointers = |texts: &[CString]| -> Vec<_> {
        texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
    };
    let (args, env) = (pointers(&args), pointers(&env));
    // SAFETY: path, arguments and environment are terminated strings in terminated arrays that outlive the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// What `execve`'s few error numbers mean, looking at the file.
fn diagnose(path: &Path, error: io::Error) -> Failure {
    let program = path.as_os_str().to_owned();
    let mut head = Vec::new();
    // Unreadable but executable programs exist; then the number has to do. What is no file is not waited for.
    let opened = fs_err::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let _ = opened.and_then(|file| match file.metadata()?.is_file() {
        true => file.take(4096).read_to_end(&mut head),
        false => Ok(0),
    });
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => match interpreter(&head) {
            Some(interpreter) => Failure::MissingInterpreter { program, interpreter },
            None => Failure::NotFound(program),
        },
        Some(libc::EACCES) => Failure::NotExecutable(program),
        Some(libc::ENOEXEC | libc::EINVAL | libc::ELIBBAD) => match machine(&head) {
            Some(found) if found != std::env::consts::ARCH => Failure::WrongArchitecture { program, found },
            _ => Failure::ExecFormat(program),
        },
        _ => Failure::step("run the program", program, error),
    }
}

/// The interpreter a script or a dynamic program names.
fn interpreter(head: &[u8]) -> Option<OsString> {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next()?.trim_ascii();
        let name = line.split(|byte| matches!(byte, b' ' | b'\t')).next()?;
        return Some(OsString::from_vec(name.strip_suffix(b"\r").unwrap_or(name).to_vec()));
    }
    elf_interpreter(head)
}

/// `PT_INTERP` of a little-endian 64-bit ELF file.
fn elf_interpreter(head: &[u8]) -> Option<OsString> {
    const PT_INTERP: u64 = 3;
    let number = |at: usize, size: usize| -> Option<u64> {
        let bytes = head.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = usize::try_from(number(32, 8)?).ok()?;
    let size = usize::try_from(number(54, 2)?).ok()?;
    let entry = (0..usize::try_from(number(56, 2)?).ok()?)
        .map(|index| index.saturating_mul(size).saturating_add(table))
        .find(|entry| number(*entry, 4) == Some(PT_INTERP))?;
    let at = usize::try_from(number(entry.checked_add(8)?, 8)?).ok()?;
    let length = usize::try_from(number(entry.checked_add(32)?, 8)?).ok()?;
    let name = head.get(at..at.checked_add(length)?)?;
    Some(OsString::from_vec(name.strip_suffix(b"\0").unwrap_or(name).to_vec()))
}

/// The processor an ELF file is for, by Rust's name for it.
fn machine(head: &[u8]) -> Option<String> {
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let bytes = [*head.get(18)?, *head.get(19)?];
    let number = if head.get(5) == Some(&2) { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) };
    Some(match number {
        3 => "x86".to_owned(),
        20 | 21 => "powerpc64".to_owned(),
        22 => "s390x".to_owned(),
        40 => "arm".to_owned(),
        62 => "x86_64".to_owned(),
        183 => "aarch64".to_owned(),
        243 => "riscv64".to_owned(),
        other => format!("ELF machine {other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_searched_in_its_order() {
        let list = |program: &str, path| candidates(OsStr::new(program), path);
        assert_eq!(list("./a", Some(OsStr::new("/bin"))), [PathBuf::from("./a")]);
        assert_eq!(
            list("a", Some(OsStr::new("/x::/y"))),
            [PathBuf::from("/x/a"), PathBuf::from("./a"), PathBuf::from("/y/a")]
        );
        assert_eq!(list("a", None).len(), 6);
    }

    #[test]
    fn interpreters_are_found() {
        let found = |head: &[u8]| interpreter(head).map(|name| name.to_string_lossy().into_owned());
        assert_eq!(found(b"#! /usr/bin/env bash\nx").as_deref(), Some("/usr/bin/env"));
        assert_eq!(found(b"#!/bin/sh\r\n").as_deref(), Some("/bin/sh"));
        assert_eq!(found(b"echo"), None);
        let shell = fs_err::read("/proc/self/exe").expect("this test's own file");
        if let Some(name) = found(&shell[..4096]) {
            assert!(Path::new(&name).exists(), "{name}");
        }
    }

    #[test]
    fn machines_are_named() {
        let own = fs_err::read("/proc/self/exe").expect("this test's own file");
        assert_eq!(machine(&own[..64]).as_deref(), Some(std::env::consts::ARCH));
        let mut arm = own[..64].to_vec();
        (arm[18], arm[19]) = (183, 0);
        assert_eq!(machine(&arm).as_deref(), Some("aarch64"));
        assert_eq!(machine(b"#!/bin/sh"), None);
    }
}
