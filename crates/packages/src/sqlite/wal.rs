//! The write-ahead log beside a database: pages that were written and not yet put into the file ("WAL-mode File
//! Format"). rpm keeps its database in that mode, and an image may be a picture of the middle.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::SqliteError;

const HEADER: usize = 32;
const FRAME: usize = 24;

/// What a log has instead of pages of the file.
#[derive(Debug)]
pub(crate) struct Wal {
    file: File,
    /// Where the newest content of each page is.
    offsets: BTreeMap<u32, u64>,
    pages: u32,
}

/// A page in the log.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    file: &'a File,
    offset: u64,
}

impl Found<'_> {
    pub fn read(&self, page: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(page, self.offset)
    }
}

impl Wal {
    /// Reads a log up to its last whole transaction. None when it has none: what is in it is then of no account.
    pub fn open(file: File, page_size: u64) -> Result<Option<Self>, SqliteError> {
        let mut header = [0; HEADER];
        match file.read_exact_at(&mut header, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            result => result?,
        }
        let Some(mut sum) = Checksum::new(word(&header, 0)) else { return Ok(None) };
        sum.add(&header[..24]);
        let log_page_size = match word(&header, 8) {
            1 => 65536,
            size => u64::from(size),
        };
        if log_page_size != page_size || !sum.is(&header, 24) {
            return Ok(None);
        }
        let salt = &header[16..24];
        let (mut offsets, mut uncommitted) = (BTreeMap::new(), BTreeMap::new());
        let mut committed = None;
        let mut frame = vec![0; FRAME + page_size as usize];
        let mut at = HEADER as u64;
        // A frame that was not written whole, or is of an earlier use of the file, ends the log.
        while read_frame(&file, &mut frame, at)? {
            sum.add(&frame[..8]);
            sum.add(&frame[FRAME..]);
            if &frame[8..16] != salt || !sum.is(&frame, 16) {
                break;
            }
            uncommitted.insert(word(&frame, 0), at + FRAME as u64);
            let pages = word(&frame, 4);
            if pages != 0 {
                offsets.append(&mut uncommitted);
                committed = Some(pages);
            }
            at += frame.len() as u64;
        }
        Ok(committed.map(|pages| Self { file, offsets, pages }))
    }

    /// Number of pages of the database after the last transaction.
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// Number of pages that the log has.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// The page's content in the log, if it has any.
    pub fn find(&self, page: u32) -> Option<Found<'_>> {
        self.offsets.get(&page).map(|offset| Found { file: &self.file, offset: *offset })
    }
}

fn read_frame(file: &File, frame: &mut [u8], at: u64) -> io::Result<bool> {
    match file.read_exact_at(frame, at) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        result => result.map(|()| true),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The sum over everything so far.
struct Checksum {
    big_endian: bool,
    sums: (u32, u32),
}

impl Checksum {
    fn new(magic: u32) -> Option<Self> {
        let big_endian = match magic {
            0x377f_0682 => false,
            0x377f_0683 => true,
            _ => return None,
        };
        Some(Self { big_endian, sums: (0, 0) })
    }

    fn add(&mut self, bytes: &[u8]) {
        let read = |at: &[u8]| {
            let word = [at[0], at[1], at[2], at[3]];
            if self.big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
        };
        let (mut a, mut b) = self.sums;
        for pair in bytes.chunks_exact(8) {
            a = a.wrapping_add(read(&pair[..4])).wrapping_add(b);
            b = b.wrapping_add(read(&pair[4..])).wrapping_add(a);
        }
        self.sums = (a, b);
    }

    fn is(&self, bytes: &[u8], at: usize) -> bool {
        self.sums == (word(bytes, at), word(bytes, at + 4))
    }
}
