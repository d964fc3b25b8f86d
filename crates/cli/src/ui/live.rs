//! The live view on a terminal: a line per phase with a spinner and its time, a bar per transfer, and the
//! buildpacks' output scrolling above.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use events::{Event, Phase, Transfer};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::escape::escaped;
use super::foot::Foot;
use super::plain::{Lines, phase_line, step_line};
use super::style::{Style, without_colors};

/// What is over sooner has no bar: it would only flicker.
const WORTH_A_BAR: Duration = Duration::from_millis(150);

/// Spinners and bars at the foot of the screen.
#[derive(Debug)]
pub struct Live {
    style: Style,
    bars: MultiProgress,
    phases: BTreeMap<Phase, ProgressBar>,
    transfers: BTreeMap<(Transfer, String), Moving>,
    lines: Lines,
}

/// A transfer under way.
#[derive(Debug)]
struct Moving {
    since: Instant,
    total: Option<u64>,
    bar: Option<ProgressBar>,
}

impl Live {
    pub fn new(style: Style) -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::term_like_with_hz(
            Box::<Foot>::default(),
            12,
        ));
        Self { style, bars, phases: BTreeMap::new(), transfers: BTreeMap::new(), lines: Lines::default() }
    }

    /// Writes a line above the moving part.
    pub fn out(&mut self, line: &str) {
        let shown = self.style.show(line).into_owned();
        self.print(&shown);
    }

    /// Writes above it what is fit for a terminal already.
    pub fn print(&mut self, shown: &str) {
        let stamp = self.style.stamp();
        self.bars.suspend(|| {
            let mut out = std::io::stdout().lock();
            let _ = writeln!(out, "{stamp}{shown}");
            let _ = out.flush();
        });
    }

    /// The same on standard error.
    pub fn err(&mut self, shown: &str) {
        let stamp = self.style.stamp();
        self.bars.suspend(|| {
            let _ = writeln!(std::io::stderr().lock(), "{stamp}{shown}");
        });
    }

    /// Takes everything that moves off the screen.
    pub fn finish(&mut self) {
        self.flush_output();
        self.transfers.clear();
        self.phases.clear();
        let _ = self.bars.clear();
    }

    pub fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::PhaseStarted { phase } => self.phase_started(*phase),
            Event::PhaseEnded { phase, elapsed } => self.phase_ended(*phase, *elapsed),
            Event::ModuleStarted { phase, id, version } => self.module_started(*phase, id, version),
            Event::ModuleEnded { .. } => self.flush_output(),
            Event::Output { phase, bytes, .. } => self.output(*phase, bytes),
            Event::Info { text } | Event::Debug { text } => self.out(&self.style.dim(text)),
            Event::StepStarted { place, text } => self.step_started(place, text),
            Event::StepEnded { place, text, cached, elapsed, entries, bytes } => {
                self.flush_output();
                let line = step_line(place, text, *cached, *elapsed, (*entries, *bytes));
                self.out(&self.style.dim(&line));
            }
            Event::TransferStarted { kind, id, total } => {
                let moving = Moving { since: Instant::now(), total: *total, bar: None };
                self.transfers.entry((*kind, (*id).to_owned())).or_insert(moving);
            }
            Event::TransferProgress { kind, id, done } => self.moved(*kind, id, *done),
            Event::TransferEnded { kind, id, .. } => {
                let moving = self.transfers.remove(&(*kind, (*id).to_owned()));
                if let Some(bar) = moving.and_then(|moving| moving.bar) {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
    }

    fn phase_started(&mut self, phase: Phase) {
        // One that failed, and after which the work goes on, did not say that it ended.
        for (_, failed) in std::mem::take(&mut self.phases) {
            failed.finish_and_clear();
        }
        let bar = self.bars.add(ProgressBar::new_spinner());
        bar.set_style(template("{spinner:.cyan} {msg}  {elapsed:.dim}"));
        bar.set_message(phase.name());
        bar.enable_steady_tick(Duration::from_millis(100));
        self.phases.insert(phase, bar);
    }

    fn phase_ended(&mut self, phase: Phase, elapsed: Duration) {
        self.flush_output();
        if let Some(bar) = self.phases.remove(&phase) {
            bar.finish_and_clear();
        }
        let line = format!("{} {}", self.style.good("✓"), phase_line(phase, elapsed));
        self.out(&line);
    }

    fn module_started(&mut self, phase: Phase, id: &str, version: &str) {
        self.flush_output();
        if let Some(bar) = self.phases.get(&phase) {
            bar.set_message(escaped(&format!("{} {id} {version}", phase.name())).into_owned());
        }
        if matches!(phase, Phase::Build | Phase::Generate | Phase::Extend) {
            self.out(&format!(
                "{} {}",
                self.style.heading("→"),
                self.style.heading(&format!("{id} {version}"))
            ));
        }
    }

    fn step_started(&mut self, place: &str, text: &str) {
        if let Some(bar) = self.phases.get(&Phase::Extend) {
            bar.set_message(escaped(&format!("{} {place}", Phase::Extend.name())).into_owned());
        }
        self.out(&format!("{place} {text}"));
    }

    fn moved(&mut self, kind: Transfer, id: &str, done: u64) {
        let Some(moving) = self.transfers.get_mut(&(kind, id.to_owned())) else { return };
        if moving.bar.is_none() && moving.since.elapsed() >= WORTH_A_BAR {
            moving.bar = Some(add_bar(&self.bars, kind, id, moving.total));
        }
        if let Some(bar) = &moving.bar {
            bar.set_position(done);
        }
    }

    fn output(&mut self, phase: Phase, bytes: &[u8]) {
        let (style, mut whole) = (self.style, Vec::new());
        self.lines.push(phase, bytes, |_, line| add_line(style, &mut whole, line));
        self.scroll(&whole);
    }

    fn flush_output(&mut self) {
        let (style, mut whole) = (self.style, Vec::new());
        self.lines.finish(|_, line| add_line(style, &mut whole, line));
        self.scroll(&whole);
    }

    fn scroll(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.bars.suspend(|| {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(bytes);
            let _ = out.flush();
        });
    }
}

