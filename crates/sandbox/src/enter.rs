//! Entering the namespaces in which this process prepares sandboxes.
//!
//! Real root needs a mount namespace only. An ordinary user gets a user namespace in which it is uid 0: with the
//! ranges of `/etc/subuid` where there are some, else with its own id alone. The process stays the same one, so
//! the terminal, Ctrl-C, the environment and the working directory are untouched.

mod cause;
mod idmap;

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{WaitOptions, getgid, getuid, waitpid};
use rustix::thread::{CapabilitySet, UnshareFlags, capabilities};

pub use cause::Cause;
pub(crate) use idmap::{Extent, read_map};

/// How to enter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnterOptions {
    /// Map one id only, even where `/etc/subuid` gives ranges.
    pub single_id: bool,
}

/// Which ids exist for this process, and so for what it unpacks and runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// All of the host's: no user namespace was needed.
    Host,
    /// Our own id as 0, and 1 upwards from the ranges the administrator gave us.
    Ranges,
    /// Our own id as 0, and no other: every file belongs to it.
    Single,
}

/// What [`enter`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entered {
    /// Which ids exist now.
    pub ids: Ids,
    /// The user id this process had before, seen from outside.
    pub outer_uid: u32,
    /// Why there are no ranges, when [`Ids::Single`] was not asked for.
    pub why_single: Option<String>,
}

/// Why the namespaces could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// A user namespace can only be entered by a process with a single thread.
    #[error("namespaces can be entered by a single-threaded process only, and this one has {0} threads")]
    Threads(usize),
    /// The kernel or a container around us refused the namespace.
    #[error("cannot create a user namespace: {cause}")]
    Refused {
        /// What forbids it, as far as it can be seen.
        cause: Cause,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The id map could not be written.
    #[error("cannot map user ids: {message}")]
    Map {
        /// What failed, with the tool's own words.
        message: String,
    },
    /// Something else of the set-up failed.
    #[error("cannot {step}")]
    Step {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl EnterError {
    /// What the user can change so that it works, when we know.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { cause, .. } => cause.fix().map(str::to_owned),
            Self::Map { .. } => Some("see /etc/subuid, /etc/subgid and the mode of newuidmap".to_owned()),
            Self::Threads(_) | Self::Step { .. } => None,
        }
    }
}

/// Puts this process into its own mount namespace, inside a user namespace unless it is root already.
///
/// Call it at the start of `main`, before the first thread.
///
/// # Errors
///
/// [`EnterError`]: when threads run already, or when nothing this process may do gives it a mount namespace.
pub fn enter(options: &EnterOptions) -> Result<Entered, EnterError> {
    let threads = thread_count();
    if threads > 1 {
        return Err(EnterError::Threads(threads));
    }
    let outer_uid = getuid().as_raw();
    if rustix::process::geteuid().is_root()
        && has(CapabilitySet::SYS_ADMIN)
        && unshare(UnshareFlags::NEWNS).is_ok()
        && make_slave().is_ok()
    {
        return Ok(Entered { ids: current_ids(), outer_uid, why_single: None });
    }
    enter_user_namespace(options, outer_uid)
}

/// Which ids exist in the user namespace this process is in, whoever made it.
pub(crate) fn current_ids() -> Ids {
    let uids = read_map("/proc/self/uid_map");
    let gids = read_map("/proc/self/gid_map");
    let whole = |map: &[Extent]| matches!(map, [Extent { inside: 0, outside: 0, count: u32::MAX }]);
    let single = |map: &[Extent]| map.iter().map(|extent| u64::from(extent.count)).sum::<u64>() == 1;
    if whole(&uids) && whole(&gids) {
        Ids::Host
    } else if single(&uids) || single(&gids) {
        Ids::Single
    } else {
        Ids::Ranges
    }
}

fn enter_user_namespace(options: &EnterOptions, outer_uid: u32) -> Result<Entered, EnterError> {
    let outer_gid = getgid().as_raw();
    let may_map_root = has(CapabilitySet::SETFCAP);
    let plan =
        if options.single_id { Err(None) } else { RangePlan::find(outer_uid, outer_gid).map_err(Some) };
    // The mapper has to be started first: it must stay outside of the namespace it maps.
    let (mapper, mut why_single) = match plan {
        Ok(plan) => (Some(Mapper::start(plan)?), None),
        Err(why) => (None, why),
    };
    // A fork of the mapper is a process of its own: this one still has a single thread.
    unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)
        .map_err(|source| EnterError::Refused { cause: Cause::find(&source), source })?;
    let mut ids = Ids::Single;
    if let Some(mapper) = mapper {
        match mapper.map() {
            Ok(()) => ids = Ids::Ranges,
            Err(message) if read_map("/proc/self/uid_map").is_empty() => why_single = Some(message),
            Err(message) => return Err(EnterError::Map { message }),
        }
    }
    if ids == Ids::Single {
        write_single_map(outer_uid, outer_gid).map_err(|source| {
            // Root's id is mapped by who has this capability only; others' ids need none.
            let cause = if outer_uid == 0 && !may_map_root { Cause::RootId } else { Cause::find(&source) };
            EnterError::Refused { cause, source }
        })?;
    }
    // Where AppArmor restricts user namespaces, creating one works and the first mount is refused.
    make_slave().map_err(|source| EnterError::Refused { cause: Cause::find(&source), source })?;
    Ok(Entered { ids, outer_uid, why_single })
}

/// Maps this process's ids to 0 of the user namespace it has just created.
pub(crate) fn write_single_map(outer_uid: u32, outer_gid: u32) -> io::Result<()> {
    map_self((0, outer_uid), (0, outer_gid))
}

