//! Descriptors, good and bad.

use super::*;

fn parse(text: &str) -> Result<Project, DocumentError> {
    Project::parse(&Document::new("project.toml", text))
}

fn good(text: &str) -> Project {
    parse(text).unwrap_or_else(|error| panic!("{}", error.render(false)))
}

fn bad(text: &str) -> String {
    parse(text).expect_err("should be refused").to_string()
}

fn locator(text: &str) -> Buildpack {
    Buildpack { source: BuildpackSource::Locator(text.to_owned()), exec_env: Vec::new() }
}

#[test]
fn schema_0_1() {
    let project = good(
        r#"
        [_]
        schema-version = "0.1"
        [project]
        id = "com.example.app"
        name = "App"
        version = "1.2.3"
        source-url = "https://example.com/app"
        authors = ["A"]
        [[project.licenses]]
        type = "MIT"
        [build]
        exclude = ["*.log"]
        builder = "b/c"
        [[build.buildpacks]]
        id = "a/b"
        version = "1"
        [[build.buildpacks]]
        uri = "docker://x"
        [[build.env]]
        name = "A"
        value = "1"
        [metadata]
        anything = 1
        "#,
    );
    assert_eq!(project.warnings, Vec::<String>::new());
    assert_eq!(project.name.as_deref(), Some("App"));
    assert_eq!(project.builder.as_deref(), Some("b/c"));
    assert_eq!(project.group, [locator("a/b@1"), locator("docker://x")]);
    assert_eq!(project.env, [EnvVar { name: "A".into(), value: "1".into(), exec_env: Vec::new() }]);
    assert!(!project.filter.keep(Path::new("x.log"), false));
    assert_eq!(
        project.source_metadata().unwrap().to_string(),
        r#"{"type":"project","version":{"declared":"1.2.3"},"metadata":{"url":"https://example.com/app"}}"#
    );
}

#[test]
fn schema_0_2() {
    let project = good(
        r#"
        [_]
        schema-version = "0.2"
        version = "2"
        [[_.licenses]]
        uri = "https://example.com/license"
        [_.metadata]
        cdn = "x"
        [com.example]
        mine = true
        [io.buildpacks]
        include = ["*.go"]
        [[io.buildpacks.group]]
        id = "in/line"
        [io.buildpacks.group.script]
        api = "0.10"
        inline = "echo hi"
        [[io.buildpacks.pre.group]]
        uri = "./first"
        [[io.buildpacks.post.group]]
        id = "last"
        [[io.buildpacks.build.env]]
        name = "B"
        value = ""
        "#,
    );
    assert_eq!(project.warnings, Vec::<String>::new());
    let inline = InlineBuildpack {
        id: "in/line".into(),
        version: "0.0.0".into(),
        api: "0.10".into(),
        shell: "/bin/sh".into(),
        script: "echo hi".into(),
    };
    assert_eq!(project.group[0].source, BuildpackSource::Inline(inline));
    assert_eq!((project.pre, project.post), (vec![locator("./first")], vec![locator("last")]));
    assert_eq!(project.env[0].value, "");
    assert_eq!(project.version.as_deref(), Some("2"));
}

#[test]
fn schema_0_2_takes_the_old_spelling_of_env() {
    let old = "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.env.build]]\nname = \"A\"\nvalue = \"1\"\n";
    assert_eq!(good(old).env[0].name, "A");
    let both = format!("{old}[[io.buildpacks.build.env]]\nname = \"B\"\nvalue = \"2\"\n");
    assert_eq!(good(&both).env.len(), 1);
    assert_eq!(good(&both).env[0].name, "B");
}

const EXEC_ENV: &str = r#"
    [[io.buildpacks.group]]
    id = "always"
    [[io.buildpacks.group]]
    id = "tests"
    exec-env = ["test", "development"]
    [[io.buildpacks.post.group]]
    id = "star"
    exec-env = ["*"]
    [[io.buildpacks.build.env]]
    name = "T"
    value = "1"
    exec-env = ["test"]
"#;

#[test]
fn schema_0_3_filters_by_exec_env() {
    let project = good(&format!("[_]\nschema-version = \"0.3\"\n{EXEC_ENV}"));
    assert!(project.warnings.is_empty());
    let of = |exec_env: &str| {
        let mut project = project.clone();
        project.select_exec_env(exec_env);
        (project.group.len(), project.post.len(), project.env.len())
    };
    assert_eq!(of("production"), (1, 1, 0));
    assert_eq!(of("test"), (2, 1, 1));
    assert_eq!(of("development"), (2, 1, 0));
}

#[test]
fn exec_env_before_schema_0_3_is_ignored_with_a_warning() {
    let mut project = good(&format!("[_]\nschema-version = \"0.2\"\n{EXEC_ENV}"));
    project.select_exec_env("production");
    assert_eq!((project.group.len(), project.env.len(), project.warnings.len()), (2, 1, 3));
    assert_eq!(
        project.warnings[0],
        "project.toml:8:16: `exec-env` is ignored: it needs `schema-version = \"0.3\"`"
    );
}

