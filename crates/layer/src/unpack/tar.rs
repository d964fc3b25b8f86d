//! Reading tar: headers of every dialect that image layers come in (V7, USTAR, PAX, GNU), sparse files among them.
//!
//! Nothing a header says is believed before it is checked, and what it can make us hold in memory is bounded. Where
//! readers differ, this one does what Go's `archive/tar` does, as images are made and tried with programs that use it.
//! Not here: the file system.

use std::collections::BTreeMap;

use super::stream::{Stream, StreamError};

const BLOCK: u64 = 512;
/// Largest extended header, long name or sparse map: the limit of Go and libarchive.
const MAX_SPECIAL: u64 = 1 << 20;

/// The sort of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Dir,
    Fifo,
}

/// One entry.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// As it is written, not cleaned.
    pub name: Vec<u8>,
    pub kind: Type,
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: i64,
    pub mtime_nsec: u32,
    pub device: (u32, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Length of the file once unpacked.
    pub size: u64,
    /// Bytes of content in the tar, without padding.
    pub stored: u64,
    /// For a sparse file, where the stored bytes go: offset and length.
    pub sparse: Option<Vec<(u64, u64)>>,
}

/// The tar is not one.
#[derive(Debug)]
pub(crate) enum TarError {
    Stream(StreamError),
    /// What is wrong with it.
    Invalid(String),
}

