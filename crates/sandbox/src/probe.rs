//! What this machine allows, tried out in a process of its own: for `pannier doctor`.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{WaitOptions, waitpid};

use crate::child::launch::{memory_file, start_helper};
use crate::enter::{EnterOptions, Entered, Ids, enter};
use crate::helper;
use crate::mount::Overlay;
use crate::spec::{GuestMount, Network, Spec};
use crate::status::ExitStatus;
use crate::tree::remove_tree;
use crate::wire::{Reader, Writer};

/// First bytes of a probe's message to its helper.
const MAGIC: &[u8] = b"pannier-probe-1";
/// How often the trial sandbox is started; the fastest start is told.
const STARTS: usize = 5;

/// What was tried, in an order in which each needs those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// One for each thing that was tried.
    pub checks: Vec<Check>,
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What it is, as a noun.
    pub name: String,
    /// Whether sandboxes cannot run without it.
    pub required: bool,
    /// What was found, or what is wrong.
    pub result: Result<String, Problem>,
}

/// Why something does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub why: String,
    /// What to change, where that is known.
    pub fix: Option<String>,
}

impl Probe {
    /// Whether sandboxes run here.
    pub fn sandboxes_run(&self) -> bool {
        self.checks.iter().all(|check| !check.required || check.result.is_ok())
    }
}

/// Tries namespaces, id ranges, an overlay in `dir` (a directory that can be written, where the store is) and a whole
/// sandbox. Nothing is left in `dir`.
///
/// Best before [`enter`](crate::enter): afterwards the namespaces are those this process has got already.
///
/// # Errors
///
/// When the trial process cannot be started, or says nothing.
pub fn probe(dir: &Path) -> io::Result<Probe> {
    let mut job = Writer(MAGIC.to_vec());
    job.bytes(fs_err::read_link("/proc/self/exe")?.as_os_str());
    job.bytes(std::path::absolute(dir)?.as_os_str());
    let job = memory_file(&job.0)?;
    let null: OwnedFd =
        fs_err::OpenOptions::new().read(true).write(true).open("/dev/null")?.into_parts().0.into();
    let (mut answer, answer_theirs) = io::pipe()?;
    // Nothing of an image runs there, so our own file needs none of the protection that a sandbox gives it.
    let program = rustix::fs::open("/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let descriptors =
        [null.as_fd(), null.as_fd(), null.as_fd(), job.as_fd(), answer_theirs.as_fd(), null.as_fd()];
    let pid = start_helper(&program, &descriptors)?;
    drop(answer_theirs);
    let mut bytes = Vec::new();
    let read = answer.read_to_end(&mut bytes);
    while matches!(waitpid(Some(pid), WaitOptions::empty()), Err(rustix::io::Errno::INTR)) {}
    read?;
    decode(&bytes).ok_or_else(|| io::Error::other("the trial process said nothing"))
}

/// The helper's side: `None` when the job is no probe.
pub(crate) fn run_if_asked(job: &[u8], answer: &OwnedFd) -> Option<i32> {
    let mut job = Reader(job.strip_prefix(MAGIC)?);
    let (own, dir) = (PathBuf::from(job.bytes()?), PathBuf::from(job.bytes()?));
    let checks = try_all(&own, &dir);
    let mut answer = io::PipeWriter::from(answer.try_clone().ok()?);
    Some(i32::from(io::Write::write_all(&mut answer, &encode(&checks)).is_err()))
}

fn try_all(own: &Path, dir: &Path) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut tell = |name: &str, required: bool, result: Result<String, Problem>| {
        let good = result.is_ok();
        checks.push(Check { name: name.to_owned(), required, result });
        good
    };
    if !tell("kernel", true, kernel()) {
        return checks;
    }
    let entered = enter(&EnterOptions::default());
    let namespaces = entered.as_ref().map(describe).map_err(|error| {
        let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
        Problem { why: format!("{error}{source}"), fix: error.hint() }
    });
    tell("namespaces", true, namespaces);
    let Ok(entered) = entered else {
        return checks;
    };
    tell("user ids", false, user_ids(&entered));
    let scratch = Scratch::new(dir);
    tell("overlay", false, scratch.as_ref().map_err(Problem::plain).and_then(overlay));
    if let Ok(scratch) = &scratch {
        tell("sandbox", true, sandbox(own, &scratch.0));
    }
    checks
}

fn kernel() -> Result<String, Problem> {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let calls = [
        ("openat2", libc::SYS_openat2),
        ("close_range", libc::SYS_close_range),
        ("fsopen", libc::SYS_fsopen),
        ("mount_setattr", libc::SYS_mount_setattr),
    ];
    let missing: Vec<_> =
        calls.iter().filter(|(_, number)| !has_call(*number)).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(format!("Linux {release}"));
    }
    Err(Problem {
        why: format!("Linux {release} here has no {}", missing.join(", ")),
        fix: Some("use Linux 5.12 or later, and a container runtime that knows its calls".to_owned()),
    })
}

fn has_call(number: libc::c_long) -> bool {
    // SAFETY: every call that is asked for refuses these arguments: no descriptor has this number, and no memory is at
    // zero.
    let result = unsafe { libc::syscall(number, -1, 0, 0, 0, 0) };
    result != -1 || io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS)
}

fn describe(entered: &Entered) -> String {
    match entered.ids {
        Ids::Host => "a mount namespace, as root".to_owned(),
        Ids::Ranges | Ids::Single => format!("a user namespace, for uid {}", entered.outer_uid),
    }
}

