//! `pannier build --dry-run`.

use serde_json::Value;
use testkit::registry::{Kind, Registry};

use crate::fixture::*;
use crate::support::*;

everyone! {
    /// It says what would be done and does nothing of it.
    fn prints_the_plan(machine: &Machine) {
        let ext = extension("test/ext", "RUN echo 1 > /etc/built", "ENV V=1\nWORKDIR /etc/$V\nRUN echo 2 > /etc/ran")
            .detect("printf '[[provides]]\\nname = \"tool\"\\n' > \"$CNB_BUILD_PLAN_PATH\"");
        let web = web().detect("printf '[[requires]]\\nname = \"tool\"\\n' > \"$CNB_BUILD_PLAN_PATH\"");
        let builder = with_extensions(machine, &[ext], &[web]);
        let images = || machine.pannier(["image", "list", "--all"]).run().stdout;
        let before = images();
        let output = build(machine, &builder).arg("--dry-run").ok();
        output
            .says("tool: provided by test/ext, required by test/web")
            .says("  test/ext 1.0.0\n")
            .says("test/ext/build.Dockerfile\n")
            .says("  new       6  RUN echo 1 > /etc/built\n")
            .says("  new       7  WORKDIR /etc/1\n")
            .never_says("[extend]")
            .never_says("===> BUILD");
        assert!(!machine.path("work/out").exists());
        assert_eq!(images(), before);
        build(machine, &builder).ok();
        let output = build(machine, &builder).arg("--dry-run").ok();
        output.says("  cached    6  RUN echo 1 > /etc/built\n").says("  cached    8  RUN echo 2 > /etc/ran\n");
        let output = build(machine, &builder).arg("--dry-run=json").ok();
        let found: Value = serde_json::from_str(&output.stdout).expect("it is JSON");
        assert_eq!(found["plan"][0]["required_by"][0], "test/web");
        assert_eq!(found["dockerfiles"][1]["steps"][5]["state"], "config");
    }
}

#[test]
fn needs_no_write_access() {
    let Some(machine) = machine() else { return };
    let registry = Registry::default();
    let builder = with_extensions(&machine, &[extension("test/ext", "RUN true", "")], &[web()]);
    let app = app(&machine);
    let name = format!("{}/apps/one:1", registry.host());
    machine
        .pannier(["build", &name, "--publish", "--dry-run", "--builder", &builder, "--path"])
        .arg(app)
        .ok()
        .says("test/web 1.0.0");
    let from = format!("{}/test/builder:1", registry.host());
    machine.pannier(["image", "copy", &builder, &format!("docker://{from}")]).ok();
    registry.forget();
    let app = machine.path("work/app");
    machine.pannier(["build", "it", "--dry-run", "--builder", &from, "--path"]).arg(app).ok().says(&from);
    machine.pannier(["image", "list"]).ok().never_says("test/builder");
    assert_eq!((registry.count(Kind::UploadStart), registry.count(Kind::ManifestPut)), (0, 0));
}
