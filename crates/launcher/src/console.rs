//! What the launcher says: warnings and one error, on standard output (where the reference writes them), with the
//! prefix coloured unless CNB_NO_COLOR says otherwise. A terminal is not asked for: container logs show colours too.

use std::io::Write;

/// Writes messages to standard output.
#[derive(Clone, Copy, Debug)]
pub struct Console {
    colour: bool,
}

impl Console {
    /// A console; `no_color` is the value of CNB_NO_COLOR, in any spelling of true.
    pub fn new(no_color: Option<&str>) -> Self {
        let off = matches!(no_color, Some("1" | "t" | "T" | "TRUE" | "true" | "True"));
        Console { colour: !off }
    }

    /// One warning line.
    pub fn warn(self, message: &str) {
        self.line("33;1", "Warning: ", message);
    }

    /// One error line.
    pub fn error(self, message: &str) {
        self.line("31;1", "ERROR: ", message);
    }

    fn line(self, style: &str, prefix: &str, message: &str) {
        // Nobody is left to tell when standard output is gone.
        let _ = std::io::stdout().write_all(self.format(style, prefix, message).as_bytes());
    }

    fn format(self, style: &str, prefix: &str, message: &str) -> String {
        if self.colour {
            format!("\x1b[{style}m{prefix}\x1b[0m{message}\n")
        } else {
            format!("{prefix}{message}\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_coloured_unless_told() {
        assert_eq!(Console::new(None).format("31;1", "ERROR: ", "x"), "\x1b[31;1mERROR: \x1b[0mx\n");
        assert_eq!(Console::new(Some("no")).format("31;1", "ERROR: ", "x"), "\x1b[31;1mERROR: \x1b[0mx\n");
        assert_eq!(Console::new(Some("true")).format("31;1", "ERROR: ", "x"), "ERROR: x\n");
    }
}