#[test]
fn unknown_keys_warn_with_their_place() {
    let project = good(
        "[_]\nschema-version = \"0.2\"\nnmae = \"x\"\n[io.buildpacks]\nexcludes = []\n[build]\nbuilder = \"x\"\n",
    );
    assert_eq!(
        project.warnings,
        [
            "project.toml:3:1: `_.nmae` is ignored: unknown key",
            "project.toml:5:1: `io.buildpacks.excludes` is ignored: unknown key",
            "project.toml:6:2: `build` is ignored: belongs to schema 0.1: use `[_]` and `[io.buildpacks]`",
        ]
    );
}

#[test]
fn without_a_schema_version_it_is_0_1_with_a_warning() {
    let project = good("[build]\nbuilder = \"x\"\nbulider = \"y\"\n[io.buildpacks]\nbuilder = \"z\"\n");
    assert_eq!(project.builder.as_deref(), Some("x"));
    assert_eq!(
        project.warnings,
        [
            "project.toml: no `schema-version` in `[_]`, reading it as schema 0.1",
            "project.toml:3:1: `build.bulider` is ignored: unknown key",
            "project.toml:4:2: `io` is ignored: needs `schema-version = \"0.2\"` in `[_]`",
        ]
    );
    assert!(good("").group.is_empty());
}

#[test]
fn errors_have_a_place() {
    let v2 = |text: &str| bad(&format!("[_]\nschema-version = \"0.2\"\n{text}"));
    let group = |text: &str| v2(&format!("[[io.buildpacks.group]]\n{text}"));
    let cases = [
        (bad("[_]\nschema-version = \"9.9\"\n"), "2:18: unsupported schema version `9.9`"),
        (bad("[_]\nschema-version = 1\n"), "2:18: `schema-version` must be a string"),
        (bad("[_\n"), "1:3: unclosed table, expected `]`"),
        (
            v2("[io.buildpacks]\ninclude = [\"a\"]\nexclude = [\"b\"]\n"),
            "5:11: `include` and `exclude` are both there",
        ),
        (v2("[io.buildpacks]\nexclude = [\"a\", \"x{y\"]\n"), "4:17: invalid pattern `x{y`: "),
        (v2("[io.buildpacks]\nbuilder = 3\n"), "4:11: invalid type: integer `3`, expected a string"),
        (v2("[io.buildpacks]\nbuilder = \" \"\n"), "4:11: `builder` must not be empty"),
        (group("uri = \"x\"\nversion = \"1\"\n"), "5:11: a buildpack cannot have both `uri` and `version`"),
        (group("exec-env = []\n"), "3:1: a buildpack must have an `id` or a `uri`"),
        (
            group("id = \"a\"\nscript = {api = \"0.1\"}\n"),
            "5:10: the `script` of a buildpack must have `inline`",
        ),
        (
            group("id = \"a\"\nscript = {inline = \"\"}\n"),
            "5:10: the `script` of a buildpack must have `api`",
        ),
        (group("script = {inline = \"\"}\n"), "3:1: a buildpack with a `script` must have an `id`"),
        (
            group("uri = \"x\"\nscript = {inline = \"\"}\n"),
            "4:7: a buildpack cannot have both `uri` and `script`",
        ),
        (v2("[[io.buildpacks.build.env]]\nname = \"A\"\n"), "3:1: missing key `value`"),
        (
            v2("[[io.buildpacks.build.env]]\nname = \"A=B\"\nvalue = \"\"\n"),
            "4:8: invalid variable: the name must not contain `/` or `=`",
        ),
        (v2("[[_.licenses]]\n"), "3:1: a licence must have a `type` or a `uri`"),
    ];
    for (error, expected) in cases {
        assert!(error.starts_with(&format!("project.toml:{expected}")), "got {error}, expected {expected}");
    }
}

#[test]
fn an_error_is_shown_with_its_line() {
    let text = "[_]\nschema-version = \"0.4\"\n";
    assert_eq!(
        parse(text).unwrap_err().render(false),
        "error: unsupported schema version `0.4`\n \
         --> project.toml:2:18\n  |\n2 | schema-version = \"0.4\"\n  |                  ^^^^^\n  |\n  \
         = help: supported are 0.1, 0.2, 0.3"
    );
}

#[test]
fn a_missing_file_is_an_error_only_when_it_was_asked_for() {
    let app = tempfile::tempdir().unwrap();
    assert!(Project::load(app.path(), None).unwrap().group.is_empty());
    let error = Project::load(app.path(), Some(&app.path().join("other.toml"))).unwrap_err().to_string();
    assert!(error.contains("other.toml"), "{error}");
    fs_err::write(app.path().join(FILE_NAME), "[build]\nbuilder = \"x\"\n").unwrap();
    let project = Project::load(app.path(), None).unwrap();
    assert_eq!((project.builder.as_deref(), project.folder()), (Some("x"), app.path()));
}

proptest::proptest! {
    #[test]
    fn never_panics(text in "(\\[|\\]|_|io|buildpacks|group|=|\"|\\.|\n|schema-version|0\\.2|exec-env|é| )*") {
        if let Err(error) = parse(&text) {
            error.render(false);
        }
    }
}
