//! The kernel's side of the watch: the filter that hands calls over, and the descriptor they come from.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_long, c_ulong, sock_filter};

/// Wakes the other side on this processor, since one waits for the other anyway: `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`.
const SYNC_WAKE_UP: c_ulong = 1;

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;
// On others nothing is watched: no call has this architecture.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const AUDIT_ARCH: u32 = 0;

/// The calls that are handed over.
const WATCHED: &[c_long] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(not(target_arch = "riscv64"))]
    libc::SYS_renameat,
    libc::SYS_renameat2,
];

/// A rename that a program waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    id: u64,
    /// The thread that waits, as this process's namespace counts.
    pub thread: u32,
    /// The directory descriptor and the address of the path of what is renamed.
    pub from: (c_int, u64),
    /// The same of its new name.
    pub to: (c_int, u64),
}

/// Makes this process, and all it will start, ask before a rename; the descriptor is where they ask.
///
/// Sets no rights, but needs `no_new_privs` or a capability.
///
/// # Errors
///
/// When the kernel does not have it, or somebody around us listens already.
pub(crate) fn listen() -> io::Result<OwnedFd> {
    let mut program = filter();
    let program =
        libc::sock_fprog { len: u16::try_from(program.len()).unwrap_or(0), filter: program.as_mut_ptr() };
    let load = |flags: c_ulong| -> io::Result<OwnedFd> {
        // SAFETY: the program and its instructions outlive the call; a result that is no error is a new descriptor.
        unsafe {
            let result =
                libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program);
            if result < 0 {
                return Err(io::Error::last_os_error());
            }
            let number = c_int::try_from(result).map_err(io::Error::other)?;
            Ok(OwnedFd::from_raw_fd(number))
        }
    };
    // A signal that comes while one waits would make it ask again; kernels from 5.19 on can let it wait.
    load(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
        .or_else(|_| load(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER))
}

fn filter() -> Vec<sock_filter> {
    let instruction = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let load = |offset| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let equal = |value, jt, jf| instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jt, jf, value);
    let answer = |value| instruction(libc::BPF_RET | libc::BPF_K, 0, 0, value);
    let count = u8::try_from(WATCHED.len()).unwrap_or(0);
    // The architecture, the call's number, one comparison for each, and the two answers.
    let mut program = vec![load(4), equal(AUDIT_ARCH, 0, count + 1), load(0)];
    for (call, left) in WATCHED.iter().zip((1..=count).rev()) {
        program.push(equal(u32::try_from(*call).unwrap_or(u32::MAX), left, 0));
    }
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    program.push(answer(libc::SECCOMP_RET_USER_NOTIF));
    program
}

/// Where calls come from, and where they are answered.
#[derive(Debug)]
pub(super) struct Listener(OwnedFd);

impl Listener {
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        // SAFETY: takes flags, no pointer. Kernels before 6.6 refuse, and are a little slower.
        unsafe {
            libc::ioctl(descriptor.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP);
        }
        Self(descriptor)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// The next call; `None` when its program has gone meanwhile.
    pub(super) fn receive(&self) -> Option<Call> {
        // SAFETY: the structure is plain numbers, has to be zero before the call, and outlives it. A kernel whose
        // structure has grown writes no more than the size in the request's number.
        let (result, notice) = unsafe {
            let mut notice: libc::seccomp_notif = std::mem::zeroed();
            (libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notice), notice)
        };
        if result != 0 {
            return None;
        }
        let args = notice.data.args;
        #[cfg(target_arch = "x86_64")]
        let plain = c_long::from(notice.data.nr) == libc::SYS_rename;
        #[cfg(not(target_arch = "x86_64"))]
        let plain = false;
        let (from, to) = if plain {
            ((libc::AT_FDCWD, args[0]), (libc::AT_FDCWD, args[1]))
        } else {
            ((args[0] as c_int, args[1]), (args[2] as c_int, args[3]))
        };
        Some(Call { id: notice.id, thread: notice.pid, from, to })
    }

    /// Whether the program still waits, so that what was read of it was its own.
    pub(super) fn is_waiting(&self, call: &Call) -> bool {
        // SAFETY: the number outlives the call.
        unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const call.id) == 0
        }
    }

    /// Lets the kernel do what the program asked for.
    pub(super) fn go_on(&self, call: &Call) {
        let mut answer = libc::seccomp_notif_resp {
            id: call.id,
            val: 0,
            error: 0,
            flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        };
        // SAFETY: the structure outlives the call. It fails when the program has gone, and then nobody waits.
        unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter answers to a call.
    fn answer(arch: u32, call: c_long) -> u32 {
        let program = filter();
        let (mut at, mut value) = (0, 0);
        loop {
            let step = &program[at];
            at += 1;
            match u32::from(step.code) {
                code if code == libc::BPF_RET | libc::BPF_K => return step.k,
                code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    value = if step.k == 4 { arch } else { u32::try_from(call).expect("a call's number") };
                }
                _ => at += usize::from(if value == step.k { step.jt } else { step.jf }),
            }
        }
    }

    #[test]
    fn renames_alone_are_handed_over() {
        for call in WATCHED {
            assert_eq!(answer(AUDIT_ARCH, *call), libc::SECCOMP_RET_USER_NOTIF, "{call}");
            assert_eq!(
                answer(AUDIT_ARCH ^ 1, *call),
                libc::SECCOMP_RET_ALLOW,
                "{call} of another architecture"
            );
        }
        for call in [libc::SYS_read, libc::SYS_linkat, libc::SYS_openat2] {
            assert_eq!(answer(AUDIT_ARCH, call), libc::SECCOMP_RET_ALLOW, "{call}");
        }
    }
}
