//! Buildpacks that are not on the builder, and builders that are made.

use testkit::{Base, Buildpack, Layout};

use crate::support::*;

/// A builder with one buildpack, `test/one`.
fn one(machine: &testkit::Machine) -> String {
    builder_of(machine, &[facts("test/one", "fact who one")])
}

everyone! {
    /// A folder, closed to all but its owner, runs; and it is only read.
    fn from_a_folder(machine: &Machine) {
        let folder = machine.make_dir("work/mine");
        facts("me/mine", "fact data \"$(cat \"$CNB_BUILDPACK_DIR/data\")\"")
            .file("data", 0o600, "from a folder")
            .write(&folder);
        machine.person().own(&folder.join("data"));
        let before = snapshot(&folder);
        build(machine, &one(machine)).args(["--buildpack", "mine,from=builder"]).ok();
        let image = built(machine);
        assert_eq!(participants(&image), ["me/mine", "test/one"]);
        assert_eq!(fact(&image, "me/mine", "data"), "from a folder");
        assert_eq!(snapshot(&folder), before);
    }
}

#[test]
fn before_and_after_the_builders_groups() {
    let Some(machine) = machine() else { return };
    for name in ["a", "b", "c"] {
        Buildpack::new(&format!("me/{name}"), "1").write(&machine.path("work").join(name));
    }
    let call = build(&machine, &one(&machine)).args(["--pre-buildpack", "./a", "--pre-buildpack", "./b"]);
    call.args(["--post-buildpack", "./c"]).ok();
    assert_eq!(participants(&built(&machine)), ["me/a", "me/b", "test/one", "me/c"]);
}

#[test]
fn from_a_package_over_the_builders_own() {
    let Some(machine) = machine() else { return };
    let order = "[[order]]\n[[order.group]]\nid = \"test/one\"\nversion = \"1.0.0\"";
    let package =
        Buildpack::composite("me/all", "1", order).package(&[facts("test/one", "fact who package")]);
    Layout::new(machine.path("images")).add("package", &package);
    let name = format!("oci:{}:package", machine.path("images").display());
    build(&machine, &one(&machine)).args(["--buildpack", &name]).ok();
    let image = built(&machine);
    assert_eq!(participants(&image), ["test/one"]);
    assert_eq!(fact(&image, "test/one", "who"), "package");
    // The builder is what it was.
    build(&machine, &one(&machine)).ok();
    assert_eq!(fact(&built(&machine), "test/one", "who"), "one");
}

#[test]
fn from_the_descriptor() {
    let Some(machine) = machine() else { return };
    let builder = one(&machine);
    app(&machine);
    machine.write(
        "work/app/project.toml",
        "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\nid = \"me/script\"\n\
         [io.buildpacks.group.script]\napi = \"0.10\"\nshell = \"/bin/bash\"\n\
         inline = \"\"\"mkdir $1/l; echo -e '[types]\\\\nlaunch = true' > $1/l.toml; echo made > $1/l/file\"\"\"\n\
         [[io.buildpacks.group]]\nid = \"test/one\"\n",
    );
    build(&machine, &builder).ok();
    let image = built(&machine);
    assert_eq!(participants(&image), ["me/script", "test/one"]);
    assert_eq!(image.text("/layers/me_script/l/file"), "made\n");
}

#[test]
fn what_is_not_there() {
    let Some(machine) = machine() else { return };
    let builder = one(&machine);
    let output = build(&machine, &builder).args(["--buildpack", "urn:cnb:builder:test/two"]).fails();
    output.says("the builder has no `test/two`").says("the builder has: test/one@1.0.0");
    let output = build(&machine, &builder).args(["--buildpack", "./nothing"]).fails();
    output.says("there is no file or folder `./nothing`");
    machine.make_dir("work/empty");
    let output = build(&machine, &builder).args(["--buildpack", "./empty"]).fails();
    output.says("./empty is not a buildpack: it has no buildpack.toml");
    machine.write("work/odd/buildpack.toml", "api = \"0.12\"\n[buildpack]\nid = 3\n");
    let output = build(&machine, &builder).args(["--buildpack", "./odd"]).fails();
    output.says("./odd/buildpack.toml:3:6").says("^");
}

everyone! {
    /// A builder that was made here builds, and is the same when it is made again.
    fn builders(machine: &Machine) {
        facts("me/mine", "fact who \"$FROM_BUILDER\"").write(&machine.make_dir("work/mine"));
        let base = Base::Small.layout().path().display();
        machine.write(
            "work/builder.toml",
            format!(
                "[[buildpacks]]\nuri = \"mine\"\n[[order]]\ngroup = [{{ id = \"me/mine\" }}]\n\
                 [build]\nimage = \"oci:{base}:build\"\n[[build.env]]\nname = \"FROM_BUILDER\"\nvalue = \"yes\"\n\
                 [[run.images]]\nimage = \"oci:{base}:run\"\n"
            ),
        );
        let create = |to: &str| {
            machine.pannier(["builder", "create", to, "--config", "builder.toml", "--quiet"]).ok()
        };
        create("mine").says("mine:latest@sha256:");
        create("oci:builders:b");
        let digest = |name: &str| {
            let shown = machine.pannier(["builder", "inspect", name, "--output", "json"]).ok().all();
            shown.lines().find(|line| line.contains("\"digest\"")).expect("it has a digest").to_owned()
        };
        assert_eq!(digest("mine"), digest("oci:builders:b"));
        build(machine, "mine").ok();
        let image = built(machine);
        assert_eq!(participants(&image), ["me/mine"]);
        assert_eq!(fact(&image, "me/mine", "who"), "yes");
        machine.pannier(["builder", "inspect", "mine"]).ok().says("me/mine@1.0.0");
    }
}

#[test]
fn a_configuration_with_an_error() {
    let Some(machine) = machine() else { return };
    let create = |text: &str| {
        machine.write("work/builder.toml", text);
        machine.pannier(["builder", "create", "b", "--config", "builder.toml"]).fails()
    };
    create("[[buildpack]]\nuri = \"x\"\n").says("builder.toml:1:3").says("unknown key `buildpack`").says("^");
    create("description = \"x\"\n").says("no build image");
    machine.pannier(["builder", "create", "b", "--config", "none.toml"]).fails().says("none.toml");
}
