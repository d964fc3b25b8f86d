//! Plain lines: what a log file, a pipe or a CI system sees. Stable, no control characters of ours.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use events::{Event, Phase, Transfer};

use super::style::{Style, bytes, duration, without_colors};

/// Writes whole lines; a piece of a line from a buildpack waits for the rest.
#[derive(Debug)]
pub struct Plain {
    style: Style,
    verbose: bool,
    to_stderr: bool,
    lines: Lines,
    totals: BTreeMap<String, Option<u64>>,
}

impl Plain {
    pub fn new(style: Style, verbose: bool) -> Self {
        Self { style, verbose, to_stderr: false, lines: Lines::default(), totals: BTreeMap::new() }
    }

    /// Writes everything to standard error from now on.
    pub fn leave_stdout(&mut self) {
        self.to_stderr = true;
    }

    /// Uses standard output again.
    pub fn take_stdout(&mut self) {
        self.flush();
        self.to_stderr = false;
    }

    /// Writes a line to standard output. A reader that went away is no reason to stop a build.
    pub fn out(&mut self, line: &str) {
        let shown = self.style.show(line).into_owned();
        self.print(&shown);
    }

    /// Writes to standard output what is fit for it already.
    pub fn print(&mut self, shown: &str) {
        if self.to_stderr {
            return self.err(shown);
        }
        self.flush();
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{}{shown}", self.style.stamp());
        let _ = out.flush();
    }

    /// Writes to standard error what is fit for it already.
    pub fn err(&mut self, shown: &str) {
        self.flush();
        let _ = writeln!(std::io::stderr().lock(), "{}{shown}", self.style.stamp());
    }

    /// Writes what is left of an unfinished line.
    pub fn flush(&mut self) {
        let (style, to_stderr) = (self.style, self.to_stderr);
        self.lines.finish(|phase, line| write_output(style, to_stderr, phase, line));
    }

    pub fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::PhaseStarted { phase } => {
                self.out(&self.style.heading(&format!("===> {}", phase.name().to_uppercase())));
            }
            Event::PhaseEnded { .. } | Event::ModuleEnded { .. } => self.flush(),
            Event::ModuleStarted { phase: Phase::Build | Phase::Generate | Phase::Extend, id, version } => {
                self.out(&format!("---> {id} {version}"));
            }
            Event::Output { phase, bytes, .. } => {
                let (style, to_stderr) = (self.style, self.to_stderr);
                self.lines.push(*phase, bytes, |phase, line| write_output(style, to_stderr, phase, line));
            }
            Event::Info { text } | Event::Debug { text } => self.out(text),
            Event::StepStarted { place, text } => self.out(&format!("{place} {text}")),
            Event::StepEnded { place, text, cached, elapsed, entries, bytes } => {
                self.out(&step_line(place, text, *cached, *elapsed, (*entries, *bytes)));
            }
            Event::TransferStarted { id, total, .. } => {
                self.totals.insert((*id).to_owned(), *total);
            }
            Event::TransferEnded { kind, id, reused } => {
                let total = self.totals.remove(*id).flatten();
                // What did not move is of interest to few, and what is unpacked was pulled before.
                let matters = *kind == Transfer::Pack || (*kind != Transfer::Unpack && !reused);
                if self.verbose || matters {
                    self.out(&transfer_line(*kind, id, total, *reused));
                }
            }
            _ => {}
        }
    }
}

fn write_output(style: Style, to_stderr: bool, phase: Phase, line: &[u8]) {
    let mut out: Box<dyn std::io::Write> =
        if to_stderr { Box::new(std::io::stderr().lock()) } else { Box::new(std::io::stdout().lock()) };
    let mark = style.dim(&format!("[{}]", phase.name()));
    let _ = write!(out, "{}{} ", style.stamp(), style.show(&mark));
    let _ = if style.color { out.write_all(line) } else { out.write_all(&without_colors(line)) };
    let _ = out.write_all(b"\n");
    let _ = out.flush();
}

/// One line for a transfer that ended: `pulled sha256:… (12.3 MB)`.
pub fn transfer_line(kind: Transfer, id: &str, total: Option<u64>, reused: bool) -> String {
    let verb = match (kind, reused) {
        (Transfer::Pull, false) => "pulled",
        (Transfer::Copy, false) => "copied",
        (Transfer::Unpack, false) => "unpacked",
        (Transfer::Pack, false) => "adding layer",
        (Transfer::Push, false) => "pushed",
        (Transfer::Pull | Transfer::Copy | Transfer::Push, true) => "already there:",
        (Transfer::Unpack, true) => "already unpacked:",
        (Transfer::Pack, true) => "reusing layer",
    };
    match total {
        Some(total) if !reused => format!("{verb} {id} ({})", bytes(total)),
        _ => format!("{verb} {id}"),
    }
}

