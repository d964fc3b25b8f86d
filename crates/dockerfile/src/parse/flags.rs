//! Flags of instructions: `--name=value` before the arguments.

use std::ops::Range;

use super::{Fault, Line};
use crate::error::nearest;
use crate::instruction::Word;

/// The flags of an instruction, and where its arguments are in the line.
pub(super) struct Flags {
    flags: Vec<Flag>,
    pub(super) rest: Range<usize>,
}

struct Flag {
    name: String,
    value: Option<String>,
    /// Where it is in the file.
    span: Range<usize>,
}

/// Reads the flags of a line from `start` on. Quotes around parts of them, and escapes, are taken away.
pub(super) fn split(line: &Line, start: usize, escape: char) -> Flags {
    let text = &line.text;
    let mut flags = Vec::new();
    let mut at = start;
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        if !text[at..].starts_with("--") {
            break;
        }
        let (word, length) = read_word(&text[at..], escape);
        let span = line.source(at..at + length);
        at += length;
        // Two dashes alone end the flags.
        if word == "--" {
            at += text[at..].len() - text[at..].trim_start().len();
            break;
        }
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        flags.push(Flag { name: name[2..].to_owned(), value, span });
    }
    Flags { flags, rest: at..text.len() }
}

/// The word at the beginning of a text, and how long it is there.
fn read_word(text: &str, escape: char) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, ch)) = chars.next() {
        match quote {
            None if ch.is_whitespace() => return (word, at),
            None if ch == '\'' || ch == '"' => quote = Some(ch),
            Some(closing) if ch == closing => quote = None,
            _ if ch == escape => word.extend(chars.next().map(|(_, next)| next)),
            _ => word.push(ch),
        }
    }
    (word, text.len())
}

impl Flags {
    /// The values of a flag that may be given several times.
    ///
    /// # Errors
    /// One without a value.
    pub(super) fn take_all(&mut self, name: &str) -> Result<Vec<Word>, Fault> {
        let mut words = Vec::new();
        for flag in self.take_named(name) {
            match flag.value {
                Some(text) => words.push(Word { text, span: flag.span }),
                None => return Err(Fault::new(flag.span, format!("flag `--{name}` needs a value"))),
            }
        }
        Ok(words)
    }

    /// The value of a flag that may be given once.
    pub(super) fn take(&mut self, name: &str) -> Result<Option<Word>, Fault> {
        let mut words = self.take_all(name)?;
        match words.pop() {
            Some(second) if !words.is_empty() => {
                Err(Fault::new(second.span, format!("flag `--{name}` is given twice")))
            }
            word => Ok(word),
        }
    }

    /// A flag that is true or false, and true without a value.
    pub(super) fn take_bool(&mut self, name: &str) -> Result<Option<(bool, Range<usize>)>, Fault> {
        let mut flags = self.take_named(name);
        let Some(flag) = flags.pop() else { return Ok(None) };
        if !flags.is_empty() {
            return Err(Fault::new(flag.span, format!("flag `--{name}` is given twice")));
        }
        match flag.value.map(|value| value.to_ascii_lowercase()).as_deref() {
            None | Some("true") => Ok(Some((true, flag.span))),
            Some("false") => Ok(Some((false, flag.span))),
            Some(other) => {
                Err(Fault::new(flag.span, format!("flag `--{name}` is true or false, not `{other}`")))
            }
        }
    }

    /// Where a flag is given, whatever its value.
    pub(super) fn take_any(&mut self, name: &str) -> Option<Range<usize>> {
        self.take_named(name).into_iter().next().map(|flag| flag.span)
    }

    fn take_named(&mut self, name: &str) -> Vec<Flag> {
        let flags = std::mem::take(&mut self.flags);
        let (taken, left) = flags.into_iter().partition(|flag| flag.name == name);
        self.flags = left;
        taken
    }

    /// Complains about a flag that nobody took.
    pub(super) fn none_left(&self, keyword: &str, known: &[&str]) -> Result<(), Fault> {
        let Some(Flag { name, span, .. }) = self.flags.first() else { return Ok(()) };
        let fault = Fault::new(span.clone(), format!("{keyword} has no flag `--{name}`"));
        Err(match nearest(name, known.iter().copied()) {
            Some(meant) => fault.with_help(format!("did you mean `--{meant}`?")),
            None if known.is_empty() => fault,
            None => {
                let known: Vec<_> = known.iter().map(|name| format!("`--{name}`")).collect();
                fault.with_help(format!("it has {}", known.join(", ")))
            }
        })
    }
}
