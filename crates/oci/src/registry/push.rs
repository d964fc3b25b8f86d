//! Sending blobs: one POST that opens an upload and one PUT with everything, or a mount from another repository.

use std::io::{self, Read};

use ureq::http::{Method, Uri};

use super::Client;
use super::blob::in_repository;
use super::endpoint::{Answer, Endpoint, Request};
use super::error::{Error, ErrorKind, is_passing_status};
use super::http::{Payload, location, retry_after};
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
        let retry = &self.inner.config.retry;
        let mut renewed = false;
        let mut ask_first = false;
        let mut tries = 0;
        loop {
            tries += 1;
            let (kind, wait) = match try_push(&endpoint, reference, descriptor, open, progress, ask_first) {
                Ok(answer) if matches!(answer.status(), 200 | 201 | 204) => {
                    answer.drain();
                    return Ok(());
                }
                Ok(answer) => {
                    // The token ran out while the blob was on its way: the next try has a new one.
                    let expired = answer.status() == 401 && !std::mem::replace(&mut renewed, true);
                    let wait = retry_after(answer.response.headers());
                    let again = expired || is_passing_status(answer.status());
                    let kind = answer.into_error();
                    if !again || wait.is_some_and(|wait| wait > retry.longest) {
                        return Err(fail(kind));
                    }
                    (kind, wait)
                }
                Err(kind) if kind.is_passing() => (kind, None),
                Err(kind) => return Err(fail(kind)),
            };
            if tries > retry.retries {
                return Err(fail(kind));
            }
            // Who does not want the blob (it is too large, say) answers and closes the connection while it is being
            // sent, and the answer is lost: next time we ask before we send.
            ask_first |= matches!(kind, ErrorKind::Connection { .. });
            std::thread::sleep(wait.unwrap_or_default().max(retry.delay(tries)));
            // It may have arrived, with only the answer lost.
            if self.has_blob(reference, descriptor.digest).unwrap_or(false) {
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
            let answer = endpoint.send(&mut Request {
                method: Method::POST,
                url: endpoint.url(&path)?,
                scopes: &[Scope::push(repository), Scope::pull(from)],
                headers: Vec::new(),
                payload: Payload::None,
                casual: false,
            })?;
            match answer.status() {
                201 => {
                    answer.drain();
                    Ok(true)
                }
                202 => {
                    // The registry opened an upload instead. Nobody will use it.
                    if let Some(upload) = location(&answer.url, answer.response.headers()) {
                        cancel(&endpoint, repository, upload);
                    }
                    answer.drain();
                    Ok(false)
                }
                // Not allowed to read there, or not possible at all; whether we may push, a push will tell.
                400 | 401 | 403 | 404 | 405 => {
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

/// Opens an upload: its URL.
pub(super) fn start(endpoint: &Endpoint, repository: &str) -> Result<Uri, ErrorKind> {
    let answer = endpoint.send(&mut Request {
        method: Method::POST,
        url: endpoint.url(&format!("/v2/{repository}/blobs/uploads/"))?,
        scopes: &[Scope::push(repository)],
        headers: Vec::new(),
        payload: Payload::None,
        casual: false,
    })?;
    let answer = answer.expect(&[200, 201, 202])?;
    let upload = upload_location(endpoint, &answer)?;
    answer.drain();
    Ok(upload)
}

/// Where an upload goes on.
pub(super) fn upload_location(endpoint: &Endpoint, answer: &Answer) -> Result<Uri, ErrorKind> {
    location(&answer.url, answer.response.headers()).ok_or_else(|| ErrorKind::Answer {
        host: endpoint.host().to_owned(),
        reason: "expected the Location of an upload".to_owned(),
    })
}

/// Gives an upload up. It may fail, and does where the token does not allow to delete: registries clean up by
/// themselves one day.
pub(super) fn cancel(endpoint: &Endpoint, repository: &str, upload: Uri) {
    let outcome = endpoint.send(&mut Request {
        method: Method::DELETE,
        url: upload,
        scopes: &[Scope::push(repository)],
        headers: Vec::new(),
        payload: Payload::None,
        casual: true,
    });
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

fn try_push(
    endpoint: &Endpoint,
    reference: &Reference,
    descriptor: &Descriptor,
    open: &Open<'_>,
    progress: &dyn Fn(u64),
    ask_first: bool,
) -> Result<Answer, ErrorKind> {
    let upload = start(endpoint, reference.repository())?;
    let content = open().map_err(ErrorKind::Source)?;
    let mut content = Content { content, progress, sent: 0, size: descriptor.size, failed: None };
    progress(0);
    let mut headers = vec![("content-type", "application/octet-stream".to_owned())];
    if ask_first {
        headers.push(("expect", "100-continue".to_owned()));
    }
    let outcome = endpoint.send(&mut Request {
        method: Method::PUT,
        url: with_digest(&upload, descriptor.digest)?,
        scopes: &[Scope::push(reference.repository())],
        headers,
        payload: Payload::Stream(&mut content, Some(descriptor.size)),
        casual: false,
    });
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
    failed: Option<ErrorKind>,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
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
