//! Instructions as people are shown them. What is in the image's history is not changed by it.

use super::state::{BUILD_ID, State};
use crate::instruction::{CopySource, Heredoc, Instruction, InstructionKind};

/// Longer lines are cut.
const LINE: usize = 150;

/// One line of an instruction: without what indented continued lines and without mounts, which say little of what it
/// does, and not too long.
pub(super) fn brief(instruction: &Instruction) -> String {
    let words = instruction.text.split_whitespace().filter(|word| !word.starts_with("--mount="));
    let text = words.collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(LINE) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// All of an instruction: with the values of variables that it declares, and its here-documents.
pub(super) fn whole(instruction: &Instruction, state: &State) -> String {
    if let InstructionKind::Arg(args) = &instruction.kind {
        let shown = args.iter().map(|arg| match state.declared_value(&arg.name) {
            // The next build has another one.
            Some(value) if arg.name != BUILD_ID => format!("{}={value}", arg.name),
            _ => arg.name.clone(),
        });
        return format!("ARG {}", shown.collect::<Vec<_>>().join(" "));
    }
    let mut text = one_line(&instruction.text);
    for heredoc in heredocs(&instruction.kind) {
        for part in ["\n", &heredoc.raw, &heredoc.name] {
            text.push_str(part);
        }
    }
    text
}

fn heredocs(kind: &InstructionKind) -> Vec<&Heredoc> {
    let sources: &[CopySource] = match kind {
        InstructionKind::Run(run) => return run.heredocs.iter().collect(),
        InstructionKind::Copy(copy) => &copy.sources,
        InstructionKind::Add(add) => &add.copy.sources,
        _ => &[],
    };
    let of_copy = sources.iter().filter_map(|source| match source {
        CopySource::Heredoc(heredoc) => Some(heredoc),
        CopySource::Path(_) => None,
    });
    of_copy.collect()
}

fn one_line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if !shown.is_empty() {
            shown.push(' ');
        }
        shown.push_str(word);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::Dockerfile;

    fn instruction(line: &str) -> Instruction {
        let text = format!("FROM base\n{line}\n");
        Dockerfile::parse("Dockerfile", &text).expect("a Dockerfile").instructions.remove(1)
    }

    #[test]
    fn continued_lines_are_one() {
        let run = instruction("RUN --mount=type=tmpfs,target=/x a; \\\n      b; \\\n   c");
        assert_eq!(brief(&run), "RUN a; b; c");
        let long = brief(&instruction(&format!("RUN {}", "é".repeat(300))));
        assert_eq!((long.chars().count(), long.chars().last()), (LINE + 1, Some('…')));
    }

    #[test]
    fn here_documents_are_shown_whole() {
        let config = serde_json::from_str(
            r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#,
        );
        let state = State::new(config.expect("a configuration"));
        let shown = whole(&instruction("COPY <<A <<B /etc/\none\nA\n  two\nB"), &state);
        assert_eq!(shown, "COPY <<A <<B /etc/\none\nA\n  two\nB");
        assert_eq!(whole(&instruction("RUN <<END\nset -e\nEND"), &state), "RUN <<END\nset -e\nEND");
    }
}
