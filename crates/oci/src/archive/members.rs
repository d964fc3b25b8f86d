//! The table of contents of a tar file: names, offsets and sizes, nothing of the content.
//!
//! Only what archives of images need: files and links to them, GNU and pax long names and sizes. The file is
//! hostile input: numbers are checked, long names are short, and everything lies within the file.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::image::Compression;

const BLOCK: u64 = 512;
/// Extended headers are read into memory; names and pax records of images are short.
const MAX_EXTENSION: u64 = 1 << 20;
/// What the table may take of memory, in bytes: a small compressed file can have members without end.
const MAX_TABLE: usize = 64 << 20;
/// What a member takes beside its names.
const PER_MEMBER: usize = 128;
/// Links to links to links: `docker save` never makes more than one step.
const MAX_LINKS: usize = 8;

/// A tar file and where its members are.
#[derive(Clone, Debug)]
pub struct Members {
    path: PathBuf,
    file: Arc<std::fs::File>,
    table: Arc<BTreeMap<String, Member>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Member {
    File {
        offset: u64,
        size: u64,
    },
    /// The name it stands for, within the archive.
    Link(String),
}

impl Member {
    fn target(&self) -> &str {
        match self {
            Self::File { .. } => "",
            Self::Link(target) => target,
        }
    }
}

impl Members {
    /// Lists the members of the tar at `path`. A compressed one is uncompressed first, into a nameless file in
    /// `scratch`.
    ///
    /// # Errors
    /// When the file cannot be read, or is not a whole tar.
    pub fn open(path: impl Into<PathBuf>, scratch: &Path) -> Result<Self> {
        let path = path.into();
        let file = layer::named::open(&path)?;
        let mut start = [0; 4];
        let count = file.read_at(&mut start, 0)?;
        let file = match Compression::detect(&start[..count]) {
            Compression::None => file,
            Compression::Gzip | Compression::Zstd => uncompress(file, &path, scratch)?,
        };
        let length = file.metadata()?.len();
        let table = Scan { path: &path, file: &file, length }.run()?;
        Ok(Self { path, file: Arc::new(file), table: Arc::new(table) })
    }

    /// The tar file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The size of the file that `name` is, through links; none when there is no such file.
    pub fn size(&self, name: &str) -> Option<u64> {
        self.find(name).map(|(_, size)| size)
    }

    /// A reader of the file `name` from `skip` on; none when there is no such file.
    pub fn open_member(&self, name: &str, skip: u64) -> Option<Section> {
        let (offset, size) = self.find(name)?;
        Some(Section { file: Arc::clone(&self.file), at: offset + skip.min(size), end: offset + size })
    }

    /// The content of a small file.
    ///
    /// # Errors
    /// When it is missing, larger than `limit`, or cannot be read.
    pub fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let what = || format!("archive {}", self.path.display());
        let (offset, size) =
            self.find(name).ok_or_else(|| Error::invalid(what(), format!("it has no file `{name}`")))?;
        if size > limit {
            let reason = format!("its file `{name}` has {size} bytes, expected at most {limit}");
            return Err(Error::invalid(what(), reason));
        }
        let mut bytes = vec![0; size as usize];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn find(&self, name: &str) -> Option<(u64, u64)> {
        let mut name = normal(name)?;
        for _ in 0..MAX_LINKS {
            match self.table.get(&name)? {
                Member::File { offset, size } => return Some((*offset, *size)),
                Member::Link(target) => name.clone_from(target),
            }
        }
        None
    }
}

/// A part of a file, read without moving the file's own position: many at once can be open.
#[derive(Debug)]
pub struct Section {
    file: Arc<std::fs::File>,
    at: u64,
    end: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min((self.end - self.at).try_into().unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..count], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// `name` without `.` and `..`; nothing when it leads out of the archive.
fn normal(name: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Where a symbolic link at `name` points, within the archive.
fn link_target(name: &str, target: &str) -> Option<String> {
    match (target.starts_with('/'), name.rsplit_once('/')) {
        (false, Some((folder, _))) => normal(&format!("{folder}/{target}")),
        _ => normal(target),
    }
}

struct Scan<'a> {
    path: &'a Path,
    file: &'a std::fs::File,
    length: u64,
}

/// What extended headers said about the next member.
#[derive(Default)]
struct Extended {
    name: Option<String>,
    link: Option<String>,
    size: Option<u64>,
    sparse: bool,
}

impl Scan<'_> {
    fn run(&self) -> Result<BTreeMap<String, Member>> {
        let mut table = BTreeMap::new();
        let (mut at, mut held) = (0, 0);
        let mut extended = Extended::default();
        while at + BLOCK <= self.length {
            let mut header = [0; BLOCK as usize];
            self.file.read_exact_at(&mut header, at)?;
            if header.iter().all(|byte| *byte == 0) {
                return Ok(table);
            }
            self.check_sum(&header, at)?;
            let kind = header[156];
            let is_extension = matches!(kind, b'L' | b'K' | b'x' | b'g');
            let own_size =
                number(&header[124..136]).ok_or_else(|| self.broken(at, "its size is not a number"))?;
            let size = if is_extension { own_size } else { extended.size.unwrap_or(own_size) };
            let offset = at + BLOCK;
            let end = size.checked_next_multiple_of(BLOCK).and_then(|size| offset.checked_add(size));
            match end {
                Some(end) if offset + size <= self.length => at = end,
                _ => return Err(self.broken(at, &format!("its {size} bytes go beyond the end of the file"))),
            }
            if is_extension {
                self.extend(&mut extended, kind, offset, size)?;
                continue;
            }
            let extended = std::mem::take(&mut extended);
            if let Some((name, member)) = member(&header, kind, extended, offset, size) {
                held += PER_MEMBER + name.len() + member.target().len();
                if held > MAX_TABLE {
                    return Err(Error::invalid(self.what(), "it has more files than images need"));
                }
                // As in unpacking, the last of several members with one name counts.
                table.insert(name, member);
            }
        }
        match table.is_empty() {
            // Not even one member and no end mark.
            true => Err(Error::invalid(self.what(), "it is not a tar")),
            false => Ok(table),
        }
    }

