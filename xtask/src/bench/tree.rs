//! A big tree as real ones are: programs, libraries and text, taken from what is on the machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail, ensure};
use fs_err as fs;

/// Files that the tree should have about.
const FILES: u64 = 15_000;

/// Fills `folder` with about `size` MiB in about 15,000 files.
pub fn make(folder: &Path, size: u64) -> Result<()> {
    fs::create_dir_all(folder)?;
    let mut taken = Taken { bytes: 0, files: 0, size: size << 20 };
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let sources = [
        home.join(".rustup/toolchains"),
        "/usr/local/go".into(),
        "/usr/lib".into(),
        "/usr/share".into(),
        "/usr".into(),
    ];
    for (number, source) in sources.iter().enumerate() {
        if taken.enough() {
            break;
        }
        take(source, &folder.join(format!("part{number}")), &mut taken)?;
    }
    // A machine with little on it: the rest is what compresses as programs do, made of its own programs.
    let mut copy = 0;
    while !taken.enough() {
        copy += 1;
        ensure!(copy < 100, "not enough to copy on this machine");
        take(Path::new("/usr"), &folder.join(format!("copy{copy}")), &mut taken)?;
    }
    let Taken { bytes, files, .. } = taken;
    println!("a tree of {} MiB in {files} files", bytes >> 20);
    Ok(())
}

struct Taken {
    bytes: u64,
    files: u64,
    size: u64,
}

impl Taken {
    fn enough(&self) -> bool {
        self.bytes >= self.size
    }

    /// Whether a file of this size fits: once there are files enough, only large ones are taken; while there are too
    /// few, no giants.
    fn wants(&self, size: u64) -> bool {
        let average = self.size / FILES;
        let behind = self.files * average < self.bytes;
        if behind { size < 40 * average } else { size > average / 2 }
    }
}

fn take(source: &Path, to: &Path, taken: &mut Taken) -> Result<()> {
    let Ok(entries) = fs::read_dir(source) else { return Ok(()) };
    let mut entries = entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>();
    entries.sort();
    for path in entries {
        if taken.enough() {
            return Ok(());
        }
        let Ok(about) = fs::symlink_metadata(&path) else { continue };
        let Some(name) = path.file_name() else { continue };
        if about.is_dir() {
            take(&path, &to.join(name), taken)?;
        } else if about.is_file() && taken.wants(about.len()) {
            fs::create_dir_all(to)?;
            if fs::copy(&path, to.join(name)).is_ok() {
                taken.bytes += about.len();
                taken.files += 1;
            }
        }
    }
    Ok(())
}

/// Reads the whole tree once, so that every command after it finds it in memory.
pub fn warm(folder: &Path) -> Result<()> {
    let status = Command::new("sh")
        .args(["-c", "tar -C \"$1\" -cf - . | cat > /dev/null", "sh"])
        .arg(folder)
        .status()?;
    if !status.success() {
        bail!("{} can't be read", folder.display());
    }
    Ok(())
}
