//! How long and how often something is tried: waits that can be cut short, and the end of all trying.
//!
//! Not here: what is tried (see [`super::endpoint`], [`super::blob`], [`super::push`]).

use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::{Duration, Instant};

use super::config::ClientConfig;
use super::endpoint::{Shared, lock};
use super::error::{ErrorKind, is_passing_status, seconds};

/// Tries after the first where there was nothing but silence: who does not listen rarely starts to within seconds.
const RETRIES_IN_SILENCE: u32 = 2;
/// A wait that is told. Who waits for less does not notice.
const TOLD: Duration = Duration::from_secs(5);

/// Ends what several threads do with registries, wherever they are: waiting for an answer, or between two tries. Clones
/// share everything. What was stopped once stays so.
#[derive(Clone, Default)]
pub struct Stop(Arc<StopState>);

#[derive(Default)]
struct StopState {
    stopped: Mutex<bool>,
    woken: Condvar,
    /// Whose connections are closed.
    endpoints: Mutex<Vec<Weak<Shared>>>,
}

impl std::fmt::Debug for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stop({})", self.is_stopped())
    }
}

impl Stop {
    /// Ends everything that was begun with it. Connections to the same registries are closed for others too: these
    /// connect again.
    pub fn stop(&self) {
        if std::mem::replace(&mut *lock(&self.0.stopped), true) {
            return;
        }
        self.0.woken.notify_all();
        let endpoints = std::mem::take(&mut *lock(&self.0.endpoints));
        endpoints.iter().filter_map(Weak::upgrade).for_each(|endpoint| endpoint.hang_up());
    }

    /// True after [`Stop::stop`].
    pub fn is_stopped(&self) -> bool {
        *lock(&self.0.stopped)
    }

    /// This endpoint's connections are to be closed when it is stopped.
    pub(super) fn watch(&self, endpoint: &Arc<Shared>) {
        let mut endpoints = lock(&self.0.endpoints);
        if !endpoints.iter().any(|known| known.as_ptr() == Arc::as_ptr(endpoint)) {
            endpoints.push(Arc::downgrade(endpoint));
        }
    }

    /// An error once it is stopped.
    pub(super) fn check(&self) -> Result<(), ErrorKind> {
        if self.is_stopped() { Err(ErrorKind::Stopped) } else { Ok(()) }
    }

    /// Waits, but not longer than until it is stopped.
    fn rest(&self, time: Duration) -> Result<(), ErrorKind> {
        let stopped = lock(&self.0.stopped);
        let waited = self.0.woken.wait_timeout_while(stopped, time, |stopped| !*stopped);
        let (stopped, _) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        if *stopped { Err(ErrorKind::Stopped) } else { Ok(()) }
    }
}

/// The tries of one task: how many there were, and until when there may be more.
pub(super) struct Patience {
    config: Arc<ClientConfig>,
    stop: Stop,
    /// Silence is not waited for once more: there is another place to ask.
    hasty: bool,
    tries: u32,
    until: Instant,
}

impl Patience {
    pub fn new(config: &Arc<ClientConfig>, stop: &Stop, hasty: bool) -> Self {
        let until = Instant::now() + config.timeouts.whole;
        Self { config: Arc::clone(config), stop: stop.clone(), hasty, tries: 0, until }
    }

    /// When everything ends.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Something moved: what fails from now on is a trouble of its own.
    pub fn renew(&mut self) {
        *self = Self::new(&self.config, &self.stop, self.hasty);
    }

    /// Time in which something moved does not count.
    pub fn forgive(&mut self, moving: Duration) {
        self.until += moving;
    }

    /// After an error: waits for the next try, or gives the error back when there is none.
    pub fn again(&mut self, kind: ErrorKind) -> Result<(), ErrorKind> {
        let asked = match &kind {
            ErrorKind::RateLimited { retry_after, .. } => *retry_after,
            _ => None,
        };
        if !kind.is_passing() {
            return Err(kind);
        }
        let Some(wait) = self.next(kind.is_silence(), asked) else { return Err(kind) };
        self.rest(&kind.to_string(), matches!(kind, ErrorKind::TimedOut { .. }), wait)
    }

