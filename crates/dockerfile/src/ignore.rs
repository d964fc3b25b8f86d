//! `.dockerignore`: what of the context is as if it were not there.
//!
//! Rules are Docker's, not git's: a pattern without a slash matches at the top only, `!` brings back even what is in an
//! ignored folder, and the last pattern that matches decides. Not here: walking.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use layer::{PathError, Root};

use crate::error::{Source, SourceError};
use crate::glob::{BadPattern, Glob, is_pattern};

/// More bytes are no list that a person wrote.
const LIMIT: u64 = 1 << 20;

/// Which paths are ignored.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    /// Whether each pattern brings back what it matches, in the order of the file.
    keeps: Vec<bool>,
    /// The last pattern that is nothing but this path: most are, and there may be very many.
    texts: HashMap<String, usize>,
    /// The others, each with its place in the file.
    globs: Vec<(usize, Glob)>,
}

/// What rules say of a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matched {
    /// The last pattern that matches it or a folder it is in.
    last: Option<usize>,
    pub(crate) ignored: bool,
}

struct Pattern {
    path: String,
    glob: Glob,
    /// Whether it brings back what it matches.
    keep: bool,
}

/// An ignore file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IgnoreError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] PathError),
    /// A line in it is wrong.
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl Ignore {
    /// The rules for a Dockerfile: those of `<name>.dockerignore` beside it in `beside`, or else those of
    /// `.dockerignore` at the top of the context; none when there is neither.
    ///
    /// # Errors
    /// A file that cannot be read, or that has a pattern that is none.
    pub fn find(context: &Root, beside: Option<(&Root, &str)>) -> Result<Self, IgnoreError> {
        if let Some((folder, name)) = beside {
            let name = format!("{name}.dockerignore");
            if folder.exists(&name) {
                return Self::read(folder, &name);
            }
        }
        if context.exists(".dockerignore") {
            return Self::read(context, ".dockerignore");
        }
        Ok(Self::default())
    }

    fn read(folder: &Root, name: &str) -> Result<Self, IgnoreError> {
        let text = folder.read_to_string(name, LIMIT)?;
        Ok(Self::parse(&folder.path().join(name).display().to_string(), &text)?)
    }

    /// Parses the text of an ignore file. `file` is only shown.
    ///
    /// # Errors
    /// The first line that is no pattern.
    pub fn parse(file: &str, text: &str) -> Result<Self, SourceError> {
        let source = Source { file: file.to_owned(), text: Arc::from(text) };
        let mut ignore = Self::default();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let span = start..start + line.trim_end().len();
            start += line.len();
            let line = line.trim_start_matches('\u{feff}');
            if line.starts_with('#') {
                continue;
            }
            match Pattern::new(line.trim()) {
                Ok(pattern) => ignore.extend(pattern),
                Err(error) => return Err(SourceError::new(&source, span, error.to_string())),
            }
        }
        Ok(ignore)
    }

    /// The same with patterns of `--exclude`, which count after those of a file.
    pub(crate) fn of_patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, BadPattern> {
        let mut ignore = Self::default();
        for pattern in patterns {
            ignore.extend(Pattern::new(pattern)?);
        }
        Ok(ignore)
    }

    fn extend(&mut self, pattern: Option<Pattern>) {
        let Some(Pattern { path, glob, keep }) = pattern else { return };
        let place = self.keeps.len();
        self.keeps.push(keep);
        match is_pattern(&path) {
            true => self.globs.push((place, glob)),
            false => drop(self.texts.insert(path, place)),
        }
    }

    /// Whether a path beneath the context is ignored.
    pub fn ignores(&self, path: &Path) -> bool {
        self.folder(path).ignored
    }

    /// What the rules say of a path, for [`Ignore::within`].
    pub(crate) fn folder(&self, path: &Path) -> Matched {
        let mut matched = Matched { last: None, ignored: false };
        let text = path.to_string_lossy();
        if self.is_empty() || text.is_empty() {
            return matched;
        }
        for end in text.match_indices('/').map(|(at, _)| at).chain([text.len()]) {
            matched = self.within(&matched, &text[..end]);
        }
        matched
    }

    /// What the rules say of a path in a folder: what matches the folder matches it too, and the last that matches
    /// decides.
    pub(crate) fn within(&self, folder: &Matched, path: &str) -> Matched {
        let mut last = folder.last.max(self.texts.get(path).copied());
        let later = self.globs.iter().rev().take_while(|(place, _)| Some(*place) > last);
        if let Some((place, _)) = { later }.find(|(_, glob)| glob.matches(path)) {
            last = Some(*place);
        }
        Matched { last, ignored: last.is_some_and(|place| !self.keeps[place]) }
    }

    /// Whether something within an ignored folder may be kept all the same.
    pub(crate) fn keeps_some(&self) -> bool {
        self.keeps.contains(&true)
    }

    /// Whether nothing is ignored.
    pub fn is_empty(&self) -> bool {
        self.keeps.is_empty()
    }
}

