//! What a person needs to know of a failed build: a hint, what to show besides the error's line, the exit code.
//!
//! Exit codes are those of the lifecycle's phases (platform.md), so that a script can tell whose fault it is.

mod extension;

use cnb::ParseError;
use cnb::resolve::Verdict;
use lifecycle::build::BuildError as PhaseError;
use lifecycle::detect::{DetectError, Member, Report};
use platform::build::BuildError;
use platform::builder::BuilderError;
use platform::document::DocumentError;
use platform::module::ModuleError;
use platform::project::ProjectError;
use platform::selection::SelectionError;
use platform::source::SourceError;
use platform::unavailable::Unavailable;

use crate::error::{CommandError, FULL_DISK};
use crate::ui::{escaped, is_unsafe};

/// Lines of a program's output that an error shows.
const TAIL: usize = 30;

/// A buildpack is for an API that we do not speak.
const API: u8 = 12;
/// No group detected the app, and each of them had a member that said no.
const NO_GROUP: u8 = 20;
/// No group detected the app, and a buildpack did not work.
const DETECT_ERROR: u8 = 21;
/// A buildpack failed to build.
const BUILD_ERROR: u8 = 51;

/// What a person needs to know of a failed build. `quiet` when what buildpacks print has not been shown.
pub fn failure(error: BuildError, quiet: bool) -> CommandError {
    let inner = error.inner();
    let (hint, detail, code) = (hint(inner), detail(inner, quiet), exit_code(inner));
    let hint = if error.is_full_disk() { Some(FULL_DISK.to_owned()) } else { hint };
    let more = on_builder(inner);
    let mut command_error = CommandError::new(error).code(code);
    command_error.hints.extend(hint.filter(|hint| !command_error.hints.contains(hint)));
    command_error.hints.extend(more);
    command_error.detail = detail;
    command_error
}

/// What could have been asked for instead of a buildpack that is not there.
fn on_builder(error: &BuildError) -> Option<String> {
    let (kind, on_builder) = match error {
        BuildError::Selection(SelectionError::Locator { source, on_builder }) => (source.kind, on_builder),
        BuildError::Selection(SelectionError::Nowhere { kind, on_builder, .. }) => (*kind, on_builder),
        _ => return None,
    };
    Some(match on_builder.as_slice() {
        [] => format!("the builder has no {kind}s"),
        known => format!("the builder has: {}", known.join(", ")),
    })
}

/// What a person needs to know of a buildpack that cannot be had.
pub fn module_hint(error: &ModuleError) -> Option<String> {
    match error {
        ModuleError::Locator(error) => error.help.clone(),
        ModuleError::Image { source, .. } if source.is_not_found() => {
            Some("`pannier image list` shows what is in the store".to_owned())
        }
        ModuleError::Image { source, .. } => source.hint(),
        ModuleError::Download(error) => error.hint(),
        ModuleError::NoDescriptor { .. } => {
            Some("the descriptor must be at the top of the folder or archive".to_owned())
        }
        ModuleError::NotAPackage { kind, .. } => {
            Some(format!("packages of {kind}s are made by `pack {kind} package`"))
        }
        _ => None,
    }
}

fn exit_code(error: &BuildError) -> u8 {
    if let Some(code) = extension::exit_code(error) {
        return code;
    }
    match error {
        BuildError::Detect(DetectError::NoGroup { errored: false, .. }) => NO_GROUP,
        BuildError::Detect(DetectError::NoGroup { errored: true, .. }) => DETECT_ERROR,
        BuildError::Build(PhaseError::Failed { .. }) => BUILD_ERROR,
        error if parse_error(error).is_some_and(ParseError::is_unsupported_api) => API,
        _ => 1,
    }
}

/// What to do about an image that cannot be had.
pub fn unavailable(error: &Unavailable) -> Option<String> {
    if error.source.is_not_found() {
        let role = error.role;
        return Some(format!(
            "check the name of the {role}; `pannier image list` shows what is in the store"
        ));
    }
    error.source.hint()
}

