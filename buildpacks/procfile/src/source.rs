//! The Procfile itself: where it is, and what is read of it.
//!
//! Its lines are printed, and so are its mistakes. A link could make them those of another file, such as this program's
//! environment: only a regular file of the app is a Procfile.

use std::io::{self, Read as _};
use std::path::Path;

/// The name it has in the app's folder.
const NAME: &str = "Procfile";
/// The longest one that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// True when the app has something of that name that can be a Procfile, or is meant to be one.
pub fn is_there(app: &Path) -> bool {
    app.join(NAME).is_file()
}

/// The text of the app's Procfile.
///
/// # Errors
/// When it is not in the app, is not a regular file of UTF-8, or is longer than 1 MiB.
pub fn read(app: &Path) -> io::Result<String> {
    let refuse = |reason: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{NAME} {reason}")));
    let path = fs_err::canonicalize(app.join(NAME))?;
    if !path.starts_with(fs_err::canonicalize(app)?) {
        return refuse("is a link that leads out of the app");
    }
    // A pipe would be waited for, and a device has no end.
    if !fs_err::metadata(&path)?.is_file() {
        return refuse("is not a regular file");
    }
    let mut text = String::new();
    fs_err::File::open(&path)?.take(LIMIT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LIMIT {
        return refuse(&format!("is larger than the {LIMIT} bytes expected at most"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_a_file_of_the_app_is_read() {
        let app = tempfile::tempdir().unwrap();
        let at = |name: &str| app.path().join(name);
        fs_err::write(at("web"), "web: run\n").unwrap();
        symlink("web", at(NAME)).unwrap();
        assert_eq!(read(app.path()).unwrap(), "web: run\n");
        for (target, reason) in [
            ("/proc/self/environ", "leads out of the app"),
            ("/etc/passwd", "leads out of the app"),
            ("/dev/zero", "leads out of the app"),
            (".", "is not a regular file"),
        ] {
            fs_err::remove_file(at(NAME)).unwrap();
            symlink(target, at(NAME)).unwrap();
            let error = read(app.path()).unwrap_err().to_string();
            assert!(error.contains(reason), "{target}: {error}");
        }
        fs_err::remove_file(at(NAME)).unwrap();
        fs_err::write(at(NAME), "x".repeat(LIMIT as usize + 1)).unwrap();
        assert!(read(app.path()).unwrap_err().to_string().contains("larger than the 1048576 bytes"));
    }
}
