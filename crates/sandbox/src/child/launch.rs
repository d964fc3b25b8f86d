//! Executing this program again as the helper.

use std::ffi::{CStr, CString};
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use rustix::process::Pid;

use crate::helper;

/// A file in memory with this content, to be read from its start.
pub(crate) fn memory_file(bytes: &[u8]) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("pannier-job", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(file);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// Starts this program again as the helper, with these descriptors as 0, 1, 2 … and no others of ours that matter:
/// the rest closes on exec, or is closed by the helper first thing.
pub(crate) fn start_helper(program: &OwnedFd, descriptors: &[BorrowedFd<'_>]) -> io::Result<Pid> {
    // Above all targets, so that no copy lands on one that is still to be copied.
    let floor = i32::try_from(descriptors.len()).unwrap_or(i32::MAX) + 4;
    let raised = descriptors
        .iter()
        .map(|descriptor| rustix::io::fcntl_dupfd_cloexec(descriptor, floor))
        .collect::<Result<Vec<_>, _>>()?;
    let path = CString::new(format!("/proc/self/fd/{}", program.as_raw_fd()))?;
    let mut setup = SpawnSetup::new()?;
    for (target, source) in (0..).zip(&raised) {
        setup.copy(source.as_raw_fd(), target)?;
    }
    setup.run(&path, helper::MARKER)
}

/// `posix_spawn`: unlike fork, its cost does not grow with our memory, and no code of ours runs in between.
struct SpawnSetup {
    actions: libc::posix_spawn_file_actions_t,
    attributes: libc::posix_spawnattr_t,
}

impl SpawnSetup {
    fn new() -> io::Result<Self> {
        // SAFETY: both are plain C structures, given their value by the init calls right below; a signal set is
        // bits, filled before use; all pointers are to live locals.
        unsafe {
            let mut this = Self { actions: std::mem::zeroed(), attributes: std::mem::zeroed() };
            checked(libc::posix_spawn_file_actions_init(&raw mut this.actions))?;
            checked(libc::posix_spawnattr_init(&raw mut this.attributes))?;
            let mut all = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            // Everything back to its default, and nothing delivered before the program starts: Ctrl-C in our
            // terminal must not take the monitor away first.
            checked(libc::posix_spawnattr_setsigmask(&raw mut this.attributes, &raw const all))?;
            libc::sigdelset(&raw mut all, libc::SIGKILL);
            libc::sigdelset(&raw mut all, libc::SIGSTOP);
            checked(libc::posix_spawnattr_setsigdefault(&raw mut this.attributes, &raw const all))?;
            let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
            checked(libc::posix_spawnattr_setflags(&raw mut this.attributes, flags as libc::c_short))?;
            Ok(this)
        }
    }

    fn copy(&mut self, source: i32, target: i32) -> io::Result<()> {
        // SAFETY: the structure was initialised by `new`.
        checked(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.actions, source, target) })
    }

    fn run(&self, path: &CString, name: &CStr) -> io::Result<Pid> {
        let argv = [name.as_ptr().cast_mut(), ptr::null_mut()];
        let envp = [ptr::null_mut()];
        let mut pid = 0;
        // SAFETY: path, arguments and environment are terminated and outlive the call; posix_spawn does not write
        // to the arguments, whatever its type says.
        checked(unsafe {
            libc::posix_spawn(
                &raw mut pid,
                path.as_ptr(),
                &raw const self.actions,
                &raw const self.attributes,
                argv.as_ptr(),
                envp.as_ptr(),
            )
        })?;
        Pid::from_raw(pid).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl Drop for SpawnSetup {
    fn drop(&mut self) {
        // SAFETY: both were initialised by `new`, and are not used after this.
        unsafe {
            libc::posix_spawn_file_actions_destroy(&raw mut self.actions);
            libc::posix_spawnattr_destroy(&raw mut self.attributes);
        }
    }
}

fn checked(errno: i32) -> io::Result<()> {
    if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
}
