//! `cargo xtask dist`: the static binaries that are given to people.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use fs_err as fs;
use xshell::{Shell, cmd};

use crate::needs::MUSL;

/// What runs in every app image must stay small.
const LAUNCHER_LIMIT: u64 = 1024 * 1024;

/// Builds `dist/pannier` and `dist/launcher`, and the checksums beside them.
///
/// # Errors
///
/// When a build fails, a binary is not static, or the launcher is too large.
pub fn run(shell: &Shell) -> Result<()> {
    let dist = shell.current_dir().join("dist");
    fs::create_dir_all(&dist)?;
    let built = crate::target_folder(shell)?.join(MUSL);

    // A release takes the time that a developer's build does not (see the profile `launcher`).
    cmd!(shell, "cargo build --release --target {MUSL} --package pannier")
        .env("CARGO_PROFILE_LAUNCHER_LTO", "fat")
        .env("CARGO_PROFILE_LAUNCHER_CODEGEN_UNITS", "1")
        .env_remove("PANNIER_EMBEDDED_DIR")
        .run()?;
    // The very launcher that is in `pannier`: see the build script of crates/embedded.
    let launcher = built.join("embedded").join(MUSL).join("launcher/pannier-launcher");
    let files = [(launcher, "launcher"), (built.join("release/pannier"), "pannier")];
    for (from, to) in &files {
        fs::copy(from, dist.join(to))?;
        ensure_static(&dist.join(to))?;
    }
    let size = fs::metadata(dist.join("launcher"))?.len();
    ensure!(size <= LAUNCHER_LIMIT, "the launcher has {size} bytes, more than {LAUNCHER_LIMIT}");

    let _inside = shell.push_dir(&dist);
    let names = files.map(|(_, name)| name);
    let sums = cmd!(shell, "sha256sum {names...}").read()?;
    fs::write(dist.join("SHA256SUMS"), format!("{sums}\n"))?;
    println!("\nin {}:", dist.display());
    for name in names {
        println!("  {name}, {} bytes, static", fs::metadata(dist.join(name))?.len());
    }
    Ok(())
}

/// A static ELF program asks for no interpreter (program header type 3).
fn ensure_static(program: &Path) -> Result<()> {
    let bytes = fs::read(program)?;
    let number = |at: usize, size: usize| -> Result<usize> {
        let field = bytes.get(at..at + size).context("the file ends too early")?;
        Ok(field.iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte)))
    };
    ensure!(bytes.starts_with(b"\x7fELF\x02\x01"), "{} is no 64-bit ELF program", program.display());
    let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for header in 0..count {
        let kind = number(start + header * size, 4)?;
        ensure!(kind != 3, "{} is linked dynamically", program.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_an_interpreter() {
        // Test programs of the host's own target are linked dynamically, except on musl.
        let this = std::env::current_exe().expect("it is known");
        assert_eq!(ensure_static(&this).is_ok(), cfg!(target_feature = "crt-static"));
        let text = tempfile::NamedTempFile::new().expect("a file");
        assert!(ensure_static(text.path()).is_err());
    }
}
