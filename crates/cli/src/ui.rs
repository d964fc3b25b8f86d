//! How events look: a live view on a terminal, plain stable lines elsewhere.
//!
//! The narrative goes to standard output, warnings and errors to standard error. Not here: what to say (the
//! libraries' events and the verbs decide that).

mod escape;
mod foot;
mod live;
mod plain;
mod style;

use std::io::IsTerminal as _;
use std::sync::Mutex;

use events::{Event, Events};

use crate::cli::Global;
use crate::error::CommandError;
pub use escape::{escaped, is_unsafe};
use escape::{escaped_json, set_in};
pub use style::{ERROR, HINT, Style, WARNING, bytes, duration, layer_name};

/// Where all output of the program goes. Shared by all threads.
#[derive(Debug)]
pub struct Ui {
    verbosity: Verbosity,
    style: Style,
    errors: Style,
    view: Mutex<View>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verbosity {
    Quiet,
    Normal,
    Verbose,
}

#[derive(Debug)]
enum View {
    Plain(plain::Plain),
    Live(live::Live),
}

impl Ui {
    /// Decides by the options, the environment and what standard output is.
    pub fn new(global: &Global) -> Self {
        let verbosity = match (global.quiet, global.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        };
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let plain = global.no_color || set("NO_COLOR") || dumb;
        let terminal = std::io::stdout().is_terminal();
        let style = Style { color: terminal && !plain, timestamps: global.timestamps };
        let errors =
            Style { color: std::io::stderr().is_terminal() && !plain, timestamps: global.timestamps };
        let live = terminal && !dumb && !set("CI") && verbosity != Verbosity::Quiet;
        let view = if live {
            View::Live(live::Live::new(style))
        } else {
            View::Plain(plain::Plain::new(style, verbosity == Verbosity::Verbose))
        };
        Self { verbosity, style, errors, view: Mutex::new(view) }
    }

    /// How text on standard output is decorated.
    pub fn style(&self) -> Style {
        self.style
    }

    /// True when the user asked for as little as possible.
    pub fn is_quiet(&self) -> bool {
        self.verbosity == Verbosity::Quiet
    }

    /// The result of a verb, a line: printed whatever the verbosity.
    pub fn result(&self, line: &str) {
        self.with_view(|view| view.out(line));
    }

    /// The result of a verb, line by line.
    pub fn results<L: AsRef<str>>(&self, lines: impl IntoIterator<Item = L>) {
        self.with_view(|view| lines.into_iter().for_each(|line| view.out(line.as_ref())));
    }

    /// The result of a verb as JSON.
    pub fn json(&self, text: &str) {
        self.with_view(|view| escaped_json(text).lines().for_each(|line| view.print(line)));
    }

    /// Prints a failure to standard error.
    pub fn error(&self, error: &CommandError) {
        // Its lines are made by us, of what may be others'.
        let detail = events::without_secrets(error.detail.as_deref().unwrap_or_default().trim_end());
        detail.lines().for_each(|line| self.err(if looks_like_ours(line) { "  " } else { "" }, line));
        self.marked(style::ERROR, "error:", &error.message());
        for hint in &error.hints {
            self.marked(style::HINT, "hint:", &events::without_secrets(hint));
        }
    }

    /// Leaves standard output to a program of the user's, or to a result: the narrative of plain lines goes to standard error.
    pub fn leave_stdout(&self) {
        self.with_view(|view| {
            if let View::Plain(plain) = view {
                plain.leave_stdout();
            }
        });
    }

    /// Has standard output for a result again, after [`Ui::leave_stdout`].
    pub fn take_stdout(&self) {
        self.with_view(|view| {
            if let View::Plain(plain) = view {
                plain.take_stdout();
            }
        });
    }

    /// Takes the live view off the screen: nothing more will move.
    pub fn finish(&self) {
        self.with_view(|view| match view {
            View::Plain(plain) => plain.flush(),
            View::Live(live) => live.finish(),
        });
    }

    /// Says that a signal ends the program. Says nothing when another thread is stuck in the middle of printing, as
    /// one is whose reader does not read.
    pub fn interrupted(&self, text: &str) {
        let Ok(mut view) = self.view.try_lock() else { return };
        let line = format!("{} {text}", self.errors.paint(style::ERROR, "error:"));
        let line = self.errors.show(&line);
        match &mut *view {
            View::Plain(plain) => plain.err(&line),
            View::Live(live) => {
                live.finish();
                live.err(&line);
            }
        }
    }

    /// A mark and a text to standard error.
    fn marked(&self, ansi: anstyle::Style, mark: &str, text: &str) {
        let text = format!("{} {text}", self.errors.paint(ansi, mark));
        set_in(&text).iter().for_each(|line| self.err("", line));
    }

    fn err(&self, indent: &str, line: &str) {
        let shown = format!("{indent}{}", self.errors.show(line));
        self.with_view(|view| match view {
            View::Plain(plain) => plain.err(&shown),
            View::Live(live) => live.err(&shown),
        });
    }

    fn with_view(&self, action: impl FnOnce(&mut View)) {
        // A panic while printing must not silence the report of that panic.
        let mut view = self.view.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        action(&mut view);
    }

    fn wants(&self, event: &Event<'_>) -> bool {
        match event {
            Event::Warning { .. } => true,
            Event::Debug { .. } => self.verbosity == Verbosity::Verbose,
            _ => self.verbosity > Verbosity::Quiet,
        }
    }
}

impl View {
    fn out(&mut self, line: &str) {
        match self {
            Self::Plain(plain) => plain.out(line),
            Self::Live(live) => live.out(line),
        }
    }

    fn print(&mut self, shown: &str) {
        match self {
            Self::Plain(plain) => plain.print(shown),
            Self::Live(live) => live.print(shown),
        }
    }
}

/// True for a line that a program (a CI system) or a person would take for one of ours.
fn looks_like_ours(line: &str) -> bool {
    ["error:", "warning:", "hint:", "::", "##[", "===>", "--->"].iter().any(|start| line.starts_with(start))
}

impl Events for Ui {
    fn event(&self, event: Event<'_>) {
        if !self.wants(&event) {
            return;
        }
        if let Event::Warning { text } = event {
            return self.marked(style::WARNING, "warning:", &events::without_secrets(text));
        }
        without_secrets(event, |event| {
            self.with_view(|view| match view {
                View::Plain(plain) => plain.event(&event),
                View::Live(live) => live.event(&event),
            });
        });
    }
}

/// Shows an event without what is secret in its text. What buildpacks print is theirs, and stays as it is.
fn without_secrets(event: Event<'_>, show: impl FnOnce(Event<'_>)) {
    match event {
        Event::Info { text } => show(Event::Info { text: &events::without_secrets(text) }),
        Event::Debug { text } => show(Event::Debug { text: &events::without_secrets(text) }),
        Event::StepStarted { place, text } => {
            show(Event::StepStarted { place, text: &events::without_secrets(text) });
        }
        Event::StepEnded { place, text, cached, elapsed, entries, bytes } => {
            let text = &events::without_secrets(text);
            show(Event::StepEnded { place, text, cached, elapsed, entries, bytes });
        }
        event => show(event),
    }
}