impl From<StreamError> for TarError {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

fn invalid<T>(reason: impl Into<String>) -> Result<T, TarError> {
    Err(TarError::Invalid(reason.into()))
}

/// What headers before an entry's own said about it.
#[derive(Default)]
struct Extended {
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Offset, length, offset, length …: PAX sparse 0.0 repeats its records.
    sparse: Vec<u64>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

/// The next entry; its `stored` bytes and their padding follow in the stream. `None` at the end.
pub(crate) fn next(stream: &mut Stream) -> Result<Option<Entry>, TarError> {
    let mut extended = Extended::default();
    // Whether something was said of an entry that has to follow.
    let mut announced = false;
    loop {
        let Some(block) = read_block(stream)? else {
            return if announced { Err(StreamError::Truncated.into()) } else { Ok(None) };
        };
        announced |= matches!(block[156], b'x' | b'L' | b'K');
        let size = number(&block[124..136], "size")?;
        match block[156] {
            b'x' => parse_records(&special(stream, size)?, &mut extended)?,
            // Go's programs ignore global headers, and so must we to unpack what they do.
            b'g' => drop(special(stream, size)?),
            b'L' => extended.long_name = Some(c_string(&special(stream, size)?).to_vec()),
            b'K' => extended.long_link = Some(c_string(&special(stream, size)?).to_vec()),
            _ => return entry(stream, &block, size, extended).map(Some),
        }
    }
}

/// Passes over what follows the content up to the next block. Some programs (umoci) leave the padding of the last
/// entry out, and the end of the archive too; whether something is missing is for the diffID to say.
pub(crate) fn skip_padding(stream: &mut Stream, stored: u64) -> Result<(), StreamError> {
    match stream.pass(stored.wrapping_neg() % BLOCK, |_| Ok(())) {
        Err(StreamError::Truncated) => Ok(()),
        result => result,
    }
}

/// A header block whose checksum is right; `None` at the end of the archive or of the stream.
fn read_block(stream: &mut Stream) -> Result<Option<[u8; 512]>, TarError> {
    let mut block = [0; 512];
    if !stream.fill(&mut block)? {
        return Ok(None);
    }
    if block == [0; 512] {
        if !stream.fill(&mut block)? || block == [0; 512] {
            return Ok(None);
        }
        return invalid("entries after a block of zeros");
    }
    let sum = number(&block[148..156], "checksum")?;
    let (mut unsigned, mut signed) = (0u64, 0i64);
    for (at, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&at) { b' ' } else { *byte };
        unsigned += u64::from(byte);
        signed += i64::from(byte as i8);
    }
    if sum != unsigned && i64::try_from(sum) != Ok(signed) {
        return invalid("wrong checksum in a header");
    }
    Ok(Some(block))
}

/// The content of a header that speaks about the next one.
fn special(stream: &mut Stream, size: u64) -> Result<Vec<u8>, TarError> {
    if size > MAX_SPECIAL {
        return invalid(format!("an extended header of {size} bytes"));
    }
    let mut bytes = vec![0; size as usize];
    if size > 0 && !stream.fill(&mut bytes)? {
        return Err(StreamError::Truncated.into());
    }
    skip_padding(stream, size)?;
    Ok(bytes)
}

fn entry(
    stream: &mut Stream,
    block: &[u8; 512],
    size: u64,
    mut extended: Extended,
) -> Result<Entry, TarError> {
    let mut entry = Entry {
        name: header_name(block),
        kind: Type::File,
        link: c_string(&block[157..257]).to_vec(),
        mode: number(&block[100..108], "mode")? as u32 & 0o7777,
        uid: number(&block[108..116], "uid")?,
        gid: number(&block[116..124], "gid")?,
        mtime: signed_number(&block[136..148], "mtime")?,
        mtime_nsec: 0,
        device: (0, 0),
        xattrs: Vec::new(),
        size,
        stored: size,
        sparse: None,
    };
    apply_records(&mut entry, &mut extended)?;
    if let Some(name) = extended.long_name.take() {
        entry.name = name;
    }
    if let Some(link) = extended.long_link.take() {
        entry.link = link;
    }
    let flag = block[156];
    entry.kind = match flag {
        // The oldest tars have no folders: a slash at the end is one.
        0 if entry.name.ends_with(b"/") => Type::Dir,
        0 | b'0' | b'7' | b'S' => Type::File,
        b'1' => Type::HardLink,
        b'2' => Type::Symlink,
        b'3' => Type::CharDevice,
        b'4' => Type::BlockDevice,
        b'5' => Type::Dir,
        b'6' => Type::Fifo,
        other => return invalid(format!("unknown entry type {:?}", char::from(other))),
    };
    if matches!(entry.kind, Type::CharDevice | Type::BlockDevice) {
        let field = |range: std::ops::Range<usize>| {
            let number = number(&block[range], "device number")?;
            u32::try_from(number).or_else(|_| invalid("device number out of range"))
        };
        entry.device = (field(329..337)?, field(337..345)?);
    }
    if entry.kind == Type::File {
        read_sparse(stream, block, &mut entry, extended)?;
    } else {
        // Whatever the field says, only files have content.
        (entry.size, entry.stored) = (0, 0);
    }
    if entry.name.contains(&0) || entry.link.contains(&0) {
        return invalid("a name with a zero byte");
    }
    Ok(entry)
}

/// The name of a header, with USTAR's prefix where the header is USTAR.
fn header_name(block: &[u8; 512]) -> Vec<u8> {
    let name = c_string(&block[..100]);
    // GNU's magic ends in a space, and uses the prefix for times and the sparse map.
    let prefix = if &block[257..263] == b"ustar\0" { c_string(&block[345..500]) } else { b"" };
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}

/// Splits an extended header into its records.
fn parse_records(mut bytes: &[u8], extended: &mut Extended) -> Result<(), TarError> {
    while !bytes.is_empty() {
        let space = bytes.iter().position(|byte| *byte == b' ').unwrap_or(bytes.len());
        let Some(length) = decimal(&bytes[..space]).filter(|length| {
            *length <= bytes.len() as u64
                && *length > space as u64 + 2
                && bytes[*length as usize - 1] == b'\n'
        }) else {
            return invalid("a malformed extended header");
        };
        let record = &bytes[space + 1..length as usize - 1];
        bytes = &bytes[length as usize..];
        let Some(equals) = record.iter().position(|byte| *byte == b'=') else {
            return invalid("an extended header record without a value");
        };
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if key == b"GNU.sparse.offset" || key == b"GNU.sparse.numbytes" {
            let Some(number) = decimal(value) else { return invalid("a malformed sparse map") };
            extended.sparse.push(number);
        } else if value.is_empty() {
            // POSIX: an empty value takes the record back.
            extended.records.remove(key);
        } else {
            extended.records.insert(key.to_vec(), value.to_vec());
        }
    }
    Ok(())
}

/// Puts what extended headers say into the entry. Sparse records stay, for later.
fn apply_records(entry: &mut Entry, extended: &mut Extended) -> Result<(), TarError> {
    let numeric = |value: &[u8], what: &str| match decimal(value) {
        Some(number) => Ok(number),
        None => invalid(format!("a malformed {what} in an extended header")),
    };
    for (key, value) in &extended.records {
        match key.as_slice() {
            b"path" => entry.name = value.clone(),
            b"linkpath" => entry.link = value.clone(),
            b"uid" => entry.uid = numeric(value, "uid")?,
            b"gid" => entry.gid = numeric(value, "gid")?,
            b"size" => {
                entry.size = numeric(value, "size")?;
                entry.stored = entry.size;
            }
            b"mtime" => (entry.mtime, entry.mtime_nsec) = time(value)?,
            key => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    entry.xattrs.push((name.to_vec(), value.clone()));
                }
            }
        }
    }
    Ok(())
}

