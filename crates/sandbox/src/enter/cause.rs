//! Why the kernel refuses user namespaces here: the known switches, looked at one by one.

use std::fmt;
use std::io;

/// What forbids user namespaces on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// `user.max_user_namespaces` is 0 (or used up).
    MaxUserNamespaces,
    /// Debian's `kernel.unprivileged_userns_clone` is 0.
    UnprivilegedUsernsClone,
    /// Ubuntu's `kernel.apparmor_restrict_unprivileged_userns` is 1.
    AppArmor,
    /// We run in a container whose seccomp filter forbids it.
    Seccomp,
    /// We run in a chroot, where the kernel forbids it.
    Chroot,
    /// We are root without `CAP_SETFCAP`, which is needed to map root's id.
    RootId,
    /// The kernel was built without user namespaces.
    Kernel,
    /// None of the switches we know.
    Unknown,
}

impl Cause {
    /// Looks at the switches of this machine after the kernel answered `error`.
    pub(crate) fn find(error: &io::Error) -> Self {
        let number =
            |path: &str| fs_err::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
        Self::judge(&Facts {
            errno: error.raw_os_error().unwrap_or(0),
            max_user_namespaces: number("/proc/sys/user/max_user_namespaces"),
            unprivileged_userns_clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor_restrict: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            seccomp: status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"])),
        })
    }

    fn judge(facts: &Facts) -> Self {
        if facts.max_user_namespaces == Some(0) || facts.errno == libc::ENOSPC {
            Self::MaxUserNamespaces
        } else if facts.unprivileged_userns_clone == Some(0) {
            Self::UnprivilegedUsernsClone
        } else if facts.apparmor_restrict == Some(1) {
            Self::AppArmor
        } else if facts.errno == libc::EINVAL || facts.errno == libc::ENOSYS {
            Self::Kernel
        } else if facts.seccomp {
            Self::Seccomp
        } else if facts.errno == libc::EPERM {
            Self::Chroot
        } else {
            Self::Unknown
        }
    }

    /// What to change.
    pub fn fix(&self) -> Option<&'static str> {
        match self {
            Self::MaxUserNamespaces => Some("as root: sysctl -w user.max_user_namespaces=15000"),
            Self::UnprivilegedUsernsClone => Some("as root: sysctl -w kernel.unprivileged_userns_clone=1"),
            Self::AppArmor => Some(
                "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give this program an \
                 AppArmor profile with `userns,`",
            ),
            Self::Seccomp => Some(
                "start the container with --security-opt seccomp=unconfined (Kubernetes: seccompProfile \
                 Unconfined), or as root with CAP_SYS_ADMIN",
            ),
            Self::Chroot => Some("run outside of the chroot, or as root with CAP_SYS_ADMIN"),
            Self::RootId => Some("run as a user other than root, or add the capability SETFCAP or SYS_ADMIN"),
            Self::Kernel => Some("use a kernel with CONFIG_USER_NS=y, or run as root"),
            Self::Unknown => None,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MaxUserNamespaces => "the sysctl user.max_user_namespaces allows no more of them",
            Self::UnprivilegedUsernsClone => "the sysctl kernel.unprivileged_userns_clone is 0",
            Self::AppArmor => {
                "AppArmor restricts them (the sysctl kernel.apparmor_restrict_unprivileged_userns is 1)"
            }
            Self::Seccomp => "the seccomp filter of the container around us forbids it",
            Self::Chroot => "the kernel does not permit it here, as in a chroot or under a security module",
            Self::RootId => "root may not map its own id here, as it lacks CAP_SETFCAP",
            Self::Kernel => "this kernel has no user namespaces",
            Self::Unknown => "the kernel refused it",
        })
    }
}

/// What was seen; apart from [`Cause::find`] so that the judgement can be tested.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    errno: i32,
    max_user_namespaces: Option<u64>,
    unprivileged_userns_clone: Option<u64>,
    apparmor_restrict: Option<u64>,
    seccomp: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_switch_is_named() {
        let refused = Facts { errno: libc::EPERM, max_user_namespaces: Some(1000), ..Facts::default() };
        let cases = [
            (Facts { max_user_namespaces: Some(0), ..refused }, Cause::MaxUserNamespaces),
            (Facts { errno: libc::ENOSPC, ..refused }, Cause::MaxUserNamespaces),
            (Facts { unprivileged_userns_clone: Some(0), ..refused }, Cause::UnprivilegedUsernsClone),
            (Facts { apparmor_restrict: Some(1), ..refused }, Cause::AppArmor),
            (Facts { seccomp: true, ..refused }, Cause::Seccomp),
            (Facts { errno: libc::EINVAL, ..refused }, Cause::Kernel),
            (refused, Cause::Chroot),
            (Facts { errno: libc::EIO, ..refused }, Cause::Unknown),
        ];
        for (facts, cause) in cases {
            assert_eq!(Cause::judge(&facts), cause, "{facts:?}");
        }
    }
}
