//! The build's own environment: `--env`, `--env-file` and the descriptor's variables, and which of them wins.
//!
//! These variables become files in `<platform>/env`, so a name is a file name too. Not here: the rules by which
//! buildpacks see them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::project::EnvVar;

/// The longest file of variables that is read, in bytes: no program could be started with more.
const FILE_LIMIT: u64 = 8 << 20;

/// Names and values, sorted by name.
pub type Variables = BTreeMap<String, OsString>;

/// Gives the value of a variable of the user's own environment.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A variable cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    /// The name of a variable is not one.
    #[error("invalid environment variable `{name}`: {reason}")]
    Name {
        /// The name as it was given.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The same, in a file. It is not quoted: a line that names no variable may be part of a secret of several lines.
    #[error("{path}:{line}: invalid environment variable: {reason}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A file cannot be read.
    #[error("failed to read the environment file `{path}`: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Collects the build's variables: those of `options` (`--env`) win over those of `files` (`--env-file`), and
/// those over the descriptor's; within one source the last wins.
///
/// An entry is `NAME=value`, or `NAME`, which takes the value that `lookup` gives. Where `lookup` has none, the
/// entry counts as not there, and is in the second value returned, for a warning: by its name, or in a file by its
/// place.
///
/// # Errors
/// A name that cannot be one, a file that cannot be read.
pub fn collect(
    descriptor: &[EnvVar],
    files: &[PathBuf],
    options: &[String],
    lookup: Lookup<'_>,
) -> Result<(Variables, Vec<String>), EnvError> {
    let mut variables = Variables::new();
    let mut unset = Vec::new();
    for variable in descriptor {
        variables.insert(variable.name.clone(), variable.value.clone().into());
    }
    let mut take = |entry: &str, place: Option<String>| -> Result<(), (String, &'static str)> {
        match parse(entry, lookup)? {
            (name, Some(value)) => drop(variables.insert(name, value)),
            (name, None) => unset.push(place.unwrap_or(name)),
        }
        Ok(())
    };
    for path in files {
        let text = read(path)?;
        for (line, entry) in entries(&text) {
            let place = format!("the variable in {}:{line}", path.display());
            take(entry, Some(place)).map_err(|(_, reason)| EnvError::Line {
                path: path.clone(),
                line,
                reason,
            })?;
        }
    }
    for entry in options {
        take(entry, None).map_err(|(name, reason)| EnvError::Name { name, reason })?;
    }
    Ok((variables, unset))
}

/// Says why `name` cannot name a variable of the build, if so.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("the name is empty"),
        "." | ".." => Err("the name must be usable as a file name"),
        _ if name.contains(['/', '=']) => Err("the name must not contain `/` or `=`"),
        _ if name.contains(|c: char| c == '\0' || c.is_whitespace()) => {
            Err("the name must not contain white space")
        }
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<String, EnvError> {
    let text = layer::named::read_input_to_string(path, FILE_LIMIT)
        .map_err(|error| EnvError::Read { path: path.to_path_buf(), source: error.source })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// The lines of a file that are entries, with their numbers from 1. A value keeps its inner and trailing space,
/// quotes are part of it (as in Docker's files).
fn entries(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim_start()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// Name and value, or the name and what is wrong with it.
fn parse(entry: &str, lookup: Lookup<'_>) -> Result<(String, Option<OsString>), (String, &'static str)> {
    let (name, value) = match entry.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (entry.trim_end(), None),
    };
    check_name(name).map_err(|reason| (name.to_owned(), reason))?;
    if value.is_some_and(|value| value.contains('\0')) {
        return Err((name.to_owned(), "the value must not contain NUL"));
    }
    Ok((name.to_owned(), value.map(OsString::from).or_else(|| lookup(name))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Option<OsString> {
        (name == "HOST").then(|| "from the host".into())
    }

    fn collect_file(text: &str) -> Result<(Variables, Vec<String>), EnvError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("env");
        fs_err::write(&path, text).unwrap();
        collect(&[], &[path], &[], &host)
    }

    #[test]
    fn a_file() {
        let text = "\u{feff}A=1\r\n\n# no\n  # no\n  B=x=y # part\nC=\nHOST\nUNSET \nQ=\"q\" \nA=2\n";
        let (variables, unset) = collect_file(text).unwrap();
        let expected =
            [("A", "2"), ("B", "x=y # part"), ("C", ""), ("HOST", "from the host"), ("Q", "\"q\" ")];
        let expected: Variables = expected.into_iter().map(|(n, v)| (n.to_owned(), v.into())).collect();
        assert_eq!(variables, expected);
        assert_eq!(unset.len(), 1);
        assert!(unset[0].starts_with("the variable in ") && unset[0].ends_with("env:8"), "{unset:?}");
    }

    #[test]
    fn lines_of_a_file_are_not_quoted() {
        for text in ["A=1\nhunter2\n", "A=-----BEGIN\nhunter2/x==\n"] {
            let shown = match collect_file(text) {
                Ok((_, unset)) => unset.join(" "),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(shown.contains("env:2") && !shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn options_win_over_files_and_files_over_the_descriptor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("env");
        fs_err::write(&path, "A=file\nB=file\n").unwrap();
        let descriptor = ["A", "B", "C"].map(|name| EnvVar {
            name: name.into(),
            value: "descriptor".into(),
            exec_env: Vec::new(),
        });
        let options = ["A=option".to_owned(), "A=last".to_owned()];
        let (variables, _) = collect(&descriptor, &[path], &options, &host).unwrap();
        let values: Vec<_> = variables.values().map(|v| v.to_str().unwrap()).collect();
        assert_eq!(values, ["last", "file", "descriptor"]);
    }

    #[test]
    fn an_unset_name_leaves_what_another_source_says() {
        let descriptor = [EnvVar { name: "UNSET".into(), value: "kept".into(), exec_env: Vec::new() }];
        let (variables, unset) = collect(&descriptor, &[], &["UNSET".into()], &host).unwrap();
        assert_eq!(variables["UNSET"], "kept");
        assert_eq!(unset, ["UNSET"]);
    }

    #[test]
    fn names_that_are_not() {
        for entry in ["=x", "", "..=x", "../../etc/passwd=x", "A B=x", "A\0=x", "A=\0"] {
            assert!(collect(&[], &[], &[entry.to_owned()], &host).is_err(), "{entry:?}");
        }
        let error = collect_file("A=1\n\na/b=2\n").unwrap_err().to_string();
        assert!(error.ends_with("env:3: invalid environment variable: the name must not contain `/` or `=`"));
        let error = collect(&[], &["/does/not/exist".into()], &[], &host).unwrap_err().to_string();
        assert!(error.contains("/does/not/exist"), "{error}");
    }
}
