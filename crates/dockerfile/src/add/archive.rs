//! Tar archives that `ADD` unpacks: plain, or compressed with gzip, bzip2, xz or zstd.

use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

use bzip2::read::MultiBzDecoder;
use layer::unpack::{Options, Owners, UnpackError, Unpacked, decompressed, unpack};
use lzma_rust2::XzReader;

/// Memory that an xz archive may ask for, in KiB: what `xz -9` needs, and some.
const XZ_MEMORY: u32 = 128 << 10;

/// A block of a tar archive.
const BLOCK: usize = 512;

/// Whether a file is an archive that `ADD` unpacks: whether its first bytes, compressed or not, are a tar header.
///
/// # Errors
/// A file that cannot be read; what is wrong with a compressed one only says that it is no archive.
pub fn is_archive(mut file: impl Read + Send) -> io::Result<bool> {
    // Enough for the first block of any compression; the file itself is not kept from others.
    let mut first = Vec::new();
    file.by_ref().take(1 << 20).read_to_end(&mut first)?;
    let mut block = [0; BLOCK];
    let read = plain(Cursor::new(first).chain(file)).and_then(|mut plain| plain.read_exact(&mut block));
    Ok(read.is_ok() && is_header(&block))
}

/// Unpacks an archive into the directory `dest`, which is made if it is not there. Names in it cannot leave `dest`;
/// devices are left out. Everything belongs to `owner` where there is one.
///
/// # Errors
/// What is no archive, costs too much, or cannot be written.
pub fn unpack_archive(
    file: impl Read + Send,
    dest: &Path,
    owners: Owners,
    owner: Option<(u32, u32)>,
) -> Result<Unpacked, UnpackError> {
    let plain = plain(file).map_err(UnpackError::Read)?;
    unpack(plain, dest, &Options { owners, owner, is_layer: false, ..Options::default() })
}

/// A file without its compression.
fn plain<'a>(file: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut file = BufReader::with_capacity(128 << 10, file);
    let mut magic = Vec::new();
    file.by_ref().take(6).read_to_end(&mut magic)?;
    let is_xz = magic == b"\xfd7zXZ\0";
    let is_bzip2 = magic.starts_with(b"BZh");
    let file = Cursor::new(magic).chain(file);
    if is_xz {
        Ok(Box::new(XzReader::new_mem_limit(file, true, XZ_MEMORY)))
    } else if is_bzip2 {
        Ok(Box::new(MultiBzDecoder::new(file)))
    } else {
        decompressed(file)
    }
}

/// Whether a block begins a tar archive: its checksum is right.
fn is_header(block: &[u8; BLOCK]) -> bool {
    let text = |range: std::ops::Range<usize>| {
        let field = String::from_utf8_lossy(&block[range]).into_owned();
        u32::from_str_radix(field.trim_matches(['\0', ' ']), 8).ok()
    };
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| u32::from(if (148..156).contains(&at) { b' ' } else { *byte }))
        .sum();
    block[0] != 0 && text(148..156) == Some(sum)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A tar made by hand: name, content.
    fn tar(files: &[(&str, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, content) in files {
            let mut header = [0u8; BLOCK];
            header[..name.len()].copy_from_slice(name.as_bytes());
            header[100..107].copy_from_slice(b"0000644");
            header[108..115].copy_from_slice(b"0000000");
            header[116..123].copy_from_slice(b"0000000");
            header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
            header[136..147].copy_from_slice(b"00000000001");
            header[156] = b'0';
            header[257..263].copy_from_slice(b"ustar\0");
            header[148..156].copy_from_slice(b"        ");
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            bytes.extend(header);
            bytes.extend(content.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.resize(bytes.len() + 2 * BLOCK, 0);
        bytes
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// A tar of the file `file` with the content `one`, as xz compresses it: there is nothing here that could.
    const XZ: &str = "fd377a585a000004e6d6b4460200210116000000742fe5a3e007ff003d5d0033\
        1a49d6b63821af01ee6e05733bc0fc80cc513e08a13e2f59b5eb88d867dea072\
        f86f12aeaebec16b2647b7c33195910a397237cfc3920a9e5678ec0000000000\
        ad5bff109673a7e10001598010000000ef6a2b09b1c467fb020000000004595a";

    fn xz() -> Vec<u8> {
        XZ.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn unpacked(bytes: &[u8]) -> Result<Vec<(String, String)>, UnpackError> {
        let dir = tempfile::tempdir().unwrap();
        unpack_archive(bytes, &dir.path().join("d"), Owners::Ours, None)?;
        let root = layer::Root::open(dir.path().join("d")).unwrap();
        let names = root.read_dir("").unwrap().into_iter().map(|entry| entry.name.into_string().unwrap());
        Ok(names.map(|name| (name.clone(), root.read_to_string(&name, 100).unwrap())).collect())
    }

    #[test]
    fn unpacks_what_is_compressed_or_not() {
        let plain = tar(&[("file", "one"), ("other", "two")]);
        let all = [("file".to_owned(), "one".to_owned()), ("other".to_owned(), "two".to_owned())];
        let gzip = {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&plain).unwrap();
            encoder.finish().unwrap()
        };
        let zstd = zstd::encode_all(&plain[..], 1).unwrap();
        for bytes in [&plain, &gzip, &zstd, &bzip2(&plain)] {
            assert!(is_archive(&bytes[..]).unwrap());
            assert_eq!(unpacked(bytes).unwrap(), all);
        }
        assert!(is_archive(&xz()[..]).unwrap());
        assert_eq!(unpacked(&xz()).unwrap(), all[..1]);
    }

    #[test]
    fn what_is_no_archive_is_a_file() {
        let text = "x".repeat(5000);
        let gzip_of_text = bzip2(text.as_bytes());
        let mut odd = tar(&[("file", "one")]);
        odd[0] = b'g';
        for bytes in [&b""[..], b"BZh", text.as_bytes(), &gzip_of_text, &odd, &[0; 2048], &xz()[..40]] {
            assert!(!is_archive(bytes).unwrap());
        }
    }

    #[test]
    fn archives_are_hostile() {
        assert_eq!(unpacked(&tar(&[(".wh.file", "one")])).unwrap().len(), 1, "no layer");
        for name in ["../file", "a/../../file"] {
            let dir = tempfile::tempdir().unwrap();
            // Whether that is an error or a file within: nothing is written outside.
            let _ = unpack_archive(&tar(&[(name, "one")])[..], &dir.path().join("d"), Owners::Ours, None);
            assert!(!dir.path().join("file").exists(), "{name}");
        }
        let whole = tar(&[("file", "one")]);
        assert!(unpacked(&whole[..514]).is_err());
        assert!(unpacked(&bzip2(&whole)[..60]).is_err());
        assert!(unpacked(&xz()[..80]).is_err());
    }
}
