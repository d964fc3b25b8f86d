//! Reading blobs: from any offset, and on from where a connection broke.

use std::io::{self, Read};

use ureq::BodyReader;
use ureq::http::Method;

use super::endpoint::{Answer, Request};
use super::error::{Error, ErrorKind};
use super::http::{Payload, classify};
use super::token::Scope;
use super::{Client, Source};
use crate::{Descriptor, Digest, Reference};

/// How often in a row a broken connection is taken up again without a byte having come.
const RESUMES: u32 = 4;

/// The bytes of a blob. Gives exactly the descriptor's size or fails; **the digest is the reader's to check**, as
/// whoever stores the blob hashes it anyway. Its errors hold an [`Error`] (see [`Error::from_io`]).
pub struct BlobReader {
    client: Client,
    reference: Reference,
    descriptor: Descriptor,
    /// Where the next byte belongs.
    position: u64,
    body: Option<BodyReader<'static>>,
    /// Broken connections since the last byte.
    broken: u32,
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
            broken: 0,
        };
        if offset < descriptor.size {
            reader.body = Some(reader.open().map_err(|kind| reader.during(kind))?);
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

    /// True when the reference's repository has the blob.
    pub fn has_blob(&self, reference: &Reference, digest: Digest) -> Result<bool, Error> {
        let head = || {
            let endpoint = self.endpoint(reference.registry(), reference.repository());
            let answer = endpoint.send(&mut Request {
                method: Method::HEAD,
                url: endpoint.url(&format!("/v2/{}/blobs/{digest}", reference.repository()))?,
                // Asked before a push: one token serves both.
                scopes: &[Scope::push(reference.repository())],
                headers: Vec::new(),
                payload: Payload::None,
                casual: false,
            })?;
            if answer.status() == 404 {
                return Ok(false);
            }
            answer.expect(&[200]).map(|_| true)
        };
        head().map_err(|kind: ErrorKind| kind.during("look up blob", in_repository(digest, reference)))
    }
}

impl BlobReader {
    /// Asks for the bytes from the position on.
    fn open(&self) -> Result<BodyReader<'static>, ErrorKind> {
        self.client.read_from(&self.reference, |source| self.open_at(source))
    }

    fn open_at(&self, source: &Source) -> Result<BodyReader<'static>, ErrorKind> {
        let range = format!("bytes={}-{}", self.position, self.descriptor.size.saturating_sub(1));
        let answer = source.endpoint.send(&mut Request {
            method: Method::GET,
            url: source
                .endpoint
                .url(&format!("/v2/{}/blobs/{}", source.repository, self.descriptor.digest))?,
            scopes: &[Scope::pull(&source.repository)],
            headers: if self.position > 0 { vec![("range", range)] } else { Vec::new() },
            payload: Payload::None,
            casual: false,
        })?;
        match answer.status() {
            206 if self.position > 0 => self.checked_range(source, answer),
            200 => {
                self.checked_length(&answer, self.descriptor.size)?;
                let mut body = answer.response.into_body().into_reader();
                // The server does not know ranges: what is here already comes again.
                let skipped = io::copy(&mut (&mut body).take(self.position), &mut io::sink())
                    .map_err(|e| classify(source.endpoint.host(), None, e.into()))?;
                if skipped < self.position {
                    return Err(ErrorKind::Size { expected: self.descriptor.size, actual: skipped });
                }
                Ok(body)
            }
            _ => Err(answer.into_error()),
        }
    }

    /// A partial answer that starts where it should.
    fn checked_range(&self, source: &Source, answer: Answer) -> Result<BodyReader<'static>, ErrorKind> {
        let start = answer
            .header("content-range")
            .and_then(|range| range.trim().strip_prefix("bytes ")?.split_once('-')?.0.parse::<u64>().ok());
        if start.is_some_and(|start| start != self.position) {
            let reason = "expected the range that was asked for".to_owned();
            return Err(ErrorKind::Answer { host: source.endpoint.host().to_owned(), reason });
        }
        self.checked_length(&answer, self.descriptor.size - self.position)?;
        Ok(answer.response.into_body().into_reader())
    }

    /// Refuses early when the server announces another size than the descriptor's.
    fn checked_length(&self, answer: &Answer, expected: u64) -> Result<(), ErrorKind> {
        match answer.header("content-length").and_then(|length| length.parse::<u64>().ok()) {
            Some(actual) if actual != expected => Err(ErrorKind::Size { expected, actual }),
            _ => Ok(()),
        }
    }

    fn during(&self, kind: ErrorKind) -> Error {
        kind.during("pull blob", in_repository(self.descriptor.digest, &self.reference))
    }

    /// After a broken connection: waits a moment and asks for the rest, unless that was in vain too often.
    fn resume(&mut self, cause: io::Error) -> Result<(), Error> {
        self.body = None;
        self.broken += 1;
        if self.broken > RESUMES {
            let kind = match cause.kind() {
                // All that the server has, each time: it has no more.
                io::ErrorKind::UnexpectedEof => {
                    ErrorKind::Size { expected: self.descriptor.size, actual: self.position }
                }
                _ => classify(self.reference.registry(), None, cause.into()),
            };
            return Err(self.during(kind));
        }
        if self.broken > 1 {
            std::thread::sleep(self.client.inner.config.retry.delay(self.broken - 1));
        }
        self.body = Some(self.open().map_err(|kind| self.during(kind))?);
        Ok(())
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
                None => Err(io::ErrorKind::UnexpectedEof.into()),
            };
            let cause = match outcome {
                Ok(0) => io::ErrorKind::UnexpectedEof.into(),
                Ok(count) if count as u64 > size - self.position => {
                    let actual = self.position + count as u64;
                    return Err(self.during(ErrorKind::Size { expected: size, actual }).into());
                }
                Ok(count) => {
                    self.position += count as u64;
                    self.broken = 0;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            self.resume(cause)?;
        }
    }
}

/// How a blob is named in messages.
pub(super) fn in_repository(digest: Digest, reference: &Reference) -> String {
    format!("{digest} of {}", reference.name())
}
