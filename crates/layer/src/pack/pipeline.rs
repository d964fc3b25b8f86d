//! From tar bytes to a sink: blocks are hashed by the thread that makes them, compressed by several workers, and
//! hashed again and written, in order, by one writer.
//!
//! Channels are bounded, so memory is: each worker has a block in hand, as many again wait, and buffers come back to
//! be filled anew. Not here: what is in the tar.

use std::io::{self, Write};
use std::sync::Mutex;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::compress::{BLOCK_LEN, BlockCompressor};
use crate::{Compression, Digest, Hasher};

/// Hashing this much at a time keeps it in the processor's cache.
const HASH_LEN: usize = 128 << 10;

/// What came out at the end.
#[derive(Debug)]
pub(crate) struct Written {
    pub digest: Digest,
    pub size: u64,
}

/// Takes tar bytes on their way to the workers. Only the diffID is computed when there are none.
pub(crate) struct Blocks<'a> {
    chunk: Chunk,
    /// Bytes of the chunk that are hashed already.
    hashed: usize,
    hasher: Hasher,
    sent: u64,
    out: Option<Out<'a>>,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl std::fmt::Debug for Blocks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blocks").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// A buffer of which the first `len` bytes count. Its length never changes once it is large enough, so that its
/// memory is initialised once.
struct Chunk {
    bytes: Vec<u8>,
    len: usize,
}

impl Chunk {
    fn filled(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

struct Out<'a> {
    jobs: Sender<Job>,
    order: Sender<Receiver<io::Result<Chunk>>>,
    unused: &'a Unused,
}

struct Job {
    chunk: Chunk,
    reply: Sender<io::Result<Chunk>>,
}

/// The pipeline ended early: the writer or a worker has the reason.
#[derive(Debug)]
pub(crate) struct Stopped;

impl Blocks<'_> {
    fn new<'a>(out: Option<Out<'a>>, progress: &'a (dyn Fn(u64) + Sync)) -> Blocks<'a> {
        Blocks { chunk: new_block(), hashed: 0, hasher: Hasher::new(), sent: 0, out, progress }
    }

    /// Bytes put in so far.
    pub(crate) fn len(&self) -> u64 {
        self.sent + self.chunk.len as u64
    }

