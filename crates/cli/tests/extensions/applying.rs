//! Dockerfiles of extensions in the images of a build.

use crate::fixture::*;
use crate::support::*;

/// What an extension of these tests does to both images.
const BUILD: &str = "RUN echo tool for builds > /etc/built\nENV EXT_VALUE=\"a=b c\" EXT_LINES=\"one\\ntwo\"";
const RUN: &str = "RUN echo from run > /etc/ran\nENV RUNS=yes\nLABEL ext=label";

everyone! {
    /// Buildpacks see what the build image was given; the app image has what the run image was given, below the
    /// buildpacks' layers.
    fn both_images(machine: &Machine) {
        let seen = facts(
            "test/seen",
            "fact file \"$(cat /etc/built)\"\nfact value \"$EXT_VALUE\"\nfact ran \"$(ls /etc/ran 2>&1 || true)\"\nfact id \"$(id -u)\"",
        );
        let builder = with_extensions(machine, &[extension("test/ext", BUILD, RUN)], &[seen, web()]);
        let said = build(machine, &builder).ok();
        said.says("===> GENERATE").says("===> EXTEND");
        let image = built(machine);
        assert_eq!(fact(&image, "test/seen", "file"), "tool for builds");
        assert_eq!(fact(&image, "test/seen", "value"), "a=b c");
        assert_eq!(fact(&image, "test/seen", "id"), "1000");
        assert!(fact(&image, "test/seen", "ran").contains("No such file"));
        assert_eq!(image.text("/etc/ran"), "from run\n");
        assert!(image.entry("/etc/built").is_none());
        assert_eq!(image.env("RUNS"), Some("yes"));
        assert_eq!(image.env("EXT_VALUE"), None);
        assert_eq!(image.label("ext"), Some("label"));
        assert_eq!(image.label("io.buildpacks.rebasable"), Some("false"));
        assert_eq!(image.config["config"]["User"], "cnb");
        let created = image.created_by();
        let at = |text: &str| created.iter().position(|line| line.contains(text)).expect("a layer");
        let extended = at("Layer: 'RUN echo from run > /etc/ran', Created by extension: test/ext");
        assert!(extended < at("Created by buildpack: test/seen"), "{created:?}");
        let metadata = image.json_label("io.buildpacks.lifecycle.metadata");
        let top = image.layers[extended - 1].diff_id.as_str();
        assert_eq!(metadata["runImage"]["topLayer"], top, "a rebase replaces what is below the extensions' layers");
        machine.pannier(["run", OUT]).ok().says("tool says hello");
        machine.pannier(["run", OUT, "--entrypoint", "cat", "--", "/etc/ran"]).ok().says("from run");
        // Again: nothing is applied again, and the image is the same.
        build(machine, &builder).ok().says("kept from an earlier build").never_says("failed");
        assert_eq!(built(machine).digest, image.digest);
    }
}

everyone! {
    /// Values of every kind reach the buildpacks as they are; a variable of a buildpack's own kind, such as PATH, too.
    fn any_value_reaches_buildpacks(machine: &Machine) {
        let dockerfile = "ARG base_image\nFROM ${base_image}\nARG lines\nENV LINES=$lines EQUALS=a=b==c SPACES=\"two  words \"\n\
            ENV PATH=/etc/tools:$PATH EMPTY=\n";
        let config = "[[build.args]]\nname = \"lines\"\nvalue = \"one\\ntwo\\n\"\n";
        let ext = exactly("build.Dockerfile", dockerfile).file("generate/extend-config.toml", 0o644, config);
        let names = ["LINES", "EQUALS", "SPACES", "PATH", "EMPTY"];
        let script: String = names.iter().map(|name| format!("fact {name} \"${name}\"\n")).collect();
        build(machine, &with_extensions(machine, &[ext], &[facts("test/seen", &script)])).ok();
        let image = built(machine);
        let found = names.map(|name| fact(&image, "test/seen", name));
        assert_eq!(found[..3], ["one\ntwo\n", "a=b==c", "two  words "]);
        assert!(found[3].starts_with("/etc/tools:/usr/local/sbin:"), "{}", found[3]);
        assert_eq!(found[4], "");
    }
}

