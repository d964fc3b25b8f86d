//! Reading a file while another thread still writes it: unpacking follows a download without a byte of buffer
//! between them, and without slowing it down.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// How far a download is.
#[derive(Debug, Default)]
pub(super) struct Flow {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    file: Option<Arc<File>>,
    available: u64,
    end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Complete,
    Failed,
}

impl Flow {
    /// The download begins, into this file.
    pub(super) fn begin(&self, file: File) {
        self.change(|state| state.file = Some(Arc::new(file)));
    }

    /// More bytes are in the file.
    pub(super) fn advance(&self, bytes: u64) {
        self.change(|state| state.available += bytes);
    }

    /// All bytes are in the file, and are the right ones.
    pub(super) fn complete(&self) {
        self.change(|state| state.end = Some(End::Complete));
    }

    /// No more bytes come. Says nothing to those who were told that the file is complete.
    pub(super) fn fail(&self) {
        self.change(|state| {
            state.end.get_or_insert(End::Failed);
        });
    }

    /// A reader from the start of the file. Its end is the end of a complete download.
    pub(super) fn follow(&self) -> Follower<'_> {
        Follower { flow: self, at: 0 }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads what a download wrote so far, and waits for more.
#[derive(Debug)]
pub(super) struct Follower<'a> {
    flow: &'a Flow,
    at: u64,
}

impl Read for Follower<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.flow.lock();
        loop {
            if state.end == Some(End::Failed) {
                return Err(io::Error::other("the download failed"));
            }
            if let Some(file) = state.file.clone().filter(|_| state.available > self.at) {
                let ready = usize::try_from(state.available - self.at).unwrap_or(usize::MAX);
                drop(state);
                let length = buffer.len().min(ready);
                let count = file.read_at(&mut buffer[..length], self.at)?;
                self.at += count as u64;
                return Ok(count);
            }
            if state.end == Some(End::Complete) {
                return Ok(0);
            }
            state = self.flow.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn reads_along_to_the_end() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let flow = Flow::default();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut text = String::new();
                flow.follow().read_to_string(&mut text).map(|_| text)
            });
            flow.begin(file.reopen().unwrap());
            for piece in ["one ", "two ", "three"] {
                file.write_all(piece.as_bytes()).unwrap();
                flow.advance(piece.len() as u64);
                std::thread::yield_now();
            }
            flow.complete();
            assert_eq!(reader.join().unwrap().unwrap(), "one two three");
        });
        flow.fail();
        assert_eq!(io::copy(&mut flow.follow(), &mut io::sink()).unwrap(), 13);
    }

    #[test]
    fn a_failed_download_is_no_end() {
        let flow = Flow::default();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| flow.follow().read(&mut [0; 8]));
            flow.fail();
            assert!(reader.join().unwrap().is_err());
        });
    }
}
