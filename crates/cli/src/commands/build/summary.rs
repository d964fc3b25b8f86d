//! The end of a build: the image, its layers, where the time went, what to type next.

use std::time::Duration;

use platform::build::{LayerState, Outcome};

use super::BuildArgs;
use crate::ui::{Ui, bytes, duration};

/// Prints it. Quiet: only `name@digest`.
pub fn print(ui: &Ui, args: &BuildArgs, outcome: &Outcome) {
    if ui.is_quiet() {
        return ui.result(&format!("{}@{}", outcome.names.first().unwrap_or(&args.image), outcome.digest));
    }
    let style = ui.style();
    let mut lines = vec![String::new(), style.heading("Layers")];
    let base: Vec<_> = outcome.layers.iter().filter(|layer| layer.state == LayerState::Base).collect();
    let base_size: u64 = base.iter().map(|layer| layer.size).sum();
    lines.push(layer_line("base", bytes(base_size), &format!("run image, {} layers", base.len())));
    for layer in outcome.layers.iter().filter(|layer| layer.state != LayerState::Base) {
        let state = if layer.state == LayerState::New { "new" } else { "reused" };
        lines.push(layer_line(state, bytes(layer.size), &layer.name));
    }
    lines.push(style.heading("Time"));
    let total: Duration = outcome.times.iter().map(|(_, time)| *time).sum();
    let times: Vec<String> = outcome
        .times
        .iter()
        .filter(|(_, time)| time.as_millis() > 0)
        .map(|(phase, time)| format!("{} {}", phase.name(), duration(*time)))
        .collect();
    lines.push(format!("  {}   ({})", duration(total), times.join(", ")));
    lines.push(style.heading("Image"));
    for name in &outcome.names {
        lines.push(format!("  {}", style.good(name)));
    }
    lines.push(format!("  {}", outcome.digest));
    lines.push(next_step(args, outcome));
    ui.result(&lines.join("\n"));
}

fn layer_line(state: &str, size: String, name: &str) -> String {
    format!("  {state:<7} {size:>9}  {name}")
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