/// Finds the map of a sparse file, in any of the four forms GNU tar has had.
fn read_sparse(
    stream: &mut Stream,
    block: &[u8; 512],
    entry: &mut Entry,
    extended: Extended,
) -> Result<(), TarError> {
    let record = |key: &str| extended.records.get(key.as_bytes());
    let is_1_0 = record("GNU.sparse.major").is_some_and(|major| major == b"1")
        && record("GNU.sparse.minor").is_some_and(|minor| minor == b"0");
    let real_size = record("GNU.sparse.realsize").or_else(|| record("GNU.sparse.size"));
    let numbers = if block[156] == b'S' {
        entry.size = number(&block[483..495], "sparse size")?;
        old_sparse_map(stream, block)?
    } else if is_1_0 {
        leading_sparse_map(stream, entry)?
    } else if let Some(map) = record("GNU.sparse.map") {
        let numbers = map.split(|byte| *byte == b',').map(decimal).collect();
        match numbers {
            Some(numbers) => numbers,
            None => return invalid("a malformed sparse map"),
        }
    } else if !extended.sparse.is_empty() || record("GNU.sparse.numblocks").is_some() {
        extended.sparse.clone()
    } else {
        return Ok(());
    };
    if block[156] != b'S' {
        match real_size.map(|size| decimal(size)) {
            Some(Some(size)) => entry.size = size,
            _ => return invalid("a sparse file without its size"),
        }
    }
    if let Some(name) = record("GNU.sparse.name") {
        entry.name = name.clone();
    }
    entry.sparse = Some(checked_map(&numbers, entry)?);
    Ok(())
}

/// The map as pairs, if they are in order, inside the file, and as long as the content.
fn checked_map(numbers: &[u64], entry: &Entry) -> Result<Vec<(u64, u64)>, TarError> {
    let mut end = 0;
    let mut stored = 0u64;
    let mut map = Vec::new();
    for pair in numbers.chunks(2) {
        let &[offset, length] = pair else { return invalid("half a pair in a sparse map") };
        let Some(next) = offset.checked_add(length).filter(|next| offset >= end && *next <= entry.size)
        else {
            return invalid("a sparse map that is out of order or outside the file");
        };
        end = next;
        stored += length;
        map.push((offset, length));
    }
    if stored != entry.stored {
        return invalid("a sparse map that does not fit the content");
    }
    Ok(map)
}

