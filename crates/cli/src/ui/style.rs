//! Colours, times and sizes as text.

use std::borrow::Cow;
use std::hash::BuildHasher as _;
use std::sync::OnceLock;
use std::time::Duration;

use anstyle::{AnsiColor, Style as Ansi};

use super::escape::escaped;

pub const ERROR: Ansi = AnsiColor::Red.on_default().bold();
pub const WARNING: Ansi = AnsiColor::Yellow.on_default().bold();
pub const HINT: Ansi = AnsiColor::Cyan.on_default().bold();
pub const HEADING: Ansi = AnsiColor::Cyan.on_default().bold();
pub const GOOD: Ansi = AnsiColor::Green.on_default().bold();
pub const DIM: Ansi = Ansi::new().dimmed();

/// How text is decorated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// With ANSI colours.
    pub color: bool,
    /// With the time of day before each line.
    pub timestamps: bool,
}

impl Style {
    /// The text in that style, or as it is where there are no colours: for [`Style::show`] or a part of what it is given.
    pub fn paint(self, ansi: Ansi, text: &str) -> String {
        if !self.color {
            return text.to_owned();
        }
        let mark = mark();
        format!("{mark}{ansi}{mark}{text}{mark}{ansi:#}{mark}")
    }

    /// One line as it is printed: what was painted in its colours, everything else as text and nothing but text. All that
    /// goes to a terminal and is not a program's own output passes here.
    pub fn show(self, line: &str) -> Cow<'_, str> {
        if !self.color {
            return escaped(line);
        }
        // Between two marks there is what we made, and outside of them whatever there is.
        let parts = line.split(mark()).enumerate();
        let shown = parts.map(|(number, part)| if number % 2 == 1 { part.into() } else { escaped(part) });
        Cow::Owned(shown.collect())
    }

    /// Something that went well, or the name of what was made.
    pub fn good(self, text: &str) -> String {
        self.paint(GOOD, text)
    }

    /// Something beside the point.
    pub fn dim(self, text: &str) -> String {
        self.paint(DIM, text)
    }

    /// A heading.
    pub fn heading(self, text: &str) -> String {
        self.paint(HEADING, text)
    }

    /// The time of day in UTC, `2026/01/31 13:05:59.123456 `, as the reference writes it, or nothing.
    pub fn stamp(self) -> String {
        if !self.timestamps {
            return String::new();
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let (days, second) = (now.as_secs() / 86_400, now.as_secs() % 86_400);
        let (year, month, day) = platform::time::civil_date(days);
        format!(
            "{year:04}/{month:02}/{day:02} {:02}:{:02}:{:02}.{:06} ",
            second / 3600,
            second / 60 % 60,
            second % 60,
            now.subsec_micros()
        )
    }
}

/// What stands around our own control characters until they are printed. Nobody else can know it.
fn mark() -> &'static str {
    static MARK: OnceLock<String> = OnceLock::new();
    MARK.get_or_init(|| {
        let random = std::hash::RandomState::new();
        format!("\x1b{:016x}{:016x};", random.hash_one(0), random.hash_one(1))
    })
}

/// A size for people: `0 B`, `12.3 kB`, `1.3 GB` (powers of ten).
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") }
}

/// A time for people: `3 ms`, `1.24 s`, `2 min 05 s`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1000.0)
    } else if seconds < 60.0 {
        format!("{seconds:.2} s")
    } else {
        format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
    }
}

/// What a program printed, without its colours. Anything else it tells a terminal stays.
pub fn without_colors(line: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.windows(2).position(|pair| pair == b"\x1b[") {
        let (before, code) = rest.split_at(start);
        plain.extend_from_slice(before);
        let length = code[2..].iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b';' | b':')).count();
        let end = if code.get(2 + length) == Some(&b'm') { 3 + length } else { 2 };
        if end == 2 {
            plain.extend_from_slice(&code[..2]);
        }
        rest = &code[end..];
    }
    plain.extend_from_slice(rest);
    plain
}

/// The name of a layer for people: `app` for `slice-1`, `launcher` for `buildpacksio/lifecycle:launcher`.
pub fn layer_name(id: &str) -> String {
    match id.strip_prefix("buildpacksio/lifecycle:").unwrap_or(id) {
        "launch.sbom" => "SBOM".to_owned(),
        "process-types" => "processes".to_owned(),
        "slice-1" => "app".to_owned(),
        other => match other.strip_prefix("slice-") {
            Some(number) => format!("app, slice {number}"),
            None => other.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_painted_has_colours() {
        let style = Style { color: true, timestamps: false };
        let line = format!("a\x1b[31m {} b\x1b[0m", style.good("c\x1b[1m"));
        assert_eq!(style.show(&line), "a\\x1b[31m \x1b[1m\x1b[32mc\\x1b[1m\x1b[0m b\\x1b[0m");
        assert_eq!(Style::default().show(&Style::default().good("a\x07")), "a\\x07");
    }

    #[test]
    fn sizes_and_times() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_300_000_000), "1.3 GB");
        assert_eq!(duration(Duration::from_millis(42)), "42 ms");
        assert_eq!(duration(Duration::from_secs(125)), "2 min 05 s");
    }

    #[test]
    fn layers_have_names_for_people() {
        let names = ["slice-1", "slice-2", "buildpacksio/lifecycle:process-types", "example/node:modules"];
        assert_eq!(names.map(layer_name), ["app", "app, slice 2", "processes", "example/node:modules"]);
    }

    #[test]
    fn colors_are_taken_out_and_nothing_else() {
        assert_eq!(without_colors(b"\x1b[1;33mstep\x1b[0m 1\x1b[m"), b"step 1");
        assert_eq!(without_colors(b"a\x1b[2Kb\x1b[3"), b"a\x1b[2Kb\x1b[3");
        assert_eq!(without_colors("naïve\x1b".as_bytes()), "naïve\x1b".as_bytes());
    }
}