    fn extend(&self, extended: &mut Extended, kind: u8, offset: u64, size: u64) -> Result<()> {
        if kind == b'g' {
            return Ok(());
        }
        if size > MAX_EXTENSION {
            return Err(self.broken(offset - BLOCK, "its name or attributes are too long"));
        }
        let mut bytes = vec![0; size as usize];
        self.file.read_exact_at(&mut bytes, offset)?;
        match kind {
            b'L' => extended.name = Some(text(&bytes)),
            b'K' => extended.link = Some(text(&bytes)),
            _ => pax(extended, &bytes)
                .ok_or_else(|| self.broken(offset - BLOCK, "its attributes are not pax records"))?,
        }
        Ok(())
    }

    fn check_sum(&self, header: &[u8], at: u64) -> Result<()> {
        let sum: u64 = header
            .iter()
            .enumerate()
            .map(|(i, b)| if (148..156).contains(&i) { 32 } else { u64::from(*b) })
            .sum();
        match number(&header[148..156]) {
            Some(expected) if expected == sum => Ok(()),
            _ if at == 0 => Err(Error::invalid(self.what(), "it is not a tar")),
            _ => Err(self.broken(at, "its checksum is wrong")),
        }
    }

    fn broken(&self, at: u64, reason: &str) -> Error {
        Error::invalid(self.what(), format!("the member at byte {at} is broken: {reason}"))
    }

    fn what(&self) -> String {
        format!("archive {}", self.path.display())
    }
}

fn member(header: &[u8], kind: u8, extended: Extended, offset: u64, size: u64) -> Option<(String, Member)> {
    let name = extended.name.unwrap_or_else(|| {
        let (name, prefix) = (text(&header[..100]), text(&header[345..500]));
        let is_ustar = &header[257..263] == b"ustar\0";
        if is_ustar && !prefix.is_empty() { format!("{prefix}/{name}") } else { name }
    });
    let name = normal(&name).filter(|name| !name.is_empty())?;
    let link = || extended.link.clone().unwrap_or_else(|| text(&header[157..257]));
    let member = match kind {
        // A sparse file's bytes are not its content.
        _ if extended.sparse => return None,
        b'0' | b'\0' | b'7' => Member::File { offset, size },
        b'1' => Member::Link(normal(&link())?),
        b'2' => Member::Link(link_target(&name, &link())?),
        _ => return None,
    };
    Some((name, member))
}

/// Text up to its first NUL.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// A header's number: octal digits, or GNU's base 256.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let (first, rest) = (u64::from(field[0] & 0x7f), &field[1..]);
        return rest.iter().try_fold(first, |sum, byte| sum.checked_mul(256)?.checked_add(u64::from(*byte)));
    }
    let digits = field.iter().skip_while(|b| **b == b' ').take_while(|b| !matches!(b, b' ' | b'\0'));
    digits.copied().try_fold(0_u64, |sum, digit| match digit {
        b'0'..=b'7' => sum.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// `length key=value\n`, repeated.
fn pax(extended: &mut Extended, mut records: &[u8]) -> Option<()> {
    while !records.is_empty() {
        let space = records.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
        let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
        records = &records[length..];
        let equals = record.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (&record[..equals], String::from_utf8_lossy(&record[equals + 1..]));
        match key {
            b"path" => extended.name = Some(value.into_owned()),
            b"linkpath" => extended.link = Some(value.into_owned()),
            b"size" => extended.size = Some(value.parse().ok()?),
            key if key.starts_with(b"GNU.sparse.") => extended.sparse = true,
            _ => {}
        }
    }
    Some(())
}

/// Uncompresses a whole archive into a nameless file.
fn uncompress(file: std::fs::File, path: &Path, scratch: &Path) -> Result<std::fs::File> {
    let broken = |reason: String| Error::invalid(format!("archive {}", path.display()), reason);
    let limit = layer::unpack::Limits::default().bytes;
    let mut plain = tempfile::tempfile_in(scratch)?;
    let mut reader = layer::unpack::decompressed(file)?.take(limit + 1);
    let count = io::copy(&mut reader, &mut plain).map_err(|error| broken(error.to_string()))?;
    match count > limit {
        true => Err(broken(format!("it has more than {limit} bytes uncompressed"))),
        false => Ok(plain),
    }
}

#[cfg(test)]
mod tests;
