//! How much the expansion of one Dockerfile may come to.
//!
//! Variables that are made of each other double with every line, and patterns over long values take the product of both
//! lengths: a few lines would take all memory, or all day. One budget serves all instructions of a file.

use std::cell::Cell;

use super::ExpandError;

/// Bytes that variables may bring in all: as many as the largest image configuration has.
pub(crate) const BYTES: usize = 4 << 20;

/// Comparisons of a letter with a place of a pattern, in all: a moment, and for any value and pattern of people enough.
const WORK: usize = 1 << 24;

/// Bytes of a value that are copied in the time of one comparison.
const COPIED: usize = 64;

/// What is left. Shared by all expansions of a Dockerfile, by one thread.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes: Cell<usize>,
    work: Cell<usize>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { bytes: Cell::new(BYTES), work: Cell::new(WORK) }
    }
}

impl Budget {
    /// Bytes that variables may still bring.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Takes the bytes of a text that variables brought.
    pub(super) fn take(&self, text: &str) -> Result<(), ExpandError> {
        match self.bytes.get().checked_sub(text.len()) {
            Some(left) => self.bytes.set(left),
            None => return Err(ExpandError::Size),
        }
        Ok(())
    }

    /// Takes the work of copying a value.
    pub(super) fn copied(&self, value: &str) -> Result<(), ExpandError> {
        match self.work(1 + value.len() / COPIED) {
            true => Ok(()),
            false => Err(ExpandError::Size),
        }
    }

    /// Takes this many comparisons; false when they are too many.
    pub(super) fn work(&self, steps: usize) -> bool {
        let left = self.work.get().checked_sub(steps);
        self.work.set(left.unwrap_or(0));
        left.is_some()
    }
}
