//! Draws lines of a screen as an SVG that needs nothing but a fixed-width font.

use std::fmt::Write as _;

use super::screen::{Cell, Look};

const CELL: f64 = 8.0;
const LINE: f64 = 18.0;
const EDGE: f64 = 18.0;
const TEXT: &str = "#d6deeb";
/// The eight colours of a terminal, on a dark ground.
const COLORS: [&str; 8] =
    ["#575656", "#ef5350", "#22da6e", "#e5c07b", "#82aaff", "#c792ea", "#5fd7e5", "#ffffff"];

/// The picture.
pub fn draw(lines: &[Vec<Cell>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = columns as f64 * CELL + 2.0 * EDGE;
    let height = lines.len() as f64 * LINE + 2.0 * EDGE;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" aria-label=\"pannier build in a terminal\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#0f1720\"/>\n\
         <g font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" \
         font-size=\"13\" fill=\"{TEXT}\" xml:space=\"preserve\">\n"
    );
    for (number, line) in lines.iter().enumerate() {
        let y = EDGE + (number as f64 + 0.75) * LINE;
        let mut start = 0;
        for run in line.chunk_by(|(_, one), (_, other)| one == other) {
            draw_run(&mut out, start, y, run);
            start += run.len();
        }
    }
    out.push_str("</g>\n</svg>\n");
    out
}

/// Cells of one look. Their width is said, so that they line up in any font.
fn draw_run(out: &mut String, start: usize, y: f64, run: &[Cell]) {
    let blank = run.iter().take_while(|(char, _)| *char == ' ').count();
    let text: String = run[blank..].iter().map(|(char, _)| *char).collect();
    let text = text.trim_end();
    if text.is_empty() {
        return;
    }
    let x = EDGE + (start + blank) as f64 * CELL;
    let length = text.chars().count() as f64 * CELL;
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(
        out,
        "<text x=\"{x}\" y=\"{y}\" textLength=\"{length}\" lengthAdjust=\"spacingAndGlyphs\"{}>{escaped}</text>",
        attributes(run[0].1)
    );
}

fn attributes(look: Look) -> String {
    let mut text = String::new();
    if let Some(color) = look.color {
        let _ = write!(text, " fill=\"{}\"", COLORS[usize::from(color) % COLORS.len()]);
    }
    if look.bold {
        text.push_str(" font-weight=\"bold\"");
    }
    if look.dim {
        text.push_str(" fill-opacity=\"0.6\"");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_placed_and_escaped() {
        let bold = Look { bold: true, ..Look::default() };
        let picture = draw(&[vec![('<', bold), (' ', Look::default()), ('b', Look::default())]]);
        assert!(picture.contains("x=\"18\" y=\"31.5\" textLength=\"8\""), "{picture}");
        assert!(picture.contains("font-weight=\"bold\">&lt;</text>"), "{picture}");
        assert!(picture.contains("x=\"34\""), "{picture}");
    }
}
