//! Sending a blob while it is made, before its digest is known: one PATCH without a length, then a PUT that says
//! what it was. A layer is on its way while it is still being compressed.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use ureq::http::{Method, Uri};

use super::Client;
use super::endpoint::{Endpoint, Request};
use super::error::{Error, ErrorKind};
use super::http::Payload;
use super::push::{Blob, cancel, start, taken, upload_location, with_digest};
use super::token::Scope;
use crate::{Digest, Reference};

/// How much is handed over at once, in bytes.
const PIECE: usize = 256 << 10;
/// Pieces that wait for the network; with the one being made and the one being sent, what an upload holds.
const WAITING: usize = 4;

/// A blob on its way. Write its bytes, then [`Self::finish`]; dropped before that, the upload is given up and the
/// registry has nothing.
///
/// What was written is gone: when the connection breaks, writing fails (with an [`Error`] inside, see
/// [`Error::from_io`]), and the blob must be sent from wherever it was kept, with [`Client::push_blob`].
pub struct Upload {
    endpoint: Endpoint,
    reference: Reference,
    piece: Vec<u8>,
    /// `None` in it says that the blob ends there; without it, the blob was given up.
    pieces: Option<SyncSender<Option<Vec<u8>>>>,
    sender: Option<JoinHandle<Result<Uri, Error>>>,
    sent: u64,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("reference", &self.reference)
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Opens an upload to the reference's repository.
    pub fn start_upload(&self, reference: &Reference) -> Result<Upload, Error> {
        let endpoint = self.endpoint(reference.registry(), reference.repository());
        let upload =
            start(&endpoint, reference.repository(), false).map_err(|kind| during(kind, reference))?;
        let (pieces, queue) = sync_channel(WAITING);
        let sender = {
            let (endpoint, reference) = (endpoint.clone(), reference.clone());
            let thread = std::thread::Builder::new().name("upload".to_owned());
            thread.spawn(move || send(&endpoint, &reference, upload, queue))
        };
        let sender = sender.map_err(|e| during(ErrorKind::Source(e), reference))?;
        Ok(Upload {
            endpoint,
            reference: reference.clone(),
            piece: Vec::new(),
            pieces: Some(pieces),
            sender: Some(sender),
            sent: 0,
        })
    }
}

impl Upload {
    /// Bytes written so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Ends the blob and says what it is; the registry checks.
    pub fn finish(mut self, digest: Digest) -> Result<(), Error> {
        self.hand_over()?;
        if let Some(pieces) = self.pieces.take() {
            // When nobody listens any more, the sender's result says why.
            let _ = pieces.send(None);
        }
        let upload = self.join()?;
        let end = || {
            let scopes = [Scope::push(self.reference.repository())];
            let request = &mut Request::new(Method::PUT, with_digest(&upload, digest)?, &scopes);
            let answer = self.endpoint.send(request)?.expect_success()?;
            let blob = Blob { digest, size: Some(self.sent) };
            taken(&self.endpoint, self.reference.repository(), blob, answer, false)
        };
        end().map_err(|kind| during(kind, &self.reference))
    }

    /// Gives the piece to the sender.
    fn hand_over(&mut self) -> Result<(), Error> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.piece);
        let handed = self.pieces.as_ref().is_some_and(|pieces| pieces.send(Some(piece)).is_ok());
        if handed {
            return Ok(());
        }
        self.pieces = None;
        Err(match self.join() {
            Err(error) => error,
            Ok(_) => during(ended_early(), &self.reference),
        })
    }

    fn join(&mut self) -> Result<Uri, Error> {
        let outcome = self.sender.take().and_then(|sender| sender.join().ok());
        outcome.unwrap_or_else(|| Err(during(ended_early(), &self.reference)))
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.capacity() == 0 {
            self.piece.reserve_exact(PIECE);
        }
        let count = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == PIECE {
            self.hand_over()?;
        }
        self.sent += count as u64;
        Ok(count)
    }

    /// Does nothing: a piece leaves when it is full, or when the blob ends.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn during(kind: ErrorKind, reference: &Reference) -> Error {
    kind.during("push a layer to", reference.name())
}

fn ended_early() -> ErrorKind {
    ErrorKind::Source(io::Error::other("the upload ended before its content"))
}

/// Sends the pieces as they come; the upload's URL afterwards.
fn send(
    endpoint: &Endpoint,
    reference: &Reference,
    upload: Uri,
    queue: Receiver<Option<Vec<u8>>>,
) -> Result<Uri, Error> {
    let scopes = [Scope::push(reference.repository())];
    let mut pieces = Pieces { queue, piece: Vec::new(), taken: 0, ended: false, given_up: false };
    let outcome = endpoint.send(&mut Request {
        headers: vec![("content-type", "application/octet-stream".to_owned())],
        payload: Payload::Stream(&mut pieces, None),
        ..Request::new(Method::PATCH, upload.clone(), &scopes)
    });
    if pieces.given_up {
        cancel(endpoint, reference.repository(), upload);
        return Err(during(ended_early(), reference));
    }
    let next = outcome.and_then(|answer| {
        let answer = answer.expect(&[200, 201, 202, 204])?;
        let next = upload_location(&answer)?;
        answer.drain();
        Ok(next)
    });
    next.map_err(|kind| during(kind, reference))
}

/// The pieces as one stream.
struct Pieces {
    queue: Receiver<Option<Vec<u8>>>,
    piece: Vec<u8>,
    taken: usize,
    ended: bool,
    given_up: bool,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.piece.len() && !self.ended {
            match self.queue.recv() {
                Ok(Some(piece)) => (self.piece, self.taken) = (piece, 0),
                Ok(None) => self.ended = true,
                Err(_) => {
                    self.given_up = true;
                    return Err(io::Error::other("given up"));
                }
            }
        }
        if self.ended {
            return Ok(0);
        }
        let count = buffer.len().min(self.piece.len() - self.taken);
        buffer[..count].copy_from_slice(&self.piece[self.taken..self.taken + count]);
        self.taken += count;
        Ok(count)
    }
}
