//! The configuration and the variables while a Dockerfile is applied, instruction by instruction.

use std::collections::{BTreeMap, HashMap};

use oci::ImageConfig;

use super::error::Failed;
use crate::error::SourceError;
use crate::expand::Budget;
use crate::instruction::{Arg, Instruction, InstructionKind, Script};
use crate::parse::Dockerfile;

/// Where programs are looked up when the image does not say.
pub(super) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variable that is another one in each build: only what names it depends on it.
pub(super) const BUILD_ID: &str = "build_id";

/// The most bytes of `NAME=value`, with the zero at its end, that Linux hands to a program (MAX_ARG_STRLEN).
const VARIABLE: usize = 128 << 10;

/// The most bytes of all variables together: what Linux hands to a program with a stack of the usual size.
const ENVIRONMENT: usize = 2 << 20;

/// Where a Dockerfile is.
#[derive(Debug)]
pub(super) struct State {
    /// The configuration so far.
    pub config: ImageConfig,
    /// Values that this Dockerfile is given.
    pub given: BTreeMap<String, String>,
    /// What `ARG` before `FROM` declared.
    global: BTreeMap<String, Option<String>>,
    /// What `ARG` after it declared.
    declared: Declared,
    /// What its variables may still come to.
    budget: Budget,
    in_stage: bool,
    pub has_cmd: bool,
}

impl State {
    pub fn new(config: ImageConfig) -> Self {
        Self {
            config,
            given: BTreeMap::new(),
            global: BTreeMap::new(),
            declared: Declared::default(),
            budget: Budget::default(),
            in_stage: false,
            has_cmd: false,
        }
    }

    /// Begins another Dockerfile on the image as it is now.
    pub fn begin(&mut self, given: BTreeMap<String, String>) {
        *self = Self { given, ..Self::new(self.config.clone()) };
        self.global = platform_args(&self.config);
    }

    /// Begins the stage.
    pub fn from(&mut self) {
        self.in_stage = true;
    }

    /// The instruction with its variables expanded.
    pub fn expand(
        &self,
        dockerfile: &Dockerfile,
        instruction: &Instruction,
    ) -> Result<Instruction, SourceError> {
        dockerfile.expand_within(instruction, &|name| self.lookup(name), &self.budget)
    }

    /// Declares what an expanded `ARG` does; an error at the one that no program could be given.
    pub fn declare(&mut self, args: &[Arg]) -> Result<(), Failed> {
        for Arg { name, default, span } in args {
            let global = if self.in_stage { self.global.get(name).cloned().flatten() } else { None };
            let value = self.given.get(name).cloned().or_else(|| default.clone()).or(global);
            let others = self.config.config.env.bytes() + self.declared.bytes;
            check_size(name, value.as_deref().unwrap_or_default(), others)
                .map_err(|message| Failed::Message(message, Some(span.clone())))?;
            if self.in_stage {
                self.declared.insert(name, value);
            } else {
                self.global.insert(name.clone(), value);
            }
        }
        Ok(())
    }

    /// Checks that programs could be given the variables of an expanded `ENV`; an error at the one that is too much.
    pub fn check_env(&self, kind: &InstructionKind) -> Result<(), Failed> {
        let InstructionKind::Env(pairs) = kind else { return Ok(()) };
        let mut others = self.config.config.env.bytes() + self.declared.bytes;
        for pair in pairs {
            check_size(&pair.key, &pair.value, others)
                .map_err(|message| Failed::Message(message, Some(pair.span.clone())))?;
            others += variable_size(&pair.key, &pair.value);
        }
        Ok(())
    }

    /// The value that `ARG` gave a variable.
    pub fn declared_value(&self, name: &str) -> Option<&str> {
        self.declared.get(name).or_else(|| self.global.get(name)).and_then(|value| value.as_deref())
    }

    /// A variable's value: the image's environment comes first (Dockerfile reference, "ARG").
    fn lookup(&self, name: &str) -> Option<String> {
        if !self.in_stage {
            return self.global.get(name).cloned().flatten();
        }
        self.config.config.env_var(name).map(str::to_owned).or_else(|| {
            // What programs get when nobody says, so that `ENV PATH=/own:$PATH` adds to it.
            let default = (name == "PATH").then(|| DEFAULT_PATH.to_owned());
            self.declared.get(name).cloned().flatten().or(default)
        })
    }

    /// The variables that are not the image's and that a program sees.
    pub fn args(&self) -> impl Iterator<Item = (&str, &str)> {
        let hidden = |name: &str| self.config.config.env_var(name).is_some();
        self.declared.iter().filter_map(move |(name, value)| {
            Some((name.as_str(), value.as_deref()?)).filter(|_| !hidden(name))
        })
    }

