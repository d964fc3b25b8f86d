//! From a Dockerfile's text to its instructions.
//!
//! What counts is what BuildKit makes of the same text: lines are joined first, then each is read by its instruction's
//! own rules. There is one stage. Not here: variables, and which
//! instructions image extensions may use.

mod arguments;
mod flags;
mod lines;
mod mount;

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Source, SourceError, nearest};
use crate::expand;
use crate::instruction::{Heredoc, Instruction, InstructionKind};
use lines::{Line, Lines};
pub(crate) use mount::parse as parse_mount;

/// A Dockerfile's instructions.
#[derive(Clone)]
pub struct Dockerfile {
    pub(crate) source: Source,
    /// The character that escapes and continues lines: a backslash, or a backtick by directive.
    pub escape: char,
    /// The instructions, at least one.
    pub instructions: Vec<Instruction>,
}

/// What is wrong, at a place of the text.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Fault {
    pub(crate) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: None }
    }

    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn at(self, source: &Source) -> SourceError {
        let error = SourceError::new(source, self.span, self.message);
        match self.help {
            Some(help) => error.with_help(help),
            None => error,
        }
    }
}

/// The instructions there are.
const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

impl Dockerfile {
    /// Parses a Dockerfile's text. `file` is only shown.
    ///
    /// # Errors
    /// The first thing that is not right, with its place.
    pub fn parse(file: &str, text: &str) -> Result<Self, SourceError> {
        let source = Source { file: file.to_owned(), text: Arc::from(text) };
        match parse(text) {
            Ok((escape, instructions)) => Ok(Self { source, escape, instructions }),
            Err(fault) => Err(fault.at(&source)),
        }
    }

    /// The name to show for the file.
    pub fn file(&self) -> &str {
        &self.source.file
    }

    /// The text that was parsed.
    pub fn text(&self) -> &str {
        &self.source.text
    }

    /// An error at a place of this file, `span` in bytes of its text.
    pub fn error(&self, span: &Range<usize>, message: impl Into<String>) -> SourceError {
        SourceError::new(&self.source, span.clone(), message)
    }
}

impl std::fmt::Debug for Dockerfile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dockerfile")
            .field("file", &self.source.file)
            .field("escape", &self.escape)
            .field("instructions", &self.instructions)
            .finish_non_exhaustive()
    }
}

fn parse(text: &str) -> Result<(char, Vec<Instruction>), Fault> {
    if let Some(at) = text.find('\0') {
        // Neither programs nor file names have any.
        return Err(Fault::new(at..at + 1, "a zero byte, expected text"));
    }
    let mut lines = Lines::new(text);
    let mut instructions = Vec::new();
    let mut stages = 0;
    while let Some(line) = lines.next()? {
        let instruction = instruction(&line, &mut lines)?;
        stages += usize::from(matches!(instruction.kind, InstructionKind::From(_)));
        // Said before anything about what is wrong in that stage.
        if stages > 1 {
            let message = "a second FROM: a Dockerfile of an image extension has one stage only";
            return Err(Fault::new(instruction.span, message));
        }
        instructions.push(instruction);
    }
    if instructions.is_empty() {
        return Err(Fault::new(0..0, "the file has no instructions"));
    }
    Ok((lines.escape, instructions))
}

fn instruction(line: &Line, lines: &mut Lines<'_>) -> Result<Instruction, Fault> {
    let (keyword, rest) = split_keyword(line);
    let name = line.text[keyword.clone()].to_ascii_uppercase();
    check_keyword(line, keyword, &name)?;
    let flags = flags::split(line, rest, lines.escape);
    let arguments = flags.rest.clone();
    let heredocs = if takes_heredocs(line, &name, &arguments) { heredocs(line, lines)? } else { Vec::new() };
    let end = if heredocs.is_empty() {
        line.source_end
    } else {
        // The line that ends the last one was read just now.
        lines.text[..lines.at].trim_end_matches(['\r', '\n']).len()
    };
    let reader = arguments::Reader { line, keyword: name, flags, arguments, heredocs, escape: lines.escape };
    let kind = reader.read()?;
    let span = line.source(0..0).start..end;
    Ok(Instruction { kind, span, line: line.number, text: line.text.clone() })
}

/// The keyword, and where the rest begins.
fn split_keyword(line: &Line) -> (Range<usize>, usize) {
    let text = &line.text;
    let end = text.find(is_space).unwrap_or(text.len());
    let rest = text[end..].find(|ch| !is_space(ch)).map_or(text.len(), |at| end + at);
    (0..end, rest)
}

/// What separates a keyword from its arguments, and arguments from each other.
fn is_space(ch: char) -> bool {
    matches!(ch, ' ' | '\t' | '\u{b}' | '\u{c}' | '\r')
}

fn check_keyword(line: &Line, keyword: Range<usize>, name: &str) -> Result<(), Fault> {
    if KEYWORDS.contains(&name) {
        return Ok(());
    }
    let fault =
        Fault::new(line.source(keyword.clone()), format!("unknown instruction `{}`", &line.text[keyword]));
    Err(match nearest(name, KEYWORDS) {
        Some(meant) => fault.with_help(format!("did you mean `{meant}`?")),
        None => fault,
    })
}

/// Whether the instruction's line may be followed by here-documents.
fn takes_heredocs(line: &Line, keyword: &str, arguments: &Range<usize>) -> bool {
    let text = &line.text[arguments.clone()];
    let (keyword, text) = if keyword == "ONBUILD" {
        let (keyword, rest) = text.split_once(is_space).unwrap_or((text, ""));
        (keyword.to_ascii_uppercase(), rest)
    } else {
        (keyword.to_owned(), text)
    };
    matches!(keyword.as_str(), "ADD" | "COPY" | "RUN")
        && text.contains("<<")
        && !matches!(arguments::json_list(text), Ok(Some(_)))
}

/// Reads the here-documents that the line announces.
fn heredocs(line: &Line, lines: &mut Lines<'_>) -> Result<Vec<Heredoc>, Fault> {
    let mut heredocs = Vec::new();
    // A line that cannot be split is a matter of the shell that will read it.
    for word in expand::words(&line.text, true).unwrap_or_default() {
        let Some(Start { name, expand, strip_tabs }) = heredoc_start(&word) else { continue };
        let Some(span) = lines.heredoc(&name, strip_tabs) else {
            let at = line.text.find(&word).unwrap_or(0);
            let place = line.source(at..at + word.len());
            return Err(Fault::new(place, format!("here-document is not ended by a line `{name}`")));
        };
        let raw = lines.text[span.clone()].to_owned();
        heredocs.push(Heredoc { name, expand, strip_tabs, raw, span });
    }
    Ok(heredocs)
}

/// How a here-document begins.
struct Start {
    name: String,
    expand: bool,
    strip_tabs: bool,
}

/// Reads `[<digits>]<<[-]<word>`.
fn heredoc_start(word: &str) -> Option<Start> {
    let rest = word.trim_start_matches(|ch: char| ch.is_ascii_digit()).strip_prefix("<<")?;
    let (strip_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let [name] = <[String; 1]>::try_from(expand::words(rest, false).ok()?).ok()?;
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    // A quote that is gone from the name was one: nothing is expanded then.
    let expand = quotes(rest) == quotes(&name);
    Some(Start { name, expand, strip_tabs })
}

/// Whether a text is the beginning of a here-document and nothing else.
pub(crate) fn is_heredoc(text: &str) -> bool {
    heredoc_start(text).is_some()
}

#[cfg(test)]
mod tests;