fn hint(error: &BuildError) -> Option<String> {
    match error {
        BuildError::Image(error) => unavailable(error),
        BuildError::Sink { source, .. } | BuildError::Write { source, .. } | BuildError::Store(source) => {
            source.hint()
        }
        BuildError::Selection(SelectionError::Locator { source, .. }) => source.help.clone(),
        BuildError::Selection(
            SelectionError::Module(error) | SelectionError::Nowhere { source: error, .. },
        ) => module_hint(error),
        BuildError::Selection(SelectionError::Versions { id, .. }) => {
            Some(format!("say which: {id}@VERSION"))
        }
        BuildError::DefaultBuilder(_) => Some("name a builder with --builder".to_owned()),
        BuildError::Builder(BuilderError::User { .. } | BuilderError::NoOrder) => Some(
            "is it a builder? --builder takes an image with buildpacks, made by `pannier builder create` or \
             `pack builder create`"
                .to_owned(),
        ),
        BuildError::Builder(BuilderError::Root { .. }) => {
            Some("--uid and --gid run them as somebody else".to_owned())
        }
        BuildError::NoRunImage { .. } => Some("name one with --run-image".to_owned()),
        BuildError::Platform { .. } => Some("ask for another platform with --platform".to_owned()),
        BuildError::Source(SourceError::Missing { .. } | SourceError::Kind { .. }) => {
            Some("--path names the app: a folder, or a zip file".to_owned())
        }
        BuildError::Build(PhaseError::Failed { tail, .. }) => {
            let words = "the buildpack's own words are above; --env passes it settings";
            Some(layer::meaning_of_space(tail).unwrap_or(words).to_owned())
        }
        BuildError::Generate(_) | BuildError::Extend { .. } if extension::hint(error).is_some() => {
            extension::hint(error)
        }
        BuildError::Detect(DetectError::NoGroup { errored: false, .. }) => {
            Some("is --path the right folder? --buildpack names buildpacks to use".to_owned())
        }
        BuildError::Detect(DetectError::NoGroup { errored: true, .. }) => {
            Some("a buildpack did not work: see `error` above".to_owned())
        }
        BuildError::Export(lifecycle::export::ExportError::NoSuchProcess { known, .. }) => {
            Some(match known.as_slice() {
                [] => "no buildpack gave a process".to_owned(),
                known => format!("there are: {}", known.join(", ")),
            })
        }
        error => match parse_error(error) {
            Some(parse) if parse.is_unsupported_api() => {
                Some("use a version of the buildpack for one of these APIs, or a newer pannier".to_owned())
            }
            Some(_) => Some("the file is the buildpack's or the builder's: tell its author".to_owned()),
            None => None,
        },
    }
}

fn causes(error: &BuildError) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |cause| cause.source())
}

/// The error about a file of a buildpack or builder, wherever it is.
fn parse_error(error: &BuildError) -> Option<&ParseError> {
    match error {
        // These pass their cause off as themselves, so it is not among their causes.
        BuildError::Detect(DetectError::Parse(parse))
        | BuildError::Selection(SelectionError::Module(ModuleError::Descriptor(parse))) => Some(parse),
        error => causes(error).find_map(|cause| cause.downcast_ref()),
    }
}

fn detail(error: &BuildError, quiet: bool) -> Option<String> {
    match error {
        BuildError::Project(ProjectError::Document(error))
        | BuildError::Selection(SelectionError::Module(ModuleError::Document(error))) => {
            Some(document(error))
        }
        BuildError::Detect(DetectError::NoGroup { report, .. }) => Some(groups(report)),
        BuildError::Build(PhaseError::Failed { id, tail, .. }) if quiet => output(id, tail.as_bytes()),
        BuildError::Generate(lifecycle::generate::GenerateError::Failed { id, tail, .. }) if quiet => {
            output(id, tail.as_bytes())
        }
        error => extension::detail(error).or_else(|| parse_error(error).and_then(snippet)),
    }
}

