//! Where code we do not trust runs: namespaces, mounts, id maps, capabilities, seccomp.
//!
//! What lives here: everything that needs a system call the standard library does not have, and so all `unsafe`
//! of the workspace. What does not: anything about images, buildpacks or Dockerfiles; a caller brings a root
//! directory and says what to run in it.
//!
//! How it is used, in this order:
//!
//! 1. [`init_if_requested`] is the first line of `main`: a program that sandboxes re-executes itself, and the
//!    re-executed process ends there.
//! 2. [`enter`], still in `main` and before the first thread, puts this process into a mount namespace of its
//!    own, for an ordinary user inside a user namespace.
//! 3. [`Overlay`], [`Mount`] and [`remove_tree`] make and remove what the sandbox will see.
//! 4. [`Spec::spawn`] starts a program in it, from any thread, and gives a [`Child`].
//!
//! Three processes make one sandbox: a *monitor* (child of the caller, outside the new pid namespace, does
//! nothing but wait), *init* (pid 1: mounts, reaps, forwards signals) and the program. Whichever way the caller
//! ends, both others see their control socket close and take everything down.
//!
//! | file | what |
//! |---|---|
//! | `enter` | the namespaces of this process, `/etc/subuid` ranges |
//! | `mount` | overlay and bind mounts on the new mount API |
//! | `live` | ending all sandboxes of this process |
//! | `tree` | removing directories, whatever their modes |
//! | `spec`, `wire` | what to run, and how it travels to the helper |
//! | `child`, `status` | the running sandbox, seen from outside |
//! | `helper` | the inside: monitor, init, root file system, the last steps before `execve` |
//! | `renames` | which renames an overlay refused |
//! | `caps`, `seccomp`, `landlock` | what the program may still do |
//! | `probe` | what this machine allows, for `pannier doctor` |
// Namespaces, forks and capability calls have no safe wrapper; keeping them in one crate is the point of it.
#![allow(unsafe_code)]

mod caps;
mod child;
mod enter;
mod helper;
mod landlock;
mod live;
mod mount;
mod probe;
mod renames;
mod seccomp;
mod spec;
mod status;
mod tree;
mod wire;

pub use child::{Child, Output, Signaller, SpawnError};
pub use enter::{Cause, EnterError, EnterOptions, Entered, Ids, enter};
pub use helper::init_if_requested;
pub use live::end_all;
pub use mount::{Mount, MountError, Overlay, bind, tmpfs, unmount_below};

pub use probe::{Check, Probe, Problem, probe};
pub use renames::RenameWatch;
pub use spec::{GuestMount, Network, Spec, Stdio};
pub use status::{ExitStatus, Failure};
pub use tree::{make_skeleton, remove_tree};
