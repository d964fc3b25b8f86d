//! Lexical path arithmetic as the reference does it: `/layers/` and `/x/../layers` are `/layers` in every variable the
//! process gets, so that PATH entries are the same bytes whatever the platform put into CNB_LAYERS_DIR.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// `base/name`, cleaned. An empty `base` is not the root.
pub fn join(base: &Path, name: impl AsRef<OsStr>) -> PathBuf {
    let (base, name) = (base.as_os_str().as_bytes(), name.as_ref().as_bytes());
    let mut bytes = Vec::with_capacity(base.len() + name.len() + 1);
    bytes.extend_from_slice(base);
    if !base.is_empty() && !name.is_empty() {
        bytes.push(b'/');
    }
    bytes.extend_from_slice(name);
    if bytes.is_empty() { PathBuf::new() } else { clean(&bytes) }
}

/// `path` as seen from the root, cleaned.
pub fn absolute(path: &Path) -> PathBuf {
    if path.is_absolute() {
        return clean(path.as_os_str().as_bytes());
    }
    // Without a working directory the path stays what it is, and the next use of it says why.
    std::env::current_dir().map_or_else(|_| path.to_owned(), |here| join(&here, path))
}

/// The shortest path that means the same without looking at the file system.
fn clean(path: &[u8]) -> PathBuf {
    let rooted = path.first() == Some(&b'/');
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match parts.last() {
                Some(last) if *last != b".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(part),
            },
            _ => parts.push(part),
        }
    }
    let mut out = Vec::with_capacity(path.len());
    if rooted {
        out.push(b'/');
    }
    out.extend_from_slice(&parts.join(&b'/'));
    if out.is_empty() {
        out.push(b'.');
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joining_cleans() {
        for (base, name, want) in [
            ("/layers/", "config", "/layers/config"),
            ("/layers", "a_b", "/layers/a_b"),
            ("/x/../layers//", "./l", "/layers/l"),
            ("/..", "bin", "/bin"),
            ("layers", "../../x", "../x"),
            ("", "bin", "bin"),
            ("bin", "", "bin"),
            ("a", "..", "."),
            ("", "", ""),
        ] {
            assert_eq!(join(Path::new(base), name), Path::new(want), "{base} + {name}");
        }
    }
}
