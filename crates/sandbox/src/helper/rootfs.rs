//! What a sandboxed program sees: its root, `/proc`, `/dev`, `/sys`, the files about the network, and the caller's
//! mounts. All of it is put together below the root's own descriptor, with every path resolved beneath it: links in an
//! image lead nowhere else.

mod base;
mod dev;
mod place;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};

use crate::mount::api;
use crate::spec::{GuestMount, Network};
use crate::status::Failure;
use crate::wire::Job;
use place::Root;

/// Both sides of the sandbox's terminal.
pub(super) struct Terminal {
    pub ours: OwnedFd,
    pub theirs: OwnedFd,
}

/// Builds the root file system and makes it this process's root.
pub(super) fn enter(job: &Job) -> Result<Option<Terminal>, Failure> {
    let fail = |step: &'static str, path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| Failure::step(step, path, error)
    };
    let top = Path::new("/");
    // Nothing mounted from here on is seen outside.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|error| Failure::step("make mounts private", "/", error))?;
    let root = api::clone_tree(CWD, &job.root)
        .and_then(|tree| api::set_attributes(&tree, api::PLAIN).map(|()| tree))
        .and_then(|tree| api::attach_at(&tree, &job.root).map(|()| tree))
        .map_err(fail("mount the root", &job.root))?;
    let root = Root::new(root);

    let terminal = base::mount(&root, job)?;
    for mount in &job.mounts {
        mount_for_caller(&root, mount).map_err(fail("mount", mount.target()))?;
    }
    if job.create_cwd {
        root.directory(&job.cwd)
            .map_err(|source| Failure::WorkingDirectory { path: job.cwd.clone().into(), source })?;
    }
    for path in &job.read_only_paths {
        make_read_only(&root, path).map_err(fail("make read-only", path))?;
    }
    if job.read_only_root {
        api::set_attributes_of_top(root.descriptor(), api::READ_ONLY).map_err(fail("make read-only", top))?;
    }
    pivot(&root).map_err(fail("change the root", top))?;

    rustix::system::sethostname(job.hostname.as_bytes())
        .map_err(|error| Failure::step("set the host name", &job.hostname, error))?;
    if job.network == Network::None {
        base::loopback_up().map_err(fail("start the loopback device", Path::new("")))?;
    }
    Ok(terminal)
}

fn mount_for_caller(root: &Root, mount: &GuestMount) -> io::Result<()> {
    match mount {
        GuestMount::Bind { source, target, read_only } => {
            let tree = api::clone_tree(CWD, source)?;
            let read_only = if *read_only { api::READ_ONLY } else { 0 };
            attach_plain(root, tree, target, read_only)
        }
        GuestMount::Shared { root: other, path } => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let other = Root::new(rustix::fs::open(other, flags, Mode::empty())?);
            match other.find(path)? {
                Some(found) => attach_plain(root, api::clone_tree(&found, c"")?, path, 0),
                None => Ok(()),
            }
        }
        GuestMount::ReadOnly { target } => match root.find(target)? {
            Some(found) => {
                let tree = api::clone_tree(&found, c"")?;
                api::set_attributes_of_top(&tree, api::READ_ONLY)?;
                api::attach(tree, found)
            }
            None => Ok(()),
        },
        GuestMount::Tmpfs { target, mode, size } => {
            let mut options = vec![("mode", format!("{mode:o}"))];
            options.extend(size.map(|size| ("size", size.to_string())));
            let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
            let tree = api::new_filesystem("tmpfs", &options, attributes)?;
            api::attach(tree, root.directory(target)?)
        }
    }
}

/// Attaches a tree without setuid programs and devices to a place of its kind.
fn attach_plain(root: &Root, tree: OwnedFd, target: &Path, more: u64) -> io::Result<()> {
    api::set_attributes(&tree, api::PLAIN | more)?;
    let directory = FileType::from_raw_mode(fstat(&tree)?.st_mode) == FileType::Directory;
    let target = if directory { root.directory(target)? } else { root.file(target)? };
    api::attach(tree, target)
}

/// Covers a path with a read-only view of itself.
fn make_read_only(root: &Root, path: &Path) -> io::Result<()> {
    let Some(found) = root.find(path)? else {
        return Ok(());
    };
    let tree = api::clone_tree(&found, c"")?;
    api::set_attributes(&tree, api::READ_ONLY)?;
    api::attach(tree, found)
}

/// Swaps the roots in place and lets go of the old one, with everything of the host below it.
fn pivot(root: &Root) -> io::Result<()> {
    rustix::process::fchdir(root.descriptor())?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}
