//! Tar headers, byte for byte as Go's `archive/tar` writes them: the format of all layers of the reference lifecycle.
//!
//! USTAR where it can hold the entry, else PAX with only the records that USTAR could not hold, sorted by key. That
//! choice and each field's form decide the diffID, so they follow Go's writer and not what other tar writers do.
//! Not here: which entries there are and in which order.

use crate::attributes::Xattr;

/// Bytes in a block: every header and every content is padded to it.
pub(crate) const BLOCK: usize = 512;

/// The sort of an entry, by its tar type flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Flag {
    File = b'0',
    HardLink = b'1',
    Symlink = b'2',
    CharDevice = b'3',
    BlockDevice = b'4',
    Dir = b'5',
    Fifo = b'6',
}

/// What a header says of an entry. User and group names are always empty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header<'a> {
    pub name: &'a [u8],
    pub flag: Flag,
    /// Target of a symlink or hard link.
    pub link: &'a [u8],
    /// Low twelve bits of the mode.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bytes of content that follow; 0 for all but regular files.
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    pub xattrs: &'a [Xattr],
}

/// The entry cannot be written in any tar format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its tar header would be larger than 1 MiB")]
pub struct HeaderTooLarge;

/// PAX records larger than this are refused by Go's reader, and so are not written.
const MAX_RECORDS: usize = 1 << 20;

impl Header<'_> {
    /// Appends the entry's header blocks to `out`: one, or three and more when it needs PAX records.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Result<(), HeaderTooLarge> {
        let name_split = split_ustar(self.name);
        let records = self.records();
        let ustar_holds_all =
            records.is_empty() || (records.len() == 1 && records[0].0 == b"path" && name_split.is_some());
        if ustar_holds_all {
            let (prefix, name) = name_split.unwrap_or((b"", self.name));
            let mut block = self.block(name, self.link);
            put_string(&mut block[345..500], prefix);
            finish(&mut block);
            out.extend_from_slice(&block);
            return Ok(());
        }
        encode_records(self.name, &records, out)?;
        let mut block = self.block(&ascii(self.name), &ascii(self.link));
        finish(&mut block);
        out.extend_from_slice(&block);
        Ok(())
    }

    /// The PAX records that hold what USTAR's fields cannot, sorted by key.
    fn records(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut records = Vec::new();
        let mut add = |key: &str, value: Vec<u8>| records.push((key.as_bytes().to_vec(), value));
        for (key, id) in [("gid", self.gid), ("uid", self.uid)] {
            if !fits_octal(8, id.into()) {
                add(key, id.to_string().into_bytes());
            }
        }
        for (key, text) in [("linkpath", self.link), ("path", self.name)] {
            if text.len() > 100 || !is_ascii(text) {
                add(key, text.to_vec());
            }
        }
        if !fits_octal(12, self.size) {
            add("size", self.size.to_string().into_bytes());
        }
        if self.mtime < 0 || !fits_octal(12, self.mtime as u64) {
            add("mtime", self.mtime.to_string().into_bytes());
        }
        for (name, value) in self.xattrs {
            records.push(([b"SCHILY.xattr.".as_slice(), name].concat(), value.clone()));
        }
        records.sort();
        records
    }

    /// The fields that USTAR and PAX share. What does not fit is cut, or zero: a record then holds the truth.
    fn block(&self, name: &[u8], link: &[u8]) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        put_string(&mut block[..100], name);
        put_octal(&mut block[100..108], self.mode.into());
        put_octal(&mut block[108..116], self.uid.into());
        put_octal(&mut block[116..124], self.gid.into());
        put_octal(&mut block[124..136], self.size);
        put_octal(&mut block[136..148], self.mtime.try_into().unwrap_or(0));
        block[156] = self.flag as u8;
        put_string(&mut block[157..257], link);
        put_octal(&mut block[329..337], self.device.0.into());
        put_octal(&mut block[337..345], self.device.1.into());
        block
    }
}

/// Bytes after a content of `size` bytes up to the next block.
pub(crate) fn padding(size: u64) -> usize {
    (size.wrapping_neg() % BLOCK as u64) as usize
}

/// Appends the extended header that belongs to the entry `name`.
fn encode_records(
    name: &[u8],
    records: &[(Vec<u8>, Vec<u8>)],
    out: &mut Vec<u8>,
) -> Result<(), HeaderTooLarge> {
    let mut data = Vec::new();
    for (key, value) in records {
        put_record(&mut data, key, value);
    }
    if data.len() > MAX_RECORDS {
        return Err(HeaderTooLarge);
    }
    let mut block = [0; BLOCK];
    let shown = records_name(name);
    put_string(&mut block[..100], &shown);
    for field in [100..108, 108..116, 116..124, 136..148] {
        put_octal(&mut block[field], 0);
    }
    put_octal(&mut block[124..136], data.len() as u64);
    block[156] = b'x';
    finish(&mut block);
    out.extend_from_slice(&block);
    out.extend_from_slice(&data);
    out.resize(out.len() + padding(data.len() as u64), 0);
    Ok(())
}

