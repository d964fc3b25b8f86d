//! What a verb fails with: one clear line, perhaps a hint, and the exit code.
//!
//! Errors of the libraries become this once, here at the edge; nothing below knows of exit codes.

use std::error::Error;

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
    /// A failure with exit code 1 and no hint.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { error: error.into(), hints: Vec::new(), detail: None, exit_code: 1 }
    }

    /// Adds a line that says what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
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

    /// The error and its causes on one line, each cause once.
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
        message
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for CommandError {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}
