//! The mounts every sandbox has: `/proc`, `/sys`, the files about the network, and `/dev`, which has a file of its own.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, mkdirat, openat, unlinkat};
use rustix::mount::MountAttrFlags;

use super::place::Root;
use super::{Terminal, dev};
use crate::enter::{Ids, current_ids};
use crate::mount::api;
use crate::spec::Network;
use crate::status::Failure;
use crate::wire::Job;

/// What of `/proc` is covered: memory and keys of the kernel, hardware, and what tells about other processes.
const HIDDEN: [&str; 13] = [
    "acpi",
    "asound",
    "interrupts",
    "kallsyms",
    "kcore",
    "keys",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];
/// What of `/proc` can be read only: the kernel's switches.
const READ_ONLY: [&str; 6] = ["bus", "fs", "irq", "mtrr", "sys", "sysrq-trigger"];
/// What of `/sys` is shown: how many processors there are, and how memory pages are handled. The rest describes the
/// host.
const SHOWN: [&str; 3] = ["devices/system/cpu", "devices/system/node", "kernel/mm/transparent_hugepage"];
/// The file system number of a unified cgroup hierarchy.
const CGROUP2: i64 = 0x6367_7270;

pub(super) const QUIET: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Mounts all of it.
pub(super) fn mount(root: &Root, job: &Job) -> Result<Option<Terminal>, Failure> {
    let scratch = Scratch::new(root).map_err(|error| Failure::step("mount", "/sys", error))?;
    mount_proc(root, &scratch, job).map_err(|error| Failure::step("mount", "/proc", error))?;
    let terminal = dev::mount(root, job).map_err(|error| Failure::step("mount", "/dev", error))?;
    mount_network_files(root, &scratch, job.network)
        .map_err(|error| Failure::step("mount", "/etc/hosts", error))?;
    scratch.become_sys().map_err(|error| Failure::step("mount", "/sys", error))?;
    Ok(terminal)
}

/// The file system that becomes `/sys`. Before that, small files and an empty directory are made in it, mounted
/// elsewhere, and removed again.
struct Scratch(OwnedFd);

impl Scratch {
    fn new(root: &Root) -> io::Result<Self> {
        let tree = api::new_filesystem("tmpfs", &[("mode", "755".to_owned())], QUIET)?;
        api::attach(&tree, root.directory(Path::new("/sys"))?)?;
        mkdirat(&tree, "empty", Mode::from_raw_mode(0o555))?;
        Ok(Self(tree))
    }

    /// A detached, read-only, empty directory.
    fn empty_directory(&self) -> io::Result<OwnedFd> {
        let tree = api::clone_tree(&self.0, "empty")?;
        api::set_attributes(&tree, api::READ_ONLY)?;
        Ok(tree)
    }

    /// Mounts a file with this content on `target`.
    fn cover_file(&self, target: &OwnedFd, content: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&self.0, "file", flags, Mode::from_raw_mode(0o644))?;
        std::fs::File::from(file).write_all(content)?;
        api::attach(api::clone_tree(&self.0, "file")?, target)?;
        Ok(unlinkat(&self.0, "file", AtFlags::empty())?)
    }

    fn become_sys(self) -> io::Result<()> {
        unlinkat(&self.0, "empty", AtFlags::REMOVEDIR)?;
        let sys = Root::new(self.0);
        for name in SHOWN {
            // Not every machine has each of them.
            let Ok(tree) = api::clone_tree(CWD, Path::new("/sys").join(name)) else {
                continue;
            };
            api::set_attributes(&tree, api::READ_ONLY | api::PLAIN)?;
            api::attach(tree, sys.directory(Path::new(name))?)?;
        }
        if rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|stat| stat.f_type == CGROUP2) {
            let target = sys.directory(Path::new("fs/cgroup"))?;
            // A view of our own cgroup only; where that cannot be had, it stays empty.
            if let Ok(tree) = api::new_filesystem("cgroup2", &[], QUIET | MountAttrFlags::MOUNT_ATTR_RDONLY) {
                api::attach(tree, target)?;
            }
        }
        api::set_attributes_of_top(sys.descriptor(), api::READ_ONLY)
    }
}

fn mount_proc(root: &Root, scratch: &Scratch, job: &Job) -> io::Result<()> {
    let proc = api::new_filesystem("proc", &[], QUIET)?;
    api::attach(&proc, root.directory(Path::new("/proc"))?)?;
    let proc = Root::new(proc);
    for name in HIDDEN {
        if let Some(target) = proc.find(Path::new(name))? {
            let directory = FileType::from_raw_mode(fstat(&target)?.st_mode) == FileType::Directory;
            let null = || dev::host_device(Path::new("/dev/null"));
            let cover = if directory { scratch.empty_directory()? } else { null()? };
            api::attach(cover, target)?;
        }
    }
    if job.uid == 0 && current_ids() == Ids::Host {
        // The machine's root owns what is there: the mode and owner it gives `/proc/meminfo` here are those of
        // everybody's `/proc`.
        return keep_machine_files(&proc);
    }
    for name in READ_ONLY {
        super::make_read_only(&proc, Path::new(name))?;
    }
    Ok(())
}

/// Makes everything read-only that is not about a process.
fn keep_machine_files(proc: &Root) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = openat(proc.descriptor(), ".", flags, Mode::empty())?;
    for entry in rustix::fs::Dir::new(top)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        let about_process = name.iter().all(u8::is_ascii_digit);
        // Links lead to the directories of processes.
        let plain = matches!(entry.file_type(), FileType::RegularFile | FileType::Directory);
        let hidden = HIDDEN.iter().any(|hidden| hidden.as_bytes() == name);
        if plain && !about_process && !hidden && !name.starts_with(b".") {
            super::make_read_only(proc, Path::new(OsStr::from_bytes(name)))?;
        }
    }
    Ok(())
}

/// Copies of the host's files, not the files themselves: what an image's scripts write there is theirs alone, and
/// gone afterwards.
fn mount_network_files(root: &Root, scratch: &Scratch, network: Network) -> io::Result<()> {
    let host = |path: &str| fs_err::read(path).ok();
    let files = match network {
        Network::Host => [("/etc/resolv.conf", host("/etc/resolv.conf")), ("/etc/hosts", host("/etc/hosts"))],
        Network::None => {
            let alone = b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n".to_vec();
            [("/etc/hosts", Some(alone)), ("/etc/resolv.conf", None)]
        }
    };
    for (path, content) in files {
        let Some(content) = content else {
            continue;
        };
        match root.file(Path::new(path)) {
            Ok(target) => scratch.cover_file(&target, &content)?,
            // The image has no such file and cannot be written, so nothing in it looks for one.
            Err(error) if error.raw_os_error() == Some(libc::EROFS) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Starts the loopback device of a new network namespace.
pub(super) fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: all-zero is a valid ifreq; the name fits with its end; the structure outlives both calls, which read
    // and write no more than it.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
