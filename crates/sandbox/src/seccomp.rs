//! The system calls a sandboxed program cannot make: those a default container is denied too.
//!
//! A list of what is denied, not of what is allowed: namespaces, ids and capabilities are the fence, and this takes
//! the kernel's rarely used, dangerous parts away from behind it. A list of what is allowed would break programs with
//! every new system call.

use std::collections::BTreeMap;
use std::io;

use crate::spec::Network;
use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
};

/// Denied whatever the arguments.
const DENIED: &[c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_get_mempolicy,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_set_mempolicy,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS__sysctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_sysfs,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
];

/// Namespaces, in `clone` and `unshare`. A user namespace would open most of the kernel's mount and network code.
const NEW_NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// `CLONE_NEWTIME`; in `clone` its bit is part of the exit signal.
const NEW_TIME: i32 = 0x80;
/// Terminal requests that put input into a terminal somebody else reads.
const TERMINAL_INPUT: [u64; 2] = [0x5412, 0x541c];
/// The personalities that are harmless: Linux, UNAME26, 32 bit, both, and asking.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// The kinds of sockets there are. Not the others: those of virtual machines (`AF_VSOCK`) and of devices reach past the
/// network namespace, raw packets (`AF_PACKET`, `AF_XDP`) are everybody's where the network is, and asking for the rest
/// makes the kernel load code that hardly anybody uses.
const FAMILIES: [i32; 6] =
    [libc::AF_UNSPEC, libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_ALG];
/// The first system call number of the x32 ABI.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

/// Loads the filter into this process, for good. Sets `no_new_privs` too.
pub(crate) fn load(programs: &[BpfProgram]) -> io::Result<()> {
    for program in programs {
        seccompiler::apply_filter(program).map_err(|error| match error {
            seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
            other => io::Error::other(other.to_string()),
        })?;
    }
    Ok(())
}

/// The filter as programs for the kernel.
pub(crate) fn compile(network: Network) -> io::Result<Vec<BpfProgram>> {
    Ok(vec![program(denied(network), libc::EPERM)?, program(unknown(), libc::ENOSYS)?])
}

fn denied(network: Network) -> BTreeMap<i64, Vec<SeccompRule>> {
    let any_bit = |bits: &[i32]| -> Vec<SeccompRule> {
        bits.iter().map(|bit| rule(&[(0, SeccompCmpOp::MaskedEq(*bit as u64), *bit as u64)])).collect()
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = DENIED.iter().map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_clone, any_bit(&NEW_NAMESPACES));
    rules.insert(libc::SYS_unshare, any_bit(&[&NEW_NAMESPACES[..], &[NEW_TIME]].concat()));
    let requests = TERMINAL_INPUT.iter().map(|request| rule(&[(1, SeccompCmpOp::Eq, *request)]));
    rules.insert(libc::SYS_ioctl, requests.collect());
    let none_of =
        |allowed: &[u64]| rule(&allowed.iter().map(|one| (0, SeccompCmpOp::Ne, *one)).collect::<Vec<_>>());
    rules.insert(libc::SYS_personality, vec![none_of(&PERSONALITIES)]);
    let mut families = FAMILIES.to_vec();
    if network == Network::None {
        families.push(libc::AF_PACKET);
    }
    let families: Vec<_> = families.into_iter().map(|family| family as u64).collect();
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        rules.insert(call, vec![none_of(&families)]);
    }
    rules
}

/// `clone3` takes its flags from memory, where no filter can look. Told that it does not exist, every C library
/// uses `clone`.
fn unknown() -> BTreeMap<i64, Vec<SeccompRule>> {
    BTreeMap::from([(libc::SYS_clone3, Vec::new())])
}

/// A rule that matches when all conditions `(argument, comparison, value)` do. Comparisons are of 32 bits: none of the
/// arguments looked at is wider.
fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> SeccompRule {
    let conditions = conditions.iter().map(|(argument, comparison, value)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, comparison.clone(), *value)
            .expect("argument numbers are below six")
    });
    SeccompRule::new(conditions.collect()).expect("a rule has conditions")
}

fn program(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> io::Result<BpfProgram> {
    let arch = std::env::consts::ARCH.try_into().map_err(|_| io::ErrorKind::Unsupported)?;
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno.unsigned_abs()), arch);
    let program =
        filter.and_then(BpfProgram::try_from).map_err(|error| io::Error::other(error.to_string()))?;
    Ok([x32_guard(), program].concat())
}

/// The x32 calls have the architecture of x86_64 and numbers of their own, so a list of numbers alone is no fence
/// on a kernel that has them.
#[cfg(target_arch = "x86_64")]
fn x32_guard() -> Vec<sock_filter> {
    let instruction = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    vec![
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs()),
    ]
}

#[cfg(not(target_arch = "x86_64"))]
fn x32_guard() -> Vec<sock_filter> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles_and_is_small() {
        let programs = compile(Network::Host).expect("compiled");
        assert_eq!(programs.len(), 2);
        assert!(programs.iter().map(Vec::len).sum::<usize>() < 1000);
    }

    #[test]
    fn no_call_is_listed_twice() {
        let mut calls = DENIED.to_vec();
        calls.sort_unstable();
        calls.dedup();
        assert_eq!(calls.len(), DENIED.len());
    }
}
