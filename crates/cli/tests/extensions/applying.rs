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
