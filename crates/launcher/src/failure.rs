//! What went wrong and which exit code says so.
//!
//! The words are the reference launcher's, outermost context first, because people search for them and scripts match
//! them. Operating-system errors therefore use the reference's spelling ("no such file or directory") and not Rust's.

use std::fmt;
use std::io;
use std::path::Path;

use rustix::io::Errno;

/// Exit code for anything that fails before the process is chosen (platform specification, "Launcher, Outputs").
pub const FAILED: u8 = 1;
/// Exit code for a Platform API that is missing or not supported.
pub const PLATFORM_API: u8 = 11;
/// Exit code for a buildpack whose Buildpack API is not supported.
pub const BUILDPACK_API: u8 = 12;
/// Exit code for everything that fails while the process is prepared or started.
pub const LAUNCH: u8 = 82;

/// A failure with its exit code, as it is told to the user.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// Exit code of the program.
    pub code: u8,
    /// One line, without prefix and without line feed.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// A failure of the launch itself (exit code 82).
    pub fn launch(message: impl Into<String>) -> Self {
        Failure { code: LAUNCH, message: message.into() }
    }

    /// A failed file operation: `<operation> <path>: <reason>`.
    pub fn path(operation: &str, path: &Path, error: &io::Error) -> Self {
        Failure::launch(format!("{operation} {}: {}", path.display(), reason(error)))
    }

    /// The same failure with `context` in front.
    pub fn within(self, context: impl fmt::Display) -> Self {
        Failure { code: self.code, message: format!("{context}: {}", self.message) }
    }
}

/// Puts a context in front of a failure's message.
pub trait Context<T> {
    /// Adds `context` to the failure, if there is one.
    fn context(self, context: impl fmt::Display) -> Result<T, Failure>;
}

impl<T> Context<T> for Result<T, Failure> {
    fn context(self, context: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|failure| failure.within(context))
    }
}

/// An operating-system error in the reference's words.
pub fn reason(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::InvalidInput && error.raw_os_error().is_none() {
        // A NUL byte in an argument or a variable never reaches the kernel; the reference reports EINVAL.
        return "invalid argument".to_owned();
    }
    match error.raw_os_error() {
        Some(number) => errno_text(Errno::from_raw_os_error(number)),
        None => error.to_string(),
    }
}

/// The reference's text for the errors that opening, changing to or executing a path can give.
fn errno_text(errno: Errno) -> String {
    let text = match errno {
        Errno::PERM => "operation not permitted",
        Errno::NOENT => "no such file or directory",
        Errno::IO => "input/output error",
        Errno::NXIO => "no such device or address",
        Errno::TOOBIG => "argument list too long",
        Errno::NOEXEC => "exec format error",
        Errno::AGAIN => "resource temporarily unavailable",
        Errno::NOMEM => "cannot allocate memory",
        Errno::ACCESS => "permission denied",
        Errno::NOTDIR => "not a directory",
        Errno::ISDIR => "is a directory",
        Errno::INVAL => "invalid argument",
        Errno::NFILE => "too many open files in system",
        Errno::MFILE => "too many open files",
        Errno::TXTBSY => "text file busy",
        Errno::ROFS => "read-only file system",
        Errno::NAMETOOLONG => "file name too long",
        Errno::NOSYS => "function not implemented",
        Errno::LOOP => "too many levels of symbolic links",
        Errno::LIBBAD => "accessing a corrupted shared library",
        Errno::STALE => "stale file handle",
        other => return format!("errno {}", other.raw_os_error()),
    };
    text.to_owned()
}

/// `text` between double quotes with escapes, as the reference quotes names in its messages.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c == '\x7f' => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_is_put_in_front() {
        let failure = Failure::launch("no such file or directory").within("open x").within("launch");
        assert_eq!(failure.message, "launch: open x: no such file or directory");
        assert_eq!(failure.code, LAUNCH);
    }

    #[test]
    fn system_errors_use_the_reference_words() {
        assert_eq!(reason(&io::Error::from_raw_os_error(2)), "no such file or directory");
        assert_eq!(reason(&io::Error::from_raw_os_error(13)), "permission denied");
        assert_eq!(reason(&io::Error::from_raw_os_error(8)), "exec format error");
        assert_eq!(reason(&io::Error::from_raw_os_error(4095)), "errno 4095");
        assert_eq!(reason(&io::Error::new(io::ErrorKind::InvalidInput, "nul")), "invalid argument");
    }

    #[test]
    fn quoting_escapes_what_would_break_the_line() {
        assert_eq!(quoted("web"), "\"web\"");
        assert_eq!(quoted("a\"b\\c\n\x01é"), "\"a\\\"b\\\\c\\n\\x01é\"");
    }
}
