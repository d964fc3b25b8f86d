//! Just enough of SQLite's file format (<https://www.sqlite.org/fileformat2.html>) to go through one table of a
//! database that nobody vouches for.
//!
//! The format is promised not to change, a table is a B-tree of pages, and no index, query or write is needed: SQLite
//! itself would make the program 2 MB larger and 44 s of compilation longer. Not here: what is in the table.

mod wal;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use wal::Wal;

/// The longest row that is read: rpm's own limit for a header is 256 MiB, the largest in use have a few.
const MAX_ROW: u64 = 64 << 20;
/// Pages from the root of a table to a row; SQLite's own limit is 20.
const MAX_DEPTH: usize = 20;

/// The file is not a database, or one that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum SqliteError {
    /// It cannot be read.
    #[error("failed to read it")]
    Io(#[from] io::Error),
    /// Something in it is not as the format says.
    #[error("not a valid SQLite database: {0}")]
    Invalid(&'static str),
}

fn invalid<T>(reason: &'static str) -> Result<T, SqliteError> {
    Err(SqliteError::Invalid(reason))
}

/// An open database.
#[derive(Debug)]
pub(crate) struct Database {
    file: File,
    wal: Option<Wal>,
    page_size: u64,
    /// Bytes of a page that are in use.
    usable: usize,
    /// Number of pages.
    pages: u32,
}

/// A value of a row.
#[derive(Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Integer(i64),
    /// A number with a fraction: nobody here wants to know which.
    Real,
    Blob(&'a [u8]),
    Text(&'a [u8]),
}

/// Bytes at the start of a file that no page is read without.
const HEADER: usize = 100;

impl Database {
    /// Opens a database, with what its write-ahead log says instead of the file where there is one.
    pub fn open(file: File, wal: Option<File>) -> Result<Self, SqliteError> {
        let mut header = [0; HEADER];
        if let Err(error) = file.read_exact_at(&mut header, 0) {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof => invalid("it is too short"),
                _ => Err(error.into()),
            };
        }
        if !header.starts_with(b"SQLite format 3\0") {
            return invalid("it does not begin as one");
        }
        let page_size = match u16::from_be_bytes([header[16], header[17]]) {
            1 => 65536,
            size if size >= 512 && size.is_power_of_two() => u64::from(size),
            _ => return invalid("impossible size of pages"),
        };
        let usable = page_size as usize - usize::from(header[20]);
        if usable < 480 {
            return invalid("pages without space");
        }
        let mut pages = u32::try_from(file.metadata()?.len() / page_size).unwrap_or(u32::MAX);
        let wal = match wal {
            Some(wal) => Wal::open(wal, page_size)?,
            None => None,
        };
        if let Some(wal) = &wal {
            // What it says is only as good as the pages that there are.
            let there = pages.saturating_add(u32::try_from(wal.len()).unwrap_or(u32::MAX));
            pages = wal.pages().min(there);
        }
        Ok(Self { file, wal, page_size, usable, pages })
    }

    /// Hands the rows of the table called `name` to `each`, column by column. False when there is no such table.
    pub fn table<E: From<SqliteError>>(
        &self,
        name: &str,
        mut each: impl FnMut(&[Value<'_>]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let mut root = None;
        // The schema: type, name, table, root page, text.
        self.walk(1, &mut |row: &[Value<'_>]| {
            if let [Value::Text(b"table"), Value::Text(found), _, Value::Integer(page), ..] = row
                && *found == name.as_bytes()
            {
                root = u32::try_from(*page).ok();
            }
            Ok::<_, SqliteError>(())
        })?;
        match root {
            Some(root) => self.walk(root, &mut each).map(|()| true),
            None => Ok(false),
        }
    }

    fn walk<E: From<SqliteError>>(
        &self,
        root: u32,
        each: &mut impl FnMut(&[Value<'_>]) -> Result<(), E>,
    ) -> Result<(), E> {
        // Each page is in a table once, so more visits than pages are a loop, and more bytes than those of all pages
        // are some that are taken again and again.
        let mut budget = self.pages;
        let mut bytes = self.size();
        let mut todo = vec![(root, 0)];
        while let Some((number, depth)) = todo.pop() {
            let page = Page::new(self.page(number)?, number)?;
            budget = match budget.checked_sub(1) {
                Some(budget) if depth <= MAX_DEPTH => budget,
                _ => return Err(SqliteError::Invalid("its pages lead in circles, or to none").into()),
            };
            match page.kind {
                PageKind::Leaf => {
                    for cell in page.cells()? {
                        let payload = self.payload(&page, cell)?;
                        bytes = match bytes.checked_sub(payload.len() as u64) {
                            Some(bytes) => bytes,
                            None => return Err(SqliteError::Invalid("its rows overlap").into()),
                        };
                        each(&record(&payload)?)?;
                    }
                }
                PageKind::Interior => {
                    // The last one is taken next: the rows come in their order.
                    todo.push((page.right_child()?, depth + 1));
                    for cell in page.cells()?.into_iter().rev() {
                        todo.push((page.u32_at(cell)?, depth + 1));
                    }
                }
            }
            if todo.len() > self.pages as usize {
                return Err(SqliteError::Invalid("its pages lead in circles, or to none").into());
            }
        }
        Ok(())
    }

    /// Bytes of all pages.
    fn size(&self) -> u64 {
        u64::from(self.pages) * self.page_size
    }

    fn page(&self, number: u32) -> Result<Vec<u8>, SqliteError> {
        if number == 0 || number > self.pages {
            return invalid("a page that is not there");
        }
        let mut page = vec![0; self.page_size as usize];
        match self.wal.as_ref().and_then(|wal| wal.find(number)) {
            Some(found) => found.read(&mut page)?,
            None => self.file.read_exact_at(&mut page, u64::from(number - 1) * self.page_size)?,
        }
        page.truncate(self.usable);
        Ok(page)
    }

    /// The content of a row, put together from the pages it goes on in.
    fn payload(&self, page: &Page, cell: usize) -> Result<Vec<u8>, SqliteError> {
        let mut at = cell;
        let size = page.varint(&mut at)?;
        let _row_id = page.varint(&mut at)?;
        if size > MAX_ROW || size > self.size() {
            return invalid("a row that is too long");
        }
        let size = size as usize;
        // How much is in the cell itself ("B-tree Cell Format").
        let usable = self.usable;
        let most = usable - 35;
        let local = if size <= most {
            size
        } else {
            let least = (usable - 12) * 32 / 255 - 23;
            let wanted = least + (size - least) % (usable - 4);
            if wanted <= most { wanted } else { least }
        };
        let mut payload = Vec::with_capacity(size);
        payload.extend_from_slice(page.slice(at, local)?);
        let mut next = if local < size { page.u32_at(at + local)? } else { 0 };
        while payload.len() < size {
            let overflow = self.page(next)?;
            next = u32::from_be_bytes([overflow[0], overflow[1], overflow[2], overflow[3]]);
            let length = (size - payload.len()).min(usable - 4);
            payload.extend_from_slice(&overflow[4..4 + length]);
        }
        Ok(payload)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageKind {
    Interior,
    Leaf,
}

/// A page of a table.
struct Page {
    bytes: Vec<u8>,
    kind: PageKind,
    /// Where its own header begins: the first page has the file's before it.
    start: usize,
}

impl Page {
    fn new(bytes: Vec<u8>, number: u32) -> Result<Self, SqliteError> {
        let start = if number == 1 { HEADER } else { 0 };
        let kind = match bytes.get(start) {
            Some(5) => PageKind::Interior,
            Some(13) => PageKind::Leaf,
            _ => return invalid("a page that is not one of a table"),
        };
        Ok(Self { bytes, kind, start })
    }

    /// Where the page's cells are.
    fn cells(&self) -> Result<Vec<usize>, SqliteError> {
        let count = usize::from(self.u16_at(self.start + 3)?);
        let first = self.start + if self.kind == PageKind::Interior { 12 } else { 8 };
        (0..count).map(|index| self.u16_at(first + 2 * index).map(usize::from)).collect()
    }

    fn right_child(&self) -> Result<u32, SqliteError> {
        self.u32_at(self.start + 8)
    }

    fn slice(&self, at: usize, length: usize) -> Result<&[u8], SqliteError> {
        match self.bytes.get(at..at.saturating_add(length)) {
            Some(slice) => Ok(slice),
            None => invalid("a cell outside of its page"),
        }
    }

    fn u16_at(&self, at: usize) -> Result<u16, SqliteError> {
        let bytes = self.slice(at, 2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn u32_at(&self, at: usize) -> Result<u32, SqliteError> {
        let bytes = self.slice(at, 4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn varint(&self, at: &mut usize) -> Result<u64, SqliteError> {
        varint(&self.bytes, at)
    }
}

/// A number of one to nine bytes: seven bits of each, all eight of the ninth.
fn varint(bytes: &[u8], at: &mut usize) -> Result<u64, SqliteError> {
    let mut value = 0u64;
    for count in 0..9 {
        let Some(byte) = bytes.get(*at) else { return invalid("a number that is cut off") };
        *at += 1;
        if count == 8 {
            return Ok(value << 8 | u64::from(*byte));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Ok(value)
}

/// The columns of a row ("Record Format").
fn record(payload: &[u8]) -> Result<Vec<Value<'_>>, SqliteError> {
    let mut at = 0;
    let header = varint(payload, &mut at)?;
    let mut body = match usize::try_from(header) {
        Ok(header) if header <= payload.len() => header,
        _ => return invalid("a row without columns"),
    };
    let end = body;
    let mut values = Vec::new();
    while at < end {
        let kind = varint(payload, &mut at)?;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return invalid("a column of no known type"),
            _ => (kind - 12) / 2,
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(bytes) = payload.get(body..body.saturating_add(length)) else {
            return invalid("a column outside of its row");
        };
        body += length;
        values.push(match kind {
            0 => Value::Null,
            7 => Value::Real,
            8 => Value::Integer(0),
            9 => Value::Integer(1),
            1..=6 => Value::Integer(signed(bytes)),
            _ if kind % 2 == 0 => Value::Blob(bytes),
            _ => Value::Text(bytes),
        });
    }
    Ok(values)
}

fn signed(bytes: &[u8]) -> i64 {
    let first = bytes.first().map_or(0, |byte| i64::from(*byte as i8));
    bytes.iter().skip(1).fold(first, |value, byte| value << 8 | i64::from(*byte))
}

#[cfg(test)]
pub(crate) mod tests;
