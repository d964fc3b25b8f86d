//! Patterns of paths: those of `COPY`, and those of `.dockerignore`, in which `**` is any number of folders.
//!
//! As Go's `filepath.Match` has them: `*` and `?` stop at a slash and take a leading dot as any letter, classes are
//! `[a-z]` and `[^a-z]`, a backslash quotes. Matching takes time in proportion to the product of both lengths, whatever
//! the pattern. Not here: where patterns come from.

/// A pattern that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid pattern `{pattern}`: {reason}")]
pub(crate) struct BadPattern {
    pattern: String,
    reason: &'static str,
}

impl BadPattern {
    pub(crate) fn new(pattern: &str, reason: &'static str) -> Self {
        Self { pattern: pattern.to_owned(), reason }
    }
}

/// A pattern.
#[derive(Clone, Debug)]
pub(crate) struct Glob {
    pieces: Vec<Piece>,
    /// The pattern, where it is nothing but text: most are.
    text: Option<String>,
}

#[derive(Clone, Debug)]
enum Piece {
    Letter(char),
    /// Any letter but a slash.
    Any,
    /// Any letters but slashes.
    Star,
    /// One of these, or none of them.
    Class {
        ranges: Vec<(char, char)>,
        negated: bool,
    },
    /// Any letters.
    Deep,
    /// Nothing, or what the next piece takes.
    Folders,
    /// Any letters and a slash.
    Folder,
}

impl Glob {
    /// A pattern in which two stars are as good as one.
    pub(crate) fn new(pattern: &str) -> Result<Self, BadPattern> {
        Self::read(pattern, false)
    }

    /// A pattern in which two stars are any number of folders.
    pub(crate) fn deep(pattern: &str) -> Result<Self, BadPattern> {
        Self::read(pattern, true)
    }

    fn read(pattern: &str, deep: bool) -> Result<Self, BadPattern> {
        let bad = |reason| BadPattern::new(pattern, reason);
        let mut pieces = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(ch) = chars.next() {
            match ch {
                '*' if deep && chars.next_if_eq(&'*').is_some() => {
                    let slash = chars.next_if_eq(&'/').is_some();
                    let rest: String = chars.clone().collect();
                    if rest.is_empty() || pieces.is_empty() && !slash && !rest.contains(['*', '?', '[', '\\'])
                    {
                        pieces.push(Piece::Deep);
                    } else {
                        pieces.extend([Piece::Folders, Piece::Folder]);
                    }
                }
                '*' => pieces.push(Piece::Star),
                '?' => pieces.push(Piece::Any),
                '[' => pieces.push(class(&mut chars).ok_or_else(|| bad("a class is not closed"))?),
                '\\' => match chars.next() {
                    Some(quoted) => pieces.push(Piece::Letter(quoted)),
                    None => return Err(bad("a backslash at its end")),
                },
                ch => pieces.push(Piece::Letter(ch)),
            }
        }
        let letter = |piece: &Piece| match piece {
            Piece::Letter(letter) => Some(*letter),
            _ => None,
        };
        let text = pieces.iter().map(letter).collect();
        Ok(Self { pieces, text })
    }

    /// Whether the whole of `text` matches.
    pub(crate) fn matches(&self, text: &str) -> bool {
        if let Some(own) = &self.text {
            return own == text;
        }
        let mut places = vec![false; self.pieces.len() + 1];
        let mut next = places.clone();
        self.reach(&mut places, 0);
        for ch in text.chars() {
            let mut any = false;
            for (at, piece) in self.pieces.iter().enumerate().filter(|(at, _)| places[*at]) {
                let (stays, goes) = match piece {
                    Piece::Letter(letter) => (false, *letter == ch),
                    Piece::Any => (false, ch != '/'),
                    Piece::Class { ranges, negated } => {
                        let within = ranges.iter().any(|(from, to)| (*from..=*to).contains(&ch));
                        (false, within != *negated)
                    }
                    Piece::Star => (ch != '/', false),
                    Piece::Deep => (true, false),
                    Piece::Folder => (true, ch == '/'),
                    Piece::Folders => (false, false),
                };
                any |= stays || goes;
                if stays {
                    self.reach(&mut next, at);
                }
                if goes {
                    self.reach(&mut next, at + 1);
                }
            }
            if !any {
                return false;
            }
            std::mem::swap(&mut places, &mut next);
            next.fill(false);
        }
        places[self.pieces.len()]
    }

    /// Marks a place, and those that can be reached from it without a letter.
    fn reach(&self, places: &mut [bool], at: usize) {
        if std::mem::replace(&mut places[at], true) {
            return;
        }
        match self.pieces.get(at) {
            Some(Piece::Star | Piece::Deep) => self.reach(places, at + 1),
            Some(Piece::Folders) => {
                self.reach(places, at + 1);
                self.reach(places, at + 2);
            }
            _ => (),
        }
    }
}

/// Whether a text has anything special in a pattern.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

/// Reads a class behind its `[`.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Piece> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let letter = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| match chars.next()? {
            '\\' => chars.next(),
            '-' => None,
            ch => Some(ch),
        };
        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
            return Some(Piece::Class { ranges, negated });
        }
        if chars.peek() == Some(&']') {
            return None;
        }
        let from = letter(chars)?;
        let to = if chars.next_if_eq(&'-').is_some() {
            if chars.peek() == Some(&']') {
                return None;
            }
            letter(chars)?
        } else {
            from
        };
        ranges.push((from, to));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Glob::new(pattern).unwrap().matches(text)
    }

    fn deep(pattern: &str, text: &str) -> bool {
        Glob::deep(pattern).unwrap().matches(text)
    }

    #[test]
    fn matches_as_go_does() {
        for (pattern, text, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "aéb", true),
            ("a[^a]b", "aéb", true),
            ("a???b", "aéb", false),
            ("a?b", "a/b", false),
            ("a[^x]b", "a/b", true),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("*x", "xxx", true),
            ("*", ".hidden", true),
            ("a**b", "axxb", true),
            ("**", "a/b", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        for bad in ["[]a]", "[-]", "[x-]", "[a", "[^", "[^bc", "a\\", "["] {
            assert!(Glob::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn two_stars_are_folders() {
        for (pattern, text, expected) in [
            ("**", "a/b", true),
            ("**/a", "a", true),
            ("**/a", "x/y/a", true),
            ("**/a", "xa", false),
            ("**a", "xa", true),
            ("**/*.go", "x/y.go", true),
            ("**/*.go", "y.go", true),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "a/xb", false),
            ("a**/b", "ax/y/b", true),
            ("**/a/**/b", "x/a/y/b", true),
            ("*/a", "x/y/a", false),
        ] {
            assert_eq!(deep(pattern, text), expected, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_nor_takes_long(pattern in "[a/*?\\[\\]^\\\\-]{0,30}", text in "[a/]{0,200}") {
            for glob in [Glob::new(&pattern), Glob::deep(&pattern)].into_iter().flatten() {
                glob.matches(&text);
            }
        }

        #[test]
        fn a_quoted_text_matches_itself_alone(text in "[a-c/*?\\[\\]]{0,10}", other in "[a-c/*?\\[\\]]{0,10}") {
            let quoted: String = text.chars().flat_map(|ch| ['\\', ch]).collect();
            let glob = Glob::new(&quoted).unwrap();
            prop_assert!(glob.matches(&text));
            prop_assert_eq!(glob.matches(&other), text == other);
        }
    }
}
