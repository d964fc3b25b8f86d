//! What a Dockerfile of an image extension may be (image_extension.md, "Dockerfile Requirements").
//!
//! Not here: whether it can be parsed, and what it does.

use std::collections::HashMap;

use crate::error::SourceError;
use crate::expand::{Budget, Variables, expand_word};
use crate::instruction::{Arg, Command, From, Heredoc, Instruction, InstructionKind, Run};
use crate::parse::Dockerfile;

/// The variable that holds the image to extend.
const BASE_IMAGE: &str = "base_image";

/// Which of an extension's Dockerfiles it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `build.Dockerfile`: extends the image that buildpacks run in.
    Build,
    /// `run.Dockerfile`: extends the image that the app runs in, or takes another, or both.
    Run,
}

impl Kind {
    /// The file's name in the specification.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Build => "build.Dockerfile",
            Self::Run => "run.Dockerfile",
        }
    }
}

/// What a Dockerfile starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// The image it is given.
    Given,
    /// This image instead: a reference, variables expanded.
    Other(String),
}

/// A Dockerfile that follows the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What it starts from.
    pub base: Base,
    /// Whether it has any instruction that may change the image: anything but `FROM` and `ARG`.
    pub extends: bool,
    /// What it should not do, in the order of lines.
    pub warnings: Vec<Warning>,
}

/// Something that a Dockerfile should not do, and that is done all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The line, from 1.
    pub line: usize,
    /// What to tell.
    pub text: String,
}

/// Checks a Dockerfile that was parsed. `args` are the values given for its `ARG`s; that of `base_image` is not needed.
///
/// # Errors
/// What the specification says it must and must not have, at the place where it is or should be.
pub fn check(kind: Kind, dockerfile: &Dockerfile, args: &[(String, String)]) -> Result<Checked, SourceError> {
    let instructions = &dockerfile.instructions;
    let from_at = position_of_from(kind, dockerfile)?;
    let (before, after) = (&instructions[..from_at], &instructions[from_at + 1..]);
    let InstructionKind::From(from) = &instructions[from_at].kind else {
        unreachable!("position_of_from finds a FROM")
    };
    let base = base(kind, dockerfile, before, &instructions[from_at], from, args)?;
    let mut warnings: Vec<Warning> = after.iter().filter_map(|it| warning(kind, it)).collect();
    if from.platform.is_some() {
        let line = instructions[from_at].line;
        let text = format!("{} FROM --platform on line {line} is ignored", kind.file_name());
        warnings.insert(0, Warning { line, text });
    }
    let extends = after.iter().any(|instruction| !matches!(instruction.kind, InstructionKind::Arg(_)));
    Ok(Checked { base, extends, warnings })
}

/// Where the first `FROM` is. Only `ARG` may come before it.
fn position_of_from(kind: Kind, dockerfile: &Dockerfile) -> Result<usize, SourceError> {
    let name = kind.file_name();
    for (at, instruction) in dockerfile.instructions.iter().enumerate() {
        match &instruction.kind {
            InstructionKind::From(_) => return Ok(at),
            InstructionKind::Arg(_) => (),
            other => {
                let message = format!("{name} has {} before FROM", other.keyword());
                return Err(dockerfile.error(&instruction.span, message).with_help(beginning(kind)));
            }
        }
    }
    let end = dockerfile.instructions.last().map_or(0..0, |last| last.span.clone());
    Err(dockerfile.error(&end, format!("{name} has no FROM")).with_help(beginning(kind)))
}

fn beginning(kind: Kind) -> String {
    format!("{} begins with `ARG {BASE_IMAGE}` and `FROM ${{{BASE_IMAGE}}}`", kind.file_name())
}

