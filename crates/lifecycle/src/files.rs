//! Small files that somebody else wrote, read with a bound.

use std::fs::File;
use std::io;
use std::path::Path;

use fs_err::OpenOptions;
use layer::{PathError, Root};

/// No descriptor that anybody writes is longer; one that is would be an attack.
pub(crate) const DESCRIPTOR_LIMIT: u64 = 16 * 1024 * 1024;

/// The text of a file, or nothing where there is none.
pub(crate) fn read_optional(root: &Root, name: &str) -> Result<Option<String>, PathError> {
    match root.lstat(name) {
        Ok(_) => root.read_to_string(name, DESCRIPTOR_LIMIT).map(Some),
        Err(_) => Ok(None),
    }
}

/// Makes a file for a program, in place of whatever is at `path`. The folder may be a program's to write to, and an
/// earlier one may have put a symlink there: it is removed, never followed.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    let create = || OpenOptions::new().write(true).create_new(true).open(path);
    match create() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs_err::remove_file(path)?;
            create()
        }
        result => result,
    }
    .map(|file| file.into_parts().0)
}
