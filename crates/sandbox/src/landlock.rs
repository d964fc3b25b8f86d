//! Abstract sockets (`@name`) belong to the network, not to the file system: with the machine's network, its services'
//! would be there. Kernels from 6.12 on can close them.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET`
const ABSTRACT_SOCKETS: u64 = 1;

/// The kernel's `struct landlock_ruleset_attr`, as of its sixth version.
#[repr(C)]
struct Ruleset {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// From here on this process and its children reach those abstract sockets only that one of them has made. Needs
/// `no_new_privs`.
///
/// # Errors
///
/// When this kernel does not know how: then they stay open.
pub(crate) fn close_abstract_sockets() -> io::Result<()> {
    let ruleset = Ruleset { handled_access_fs: 0, handled_access_net: 0, scoped: ABSTRACT_SOCKETS };
    // SAFETY: the structure outlives the call, and the size given is its own.
    let created = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, size_of::<Ruleset>(), 0)
    };
    let number = i32::try_from(created).ok().filter(|number| *number >= 0);
    let number = number.ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just opened it for us.
    let ruleset = unsafe { OwnedFd::from_raw_fd(number) };
    // SAFETY: takes two integers.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