fn base(
    kind: Kind,
    dockerfile: &Dockerfile,
    before: &[Instruction],
    instruction: &Instruction,
    from: &From,
    args: &[(String, String)],
) -> Result<Base, SourceError> {
    if kind == Kind::Build {
        check_args_of_build(dockerfile, before, instruction)?;
    }
    // Stands for the image that is given: nobody can write it.
    const GIVEN: &str = "\0";
    let budget = Budget::default();
    let values = globals(dockerfile, before, args, GIVEN, &budget)?;
    if mentions(&from.image.text, BASE_IMAGE) && !values.contains_key(BASE_IMAGE) {
        let message =
            format!("{} has no `ARG {BASE_IMAGE}` before `FROM {}`", kind.file_name(), from.image.text);
        return Err(dockerfile.error(&instruction.span, message).with_help(beginning(kind)));
    }
    let lookup = |name: &str| values.get(name).cloned();
    let variables = Variables { lookup: &lookup, escape: dockerfile.escape, budget: &budget };
    let image = expand_word(&from.image.text, variables)
        .map_err(|error| dockerfile.error(&from.image.span, error.to_string()))?;
    let fault = |message: String| dockerfile.error(&from.image.span, message);
    match image.as_str() {
        GIVEN => Ok(Base::Given),
        _ if kind == Kind::Build => {
            let message =
                format!("build.Dockerfile must have FROM ${{{BASE_IMAGE}}}, not `{}`", from.image.text);
            Err(fault(message).with_help("only run.Dockerfile can take another image"))
        }
        "" => Err(fault(format!("`{}` is no image: its variables are empty", from.image.text))),
        "scratch" => Err(fault("`scratch` is no image that an app can run in".to_owned())),
        other if other.contains(GIVEN) => {
            Err(fault(format!("`{}` makes another name of the image's own", from.image.text)))
        }
        _ => Ok(Base::Other(image)),
    }
}

/// `build.Dockerfile` has one `ARG` before `FROM`, and that declares `base_image` first.
fn check_args_of_build(
    dockerfile: &Dockerfile,
    before: &[Instruction],
    from: &Instruction,
) -> Result<(), SourceError> {
    let missing = format!("build.Dockerfile must begin with `ARG {BASE_IMAGE}`");
    let first = before.first().unwrap_or(from);
    match &first.kind {
        InstructionKind::Arg(args) if args.first().is_some_and(|arg| arg.name == BASE_IMAGE) => (),
        _ => return Err(dockerfile.error(&first.span, missing).with_help(beginning(Kind::Build))),
    }
    match before.get(1) {
        Some(second) => {
            let message = format!("build.Dockerfile has an ARG between `ARG {BASE_IMAGE}` and FROM");
            let help = "declare it after FROM, where instructions can see it";
            Err(dockerfile.error(&second.span, message).with_help(help))
        }
        None => Ok(()),
    }
}

/// The variables that are declared before `FROM`, and their last values.
fn globals<'d>(
    dockerfile: &'d Dockerfile,
    before: &'d [Instruction],
    args: &[(String, String)],
    given: &str,
    budget: &Budget,
) -> Result<HashMap<&'d str, String>, SourceError> {
    let args: HashMap<&str, &str> =
        args.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut values: HashMap<&str, String> = HashMap::new();
    let declared = before.iter().filter_map(|instruction| match &instruction.kind {
        InstructionKind::Arg(args) => Some(args),
        _ => None,
    });
    for Arg { name, default, span } in declared.flatten() {
        let value = if name == BASE_IMAGE {
            given.to_owned()
        } else if let Some(value) = args.get(name.as_str()) {
            (*value).to_owned()
        } else {
            let lookup = |name: &str| values.get(name).cloned();
            let variables = Variables { lookup: &lookup, escape: dockerfile.escape, budget };
            expand_word(default.as_deref().unwrap_or(""), variables)
                .map_err(|error| dockerfile.error(span, error.to_string()))?
        };
        values.insert(name, value);
    }
    Ok(values)
}

