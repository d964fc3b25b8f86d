//! The capabilities a sandboxed program may have: for uid 0 those of a default container, without what they would let it
//! do on a network that is not its own; none for anybody else.

use std::io;

use crate::spec::Network;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// What Docker leaves to root in a container. None of them reaches beyond files, ids and sockets that the
/// namespaces already confine, where there is one of each kind.
const CONTAINER: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// What reads others' packets and takes the place of the machine's services, on the machine's own network.
const ON_OWN_NETWORK: CapabilitySet = CapabilitySet::NET_RAW.union(CapabilitySet::NET_BIND_SERVICE);

/// The capabilities that uid 0 may have.
pub(crate) fn of_root(network: Network) -> CapabilitySet {
    match network {
        Network::Host => CONTAINER.difference(ON_OWN_NETWORK),
        Network::None => CONTAINER,
    }
}

/// Limits the bounding set, so that not even a program with file capabilities gets more. Needs `CAP_SETPCAP`, so it
/// comes before the change of the user id.
pub(crate) fn limit_bounding(to: CapabilitySet) -> io::Result<()> {
    for number in 0..64u32 {
        if to.bits() & (1 << number) != 0 {
            continue;
        }
        // SAFETY: prctl with integer arguments only.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) } != 0 {
            let error = io::Error::last_os_error();
            // Past the last capability this kernel knows.
            if error.raw_os_error() == Some(libc::EINVAL) {
                break;
            }
            return Err(error);
        }
    }
    Ok(())
}

/// Limits all other sets of this thread, after the change of the user id.
pub(crate) fn limit(to: CapabilitySet) -> io::Result<()> {
    let keep = capabilities(None)?.permitted & to;
    rustix::thread::clear_ambient_capability_set()?;
    set_capabilities(
        None,
        CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() },
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_keeps_what_docker_leaves() {
        // CapEff of a default Docker container.
        assert_eq!(of_root(Network::None).bits(), 0x0000_0000_a804_25fb);
        // Without CAP_NET_BIND_SERVICE (10) and CAP_NET_RAW (13).
        assert_eq!(of_root(Network::Host).bits(), 0x0000_0000_a804_01fb);
    }
}
