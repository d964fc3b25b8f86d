//! Sending blobs: one POST that opens an upload and one PUT with everything, or a mount from another repository.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use ureq::http::{Method, Uri, header};

use super::Client;
use super::blob::in_repository;
use super::endpoint::{Answer, Endpoint, Request};
use super::error::{Error, ErrorKind};
use super::http::{Payload, location};
use super::token::{Scope, encode};
use crate::{Descriptor, Digest, Reference};

/// Opens what is to be sent, from its start. Called again when a connection broke.
pub type Open<'a> = dyn Fn() -> io::Result<Box<dyn Read + Send>> + 'a;

impl Client {
    /// Sends a blob to the reference's repository. `open` gives its content, which must have the descriptor's size;
    /// `progress` is told how many bytes have been sent, from zero again when it had to be sent again. The registry
    /// checks the digest. Does not ask whether the blob is there already: see [`Client::has_blob`].
    pub fn push_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        open: &Open<'_>,
        progress: &dyn Fn(u64),
    ) -> Result<(), Error> {
        let fail = |kind: ErrorKind| kind.during("push blob", in_repository(descriptor.digest, reference));
        let endpoint = self.endpoint(reference.registry(), reference.repository());
        let (repository, blob) = (reference.repository(), Blob::of(descriptor));
        // Found out before, so that its tries and these do not multiply.
        endpoint.url("/").map_err(fail)?;
        let mut patience = endpoint.patience();
        let mut renewed = false;
        let mut ask_first = false;
        loop {
            let mut sent = Sent::default();
            let outcome = try_push(&endpoint, reference, descriptor, open, progress, (ask_first, &mut sent));
            let kind = match outcome
                .and_then(|answer| taken(&endpoint, repository, blob, answer.expect_success()?, true))
            {
                Ok(()) => return Ok(()),
                // The token ran out while the blob was on its way: the next try has a new one.
                Err(ErrorKind::Unauthorized { .. })
                    if sent.begun && !std::mem::replace(&mut renewed, true) =>
                {
                    continue;
                }
                Err(kind) => kind,
            };
            // Who does not want the blob (it is too large, say) answers and closes the connection while it is being
            // sent, and the answer is lost: next time we ask before we send.
            ask_first |= matches!(kind, ErrorKind::Connection { .. });
            patience.forgive(sent.time);
            patience.again(kind).map_err(fail)?;
            // It may have arrived, with only the answer lost.
            if sent.all && has_blob(&endpoint, repository, blob, true).unwrap_or(false) {
                return Ok(());
            }
        }
    }

    /// Makes a blob of another repository of the same registry (`from`) appear in the reference's repository
    /// without sending it. False when the registry cannot, or may not: then it has to be pushed.
    pub fn mount_blob(&self, reference: &Reference, digest: Digest, from: &str) -> Result<bool, Error> {
        let endpoint = self.endpoint(reference.registry(), reference.repository());
        let mount = || {
            let repository = reference.repository();
            let path = format!("/v2/{repository}/blobs/uploads/?mount={digest}&from={}", encode(from));
            let scopes = [Scope::push(repository), Scope::pull(from)];
            let answer = endpoint.send(&mut Request::new(Method::POST, endpoint.url(&path)?, &scopes))?;
            match answer.status() {
                201 => match taken(&endpoint, repository, Blob { digest, size: None }, answer, false) {
                    // It says so, but it is not there.
                    Err(ErrorKind::Answer { .. } | ErrorKind::DigestMismatch { .. }) => Ok(false),
                    other => other.map(|()| true),
                },
                202 => {
                    // The registry opened an upload instead. Nobody will use it.
                    if let Some(upload) = location(&answer.url, answer.response.headers()) {
                        cancel(&endpoint, repository, upload);
                    }
                    answer.drain();
                    Ok(false)
                }
                // Not allowed to read there, not possible at all, or nothing that a registry says; whether we may push, a
                // push will tell.
                200..400 | 400 | 401 | 403 | 404 | 405 => {
                    answer.drain();
                    Ok(false)
                }
                _ => Err(answer.into_error()),
            }
        };
        // The token server may refuse both repositories for the one.
        let mount = match mount() {
            Err(ErrorKind::Unauthorized { .. } | ErrorKind::Denied { .. }) => Ok(false),
            other => other,
        };
        mount.map_err(|kind| kind.during("mount blob", in_repository(digest, reference)))
    }
}

/// What is asked about a blob.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blob {
    pub digest: Digest,
    /// Its bytes, where they are known.
    pub size: Option<u64>,
}

impl Blob {
    pub fn of(descriptor: &Descriptor) -> Self {
        Self { digest: descriptor.digest, size: Some(descriptor.size) }
    }
}

/// True when the repository has the blob. An answer that does not show it counts as a no: then the blob is sent. `once`
/// leaves it to the caller to ask again.
pub(super) fn has_blob(
    endpoint: &Endpoint,
    repository: &str,
    blob: Blob,
    once: bool,
) -> Result<bool, ErrorKind> {
    let Blob { digest, size } = blob;
    // Asked before a push: one token serves both.
    let scopes = [Scope::push(repository)];
    let url = endpoint.url(&format!("/v2/{repository}/blobs/{digest}"))?;
    let answer = endpoint.send(&mut Request { once, ..Request::new(Method::HEAD, url, &scopes) })?;
    match answer.status() {
        404 => Ok(false),
        200 => Ok(match answer.digest() {
            Some(told) => told == digest,
            None => size.is_some() && answer.length() == size,
        }),
        _ => Err(answer.into_error()),
    }
}

