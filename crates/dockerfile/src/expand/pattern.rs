//! The patterns of `${x#p}`, `${x%p}` and `${x/p/r}`: `*`, `?`, and a backslash that quotes.

use super::Budget;

/// A piece of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Letter(char),
    Any,
    Star,
}

/// A pattern.
pub(super) struct Pattern(Vec<Piece>);

impl Pattern {
    /// `None` when a backslash quotes nothing, or something that needs no quoting.
    pub(super) fn new(text: &str) -> Option<Self> {
        let mut pieces = Vec::new();
        let mut chars = text.chars();
        while let Some(ch) = chars.next() {
            pieces.push(match ch {
                '*' => Piece::Star,
                '?' => Piece::Any,
                // `}` and `/` are quoted for the sake of what is around the pattern.
                '\\' => match chars.next() {
                    Some(quoted @ ('*' | '?' | '\\' | '}' | '/')) => Piece::Letter(quoted),
                    _ => return None,
                },
                ch => Piece::Letter(ch),
            });
        }
        Some(Self(pieces))
    }

    /// How many letters of the beginning of `letters` match, at least or at most; 0 when none do. `None` when the budget
    /// does not suffice to tell: comparing takes the product of both lengths.
    fn matched(
        pieces: &[Piece],
        letters: impl Iterator<Item = char>,
        longest: bool,
        budget: &Budget,
    ) -> Option<Option<usize>> {
        // The set of places in the pattern that can have been reached.
        let mut places = vec![false; pieces.len() + 1];
        places[0] = true;
        skip_stars(pieces, &mut places);
        let mut found = places[pieces.len()].then_some(0);
        for (count, letter) in letters.enumerate() {
            if found.is_some() && !longest || !places.contains(&true) {
                break;
            }
            if !budget.work(pieces.len() + 1) {
                return None;
            }
            let mut next = vec![false; pieces.len() + 1];
            for (at, piece) in pieces.iter().enumerate().filter(|(at, _)| places[*at]) {
                match piece {
                    Piece::Star => next[at] = true,
                    Piece::Any => next[at + 1] = true,
                    Piece::Letter(expected) => next[at + 1] |= *expected == letter,
                }
            }
            skip_stars(pieces, &mut next);
            if next[pieces.len()] {
                found = Some(count + 1);
            }
            places = next;
        }
        Some(found)
    }

    /// The letters without those in front that match; `None` when the budget does not suffice.
    pub(super) fn without_prefix(&self, letters: &[char], longest: bool, budget: &Budget) -> Option<String> {
        let matched = Self::matched(&self.0, letters.iter().copied(), longest, budget)?.unwrap_or(0);
        Some(letters[matched..].iter().collect())
    }

    /// The letters without those at the end that match; `None` when the budget does not suffice.
    pub(super) fn without_suffix(&self, letters: &[char], longest: bool, budget: &Budget) -> Option<String> {
        let reversed: Vec<Piece> = self.0.iter().rev().copied().collect();
        let matched = Self::matched(&reversed, letters.iter().rev().copied(), longest, budget)?.unwrap_or(0);
        Some(letters[..letters.len() - matched].iter().collect())
    }

    /// Replaces the first match or all of them, each as long as can be; `None` when the budget does not suffice.
    pub(super) fn replace(&self, letters: &[char], with: &str, all: bool, budget: &Budget) -> Option<String> {
        let mut text = String::new();
        let mut at = 0;
        let mut after_match = false;
        while at <= letters.len() {
            let matched = Self::matched(&self.0, letters[at..].iter().copied(), true, budget)?;
            // Nothing right behind a match is not another match.
            if let Some(length) = matched.filter(|length| *length > 0 || !after_match) {
                if text.len() + with.len() > budget.bytes() {
                    return None;
                }
                text.push_str(with);
                at += length;
                after_match = true;
                if !all {
                    break;
                }
                if length > 0 {
                    continue;
                }
            }
            after_match = false;
            text.extend(letters.get(at));
            at += 1;
        }
        text.extend(letters.get(at..).unwrap_or_default());
        Some(text)
    }
}

/// A star also matches nothing.
fn skip_stars(pieces: &[Piece], places: &mut [bool]) {
    for (at, piece) in pieces.iter().enumerate() {
        if places[at] && *piece == Piece::Star {
            places[at + 1] = true;
        }
    }
}