/// The name of the extended header of `name`: `<its folder>/PaxHeaders.0/<its file name>`, ASCII, at most 100 bytes.
fn records_name(name: &[u8]) -> Vec<u8> {
    let slash = name.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let (dir, file) = name.split_at(slash);
    let mut joined = ascii(&crate::glob::clean(&[dir, b"/PaxHeaders.0/", file].concat()));
    if dir.is_empty() {
        joined.remove(0);
    }
    joined.truncate(100);
    while joined.last() == Some(&b'/') {
        joined.pop();
    }
    joined
}

/// One record: its own length in decimal, a space, `key=value`, a newline.
fn put_record(data: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    // The length counts its own digits, and these can make it one digit longer.
    if rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    data.extend_from_slice(length.to_string().as_bytes());
    data.push(b' ');
    data.extend_from_slice(key);
    data.push(b'=');
    data.extend_from_slice(value);
    data.push(b'\n');
}

/// Splits a long name at a slash into USTAR's prefix (155 bytes) and name (100 bytes) fields, if it can be.
fn split_ustar(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= 100 || !is_ascii(name) {
        return None;
    }
    let mut end = name.len();
    if end > 156 {
        end = 156;
    } else if name[end - 1] == b'/' {
        end -= 1;
    }
    let slash = name[..end].iter().rposition(|byte| *byte == b'/')?;
    let rest = name.len() - slash - 1;
    (slash > 0 && slash <= 155 && rest > 0 && rest <= 100).then(|| (&name[..slash], &name[slash + 1..]))
}

fn is_ascii(text: &[u8]) -> bool {
    text.iter().all(|byte| (1..0x80).contains(byte))
}

fn ascii(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| (1..0x80).contains(byte)).collect()
}

fn put_string(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
    // A cut name must not end in a slash: some readers would take the file for a folder.
    if text.len() > field.len() && field[field.len() - 1] == b'/' {
        let kept = text[..field.len() - 1].iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
        field[kept] = 0;
    }
}

/// True when a field of `width` bytes holds the number in octal and a NUL.
fn fits_octal(width: u32, number: u64) -> bool {
    number < 1 << ((width - 1) * 3)
}

fn put_octal(field: &mut [u8], number: u64) {
    let number = if fits_octal(field.len() as u32, number) { number } else { 0 };
    let digits = field.len() - 1;
    let text = format!("{number:0digits$o}");
    field[..digits].copy_from_slice(text.as_bytes());
}

/// Writes magic, version and checksum.
fn finish(block: &mut [u8; BLOCK]) {
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum = block.iter().map(|byte| u64::from(*byte)).sum();
    put_octal(&mut block[148..155], sum);
    block[154] = 0;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Digest;

    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        flag: String,
        #[serde(default)]
        link: String,
        mode: u32,
        uid: u32,
        gid: u32,
        size: u64,
        mtime: i64,
        device: (u32, u32),
        #[serde(default)]
        xattrs: BTreeMap<String, String>,
        sha256: String,
    }

    fn unhex(text: &str) -> Vec<u8> {
        let digits = text.as_bytes().chunks(2);
        digits.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// Random headers as Go's `archive/tar` (1.26) writes them; names, links and attributes are in hex.
    #[test]
    fn headers_are_those_of_go() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("../../tests/golden/headers.json")).unwrap();
        assert_eq!(cases.len(), 120);
        for case in cases {
            let (name, link) = (unhex(&case.name), unhex(&case.link));
            let flag = [
                Flag::File,
                Flag::HardLink,
                Flag::Symlink,
                Flag::CharDevice,
                Flag::BlockDevice,
                Flag::Dir,
                Flag::Fifo,
            ][usize::from(case.flag.as_bytes()[0] - b'0')];
            let xattrs: Vec<_> =
                case.xattrs.iter().map(|(name, value)| (name.as_bytes().to_vec(), unhex(value))).collect();
            let header = Header {
                name: &name,
                flag,
                link: &link,
                mode: case.mode,
                uid: case.uid,
                gid: case.gid,
                size: case.size,
                mtime: case.mtime,
                device: case.device,
                xattrs: &xattrs,
            };
            let mut bytes = Vec::new();
            header.encode(&mut bytes).unwrap();
            assert_eq!(Digest::of(&bytes).hex(), case.sha256, "{header:?}");
        }
    }

    #[test]
    fn a_header_has_a_limit() {
        let header = Header {
            name: &[b'n'; 2 << 20],
            flag: Flag::File,
            link: b"",
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            device: (0, 0),
            xattrs: &[],
        };
        assert_eq!(header.encode(&mut Vec::new()), Err(HeaderTooLarge));
    }
}