    /// Those of [`State::args`] that a program's outcome depends on: all, as they are in its environment, but
    /// `build_id` only where the program's text names it.
    pub fn used_args(&self, script: &Script) -> Vec<String> {
        self.args()
            .filter(|(name, _)| *name != BUILD_ID || names(script, BUILD_ID))
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }
}

/// What `ARG`s declare, in order: one that is declared again is the last.
#[derive(Debug, Default)]
struct Declared {
    in_order: BTreeMap<usize, (String, Option<String>)>,
    places: HashMap<String, usize>,
    /// Bytes of those that have a value.
    bytes: usize,
}

impl Declared {
    fn insert(&mut self, name: &str, value: Option<String>) {
        let size = |value: &Option<String>| value.as_ref().map_or(0, |value| variable_size(name, value));
        let place = self.in_order.last_key_value().map_or(0, |(last, _)| last + 1);
        self.bytes += size(&value);
        if let Some((_, old)) =
            self.places.insert(name.to_owned(), place).and_then(|old| self.in_order.remove(&old))
        {
            self.bytes -= size(&old);
        }
        self.in_order.insert(place, (name.to_owned(), value));
    }

    fn get(&self, name: &str) -> Option<&Option<String>> {
        self.places.get(name).map(|place| &self.in_order[place].1)
    }

    fn iter(&self) -> impl Iterator<Item = &(String, Option<String>)> {
        self.in_order.values()
    }
}

/// Bytes of a variable as a program gets it.
fn variable_size(name: &str, value: &str) -> usize {
    name.len() + 1 + value.len() + 1
}

/// Says what is too much about a variable beside others that have `others` bytes.
fn check_size(name: &str, value: &str, others: usize) -> Result<(), String> {
    let size = variable_size(name, value);
    if size > VARIABLE {
        return Err(format!("variable `{name}` has {size} bytes, expected at most {VARIABLE}"));
    }
    let all = others + size;
    if all > ENVIRONMENT {
        return Err(format!("with `{name}` all variables have {all} bytes, expected at most {ENVIRONMENT}"));
    }
    Ok(())
}

/// Variables that an `ARG` without a value brings (Dockerfile reference, "Automatic platform ARGs"): images are built
/// where they run.
fn platform_args(config: &ImageConfig) -> BTreeMap<String, Option<String>> {
    let (os, arch) = (config.os.as_str(), config.architecture.as_str());
    let variant = config.variant.as_deref().unwrap_or_default();
    let slash = if variant.is_empty() { "" } else { "/" };
    let values = [
        ("PLATFORM", format!("{os}/{arch}{slash}{variant}")),
        ("OS", os.to_owned()),
        ("ARCH", arch.to_owned()),
        ("VARIANT", variant.to_owned()),
    ];
    let both = |(name, value): (&str, String)| {
        ["TARGET", "BUILD"].map(|kind| (format!("{kind}{name}"), Some(value.clone())))
    };
    values.into_iter().flat_map(both).collect()
}

/// Whether a program's text has the variable as `$name` or in `${name…}`.
fn names(script: &Script, variable: &str) -> bool {
    let in_text = |text: &str| {
        text.match_indices(variable).any(|(at, _)| {
            let before = &text[..at];
            let after = text[at + variable.len()..].chars().next();
            let ends = !after.is_some_and(|ch| ch.is_ascii_alphanumeric() || ch == '_');
            // `${#name}` and `${!name}` name it too.
            let brace = before.ends_with("${") || before.ends_with("${#") || before.ends_with("${!");
            ends && (before.ends_with('$') || brace)
        })
    };
    match script {
        Script::Shell(text) | Script::File { content: text, .. } => in_text(text),
        Script::Exec(words) => words.iter().any(|word| in_text(word)),
    }
}

/// Whether an instruction says whether the image may be rebased: what it says, if so.
pub(super) fn rebasable_label(kind: &InstructionKind, label: &str) -> Option<bool> {
    let InstructionKind::Label(pairs) = kind else { return None };
    let last = pairs.iter().rev().find(|pair| pair.key == label)?;
    Some(is_true(&last.value))
}

