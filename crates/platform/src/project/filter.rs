//! Which files of an app take part in a build: `include` and `exclude`, patterns as in `.gitignore`.

use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// What to do with a file or folder of the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It takes part.
    Keep,
    /// A folder that is left out itself, but something within may take part: look inside, and make it only when
    /// something is found.
    Descend,
    /// It is left out, and so is all within.
    Leave,
}

/// Decides about paths relative to the app's folder. The default keeps everything.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    mode: Mode,
}

#[derive(Clone, Debug, Default)]
enum Mode {
    #[default]
    All,
    Exclude(Patterns),
    Include(Patterns),
}

/// A pattern that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid pattern `{pattern}`: {reason}")]
pub struct InvalidPattern {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Filter {
    /// Keeps all but what matches.
    ///
    /// # Errors
    /// The first pattern that is not a valid glob.
    pub fn exclude<S: AsRef<str>>(patterns: &[S]) -> Result<Self, InvalidPattern> {
        Ok(Self { mode: Mode::Exclude(Patterns::new(patterns)?) })
    }

    /// Keeps only what matches.
    ///
    /// # Errors
    /// The first pattern that is not a valid glob.
    pub fn include<S: AsRef<str>>(patterns: &[S]) -> Result<Self, InvalidPattern> {
        Ok(Self { mode: Mode::Include(Patterns::new(patterns)?) })
    }

    /// True when nothing is ever left out.
    pub fn keeps_all(&self) -> bool {
        matches!(self.mode, Mode::All)
    }

    /// Whether the file or folder takes part, or something within may. `path` is relative to the app's folder.
    pub fn keep(&self, path: &Path, is_dir: bool) -> bool {
        self.verdict(path, is_dir) != Verdict::Leave
    }

    /// What to do with the file or folder. `path` is relative to the app's folder.
    pub fn verdict(&self, path: &Path, is_dir: bool) -> Verdict {
        match &self.mode {
            Mode::All => Verdict::Keep,
            Mode::Exclude(patterns) if !patterns.matches(path, is_dir) => Verdict::Keep,
            // A later `!pattern` may bring back something below.
            Mode::Exclude(patterns) if is_dir && patterns.negated => Verdict::Descend,
            Mode::Exclude(_) => Verdict::Leave,
            Mode::Include(patterns) if patterns.matches(path, is_dir) => Verdict::Keep,
            Mode::Include(_) if is_dir => Verdict::Descend,
            Mode::Include(_) => Verdict::Leave,
        }
    }
}

/// A list of patterns, of which the last one that matches a path or a folder above it decides.
#[derive(Clone, Debug)]
struct Patterns {
    /// All of them in one set: enough where none is negated.
    all: Gitignore,
    /// Each alone, in order; only where one is negated. One set would ask the path itself before the folders
    /// above it, whatever the order of the patterns.
    each: Vec<Gitignore>,
    negated: bool,
}

impl Patterns {
    fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, InvalidPattern> {
        let mut each = Vec::new();
        for pattern in patterns {
            each.push(compile(&[pattern.as_ref()])?);
        }
        let all: Vec<&str> = patterns.iter().map(AsRef::as_ref).collect();
        let all = compile(&all)?;
        let negated = all.num_whitelists() > 0;
        if !negated {
            each.clear();
        }
        Ok(Self { all, each, negated })
    }