/// The lines with a caret, without the message: that is what the error's own line says.
pub fn document(error: &DocumentError) -> String {
    let text = error.render(false);
    text.split_once('\n').map_or_else(|| text.clone(), |(_, snippet)| snippet.to_owned())
}

/// The line that is meant, with carets under the place.
pub fn snippet(error: &ParseError) -> Option<String> {
    let place = error.place.as_ref()?;
    let number = place.line.to_string();
    let margin = " ".repeat(number.len());
    // The text is somebody else's: it must not speak to the terminal.
    let line: String = place.text.chars().map(|c| if is_unsafe(c) { ' ' } else { c }).collect();
    let left = line.chars().count().saturating_sub(place.column - 1);
    let carets = "^".repeat(place.span.len().clamp(1, left.max(1)));
    let indent = " ".repeat(place.column - 1);
    Some(format!(
        "{margin}--> {}:{}:{}\n{margin} |\n{number} | {line}\n{margin} | {indent}{carets}",
        escaped(&error.file.to_string()),
        place.line,
        place.column
    ))
}

/// Each group that was tried with what became of its members, and then what they printed.
fn groups(report: &Report) -> String {
    let mut lines = Vec::new();
    let members = || report.groups.iter().flat_map(|group| &group.members);
    let width = members().map(|member| member.element.module.to_string().len()).max().unwrap_or(0);
    for (index, group) in report.groups.iter().enumerate() {
        lines.push(format!("group {} of {}", index + 1, report.groups.len()));
        lines.extend(group.members.iter().map(|member| verdict_line(member, width)));
    }
    for (module, run) in &report.runs {
        lines.extend(output(&module.to_string(), &run.output));
    }
    lines.join("\n")
}

fn verdict_line(member: &Member, width: usize) -> String {
    let (word, reason) = match &member.verdict {
        Verdict::Passed => ("pass", String::new()),
        Verdict::Failed => ("no", String::new()),
        Verdict::Errored(reason) => ("error", reason.clone()),
        Verdict::OtherExecEnv => ("skip", "not for this execution environment".to_owned()),
        Verdict::OtherTarget => ("skip", "not for this run image's system and distribution".to_owned()),
        Verdict::Unmet { requires } => {
            ("no", format!("requires `{requires}`, which nobody before it provides"))
        }
        Verdict::Unused { provides } => ("no", format!("provides `{provides}`, which nobody requires")),
    };
    let optional = if member.element.optional { "optional" } else { "" };
    let line = format!("  {word:<5}  {:<width$}  {optional:<8}  {reason}", member.element.module.to_string());
    escaped(line.trim_end()).into_owned()
}

/// The last lines of what a program printed, or nothing when it was silent.
fn output(name: &str, bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let lines = &lines[lines.len().saturating_sub(TAIL)..];
    if lines.iter().all(|line| line.is_empty()) {
        return None;
    }
    let shown: Vec<String> = lines.iter().map(|line| format!("  | {line}").trim_end().to_owned()).collect();
    Some(format!("output of {}\n{}", escaped(name), shown.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snippet_has_its_caret_in_place_and_no_control_characters() {
        let text = "api = \"0.8\"\n\tid\u{1b} = 3\n";
        let error = ParseError::at("/cnb/order.toml", "odd", text, 19..20);
        insta::assert_snapshot!(snippet(&error).unwrap(), @r"
         --> /cnb/order.toml:2:8
          |
        2 |  id  = 3
          |        ^
        ");
        assert_eq!(snippet(&ParseError::new("x", "odd")), None);
        let far = ParseError::at("x", "odd", "a", 1..1);
        assert!(snippet(&far).unwrap().ends_with("| a\n  |  ^"));
    }

    #[test]
    fn of_long_output_the_end_is_shown() {
        let bytes: String = (1..=100).map(|line| format!("line {line}\n")).collect();
        let shown = output("a/b", bytes.as_bytes()).unwrap();
        assert!(shown.starts_with("output of a/b\n  | line 71\n"), "{shown}");
        assert!(shown.ends_with("  | line 100"));
        assert_eq!(output("a/b", b"\n\n"), None);
    }
}
