//! The end of a build: the image, its layers, where the time went, what to type next.

use std::time::Duration;

use events::Phase;
use oci::{ImageName, Reference};
use platform::build::{LayerState, Outcome};

use super::BuildArgs;
use crate::commands::pinned;
use crate::ui::{Style, Ui, bytes, duration, layer_name};

/// The most columns that a line of many parts takes.
const WIDTH: usize = 78;

/// Prints it. Quiet: only `name@digest`, which every verb takes.
pub fn print(ui: &Ui, args: &BuildArgs, outcome: &Outcome) {
    if ui.is_quiet() {
        let name = super::destination(&args.image, args.publish);
        return ui.result(&name.map_or_else(|_| args.image.clone(), |name| pinned(&name, outcome.digest)));
    }
    let style = ui.style();
    let mut lines = vec![String::new(), style.heading("Layers")];
    let base: Vec<_> = outcome.layers.iter().filter(|layer| layer.state == LayerState::Base).collect();
    let base_size: u64 = base.iter().map(|layer| layer.size).sum();
    let count = if base.len() == 1 { "1 layer".to_owned() } else { format!("{} layers", base.len()) };
    lines.push(layer_line("base", bytes(base_size), &format!("run image, {count}")));
    for layer in outcome.layers.iter().filter(|layer| layer.state != LayerState::Base) {
        let state = if layer.state == LayerState::New { "new" } else { "reused" };
        lines.push(layer_line(state, bytes(layer.size), &layer_name(&layer.name)));
    }
    lines.push(style.heading("Time"));
    lines.extend(time_lines(&outcome.times));
    lines.push(style.heading("Image"));
    for name in &outcome.names {
        lines.push(shown_name(style, args, name));
    }
    lines.push(format!("  {}", outcome.digest));
    lines.push(String::new());
    lines.push(next_step(args, outcome));
    ui.results(&lines);
}

/// A name in the local store as a person types it, any other as it is.
fn shown_name(style: Style, args: &BuildArgs, name: &str) -> String {
    let local = matches!(args.image.parse(), Ok(ImageName::Plain(_))) && !args.publish;
    match name.parse::<Reference>() {
        Ok(reference) if local => format!("  {}  (local store)", style.good(&reference.familiar())),
        _ => format!("  {}", style.good(name)),
    }
}

fn layer_line(state: &str, size: String, name: &str) -> String {
    format!("  {state:<7} {size:>9}  {name}")
}

/// The whole, and the phases that took any time worth a word, in lines that fit on a narrow terminal.
fn time_lines(times: &[(Phase, Duration)]) -> Vec<String> {
    let total: Duration = times.iter().map(|(_, time)| *time).sum();
    let start = format!("  {:<9}", duration(total));
    let indent = " ".repeat(start.len());
    let mut lines = vec![start];
    for (phase, time) in times.iter().filter(|(_, time)| time.as_millis() > 0) {
        let part = format!("  {} {}", phase.name(), duration(*time));
        match lines.last_mut() {
            Some(line) if line.len() + part.len() <= WIDTH => line.push_str(&part),
            _ => lines.push(format!("{indent}{part}")),
        }
    }
    lines
}

fn next_step(args: &BuildArgs, outcome: &Outcome) -> String {
    match &outcome.default_process {
        Some(process) => format!("Run it (starts `{process}`):  pannier run {}", args.image),
        None if outcome.processes.is_empty() => format!("Look at it:  pannier inspect {}", args.image),
        None => format!(
            "Run a process of it:  pannier run {} --entrypoint {}   (it has no default; there are: {})",
            args.image,
            outcome.processes[0],
            outcome.processes.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fit() {
        let phases =
            [Phase::Resolve, Phase::Analyze, Phase::Detect, Phase::Restore, Phase::Build, Phase::Export];
        let lines = time_lines(&phases.map(|phase| (phase, Duration::from_millis(12_340))));
        assert_eq!(
            lines,
            [
                "  1 min 14 s  resolve 12.34 s  analyze 12.34 s  detect 12.34 s",
                "              restore 12.34 s  build 12.34 s  export 12.34 s",
            ]
        );
        assert_eq!(time_lines(&[(Phase::Cache, Duration::from_micros(10))]), ["  0 ms     "]);
    }
}
