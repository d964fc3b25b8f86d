//! Whether the executable that a line names can run: the mistakes that would otherwise show as "no such file or
//! directory" when the container starts.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What stands in the way of running a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It cannot run: the reason.
    Broken(String),
    /// It needs another program, which the run image may have.
    Needs(String),
}

/// Looks at the program that a line begins with. Names without a slash are found in PATH when the process starts, and
/// nothing can be said about them now.
pub fn check(app: &Path, name: &str) -> Option<Trouble> {
    if !name.contains('/') {
        return None;
    }
    let path = app.join(name);
    let Ok(metadata) = fs_err::metadata(&path) else {
        return Some(Trouble::Broken(format!("{name} is not in the app")));
    };
    if metadata.is_dir() {
        return Some(Trouble::Broken(format!("{name} is a folder")));
    }
    if !metadata.is_file() {
        return Some(Trouble::Broken(format!("{name} is not a regular file")));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Some(Trouble::Broken(format!("{name} is not executable (chmod +x {name})")));
    }
    let mut head = Vec::new();
    let file = fs_err::File::open(&path).ok()?;
    // Program headers come right after the first one, and the name of the loader soon after.
    file.take(64 << 10).read_to_end(&mut head).ok()?;
    let needed = interpreter(&head)?;
    (!Path::new(&needed).exists()).then(|| Trouble::Needs(format!("{name} needs {needed}")))
}

/// The program that has to be there to run a file which begins with these bytes: the interpreter of a script, the
/// loader of a dynamically linked executable.
fn interpreter(head: &[u8]) -> Option<String> {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next()?;
        let line = std::str::from_utf8(line).ok()?;
        return line.split_whitespace().next().map(str::to_owned);
    }
    elf_loader(head)
}

/// The path in the PT_INTERP header of a 64-bit little-endian ELF file (System V ABI, "Program Header").
fn elf_loader(head: &[u8]) -> Option<String> {
    const PT_INTERP: u64 = 3;
    if head.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let number = |at: usize, size: usize| {
        let bytes = head.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0_u64, |value, byte| (value << 8) | u64::from(*byte)))
    };
    let (table, entry, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        let at = usize::try_from(table.checked_add(index * entry)?).ok()?;
        if number(at, 4)? == PT_INTERP {
            let start = usize::try_from(number(at.checked_add(8)?, 8)?).ok()?;
            let name = head.get(start..)?.split(|byte| *byte == 0).next()?;
            return std::str::from_utf8(name).ok().map(str::to_owned);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is an ELF header, one program header and the loader's name.
    fn elf(kind: u8, loader: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64] = kind;
        bytes[64 + 8] = 120;
        bytes.extend_from_slice(loader);
        bytes
    }

    #[test]
    fn loaders_and_interpreters_are_found() {
        assert_eq!(interpreter(&elf(3, b"/lib/ld.so\0x")).as_deref(), Some("/lib/ld.so"));
        assert_eq!(interpreter(&elf(1, b"/lib/ld.so\0")), None);
        assert_eq!(interpreter(b"#! /usr/bin/env python\nx").as_deref(), Some("/usr/bin/env"));
        assert_eq!(interpreter(b"text"), None);
        for end in 0..120 {
            // No prefix of a file makes us panic.
            let _ = interpreter(&elf(3, b"")[..end]);
        }
    }

    #[test]
    fn an_executable_of_this_machine_says_what_it_needs() {
        let own = fs_err::read(std::env::current_exe().unwrap()).unwrap();
        let loader = interpreter(&own).unwrap_or_default();
        assert!(loader.is_empty() || loader.starts_with('/'), "{loader}");
    }

    #[test]
    fn trouble_is_seen_at_build_time() {
        let app = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8], mode| {
            fs_err::write(app.path().join(name), content).unwrap();
            fs_err::set_permissions(app.path().join(name), PermissionsExt::from_mode(mode)).unwrap();
        };
        write("plain", b"x", 0o644);
        write("good", b"\x7fELF", 0o755);
        write("script", b"#!/no/such/shell\n", 0o755);
        let broken = |text: &str| Some(Trouble::Broken(text.to_owned()));
        assert_eq!(check(app.path(), "./none"), broken("./none is not in the app"));
        assert_eq!(check(app.path(), "./"), broken("./ is a folder"));
        assert_eq!(check(app.path(), "./plain"), broken("./plain is not executable (chmod +x ./plain)"));
        assert_eq!(
            check(app.path(), "./script"),
            Some(Trouble::Needs("./script needs /no/such/shell".to_owned()))
        );
        assert_eq!(check(app.path(), "./good"), None);
        assert_eq!(check(app.path(), "server"), None);
    }
}