everyone! {
    /// One extension after another, each on what those before it left; a later one switches the run image, and then
    /// only it and those after it count there.
    fn in_order_and_switched(machine: &Machine) {
        let layout = testkit::Layout::new(machine.path("run-images"));
        let own = testkit::Tree::new().dir("/own", 0o755).file("/own/file", 0o644, "other");
        layout.add("other", &testkit::Base::Small.run().layer(own).label("other", "yes"));
        let other = layout.reference("other");
        let first = extension("test/first", "RUN echo first >> /etc/list", "RUN echo first >> /etc/list");
        let dockerfile = as_root("RUN cat /own/file; echo second >> /etc/list").replace("${base_image}", &other);
        let second = extension("test/second", "RUN echo second >> /etc/list", "")
            .file("generate/run.Dockerfile", 0o644, dockerfile.replace("ARG base_image\n", ""));
        let third = extension("test/third", "RUN echo third >> /etc/list", "RUN echo third >> /etc/list");
        let seen = facts("test/seen", "fact list \"$(cat /etc/list)\"");
        let builder = with_extensions(machine, &[first, second, third], &[seen]);
        let output = build(machine, &builder).ok();
        output.says("to which an extension switched").says("[extend] other");
        let image = built(machine);
        assert_eq!(fact(&image, "test/seen", "list"), "first\nsecond\nthird");
        assert_eq!(image.text("/etc/list"), "second\nthird\n");
        assert_eq!(image.label("other"), Some("yes"));
        let metadata = image.json_label("io.buildpacks.lifecycle.metadata");
        assert_eq!(metadata["runImage"]["image"], other);
        let created = image.created_by();
        let of = |id: &str| created.iter().filter(|line| line.ends_with(&format!("by extension: {id}"))).count();
        assert_eq!([of("test/first"), of("test/second"), of("test/third")], [0, 1, 1]);
    }
}

everyone! {
    /// A secret is there while a program runs that mounts it, and nowhere afterwards.
    fn secrets(machine: &Machine) {
        let run = "RUN --mount=type=secret,id=token cp /run/secrets/token /tmp/x && wc -c < /tmp/x > /etc/size && rm /tmp/x";
        let builder = with_extensions(machine, &[extension("test/ext", "", run)], &[web()]);
        machine.write("work/token", "s3cret-t0ken");
        let output = build(machine, &builder).args(["--secret", "id=token,src=token"]).ok();
        output.never_says("s3cret-t0ken");
        let image = built(machine);
        assert_eq!(image.text("/etc/size").trim(), "12");
        let held = image.layers.iter().flat_map(|layer| &layer.entries).find(|it| it.name.contains("secrets"));
        assert!(held.is_none(), "{held:?}");
        let output = build(machine, &builder).args(["--secret", "id=token,env=NOT_SET"]).fails();
        assert_eq!(output.code(), 2, "{output}");
        output.says("NOT_SET");
    }
}

#[test]
fn files_of_the_app() {
    let Some(machine) = machine() else { return };
    machine.write("work/app/conf/a.conf", "a");
    machine.write("work/app/conf/b.conf", "b");
    machine.write("work/app/.dockerignore", "conf/b.conf\n");
    let ext = extension("test/ext", "", "COPY --chown=1000:1000 conf /etc/conf\nCOPY *.sh /etc/scripts/");
    build(&machine, &with_extensions(&machine, &[ext], &[web()])).ok();
    let image = built(&machine);
    assert_eq!(image.text("/etc/conf/a.conf"), "a");
    assert_eq!(image.entry("/etc/conf/a.conf").map(|entry| (entry.uid, entry.gid)), Some((1000, 1000)));
    assert!(image.entry("/etc/conf/b.conf").is_none());
    assert!(image.text("/etc/scripts/app.sh").contains("the app runs"));
}

#[test]
fn a_single_id_says_what_it_cannot_do() {
    if !testkit::Base::Small.available() || !testkit::Person::all().contains(&testkit::Person::Plain) {
        return;
    }
    let machine = testkit::Machine::new(PANNIER, testkit::Person::Plain);
    let run = "RUN echo 1 > /etc/one && chown 7:7 /etc/one";
    let output =
        build(&machine, &with_extensions(&machine, &[extension("test/ext", "", run)], &[web()])).fails();
    assert_eq!(output.code(), 102, "{output}");
    output.says("run.Dockerfile:6:1").says("hint: ").says("subuid");
}