fn user_ids(entered: &Entered) -> Result<String, Problem> {
    match (entered.ids, &entered.why_single) {
        (Ids::Host, _) => Ok("all of them".to_owned()),
        (Ids::Ranges, _) => Ok("a range from /etc/subuid".to_owned()),
        (Ids::Single, why) => Err(Problem {
            why: format!(
                "only your own, so that all files of an image belong to one user: {}",
                why.as_deref().unwrap_or("the namespace around us has no more")
            ),
            // Where somebody else made the namespace, it is theirs to change.
            fix: why.as_ref().map(|_| {
                "as root: install newuidmap (package `uidmap`), and usermod --add-subuids 100000-165535 \
                 --add-subgids 100000-165535 USER"
                    .to_owned()
            }),
        }),
    }
}

/// A directory that is gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new(dir: &Path) -> io::Result<Self> {
        let path = dir.join(format!("probe-{}", std::process::id()));
        let scratch = Self(path);
        for name in ["lower", "upper", "work", "merged", "root"] {
            fs_err::create_dir_all(scratch.0.join(name))?;
        }
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = remove_tree(&self.0);
    }
}

fn overlay(scratch: &Scratch) -> Result<String, Problem> {
    let place = |name: &str| scratch.0.join(name);
    let overlay = Overlay {
        lowers: vec![place("lower")],
        upper: Some(place("upper")),
        work: Some(place("work")),
        read_only: false,
    };
    let problem = |why: String| Problem {
        why: format!("none, so that every build copies what it works on: {why}"),
        fix: Some(
            "keep the store (--home) on ext4, xfs, btrfs or tmpfs, on a kernel from 5.11 on".to_owned(),
        ),
    };
    let mounted = overlay.mount(&place("merged")).map_err(|error| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        problem(format!("{error}{}", source.unwrap_or_default()))
    })?;
    fs_err::write(mounted.target().join("file"), "x").map_err(|error| problem(error.to_string()))?;
    Ok("works, where the store is".to_owned())
}

/// Starts this program in a sandbox of its own, where it finds no job and says so by its exit code.
fn sandbox(own: &Path, scratch: &Path) -> Result<String, Problem> {
    let start = || -> Result<Duration, Problem> {
        let mut spec = Spec::new(scratch.join("root"), "/probe");
        spec.arg0 = Some(OsStr::from_bytes(helper::MARKER.to_bytes()).to_owned());
        spec.network = Network::None;
        spec.mount(GuestMount::bind_read_only(own, "/probe"));
        // For a build that is not static.
        for libraries in ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/nix/store"] {
            if Path::new(libraries).is_dir() {
                spec.mount(GuestMount::bind_read_only(libraries, libraries));
            }
        }
        let begin = Instant::now();
        let mut child = spec.spawn().map_err(|error| {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
            Problem {
                why: format!("{error}{}", source.unwrap_or_default()),
                fix: error.hint().map(str::to_owned),
            }
        })?;
        match child.wait().map_err(|error| Problem::plain(&error))? {
            ExitStatus::Code(helper::EXIT_MISUSED) => Ok(begin.elapsed()),
            status => Err(Problem { why: format!("the trial program ended with {status}"), fix: None }),
        }
    };
    let times = (0..STARTS).map(|_| start()).collect::<Result<Vec<_>, _>>()?;
    let fastest = times.into_iter().min().unwrap_or_default();
    Ok(format!("works, and takes {:.1} ms to start and end", fastest.as_secs_f64() * 1000.0))
}

impl Problem {
    fn plain(error: &io::Error) -> Self {
        Self { why: error.to_string(), fix: None }
    }
}

fn encode(checks: &[Check]) -> Vec<u8> {
    let mut to = Writer(Vec::new());
    to.number(checks.len() as u64);
    for check in checks {
        to.bytes(OsStr::new(&check.name));
        to.flag(check.required);
        to.flag(check.result.is_ok());
        let (text, fix) = match &check.result {
            Ok(found) => (found, None),
            Err(problem) => (&problem.why, problem.fix.as_deref()),
        };
        to.bytes(OsStr::new(text));
        to.bytes(OsStr::new(fix.unwrap_or_default()));
    }
    to.0
}

fn decode(bytes: &[u8]) -> Option<Probe> {
    let mut from = Reader(bytes);
    let text = |bytes: OsString| bytes.to_string_lossy().into_owned();
    let checks = (0..from.number()?).map(|_| {
        let (name, required, good) = (text(from.bytes()?), from.flag()?, from.flag()?);
        let (said, fix) = (text(from.bytes()?), text(from.bytes()?));
        let fix = Some(fix).filter(|fix| !fix.is_empty());
        let result = if good { Ok(said) } else { Err(Problem { why: said, fix }) };
        Some(Check { name, required, result })
    });
    Some(Probe { checks: checks.collect::<Option<_>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_arrive_as_they_were() {
        let check = |required, result| Check { name: "name".to_owned(), required, result };
        let checks = vec![
            check(true, Ok("fine".to_owned())),
            check(false, Err(Problem { why: "why".to_owned(), fix: None })),
            check(true, Err(Problem { why: "why".to_owned(), fix: Some("fix".to_owned()) })),
        ];
        let probe = decode(&encode(&checks)).expect("decoded");
        assert_eq!(probe.checks, checks);
        assert!(!probe.sandboxes_run());
        assert!(Probe { checks: checks[..2].to_vec() }.sandboxes_run());
        assert_eq!(decode(b"x"), None);
    }

    #[test]
    fn one_id_is_a_remark_with_advice() {
        let entered = Entered { ids: Ids::Single, outer_uid: 1, why_single: Some("no range".to_owned()) };
        let problem = user_ids(&entered).expect_err("a problem");
        assert!(problem.why.ends_with("no range") && problem.fix.is_some());
    }
}