fn warning(kind: Kind, instruction: &Instruction) -> Option<Warning> {
    let keyword = match &instruction.kind {
        InstructionKind::Add(_)
        | InstructionKind::Arg(_)
        | InstructionKind::Copy(_)
        | InstructionKind::Env(_)
        | InstructionKind::From(_)
        | InstructionKind::Label(_)
        | InstructionKind::Run(_)
        | InstructionKind::Shell(_)
        | InstructionKind::User(_)
        | InstructionKind::Workdir(_) => return None,
        other => other.keyword(),
    };
    let line = instruction.line;
    let text = format!("{} command {keyword} on line {line} is not recommended", kind.file_name());
    Some(Warning { line, text })
}

impl Instruction {
    /// Whether the name of a variable is written in this instruction, here-documents included.
    ///
    /// A program can find a variable by other means. So a step that does not name `build_id` is neither run again when
    /// that changes nor may it see it.
    pub fn names(&self, variable: &str) -> bool {
        let heredocs = match &self.kind {
            InstructionKind::Run(run) => &run.heredocs[..],
            _ => &[],
        };
        // The text of the exec form may have escapes: what it says counts.
        let exec = match &self.kind {
            InstructionKind::Run(Run { command: Command::Exec(list), .. }) => &list[..],
            _ => &[],
        };
        mentions(&self.text, variable)
            || exec.iter().any(|argument| mentions(argument, variable))
            || heredocs.iter().any(|Heredoc { raw, .. }| mentions(raw, variable))
    }
}

