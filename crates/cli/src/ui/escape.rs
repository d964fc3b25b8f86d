//! Text of strangers as a terminal may have it: nothing in it moves the cursor, hides, turns round or ends a line.
//!
//! Everything that is printed passes [`Style::show`](super::Style::show), which calls this; a verb calls it by itself only
//! where it makes a column's width or joins lines of others with its own.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with everything visible: control characters as `\x1b`, characters that turn or hide text as `\u{202e}`, a
/// line end as `\n`; a tab is four blanks. Plain text comes back as it is.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\t' => plain.push_str("    "),
            '\n' => plain.push_str("\\n"),
            '\r' => plain.push_str("\\r"),
            c if !is_unsafe(c) => plain.push(c),
            c if c.is_ascii() => _ = write!(plain, "\\x{:02x}", u32::from(c)),
            c => _ = write!(plain, "\\u{{{:x}}}", u32::from(c)),
        }
    }
    Cow::Owned(plain)
}

/// JSON with the same characters as JSON escapes: it says the same to a program.
pub fn escaped_json(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // Between values: inside of strings there are none.
            '\n' => plain.push(c),
            c if is_unsafe(c) => {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().for_each(|unit| _ = write!(plain, "\\u{unit:04x}"));
            }
            c => plain.push(c),
        }
    }
    plain
}

/// True for what a terminal acts upon, or shows as nothing.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// The lines of a text in which others may have put ends of lines: what follows the first is set in, so that no line
/// of theirs looks like one of ours.
pub fn set_in(text: &str) -> Vec<String> {
    let lines = text.trim_end().split('\n').enumerate();
    lines.map(|(number, line)| if number == 0 { line.to_owned() } else { format!("  {line}") }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_acts_upon_is_visible() {
        for (text, shown) in [
            ("\x1b]0;pwned\x07", "\\x1b]0;pwned\\x07"),
            ("a\u{9b}31mb\u{7f}", "a\\u{9b}31mb\\x7f"),
            ("a\r\nerror: b\tc", "a\\r\\nerror: b    c"),
            (
                "\u{202e}gpj.exe\u{2066}\u{feff}\u{200f}\u{2028}",
                "\\u{202e}gpj.exe\\u{2066}\\u{feff}\\u{200f}\\u{2028}",
            ),
            ("naïve 日本 👩\u{200d}💻 مرحبا", "naïve 日本 👩\u{200d}💻 مرحبا"),
        ] {
            assert_eq!(escaped(text), shown);
        }
    }

    #[test]
    fn lines_of_others_do_not_begin_where_ours_do() {
        assert_eq!(set_in("a\nerror: b\n::set-output x\n"), ["a", "  error: b", "  ::set-output x"]);
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_left(text in any::<String>()) {
            let shown = escaped(&text);
            prop_assert!(!shown.chars().any(is_unsafe));
            prop_assert_eq!(escaped(&shown), shown.clone());
        }

        #[test]
        fn plain_text_stays(text in "[ -~à-ÿぁ-ん]*") {
            prop_assert_eq!(&*escaped(&text), &*text);
        }

        #[test]
        fn json_says_the_same(text in any::<String>()) {
            let json = serde_json::to_string_pretty(&serde_json::json!({ "a": [&text, 1] })).unwrap();
            let shown = escaped_json(&json);
            prop_assert!(!shown.chars().any(|c| c != '\n' && is_unsafe(c)));
            let back: serde_json::Value = serde_json::from_str(&shown).unwrap();
            prop_assert_eq!(back["a"][0].as_str(), Some(text.as_str()));
        }
    }
}
