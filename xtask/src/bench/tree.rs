//! A big tree as real ones are: programs, libraries and text, taken from what is on the machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail, ensure};
use fs_err as fs;

/// The average size of a file in bytes: 15,000 files are 1.3 GiB.
const AVERAGE: u64 = 93 << 10;
/// The largest file that is taken, in bytes.
const LARGEST: u64 = 100 << 20;

/// Fills `folder` with about `size` MiB.
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

    /// Whether a file of this size fits: a small one while there are too few files for the bytes so far, a large one
    /// otherwise, and never more than is asked for.
    fn wants(&self, size: u64) -> bool {
        let too_few = self.files * AVERAGE <= self.bytes;
        let wanted = if too_few { 0..=AVERAGE } else { AVERAGE..=LARGEST };
        wanted.contains(&size) && size <= self.size - self.bytes + AVERAGE
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_size_asked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        make(folder.path(), 20).expect("it can be filled");
        let output = Command::new("sh")
            .args(["-c", "find . -type f -printf '%s\\n'"])
            .current_dir(folder.path())
            .output();
        let sizes = String::from_utf8(output.expect("find runs").stdout).expect("numbers");
        let sizes = sizes.lines().map(|line| line.parse::<u64>().expect("a number")).collect::<Vec<_>>();
        let bytes = sizes.iter().sum::<u64>();
        assert!((20 << 20..21 << 20).contains(&bytes), "{bytes} bytes");
        // On average 93 KiB each.
        assert!((150..300).contains(&sizes.len()), "{} files", sizes.len());
    }
}
