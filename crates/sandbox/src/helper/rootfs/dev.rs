//! `/dev`: the devices every program may expect, terminals, and shared memory.
//!
//! No node of the host's is to be had in a way that lets a program change its mode, its owner or its times: the nodes
//! are the sandbox's own where this process may make any, and else the host's in a read-only mount, which keeps the
//! device as usable as before.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, chmodat, makedev, mkdirat, mknodat, openat, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::Terminal;
use super::base::QUIET;
use super::place::Root;
use crate::mount::api;
use crate::wire::Job;

/// The devices a program may expect everywhere, with their numbers.
const DEVICES: [(&str, u32, u32); 6] =
    [("full", 1, 7), ("null", 1, 3), ("random", 1, 8), ("tty", 5, 0), ("urandom", 1, 9), ("zero", 1, 5)];
/// The group `tty`, in every distribution.
const TTY_GROUP: u32 = 5;

const QUIET_DEVICES: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Mounts it, and opens a terminal where the job has one.
pub(super) fn mount(root: &Root, job: &Job) -> io::Result<Option<Terminal>> {
    let dev = api::new_filesystem("tmpfs", &[("mode", "755".to_owned())], QUIET_DEVICES)?;
    api::attach(&dev, root.directory(Path::new("/dev"))?)?;
    for device in DEVICES {
        add_device(&dev, device)?;
    }
    // From here on devices work where they are mounted above, and not where somebody makes one.
    api::set_attributes_of_top(&dev, libc::MOUNT_ATTR_NODEV)?;
    let links = [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("pts/ptmx", "ptmx"),
    ];
    for (target, name) in links {
        symlinkat(target, &dev, name)?;
    }
    let shared = api::new_filesystem("tmpfs", &[("mode", "1777".to_owned())], QUIET)?;
    api::attach(shared, directory_in(&dev, "shm")?)?;
    let terminals = new_devpts(job.single_id)?;
    api::attach(&terminals, directory_in(&dev, "pts")?)?;
    if job.terminal { open_terminal(&terminals, job).map(Some) } else { Ok(None) }
}

/// Mounts one device on a place of its own: what is mounted is usable whatever becomes of the mount around it.
fn add_device(dev: &OwnedFd, (name, major, minor): (&str, u32, u32)) -> io::Result<()> {
    let mode = Mode::from_raw_mode(0o666);
    let node = match mknodat(dev, name, FileType::CharacterDevice, mode, makedev(major, minor)) {
        Ok(()) => {
            // Whatever the caller's umask is.
            chmodat(dev, name, mode, AtFlags::empty())?;
            api::clone_tree(dev, name)?
        }
        // In a user namespace nobody makes devices, and in some containers root does not either.
        Err(Errno::PERM) => {
            openat(dev, name, OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC, mode)?;
            host_device(&Path::new("/dev").join(name))?
        }
        Err(error) => return Err(error.into()),
    };
    api::attach(node, openat(dev, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// A detached mount of a device of the host's. It can be read and written as the device is, since neither changes the
/// file system it lies on; everything that would is refused.
pub(super) fn host_device(path: &Path) -> io::Result<OwnedFd> {
    let tree = api::clone_tree(CWD, path)?;
    api::set_attributes(&tree, api::READ_ONLY)?;
    Ok(tree)
}

fn directory_in(parent: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

fn new_devpts(single_id: bool) -> io::Result<OwnedFd> {
    let mut options = vec![("ptmxmode", "0666".to_owned()), ("mode", "0620".to_owned())];
    if single_id {
        return api::new_filesystem("devpts", &options, QUIET_DEVICES);
    }
    options.push(("gid", TTY_GROUP.to_string()));
    // A range of fewer than five ids has no such group.
    api::new_filesystem("devpts", &options, QUIET_DEVICES)
        .or_else(|_| api::new_filesystem("devpts", &options[..2], QUIET_DEVICES))
}

fn open_terminal(terminals: &OwnedFd, job: &Job) -> io::Result<Terminal> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let ours = openat(terminals, "ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&ours)?;
    // Before the program can ask for it.
    let (ws_row, ws_col) = job.terminal_size;
    rustix::termios::tcsetwinsize(
        &ours,
        rustix::termios::Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 },
    )?;
    let flags =
        rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY | rustix::pty::OpenptFlags::CLOEXEC;
    let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, flags)?;
    if !job.single_id {
        rustix::fs::fchown(&theirs, Some(rustix::fs::Uid::from_raw(job.uid)), None)?;
    }
    Ok(Terminal { ours, theirs })
}
