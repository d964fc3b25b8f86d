//! Errors that point at a place in a Dockerfile.
//!
//! Every complaint about a Dockerfile, from its syntax to a `RUN` that fails, is a [`SourceError`]: one line with file,
//! line and column, and what a terminal needs to draw the place. Not here: drawing.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A Dockerfile's text and the name to show for it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) file: String,
    pub(crate) text: Arc<str>,
}

/// Something in a Dockerfile is wrong, at a place.
///
/// Prints as one line, `<file>:<line>:<column>: <message>`.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceError {
    inner: Box<Inner>,
}

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    source: Source,
    span: Range<usize>,
    message: String,
    help: Option<String>,
}

impl SourceError {
    pub(crate) fn new(source: &Source, span: Range<usize>, message: impl Into<String>) -> Self {
        let end = span.end.min(source.text.len());
        let span = span.start.min(end)..end;
        Self { inner: Box::new(Inner { source: source.clone(), span, message: message.into(), help: None }) }
    }

    /// The same error with a line that says what to do.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.inner.help = Some(help.into());
        self
    }

    /// The name of the file it is about.
    pub fn file(&self) -> &str {
        &self.inner.source.file
    }

    /// The text of that file: what [`SourceError::span`] counts in.
    pub fn text(&self) -> &str {
        &self.inner.source.text
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// What to do about it, where there is something to say.
    pub fn help(&self) -> Option<&str> {
        self.inner.help.as_deref()
    }

    /// The place in bytes of the text.
    pub fn span(&self) -> Range<usize> {
        self.inner.span.clone()
    }

    /// Line and column of the place, both from 1, the column in characters.
    pub fn line_column(&self) -> (usize, usize) {
        line_column(&self.inner.source.text, self.inner.span.start)
    }

    /// The line of the file where the place begins, without its end.
    pub fn source_line(&self) -> &str {
        let text = &self.inner.source.text;
        let (line, _) = self.line_column();
        text.lines().nth(line - 1).unwrap_or("")
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.line_column();
        write!(f, "{}:{line}:{column}: {}", self.file(), self.message())
    }
}

impl fmt::Debug for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceError")
            .field("place", &format!("{}:{:?}", self.file(), self.line_column()))
            .field("message", &self.message())
            .field("help", &self.help())
            .finish_non_exhaustive()
    }
}

impl std::error::Error for SourceError {}

/// Line and column, both from 1, of the byte at `offset`, or of the character it is within.
pub(crate) fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let offset = (0..=offset.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The one of `known` that `word` is most likely a misspelling of.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|name| (distance(&word.to_ascii_lowercase(), &name.to_ascii_lowercase()), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// How many letters must be added, dropped or changed to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let change = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_place() {
        let source = Source { file: "x/run.Dockerfile".into(), text: "FROM a\n# é é COPPY\n".into() };
        let at = source.text.find("COPPY").unwrap();
        let error =
            SourceError::new(&source, at..at + 5, "unknown instruction `COPPY`").with_help("try `COPY`");
        assert_eq!(error.to_string(), "x/run.Dockerfile:2:7: unknown instruction `COPPY`");
        assert_eq!(error.source_line(), "# é é COPPY");
        assert_eq!(&error.text()[error.span()], "COPPY");
        let past = SourceError::new(&source, 900..1000, "odd");
        assert_eq!(past.line_column(), (3, 1));
        assert_eq!(past.source_line(), "");
    }

    #[test]
    fn finds_what_was_meant() {
        let known = ["COPY", "CMD", "RUN", "ENTRYPOINT"];
        assert_eq!(nearest("COPPY", known), Some("COPY"));
        assert_eq!(nearest("entrypont", known), Some("ENTRYPOINT"));
        assert_eq!(nearest("RNU", known), None);
        assert_eq!(nearest("RUNN", known), Some("RUN"));
        assert_eq!(nearest("PRINT", known), None);
    }
}