/// After a success: whether the registry has the blob now. When the answer is not quite what the specification asks for,
/// it is asked; `once` as of [`has_blob`].
pub(super) fn taken(
    endpoint: &Endpoint,
    repository: &str,
    blob: Blob,
    answer: Answer,
    once: bool,
) -> Result<(), ErrorKind> {
    if let Some(actual) = answer.digest().filter(|actual| *actual != blob.digest) {
        return Err(ErrorKind::DigestMismatch { expected: blob.digest, actual });
    }
    let known = answer.digest().is_some() || answer.header(header::LOCATION.as_str()).is_some();
    let certain = answer.status() == 201 && known;
    let nonsense = answer.nonsense("201 for a blob that it took");
    answer.drain();
    if certain || has_blob(endpoint, repository, blob, once)? { Ok(()) } else { Err(nonsense) }
}

/// Opens an upload: its URL. `once` leaves it to the caller to try again.
pub(super) fn start(endpoint: &Endpoint, repository: &str, once: bool) -> Result<Uri, ErrorKind> {
    let url = endpoint.url(&format!("/v2/{repository}/blobs/uploads/"))?;
    let scopes = [Scope::push(repository)];
    let answer = endpoint.send(&mut Request { once, ..Request::new(Method::POST, url, &scopes) })?;
    let answer = answer.expect_success()?;
    let upload = match answer.status() {
        201 | 202 => upload_location(&answer)?,
        _ => return Err(answer.nonsense("202 for an upload")),
    };
    answer.drain();
    Ok(upload)
}

/// Where an upload goes on.
pub(super) fn upload_location(answer: &Answer) -> Result<Uri, ErrorKind> {
    location(&answer.url, answer.response.headers())
        .ok_or_else(|| answer.nonsense("the Location of an upload"))
}

/// Gives an upload up. It may fail, and does where the token does not allow to delete: registries clean up by
/// themselves one day.
pub(super) fn cancel(endpoint: &Endpoint, repository: &str, upload: Uri) {
    let scopes = [Scope::push(repository)];
    let outcome =
        endpoint.send(&mut Request { casual: true, ..Request::new(Method::DELETE, upload, &scopes) });
    if let Ok(answer) = outcome {
        answer.drain();
    }
}

/// The URL that ends an upload.
pub(super) fn with_digest(upload: &Uri, digest: Digest) -> Result<Uri, ErrorKind> {
    let joint = if upload.query().is_some() { '&' } else { '?' };
    format!("{upload}{joint}digest={}", encode(&digest.to_string()))
        .parse()
        .map_err(|_| ErrorKind::Setting("an upload's URL is too long".to_owned()))
}

/// How far a try came.
#[derive(Default)]
struct Sent {
    /// Whether an upload was opened.
    begun: bool,
    /// How long content was being sent.
    time: Duration,
    /// Whether all of it was.
    all: bool,
}

/// One try. `ask_first` waits for a word of the registry's before the content is sent.
fn try_push(
    endpoint: &Endpoint,
    reference: &Reference,
    descriptor: &Descriptor,
    open: &Open<'_>,
    progress: &dyn Fn(u64),
    (ask_first, how_far): (bool, &mut Sent),
) -> Result<Answer, ErrorKind> {
    let upload = start(endpoint, reference.repository(), true)?;
    let content = open().map_err(ErrorKind::Source)?;
    let (size, since) = (descriptor.size, Instant::now());
    let mut content = Content { content, progress, sent: 0, size, since, time: Duration::ZERO, failed: None };
    progress(0);
    let mut headers = vec![("content-type", "application/octet-stream".to_owned())];
    if ask_first {
        headers.push(("expect", "100-continue".to_owned()));
    }
    let scopes = [Scope::push(reference.repository())];
    let outcome = endpoint.send(&mut Request {
        headers,
        payload: Payload::Stream(&mut content, Some(size)),
        ..Request::new(Method::PUT, with_digest(&upload, descriptor.digest)?, &scopes)
    });
    *how_far = Sent { begun: true, time: content.time, all: content.sent == size };
    match content.failed {
        Some(error) => Err(error),
        None => outcome,
    }
}

/// Counts what is sent, and remembers that it was the content which failed, not the connection.
struct Content<'a> {
    content: Box<dyn Read + Send>,
    progress: &'a dyn Fn(u64),
    sent: u64,
    size: u64,
    /// When it began.
    since: Instant,
    /// From the beginning up to the piece that was asked for last.
    time: Duration,
    failed: Option<ErrorKind>,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.time = self.since.elapsed();
        let kind = match self.content.read(buffer) {
            Ok(0) if self.sent < self.size && !buffer.is_empty() => {
                ErrorKind::Size { expected: self.size, actual: self.sent }
            }
            Ok(count) if self.sent + count as u64 > self.size => {
                ErrorKind::Size { expected: self.size, actual: self.sent + count as u64 }
            }
            Ok(count) => {
                self.sent += count as u64;
                (self.progress)(self.sent);
                return Ok(count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => ErrorKind::Source(error),
        };
        self.failed = Some(kind);
        Err(io::Error::other("the content cannot be sent"))
    }
}
