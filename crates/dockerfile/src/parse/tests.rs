use proptest::prelude::*;

use super::*;
use crate::instruction::*;

fn parsed(text: &str) -> Vec<Instruction> {
    Dockerfile::parse("Dockerfile", text).unwrap().instructions
}

fn one(text: &str) -> InstructionKind {
    let mut instructions = parsed(text);
    assert_eq!(instructions.len(), 1, "{instructions:?}");
    instructions.remove(0).kind
}

fn run(text: &str) -> Run {
    match one(text) {
        InstructionKind::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

fn copy(text: &str) -> Copy {
    match one(text) {
        InstructionKind::Copy(copy) => copy,
        InstructionKind::Add(add) => add.copy,
        other => panic!("{other:?}"),
    }
}

fn error(text: &str) -> String {
    let error = Dockerfile::parse("Dockerfile", text).unwrap_err();
    match error.help() {
        Some(help) => format!("{error} ({help})"),
        None => error.to_string(),
    }
}

fn texts(words: &[Word]) -> Vec<&str> {
    words.iter().map(|word| word.text.as_str()).collect()
}

fn shell(text: &str) -> String {
    match run(text).script() {
        Script::Shell(text) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn knows_lines_and_spans() {
    let text = "\u{feff}# a comment\n\nARG base_image\r\nFROM ${base_image}\n\n  run echo a \\\n    # within\n\n    && echo b\n";
    let instructions = parsed(text);
    let lines: Vec<_> = instructions.iter().map(|i| (i.line, i.kind.keyword(), i.text.as_str())).collect();
    assert_eq!(
        lines,
        [
            (3, "ARG", "ARG base_image"),
            (4, "FROM", "FROM ${base_image}"),
            (6, "RUN", "run echo a     && echo b")
        ]
    );
    assert_eq!(&text[instructions[0].span.clone()], "ARG base_image");
    assert_eq!(&text[instructions[2].span.clone()], "run echo a \\\n    # within\n\n    && echo b");
    let InstructionKind::From(from) = &instructions[1].kind else { panic!() };
    assert_eq!(&text[from.image.span.clone()], "${base_image}");
}

#[test]
fn spans_lead_through_continuations() {
    let text = "\\\nCOPY a \\\n  # why\n  b \\\n/c";
    let copy = copy(text);
    let CopySource::Path(second) = &copy.sources[1] else { panic!() };
    assert_eq!(&text[second.span.clone()], "b");
    assert_eq!(&text[copy.dest.span.clone()], "/c");
    // A word may itself be continued.
    let text = "WORKDIR /a\\\nb\n";
    let InstructionKind::Workdir(word) = one(text) else { panic!() };
    assert_eq!((word.text.as_str(), &text[word.span]), ("/ab", "/a\\\nb"));
}

#[test]
fn continuations_follow_the_escape_character() {
    assert_eq!(shell("RUN a \\  \n b"), "a  b");
    assert_eq!(parsed("RUN a \\\\\nRUN b").len(), 2);
    assert_eq!(shell("# escape=`\nRUN a `\n b\\"), "a  b\\");
    assert_eq!(shell("#ESCAPE = `  \n# syntax=docker/dockerfile:1\nRUN a\\`\nb"), "a\\b");
    // Behind anything else it is a comment.
    assert_eq!(shell("# hello\n# escape=`\nRUN a `\n"), "a `");
    assert_eq!(shell("\n# escape=`\nRUN a `\n"), "a `");
    assert_eq!(shell("RUN a \\"), "a");
    assert!(error("# escape=x\nRUN a").contains(":1:1: invalid escape character `x`"));
    assert!(error("# escape=`\n# escape=`\nRUN a").contains(":2:1: directive `escape` is given twice"));
}

#[test]
fn commands_have_two_forms() {
    assert_eq!(run(r#"RUN ["a", "b c\n"]"#).command, Command::Exec(vec!["a".into(), "b c\n".into()]));
    assert_eq!(run("RUN [\"a\", \\\n \"b\"]").command, Command::Exec(vec!["a".into(), "b".into()]));
    assert_eq!(run("RUN ['a']").command, Command::Shell("['a']".into()));
    assert_eq!(run("RUN [ -e /x ] && true").command, Command::Shell("[ -e /x ] && true".into()));
    assert_eq!(error("RUN [\"a\", 1]"), "Dockerfile:1:5: a JSON list may have strings only");
    assert_eq!(one("CMD"), InstructionKind::Cmd(Command::Shell(String::new())));
    assert_eq!(one("ENTRYPOINT []"), InstructionKind::Entrypoint(Command::Exec(vec![])));
    assert_eq!(error("RUN"), "Dockerfile:1:1: RUN needs a command");
    assert_eq!(error("RUN []"), "Dockerfile:1:1: RUN needs a command");
    assert!(error("SHELL bash -c").contains("SHELL takes a JSON list of strings"));
}

#[test]
fn heredocs_of_commands() {
    assert_eq!(shell("RUN <<EOF\necho a\n  echo $b\nEOF\n"), "echo a\n  echo $b\n");
    assert_eq!(shell("RUN <<-EOF\n\techo a\n\t\tb\n\tEOF\n"), "echo a\nb\n");
    assert_eq!(
        shell("RUN cat <<EOF > /x\nhi\n# not a comment\nEOF\n"),
        "cat <<EOF > /x\nhi\n# not a comment\nEOF"
    );
    assert_eq!(shell("RUN cat <<A <<'B'\na\nA\nb\nB"), "cat <<A <<'B'\na\nA\nb\nB");
    assert_eq!(shell("RUN 3<<EOF cat /dev/fd/3\na\nEOF\n"), "3<<EOF cat /dev/fd/3\na\nEOF");
    assert_eq!(shell("RUN echo $((1<<2))\n"), "echo $((1<<2))");
    assert_eq!(shell("RUN cat <<<hi\n"), "cat <<<hi");
    assert_eq!(
        run("RUN <<EOF\n#!/usr/bin/env python3\nprint()\nEOF\n").script(),
        Script::File { name: "EOF".into(), content: "#!/usr/bin/env python3\nprint()\n".into() }
    );
    let run = run("RUN --network=none <<'a b'\nRUN no\na b\n");
    assert_eq!((run.heredocs[0].name.as_str(), run.heredocs[0].expand), ("a b", false));
    assert_eq!(run.network, Some(Network::None));
    let text = "RUN <<EOF\na\nEOF\nUSER x\n";
    let instructions = parsed(text);
    assert_eq!(instructions[1].line, 4);
    assert_eq!(&text[instructions[0].span.clone()], "RUN <<EOF\na\nEOF");
    assert_eq!(
        error("FROM a\nRUN <<EOF && \\\n b\na\n"),
        "Dockerfile:2:5: here-document is not ended by a line `EOF`"
    );
}

#[test]
fn heredocs_of_files() {
    let copy = copy("COPY a <<x.txt <<-\"y.txt\" /dir/\n$one\nx.txt\n\ttwo\n\ty.txt\n");
    assert!(matches!(&copy.sources[0], CopySource::Path(word) if word.text == "a"));
    let CopySource::Heredoc(first) = &copy.sources[1] else { panic!() };
    assert_eq!((first.name.as_str(), first.expand, first.content()), ("x.txt", true, "$one\n".into()));
    let CopySource::Heredoc(second) = &copy.sources[2] else { panic!() };
    assert_eq!((second.name.as_str(), second.expand, second.content()), ("y.txt", false, "two\n".into()));
    assert_eq!(copy.dest.text, "/dir/");
    assert!(error("COPY a <<E\nE\n").contains("a here-document cannot be the destination"));
}

#[test]
fn names_and_values() {
    let InstructionKind::Env(pairs) = one("ENV a=1 b=\"x y\" c=a\\ b d='q=r' e=") else { panic!() };
    let pairs: Vec<_> = pairs.iter().map(|pair| (pair.key.as_str(), pair.value.as_str())).collect();
    assert_eq!(pairs, [("a", "1"), ("b", "\"x y\""), ("c", "a\\ b"), ("d", "'q=r'"), ("e", "")]);
    let InstructionKind::Env(pairs) = one("ENV a  x y = z") else { panic!() };
    assert_eq!((pairs[0].key.as_str(), pairs[0].value.as_str()), ("a", "x y = z"));
    let InstructionKind::Label(pairs) = one("LABEL \"a b\"=c \\\n d=e") else { panic!() };
    assert_eq!(pairs.len(), 2);
    let InstructionKind::Arg(args) = one("ARG a b=c d=") else { panic!() };
    let args: Vec<_> = args.iter().map(|arg| (arg.name.as_str(), arg.default.as_deref())).collect();
    assert_eq!(args, [("a", None), ("b", Some("c")), ("d", Some(""))]);
    assert_eq!(error("ENV a"), "Dockerfile:1:1: ENV needs a name and a value (written as name=value)");
    assert!(error("ENV a=1 b").starts_with("Dockerfile:1:9: no `=` in `b`"));
    assert_eq!(error("ENV =1"), "Dockerfile:1:5: ENV without a name before `=`");
    assert_eq!(error("ARG =1"), "Dockerfile:1:5: ARG without a name before `=`");
    assert_eq!(error("LABEL"), "Dockerfile:1:1: LABEL needs at least one name and value");
}

#[test]
fn copies() {
    let one = copy("COPY --chown=1000:app --chmod=0755 --link --exclude=*.md --exclude=a\\ b x y /d/");
    assert_eq!(one.chown.unwrap().text, "1000:app");
    assert_eq!(one.chmod.unwrap().text, "0755");
    assert!(one.link);
    assert_eq!(texts(&one.excludes), ["*.md", "a b"]);
    assert_eq!((one.sources.len(), one.dest.text.as_str()), (2, "/d/"));
    let json = copy("COPY [\"a b\", \"/c d\"]");
    assert!(matches!(&json.sources[0], CopySource::Path(word) if word.text == "a b"));
    assert_eq!(json.dest.text, "/c d");
    let InstructionKind::Add(add) =
        super::tests::one("ADD --checksum=sha256:aa --unpack=false https://x/y /z")
    else {
        panic!()
    };
    assert_eq!((add.checksum.unwrap().text.as_str(), add.unpack), ("sha256:aa", Some(false)));
    assert_eq!(
        error("COPY --from=build a b"),
        "Dockerfile:1:6: COPY --from is not supported (there is one stage only: copy from the context)"
    );
    assert!(error("COPY --parents a b").contains("COPY --parents is not supported"));
    assert!(error("ADD --keep-git-dir a b").contains("ADD --keep-git-dir is not supported"));
    assert_eq!(
        error("COPY --chwon=1 a b"),
        "Dockerfile:1:6: COPY has no flag `--chwon` (it has `--chown`, `--chmod`, `--exclude`, `--link`)"
    );
    assert_eq!(
        error("COPY --chow=1 a b"),
        "Dockerfile:1:6: COPY has no flag `--chow` (did you mean `--chown`?)"
    );
    assert!(error("COPY --chown a b").contains("flag `--chown` needs a value"));
    assert!(error("COPY --chown=1 --chown=2 a b").contains(":1:16: flag `--chown` is given twice"));
    assert!(error("COPY --link=x a b").contains("flag `--link` is true or false, not `x`"));
    assert!(error("COPY a").contains("COPY needs at least one source and a destination"));
    assert!(error("ADD [\"a\"]").contains("ADD needs at least one source and a destination"));
}

#[test]
fn mounts() {
    let run = run(
        "RUN --mount=type=cache,target=/c,id=x,sharing=locked,mode=0700,uid=1,gid=2 --mount=dst=/b,src=s,rw \
         --mount=type=tmpfs,destination=/t,size=1.5k --mount=type=secret,id=k,env=KEY,required \
         --mount=type=secret,target=/run/p make",
    );
    let kinds: Vec<MountKind> = run.mounts.iter().map(|mount| mount.kind.clone()).collect();
    assert_eq!(
        kinds,
        [
            MountKind::Cache {
                id: "x".into(),
                sharing: Sharing::Locked,
                read_only: false,
                mode: Some(0o700),
                uid: Some(1),
                gid: Some(2)
            },
            MountKind::Bind { source: "s".into(), read_only: false },
            MountKind::Tmpfs { size: Some(1536) },
            MountKind::Secret {
                id: "k".into(),
                env: Some("KEY".into()),
                required: true,
                mode: None,
                uid: None,
                gid: None
            },
            MountKind::Secret {
                id: "p".into(),
                env: None,
                required: false,
                mode: None,
                uid: None,
                gid: None
            },
        ]
    );
    assert_eq!(run.command, Command::Shell("make".into()));
    for (flags, expected) in [
        ("--mount=type=cache", "a mount needs `target`"),
        ("--mount=type=cache,target=/a,from=x", "mount option `from` is not supported"),
        ("--mount=type=ssh", "mounts of type `ssh` are not supported"),
        ("--mount=type=x,target=/a", "unknown mount type `x`"),
        ("--mount=type=bind,target=/a,mode=1", "a mount of type `bind` has no option `mode`"),
        ("--mount=type=cache,target=/a,mode=9", "mount option `mode` is an octal number, not `9`"),
        ("--mount=type=tmpfs,target=/a,size=x", "mount option `size` is a number of bytes"),
        ("--mount=type=secret", "a mount of a secret needs `id` or `target`"),
        ("--mount=type=cache,targt=/a", "a mount has no option `targt` (did you mean `target`?)"),
        ("--mount=type=cache,target", "mount option `target` needs a value"),
        ("--mount=type=cache,target=/a,ro=maybe", "mount option `ro` is true or false, not `maybe`"),
        ("--network=bridge", "unknown network `bridge` (it is `default`, `none` or `host`)"),
        ("--security=insecure", "RUN --security=insecure is not supported"),
        ("--device=gpu", "RUN --device is not supported"),
        ("--moutn=x", "RUN has no flag `--moutn` (it has `--mount`, `--network`)"),
    ] {
        let error = error(&format!("RUN {flags} true"));
        assert!(error.starts_with("Dockerfile:1:5: ") && error.contains(expected), "{flags}: {error}");
    }
}

#[test]
fn the_others() {
    assert_eq!(one("maintainer A <a@b>"), InstructionKind::Maintainer("A <a@b>".into()));
    assert_eq!(one("ONBUILD run a"), InstructionKind::Onbuild("run a".into()));
    assert_eq!(one("ONBUILD COPY <<E /x\na\nE"), InstructionKind::Onbuild("COPY <<E /x\na\nE".into()));
    assert!(error("ONBUILD FROM x").contains("ONBUILD cannot have `FROM`"));
    assert!(error("ONBUILD NOPE x").contains("unknown instruction `NOPE` after ONBUILD"));
    let InstructionKind::Expose(ports) = one("EXPOSE 80/tcp  443") else { panic!() };
    assert_eq!(texts(&ports), ["80/tcp", "443"]);
    let InstructionKind::Volume(volumes) = one("VOLUME [\"/a b\", \"/c\"]") else { panic!() };
    assert_eq!(texts(&volumes), ["/a b", "/c"]);
    let InstructionKind::Healthcheck(check) =
        one("HEALTHCHECK --interval=1m30s --retries=3 CMD curl -f http://x")
    else {
        panic!()
    };
    assert_eq!(check.interval, Some(std::time::Duration::from_secs(90)));
    assert_eq!(check.retries, Some(3));
    assert_eq!(check.command, Some(Command::Shell("curl -f http://x".into())));
    let InstructionKind::Healthcheck(check) = one("HEALTHCHECK none") else { panic!() };
    assert_eq!(check.command, None);
    for bad in ["HEALTHCHECK", "HEALTHCHECK CMD", "HEALTHCHECK NONE x", "HEALTHCHECK curl"] {
        assert!(error(bad).contains("HEALTHCHECK"), "{bad}");
    }
    assert!(error("HEALTHCHECK --interval=5 CMD a").contains("`5` is not a duration"));
    let InstructionKind::From(from) = one("FROM --platform=linux/amd64 a as b") else { panic!() };
    assert_eq!((from.image.text.as_str(), from.name.unwrap().text.as_str()), ("a", "b"));
    assert!(error("FROM a b").contains("FROM takes an image"));
    assert!(error("USER").contains("USER needs an argument"));
    assert!(error("WORKDIR --x /a").contains("WORKDIR has no flag `--x`"));
}

#[test]
fn complaints_point_at_the_place() {
    let error = Dockerfile::parse("b/run.Dockerfile", "FROM a\n\n  COPPY a \\\n b\n").unwrap_err();
    assert_eq!(error.to_string(), "b/run.Dockerfile:3:3: unknown instruction `COPPY`");
    assert_eq!(error.help(), Some("did you mean `COPY`?"));
    assert_eq!(error.source_line(), "  COPPY a \\");
    assert_eq!(&error.text()[error.span()], "COPPY");
    for empty in ["", "\n\n", "# only this\n", "\u{feff}", "\\\n"] {
        assert_eq!(super::tests::error(empty), "Dockerfile:1:1: the file has no instructions", "{empty:?}");
    }
    assert!(super::tests::error("\\").contains("the file has no instructions"));
}

#[test]
fn there_is_one_stage() {
    assert_eq!(
        error("ARG base_image=0\nFROM ${base_image}\nRUN a\n\nFROM b\nCOPY --from=0 /a ./b\n"),
        "Dockerfile:5:1: a second FROM: a Dockerfile of an image extension has one stage only"
    );
}

/// Lines that are likely to mean something.
fn dockerfile() -> impl Strategy<Value = String> {
    let keyword = proptest::sample::select(&KEYWORDS[..]);
    let rest = "([a-z/= $\\{}\"'<`,\\[\\]\\\\é\t#-]|EOF|--mount=type=|<<EOF|\\\\\n|\n|\r\n|:-){0,25}";
    let line = (keyword, rest).prop_map(|(keyword, rest)| format!("{keyword} {rest}\n"));
    let noise = prop_oneof![4 => line, 1 => Just("EOF\n".to_owned()), 1 => Just("# escape=`\n".to_owned())];
    proptest::collection::vec(noise, 0..6).prop_map(|lines| lines.concat())
}

fn check_spans(text: &str) -> Result<(), TestCaseError> {
    match Dockerfile::parse("Dockerfile", text) {
        Err(error) => {
            prop_assert!(text.get(error.span()).is_some(), "{error:?} {:?}", error.span());
            prop_assert!(!error.message().is_empty());
        }
        Ok(dockerfile) => {
            let mut end = 0;
            for instruction in &dockerfile.instructions {
                prop_assert!(text.get(instruction.span.clone()).is_some());
                prop_assert!(instruction.span.start >= end && instruction.span.end >= instruction.span.start);
                end = instruction.span.end;
                let line = crate::error::line_column(text, instruction.span.start).0;
                prop_assert!(instruction.line <= line);
                if let InstructionKind::Run(run) = &instruction.kind {
                    run.script();
                }
                if let Err(error) = dockerfile.expand(instruction, &|name| Some(name.to_owned())) {
                    prop_assert!(text.get(error.span()).is_some());
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn never_panics_and_spans_are_within(text in dockerfile()) {
        check_spans(&text)?;
    }

    #[test]
    fn any_text_will_do(text in any::<String>()) {
        check_spans(&text)?;
    }
}
