//! A Dockerfile: parsed, checked as both kinds, and each instruction expanded with the variables before it.

use std::collections::BTreeMap;

use pannier_dockerfile::{Dockerfile, InstructionKind, Kind, SourceError, check};

/// The longest value that a variable gets here.
const LONGEST: usize = 4096;

/// What comes of parsing `input`.
pub fn outcome(input: &[u8]) -> String {
    let text = String::from_utf8_lossy(input);
    let dockerfile = match Dockerfile::parse("Dockerfile", &text) {
        Ok(dockerfile) => dockerfile,
        Err(error) => return format!("not a Dockerfile at {}", place(&error, &text)),
    };
    for instruction in &dockerfile.instructions {
        let span = &instruction.span;
        assert!(text.get(span.clone()).is_some(), "{span:?} of {text:?}");
        assert!((1..=text.matches('\n').count() + 1).contains(&instruction.line));
    }
    let kinds = [Kind::Build, Kind::Run].map(|kind| match check(kind, &dockerfile, &[]) {
        Ok(checked) => format!("{:?} with {} warnings", checked.base, checked.warnings.len()),
        Err(error) => format!("against the rules at {}", place(&error, &text)),
    });
    let [build, run] = kinds;
    let count = dockerfile.instructions.len();
    format!("{count} instructions, {} expand; build: {build}; run: {run}", expanded(&dockerfile, &text))
}

/// How many instructions can be expanded.
fn expanded(dockerfile: &Dockerfile, text: &str) -> usize {
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    let mut count = 0;
    for instruction in &dockerfile.instructions {
        let lookup = |name: &str| variables.get(name).cloned();
        let expanded = match dockerfile.expand(instruction, &lookup) {
            Ok(expanded) => expanded,
            Err(error) => {
                place(&error, text);
                continue;
            }
        };
        count += 1;
        let set: Vec<(String, String)> = match expanded.kind {
            InstructionKind::Env(pairs) => pairs.into_iter().map(|pair| (pair.key, pair.value)).collect(),
            InstructionKind::Arg(args) => {
                args.into_iter().filter_map(|arg| Some((arg.name, arg.default?))).collect()
            }
            _ => Vec::new(),
        };
        variables.extend(set.into_iter().filter(|(_, value)| value.len() <= LONGEST));
    }
    count
}

/// Where an error is: a place in the text, whatever the text.
fn place(error: &SourceError, text: &str) -> String {
    assert_eq!(error.text(), text);
    assert!(error.span().end <= text.len() && !error.message().is_empty());
    let (line, column) = error.line_column();
    assert!(error.source_line().chars().count() + 2 >= column, "{error} in {text:?}");
    assert!(error.to_string().starts_with(&format!("Dockerfile:{line}:{column}: ")));
    format!("{line}:{column}")
}
