//! Uncompressing: gzip of one or more members, zstd of one or more frames.

use std::io::{BufReader, Read};

use crate::error::Result;
use crate::image::Compression;

/// What is read at once from the compressed side.
const BUFFER: usize = 256 << 10;

/// zstd frames may ask for a window; what is larger than this many bits (128 MiB) is meant to exhaust memory.
const MAX_WINDOW_BITS: u32 = 27;

/// A reader of what `reader` gives, uncompressed.
///
/// # Errors
/// When no zstd context can be made. Bad data is an error of the reader.
pub(crate) fn decoder<'a>(reader: impl Read + 'a, compression: Compression) -> Result<Box<dyn Read + 'a>> {
    let reader = BufReader::with_capacity(BUFFER, reader);
    Ok(match compression {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(reader)?;
            decoder.window_log_max(MAX_WINDOW_BITS)?;
            Box::new(decoder)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn reads_all_members_and_frames() {
        let decode = |bytes: &[u8], compression| {
            let mut out = Vec::new();
            decoder(bytes, compression).unwrap().read_to_end(&mut out).map(|_| out)
        };
        let two = [gzip(b"one"), gzip(b"two")].concat();
        assert_eq!(decode(&two, Compression::Gzip).unwrap(), b"onetwo");
        let frame = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
        let two = [frame(b"one"), frame(b"two")].concat();
        assert_eq!(decode(&two, Compression::Zstd).unwrap(), b"onetwo");
        assert_eq!(decode(b"as it is", Compression::None).unwrap(), b"as it is");
        assert!(decode(&gzip(b"cut")[..15], Compression::Gzip).is_err());
        assert!(decode(b"not gzip", Compression::Gzip).is_err());
    }
}
