//! Paths of the bench in errors, as buildpacks know them: nobody knows what `…/scratch/layers/x` is, and `/layers/x`
//! everybody does.
//!
//! Errors come from all rooms below, and each has its own words; so it is their text that is changed, once, on the way
//! out.

use std::path::Path;

use super::BuildError;

/// Folders of this process and what they are called in sandboxes, those within others first.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Vec<(String, String)>);

impl Places {
    /// Adds a folder.
    pub fn add(&mut self, host: &Path, guest: &Path) {
        let guest = guest.display().to_string();
        self.0.push((host.display().to_string(), guest.trim_end_matches('/').to_owned()));
        self.0.sort_by_key(|(host, _)| std::cmp::Reverse(host.len()));
    }

    /// The error with the paths that buildpacks know. One without paths of the bench stays as it is.
    pub fn tell(&self, error: BuildError) -> BuildError {
        let text = whole(&error);
        let told = self.replace(&text);
        if told == text { error } else { BuildError::Inside { message: told, error: Box::new(error) } }
    }

    fn replace(&self, text: &str) -> String {
        let mut told = text.to_owned();
        for (host, guest) in &self.0 {
            told = replace(&told, host, guest);
        }
        steps(&told)
    }
}

/// Replaces a path where it is one, and not the beginning of another name.
fn replace(text: &str, host: &str, guest: &str) -> String {
    let mut told = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(host) {
        let (before, after) = (&rest[..at], &rest[at + host.len()..]);
        let goes_on = |ch: char| ch.is_alphanumeric() || matches!(ch, '-' | '_' | '.');
        told.push_str(before);
        told.push_str(match after.chars().next() {
            Some(ch) if goes_on(ch) => host,
            Some('/') => guest,
            _ if guest.is_empty() => "/",
            _ => guest,
        });
        rest = after;
    }
    told.push_str(rest);
    told
}

/// Takes away where the root file system of an instruction of a Dockerfile is: `…/extend-x/step-y/root`.
fn steps(text: &str) -> String {
    let mut told = text.to_owned();
    while let Some((start, end)) = step(&told) {
        told.replace_range(start..end, if told[end..].starts_with('/') { "" } else { "/" });
    }
    told
}

/// The beginning and the end of the path of the root file system of a step.
fn step(text: &str) -> Option<(usize, usize)> {
    for (at, _) in text.match_indices("/extend-") {
        let rest = &text[at + 1..];
        let mut parts = rest.splitn(3, '/');
        let (home, step) = (parts.next()?, parts.next()?);
        let name = parts.next().unwrap_or_default();
        let folder = ["root", "upper"].into_iter().find(|folder| name.starts_with(folder));
        if let (Some(folder), true) = (folder, step.starts_with("step-")) {
            let start = text[..at].rfind(|ch: char| ch.is_whitespace() || "`'\"(".contains(ch));
            let end = at + 1 + home.len() + 1 + step.len() + 1 + folder.len();
            return Some((start.map_or(0, |before| before + 1), end));
        }
    }
    None
}

/// The error and its causes on one line, each cause once.
fn whole(error: &BuildError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        let mut places = Places::default();
        for (host, guest) in [
            ("/store/cache/ab/scratch/layers", "/layers"),
            ("/store/cache/ab/scratch/upper", "/layers"),
            ("/store/tmp/1/build-0/build-root", "/"),
            ("/store/tmp/1/build-0/app", "/workspace"),
            ("/store/tmp/1/build-0/app.more", "/more"),
        ] {
            places.add(Path::new(host), Path::new(guest));
        }
        places
    }

    #[test]
    fn paths_of_the_bench_are_those_of_sandboxes() {
        let places = places();
        for (text, told) in [
            ("cannot open `/store/cache/ab/scratch/layers/a/x.toml`", "cannot open `/layers/a/x.toml`"),
            ("/store/cache/ab/scratch/upper is gone", "/layers is gone"),
            ("cannot read /store/tmp/1/build-0/build-root/cnb/x: no", "cannot read /cnb/x: no"),
            ("cannot read /store/tmp/1/build-0/build-root", "cannot read /"),
            (
                "/store/tmp/1/build-0/app.more/y /store/tmp/1/build-0/apple",
                "/more/y /store/tmp/1/build-0/apple",
            ),
            ("copy `/s/tmp/extend-x1/step-y2/root/etc/a` to `b`", "copy `/etc/a` to `b`"),
            ("copy /s/tmp/extend-x1/step-y2/upper", "copy /"),
            ("copy /s/tmp/extend-x1/other/root", "copy /s/tmp/extend-x1/other/root"),
        ] {
            assert_eq!(places.replace(text), told);
        }
    }

    #[test]
    fn only_what_changes_is_told_otherwise() {
        let io = |path: &str| std::io::Error::other(format!("failed to open `{path}`"));
        let error = places().tell(io("/store/tmp/1/build-0/app/x").into());
        assert!(matches!(error, BuildError::Inside { .. }));
        assert_eq!(error.to_string(), "failed to open `/workspace/x`");
        assert!(matches!(error.inner(), BuildError::Io(_)));
        assert!(matches!(places().tell(io("/home/me/x").into()), BuildError::Io(_)));
    }
}
