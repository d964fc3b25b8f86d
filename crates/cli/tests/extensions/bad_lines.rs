//! Each instruction with an error, in the Dockerfile of either image: one error that names the file and the line.

use testkit::machine::{Call, Output};
use testkit::{Base, Builder, Buildpack, Machine};

use crate::support::*;

/// What a Dockerfile begins with; the next line is the third.
const HEAD: &str = "ARG base_image\nFROM ${base_image}\n";

/// An extension with these files below `generate/`.
fn extension(files: &[(&str, &str)]) -> Buildpack {
    files.iter().fold(Buildpack::extension("test/ext", "1.0.0"), |extension, (name, text)| {
        extension.file(&format!("generate/{name}"), 0o644, *text)
    })
}

/// A build with [`web`] and an extension.
fn build_with_extension(machine: &Machine, extension: Buildpack) -> Call {
    let id = extension.id().to_owned();
    let with = Builder::of(Base::Small, &[web()]).extension(extension).extension_group(&[&id]);
    build(machine, &builder(machine, &with))
}

/// Fails with one error that has all of `words`.
fn fails_clearly(machine: &Machine, extension: Buildpack, words: &[&str]) -> Output {
    let output = build_with_extension(machine, extension).fails();
    let errors = output.stderr.lines().filter(|line| line.starts_with("error:")).count();
    assert_eq!(errors, 1, "one clear error\n{output}");
    for word in words {
        output.says(word);
    }
    output.never_says("panicked");
    assert!(machine.temporary_files().is_empty(), "{:?}", machine.temporary_files());
    output
}

/// `run.Dockerfile` with these lines fails at the line given.
fn fails_at(machine: &Machine, line: usize, lines: &str, words: &[&str]) {
    for kind in ["run", "build"] {
        let file = format!("{kind}.Dockerfile");
        let text = format!("{HEAD}{lines}\n");
        let context = ("context/there", "here\n");
        let output = fails_clearly(machine, extension(&[(&file, &text), context]), words);
        let place = format!("{file}:{line}");
        let spelled = format!("{file} line {line}");
        let said = output.all();
        assert!(said.contains(&place) || said.contains(&spelled), "expected {place} in\n{output}");
    }
}

#[test]
fn variables_that_double() {
    let Some(machine) = machine() else { return };
    for keyword in ["ARG", "ENV"] {
        let doubled = |number: u32| format!("\n{keyword} a{number}=${{a{0}}}${{a{0}}}", number - 1);
        let lines =
            format!("{keyword} a0=0123456789{}\nENV end=1", (1..=40).map(doubled).collect::<String>());
        fails_at(&machine, 17, &lines, &["`a14` has 163845 bytes, expected at most 131072"]);
    }
    let lines = format!("ARG a={}\nLABEL b=\"{}\"", "x".repeat(100_000), "$a".repeat(50));
    fails_at(&machine, 4, &lines, &["come to too much, expected at most 4194304 bytes"]);
}

#[test]
fn an_image_that_nobody_could_read() {
    let Some(machine) = machine() else { return };
    let long = "x".repeat(1_000_000);
    let labels: String = (0..5).map(|label| format!("LABEL a{label}={long}\n")).collect();
    let text = format!("{HEAD}{labels}");
    let words =
        ["after the extension test/ext the run image's configuration has 50", "expected at most 4194304"];
    fails_clearly(&machine, extension(&[("run.Dockerfile", &text)]), &words);
    // The build image is none that anybody reads afterwards.
    build_with_extension(&machine, extension(&[("build.Dockerfile", &text)])).ok();
}

#[test]
fn dockerfiles_with_errors() {
    let Some(machine) = machine() else { return };
    let fails = |line, lines: &str, words: &[&str]| fails_at(&machine, line, lines, words);
    fails(3, "RUM true", &["RUM"]);
    fails(4, "RUN true\nFROM other", &["FROM"]);
    fails(3, "COPY", &["COPY"]);
    fails(3, "COPY missing /etc/", &["missing"]);
    fails(3, "COPY ../there /etc/", &["../there"]);
    fails(3, "COPY --from=other /x /y", &["--from"]);
    fails(3, "COPY --chown=nobody-of-this-name there /etc/", &["nobody-of-this-name"]);
    fails(3, "ADD --checksum=sha256:12 http://127.0.0.1:1/x /x", &["sha256:12"]);
    fails(3, "ADD http://127.0.0.1:1/x /x", &["127.0.0.1:1"]);
    fails(3, "ENV A=${B?is not set}", &["is not set"]);
    fails(4, "USER nobody-of-this-name\nRUN true", &["nobody-of-this-name"]);
    fails(3, "RUN --mount=type=whatever,target=/x true", &["whatever"]);
    fails(3, "RUN --mount=type=secret,id=absent,required=true cat /run/secrets/absent", &["absent"]);
    fails(3, "RUN [\"/no/such/program\"]", &["/no/such/program"]);
    fails(3, "RUN <<END\necho no end", &["END"]);
    for folder in ["/layers", "/workspace", "/platform", "/cnb"] {
        fails(4, &format!("USER 0:0\nRUN mkdir -p {folder} && echo x > {folder}/file"), &[folder]);
        fails(4, &format!("USER 0:0\nCOPY there {folder}/there"), &[folder]);
    }
}

#[test]
fn the_beginning_is_prescribed() {
    let Some(machine) = machine() else { return };
    let fails = |files: &[(&str, &str)], words: &[&str]| fails_clearly(&machine, extension(files), words);
    fails(&[("build.Dockerfile", "FROM ${base_image}\nRUN true\n")], &["build.Dockerfile", "base_image"]);
    fails(
        &[("build.Dockerfile", "ARG base_image\nFROM other\nRUN true\n")],
        &["build.Dockerfile", "base_image"],
    );
    fails(&[("run.Dockerfile", "RUN true\n")], &["run.Dockerfile", "FROM"]);
    fails(&[("run.Dockerfile", "")], &["run.Dockerfile"]);
    let dockerfile = ("run.Dockerfile", "ARG base_image\nFROM ${base_image}\nCOPY a /a\n");
    let contexts = [("context/a", ""), ("context.run/a", "")];
    fails(&[dockerfile, contexts[0], contexts[1]], &["test/ext", "context", "context.run"]);
    fails(
        &[dockerfile, ("extend-config.toml", "[[run.args]]\nnam = \"x\"\n")],
        &["extend-config.toml", "name"],
    );
}

#[test]
fn the_user_must_not_be_root_in_the_end() {
    let Some(machine) = machine() else { return };
    let text = format!("{HEAD}RUN true\nUSER nobody-of-this-name\nLABEL a=b\n");
    fails_clearly(
        &machine,
        extension(&[("run.Dockerfile", &text)]),
        &["run.Dockerfile:4", "nobody-of-this-name"],
    );
    for user in ["root", "0", "0:0", "root:cnb"] {
        let text = format!("{HEAD}USER {user}\nRUN echo x > /etc/x\n");
        fails_clearly(&machine, extension(&[("run.Dockerfile", &text)]), &["root", "test/ext"]);
    }
}