    /// Adds bytes.
    pub(crate) fn put(&mut self, mut bytes: &[u8]) -> Result<(), Stopped> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_LEN - self.chunk.len));
            self.chunk.bytes[self.chunk.len..][..now.len()].copy_from_slice(now);
            self.advance(now.len())?;
            bytes = later;
        }
        Ok(())
    }

    /// Adds `count` zeros.
    pub(crate) fn put_zeros(&mut self, count: usize) -> Result<(), Stopped> {
        const ZEROS: [u8; 1024] = [0; 1024];
        let mut left = count;
        while left > 0 {
            let now = left.min(ZEROS.len());
            self.put(&ZEROS[..now])?;
            left -= now;
        }
        Ok(())
    }

    /// Adds what one call of `read` reads into the buffer it is given, of at most `limit` bytes, and says how many
    /// these were.
    pub(crate) fn put_from(
        &mut self,
        limit: u64,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> Result<io::Result<usize>, Stopped> {
        // Not more than is hashed at a time: what was just read is still in the processor's cache then.
        let wanted = limit.min(HASH_LEN as u64) as usize;
        let room = (BLOCK_LEN - self.chunk.len).min(wanted);
        match read(&mut self.chunk.bytes[self.chunk.len..][..room]) {
            Ok(count) => self.advance(count).map(|()| Ok(count)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Counts new bytes, hashes when there is enough, and sends a full block on.
    fn advance(&mut self, count: usize) -> Result<(), Stopped> {
        self.chunk.len += count;
        if self.chunk.len == BLOCK_LEN {
            return self.send();
        }
        if self.chunk.len - self.hashed >= HASH_LEN {
            self.hasher.update(&self.chunk.filled()[self.hashed..]);
            self.hashed = self.chunk.len;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), Stopped> {
        self.hasher.update(&self.chunk.filled()[self.hashed..]);
        self.hashed = 0;
        self.sent += self.chunk.len as u64;
        match &self.out {
            Some(out) => {
                let chunk = std::mem::replace(&mut self.chunk, take(&out.unused.blocks, new_block));
                let (reply, done) = bounded(1);
                out.order.send(done).map_err(|_| Stopped)?;
                out.jobs.send(Job { chunk, reply }).map_err(|_| Stopped)?;
            }
            None => self.chunk.len = 0,
        }
        (self.progress)(self.sent);
        Ok(())
    }

    fn finish(mut self) -> Result<(Digest, u64), Stopped> {
        if self.chunk.len > 0 {
            self.send()?;
        }
        Ok((self.hasher.finish(), self.sent))
    }
}

fn new_block() -> Chunk {
    Chunk { bytes: vec![0; BLOCK_LEN], len: 0 }
}

/// Buffers that were used and can be used again.
#[derive(Default)]
struct Unused {
    blocks: Mutex<Vec<Chunk>>,
    compressed: Mutex<Vec<Chunk>>,
}

fn take(pool: &Mutex<Vec<Chunk>>, new: impl FnOnce() -> Chunk) -> Chunk {
    pool.lock().ok().and_then(|mut pool| pool.pop()).unwrap_or_else(new)
}

fn give(pool: &Mutex<Vec<Chunk>>, chunk: Chunk) {
    if let Ok(mut pool) = pool.lock() {
        pool.push(Chunk { len: 0, ..chunk });
    }
}

/// Why a pipeline did not reach its end.
#[derive(Debug)]
pub(crate) enum Failure<E> {
    /// Making the tar failed.
    Source(E),
    /// Compressing or writing failed.
    Sink(io::Error),
}

/// What `fill` puts in, hashed only: its result, the diffID and the number of bytes.
pub(crate) fn hash_only<T, E: From<Stopped>>(
    progress: &(dyn Fn(u64) + Sync),
    fill: impl FnOnce(&mut Blocks<'_>) -> Result<T, E>,
) -> Result<(T, Digest, u64), E> {
    let mut blocks = Blocks::new(None, progress);
    let value = fill(&mut blocks)?;
    let (diff_id, size) = blocks.finish()?;
    Ok((value, diff_id, size))
}

/// Runs the pipeline over what `fill` puts in: its result, the diffID, the uncompressed size, and what was written.
pub(crate) fn run<T, E: From<Stopped>>(
    compression: Compression,
    workers: usize,
    sink: &mut (dyn Write + Send),
    progress: &(dyn Fn(u64) + Sync),
    fill: impl FnOnce(&mut Blocks<'_>) -> Result<T, E>,
) -> Result<(T, Digest, u64, Written), Failure<E>> {
    let workers = workers.max(1);
    let unused = Unused::default();
    let (jobs, work) = bounded::<Job>(workers);
    let (order, ordered) = bounded(2 * workers);
    // Made here, so that a level the library does not know is an error before any thread starts.
    let compressors = (0..workers)
        .map(|_| BlockCompressor::new(compression))
        .collect::<io::Result<Vec<_>>>()
        .map_err(Failure::Sink)?;
    thread::scope(|scope| {
        for compressor in compressors {
            let (work, unused) = (work.clone(), &unused);
            scope.spawn(move || compress_blocks(compressor, &work, unused));
        }
        drop(work);
        let writer = scope.spawn(|| write_blocks(ordered, sink, compression, &unused));
        let mut blocks = Blocks::new(Some(Out { jobs, order, unused: &unused }), progress);
        let filled = fill(&mut blocks);
        let finished = filled.and_then(|value| Ok((value, blocks.finish()?)));
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (finished, written) {
            (Ok((value, (diff_id, size))), Ok(digest)) => {
                // Not compressed, the bytes written are the bytes hashed already.
                let (digest, written) = digest;
                Ok((value, diff_id, size, Written { digest: digest.unwrap_or(diff_id), size: written }))
            }
            // A writer that failed is the reason why the source could not go on.
            (_, Err(error)) => Err(Failure::Sink(error)),
            (Err(error), Ok(_)) => Err(Failure::Source(error)),
        }
    })
}

fn compress_blocks(mut compressor: BlockCompressor, work: &Receiver<Job>, unused: &Unused) {
    for Job { chunk, reply } in work {
        let mut out = take(&unused.compressed, || Chunk { bytes: Vec::new(), len: 0 });
        let result = compressor.compress(chunk.filled(), &mut out.bytes).map(|length| match length {
            Some(len) => {
                give(&unused.blocks, chunk);
                Chunk { len, ..out }
            }
            None => chunk,
        });
        // Nobody listens when the writer failed; the source is told by the order channel.
        let _ = reply.send(result);
    }
}

fn write_blocks(
    ordered: Receiver<Receiver<io::Result<Chunk>>>,
    sink: &mut (dyn Write + Send),
    compression: Compression,
    unused: &Unused,
) -> io::Result<(Option<Digest>, u64)> {
    let compressed = compression != Compression::None;
    let mut hasher = compressed.then(Hasher::new);
    let mut size = 0;
    for done in ordered {
        // A block that was announced and never sent: the source failed in between, and says why.
        let Ok(result) = done.recv() else { break };
        let chunk = result?;
        if let Some(hasher) = &mut hasher {
            hasher.update(chunk.filled());
        }
        sink.write_all(chunk.filled())?;
        size += chunk.len as u64;
        give(if compressed { &unused.compressed } else { &unused.blocks }, chunk);
    }
    sink.flush()?;
    Ok((hasher.map(Hasher::finish), size))
}
