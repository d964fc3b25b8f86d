//! A buildpack written in Rust with `libcnb`, as others write theirs: built here, run by us.

use std::process::Command;

use testkit::Buildpack;

use crate::support::*;

const TARGET: &str = "x86_64-unknown-linux-musl";

/// The buildpack, built as a static program: it runs on any base image.
fn buildpack() -> Option<Buildpack> {
    let sysroot =
        Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output().ok()?;
    let libraries = String::from_utf8(sysroot.stdout).ok()?;
    if !std::path::Path::new(libraries.trim()).exists() {
        testkit::needs::skip(&format!("the Rust target {TARGET} is not installed"));
        return None;
    }
    let output = Command::new(env!("CARGO"))
        .args([
            "build",
            "--package",
            "pannier-test-buildpack",
            "--target",
            TARGET,
            "--message-format",
            "json",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8(output.stdout).expect("cargo writes JSON");
    let messages =
        messages.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line is JSON"));
    let program = messages.rev().find_map(|message| message["executable"].as_str().map(str::to_owned));
    let program = fs_err::read(program.expect("cargo names the program")).expect("it is there");
    let descriptor = include_str!("../../../../tests/rust-buildpack/buildpack.toml");
    let plain = Buildpack::new("test/rust", "0.1.0").api("0.10").file("buildpack.toml", 0o644, descriptor);
    Some(plain.file("bin/detect", 0o755, program.clone()).file("bin/build", 0o755, program))
}

#[test]
fn a_buildpack_in_rust() {
    let Some(machine) = machine() else { return };
    let Some(buildpack) = buildpack() else { return };
    let builder = builder_of(&machine, &[buildpack]);
    build(&machine, &builder).ok().says("making the layer for: from the plan").says("builds before this: 0");
    assert_eq!(machine.pannier(["run", OUT]).ok().stdout, "from the plan; by exec.d\n");
    let image = built(&machine);
    assert_eq!(image.text("/layers/test_rust/greeting/words"), "from the plan");
    let sbom = "/layers/sbom/launch/test_rust/greeting/sbom.cdx.json";
    assert_eq!(image.text(sbom), "{\"bomFormat\":\"CycloneDX\"}");

    build(&machine, &builder).ok().says("keeping the layer for: from the plan").says("builds before this: 1");
    let call = build(&machine, &builder).args(["--env", "GREETING=other words"]);
    call.ok().says("making the layer for: other words").says("builds before this: 2");
    assert_eq!(machine.pannier(["run", OUT]).ok().stdout, "other words; by exec.d\n");
}