/// One line for an instruction of a Dockerfile that ended. `changed` are entries and bytes.
pub fn step_line(place: &str, text: &str, cached: bool, elapsed: Duration, changed: (u64, u64)) -> String {
    match changed {
        _ if cached => format!("{place} {text} (kept from an earlier build)"),
        (0, _) => format!("{place} took {} and changed no file", duration(elapsed)),
        (_, size) => format!("{place} took {}, {}", duration(elapsed), bytes(size)),
    }
}

/// Bytes of a line that wait for its end. A longer one is shown in pieces: a program may print without end and never
/// end a line.
const LINE: usize = 64 * 1024;
/// How far back a better place is looked for to cut a line: escape sequences for colours are shorter.
const CUT_BACK: usize = 32;

/// Cuts what arrives in pieces into lines, one buffer per phase.
#[derive(Debug, Default)]
pub struct Lines {
    partial: BTreeMap<Phase, Vec<u8>>,
}

impl Lines {
    /// Takes a piece, gives every line that is now whole, without its end, and what is too long to wait for it.
    pub fn push(&mut self, phase: Phase, bytes: &[u8], mut line: impl FnMut(Phase, &[u8])) {
        let buffer = self.partial.entry(phase).or_default();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            for part in text.chunks(LINE) {
                buffer.extend_from_slice(part);
                while buffer.len() > LINE {
                    let end = cut_at(&buffer[..LINE]);
                    line(phase, &buffer[..end]);
                    buffer.drain(..end);
                }
            }
            if ends {
                line(phase, buffer.strip_suffix(b"\r").unwrap_or(buffer));
                buffer.clear();
            }
        }
    }

    /// Gives what is left as if it were whole.
    pub fn finish(&mut self, mut line: impl FnMut(Phase, &[u8])) {
        for (phase, buffer) in std::mem::take(&mut self.partial) {
            if !buffer.is_empty() {
                line(phase, &buffer);
            }
        }
    }
}

/// Where to cut a line that is too long: before a colour or a letter that may not be whole.
fn cut_at(line: &[u8]) -> usize {
    let start = line.len().saturating_sub(CUT_BACK);
    let letter = line.iter().rposition(|byte| byte & 0xc0 != 0x80);
    let letter = letter.filter(|at| *at + 4 > line.len() && line[*at] >= 0xc0);
    let escape = line[start..].iter().rposition(|byte| *byte == 0x1b).map(|at| start + at);
    escape.or(letter).filter(|at| *at > 0).unwrap_or(line.len())
}

/// `1.24 s` behind a finished phase.
pub fn phase_line(phase: Phase, elapsed: Duration) -> String {
    format!("{:<8} {}", phase.name(), duration(elapsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_say_what_they_took() {
        let line = |cached, entries, bytes| {
            step_line("a/run.Dockerfile:3", "RUN x", cached, Duration::from_millis(42), (entries, bytes))
        };
        assert_eq!(line(true, 1, 2), "a/run.Dockerfile:3 RUN x (kept from an earlier build)");
        assert_eq!(line(false, 0, 0), "a/run.Dockerfile:3 took 42 ms and changed no file");
        assert_eq!(line(false, 3, 1_300_000), "a/run.Dockerfile:3 took 42 ms, 1.3 MB");
    }

    #[test]
    fn pieces_become_lines() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        let mut take = |_: Phase, line: &[u8]| seen.push(String::from_utf8_lossy(line).into_owned());
        lines.push(Phase::Build, b"a", &mut take);
        lines.push(Phase::Build, b"b\r\n\nc", &mut take);
        lines.finish(&mut take);
        assert_eq!(seen, ["ab", "", "c"]);
    }

    #[test]
    fn a_line_without_an_end_comes_in_pieces() {
        let text = format!("{}é\x1b[32mgreen", "x".repeat(LINE - 4)).repeat(5);
        for size in [1, 1000, LINE, 10 * LINE] {
            let mut lines = Lines::default();
            let mut seen: Vec<Vec<u8>> = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                lines.push(Phase::Build, piece, |_, line| seen.push(line.to_vec()));
                assert!(lines.partial.values().all(|waiting| waiting.capacity() <= 4 * LINE));
            }
            assert!(seen.len() >= 5, "{} pieces", seen.len());
            lines.push(Phase::Build, b"\r\nnext\n", |_, line| seen.push(line.to_vec()));
            assert_eq!(seen.pop().as_deref(), Some(b"next".as_slice()));
            assert!(seen.iter().all(|line| line.len() <= LINE && std::str::from_utf8(line).is_ok()));
            assert!(!seen.iter().any(|line| line.ends_with(b"\x1b[32")), "a colour is in one piece");
            assert_eq!(String::from_utf8(seen.concat()).unwrap(), text, "nothing is lost");
        }
    }
}
