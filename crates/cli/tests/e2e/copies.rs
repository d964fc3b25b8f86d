//! Machines where no overlay can be mounted, as in a container whose own files are one: everything works, on copies.

use testkit::Machine;
use testkit::machine::Call;

use crate::support::*;

/// What is said of it.
const COPIED: &str = "files are copied for this build";

/// `pannier` with its store where no overlay can be mounted.
fn pannier(machine: &Machine, arguments: &[&str]) -> Call {
    machine.pannier_on_overlay("work/store", arguments)
}

/// As [`build`].
fn build_on_copies(machine: &Machine, builder: &str) -> Call {
    let app = app(machine);
    pannier(machine, &["build", OUT, "--builder", builder, "--path"]).arg(app)
}

everyone! {
    /// Two builds and a run: layers come back and are known to be unchanged, what a buildpack writes elsewhere is gone.
    fn everything_works_on_copies(machine: &Machine) {
        let script = r#"
layer deps launch,cache
echo "deps: $(cat "$CNB_LAYERS_DIR/deps/file" 2>/dev/null || echo none); here: $(cat /tmp/../cnb/mine here 2>/dev/null || echo nothing)"
[ -e "$CNB_LAYERS_DIR/deps/file" ] || { mkdir "$CNB_LAYERS_DIR/deps/sub"; echo first > "$CNB_LAYERS_DIR/deps/file"; }
[ ! -d "$CNB_LAYERS_DIR/deps/sub" ] || mv "$CNB_LAYERS_DIR/deps/sub" "$CNB_LAYERS_DIR/deps/moved"
echo x > here; echo x > /cnb/mine 2>/dev/null || true
"#;
        let detects = facts("test/deps", script).detect("echo seen > detected; [ ! -e here ]");
        let builder = builder_of(machine, &[detects, web()]);
        let first = build_on_copies(machine, &builder).ok();
        first.says(COPIED).says("deps: none; here: nothing").says("is gone: /workspace/detected");
        let image = built(machine);
        assert_eq!(image.text("/layers/test_deps/deps/file"), "first\n");
        assert!(image.entry("/layers/test_deps/deps/moved").is_some());
        assert!(image.entry("/workspace/detected").is_none(), "what bin/detect wrote is gone");
        assert!(image.entry("/cnb/mine").is_none());
        let again = build_on_copies(machine, &builder).ok();
        again.says(COPIED).says("deps: first; here: nothing").says("reused");
        assert_eq!(built(machine).digest, image.digest);
        pannier(machine, &["run", OUT]).ok().says("tool says hello");
        pannier(machine, &["doctor", "--store"]).ok().says("with copies in place of overlays");
        // The same store where overlays can be had: nothing was made for copies alone.
        build(machine, &builder).env("PANNIER_HOME", machine.path("work/other")).ok().never_says(COPIED);
    }
}

everyone! {
    /// An overlay that was asked for is not replaced by anything.
    fn asking_for_an_overlay_fails(machine: &Machine) {
        let builder = builder_of(machine, &[facts("test/deps", "layer deps launch,cache; cat /proc/sys/kernel/random/uuid > \"$CNB_LAYERS_DIR/deps/file\"")]);
        build_on_copies(machine, &builder).ok();
        let digest = built(machine).digest;
        build_on_copies(machine, &builder).args(["--restore", "overlay"]).fails().says("cannot mount an overlay").says("hint: `pannier doctor`");
        assert_eq!(built(machine).digest, digest);
        build_on_copies(machine, &builder).ok();
        assert_ne!(built(machine).digest, digest, "a changed layer is a new one");
    }
}

everyone! {
    /// A buildpack changes none of those after it here either.
    fn buildpacks_after_one(machine: &Machine) {
        use crate::isolation::{check_that_it_did_nothing, meddled_with};
        build_on_copies(machine, &builder_of(machine, &meddled_with())).ok().says(COPIED);
        check_that_it_did_nothing(machine);
    }
}