/// A line of a buildpack's, with an end to colours that it leaves on.
fn add_line(style: Style, whole: &mut Vec<u8>, line: &[u8]) {
    whole.extend_from_slice(style.stamp().as_bytes());
    if !style.color {
        whole.extend_from_slice(&without_colors(line));
    } else if line.contains(&0x1b) {
        whole.extend_from_slice(line);
        whole.extend_from_slice(b"\x1b[0m");
    } else {
        whole.extend_from_slice(line);
    }
    whole.push(b'\n');
}

/// Adds a bar for a transfer; how much there is of a layer is not known before it is packed.
fn add_bar(bars: &MultiProgress, kind: Transfer, id: &str, total: Option<u64>) -> ProgressBar {
    let (bar, text) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "    {msg:32!} {bar:16.cyan/dim} {decimal_bytes:>9} / {decimal_total_bytes:<9} {eta}",
        ),
        None => (ProgressBar::no_length(), "    {msg:32!} {decimal_bytes:>9}  {decimal_bytes_per_sec}"),
    };
    let verb = match kind {
        Transfer::Pull => "pull",
        Transfer::Copy => "copy",
        Transfer::Unpack => "unpack",
        Transfer::Pack => "layer",
        Transfer::Push => "push",
    };
    let id = id.strip_prefix("sha256:").map_or(id, |hex| hex.get(..12).unwrap_or(hex));
    // Before anything is set: a bar of its own draws itself wherever the cursor is.
    let bar = bars.add(bar);
    bar.set_style(template(text));
    bar.set_message(escaped(&format!("{verb} {}", super::style::layer_name(id))).into_owned());
    bar
}

fn template(text: &str) -> ProgressStyle {
    ProgressStyle::with_template(text).unwrap_or_else(|_| ProgressStyle::default_bar())
}