impl Pattern {
    /// `None` for nothing, and for a pattern of the context as a whole.
    fn new(text: &str) -> Result<Option<Self>, BadPattern> {
        let (keep, text) = match text.strip_prefix('!') {
            Some(text) => (true, text.trim()),
            None => (false, text),
        };
        let path = clean(text);
        if keep && path.is_empty() && (text.is_empty() || text.starts_with('/')) {
            return Err(BadPattern::new(&format!("!{text}"), "nothing to bring back"));
        }
        if path.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { glob: Glob::deep(&path)?, path, keep }))
    }
}

/// A path without `.`, without `..` where it takes back a folder, and without slashes at either end.
pub(crate) fn clean(text: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => (),
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(rules: &str, path: &str) -> bool {
        Ignore::parse(".dockerignore", rules).unwrap().ignores(Path::new(path))
    }

    #[test]
    fn matches_as_docker_does() {
        for (rules, path, expected) in [
            ("a", "a", true),
            ("a", "a/b/c", true),
            ("a", "x/a", false),
            ("/a", "a", true),
            ("./a/", "a/b", true),
            ("a/../b", "b", true),
            ("*.md", "x.md", true),
            ("*.md", "d/x.md", false),
            ("*/x", "d/x", true),
            ("**/*.md", "d/e/x.md", true),
            ("**", "anything/at/all", true),
            ("# a\n#a\n", "a", false),
            (" a \n", "a", true),
            ("\u{feff}a", "a", true),
            ("*\n!a", "a", false),
            ("*\n!a", "b", true),
            ("*\n!a/b", "a/b/c", false),
            ("*\n!a/b", "a/c", true),
            ("*.md\n!README.md\nREADME.md", "README.md", true),
            ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
            ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", false),
            ("!a\na", "a", true),
            ("node_modules\n", "node_modules.txt", false),
            (".git", ".git/config", true),
            ("/", "a", false),
            (".", "a", false),
            ("a\\ b", "a b", true),
            ("a\r\nb\r\n", "a", true),
            ("", "a", false),
        ] {
            assert_eq!(ignored(rules, path), expected, "{rules:?} {path}");
        }
    }

    #[test]
    fn a_hundred_thousand_lines_are_looked_up() {
        let lines: String = (0..100_000).map(|line| format!("d/f{line}\n")).collect();
        let ignore = Ignore::parse(".dockerignore", &format!("{lines}*.md\n!d/f7\n")).unwrap();
        let start = std::time::Instant::now();
        let ignored = (0..200_000).filter(|file| ignore.ignores(Path::new(&format!("d/f{file}")))).count();
        assert_eq!(ignored, 99_999);
        assert!(start.elapsed().as_secs() < 20, "took {:?}", start.elapsed());
    }

    #[test]
    fn a_pattern_that_is_none_has_a_line() {
        let error = Ignore::parse("ctx/.dockerignore", "a\n\n  [x\n").unwrap_err();
        assert_eq!(error.to_string(), "ctx/.dockerignore:3:1: invalid pattern `[x`: a class is not closed");
        assert!(
            Ignore::parse("f", "a\n! \n").unwrap_err().to_string().starts_with("f:2:1: invalid pattern `!`")
        );
    }

    #[test]
    fn the_file_beside_the_dockerfile_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert!(Ignore::find(&root, Some((&root, "x"))).unwrap().is_empty());
        fs_err::write(dir.path().join(".dockerignore"), "a").unwrap();
        assert!(Ignore::find(&root, Some((&root, "x"))).unwrap().ignores(Path::new("a")));
        fs_err::write(dir.path().join("x.dockerignore"), "b").unwrap();
        let ignore = Ignore::find(&root, Some((&root, "x"))).unwrap();
        assert!(ignore.ignores(Path::new("b")) && !ignore.ignores(Path::new("a")));
        fs_err::write(dir.path().join("x.dockerignore"), b"\xff").unwrap();
        assert!(matches!(Ignore::find(&root, Some((&root, "x"))), Err(IgnoreError::Read(_))));
    }
}
