//! An instruction with its variables expanded: what is to be done.
//!
//! The shell forms of `RUN`, `CMD`, `ENTRYPOINT` and `HEALTHCHECK` are the shell's to expand; `ONBUILD` is for later.

use std::ops::Range;

use crate::error::SourceError;
use crate::expand::{
    Budget, ExpandError, Lookup, Variables, expand_shown, expand_text, expand_word, expand_words,
};
use crate::instruction::{Add, Copy, CopySource, From, Instruction, InstructionKind, Pair, Run, Word};
use crate::parse::{Dockerfile, parse_mount};

impl Dockerfile {
    /// The instruction with the variables expanded that `lookup` knows, and quotes taken away.
    ///
    /// `text` is expanded too, for people: variables that are not set stay there. All parts of an instruction see the
    /// variables as they were before it, as in `ENV a=1 b=$a`.
    ///
    /// # Errors
    /// A word that cannot be expanded, with its place; a mount that is wrong once its variables are known; variables
    /// that come to more than 4 MiB.
    pub fn expand(&self, instruction: &Instruction, lookup: Lookup<'_>) -> Result<Instruction, SourceError> {
        self.expand_within(instruction, lookup, &Budget::default())
    }

    /// The same within a budget of the whole file.
    pub(crate) fn expand_within(
        &self,
        instruction: &Instruction,
        lookup: Lookup<'_>,
        budget: &Budget,
    ) -> Result<Instruction, SourceError> {
        let variables = Variables { lookup, escape: self.escape, budget };
        let expander = Expander { dockerfile: self, variables };
        let kind = expander.kind(&instruction.kind)?;
        let text = match &kind {
            InstructionKind::Run(_)
            | InstructionKind::Cmd(_)
            | InstructionKind::Entrypoint(_)
            | InstructionKind::Healthcheck(_)
            | InstructionKind::Onbuild(_)
            | InstructionKind::Shell(_)
            | InstructionKind::Maintainer(_) => instruction.text.clone(),
            _ => expand_shown(&instruction.text, variables).unwrap_or_else(|_| instruction.text.clone()),
        };
        Ok(Instruction { kind, text, span: instruction.span.clone(), line: instruction.line })
    }
}

struct Expander<'a> {
    dockerfile: &'a Dockerfile,
    variables: Variables<'a>,
}

