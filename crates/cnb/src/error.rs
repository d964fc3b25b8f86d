//! What is wrong with a file, and where. Drawing it (the line, a caret) is for the program at the edge.

use std::fmt;
use std::ops::Range;

use serde::de::DeserializeOwned;

/// What is said of an API that we do not speak.
pub(crate) const UNSUPPORTED_API: &str = "is not supported, only ";

/// A file that is not what the specification says it is.
///
/// Displays as `FILE:LINE:COLUMN: message`, as far as the place is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The file, named as the caller named it.
    pub file: String,
    /// What was expected or not allowed: a lower-case fragment.
    pub message: String,
    /// Where, when that is known.
    pub place: Option<Place>,
}

/// A piece of a text file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The bytes of the file that are meant.
    pub span: Range<usize>,
    /// The line where it begins, from 1.
    pub line: usize,
    /// The column where it begins, in characters, from 1.
    pub column: usize,
    /// The text of that line, without its end.
    pub text: String,
}

impl Place {
    /// The place of `span` in `text`. A span beyond the end is moved to the end.
    pub fn new(text: &str, span: Range<usize>) -> Self {
        let mut start = span.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let head = &text[..start];
        let line_start = head.rfind('\n').map_or(0, |end| end + 1);
        let line = text[line_start..].lines().next().unwrap_or_default();
        Self {
            line: head.matches('\n').count() + 1,
            column: head[line_start..].chars().count() + 1,
            text: line.to_owned(),
            span: start..span.end.clamp(start, text.len()),
        }
    }
}

impl ParseError {
    /// An error about the file as a whole.
    pub fn new(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self { file: file.into(), message: message.into(), place: None }
    }

    /// An error about the bytes `span` of `text`.
    pub fn at(file: impl Into<String>, message: impl Into<String>, text: &str, span: Range<usize>) -> Self {
        Self { place: Some(Place::new(text, span)), ..Self::new(file, message) }
    }

    /// True when the file is right but for an API that we do not speak.
    pub fn is_unsupported_api(&self) -> bool {
        self.message.contains(UNSUPPORTED_API)
    }

    fn toml(file: &str, text: &str, error: &toml::de::Error) -> Self {
        let message = error.message().trim().replace('\n', ", ");
        match error.span() {
            Some(span) => Self::at(file, message, text, span),
            None => Self::new(file, message),
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(out, "{}:{}:{}: {}", self.file, place.line, place.column, self.message),
            None => write!(out, "{}: {}", self.file, self.message),
        }
    }
}

impl std::error::Error for ParseError {}

/// The text of a file that has to be UTF-8, as TOML and JSON are.
///
/// # Errors
/// Bytes that are not UTF-8; the message says where they begin.
pub fn utf8<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, ParseError> {
    std::str::from_utf8(bytes)
        .map_err(|error| ParseError::new(file, format!("not valid UTF-8 at byte {}", error.valid_up_to())))
}

/// Reads TOML into a type; keys that the type does not have are ignored, as the reference does everywhere.
pub(crate) fn from_toml<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, ParseError> {
    toml::from_str(text).map_err(|error| ParseError::toml(file, text, &error))
}

/// Reads JSON into a type; keys that the type does not have are ignored.
#[cfg(feature = "full")]
pub(crate) fn from_json<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, ParseError> {
    serde_json::from_str(text).map_err(|error| {
        // The library counts lines and columns from 1, columns in bytes, and says them once more in its message.
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
        let start: usize =
            text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        let at = start + error.column().saturating_sub(1);
        ParseError::at(file, message, text, at..at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_in_characters_from_one() {
        let place = Place::new("a = 1\nü = x\n", 11..12);
        assert_eq!((place.line, place.column, place.text.as_str()), (2, 5, "ü = x"));
    }

    #[test]
    fn a_place_beyond_the_end_is_the_end() {
        assert_eq!(Place::new("ab", 9..12).span, 2..2);
        assert_eq!(Place::new("", 0..0).text, "");
    }

    #[test]
    fn a_wrong_type_is_shown_where_it_is() {
        #[derive(Debug, serde::Deserialize)]
        struct One {
            #[expect(dead_code, reason = "only its type matters")]
            id: String,
        }
        let error = from_toml::<One>("buildpack.toml", "# c\nid = 3\n").unwrap_err();
        assert_eq!(error.to_string(), "buildpack.toml:2:6: invalid type: integer `3`, expected a string");
        assert_eq!(error.place.unwrap().span, 9..10);
    }

    #[test]
    fn depth_takes_no_stack() {
        for text in [
            format!("a{} = 1", ".a".repeat(200_000)),
            format!("[a{}]", ".a".repeat(200_000)),
            format!("a = {}", "[".repeat(200_000)),
            format!("a = {}", "{a=".repeat(200_000)),
        ] {
            // On a small stack, as threads have.
            let read = move || from_toml::<toml::Value>("x.toml", &text).map(drop).is_err();
            let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(read).unwrap();
            assert!(thread.join().unwrap(), "nobody writes this");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_named() {
        assert_eq!(utf8("x.toml", b"ab\xff").unwrap_err().to_string(), "x.toml: not valid UTF-8 at byte 2");
    }
}