/// Whether a text has a name as a word of its own.
fn mentions(text: &str, name: &str) -> bool {
    let inside = |ch: char| ch.is_alphanumeric() || ch == '_';
    text.match_indices(name).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(inside)
            && !text[at + name.len()..].chars().next().is_some_and(inside)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "\nARG base_image=0\nFROM ${base_image}\n";

    fn checked(kind: Kind, text: &str) -> Result<Checked, SourceError> {
        check(kind, &Dockerfile::parse("x.Dockerfile", text).unwrap(), &[("v".into(), "9".into())])
    }

    fn error(kind: Kind, text: &str) -> String {
        checked(kind, text).unwrap_err().to_string()
    }

    #[test]
    fn the_recommended_instructions_extend() {
        let text = format!(
            "{HEAD}ADD a /b\nARG c\nCOPY a /b\nENV a=b\nLABEL a=b\nUSER a\nWORKDIR /a\nSHELL [\"/a\"]\nRUN a"
        );
        for kind in [Kind::Build, Kind::Run] {
            let checked = checked(kind, &text).unwrap();
            assert_eq!(checked, Checked { base: Base::Given, extends: true, warnings: vec![] });
        }
    }

    #[test]
    fn variables_before_from_do_not_grow_without_end() {
        let doubled = |number: u32| format!("ARG a{number}=${{a{0}}}${{a{0}}}\n", number - 1);
        let text = format!("ARG a0=x\n{}FROM ${{a40}}\n", (1..=40).map(doubled).collect::<String>());
        assert_eq!(
            error(Kind::Run, &text),
            "x.Dockerfile:23:5: the variables of this file come to too much, expected at most 4194304 bytes in all"
        );
    }

    #[test]
    fn only_from_and_arg_do_not_extend() {
        for head in [
            HEAD,
            "ARG base_image\nFROM $base_image\nARG a=1\n",
            "arg base_image\nfrom \"${base_image}\" as x",
        ] {
            for kind in [Kind::Build, Kind::Run] {
                let checked = checked(kind, head).unwrap();
                assert_eq!((checked.base, checked.extends), (Base::Given, false), "{head}");
            }
        }
    }

    #[test]
    fn other_instructions_are_warned_of() {
        let others = [
            "CMD [\"a\"]",
            "MAINTAINER a",
            "EXPOSE 80/tcp",
            "ENTRYPOINT [\"a\"]",
            "VOLUME [\"/a\"]",
            "ONBUILD RUN a",
            "STOPSIGNAL SIGKILL",
            "HEALTHCHECK NONE",
        ];
        for other in others {
            let keyword = other.split(' ').next().unwrap();
            let checked = checked(Kind::Build, &format!("{HEAD}{other}\n")).unwrap();
            assert!(checked.extends);
            let text = format!("build.Dockerfile command {keyword} on line 4 is not recommended");
            assert_eq!(checked.warnings, [Warning { line: 4, text }]);
        }
    }

    #[test]
    fn run_can_take_another_image() {
        for (text, image) in [
            ("FROM some-base-image", "some-base-image"),
            ("ARG base_image\nFROM registry:5000/a/b:c@sha256:0", "registry:5000/a/b:c@sha256:0"),
            ("ARG tag=22\nARG image=debian:${tag}\nFROM $image-slim", "debian:22-slim"),
            ("ARG v=1\nFROM a:$v", "a:9"),
            ("FROM a:${tag:-latest}", "a:latest"),
        ] {
            let checked = checked(Kind::Run, text).unwrap();
            assert_eq!((checked.base, checked.extends), (Base::Other(image.into()), false), "{text}");
        }
        assert!(checked(Kind::Run, "FROM a\nRUN b").unwrap().extends);
    }

    #[test]
    fn rules_that_are_broken_have_a_line() {
        for (kind, text, expected) in [
            (Kind::Build, "FROM some\nRUN a", "1:1: build.Dockerfile must begin with `ARG base_image`"),
            (Kind::Build, "\nFROM ${base_image}", "2:1: build.Dockerfile must begin with `ARG base_image`"),
            (Kind::Build, "ARG other\nFROM ${base_image}", "1:1: build.Dockerfile must begin with"),
            (
                Kind::Build,
                "ARG base_image\nARG a\nFROM ${base_image}",
                "2:1: build.Dockerfile has an ARG between `ARG base_image` and FROM",
            ),
            (
                Kind::Build,
                "ARG base_image\nFROM debian",
                "2:6: build.Dockerfile must have FROM ${base_image}, not `debian`",
            ),
            (Kind::Run, "FROM ${base_image}", "1:1: run.Dockerfile has no `ARG base_image` before"),
            (Kind::Run, "ARG base_image\nFROM ${base_image}-x", "2:6: `${base_image}-x` makes another name"),
            (Kind::Run, "FROM $none", "1:6: `$none` is no image: its variables are empty"),
            (Kind::Run, "FROM scratch", "1:6: `scratch` is no image"),
            (Kind::Run, "ARG a=${b:?c}\nFROM x", "1:5: b: c"),
            (Kind::Run, "RUN a\nFROM b", "1:1: run.Dockerfile has RUN before FROM"),
            (Kind::Run, "ARG base_image\n", "1:1: run.Dockerfile has no FROM"),
        ] {
            let error = error(kind, text);
            assert!(error.starts_with(&format!("x.Dockerfile:{expected}")), "{text}: {error}");
        }
    }

    #[test]
    fn a_platform_is_warned_of() {
        let checked = checked(Kind::Run, "FROM --platform=linux/arm64 a\nCMD a").unwrap();
        assert_eq!(checked.warnings.iter().map(|warning| warning.line).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn knows_which_steps_name_a_variable() {
        let text = "RUN echo $build_id\nRUN echo ${build_id:-0}\nRUN [\"printenv\", \"build_id\"]\nRUN <<E\necho \"$build_id\"\nE\n\
                    RUN echo $build_ids\nRUN my_build_id\nRUN true\nCOPY $build_id /\n";
        let dockerfile = Dockerfile::parse("f", text).unwrap();
        let named: Vec<bool> = dockerfile.instructions.iter().map(|it| it.names("build_id")).collect();
        assert_eq!(named, [true, true, true, true, false, false, false, true]);
    }
}
