//! The Procfile: `type: command line`, one a line; empty lines and lines that begin with `#` say nothing.

use std::fmt;

/// A line of the Procfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 1.
    pub number: usize,
    /// The process type.
    pub r#type: String,
    /// The command line, as it is written.
    pub command: String,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineError {
    /// The line, from 1.
    pub number: usize,
    /// What was expected there.
    pub message: String,
}

impl fmt::Display for LineError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Procfile line {}: {}", self.number, self.message)
    }
}

impl std::error::Error for LineError {}

/// Reads the text of a Procfile.
///
/// # Errors
/// A line is not `type: command`, or a type is there twice, or there is no line at all.
pub fn parse(text: &str) -> Result<Vec<Entry>, LineError> {
    let mut entries: Vec<Entry> = Vec::new();
    for (line, number) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fail = |message: String| LineError { number, message };
        let (name, command) = line
            .split_once(':')
            .map(|(name, command)| (name.trim_end(), command.trim()))
            .filter(|(name, command)| is_type(name) && !command.is_empty())
            .ok_or_else(|| fail(format!("expected `type: command`, found `{line}`")))?;
        if let Some(first) = entries.iter().find(|entry| entry.r#type == name) {
            return Err(fail(format!("`{name}` is defined on line {} already", first.number)));
        }
        entries.push(Entry { number, r#type: name.to_owned(), command: command.to_owned() });
    }
    if entries.is_empty() {
        return Err(LineError { number: 1, message: "no process is defined".to_owned() });
    }
    Ok(entries)
}

/// The type that an image starts by itself: `web`, or the only one.
pub fn default_type(entries: &[Entry]) -> Option<&str> {
    match entries {
        [only] => Some(&only.r#type),
        many => many.iter().map(|entry| entry.r#type.as_str()).find(|name| *name == "web"),
    }
}

fn is_type(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_types_and_commands() {
        let entries = parse("# app\r\nweb: ./server -p 80\r\n\n  worker_1:./work: x\nurl:http://x").unwrap();
        let shown: Vec<_> = entries
            .iter()
            .map(|entry| (entry.number, entry.r#type.as_str(), entry.command.as_str()))
            .collect();
        assert_eq!(
            shown,
            [(2, "web", "./server -p 80"), (4, "worker_1", "./work: x"), (5, "url", "http://x")]
        );
    }

    #[test]
    fn errors_name_the_line() {
        for (text, message) in [
            ("web ./server", "Procfile line 1: expected `type: command`, found `web ./server`"),
            ("\nweb:", "Procfile line 2: expected `type: command`, found `web:`"),
            ("a/b: x", "Procfile line 1: expected `type: command`, found `a/b: x`"),
            ("web: a\nweb: b", "Procfile line 2: `web` is defined on line 1 already"),
            ("# nothing\n", "Procfile line 1: no process is defined"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn web_or_the_only_one_is_the_default() {
        let default = |text| default_type(&parse(text).unwrap()).map(str::to_owned);
        assert_eq!(default("a: x").as_deref(), Some("a"));
        assert_eq!(default("a: x\nweb: y").as_deref(), Some("web"));
        assert_eq!(default("a: x\nb: y"), None);
    }
}
