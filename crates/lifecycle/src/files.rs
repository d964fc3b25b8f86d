//! Small files that somebody else wrote, read with a bound.

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
