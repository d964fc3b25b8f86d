//! What is said of a fault.

use testkit::{Base, Builder, Buildpack, Layout};

use crate::fails_with;
use crate::support::*;

#[test]
fn arguments_that_cannot_be_used() {
    let Some(machine) = machine() else { return };
    let builder = builder_of(&machine, &[web()]);
    for (arguments, said) in [
        (vec!["--creation-time", "soon"], "invalid creation time `soon`"),
        (vec!["--compression", "rar"], "invalid compression `rar`"),
        (vec!["--platform", "a/b/c/d"], "invalid platform `a/b/c/d`"),
        (vec!["--pull-policy", "perhaps"], "invalid pull policy `perhaps`"),
        (vec!["--volume", "x"], "invalid volume `x`"),
        (vec!["--cache", "x"], "invalid cache `x`"),
        (vec!["--cache-image", "UPPER"], "UPPER"),
        (vec!["--workspace", "a/b"], "invalid workspace `a/b`"),
        (vec!["--exec-env", "a b"], "invalid execution environment `a b`"),
        (vec!["--network", "slow"], "slow"),
        (vec!["--uid", "me"], "me"),
        (vec!["--no-such-flag"], "--no-such-flag"),
    ] {
        let call = build(&machine, &builder).args(&arguments);
        let output = fails_with(&machine, 2, call);
        output.says(said);
        assert!(!machine.path("work/out").exists(), "{arguments:?}");
    }
}

#[test]
fn every_verdict_of_every_group() {
    let Some(machine) = machine() else { return };
    let no = Buildpack::new("test/no", "1").detect("echo 'no Gemfile here'; exit 100");
    let breaks = Buildpack::new("test/breaks", "2").detect("echo 'what is this' >&2; exit 7");
    let needs = Buildpack::new("test/needs", "3")
        .detect("printf '[[requires]]\\nname = \"jre\"\\n' > \"$CNB_BUILD_PLAN_PATH\"");
    let other = Buildpack::new("test/other", "4").tables("[[targets]]\nos = \"windows\"");
    let said_no = Builder::new(Base::Small).buildpack(no.clone()).buildpack(needs.clone());
    let builder_name = builder(&machine, &said_no.group(&["test/no"]).group(&["test/needs", "test/no?"]));
    let output = fails_with(&machine, 20, build(&machine, &builder_name));
    let table = "\
group 1 of 2
  no     test/no@1
group 2 of 2
  no     test/needs@3            requires `jre`, which nobody before it provides
  no     test/no@1     optional
output of test/no@1
  | no Gemfile here
error: no group of buildpacks detected the app
hint: ";
    output.says(table);

    let errors = Builder::new(Base::Small).buildpack(no).buildpack(breaks).buildpack(other);
    let builder_name = builder(&machine, &errors.group(&["test/breaks", "test/no"]).group(&["test/other"]));
    let output = fails_with(&machine, 21, build(&machine, &builder_name).arg("--quiet"));
    output.says("error  test/breaks@2").says("bin/detect ended with exit code 7");
    output.says("  | what is this").says("  | no Gemfile here").says("skip   test/other@4");
}

#[test]
fn the_last_lines_of_a_quiet_failure() {
    let Some(machine) = machine() else { return };
    build_with(&machine, &[web()]);
    let before = built(&machine).digest;
    let fails = Buildpack::new("test/fails", "1").build("seq 500 | sed 's/^/line /'; exit 23");
    let builder = builder_of(&machine, &[fails]);
    let output = fails_with(&machine, 51, build(&machine, &builder).arg("--quiet"));
    output.says("  | line 500\nerror: buildpack test/fails 1 failed: bin/build ended with exit code 23");
    output.never_says("| line 400\n");
    // Its lines have scrolled by already where they were shown.
    let output = fails_with(&machine, 51, build(&machine, &builder));
    assert_eq!(output.all().matches("line 500").count(), 1, "{output}");
    assert_eq!(built(&machine).digest, before);

    let killed = Buildpack::new("test/killed", "1").build("kill -KILL $$");
    let builder = builder_of(&machine, &[killed]);
    fails_with(&machine, 51, build(&machine, &builder)).says("signal 9");
}

#[test]
fn a_caret_under_what_a_buildpack_wrote() {
    let Some(machine) = machine() else { return };
    let wrong = Buildpack::new("test/wrong", "1")
        .build("printf '[[processes]]\\ntype = 3\\n' > \"$CNB_LAYERS_DIR/launch.toml\"");
    let output = fails_with(&machine, 1, build(&machine, &builder_of(&machine, &[wrong])));
    output
        .says("/layers/test_wrong/launch.toml:2:8\n  |\n2 | type = 3\n  |        ^\nerror: ")
        .says("hint: ");
    // What it wrote does not speak to the terminal.
    let rude = Buildpack::new("test/rude", "1")
        .build("printf 'x = \"\\033]0;title\\007\" 3\\n' > \"$CNB_LAYERS_DIR/store.toml\"");
    let output = fails_with(&machine, 1, build(&machine, &builder_of(&machine, &[rude])));
    output.says("store.toml:1:").never_says("\u{1b}");
}

#[test]
fn an_order_that_is_no_toml() {
    let Some(machine) = machine() else { return };
    let broken = Builder::of(Base::Small, &[web()]).file("/cnb/order.toml", "[[order]]\n[[order.group]\n");
    let output = fails_with(&machine, 1, build(&machine, &builder(&machine, &broken)));
    output.says("/cnb/order.toml:2:").says("2 | [[order.group]").says("^");
}

#[test]
fn apis_of_other_times() {
    let Some(machine) = machine() else { return };
    for api in ["0.2", "0.99", "1.0"] {
        let builder = builder_of(&machine, &[Buildpack::new("test/time", "1").api(api)]);
        let output = fails_with(&machine, 12, build(&machine, &builder));
        output.says(&format!("buildpack API {api} is not supported, only 0.7 to 0.12"));
        output.says("/cnb/buildpacks/test_time/1/buildpack.toml:1:7").says("hint: ");
    }
}

#[test]
fn no_builder_at_all() {
    let Some(machine) = machine() else { return };
    let layout = Layout::new(machine.path("images"));
    layout.add("plain", &Base::Small.run());
    fails_with(&machine, 1, build(&machine, &layout.reference("plain"))).says("hint: is it a builder?");
    layout.add("no-order", &Builder::new(Base::Small).buildpack(web()).image());
    fails_with(&machine, 1, build(&machine, &layout.reference("no-order"))).says("order").says("hint: ");
    fails_with(&machine, 1, build(&machine, "127.0.0.1:1/no/registry"))
        .says("127.0.0.1:1 refused the connection")
        .says("hint: check that a registry runs at 127.0.0.1:1");
}
