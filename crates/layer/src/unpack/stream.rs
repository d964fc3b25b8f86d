//! From a compressed source to tar bytes: one thread reads and inflates, the other hashes and parses.
//!
//! The compression is told by the first bytes, never by a media type: servers get these wrong. Not here: tar.

use std::io::{self, BufRead, BufReader, Read};
use std::thread::Scope;

use crossbeam_channel::{Receiver, Sender, bounded};
use flate2::bufread::MultiGzDecoder;

use crate::{Digest, Hasher};

/// Bytes that go from one thread to the other at a time.
const CHUNK: usize = 256 << 10;
/// Chunks on their way: enough that neither thread waits for a hiccup of the other.
const CHUNKS: usize = 8;
/// The largest zstd window that is accepted, as a power of two: what `zstd` itself accepts without being told to.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Decompressed bytes, hashed as they come.
pub(crate) struct Stream {
    chunks: Receiver<io::Result<Vec<u8>>>,
    used: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    hasher: Hasher,
    received: u64,
    limit: u64,
}

/// Why no more bytes come.
#[derive(Debug)]
pub(crate) enum StreamError {
    /// They end too early.
    Truncated,
    /// There are more than allowed.
    TooLong,
    /// The source failed, or what it gave is not what it says.
    Read(io::Error),
}

impl Stream {
    /// Begins to read `source` on a thread of its own. More than `limit` decompressed bytes are an error.
    pub(crate) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        source: impl Read + Send + 'scope,
        limit: u64,
    ) -> Self {
        let (sender, chunks) = bounded(CHUNKS);
        let (used, unused) = bounded(CHUNKS + 2);
        scope.spawn(move || {
            let read = || -> io::Result<()> {
                let mut source = decompressed(source)?;
                loop {
                    let mut chunk = unused.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK));
                    chunk.resize(CHUNK, 0);
                    let length = fill(&mut source, &mut chunk)?;
                    chunk.truncate(length);
                    // The other side is gone when it found an error: so is the reason to read on.
                    if length == 0 || sender.send(Ok(chunk)).is_err() {
                        return Ok(());
                    }
                }
            };
            if let Err(error) = read() {
                let _ = sender.send(Err(error));
            }
        });
        Self { chunks, used, chunk: Vec::new(), at: 0, hasher: Hasher::new(), received: 0, limit }
    }

    /// Some bytes, at least one, at most `limit` of them; none at the end of the stream.
    pub(crate) fn some(&mut self, limit: u64) -> Result<&[u8], StreamError> {
        if self.at == self.chunk.len() {
            self.receive()?;
        }
        let length = limit.min((self.chunk.len() - self.at) as u64) as usize;
        self.at += length;
        Ok(&self.chunk[self.at - length..self.at])
    }

    /// Fills `buffer`, or says that the stream was at its end already.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, StreamError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let some = self.some((buffer.len() - filled) as u64)?;
            match some.len() {
                0 if filled == 0 => return Ok(false),
                0 => return Err(StreamError::Truncated),
                length => buffer[filled..filled + length].copy_from_slice(some),
            }
            filled += some.len();
        }
        Ok(true)
    }

    /// Passes exactly `length` bytes to `take`, in pieces.
    pub(crate) fn pass<E: From<StreamError>>(
        &mut self,
        length: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut left = length;
        while left > 0 {
            let some = self.some(left)?;
            if some.is_empty() {
                return Err(StreamError::Truncated.into());
            }
            left -= some.len() as u64;
            take(some)?;
        }
        Ok(())
    }

    /// Bytes received so far.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Reads to the end: the digest of everything, and how much it was.
    pub(crate) fn finish(mut self) -> Result<(Digest, u64), StreamError> {
        while !self.some(u64::MAX)?.is_empty() {}
        Ok((self.hasher.finish(), self.received))
    }

    fn receive(&mut self) -> Result<(), StreamError> {
        let empty = std::mem::take(&mut self.chunk);
        self.at = 0;
        if empty.capacity() > 0 {
            // Full when the reader is gone.
            let _ = self.used.try_send(empty);
        }
        match self.chunks.recv() {
            Ok(Ok(chunk)) => {
                self.hasher.update(&chunk);
                self.received += chunk.len() as u64;
                self.chunk = chunk;
                if self.received > self.limit { Err(StreamError::TooLong) } else { Ok(()) }
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(StreamError::Truncated),
            Ok(Err(error)) => Err(StreamError::Read(error)),
            // The reader reached the end.
            Err(_) => Ok(()),
        }
    }
}

/// Reads until `buffer` is full or the source is at its end.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// `source` without its compression: gzip (of one or several members), zstd, or none, as its first bytes tell.
///
/// # Errors
/// A source that cannot be read.
pub fn decompressed<'a>(source: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut magic = [0; 4];
    let mut source = BufReader::with_capacity(128 << 10, source);
    let length = fill(&mut source, &mut magic)?;
    let magic = &magic[..length];
    let is_zstd = magic == [0x28, 0xb5, 0x2f, 0xfd] || matches!(magic, [0x50..=0x5f, 0x2a, 0x4d, 0x18]);
    let is_gzip = magic.starts_with(&[0x1f, 0x8b]);
    let source = PutBack { first: magic.to_vec(), at: 0, rest: source };
    if is_gzip {
        Ok(Box::new(MultiGzDecoder::new(source)))
    } else if is_zstd {
        let mut decoder = zstd::Decoder::with_buffer(source)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG)?;
        Ok(Box::new(decoder))
    } else {
        Ok(Box::new(source))
    }
}

/// A reader with its first bytes put back.
struct PutBack<R> {
    first: Vec<u8>,
    at: usize,
    rest: R,
}

impl<R: BufRead> Read for PutBack<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl<R: BufRead> BufRead for PutBack<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at < self.first.len() { Ok(&self.first[self.at..]) } else { self.rest.fill_buf() }
    }

    fn consume(&mut self, length: usize) {
        if self.at < self.first.len() { self.at += length } else { self.rest.consume(length) }
    }
}
