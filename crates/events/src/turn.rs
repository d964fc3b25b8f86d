//! Events of work that is done beside other work, told after those of the other: what happens at once reads as if it
//! had happened one after the other.

use std::sync::{Mutex, PoisonError};

use crate::{Event, Events};

/// Holds events back until it is their turn.
pub struct Turn<'a> {
    to: &'a dyn Events,
    /// None when it is their turn.
    waiting: Mutex<Option<Vec<Telling>>>,
}

/// Tells an event that owns what it is about.
type Telling = Box<dyn FnOnce(&dyn Events) + Send>;

impl std::fmt::Debug for Turn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turn").finish_non_exhaustive()
    }
}

impl<'a> Turn<'a> {
    /// Events for `to`, which wait for [`Turn::begin`].
    pub fn new(to: &'a dyn Events) -> Self {
        Self { to, waiting: Mutex::new(Some(Vec::new())) }
    }

    /// Tells what has waited. What comes from now on is told at once.
    pub fn begin(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for tell in waiting.take().into_iter().flatten() {
            tell(self.to);
        }
    }
}

impl Events for Turn<'_> {
    fn event(&self, event: Event<'_>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *waiting {
            Some(waiting) => waiting.extend(owned(&event)),
            None => self.to.event(event),
        }
    }
}

/// An event that can wait; none for one that only says how far something is.
fn owned(event: &Event<'_>) -> Option<Telling> {
    Some(match *event {
        Event::TransferProgress { .. } => return None,
        Event::PhaseStarted { phase } => Box::new(move |to| to.event(Event::PhaseStarted { phase })),
        Event::PhaseEnded { phase, elapsed } => {
            Box::new(move |to| to.event(Event::PhaseEnded { phase, elapsed }))
        }
        Event::ModuleStarted { phase, id, version } => {
            let (id, version) = (id.to_owned(), version.to_owned());
            Box::new(move |to| to.event(Event::ModuleStarted { phase, id: &id, version: &version }))
        }
        Event::ModuleEnded { phase, id, elapsed } => {
            let id = id.to_owned();
            Box::new(move |to| to.event(Event::ModuleEnded { phase, id: &id, elapsed }))
        }
        Event::StepStarted { place, text } => {
            let (place, text) = (place.to_owned(), text.to_owned());
            Box::new(move |to| to.event(Event::StepStarted { place: &place, text: &text }))
        }
        Event::StepEnded { place, text, cached, elapsed, entries, bytes } => {
            let (place, text) = (place.to_owned(), text.to_owned());
            Box::new(move |to| {
                to.event(Event::StepEnded { place: &place, text: &text, cached, elapsed, entries, bytes });
            })
        }
        Event::Output { phase, stream, bytes } => {
            let bytes = bytes.to_owned();
            Box::new(move |to| to.event(Event::Output { phase, stream, bytes: &bytes }))
        }
        Event::Info { text } => text_event(text, |to, text| to.info(text)),
        Event::Debug { text } => text_event(text, |to, text| to.debug(text)),
        Event::Warning { text } => text_event(text, |to, text| to.warning(text)),
        Event::TransferStarted { kind, id, total } => {
            let id = id.to_owned();
            Box::new(move |to| to.event(Event::TransferStarted { kind, id: &id, total }))
        }
        Event::TransferEnded { kind, id, reused } => {
            let id = id.to_owned();
            Box::new(move |to| to.event(Event::TransferEnded { kind, id: &id, reused }))
        }
    })
}

fn text_event(text: &str, tell: fn(&dyn Events, &str)) -> Telling {
    let text = text.to_owned();
    Box::new(move |to| tell(to, &text))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Phase, Stream, Transfer};

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Events for Heard {
        fn event(&self, event: Event<'_>) {
            self.0.lock().unwrap().push(format!("{event:?}"));
        }
    }

    #[test]
    fn events_wait_and_are_the_same() {
        let (phase, elapsed, id) = (Phase::Extend, Duration::from_millis(1), "id");
        let (place, text, kind) = ("f:1", "RUN x", Transfer::Pack);
        let all = || {
            [
                Event::PhaseStarted { phase },
                Event::ModuleStarted { phase, id, version: "1" },
                Event::StepStarted { place, text },
                Event::Output { phase, stream: Stream::Stdout, bytes: b"out" },
                Event::StepEnded { place, text, cached: false, elapsed, entries: 1, bytes: 2 },
                Event::TransferStarted { kind, id, total: Some(3) },
                Event::TransferEnded { kind, id, reused: false },
                Event::Info { text: "i" },
                Event::Debug { text: "d" },
                Event::Warning { text: "w" },
                Event::ModuleEnded { phase, id, elapsed },
                Event::PhaseEnded { phase, elapsed },
            ]
        };
        let expected: Vec<String> = all().iter().map(|event| format!("{event:?}")).collect();
        let heard = Heard::default();
        let turn = Turn::new(&heard);
        all().into_iter().for_each(|event| turn.event(event));
        turn.event(Event::TransferProgress { kind, id, done: 1 });
        assert!(heard.0.lock().unwrap().is_empty());
        turn.begin();
        assert_eq!(*heard.0.lock().unwrap(), expected);
        turn.event(Event::TransferProgress { kind, id, done: 2 });
        assert_eq!(heard.0.lock().unwrap().len(), expected.len() + 1);
    }
}