/// The map of an old GNU sparse file: in the header, and in blocks after it as long as each says there is another.
fn old_sparse_map(stream: &mut Stream, block: &[u8; 512]) -> Result<Vec<u64>, TarError> {
    let mut numbers = Vec::new();
    let mut add = |fields: &[u8]| -> Result<(), TarError> {
        for pair in fields.chunks_exact(24).take_while(|pair| pair[0] != 0) {
            numbers.push(number(&pair[..12], "sparse offset")?);
            numbers.push(number(&pair[12..], "sparse length")?);
        }
        if numbers.len() as u64 * 12 > MAX_SPECIAL {
            return invalid("a sparse map that is too long");
        }
        Ok(())
    };
    add(&block[386..482])?;
    let mut more = block[482] != 0;
    while more {
        let mut next = [0; 512];
        if !stream.fill(&mut next)? {
            return Err(StreamError::Truncated.into());
        }
        add(&next[..504])?;
        more = next[504] != 0;
    }
    Ok(numbers)
}

/// The map of PAX sparse 1.0, in the first blocks of the content: a count, then the numbers, a line each.
fn leading_sparse_map(stream: &mut Stream, entry: &mut Entry) -> Result<Vec<u64>, TarError> {
    let mut numbers: Vec<u64> = Vec::new();
    let mut line = Vec::new();
    let mut wanted = None;
    let mut read = 0;
    while wanted.is_none_or(|wanted| (numbers.len() as u64) < wanted) {
        let mut block = [0; 512];
        read += BLOCK;
        if read > entry.stored.min(MAX_SPECIAL) || !stream.fill(&mut block)? {
            return invalid("a sparse map without an end");
        }
        for byte in block {
            if byte != b'\n' {
                line.push(byte);
                continue;
            }
            let Some(number) = decimal(&line) else { return invalid("a malformed sparse map") };
            line.clear();
            match wanted {
                None => wanted = Some(number.saturating_mul(2)),
                Some(_) => numbers.push(number),
            }
            if wanted == Some(numbers.len() as u64) {
                break;
            }
        }
    }
    entry.stored -= read;
    Ok(numbers)
}

/// A number of a header field: octal, or GNU's base 256 when the first bit is set.
fn number(field: &[u8], what: &str) -> Result<u64, TarError> {
    match u64::try_from(signed_number(field, what)?) {
        Ok(number) => Ok(number),
        Err(_) => invalid(format!("a negative {what} in a header")),
    }
}

fn signed_number(field: &[u8], what: &str) -> Result<i64, TarError> {
    let wrong = || TarError::Invalid(format!("a malformed {what} in a header"));
    if field[0] & 0x80 != 0 {
        // Two's complement; the first bit is only the mark, the second one the sign.
        let negative = field[0] & 0x40 != 0;
        let mut number = if negative { -1i64 } else { 0 };
        for (at, byte) in field.iter().enumerate() {
            let byte = if at == 0 && !negative { byte & 0x7f } else { *byte };
            number = number.checked_mul(256).ok_or_else(wrong)? | i64::from(byte);
        }
        return Ok(number);
    }
    let trimmed = field.trim_ascii_start();
    let start = trimmed.iter().position(|byte| *byte != 0 && *byte != b' ').unwrap_or(trimmed.len());
    let digits = &trimmed[start..];
    let end = digits.iter().position(|byte| *byte == 0 || *byte == b' ').unwrap_or(digits.len());
    let mut number = 0i64;
    for digit in &digits[..end] {
        if !(b'0'..=b'7').contains(digit) {
            return Err(wrong());
        }
        number = number.checked_mul(8).ok_or_else(wrong)? + i64::from(digit - b'0');
    }
    Ok(number)
}

fn decimal(text: &[u8]) -> Option<u64> {
    // The standard parser takes a plus sign, which is not a digit.
    text.iter().all(u8::is_ascii_digit).then(|| str::from_utf8(text).ok()?.parse().ok())?
}

/// Seconds and nanoseconds of a decimal number, which may be negative.
fn time(value: &[u8]) -> Result<(i64, u32), TarError> {
    let wrong = || TarError::Invalid("a malformed mtime in an extended header".to_owned());
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let seconds = decimal(parts.next().unwrap_or_default()).and_then(|s| i64::try_from(s).ok());
    let seconds = seconds.ok_or_else(wrong)?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanos = digits.fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    Ok(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

/// The bytes before the first NUL.
fn c_string(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())]
}
