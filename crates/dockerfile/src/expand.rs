//! Variables and quotes in the arguments of instructions, as Docker's own shell lexer has them.
//!
//! `$x`, `${x}`, `${x:-word}`, `${x-word}`, `${x:+word}`, `${x+word}`, `${x:?word}`, `${x?word}`, and the pattern forms
//! `${x#p}`, `${x##p}`, `${x%p}`, `${x%%p}`, `${x/p/r}`, `${x//p/r}`; words nest. What they come to is bounded. Not here:
//! which variables there are, and which instructions expand.

mod budget;
mod pattern;

use std::iter::Peekable;
use std::str::Chars;

pub(crate) use budget::Budget;

/// Says what a variable's value is; none when it is not set.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// How deep words may be within words: more is not written by people.
const DEPTH: usize = 50;

/// A word that cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// A quote that is not closed.
    #[error("missing closing `{quote}`")]
    Quote {
        /// The quote.
        quote: char,
    },
    /// `${` that is not closed.
    #[error("missing `}}` after `${{{name}`")]
    Brace {
        /// The variable.
        name: String,
    },
    /// `${x/p}`, without a replacement.
    #[error("missing `/` in `${{{name}/…}}`")]
    Slash {
        /// The variable.
        name: String,
    },
    /// `${}` and the like.
    #[error("bad substitution: no variable name after `${{`")]
    Name,
    /// `${x!…}`.
    #[error("unsupported modifier `{modifier}` of `${{{name}}}`")]
    Modifier {
        /// The variable.
        name: String,
        /// What follows its name.
        modifier: String,
    },
    /// `${x?message}` of a variable that is not set, or `${x:?message}` of one that is empty.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What is said about it.
        message: String,
    },
    /// A pattern that ends with a backslash, or quotes what needs no quoting.
    #[error("invalid pattern `{pattern}` of `${{{name}}}`")]
    Pattern {
        /// The variable.
        name: String,
        /// The pattern.
        pattern: String,
    },
    /// Words within words within words.
    #[error("variables are nested too deeply")]
    Depth,
    /// Variables of variables of variables.
    #[error("the variables of this file come to too much, expected at most {} bytes in all", budget::BYTES)]
    Size,
    /// A pattern with many stars over a long value.
    #[error("the pattern of `${{{name}}}` takes too long: expected a shorter pattern or value")]
    Work {
        /// The variable.
        name: String,
    },
}

/// What an expansion works with.
#[derive(Clone, Copy)]
pub(crate) struct Variables<'a> {
    pub(crate) lookup: Lookup<'a>,
    /// The Dockerfile's escape character.
    pub(crate) escape: char,
    /// What all expansions of the Dockerfile together may come to.
    pub(crate) budget: &'a Budget,
}

impl Variables<'_> {
    fn get(&self, name: &str) -> Result<Option<String>, ExpandError> {
        let value = (self.lookup)(name);
        self.budget.copied(value.as_deref().unwrap_or_default())?;
        Ok(value)
    }
}

/// Expands the variables of one word and takes its quotes away. `escape` is the Dockerfile's escape character.
///
/// # Errors
/// What is not closed, an unknown modifier, a variable that must be set and is not, and what grows beyond 4 MiB.
pub fn expand(text: &str, lookup: Lookup<'_>, escape: char) -> Result<String, ExpandError> {
    expand_word(text, Variables { lookup, escape, budget: &Budget::default() })
}

/// The same within a budget.
pub(crate) fn expand_word(text: &str, variables: Variables<'_>) -> Result<String, ExpandError> {
    Ok(Lexer::new(text, variables, Mode::default()).run()?.text)
}

/// Expands the variables of a text and splits it at the spaces that are not quoted, those of variables included.
pub(crate) fn expand_words(text: &str, variables: Variables<'_>) -> Result<Vec<String>, ExpandError> {
    Ok(Lexer::new(text, variables, Mode::default()).run()?.words)
}

/// Expands the variables of a text in which quotes are just letters: a here-document.
pub(crate) fn expand_text(text: &str, variables: Variables<'_>) -> Result<String, ExpandError> {
    let mode = Mode { quotes: Quotes::Letters, ..Mode::default() };
    Ok(Lexer::new(text, variables, mode).run()?.text)
}

/// Expands the variables of a line for people: quotes and escapes stay, and so do variables that are not set.
pub(crate) fn expand_shown(text: &str, variables: Variables<'_>) -> Result<String, ExpandError> {
    let mode = Mode { quotes: Quotes::Keep, keep_escapes: true, keep_unset: true };
    Ok(Lexer::new(text, variables, mode).run()?.text)
}

