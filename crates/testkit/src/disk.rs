//! Small disks in memory, which fill up or cannot be written: only root can mount one.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::needs;
use crate::person::Person;

/// A mounted disk. End it with [`SmallDisk::unmount`]; one that is dropped goes too, if it can.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
    mounted: bool,
}

impl SmallDisk {
    /// Mounts a disk at the folder `at`, with options of tmpfs: `size=24m`. None where that cannot be done, which is
    /// said.
    pub fn mount(at: impl Into<PathBuf>, options: &str) -> Option<Self> {
        if !Person::Caller.is_root() {
            needs::cannot("only root can mount a small disk");
            return None;
        }
        let at = at.into();
        if !succeeds(Command::new("mount").args(["-t", "tmpfs", "-o", options, "small"]).arg(&at)) {
            needs::cannot("no small disk can be mounted here");
            return None;
        }
        Some(Self { at, mounted: true })
    }

    /// The folder it is mounted at.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Changes its options: `size=200m`, `ro`. Whether that worked.
    pub fn remount(&self, options: &str) -> bool {
        let options = format!("remount,{options}");
        succeeds(Command::new("mount").args(["-o", &options]).arg(&self.at))
    }

    /// Unmounts it.
    ///
    /// # Panics
    ///
    /// When something holds on to it.
    pub fn unmount(mut self) {
        assert!(self.take_away(), "nothing holds on to {}", self.at.display());
    }

    fn take_away(&mut self) -> bool {
        !std::mem::take(&mut self.mounted) || succeeds(Command::new("umount").arg(&self.at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.take_away();
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}