    /// After an answer with this status: true when it waited for the next try, false when the answer is the last.
    pub fn again_after(
        &mut self,
        host: &str,
        status: u16,
        asked: Option<Duration>,
    ) -> Result<bool, ErrorKind> {
        if !is_passing_status(status) {
            return Ok(false);
        }
        let Some(wait) = self.next(false, asked) else { return Ok(false) };
        let cause = match status {
            429 => format!("{host} says too many requests"),
            status => format!("{host} answered {status}"),
        };
        self.rest(&cause, false, wait).map(|()| true)
    }

    /// Counts a try that failed; the wait before the next one, if there is one.
    fn next(&mut self, silence: bool, asked: Option<Duration>) -> Option<Duration> {
        self.tries += 1;
        let retry = &self.config.retry;
        let wait = asked.unwrap_or_default();
        if self.tries > self.retries(silence) || wait > retry.longest {
            return None;
        }
        let wait = wait.max(retry.delay(self.tries));
        (Instant::now() + wait < self.until).then_some(wait)
    }

    fn retries(&self, silence: bool) -> u32 {
        match (silence, self.hasty) {
            (true, true) => 0,
            (true, false) => self.config.retry.retries.min(RETRIES_IN_SILENCE),
            (false, _) => self.config.retry.retries,
        }
    }

    fn rest(&self, cause: &str, silence: bool, wait: Duration) -> Result<(), ErrorKind> {
        let after =
            if wait < Duration::from_secs(1) { String::new() } else { format!(" in {}", seconds(wait)) };
        let all = self.retries(silence) + 1;
        let text = format!("{cause}; trying again{after} ({} of {all})", self.tries + 1);
        let events = &self.config.events.0;
        if silence || wait >= TOLD {
            events.warning(&text)
        } else {
            events.debug(&text)
        }
        self.stop.rest(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::config::{RetryPolicy, Timeouts};

    fn patience(whole: Duration) -> (Patience, Stop) {
        let retry = RetryPolicy { base: Duration::from_millis(1), ..RetryPolicy::default() };
        let timeouts = Timeouts { whole, ..Timeouts::default() };
        let config = ClientConfig { retry, timeouts, ..ClientConfig::default() };
        let stop = Stop::default();
        (Patience::new(&Arc::new(config), &stop, false), stop)
    }

    fn limited(seconds: u64) -> ErrorKind {
        let retry_after = Some(Duration::from_secs(seconds));
        ErrorKind::RateLimited { host: "h".to_owned(), message: String::new(), retry_after }
    }

    fn tries(patience: &mut Patience, kind: impl Fn() -> ErrorKind) -> u32 {
        (1..).find(|_| patience.again(kind()).is_err()).unwrap()
    }

    #[test]
    fn trying_has_an_end() {
        let broken = || ErrorKind::Connection { host: "h".to_owned(), reason: String::new() };
        let silent = || ErrorKind::Refused { host: "h".to_owned() };
        let all = Duration::from_secs(10);
        assert_eq!(tries(&mut patience(all).0, broken), 5);
        assert_eq!(tries(&mut patience(all).0, silent), 3);
        assert_eq!(tries(&mut patience(all).0, || ErrorKind::NotFound { message: String::new() }), 1);
        assert_eq!(tries(&mut patience(Duration::ZERO).0, broken), 1, "no time is left");
        let (mut patience, _) = patience(all);
        assert_eq!(tries(&mut patience, broken), 5);
        patience.renew();
        assert_eq!(tries(&mut patience, broken), 5);
    }

    #[test]
    fn a_wait_that_is_too_long_is_not_begun() {
        let start = Instant::now();
        for seconds in [61, 20, u64::MAX] {
            assert!(patience(Duration::from_secs(15)).0.again(limited(seconds)).is_err());
        }
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_wait_ends_when_it_is_stopped() {
        let (mut patience, stop) = patience(Duration::from_secs(100));
        let start = Instant::now();
        let waiting = std::thread::spawn(move || patience.again(limited(50)));
        std::thread::sleep(Duration::from_millis(50));
        stop.stop();
        assert!(matches!(waiting.join().unwrap(), Err(ErrorKind::Stopped)));
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
