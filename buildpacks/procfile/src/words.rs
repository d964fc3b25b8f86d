//! A command line to words, as a POSIX shell does it (POSIX.1-2024, Shell Command Language, 2.2 and 2.6), as far as no
//! shell is needed: quotes, backslashes, `$VAR`, `${VAR}`, `${VAR:-default}`, and assignments in front of the command.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A command line, split but not yet expanded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Assignments before the command.
    pub assignments: Vec<(String, Word)>,
    /// The command and its arguments.
    pub words: Vec<Word>,
}

/// A word: pieces that stand side by side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// Text outside of quotes.
    Text(String),
    /// Text in quotes or after a backslash. An empty one makes a word, too.
    Quoted(String),
    /// A variable; its value is split at white space unless it was quoted.
    Variable { name: String, default: Option<String>, quoted: bool },
}

/// Reserved words and built-in commands that are no programs.
const SHELL_COMMANDS: [&str; 21] = [
    "!", ".", "case", "cd", "eval", "export", "for", "function", "if", "read", "set", "shift", "source",
    "trap", "ulimit", "umask", "unset", "until", "wait", "while", "{",
];

/// Why a command line cannot do without a shell, or is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WordsError {
    /// Something only a shell can do.
    NeedsShell {
        /// The characters that ask for it.
        what: String,
        /// What they would do.
        why: &'static str,
    },
    /// A quote without its counterpart.
    Unclosed(char),
    /// `${` without a name and `}`.
    BadVariable,
    /// Nothing to run.
    Empty,
}

impl fmt::Display for WordsError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WordsError::NeedsShell { what, why } => write!(out, "`{what}` ({why}) needs a shell"),
            WordsError::Unclosed(quote) => write!(out, "no closing {quote}"),
            WordsError::BadVariable => out
                .write_str("expected ${NAME} or ${NAME:-default}, the default without quotes and variables"),
            WordsError::Empty => out.write_str("no command"),
        }
    }
}

impl std::error::Error for WordsError {}

impl WordsError {
    /// True when a shell could run the line.
    pub fn is_for_a_shell(&self) -> bool {
        matches!(self, WordsError::NeedsShell { .. })
    }
}

impl Line {
    /// Splits a command line.
    ///
    /// # Errors
    /// The line needs a shell, is not closed, or is empty.
    pub fn parse(text: &str) -> Result<Self, WordsError> {
        let mut parser = Parser { rest: text, word: None, words: Vec::new() };
        while parser.step()? {}
        parser.end_word();
        let mut line = Line { words: parser.words, ..Line::default() };
        while let Some(assignment) = line.words.first().and_then(Word::as_assignment) {
            line.assignments.push(assignment);
            line.words.remove(0);
        }
        line.check_command()?;
        Ok(line)
    }

    /// Takes `exec` away, which is what we do anyway, and refuses what only a shell has.
    fn check_command(&mut self) -> Result<(), WordsError> {
        let command = self.words.first().and_then(Word::bare);
        if command == Some("exec") {
            self.words.remove(0);
        } else if let Some(command) = command.filter(|command| SHELL_COMMANDS.contains(command)) {
            return Err(WordsError::NeedsShell {
                what: command.to_owned(),
                why: "a command of the shell itself",
            });
        }
        if self.words.is_empty() { Err(WordsError::Empty) } else { Ok(()) }
    }

    /// The words when nothing depends on the environment, so that they can be run as they are.
    pub fn literal(&self) -> Option<Vec<String>> {
        if !self.assignments.is_empty() {
            return None;
        }
        self.words.iter().map(Word::literal).collect()
    }

    /// The command, unless a variable is in it.
    pub fn program(&self) -> Option<String> {
        self.words.first().and_then(Word::literal)
    }

    /// Values of the assignments and the words to run, with what `variable` returns for each name.
    pub fn expand(
        &self,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> (Vec<(String, OsString)>, Vec<OsString>) {
        let mut assignments: Vec<(String, OsString)> = Vec::new();
        for (name, value) in &self.assignments {
            // Later assignments see earlier ones.
            let earlier = |asked: &str| {
                let found = assignments.iter().rev().find(|(name, _)| name == asked);
                found.map(|(_, value)| value.clone()).or_else(|| variable(asked))
            };
            let value = value.joined(&earlier);
            assignments.push((name.clone(), value));
        }
        let words = self.words.iter().flat_map(|word| word.fields(&variable)).collect();
        (assignments, words)
    }
}

impl Word {
    fn literal(&self) -> Option<String> {
        let texts = self.0.iter().map(|piece| match piece {
            Piece::Text(text) | Piece::Quoted(text) => Some(text.as_str()),
            Piece::Variable { .. } => None,
        });
        texts.collect()
    }

