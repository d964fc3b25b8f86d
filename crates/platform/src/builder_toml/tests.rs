//! Builder configurations, good and bad.

use super::*;

const IMAGES: &str = "[build]\nimage = \"b\"\n[[run.images]]\nimage = \"r\"\n";

fn parse(text: &str) -> Checked<BuilderToml> {
    BuilderToml::parse(&Document::new("builder.toml", text))
}

fn good(text: &str) -> BuilderToml {
    parse(text).unwrap_or_else(|error| panic!("{}", error.render(false)))
}

fn entry(id: &str, version: Option<&str>, optional: bool, place: &str) -> GroupEntry {
    GroupEntry {
        id: id.into(),
        version: version.map(str::to_owned),
        optional,
        exec_env: Vec::new(),
        place: format!("builder.toml:{place}"),
    }
}

#[test]
fn all_keys() {
    let builder = good(
        r#"description = "all"
[[buildpacks]]
id = "a/b"
version = "1"
uri = "./b"
[[buildpacks]]
image = "x/y"
[[extensions]]
uri = "e.tgz"
[[order]]
[[order.group]]
id = "a/b"
version = "1"
optional = true
[[order-extensions]]
group = [{ id = "e" }]
[stack]
id = "s"
build-image = "build"
run-image = "run"
run-image-mirrors = ["ignored"]
[lifecycle]
version = "0.20.0"
[[run.images]]
image = "run"
mirrors = ["m1", "m2"]
[build]
image = "build"
[[build.env]]
name = "A"
value = "1"
[[build.env]]
name = "PATH"
value = "/x"
suffix = "append"
delim = ":"
[[targets]]
os = "linux"
arch = "arm64"
variant = "v8"
[[targets.distros]]
name = "ubuntu"
version = "24.04"
[[system.pre.buildpacks]]
id = "first"
[[system.post.buildpacks]]
id = "last"
optional = true
"#,
    );
    assert_eq!(builder.warnings, Vec::<String>::new());
    let locators: Vec<_> = builder.buildpacks.iter().map(|b| b.locator.as_str()).collect();
    assert_eq!(locators, ["./b", "docker://x/y"]);
    assert_eq!(builder.buildpacks[0].place, "builder.toml:2:1");
    assert_eq!(builder.extensions[0].locator, "e.tgz");
    assert_eq!(builder.order, [[entry("a/b", Some("1"), true, "11:1")]]);
    assert_eq!(builder.order_extensions, [[entry("e", None, false, "16:10")]]);
    assert_eq!(builder.stack_id.as_deref(), Some("s"));
    assert_eq!(builder.build_image, "build");
    let run = RunImageEntry { image: "run".into(), mirrors: vec!["m1".into(), "m2".into()] };
    assert_eq!(builder.run_images, [run]);
    assert_eq!(builder.lifecycle, Some(LifecycleSource::Version("0.20.0".into())));
    let files: Vec<_> = builder.build_env.iter().map(|(f, v)| (f.as_str(), v.as_str())).collect();
    assert_eq!(files, [("A", "1"), ("PATH.append", "/x"), ("PATH.delim", ":")]);
    assert_eq!(builder.targets[0].platform.to_string(), "linux/arm64/v8");
    assert_eq!(builder.targets[0].distros, [("ubuntu".to_owned(), "24.04".to_owned())]);
    assert_eq!(builder.system_pre, [entry("first", None, false, "44:1")]);
    assert_eq!(builder.system_post, [entry("last", None, true, "46:1")]);
}

#[test]
fn a_stack_alone_is_enough() {
    let builder = good(
        "[stack]\nid = \"s\"\nbuild-image = \"b\"\nrun-image = \"r\"\nrun-image-mirrors = [\"m\"]\n[lifecycle]\nuri = \"l.tgz\"\n",
    );
    assert_eq!(builder.build_image, "b");
    assert_eq!(builder.run_images, [RunImageEntry { image: "r".into(), mirrors: vec!["m".into()] }]);
    assert_eq!(builder.lifecycle, Some(LifecycleSource::Uri("l.tgz".into())));
    assert_eq!(builder.warnings, ["builder.toml: the builder has no `order`"]);
}

#[test]
fn odd_variables_warn() {
    let env = "[[build.env]]\nname = \"A\"\nvalue = \"\"\nexec-env = [\"test\"]\n[[build.env]]\nname = \"A\"\nvalue = \"2\"\n";
    let builder = good(&format!("order = [{{group=[{{id=\"a\"}}]}}]\n{IMAGES}{env}"));
    assert_eq!(
        builder.warnings,
        [
            "builder.toml:9:12: `exec-env` is ignored: a builder's variables are for all",
            "builder.toml:7:8: the value of `A` is empty",
            "builder.toml:11:8: `A` is set again, to another value",
        ]
    );
    assert_eq!(builder.build_env["A"], "2");
}

#[test]
fn errors_have_a_place() {
    let with = |text: &str| parse(&format!("{IMAGES}{text}")).expect_err(text).to_string();
    let cases = [
        (parse("").unwrap_err().to_string(), "no build image"),
        (parse("[build]\nimage = \"b\"\n").unwrap_err().to_string(), "no run image"),
        (with("[[buildpack]]\nuri = \"x\"\n"), "5:3: unknown key `buildpack`"),
        (with("[[buildpacks]]\nurl = \"x\"\n"), "6:1: unknown key `buildpacks.url`"),
        (with("[[buildpacks]]\nid = \"x\"\n"), "5:1: the buildpack must have a `uri` or an `image`"),
        (
            with("[[extensions]]\nuri = \"x\"\nimage = \"y\"\n"),
            "7:9: the extension has both `uri` and `image`",
        ),
        (with("[[order]]\n"), "5:1: the `group` is empty"),
        (with("[[order]]\n[[order.group]]\nversion = \"1\"\n"), "6:1: missing key `id`"),
        (
            with("[stack]\nbuild-image = \"o\"\n"),
            "6:15: `stack.build-image` is not the same as `build.image`",
        ),
        (
            with("[stack]\nrun-image = \"o\"\n"),
            "6:13: `stack.run-image` is not the same as the first of `run.images`",
        ),
        (with("[lifecycle]\n"), "5:1: `lifecycle` must have a `uri` or a `version`"),
        (
            with("[lifecycle]\nuri = \"x\"\nversion = \"1\"\n"),
            "7:11: `lifecycle` has both `uri` and `version`",
        ),
        (with("[lifecycle]\nversion = \"../1\"\n"), "6:11: expected a version such as `0.20.0`"),
        (
            with("[[build.env]]\nname = \"A\"\nvalue = \"1\"\nsuffix = \"apend\"\n"),
            "8:10: unknown suffix `apend`",
        ),
        (
            with("[[build.env]]\nname = \"A\"\nvalue = \"1\"\nsuffix = \"append\"\n"),
            "6:8: `A` is appended or prepended to, and has no `delim`",
        ),
        (
            with("[[build.env]]\nname = \"../A\"\nvalue = \"1\"\n"),
            "6:8: invalid variable: the name must not contain `/` or `=`",
        ),
        (with("[[targets]]\narch = \"amd64\"\n"), "5:1: the target must have an `os`"),
        (
            with("[[targets]]\nos = \"windows\"\n"),
            "6:6: unsupported operating system `windows`, expected `linux`",
        ),
    ];
    for (error, expected) in cases {
        assert!(
            error.starts_with("builder.toml:") && error.contains(expected),
            "got {error}\nwant {expected}"
        );
    }
}
