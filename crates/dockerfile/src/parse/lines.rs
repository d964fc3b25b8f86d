//! Lines of a Dockerfile: directives, comments, continuations, here-documents.

use std::ops::Range;

use super::Fault;

/// The lines of a Dockerfile, as far as they are read.
pub(super) struct Lines<'a> {
    pub(super) text: &'a str,
    /// Where the next line begins.
    pub(super) at: usize,
    /// How many lines have been read.
    number: usize,
    pub(super) escape: char,
    /// The directives there were, as long as there may be more.
    directives: Option<Vec<String>>,
}

/// A line with its continuations.
pub(super) struct Line {
    /// The text, without comments within, without spaces at either end.
    pub(super) text: String,
    /// Where it begins, from 1.
    pub(super) number: usize,
    /// Where it ends in the file, without the end of the line.
    pub(super) source_end: usize,
    /// Places of the text, ascending, and where each is in the file.
    pieces: Vec<(usize, usize)>,
}

impl Line {
    /// Where a part of the text is in the file.
    pub(super) fn source(&self, part: Range<usize>) -> Range<usize> {
        let start = self.source_at(part.start);
        let end = if part.end > part.start { self.source_at(part.end - 1) + 1 } else { start };
        start..end.min(self.source_end.max(start))
    }

    fn source_at(&self, at: usize) -> usize {
        let index = self.pieces.partition_point(|(here, _)| *here <= at).saturating_sub(1);
        self.pieces.get(index).map_or(0, |(here, there)| there + (at - here))
    }
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Self { text, at, number: 0, escape: '\\', directives: Some(Vec::new()) }
    }

    /// The next line that has an instruction.
    pub(super) fn next(&mut self) -> Result<Option<Line>, Fault> {
        loop {
            let Some(span) = self.physical() else { return Ok(None) };
            self.directive(&span)?;
            let number = self.number;
            let (mut span, mut continued) = self.without_continuation(trimmed_start(self.text, span));
            if self.text[span.clone()].starts_with('#') || !continued && span.is_empty() {
                continue;
            }
            let mut line = Line { text: String::new(), number, source_end: span.end, pieces: Vec::new() };
            loop {
                if !span.is_empty() {
                    line.pieces.push((line.text.len(), span.start));
                    line.text.push_str(&self.text[span.clone()]);
                    line.source_end = span.end;
                }
                if !continued {
                    break;
                }
                match self.continuation()? {
                    Some(next) => (span, continued) = self.without_continuation(next),
                    None => break,
                }
            }
            let kept = line.text.trim_end().len();
            if kept > 0 {
                line.source_end -= line.text.len() - kept;
                line.text.truncate(kept);
                trim_start(&mut line);
                return Ok(Some(line));
            }
        }
    }

    /// The next line that continues another: neither a comment nor blank.
    fn continuation(&mut self) -> Result<Option<Range<usize>>, Fault> {
        while let Some(span) = self.physical() {
            self.directive(&span)?;
            let text = self.text[span.clone()].trim_start();
            if !text.is_empty() && !text.starts_with('#') {
                return Ok(Some(span));
            }
        }
        Ok(None)
    }

    /// The body of a here-document up to the line that ends it, which is read too.
    pub(super) fn heredoc(&mut self, name: &str, strip_tabs: bool) -> Option<Range<usize>> {
        let start = self.at;
        loop {
            let span = self.physical()?;
            let text = &self.text[span.clone()];
            if (if strip_tabs { text.trim_start_matches('\t') } else { text }) == name {
                return Some(start..span.start);
            }
        }
    }

    /// The next line of the file, without its end.
    fn physical(&mut self) -> Option<Range<usize>> {
        let rest = &self.text[self.at..];
        if rest.is_empty() {
            return None;
        }
        let whole = rest.find('\n').map_or(rest.len(), |end| end + 1);
        let span = self.at..self.at + rest[..whole].trim_end_matches(['\r', '\n']).len();
        self.at += whole;
        self.number += 1;
        Some(span)
    }

    /// Whether a line goes on in the next, and the line without the sign for that.
    fn without_continuation(&self, span: Range<usize>) -> (Range<usize>, bool) {
        let text = self.text[span.clone()].trim_end_matches([' ', '\t']);
        match text.strip_suffix(self.escape) {
            Some(kept) if !kept.ends_with(self.escape) => (span.start..span.start + kept.len(), true),
            _ => (span, false),
        }
    }

    /// Takes note of `# escape=…` and its like, which are special as long as nothing else has come.
    fn directive(&mut self, span: &Range<usize>) -> Result<(), Fault> {
        let Some(seen) = &mut self.directives else { return Ok(()) };
        let text = self.text[span.clone()].trim_start();
        let Some((key, value)) = text.strip_prefix('#').and_then(|text| text.split_once('=')) else {
            self.directives = None;
            return Ok(());
        };
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        if value.is_empty() || !["syntax", "escape", "check"].contains(&key.as_str()) {
            self.directives = None;
            return Ok(());
        }
        if seen.contains(&key) {
            return Err(Fault::new(span.clone(), format!("directive `{key}` is given twice")));
        }
        if key == "escape" {
            self.escape = match value {
                "\\" => '\\',
                "`" => '`',
                _ => {
                    let message = format!("invalid escape character `{value}`");
                    return Err(Fault::new(span.clone(), message).with_help("it is either \\ or `"));
                }
            };
        }
        seen.push(key);
        Ok(())
    }
}

fn trimmed_start(text: &str, span: Range<usize>) -> Range<usize> {
    let line = &text[span.clone()];
    span.start + (line.len() - line.trim_start().len())..span.end
}

/// Takes spaces from the beginning of a line: its first piece may have been nothing but a continuation.
fn trim_start(line: &mut Line) {
    let cut = line.text.len() - line.text.trim_start().len();
    if cut == 0 {
        return;
    }
    line.text.drain(..cut);
    let first = line.source_at(cut);
    line.pieces.retain(|(here, _)| *here > cut);
    for (here, _) in &mut line.pieces {
        *here -= cut;
    }
    line.pieces.insert(0, (0, first));
}