    /// The text of a word in which nothing is quoted.
    fn bare(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// `NAME=value`, where the name was not quoted.
    fn as_assignment(&self) -> Option<(String, Word)> {
        let Some(Piece::Text(text)) = self.0.first() else { return None };
        let (name, value) = text.split_once('=')?;
        if name.is_empty() || !name.chars().enumerate().all(|(at, c)| is_name(c, at == 0)) {
            return None;
        }
        let mut pieces = vec![Piece::Text(value.to_owned())];
        pieces.extend_from_slice(&self.0[1..]);
        Some((name.to_owned(), Word(pieces)))
    }

    /// The value without splitting.
    fn joined(&self, variable: &impl Fn(&str) -> Option<OsString>) -> OsString {
        let mut out = OsString::new();
        for piece in &self.0 {
            out.push(piece.value(variable));
        }
        out
    }

    /// The words that this becomes: none when it is only unquoted variables without content.
    fn fields(&self, variable: &impl Fn(&str) -> Option<OsString>) -> Vec<OsString> {
        let mut fields: Vec<Vec<u8>> = Vec::new();
        let mut open = false;
        for piece in &self.0 {
            let value = piece.value(variable);
            if !matches!(piece, Piece::Variable { quoted: false, .. }) {
                append(&mut fields, open, value.as_bytes());
                open = true;
                continue;
            }
            for byte in value.as_bytes() {
                if byte.is_ascii_whitespace() {
                    open = false;
                } else {
                    append(&mut fields, open, &[*byte]);
                    open = true;
                }
            }
        }
        fields.into_iter().map(OsString::from_vec).collect()
    }
}

fn append(fields: &mut Vec<Vec<u8>>, to_last: bool, bytes: &[u8]) {
    match fields.last_mut() {
        Some(last) if to_last => last.extend_from_slice(bytes),
        _ => fields.push(bytes.to_vec()),
    }
}

impl Piece {
    fn value(&self, variable: &impl Fn(&str) -> Option<OsString>) -> OsString {
        match self {
            Piece::Text(text) | Piece::Quoted(text) => OsStr::new(text).to_owned(),
            Piece::Variable { name, default, .. } => {
                let value = variable(name).filter(|value| default.is_none() || !value.is_empty());
                value.or_else(|| default.as_ref().map(OsString::from)).unwrap_or_default()
            }
        }
    }
}

fn is_name(c: char, first: bool) -> bool {
    c == '_' || c.is_ascii_alphabetic() || (!first && c.is_ascii_digit())
}

struct Parser<'a> {
    rest: &'a str,
    word: Option<Word>,
    words: Vec<Word>,
}

impl Parser<'_> {
    /// Takes the next character or construct; false at the end.
    fn step(&mut self) -> Result<bool, WordsError> {
        let Some(c) = self.next() else { return Ok(false) };
        match c {
            ' ' | '\t' => self.end_word(),
            '\'' => self.single_quoted()?,
            '"' => self.double_quoted()?,
            '\\' => match self.next() {
                Some(c) => self.push_quoted(c.encode_utf8(&mut [0; 4])),
                None => return Err(WordsError::Unclosed('\\')),
            },
            '$' => self.variable(false)?,
            // A comment, and that is the end.
            '#' if self.word.is_none() => self.rest = "",
            c => match shell_only(c, self.word.is_none(), self.rest) {
                Some(why) => return Err(WordsError::NeedsShell { what: self.operator(c), why }),
                None => self.push_text(c.encode_utf8(&mut [0; 4])),
            },
        }
        Ok(true)
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    /// The operator as the author wrote it: `&&`, not `&`.
    fn operator(&self, first: char) -> String {
        let mut what = String::from(first);
        if matches!(first, '&' | '|' | '>' | '<' | ';') && self.rest.starts_with(first) {
            what.push(first);
        }
        what
    }

    fn single_quoted(&mut self) -> Result<(), WordsError> {
        let end = self.rest.find('\'').ok_or(WordsError::Unclosed('\''))?;
        let text = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        self.push_quoted(text);
        Ok(())
    }

    fn double_quoted(&mut self) -> Result<(), WordsError> {
        self.push_quoted("");
        loop {
            match self.next().ok_or(WordsError::Unclosed('"'))? {
                '"' => return Ok(()),
                '$' => self.variable(true)?,
                '`' => return Err(command_substitution("`")),
                '\\' => match self.next().ok_or(WordsError::Unclosed('"'))? {
                    c @ ('$' | '`' | '"' | '\\') => self.push_quoted(c.encode_utf8(&mut [0; 4])),
                    c => {
                        self.push_quoted("\\");
                        self.push_quoted(c.encode_utf8(&mut [0; 4]));
                    }
                },
                c => self.push_quoted(c.encode_utf8(&mut [0; 4])),
            }
        }
    }

    /// What follows a `$`.
    fn variable(&mut self, quoted: bool) -> Result<(), WordsError> {
        if self.rest.starts_with('(') {
            return Err(command_substitution("$("));
        }
        if let Some(rest) = self.rest.strip_prefix('{') {
            let end = rest.find('}').ok_or(WordsError::BadVariable)?;
            let (name, default) = match rest[..end].split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (&rest[..end], None),
            };
            let named = !name.is_empty() && name.chars().enumerate().all(|(at, c)| is_name(c, at == 0));
            if !named || default.is_some_and(|text| text.contains(['$', '`', '\\', '"', '\'', '{'])) {
                return Err(WordsError::BadVariable);
            }
            let piece =
                Piece::Variable { name: name.to_owned(), default: default.map(str::to_owned), quoted };
            self.rest = &rest[end + 1..];
            self.push(piece);
            return Ok(());
        }
        let length = self.rest.chars().enumerate().take_while(|(at, c)| is_name(*c, *at == 0)).count();
        if length > 0 {
            let name = self.rest[..length].to_owned();
            self.rest = &self.rest[length..];
            self.push(Piece::Variable { name, default: None, quoted });
            return Ok(());
        }
        match self.rest.chars().next() {
            Some(c) if c.is_ascii_digit() || "@*#?$!-".contains(c) => {
                Err(WordsError::NeedsShell { what: format!("${c}"), why: "a parameter of the shell itself" })
            }
            // A dollar sign alone is one.
            _ if quoted => {
                self.push_quoted("$");
                Ok(())
            }
            _ => {
                self.push_text("$");
                Ok(())
            }
        }
    }

