//! What a person needs to know when an image extension fails, or what it wrote.

use dockerfile::SourceError;
use dockerfile::apply::ApplyError;
use lifecycle::generate::GenerateError;
use platform::build::BuildError;

use crate::ui::{escaped, is_unsafe};

/// An extension's `bin/generate` failed.
const GENERATE_FAILED: u8 = 91;
/// What an extension generated cannot be used.
const GENERATE_ERROR: u8 = 92;
/// A Dockerfile cannot be applied.
const EXTEND_ERROR: u8 = 102;

/// The exit code, where extensions are at fault (platform.md, "detector" and "extender").
pub fn exit_code(error: &BuildError) -> Option<u8> {
    match error {
        BuildError::Generate(GenerateError::Parse { source, .. }) if source.is_unsupported_api() => None,
        BuildError::Generate(GenerateError::Failed { .. }) => Some(GENERATE_FAILED),
        BuildError::Generate(_) => Some(GENERATE_ERROR),
        BuildError::Extend { .. } => Some(EXTEND_ERROR),
        _ => None,
    }
}

/// What to do about it.
pub fn hint(error: &BuildError) -> Option<String> {
    match error {
        BuildError::Generate(GenerateError::Dockerfile { source, .. }) => source.help().map(str::to_owned),
        BuildError::Generate(GenerateError::Failed { .. }) => {
            Some("the extension's own words are above; --env passes it settings".to_owned())
        }
        BuildError::Extend { source, .. } => source.hint(),
        _ => None,
    }
}

/// The place in a Dockerfile that the error is about.
fn place(error: &BuildError) -> Option<&SourceError> {
    match error {
        BuildError::Generate(GenerateError::Dockerfile { source, .. }) => Some(source),
        BuildError::Extend { source, .. } => match &**source {
            ApplyError::Source(place) => Some(place),
            ApplyError::Run(failure) => Some(&failure.at),
            ApplyError::Step { at, .. } => Some(at),
            _ => None,
        },
        _ => None,
    }
}

/// The line of the Dockerfile that the error is about, with carets under the place.
pub fn detail(error: &BuildError) -> Option<String> {
    place(error).map(snippet)
}

fn snippet(error: &SourceError) -> String {
    let (line, column) = error.line_column();
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    // The text is an extension's: it must not speak to the terminal.
    let text: String = error.source_line().chars().map(|c| if is_unsafe(c) { ' ' } else { c }).collect();
    let left = text.trim_end().chars().count().saturating_sub(column - 1);
    let span = &error.text()[error.span()];
    let wanted = span.lines().next().unwrap_or_default().trim_end().chars().count();
    let carets = "^".repeat(wanted.clamp(1, left.max(1)));
    let indent = " ".repeat(column - 1);
    format!(
        "{margin}--> {}:{line}:{column}\n{margin} |\n{number} | {text}\n{margin} | {indent}{carets}",
        escaped(error.file())
    )
}

#[cfg(test)]
mod tests {
    use dockerfile::Dockerfile;

    use super::*;

    #[test]
    fn the_place_in_a_dockerfile_is_shown() {
        let text = "ARG base_image\nFROM ${base_image}\n\nCOPPY\ta b\u{1b}c\n";
        let source = Dockerfile::parse("test/ext/run.Dockerfile", text).unwrap_err();
        insta::assert_snapshot!(snippet(&source), @r"
         --> test/ext/run.Dockerfile:4:1
          |
        4 | COPPY a b c
          | ^^^^^
        ");
        let error = BuildError::Generate(GenerateError::Dockerfile { id: "test/ext".into(), source });
        assert_eq!(exit_code(&error), Some(GENERATE_ERROR));
        assert_eq!(hint(&error).as_deref(), Some("did you mean `COPY`?"));
    }
}
