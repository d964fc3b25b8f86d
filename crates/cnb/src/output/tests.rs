//! What buildpacks and extensions write, read.

use super::*;

fn buildpack() -> GroupElement {
    GroupElement { id: "a".into(), version: "1".into(), homepage: "h".into(), ..GroupElement::default() }
}

fn launch(minor: u32, text: &str) -> Result<LaunchToml, ParseError> {
    LaunchToml::parse("launch.toml", text, ApiVersion::new(0, minor), &buildpack())
}

#[test]
fn old_commands_are_texts_for_a_shell() {
    let text = "[[processes]]\ntype='web'\ncommand='run $X'\nargs=['a']\nworking-dir='/w'\ndefault=true\n";
    let process = &launch(8, text).unwrap().processes[0];
    assert_eq!(process.command, ["run $X"]);
    assert!(!process.direct && process.is_default);
    assert_eq!((process.working_dir.as_str(), process.buildpack_id.as_str()), ("/w", "a"));
    let old = launch(7, text).unwrap();
    assert_eq!((old.processes[0].working_dir.as_str(), old.warnings.len()), ("", 1));
    let direct = launch(8, "[[processes]]\ntype='web'\ncommand='c'\ndirect=true\n").unwrap();
    assert!(direct.processes[0].direct);
}

#[test]
fn new_commands_are_lists_and_direct() {
    let process = &launch(9, "[[processes]]\ntype='web'\ncommand=['run', '-x']\n").unwrap().processes[0];
    assert_eq!(process.command, ["run", "-x"]);
    assert!(process.direct);
    assert_eq!(process.args, None);
}

#[test]
fn what_a_process_can_not_have_is_refused_with_its_place() {
    for (minor, text, expected) in [
        (
            9,
            "[[processes]]\ntype='w'\ncommand='x'\n",
            "1:1: process 'w': the command is string, buildpack API 0.9 expects an array of strings",
        ),
        (
            8,
            "[[processes]]\ntype='w'\ncommand=['x']\n",
            "1:1: process 'w': the command is array, buildpack API 0.8 expects a string",
        ),
        (9, "[[processes]]\ntype='w'\n", "1:1: process 'w': missing field `command`"),
        (9, "[[processes]]\ntype='w'\ncommand=[1]\n", "1:1: process 'w': the command has integer in it"),
        (
            9,
            "[[processes]]\ntype='w'\ncommand=['x']\ndirect=false\n",
            "1:1: process 'w' has the key 'direct'",
        ),
        (9, "[[processes]]\ntype='a/b'\ncommand=['x']\n", "1:1: process type 'a/b' is empty or has"),
        (
            9,
            "[[processes]]\ntype='a'\ncommand=['x']\ndefault=true\n[[processes]]\ntype='b'\ncommand=['x']\ndefault=true\n",
            "5:1: more than one process is the default",
        ),
        (9, "[[bom]]\nname='n'\nversion='1'\n", " bom entry 'n' has the key 'version'"),
    ] {
        let error = launch(minor, text).unwrap_err().to_string();
        assert!(error.strip_prefix("launch.toml:").unwrap().starts_with(expected), "{error}");
    }
}

#[test]
fn names_and_texts_that_nobody_could_use_are_refused() {
    let process = |tail: &str| format!("[[processes]]\ntype=\"w\"\ncommand=['x']\n{tail}\n");
    let long = format!("[[processes]]\ntype='{}'\ncommand=['x']\n", "w".repeat(256));
    let mut cases: Vec<(String, String)> =
        ["", ".", "..", "a\\nb", "a\\u0000", "\\u001b[31m", "a\\u009b", "a\\u007f"]
            .map(|name| {
                let text = format!("[[processes]]\ntype=\"{name}\"\ncommand=['x']\n");
                (text, "1:1: process type '".to_owned())
            })
            .into();
    for (text, expected) in [
        (
            long.as_str(),
            "1:1: process type 'wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww…' has 256 bytes, expected at most 255",
        ),
        (
            "[[processes]]\ntype='w'\ncommand=[\"a\\u0000\"]\n",
            "1:1: process 'w': the command 'a\\0' has a zero byte",
        ),
        (&process("args=[\"\\u0000\"]"), "1:1: process 'w': the argument '\\0' has a zero byte"),
        (
            &process("working-dir=\"/\\u0000\""),
            "1:1: process 'w': the working directory '/\\0' has a zero byte",
        ),
        (&process("exec-env=[\"a\\n\"]"), "1:1: process 'w': the execution environment 'a\\n' has a control"),
        ("[[labels]]\nkey=\"a\\u001b\"\nvalue=''\n", " label 'a\\u{1b}' has a control character"),
        ("[[labels]]\nkey='a'\nvalue=\"\\u0000\"\n", " label 'a': the value '\\0' has a zero byte"),
        ("[[slices]]\npaths=[\"a\\u0000\"]\n", " slice: the path 'a\\0' has a zero byte"),
    ] {
        cases.push((text.to_owned(), expected.to_owned()));
    }
    for (text, expected) in cases {
        let error = launch(9, &text).unwrap_err().to_string();
        assert!(error.strip_prefix("launch.toml:").unwrap().starts_with(&expected), "{error}");
        assert!(!error.contains(char::is_control), "{error:?}");
    }
    let fine =
        "[[processes]]\ntype='Web App_1.x-é'\ncommand=[\"a\\nb\"]\n[[labels]]\nkey='k'\nvalue=\"a\\nb\"\n";
    assert!(launch(9, fine).is_ok());
}