    /// Text outside of quotes: a run of it is one piece, so that an assignment can be told.
    fn push_text(&mut self, text: &str) {
        let pieces = &mut self.word.get_or_insert_default().0;
        match pieces.last_mut() {
            Some(Piece::Text(last)) => last.push_str(text),
            _ => pieces.push(Piece::Text(text.to_owned())),
        }
    }

    fn push_quoted(&mut self, text: &str) {
        let pieces = &mut self.word.get_or_insert_default().0;
        match pieces.last_mut() {
            Some(Piece::Quoted(last)) => last.push_str(text),
            _ => pieces.push(Piece::Quoted(text.to_owned())),
        }
    }

    fn push(&mut self, piece: Piece) {
        self.word.get_or_insert_default().0.push(piece);
    }

    fn end_word(&mut self) {
        self.words.extend(self.word.take());
    }
}

fn command_substitution(what: &str) -> WordsError {
    WordsError::NeedsShell { what: what.to_owned(), why: "the output of a command" }
}

/// What an unquoted character would make a shell do.
fn shell_only(c: char, begins_word: bool, rest: &str) -> Option<&'static str> {
    match c {
        '|' if rest.starts_with('|') => Some("a second command if the first fails"),
        '|' => Some("a pipe"),
        '&' if rest.starts_with('&') => Some("a second command if the first succeeds"),
        '&' => Some("a command in the background"),
        ';' => Some("a second command"),
        '<' | '>' => Some("a redirection"),
        '(' | ')' => Some("a subshell"),
        '`' => Some("the output of a command"),
        '*' | '?' | '[' => Some("a file name pattern"),
        '~' if begins_word => Some("a home folder"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        let variable = |name: &str| match name {
            "PORT" => Some("8080".into()),
            "OPTS" => Some(" -a  -b".into()),
            "EMPTY" => Some("".into()),
            _ => None,
        };
        let (assignments, words) = Line::parse(text).unwrap().expand(variable);
        let assignments = assignments.into_iter().map(|(name, value)| format!("{name}={}", value.display()));
        assignments.chain(words.into_iter().map(|word| word.into_string().unwrap())).collect()
    }

    #[test]
    fn lines_are_split_as_a_shell_does() {
        for (text, want) in [
            ("./server --port 80", &["./server", "--port", "80"][..]),
            ("  a\t 'b c'  \"d e\"f ", &["a", "b c", "d ef"]),
            ("a '' \"\" b", &["a", "", "", "b"]),
            (r#"a 'x\y' "x\y\"\$" x\ y \'"#, &["a", r"x\y", r#"x\y"$"#, "x y", "'"]),
            ("a '*' \\* \"a|b\" x#y # comment", &["a", "*", "*", "a|b", "x#y"]),
            ("a 5$ $. $", &["a", "5$", "$.", "$"]),
            ("exec ./server", &["./server"]),
            ("a {x,y} a~b", &["a", "{x,y}", "a~b"]),
        ] {
            assert_eq!(words(text), want, "{text}");
            assert_eq!(Line::parse(text).unwrap().literal().unwrap(), want, "{text}");
        }
    }

    #[test]
    fn variables_are_expanded() {
        for (text, want) in [
            ("a $PORT ${PORT}x x$PORT.y", &["a", "8080", "8080x", "x8080.y"][..]),
            ("a $OPTS", &["a", "-a", "-b"]),
            ("a x${OPTS}y", &["a", "x", "-a", "-by"]),
            ("a \"$OPTS\" '$OPTS'", &["a", " -a  -b", "$OPTS"]),
            ("a $NONE $EMPTY \"$NONE\" x$NONE", &["a", "", "x"]),
            ("a ${NONE:-1 2} \"${EMPTY:-1 2}\" ${PORT:-9}", &["a", "1", "2", "1 2", "8080"]),
            ("A=1 B=\"x $A\" ./a $PORT C=2", &["A=1", "B=x 1", "./a", "8080", "C=2"]),
            ("'A'=1 x", &["A=1", "x"]),
        ] {
            assert_eq!(words(text), want, "{text}");
        }
        assert_eq!(Line::parse("a $PORT").unwrap().literal(), None);
        assert_eq!(Line::parse("A=1 a").unwrap().literal(), None);
    }

    #[test]
    fn what_needs_a_shell_is_named() {
        for (text, message) in [
            ("a | b", "`|` (a pipe) needs a shell"),
            ("a || b", "`||` (a second command if the first fails) needs a shell"),
            ("a && b", "`&&` (a second command if the first succeeds) needs a shell"),
            ("a &", "`&` (a command in the background) needs a shell"),
            ("a; b", "`;` (a second command) needs a shell"),
            ("a > /dev/null", "`>` (a redirection) needs a shell"),
            ("a 2>&1", "`>` (a redirection) needs a shell"),
            ("a *.txt", "`*` (a file name pattern) needs a shell"),
            ("a ~/x", "`~` (a home folder) needs a shell"),
            ("a $(b)", "`$(` (the output of a command) needs a shell"),
            ("a \"`b`\"", "``` (the output of a command) needs a shell"),
            ("a $1", "`$1` (a parameter of the shell itself) needs a shell"),
            ("cd x", "`cd` (a command of the shell itself) needs a shell"),
        ] {
            let error = Line::parse(text).unwrap_err();
            assert_eq!(error.to_string(), message, "{text}");
            assert!(error.is_for_a_shell());
        }
    }

    #[test]
    fn what_is_no_line_is_said() {
        for (text, error) in [
            ("", WordsError::Empty),
            ("# x", WordsError::Empty),
            ("A=1", WordsError::Empty),
            ("exec", WordsError::Empty),
            ("a 'b", WordsError::Unclosed('\'')),
            ("a \"b", WordsError::Unclosed('"')),
            ("a \\", WordsError::Unclosed('\\')),
            ("a ${", WordsError::BadVariable),
            ("a ${X", WordsError::BadVariable),
            ("a ${X%y}", WordsError::BadVariable),
            ("a ${X:-$Y}", WordsError::BadVariable),
        ] {
            assert_eq!(Line::parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_words_survive_quoting(words in proptest::collection::vec("[^'\0]{0,8}", 1..6)) {
            let line = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(Line::parse(&line).unwrap().literal().unwrap(), words);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = Line::parse(&text).map(|line| line.expand(|_| Some("x y".into())));
        }
    }
}
