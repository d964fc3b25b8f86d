//! Restored folders can not be renamed on an overlay: who is run again on a copy because of it, and who is not.

use testkit::machine::Call;
use testkit::{Base, Builder, Machine};

use crate::support::*;

/// What is said before a build starts over.
const AGAIN: &str = "building again on a copy";

/// A builder with one buildpack that leaves `deps/old/file` and, when that came back, runs `script` in `deps`.
fn renaming(machine: &Machine, script: &str) -> Option<String> {
    let script = format!(
        r#"
layer deps launch,cache
cd "$CNB_LAYERS_DIR/deps"
[ -e old ] || [ -e new ] || {{ mkdir old; echo content > old/file; exit 0; }}
{script}
"#
    );
    let builder = Builder::of(Base::Debian, &[facts("test/rename", &script)]);
    Base::Debian.available().then(|| crate::support::builder(machine, &builder))
}

/// Builds twice; the second is for the caller to run.
fn second_build(machine: &Machine, builder: &str) -> Call {
    build(machine, builder).ok();
    build(machine, builder)
}

everyone! {
    /// A program that gives up without a word is run again on a copy, and the line says which folder it was.
    fn silent_failures_are_run_again(machine: &Machine) {
        // Through the system call: `mv` would copy where it can't rename.
        let script = r#"[ ! -e old ] || perl -e 'rename("old", "new") or exit 1'; echo "renamed: $(cat new/file)""#;
        let Some(builder) = renaming(machine, script) else { return };
        let second = second_build(machine, &builder).ok();
        second.says("renamed: content").says(AGAIN).says("/layers/test_rename/deps/old");
        let image = built(machine);
        assert_eq!(image.text("/layers/test_rename/deps/new/file"), "content\n");
        assert!(image.entry("/layers/test_rename/deps/old").is_none());
    }
}

everyone! {
    /// `mv` copies where it can not rename, and the buildpack is content: nothing is run twice.
    fn who_copies_is_not_run_again(machine: &Machine) {
        let Some(builder) = renaming(machine, r#"mv old new; echo "renamed: $(cat new/file)""#) else { return };
        let second = second_build(machine, &builder).ok();
        second.says("renamed: content").never_says(AGAIN);
        assert_eq!(built(machine).text("/layers/test_rename/deps/new/file"), "content\n");
    }
}

everyone! {
    /// A buildpack that fails for another reason fails at once, whatever its output says and whatever else it renames.
    fn other_failures_are_not_run_again(machine: &Machine) {
        let script = r#"mv old/file old/other; mkdir fresh
perl -e 'rename("fresh", "newer") or exit 1; rename("/tmp/missing", "x")'
echo "Invalid cross-device link (os error 18)"; exit 7"#;
        let Some(builder) = renaming(machine, script) else { return };
        second_build(machine, &builder).fails().says("exit code 7").never_says(AGAIN);
        }
}

everyone! {
    /// Where a copy or an overlay was asked for, nothing is run again.
    fn chosen_ways_are_kept(machine: &Machine) {
        let script = r#"[ ! -e old ] || perl -e 'rename("old", "new") or exit 1'; echo "renamed: $(cat new/file)""#;
        let Some(builder) = renaming(machine, script) else { return };
        second_build(machine, &builder).args(["--restore", "overlay"]).fails().never_says(AGAIN);
        build(machine, &builder).args(["--restore", "copy"]).ok().says("renamed: content").never_says(AGAIN);
    }
}
