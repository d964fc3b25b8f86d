//! Reading blobs: from any offset, and on from where a connection broke.

use std::io::{self, Read};

use ureq::http::Method;

use super::body::Body;
use super::endpoint::{Answer, Request};
use super::error::{Error, ErrorKind};
use super::http::CLOSED;
use super::patience::Patience;
use super::push::{Blob, has_blob};
use super::token::Scope;
use super::{Client, Source};
use crate::{Descriptor, Digest, Reference};

/// What has to come between two broken connections, in bytes, for the second to be a trouble of its own.
const WORTH_RESUMING: u64 = 64 << 10;

/// The bytes of a blob. Gives exactly the descriptor's size or fails; **the digest is the reader's to check**, as
/// whoever stores the blob hashes it anyway. Its errors hold an [`Error`] (see [`Error::from_io`]).
pub struct BlobReader {
    client: Client,
    reference: Reference,
    descriptor: Descriptor,
    /// Where the next byte belongs.
    position: u64,
    body: Option<Body>,
    /// The tries since [`Self::renewed`].
    patience: Patience,
    /// Up to where it came without trouble, or a good deal further than at the last trouble.
    renewed: u64,
}

impl std::fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobReader")
            .field("reference", &self.reference)
            .field("digest", &self.descriptor.digest)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Pulls a blob of the reference's repository, from byte `offset` on. When the connection breaks on the way,
    /// the reader asks for the rest by itself.
    pub fn blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<BlobReader, Error> {
        let mut reader = BlobReader {
            client: self.clone(),
            reference: reference.clone(),
            descriptor: descriptor.clone(),
            position: offset,
            body: None,
            patience: Patience::new(&self.inner.config, &self.stop, false),
            renewed: offset,
        };
        if offset < descriptor.size {
            reader.body = Some(reader.open(false).map_err(|kind| reader.during(kind))?);
        }
        Ok(reader)
    }

    /// Pulls a whole small blob (a configuration) and checks its digest. Refuses one larger than `limit` bytes.
    pub fn blob_bytes(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, Error> {
        let fail = |kind: ErrorKind| kind.during("pull blob", in_repository(descriptor.digest, reference));
        if descriptor.size > limit {
            return Err(fail(ErrorKind::Size { expected: limit, actual: descriptor.size }));
        }
        let mut bytes = Vec::with_capacity(descriptor.size as usize);
        if let Err(error) = self.blob(reference, descriptor, 0)?.read_to_end(&mut bytes) {
            return Err(match error.downcast::<Error>() {
                Ok(error) => error,
                Err(error) => fail(ErrorKind::Source(error)),
            });
        }
        let actual = Digest::of(&bytes);
        if actual != descriptor.digest {
            return Err(fail(ErrorKind::DigestMismatch { expected: descriptor.digest, actual }));
        }
        Ok(bytes)
    }

    /// True when the reference's repository has the blob. One that does not say so clearly has it not.
    pub fn has_blob(&self, reference: &Reference, descriptor: &Descriptor) -> Result<bool, Error> {
        let endpoint = self.endpoint(reference.registry(), reference.repository());
        has_blob(&endpoint, reference.repository(), Blob::of(descriptor), false)
            .map_err(|kind| kind.during("look up blob", in_repository(descriptor.digest, reference)))
    }
}

impl BlobReader {
    /// Asks for the bytes from the position on. `once` leaves it to the caller to ask again.
    fn open(&self, once: bool) -> Result<Body, ErrorKind> {
        self.client.read_from(&self.reference, |source| self.open_at(source, once))
    }

    fn open_at(&self, source: &Source, once: bool) -> Result<Body, ErrorKind> {
        let range = format!("bytes={}-{}", self.position, self.descriptor.size.saturating_sub(1));
        let path = format!("/v2/{}/blobs/{}", source.repository, self.descriptor.digest);
        let scopes = [Scope::pull(&source.repository)];
        let answer = source.endpoint.send(&mut Request {
            headers: if self.position > 0 { vec![("range", range)] } else { Vec::new() },
            once,
            ..Request::new(Method::GET, source.endpoint.url(&path)?, &scopes)
        })?;
        match answer.status() {
            206 if self.position > 0 => self.checked_range(source, answer),
            200 => {
                self.checked_length(&answer, self.descriptor.size)?;
                let mut body = answer.into_body();
                // The server does not know ranges: what is here already comes again.
                let skipped = match io::copy(&mut (&mut body).take(self.position), &mut io::sink()) {
                    Ok(skipped) => skipped,
                    Err(error) => return Err(body.explain(error)),
                };
                if skipped < self.position {
                    return Err(ErrorKind::Size { expected: self.descriptor.size, actual: skipped });
                }
                Ok(body)
            }
            _ => Err(answer.into_error()),
        }
    }

    /// A partial answer that starts where it should.
    fn checked_range(&self, source: &Source, answer: Answer) -> Result<Body, ErrorKind> {
        let start = answer
            .header("content-range")
            .and_then(|range| range.trim().strip_prefix("bytes ")?.split_once('-')?.0.parse::<u64>().ok());
        if start.is_some_and(|start| start != self.position) {
            let reason = "expected the range that was asked for".to_owned();
            return Err(ErrorKind::Answer { host: source.endpoint.host().to_owned(), reason });
        }
        self.checked_length(&answer, self.descriptor.size - self.position)?;
        Ok(answer.into_body())
    }

    /// Refuses early when the server announces another size than the descriptor's.
    fn checked_length(&self, answer: &Answer, expected: u64) -> Result<(), ErrorKind> {
        match answer.length() {
            Some(actual) if actual != expected => Err(ErrorKind::Size { expected, actual }),
            _ => Ok(()),
        }
    }

    fn during(&self, kind: ErrorKind) -> Error {
        kind.during("pull blob", in_repository(self.descriptor.digest, &self.reference))
    }

    /// After a broken connection: waits a moment and asks for the rest, unless that was in vain too often.
    fn resume(&mut self, cause: Option<io::Error>) -> Result<(), Error> {
        if self.position - self.renewed >= WORTH_RESUMING {
            self.renewed = self.position;
            self.patience.renew();
        }
        let body = self.body.take();
        let mut kind = match (cause, body) {
            (Some(error), Some(body)) => body.explain(error),
            // All that the server has, each time: it has no more.
            _ => self.ended_early(),
        };
        loop {
            let ended = matches!(kind, ErrorKind::Connection { ref reason, .. } if reason == CLOSED);
            if let Err(last) = self.patience.again(kind) {
                let short = ErrorKind::Size { expected: self.descriptor.size, actual: self.position };
                return Err(self.during(if ended { short } else { last }));
            }
            match self.open(true) {
                Ok(body) => {
                    self.body = Some(body);
                    return Ok(());
                }
                Err(error) => kind = error,
            }
        }
    }

    fn ended_early(&self) -> ErrorKind {
        ErrorKind::Connection { host: self.reference.registry().to_owned(), reason: CLOSED.to_owned() }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.descriptor.size;
        if self.position >= size || buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let outcome = match &mut self.body {
                Some(body) => body.read(buffer),
                None => Ok(0),
            };
            let cause = match outcome {
                Ok(0) => None,
                Ok(count) if count as u64 > size - self.position => {
                    let actual = self.position + count as u64;
                    return Err(self.during(ErrorKind::Size { expected: size, actual }).into());
                }
                Ok(count) => {
                    self.position += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Some(error),
            };
            self.resume(cause)?;
        }
    }
}

/// How a blob is named in messages.
pub(super) fn in_repository(digest: Digest, reference: &Reference) -> String {
    format!("{digest} of {}", reference.name())
}