/// Maps one user id and one group id `(inside, outside)` of the user namespace just created.
pub(crate) fn map_self(uid: (u32, u32), gid: (u32, u32)) -> io::Result<()> {
    // Without a privileged mapper the kernel wants `setgroups` gone before a group is mapped.
    write_proc("/proc/self/setgroups", "deny")?;
    write_proc("/proc/self/uid_map", &format!("{} {} 1", uid.0, uid.1))?;
    write_proc("/proc/self/gid_map", &format!("{} {} 1", gid.0, gid.1))
}

/// The kernel's own error, without the path: what it means is found by its number.
fn write_proc(path: &str, text: &str) -> io::Result<()> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    // A map is taken in one write or not at all.
    rustix::io::write(file, text.as_bytes())?;
    Ok(())
}

fn make_slave() -> io::Result<()> {
    // Slave, not private: what the host unmounts later goes away here too and is not pinned by us.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    Ok(())
}

fn has(capability: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

fn thread_count() -> usize {
    fs_err::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: none of the flags used here is CLONE_FILES, the only one that can invalidate descriptors which
    // other threads hold.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(io::Error::from)
}

/// What newuidmap and newgidmap will be told.
#[derive(Debug)]
struct RangePlan {
    newuidmap: PathBuf,
    newgidmap: PathBuf,
    uids: Vec<Extent>,
    gids: Vec<Extent>,
}

impl RangePlan {
    /// The plan, or why there can be none.
    fn find(uid: u32, gid: u32) -> Result<Self, String> {
        let read = |path: &str| fs_err::read_to_string(path).unwrap_or_default();
        let passwd = read("/etc/passwd");
        let name = idmap::user_name(&passwd, uid);
        let subuids = idmap::ranges(&read("/etc/subuid"), name, uid);
        let subgids = idmap::ranges(&read("/etc/subgid"), name, uid);
        let who = name.map_or_else(|| format!("uid {uid}"), |name| format!("`{name}`"));
        for (file, ranges) in [("/etc/subuid", &subuids), ("/etc/subgid", &subgids)] {
            if ranges.is_empty() {
                return Err(format!("{file} has no range for {who}"));
            }
        }
        Ok(Self {
            newuidmap: find_tool("newuidmap")?,
            newgidmap: find_tool("newgidmap")?,
            uids: idmap::map(uid, &subuids),
            gids: idmap::map(gid, &subgids),
        })
    }

    /// Runs both tools on `target`; they are setuid programs, so nothing of ours needs a right for this.
    fn run(&self, target: u32) -> Result<(), String> {
        let start = |tool: &Path, map: &[Extent]| {
            let mut command = Command::new(tool);
            command.arg(target.to_string()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            for extent in map {
                for number in [extent.inside, extent.outside, extent.count] {
                    command.arg(number.to_string());
                }
            }
            command.spawn().map_err(|error| format!("{}: {error}", tool.display()))
        };
        let both = [start(&self.newuidmap, &self.uids)?, start(&self.newgidmap, &self.gids)?];
        for child in both {
            let output = child.wait_with_output().map_err(|error| error.to_string())?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
            }
        }
        Ok(())
    }
}

/// The environment is not ours to read, so `PATH` is not searched.
fn find_tool(name: &str) -> Result<PathBuf, String> {
    ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin", "/run/wrappers/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| format!("{name} is not installed (package `uidmap` or `shadow-utils`)"))
}

/// A child outside of the new user namespace that maps ids into it.
#[derive(Debug)]
struct Mapper {
    pid: rustix::process::Pid,
    go: Option<PipeWriter>,
    answer: PipeReader,
}

impl Mapper {
    fn start(plan: RangePlan) -> Result<Self, EnterError> {
        let step = |source| EnterError::Step { step: "start the id mapper", source };
        let (go_read, go) = io::pipe().map_err(step)?;
        let (answer, answer_write) = io::pipe().map_err(step)?;
        let target = std::process::id();
        // SAFETY: `enter` has checked that this process has one thread, so the child may allocate and lock.
        match unsafe { libc::fork() } {
            -1 => Err(step(io::Error::last_os_error())),
            0 => {
                drop((go, answer));
                run_mapper(&plan, target, go_read, answer_write);
                // SAFETY: ends this forked child at once; nothing of the parent's is flushed twice.
                unsafe { libc::_exit(0) }
            }
            pid => {
                let pid = rustix::process::Pid::from_raw(pid)
                    .ok_or_else(|| step(io::Error::from(io::ErrorKind::InvalidData)))?;
                Ok(Self { pid, go: Some(go), answer })
            }
        }
    }

    /// Lets the mapper work and waits for it.
    fn map(mut self) -> Result<(), String> {
        let mut answer = String::new();
        let started = self.go.as_mut().map_or(Ok(()), |go| go.write_all(b"g"));
        let done = started.and_then(|()| self.answer.read_to_string(&mut answer));
        match done {
            Ok(_) if answer == "ok" => Ok(()),
            Ok(_) if answer.is_empty() => Err("the id mapper ended early".to_owned()),
            Ok(_) => Err(answer),
            Err(error) => Err(format!("the id mapper cannot be reached: {error}")),
        }
    }
}

impl Drop for Mapper {
    fn drop(&mut self) {
        // A mapper that was never told to go ends when this closes.
        self.go = None;
        let _ = waitpid(Some(self.pid), WaitOptions::empty());
    }
}

fn run_mapper(plan: &RangePlan, target: u32, mut go: PipeReader, mut answer: PipeWriter) {
    let mut byte = [0];
    if !matches!(go.read(&mut byte), Ok(1)) {
        return;
    }
    let text = match plan.run(target) {
        Ok(()) => "ok".to_owned(),
        Err(message) if message.is_empty() => "newuidmap failed without a message".to_owned(),
        Err(message) => message,
    };
    let _ = answer.write_all(text.as_bytes());
}
