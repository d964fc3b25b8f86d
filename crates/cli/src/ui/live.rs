//! The live view on a terminal: a line per phase with a spinner and its time, a bar per transfer, and the
//! buildpacks' output scrolling above.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use events::{Event, Phase, Transfer};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::plain::{Lines, phase_line};
use super::style::Style;

/// Spinners and bars at the foot of the screen.
#[derive(Debug)]
pub struct Live {
    style: Style,
    bars: MultiProgress,
    phases: BTreeMap<Phase, ProgressBar>,
    transfers: BTreeMap<(Transfer, String), ProgressBar>,
    lines: Lines,
}

impl Live {
    pub fn new(style: Style) -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stdout_with_hz(12));
        Self { style, bars, phases: BTreeMap::new(), transfers: BTreeMap::new(), lines: Lines::default() }
    }

    /// Writes a line above the moving part.
    pub fn out(&mut self, text: &str) {
        let stamp = self.style.stamp();
        self.bars.suspend(|| {
            let mut out = std::io::stdout().lock();
            for line in text.lines() {
                let _ = writeln!(out, "{stamp}{line}");
            }
            let _ = out.flush();
        });
    }

    /// The same on standard error.
    pub fn err(&mut self, text: &str) {
        let stamp = self.style.stamp();
        self.bars.suspend(|| {
            let mut err = std::io::stderr().lock();
            for line in text.lines() {
                let _ = writeln!(err, "{stamp}{line}");
            }
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
            Event::ModuleStarted { phase, id, version } => {
                if let Some(bar) = self.phases.get(phase) {
                    bar.set_message(format!("{} {id} {version}", phase.name()));
                }
            }
            Event::ModuleEnded { .. } => self.flush_output(),
            Event::Output { phase, bytes, .. } => self.output(*phase, bytes),
            Event::Info { text } => self.out(text),
            Event::Debug { text } => self.out(&self.style.dim(text)),
            Event::TransferStarted { kind, id, total } => self.transfer_started(*kind, id, *total),
            Event::TransferProgress { kind, id, done } => {
                if let Some(bar) = self.transfers.get(&(*kind, (*id).to_owned())) {
                    bar.set_position(*done);
                }
            }
            Event::TransferEnded { kind, id, .. } => {
                if let Some(bar) = self.transfers.remove(&(*kind, (*id).to_owned())) {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
    }

    fn phase_started(&mut self, phase: Phase) {
        let bar = self.bars.add(ProgressBar::new_spinner());
        bar.set_style(template("{spinner:.cyan} {wide_msg} {elapsed:>6}"));
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

    fn transfer_started(&mut self, kind: Transfer, id: &str, total: Option<u64>) {
        let bar = self.bars.add(match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::no_length(),
        });
        bar.set_style(template(match total {
            Some(_) => "    {msg:32!} {wide_bar:.cyan/dim} {bytes:>10} / {total_bytes:<10} {eta:>4}",
            None => "    {msg:32!} {bytes:>10} {bytes_per_sec}",
        }));
        let verb = match kind {
            Transfer::Pull => "pull",
            Transfer::Unpack => "unpack",
            Transfer::Pack => "layer",
            Transfer::Push => "push",
        };
        let id_short = id.strip_prefix("sha256:").map_or(id, |hex| &hex[..hex.len().min(12)]);
        bar.set_message(format!("{verb} {id_short}"));
        self.transfers.insert((kind, id.to_owned()), bar);
    }

    fn output(&mut self, phase: Phase, bytes: &[u8]) {
        let mut whole = Vec::new();
        self.lines.push(phase, bytes, |_, line| {
            whole.extend_from_slice(line);
            whole.push(b'\n');
        });
        self.scroll(&whole);
    }

    fn flush_output(&mut self) {
        let mut whole = Vec::new();
        self.lines.finish(|_, line| {
            whole.extend_from_slice(line);
            whole.push(b'\n');
        });
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

fn template(text: &str) -> ProgressStyle {
    ProgressStyle::with_template(text).unwrap_or_else(|_| ProgressStyle::default_bar())
}