/// What the lifecycle takes for true.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn state(lines: &str, given: &[(&str, &str)]) -> State {
        let config = json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers"},
            "config": {"Env": ["PATH=/bin"]},
        });
        let mut state = State::new(serde_json::from_value(config).unwrap());
        state.begin(given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect());
        let dockerfile = Dockerfile::parse("Dockerfile", lines).unwrap();
        for instruction in &dockerfile.instructions {
            let expanded = state.expand(&dockerfile, instruction).unwrap();
            match &expanded.kind {
                InstructionKind::Arg(args) => state.declare(args).unwrap(),
                InstructionKind::From(_) => state.from(),
                kind => {
                    super::super::config::apply(&mut state.config, kind, &mut false).unwrap();
                }
            }
        }
        state
    }

    fn args(state: &State) -> Vec<String> {
        state.args().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn arguments_have_the_scope_that_docker_gives_them() {
        let lines = "ARG base_image\nARG v=1\nFROM ${base_image}\nARG w=${v:-none}\nARG v\nARG x=$v\nARG unset\nARG PATH=/arg\nARG x";
        let given = [("base_image", "base"), ("w", "given")];
        assert_eq!(args(&state(lines, &given)), ["w=given", "v=1"]);
        assert_eq!(args(&state(lines, &[("v", "2"), ("x", "3")])), ["w=none", "v=2", "x=3"]);
        assert_eq!(args(&state("FROM a\nARG a=1\nENV a=2\nARG b=$a", &[])), ["b=2"]);
    }

    /// What is said of the first line that is too much.
    fn refused(lines: &str) -> Option<(String, usize)> {
        let mut state = state("FROM a", &[]);
        let dockerfile = Dockerfile::parse("Dockerfile", lines).unwrap();
        dockerfile.instructions.iter().find_map(|instruction| {
            let expanded = match state.expand(&dockerfile, instruction) {
                Ok(expanded) => expanded,
                Err(error) => return Some((error.message().to_owned(), instruction.line)),
            };
            let done = match &expanded.kind {
                InstructionKind::Arg(args) => state.declare(args),
                kind => state.check_env(kind).map(|()| {
                    super::super::config::apply(&mut state.config, kind, &mut false).unwrap();
                }),
            };
            match done {
                Err(Failed::Message(message, Some(_))) => Some((message, instruction.line)),
                _ => None,
            }
        })
    }

    #[test]
    fn variables_that_double_are_refused_where_they_are_too_long() {
        for keyword in ["ARG", "ENV"] {
            let doubled =
                |number: usize| format!("{keyword} a{number}=${{a{}}}${{a{}}}\n", number - 1, number - 1);
            let lines = format!("{keyword} a0=0123456789\n{}", (1..=40).map(doubled).collect::<String>());
            let (message, line) = refused(&lines).unwrap();
            assert_eq!(message, "variable `a14` has 163845 bytes, expected at most 131072");
            assert_eq!(line, 15);
        }
    }

    #[test]
    fn all_variables_together_are_what_a_program_can_have() {
        let long = "x".repeat(100 << 10);
        for keyword in ["ARG", "ENV"] {
            let lines: String = (0..40).map(|number| format!("{keyword} a{number}={long}\n")).collect();
            let (message, line) = refused(&lines).unwrap();
            assert!(message.starts_with("with `a20` all variables have 2150"), "{message}");
            assert!(message.ends_with("expected at most 2097152"), "{message}");
            assert_eq!(line, 21);
        }
        let again: String = (0..100).map(|_| format!("ARG a={long}\nENV b={long}\n")).collect();
        assert_eq!(refused(&again), None, "what is declared again takes no more room");
    }

    #[test]
    fn many_variables_take_no_longer_each() {
        let lines: String =
            (0..50_000).map(|number| format!("ARG a{number}=1\nENV e{number}=$a{number}\n")).collect();
        let start = std::time::Instant::now();
        let state = state(&format!("FROM a\n{lines}"), &[]);
        assert_eq!((state.args().count(), state.config.config.env.len()), (50_000, 50_001));
        assert!(start.elapsed().as_secs() < 60, "took {:?}", start.elapsed());
    }

    #[test]
    fn the_path_has_a_default() {
        let mut state = state("FROM a\nARG x=1", &[]);
        let path = |state: &State| state.lookup("PATH");
        assert_eq!(path(&state).as_deref(), Some("/bin"));
        state.config.config.env = oci::EnvList::default();
        assert_eq!(path(&state).as_deref(), Some(DEFAULT_PATH));
        assert_eq!(state.lookup("HOME"), None);
    }

    #[test]
    fn the_platform_is_there_for_who_asks() {
        assert_eq!(
            args(&state("FROM a\nARG TARGETARCH TARGETPLATFORM\nARG BUILDOS=other", &[])),
            ["TARGETARCH=amd64", "TARGETPLATFORM=linux/amd64", "BUILDOS=other"]
        );
        assert_eq!(args(&state("FROM a\nARG x=$TARGETARCH", &[])), ["x="]);
    }

    #[test]
    fn the_build_id_counts_where_it_is_named() {
        let state = state("FROM a\nARG build_id=0\nARG other=1", &[("build_id", "uuid")]);
        let used = |text: &str| state.used_args(&Script::Shell(text.to_owned())).len();
        for text in ["echo $build_id", "echo ${build_id}", "echo ${build_id:-0}x", "a; b \"$build_id\""] {
            assert_eq!(used(text), 2, "{text}");
        }
        for text in ["echo build_id", "echo $build_id2", "echo ${other}", "make build_id=1"] {
            assert_eq!(used(text), 1, "{text}");
        }
        assert_eq!(state.used_args(&Script::Exec(vec!["sh".into(), "$build_id".into()])).len(), 2);
    }
}