    fn matches(&self, path: &Path, is_dir: bool) -> bool {
        if !self.negated {
            return self.all.matched_path_or_any_parents(path, is_dir).is_ignore();
        }
        let decides = |one: &Gitignore| {
            let found = one.matched_path_or_any_parents(path, is_dir);
            (!found.is_none()).then(|| found.is_ignore())
        };
        self.each.iter().rev().find_map(decides).unwrap_or(false)
    }
}

fn compile(patterns: &[&str]) -> Result<Gitignore, InvalidPattern> {
    let mut builder = GitignoreBuilder::new("");
    for pattern in patterns {
        builder.add_line(None, pattern).map_err(|error| invalid(pattern, &error))?;
    }
    builder.build().map_err(|error| invalid(&patterns.join(", "), &error))
}

fn invalid(pattern: &str, error: &ignore::Error) -> InvalidPattern {
    let reason = match error {
        ignore::Error::Glob { err, .. } => err.clone(),
        other => other.to_string(),
    };
    InvalidPattern { pattern: pattern.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts<'a>(filter: &Filter, paths: &[&'a str]) -> Vec<(&'a str, Verdict)> {
        paths
            .iter()
            .map(|path| (*path, filter.verdict(Path::new(path.trim_end_matches('/')), path.ends_with('/'))))
            .collect()
    }

    #[test]
    fn keeps_all_by_default() {
        let filter = Filter::default();
        assert!(filter.keeps_all() && filter.keep(Path::new("a/b"), false));
    }

    #[test]
    fn exclude() {
        use Verdict::{Keep, Leave};
        let filter =
            Filter::exclude(&["*.log", "/top", "target/", "docs/**/*.md", "# a comment", ""]).unwrap();
        let paths = [
            ("a.log", Leave),
            ("deep/er/a.log", Leave),
            ("top", Leave),
            ("deep/top", Keep),
            ("target/", Leave),
            ("target", Keep),
            ("deep/target/", Leave),
            ("target/debug/app", Leave),
            ("docs/a/b.md", Leave),
            ("docs/a/b.txt", Keep),
            ("# a comment", Keep),
            ("src/", Keep),
        ];
        assert_eq!(verdicts(&filter, &paths.map(|p| p.0)), paths);
    }

    /// A pattern `dir/` leaves out the folder and all within, also when a later pattern is negated
    /// (`pack` keeps the folder: buildpacks/pack#2402).
    #[test]
    fn a_trailing_slash_with_negation() {
        use Verdict::{Descend, Keep, Leave};
        let filter = Filter::exclude(&["node_modules/", "!node_modules/keep.txt", "*.tmp"]).unwrap();
        let paths = [
            ("node_modules/", Descend),
            ("node_modules/a.js", Leave),
            ("node_modules/keep.txt", Keep),
            ("node_modules/x/", Descend),
            ("node_modules/x/keep.txt", Leave),
            ("a.tmp", Leave),
            ("a.js", Keep),
        ];
        assert_eq!(verdicts(&filter, &paths.map(|p| p.0)), paths);
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let filter = Filter::exclude(&["!dir/keep", "dir"]).unwrap();
        assert_eq!(filter.verdict(Path::new("dir/keep"), false), Verdict::Leave);
        let filter = Filter::exclude(&["dir", "!dir/keep"]).unwrap();
        assert_eq!(filter.verdict(Path::new("dir/keep"), false), Verdict::Keep);
        let filter = Filter::exclude(&["*", "!*.go", "!cmd/"]).unwrap();
        assert!(filter.keep(Path::new("main.go"), false) && filter.keep(Path::new("cmd/x.txt"), false));
        assert!(!filter.keep(Path::new("README"), false));
    }

    #[test]
    fn include() {
        use Verdict::{Descend, Keep, Leave};
        let filter = Filter::include(&["cmd/", "/go.mod", "*.go", "!*_test.go"]).unwrap();
        let paths = [
            ("cmd/", Keep),
            ("cmd/x/data.txt", Keep),
            ("cmd", Leave),
            ("go.mod", Keep),
            ("sub/", Descend),
            ("sub/go.mod", Leave),
            ("sub/a.go", Keep),
            ("sub/a_test.go", Leave),
            ("project.toml", Leave),
        ];
        assert_eq!(verdicts(&filter, &paths.map(|p| p.0)), paths);
    }

    #[test]
    fn refuses_what_is_not_a_pattern() {
        let error = Filter::exclude(&["ok", "a{b"]).unwrap_err();
        assert_eq!(error.pattern, "a{b");
    }
}
