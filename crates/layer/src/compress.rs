//! How layers are compressed: the choice, its name on the command line, its media type, and one block of it.
//!
//! A layer is compressed in blocks of 1 MiB, each one a whole gzip member or zstd frame: several may follow each
//! other in both formats. So blocks can be compressed side by side, and the result depends on the level alone and
//! never on the number of threads. Not here: the threads; see the pipeline.

use std::fmt;
use std::str::FromStr;

use libdeflater::{CompressionLvl, Compressor};

/// Uncompressed bytes in one block.
pub(crate) const BLOCK_LEN: usize = 1 << 20;

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// gzip, by libdeflate, levels 0 (stored) to 12.
    Gzip(u8),
    /// zstd with checksums, levels 1 to 22. Docker 20.10 and older cannot load it.
    Zstd(u8),
    /// None at all.
    None,
}

/// The text names no compression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid compression `{text}`: expected `gzip[:0-12]`, `zstd[:1-22]` or `none`")]
pub struct InvalidCompression {
    /// The text that was given.
    pub text: String,
}

impl Compression {
    /// gzip at the fastest level whose result is no larger than that of `gzip -1`.
    pub const DEFAULT: Self = Self::Gzip(1);

    /// The OCI media type of a layer compressed this way (OCI image specification, "Layers").
    pub fn media_type(&self) -> &'static str {
        match self {
            Self::Gzip(_) => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd(_) => "application/vnd.oci.image.layer.v1.tar+zstd",
            Self::None => "application/vnd.oci.image.layer.v1.tar",
        }
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gzip(level) => write!(f, "gzip:{level}"),
            Self::Zstd(level) => write!(f, "zstd:{level}"),
            Self::None => f.write_str("none"),
        }
    }
}

impl FromStr for Compression {
    type Err = InvalidCompression;

    fn from_str(text: &str) -> Result<Self, InvalidCompression> {
        let (name, level) = match text.split_once(':') {
            // `+1` is a number to Rust and not to us.
            Some((name, level)) => (name, Some(level.parse().ok().filter(|_| !level.starts_with('+')))),
            None => (text, None),
        };
        match (name, level) {
            ("gzip", None) => Some(Self::DEFAULT),
            ("gzip", Some(Some(level @ 0..=12))) => Some(Self::Gzip(level)),
            ("zstd", None) => Some(Self::Zstd(3)),
            ("zstd", Some(Some(level @ 1..=22))) => Some(Self::Zstd(level)),
            ("none", None) => Some(Self::None),
            _ => None,
        }
        .ok_or_else(|| InvalidCompression { text: text.to_owned() })
    }
}

/// Compresses blocks, one at a time, keeping its tables between them.
pub(crate) enum BlockCompressor {
    Gzip(Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
    None,
}

impl BlockCompressor {
    pub(crate) fn new(compression: Compression) -> std::io::Result<Self> {
        Ok(match compression {
            Compression::Gzip(level) => {
                let level = CompressionLvl::new(level.into())
                    .map_err(|_| std::io::Error::other(format!("gzip has no level {level}")))?;
                Self::Gzip(Compressor::new(level))
            }
            Compression::Zstd(level) => {
                let mut compressor = zstd::bulk::Compressor::new(level.into())?;
                compressor.include_checksum(true)?;
                Self::Zstd(compressor)
            }
            Compression::None => Self::None,
        })
    }

    /// Writes the compressed form of `block` over `out`, which grows as needed and never shrinks, and says how long
    /// it is; `None` leaves the block as it is.
    pub(crate) fn compress(&mut self, block: &[u8], out: &mut Vec<u8>) -> std::io::Result<Option<usize>> {
        let bound = match self {
            Self::Gzip(compressor) => compressor.gzip_compress_bound(block.len()),
            Self::Zstd(_) => zstd::zstd_safe::compress_bound(block.len()),
            Self::None => return Ok(None),
        };
        if out.len() < bound {
            out.resize(bound, 0);
        }
        match self {
            Self::Gzip(compressor) => compressor.gzip_compress(block, out).map_err(std::io::Error::other),
            Self::Zstd(compressor) => compressor.compress_to_buffer(block, &mut out[..]),
            Self::None => unreachable!("left above"),
        }
        .map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints() {
        for (text, expected) in [
            ("gzip", Compression::Gzip(1)),
            ("gzip:9", Compression::Gzip(9)),
            ("gzip:0", Compression::Gzip(0)),
            ("zstd", Compression::Zstd(3)),
            ("zstd:19", Compression::Zstd(19)),
            ("none", Compression::None),
        ] {
            assert_eq!(text.parse(), Ok(expected));
            assert_eq!(expected.to_string().parse(), Ok(expected));
        }
        for text in
            ["", "gzip:", "gzip:13", "gzip:+1", "gzip:-1", "zstd:0", "zstd:23", "none:1", "xz", "GZIP"]
        {
            let error = text.parse::<Compression>().unwrap_err();
            assert!(error.to_string().contains(&format!("`{text}`")), "{error}");
        }
    }
}
