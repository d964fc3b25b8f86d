//! The terminal as the moving lines at its foot see it.
//!
//! Lines end with line ends and are no longer than their text. indicatif's own terminal fills them with blanks up to
//! the right edge: a terminal that is made narrower then breaks each in two, and the `^C` that it echoes begins a
//! new line, and either leaves remains that nobody takes away.

use std::io::{self, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::TermLike;

/// Standard output. Collects what is written up to the next flush, so that nothing flickers.
#[derive(Debug, Default)]
pub struct Foot {
    frame: Mutex<Frame>,
}

#[derive(Debug, Default)]
struct Frame {
    text: String,
    /// A line was written, and its end comes with the next one.
    line_written: bool,
}

impl Frame {
    fn control(&mut self, count: usize, which: char) {
        self.line_written = false;
        if count > 0 {
            self.text.push_str(&format!("\x1b[{count}{which}"));
        }
    }

    /// indicatif writes each line, then the blanks that fill it.
    fn write(&mut self, text: &str) {
        if text.bytes().all(|byte| byte == b' ') {
            self.line_written = true;
            return;
        }
        if std::mem::take(&mut self.line_written) {
            self.text.push_str("\r\n");
        }
        self.text.push_str(text);
    }
}

impl Foot {
    fn frame(&self) -> MutexGuard<'_, Frame> {
        self.frame.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn control(&self, count: usize, which: char) -> io::Result<()> {
        self.frame().control(count, which);
        Ok(())
    }
}

fn size() -> Option<rustix::termios::Winsize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some(size)
}

impl TermLike for Foot {
    fn width(&self) -> u16 {
        size().map_or(80, |size| size.ws_col)
    }

    fn height(&self) -> u16 {
        size().map_or(24, |size| size.ws_row)
    }

    fn move_cursor_up(&self, count: usize) -> io::Result<()> {
        self.control(count, 'A')
    }

    fn move_cursor_down(&self, count: usize) -> io::Result<()> {
        self.control(count, 'B')
    }

    fn move_cursor_right(&self, count: usize) -> io::Result<()> {
        self.control(count, 'C')
    }

    fn move_cursor_left(&self, count: usize) -> io::Result<()> {
        self.control(count, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        let mut frame = self.frame();
        frame.text.push_str(text);
        frame.text.push_str("\r\n");
        Ok(())
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.frame().write(text);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        let mut frame = self.frame();
        frame.line_written = false;
        frame.text.push_str("\r\x1b[2K");
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let mut frame = self.frame();
        frame.line_written = false;
        let text = std::mem::take(&mut frame.text);
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_ended_not_filled() {
        let mut frame = Frame::default();
        for text in ["one", "   ", "two", ""] {
            frame.write(text);
        }
        assert_eq!(frame.text, "one\r\ntwo");
    }
}