#[test]
fn the_rest_of_launch_toml_is_read() {
    let text = "[[slices]]\npaths=['a/*']\n[[slices]]\n[[labels]]\nkey='k'\nvalue='v'\n[[bom]]\nname='n'\n[bom.metadata]\nx=1\n";
    let out = launch(9, text).unwrap();
    assert_eq!((out.slices[0].paths().len(), out.slices[1].paths.as_ref()), (1, None));
    assert_eq!(out.labels, [Label { key: "k".into(), value: "v".into() }]);
    assert_eq!(
        legacy_sbom(&out.bom),
        "[{\"name\":\"n\",\"metadata\":{\"x\":1},\"buildpack\":{\"id\":\"a\",\"version\":\"1\"}}]\n"
    );
    assert_eq!(legacy_sbom(&[]), "null\n");
}

#[test]
fn only_what_was_asked_for_can_be_unmet() {
    let plan = BuildpackPlan { entries: vec![Require { name: "node".into(), ..Require::default() }] };
    let parse = |text: &str| BuildToml::parse("build.toml", text, &plan, &buildpack());
    assert_eq!(parse("[[unmet]]\nname='node'\n").unwrap().unmet, [Unmet { name: "node".into() }]);
    let error = parse("\n[[unmet]]\nname='x'\n").unwrap_err();
    assert_eq!(error.to_string(), "build.toml:2:1: unmet 'x' is nothing that the buildpack was asked for");
    assert!(parse("[[unmet]]\n").is_err());
}

#[test]
fn sbom_files_are_known_by_their_ending() {
    assert_eq!(SbomFormat::of_file("layer.sbom.cdx.json"), Some(SbomFormat::CycloneDx));
    assert_eq!(SbomFormat::of_file("a.b.sbom.spdx.json"), Some(SbomFormat::Spdx));
    assert_eq!(SbomFormat::of_file("sbom.cdx.json"), None);
    assert_eq!(SbomFormat::of_file("layer.sbom.x.json"), None);
    let declared = ["application/SPDX+json; version=2.3".to_owned()];
    assert!(SbomFormat::Spdx.is_in(&declared) && !SbomFormat::Syft.is_in(&declared));
}

#[test]
fn extend_config_is_read() {
    let text = "[[build.args]]\nname='A'\nvalue='1'\n[[run.args]]\nname='B'\n";
    let config = ExtendConfig::parse("extend-config.toml", text).unwrap();
    assert_eq!(config.build.args[0], BuildArg { name: "A".into(), value: "1".into() });
    assert_eq!(config.run.args[0].value, "");
}

#[test]
fn arguments_and_packages_of_both_dockerfiles_are_read() {
    let config = ExtendConfig::parse(
        "extend-config.toml",
        "[build]\npackages=['gcc']\n[[build.args]]\nname='a'\nvalue='1'\n[[run.args]]\nname='b'\n",
    )
    .unwrap();
    assert_eq!(config.build.packages, ["gcc"]);
    assert_eq!(config.build.args, [BuildArg { name: "a".into(), value: "1".into() }]);
    assert_eq!(config.run.args, [BuildArg { name: "b".into(), value: String::new() }]);
    assert_eq!(ExtendConfig::parse("", "").unwrap(), ExtendConfig::default());
}

#[test]
fn arguments_of_the_lifecycle_are_not_for_extensions() {
    for (text, expected) in [
        ("[[build.args]]\nname='a'\n[[build.args]]\nname='build_id'\n", "x:3:1: the argument 'build_id' is"),
        ("[[run.args]]\nname='user_id'\n", "x:1:1: the argument 'user_id' is"),
        ("[[run.args]]\nname=''\n", "x:1:1: an argument needs a name"),
        ("[[run.args]]\nname='a=b'\n", "x:1:1: the argument 'a=b' has a '='"),
        ("[[run.args]]\nname=\"a\\n\"\n", "x:1:1: the argument 'a\\n' has a '='"),
        (
            "[[run.args]]\nname='a'\nvalue=\"\\u0000\"\n",
            "x:1:1: the value of the argument 'a' has a zero byte",
        ),
        ("[run]\nargs='a'\n", "x:2:6: invalid type"),
    ] {
        let error = ExtendConfig::parse("x", text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}
