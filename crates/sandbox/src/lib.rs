//! Where code we do not trust runs: namespaces, mounts, id maps, seccomp.