/// The words of a line in which no variable is set, with their quotes and escapes when `raw`.
pub(crate) fn words(text: &str, raw: bool) -> Result<Vec<String>, ExpandError> {
    let quotes = if raw { Quotes::Keep } else { Quotes::Strip };
    let mode = Mode { quotes, keep_escapes: raw, keep_unset: true };
    let variables = Variables { lookup: &|_| None, escape: '\\', budget: &Budget::default() };
    Ok(Lexer::new(text, variables, mode).run()?.words)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Quotes {
    #[default]
    Strip,
    Keep,
    Letters,
}

#[derive(Clone, Copy, Default)]
struct Mode {
    quotes: Quotes,
    keep_escapes: bool,
    /// Variables that are not set stay as they are written.
    keep_unset: bool,
}

/// What was read: as one text, and split at the spaces that were not quoted.
#[derive(Default)]
struct Read {
    text: String,
    words: Vec<String>,
    word: String,
}

impl Read {
    /// A letter that may separate words.
    fn add(&mut self, ch: char) {
        if ch.is_whitespace() {
            self.end_word();
        } else {
            self.word.push(ch);
        }
        self.text.push(ch);
    }

    /// A letter of a word, whatever it is.
    fn add_raw(&mut self, ch: char) {
        self.word.push(ch);
        self.text.push(ch);
    }

    fn end_word(&mut self) {
        if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }
}

struct Lexer<'a> {
    chars: Peekable<Chars<'a>>,
    variables: Variables<'a>,
    mode: Mode,
    depth: usize,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str, variables: Variables<'a>, mode: Mode) -> Self {
        Self { chars: text.chars().peekable(), variables, mode, depth: 0 }
    }

    fn run(mut self) -> Result<Read, ExpandError> {
        let keep = self.mode.keep_escapes;
        Ok(self.until(None, keep)?.unwrap_or_default())
    }

    /// Reads to `stop`, which is taken, or to the end; `None` when the end came first.
    fn until(&mut self, stop: Option<char>, keep_escapes: bool) -> Result<Option<Read>, ExpandError> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(ExpandError::Depth);
        }
        let mut read = Read::default();
        loop {
            let Some(ch) = self.chars.next() else {
                if stop.is_some() {
                    return Ok(None);
                }
                break;
            };
            if Some(ch) == stop {
                break;
            }
            match ch {
                '$' => self.dollar()?.chars().for_each(|ch| read.add(ch)),
                '<' => self.angle().chars().for_each(|ch| read.add_raw(ch)),
                '\'' if self.mode.quotes != Quotes::Letters => {
                    self.single_quoted()?.chars().for_each(|ch| read.add_raw(ch));
                }
                '"' if self.mode.quotes != Quotes::Letters => {
                    self.double_quoted(keep_escapes)?.chars().for_each(|ch| read.add_raw(ch));
                }
                ch if ch == self.variables.escape => {
                    if keep_escapes {
                        read.add_raw(ch);
                    }
                    // At the very end it escapes nothing.
                    if let Some(next) = self.chars.next() {
                        read.add_raw(next);
                    }
                }
                ch => read.add(ch),
            }
        }
        read.end_word();
        self.depth -= 1;
        Ok(Some(read))
    }

    /// The two brackets of a here-document keep the space behind them: they and its name are one word.
    fn angle(&mut self) -> String {
        let mut text = "<".to_owned();
        if self.chars.next_if_eq(&'<').is_some() {
            text.push('<');
            while let Some(space) = self.chars.next_if(|ch| matches!(ch, ' ' | '\t' | '\r')) {
                text.push(space);
            }
        }
        text
    }

    fn single_quoted(&mut self) -> Result<String, ExpandError> {
        let mut text = String::new();
        loop {
            match self.chars.next() {
                None => return Err(ExpandError::Quote { quote: '\'' }),
                Some('\'') => return Ok(self.quoted('\'', text)),
                Some(ch) => text.push(ch),
            }
        }
    }

    fn double_quoted(&mut self, keep_escapes: bool) -> Result<String, ExpandError> {
        let mut text = String::new();
        loop {
            match self.chars.next() {
                None => return Err(ExpandError::Quote { quote: '"' }),
                Some('"') => return Ok(self.quoted('"', text)),
                Some('$') => text.push_str(&self.dollar()?),
                Some(ch) if ch == self.variables.escape => {
                    if keep_escapes {
                        text.push(ch);
                    }
                    let escape = self.variables.escape;
                    match self.chars.next_if(|next| matches!(next, '"' | '$') || *next == escape) {
                        Some(next) => text.push(next),
                        // It is a letter before anything else; once, when it is kept anyway.
                        None if !keep_escapes && self.chars.peek().is_some() => text.push(ch),
                        None => (),
                    }
                }
                Some(ch) => text.push(ch),
            }
        }
    }

    fn quoted(&self, quote: char, text: String) -> String {
        if self.mode.quotes == Quotes::Keep { format!("{quote}{text}{quote}") } else { text }
    }

    /// What follows a `$`, within the budget.
    fn dollar(&mut self) -> Result<String, ExpandError> {
        let text = self.substituted()?;
        self.variables.budget.take(&text)?;
        Ok(text)
    }

    fn substituted(&mut self) -> Result<String, ExpandError> {
        if self.chars.next_if_eq(&'{').is_none() {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(match self.variables.get(&name)? {
                Some(value) => value,
                None if self.mode.keep_unset => format!("${name}"),
                None => String::new(),
            });
        }
        match self.chars.peek() {
            None => return Err(ExpandError::Brace { name: String::new() }),
            Some('{' | '}' | ':') => return Err(ExpandError::Name),
            Some(_) => (),
        }
        let name = self.name();
        let Some(modifier) = self.chars.next() else { return Err(ExpandError::Brace { name }) };
        match modifier {
            '}' => Ok(match self.variables.get(&name)? {
                Some(value) => value,
                None if self.mode.keep_unset => format!("${{{name}}}"),
                None => String::new(),
            }),
            ':' => match self.chars.next() {
                None => Err(ExpandError::Brace { name }),
                Some(ch @ ('-' | '+' | '?')) => self.with_word(name, ch, true),
                Some(ch) => Err(ExpandError::Modifier { name, modifier: format!(":{ch}") }),
            },
            '-' | '+' | '?' => self.with_word(name, modifier, false),
            '#' | '%' => self.trimmed(name, modifier),
            '/' => self.replaced(name),
            other => Err(ExpandError::Modifier { name, modifier: other.to_string() }),
        }
    }

    /// `${name-word}`, `${name+word}`, `${name?word}`; `colon` when an empty value counts as none.
    fn with_word(&mut self, name: String, modifier: char, colon: bool) -> Result<String, ExpandError> {
        let keep = self.mode.keep_escapes;
        let Some(word) = self.until(Some('}'), keep)? else { return Err(ExpandError::Brace { name }) };
        let word = word.text;
        let value = self.variables.get(&name)?;
        if value.is_none() && self.mode.keep_unset {
            let colon = if colon { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let missing = match &value {
            None => Some("is not allowed to be unset"),
            Some(value) if colon && value.is_empty() => Some("is not allowed to be empty"),
            Some(_) => None,
        };
        match (modifier, missing) {
            ('+', None) | ('-', Some(_)) => Ok(word),
            ('+', Some(_)) => Ok(String::new()),
            (_, None) => Ok(value.unwrap_or_default()),
            (_, Some(reason)) => {
                let message = if word.is_empty() { reason.to_owned() } else { word };
                Err(ExpandError::Required { name, message })
            }
        }
    }

    /// `${name#pattern}` and `${name%pattern}`; doubled they take the longest match.
    fn trimmed(&mut self, name: String, end: char) -> Result<String, ExpandError> {
        let Some(word) = self.until(Some('}'), true)? else { return Err(ExpandError::Brace { name }) };
        let value = self.variables.get(&name)?;
        if value.is_none() && self.mode.keep_unset {
            return Ok(format!("${{{name}{end}{}}}", word.text));
        }
        let (text, longest) = match word.text.strip_prefix(end) {
            Some(rest) => (rest, true),
            None => (word.text.as_str(), false),
        };
        let Some(pattern) = pattern::Pattern::new(text) else {
            return Err(ExpandError::Pattern { name, pattern: text.to_owned() });
        };
        let letters: Vec<char> = value.unwrap_or_default().chars().collect();
        let trimmed = match end {
            '#' => pattern.without_prefix(&letters, longest, self.variables.budget),
            _ => pattern.without_suffix(&letters, longest, self.variables.budget),
        };
        trimmed.ok_or(ExpandError::Work { name })
    }

    /// `${name/pattern/replacement}`; with a doubled first slash all matches are replaced.
    fn replaced(&mut self, name: String) -> Result<String, ExpandError> {
        let all = self.chars.next_if_eq(&'/').is_some();
        let Some(text) = self.until(Some('/'), true)? else { return Err(ExpandError::Slash { name }) };
        let Some(with) = self.until(Some('}'), true)? else { return Err(ExpandError::Brace { name }) };
        let value = self.variables.get(&name)?;
        if value.is_none() && self.mode.keep_unset {
            let slashes = if all { "//" } else { "/" };
            return Ok(format!("${{{name}{slashes}{}/{}}}", text.text, with.text));
        }
        let Some(pattern) = pattern::Pattern::new(&text.text) else {
            return Err(ExpandError::Pattern { name, pattern: text.text });
        };
        let letters: Vec<char> = value.unwrap_or_default().chars().collect();
        pattern.replace(&letters, &with.text, all, self.variables.budget).ok_or(ExpandError::Work { name })
    }

    /// A variable's name: letters, digits and `_`; digits alone when it begins with one; or one special letter.
    fn name(&mut self) -> String {
        let mut name = String::new();
        let digits = self.chars.peek().is_some_and(|ch| ch.is_numeric());
        if !digits && let Some(special) = self.chars.next_if(|ch| "@*#?-$!".contains(*ch)) {
            return special.to_string();
        }
        while let Some(ch) =
            self.chars.next_if(|ch| if digits { ch.is_numeric() } else { ch.is_alphanumeric() || *ch == '_' })
        {
            name.push(ch);
        }
        name
    }
}

#[cfg(test)]
mod tests;