impl Expander<'_> {
    fn kind(&self, kind: &InstructionKind) -> Result<InstructionKind, SourceError> {
        Ok(match kind {
            InstructionKind::Add(add) => InstructionKind::Add(Add {
                copy: self.copy(&add.copy)?,
                checksum: self.option(&add.checksum)?,
                unpack: add.unpack,
            }),
            InstructionKind::Copy(copy) => InstructionKind::Copy(self.copy(copy)?),
            InstructionKind::Arg(args) => {
                let mut args = args.clone();
                for arg in &mut args {
                    arg.name = self.text(&arg.name, &arg.span)?;
                    arg.default =
                        arg.default.as_ref().map(|value| self.text(value, &arg.span)).transpose()?;
                }
                InstructionKind::Arg(args)
            }
            InstructionKind::Env(pairs) => InstructionKind::Env(self.pairs(pairs)?),
            InstructionKind::Label(pairs) => InstructionKind::Label(self.pairs(pairs)?),
            InstructionKind::Expose(ports) => {
                let mut words = Vec::new();
                for port in ports {
                    // A variable may hold several.
                    let expanded = expand_words(&port.text, self.variables);
                    let expanded = expanded.map_err(|error| self.fault(&error, &port.span))?;
                    words.extend(expanded.into_iter().map(|text| Word { text, span: port.span.clone() }));
                }
                InstructionKind::Expose(words)
            }
            InstructionKind::From(from) => InstructionKind::From(From {
                image: self.word(&from.image)?,
                platform: self.option(&from.platform)?,
                name: from.name.clone(),
            }),
            InstructionKind::Run(run) => {
                let mounts = run.mounts.iter().map(|mount| {
                    let word = Word { text: mount.text.clone(), span: mount.span.clone() };
                    parse_mount(word, Some(self.variables)).map_err(|fault| fault.at(&self.dockerfile.source))
                });
                InstructionKind::Run(Run { mounts: mounts.collect::<Result<_, _>>()?, ..run.clone() })
            }
            InstructionKind::StopSignal(word) => InstructionKind::StopSignal(self.word(word)?),
            InstructionKind::User(word) => InstructionKind::User(self.word(word)?),
            InstructionKind::Volume(words) => InstructionKind::Volume(self.words(words)?),
            InstructionKind::Workdir(word) => InstructionKind::Workdir(self.word(word)?),
            InstructionKind::Cmd(_)
            | InstructionKind::Entrypoint(_)
            | InstructionKind::Healthcheck(_)
            | InstructionKind::Maintainer(_)
            | InstructionKind::Onbuild(_)
            | InstructionKind::Shell(_) => kind.clone(),
        })
    }

    fn copy(&self, copy: &Copy) -> Result<Copy, SourceError> {
        let mut sources = Vec::new();
        for source in &copy.sources {
            sources.push(match source {
                CopySource::Path(word) => CopySource::Path(self.word(word)?),
                CopySource::Heredoc(heredoc) if heredoc.expand => {
                    let mut heredoc = heredoc.clone();
                    heredoc.raw = expand_text(&heredoc.raw, self.variables)
                        .map_err(|error| self.fault(&error, &heredoc.span))?;
                    CopySource::Heredoc(heredoc)
                }
                CopySource::Heredoc(heredoc) => CopySource::Heredoc(heredoc.clone()),
            });
        }
        Ok(Copy {
            sources,
            dest: self.word(&copy.dest)?,
            chown: self.option(&copy.chown)?,
            chmod: self.option(&copy.chmod)?,
            excludes: self.words(&copy.excludes)?,
            link: copy.link,
        })
    }

    fn pairs(&self, pairs: &[Pair]) -> Result<Vec<Pair>, SourceError> {
        let pair = |pair: &Pair| {
            Ok(Pair {
                key: self.text(&pair.key, &pair.span)?,
                value: self.text(&pair.value, &pair.span)?,
                span: pair.span.clone(),
            })
        };
        pairs.iter().map(pair).collect()
    }

    fn words(&self, words: &[Word]) -> Result<Vec<Word>, SourceError> {
        words.iter().map(|word| self.word(word)).collect()
    }

    fn option(&self, word: &Option<Word>) -> Result<Option<Word>, SourceError> {
        word.as_ref().map(|word| self.word(word)).transpose()
    }

    fn word(&self, word: &Word) -> Result<Word, SourceError> {
        Ok(Word { text: self.text(&word.text, &word.span)?, span: word.span.clone() })
    }

    fn text(&self, text: &str, span: &Range<usize>) -> Result<String, SourceError> {
        expand_word(text, self.variables).map_err(|error| self.fault(&error, span))
    }

    fn fault(&self, error: &ExpandError, span: &Range<usize>) -> SourceError {
        self.dockerfile.error(span, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "a" => Some("x y".to_owned()),
            "dir" => Some("/srv".to_owned()),
            "uid" => Some("1001".to_owned()),
            "empty" => Some(String::new()),
            _ => None,
        }
    }

    fn expanded(line: &str) -> Result<Instruction, String> {
        let dockerfile = Dockerfile::parse("Dockerfile", line).unwrap();
        dockerfile.expand(&dockerfile.instructions[0], &lookup).map_err(|error| error.to_string())
    }

    #[test]
    fn expands_what_docker_expands() {
        let InstructionKind::Env(pairs) = expanded(r#"ENV k="$a!" e='$a' f=\$a none=$none"#).unwrap().kind
        else {
            panic!()
        };
        let values: Vec<&str> = pairs.iter().map(|pair| pair.value.as_str()).collect();
        assert_eq!(values, ["x y!", "$a", "$a", ""]);
        let copy = expanded("COPY --chown=$uid --exclude=$dir/* $dir/a* <<E ${dir}/\n$a \"q\"\nE\n").unwrap();
        let InstructionKind::Copy(Copy { sources, dest, chown, excludes, .. }) = copy.kind else { panic!() };
        assert_eq!(dest.text, "/srv/");
        assert_eq!(chown.unwrap().text, "1001");
        assert_eq!(excludes[0].text, "/srv/*");
        assert!(matches!(&sources[0], CopySource::Path(word) if word.text == "/srv/a*"));
        assert!(matches!(&sources[1], CopySource::Heredoc(heredoc) if heredoc.raw == "x y \"q\"\n"));
        assert_eq!(copy.text, "COPY --chown=1001 --exclude=/srv/* /srv/a* <<E /srv/");
        let InstructionKind::Expose(ports) = expanded("EXPOSE $a 80").unwrap().kind else { panic!() };
        assert_eq!(ports.iter().map(|port| port.text.as_str()).collect::<Vec<_>>(), ["x", "y", "80"]);
    }

    #[test]
    fn leaves_the_shells_variables_alone() {
        for line in
            ["RUN echo $a", "CMD echo $a", "ENTRYPOINT [\"$a\"]", "SHELL [\"$a\"]", "ONBUILD ENV a=$a"]
        {
            let dockerfile = Dockerfile::parse("Dockerfile", line).unwrap();
            let before = &dockerfile.instructions[0];
            assert_eq!(&dockerfile.expand(before, &lookup).unwrap(), before);
        }
    }

    #[test]
    fn mounts_are_checked_when_their_variables_are_known() {
        let run = expanded("RUN --mount=type=cache,target=$dir/c,uid=$uid true").unwrap();
        let InstructionKind::Run(Run { mounts, .. }) = run.kind else { panic!() };
        assert_eq!(mounts[0].target, "/srv/c");
        assert!(
            matches!(&mounts[0].kind, crate::MountKind::Cache { id, uid: Some(1001), .. } if id == "/srv/c")
        );
        let error = expanded("RUN --mount=type=cache,target=/c,uid=$a true").unwrap_err();
        assert_eq!(error, "Dockerfile:1:5: mount option `uid` is a number, not `x y`");
    }

    #[test]
    fn errors_have_the_place_of_the_word() {
        let error = expanded("LABEL a=1 b=\"${none:?give it}\"").unwrap_err();
        assert_eq!(error, "Dockerfile:1:11: none: give it");
    }
}
