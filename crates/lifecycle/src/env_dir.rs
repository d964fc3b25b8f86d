//! Folders whose files are variables: the name of a file is the variable's, its content the value.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use cnb::env::EnvDir;
use layer::{PathError, Root};

/// The most that a variable can hold: what Linux lets one be (MAX_ARG_STRLEN).
const VALUE_LIMIT: u64 = 128 * 1024;

/// Reads the files in the folder `path`; one that is not there is empty. Folders in it are left out.
pub fn read(root: &Root, path: &Path) -> Result<EnvDir, PathError> {
    if !root.is_dir(path) {
        return Ok(EnvDir::default());
    }
    let mut files = Vec::new();
    for entry in root.read_dir(path)? {
        let file = path.join(&entry.name);
        let Ok(name) = entry.name.into_string() else { continue };
        if root.is_file(&file) {
            files.push((name, OsString::from_vec(root.read(&file, VALUE_LIMIT)?)));
        }
    }
    Ok(files.into_iter().collect())
}
