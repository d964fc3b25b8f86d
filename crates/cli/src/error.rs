//! What a verb fails with: one clear line, perhaps a hint, and the exit code.
//!
//! Errors of the libraries become this once, here at the edge; nothing below knows of exit codes.

use std::error::Error;
use std::path::Path;

/// What to do about a full disk.
pub const FULL_DISK: &str = "make room on the disk: `pannier prune` removes what no image needs";

/// What to do where an overlay that was asked for cannot be had.
const NO_OVERLAY: &str =
    "`pannier doctor` says what this machine lacks; without --restore overlay, copies are made";

/// A failed verb. Printed as `error: …`, its causes, and `hint: …`.
#[derive(Debug)]
pub struct CommandError {
    /// What failed; its sources are printed after it.
    pub error: Box<dyn Error + Send + Sync>,
    /// What the user can do about it, each a line.
    pub hints: Vec<String>,
    /// Text that was made to be shown as it is, such as a piece of a file with a caret under the fault.
    pub detail: Option<String>,
    /// The exit code of the program.
    pub exit_code: u8,
}

impl CommandError {
    /// A failure with exit code 1, and the hint that the library has, if any.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let error = error.into();
        let hints = library_hints(&*error);
        let mut error = Self { error, hints, detail: None, exit_code: 1 };
        error.hints.extend(refused_writing(&error.message()));
        if error.message().contains("cannot mount an overlay") {
            error.hints.push(NO_OVERLAY.to_owned());
        }
        error
    }

    /// Adds a line that says what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        if !self.hints.contains(&hint) {
            self.hints.push(hint);
        }
        self
    }

    /// Sets the exit code.
    pub fn code(mut self, exit_code: u8) -> Self {
        self.exit_code = exit_code;
        self
    }

    /// Adds text to be shown as it is.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// True when it is the answer of a registry, or that there was none.
    pub fn is_of_registry(&self) -> bool {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&*self.error);
        while let Some(error) = cause {
            let of_registry = matches!(error.downcast_ref(), Some(oci::Error::Registry(_)));
            if of_registry || error.is::<oci::registry::Error>() {
                return true;
            }
            cause = error.source();
        }
        false
    }

    /// The error and its causes on one line, each cause once, without secrets in URLs.
    pub fn message(&self) -> String {
        let mut message = self.error.to_string();
        let mut source = self.error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            source = cause.source();
        }
        events::without_secrets(&message).into_owned()
    }
}

/// What to do about a file that could not be written. By the text: of errors that pass their cause off as themselves, the
/// chain of causes lacks the system's.
fn refused_writing(message: &str) -> Vec<String> {
    let said = |number: u32| message.contains(&format!("(os error {number})"));
    let full = disk_of(message).map(|disk| disk.to_string());
    // ENOSPC, EDQUOT, EFBIG, EROFS.
    if said(28) {
        return full.into_iter().chain([FULL_DISK.to_owned()]).collect();
    }
    let what = match () {
        () if said(122) => "a quota of the disk is used up; ",
        () if said(27) => {
            return vec![
                "the file is larger than the file system or the limit of file sizes (`ulimit -f`) allows"
                    .to_owned(),
            ];
        }
        () if said(30) => {
            return vec!["the disk is read-only: --home can name a folder on another one".to_owned()];
        }
        () => return Vec::new(),
    };
    full.into_iter().chain([format!("{what}{FULL_DISK}")]).collect()
}

/// The full disk of the first path in a message that is on one.
fn disk_of(message: &str) -> Option<layer::FullDisk> {
    let words = message.split(|ch: char| ch.is_whitespace() || "`'\"(),".contains(ch));
    let paths = words.filter(|word| word.starts_with('/')).map(|word| Path::new(word.trim_end_matches(':')));
    paths.filter_map(|path| path.ancestors().find(|it| it.exists())).find_map(layer::FullDisk::look)
}

/// What images and registries say about their own errors, wherever in the chain of causes they are.
fn library_hints(error: &(dyn Error + Send + Sync + 'static)) -> Vec<String> {
    let mut hints = Vec::new();
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let hint = match (error.downcast_ref::<oci::Error>(), error.downcast_ref::<oci::registry::Error>()) {
            (Some(error), _) => error.hint(),
            (_, Some(error)) => error.hint(),
            _ => None,
        };
        hints.extend(hint.filter(|hint| !hints.contains(hint)));
        cause = error.source();
    }
    hints
}

impl<E: Error + Send + Sync + 'static> From<E> for CommandError {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot build")]
    struct Outer(#[source] oci::Error);

    #[test]
    fn hints_of_libraries_are_kept() {
        let busy = || oci::Error::Busy { what: "the store".to_owned() };
        for error in [CommandError::from(busy()), CommandError::from(Outer(busy()))] {
            assert_eq!(error.hints, ["wait until other builds are done"]);
        }
        assert_eq!(
            CommandError::from(Outer(busy())).message(),
            "cannot build: the store is in use by another process"
        );
        assert!(CommandError::new("text").hints.is_empty());
        assert_eq!(
            CommandError::from(busy()).hint("wait until other builds are done").hints.len(),
            1,
            "said once"
        );
        let full = std::io::Error::from_raw_os_error(28);
        assert!(CommandError::from(full).hints[0].starts_with("make room on the disk"));
        for (number, hint) in [(122, "quota"), (27, "ulimit"), (30, "read-only")] {
            let error = CommandError::from(std::io::Error::from_raw_os_error(number));
            assert!(error.hints[0].contains(hint), "{:?}", error.hints);
        }
        let on_proc = CommandError::new("failed to write to file `/proc/none/x`: no space (os error 28)");
        assert_eq!(on_proc.hints[0], "no space is left on the disk of /proc: 0 bytes are free");
        let none = CommandError::new("cannot mount an overlay of 3 trees on /x");
        assert!(none.hints[0].starts_with("`pannier doctor` says"));
    }
}
