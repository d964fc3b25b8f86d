//! The body of an answer: read for as long as bytes come, or up to a moment.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use ureq::BodyReader;
use ureq::http::Response;

use super::config::Timeouts;
use super::error::ErrorKind;
use super::http::classify;
use super::patience::Stop;

/// What has to come within [`Timeouts::idle`], in bytes: who sends a byte now and then is as good as silent.
const PACE: u64 = 1 << 10;

/// Reads an answer's body. Its errors are the HTTP library's; [`Body::explain`] says what they mean.
pub(super) struct Body {
    reader: BodyReader<'static>,
    host: String,
    timeouts: Timeouts,
    stop: Stop,
    /// When it has to be over, if ever.
    until: Option<Instant>,
    /// Time spent waiting for the bytes of this stretch, and how many there are. Time that its reader takes for
    /// something else does not count.
    waited: Duration,
    came: u64,
}

impl Body {
    pub fn new(response: Response<ureq::Body>, host: &str, timeouts: &Timeouts, stop: &Stop) -> Self {
        Self {
            reader: response.into_body().into_reader(),
            host: host.to_owned(),
            timeouts: timeouts.clone(),
            stop: stop.clone(),
            until: None,
            waited: Duration::ZERO,
            came: 0,
        }
    }

    /// The whole body, which is a document: at most `limit` bytes, all there at `until`.
    pub fn read_whole(mut self, limit: u64, until: Instant) -> Result<Vec<u8>, ErrorKind> {
        self.until = Some(until);
        let mut bytes = Vec::new();
        if let Err(error) = (&mut self).take(limit + 1).read_to_end(&mut bytes) {
            return Err(self.explain(error));
        }
        if bytes.len() as u64 > limit {
            let reason = format!("more than {limit} bytes where that is far too much");
            return Err(ErrorKind::Answer { host: self.host, reason });
        }
        Ok(bytes)
    }

    /// What comes of it within a moment, up to `limit` bytes.
    pub fn read_some(mut self, limit: u64) -> Vec<u8> {
        self.until = Some(Instant::now() + self.timeouts.idle);
        let mut bytes = Vec::new();
        // What cannot be read says nothing.
        let _ = self.take(limit).read_to_end(&mut bytes);
        bytes
    }

    /// An error of this reader in our words.
    pub fn explain(&self, error: io::Error) -> ErrorKind {
        if self.stop.is_stopped() {
            return ErrorKind::Stopped;
        }
        match error.get_ref().and_then(|inner| inner.downcast_ref::<TooSlow>()) {
            Some(TooSlow { after }) => {
                ErrorKind::TimedOut { host: self.host.clone(), step: "waiting", after: *after }
            }
            None => classify(&self.host, None, error.into(), &self.timeouts),
        }
    }

    /// An error once it takes too long.
    fn check(&mut self, waited: Duration, count: usize) -> io::Result<()> {
        self.waited += waited;
        self.came += count as u64;
        if self.waited >= self.timeouts.idle {
            if self.came < PACE {
                return Err(io::Error::other(TooSlow { after: self.waited }));
            }
            (self.waited, self.came) = (Duration::ZERO, 0);
        }
        match self.until {
            Some(until) if Instant::now() > until => {
                Err(io::Error::other(TooSlow { after: self.timeouts.whole }))
            }
            _ => Ok(()),
        }
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_stopped() {
            return Err(io::Error::other("stopped"));
        }
        let start = Instant::now();
        let count = self.reader.read(buffer)?;
        if count > 0 {
            self.check(start.elapsed(), count)?;
        }
        Ok(count)
    }
}

/// Bytes come, but not in a time that makes sense.
#[derive(Debug, thiserror::Error)]
#[error("too slow")]
struct TooSlow {
    after: Duration,
}
