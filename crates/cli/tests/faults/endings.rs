//! Builds that end early, and builds that run side by side.

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use testkit::{Base, Builder, Buildpack, Person};

use crate::support::*;
use crate::{fails_with, scratch, store, verify};

/// A build that takes its time in every phase: detection, a busy buildpack, layers to pack.
fn slow() -> [Buildpack; 2] {
    let busy = "layer data launch,cache; for n in $(seq 40); do head -c 100000 /dev/urandom > \"$CNB_LAYERS_DIR/data/$n\"; echo $n > $n; done; (sleep 1000 &)";
    [web().detect("sleep 0.02"), facts("test/busy", busy)]
}

everyone! {
    /// Ctrl-C, SIGTERM and SIGHUP at moments all over a build: it ends as the signal asks, and when it has, there is
    /// no process, no mount, no half-written blob and no scratch folder.
    fn a_signal_at_any_moment(machine: &Machine) {
        // In the builder's environment, so that processes of its buildpacks are known.
        let mark = machine.path("").display().to_string();
        let layout = testkit::Layout::new(machine.path("images"));
        layout.add("slow", &Builder::of(Base::Small, &slow()).image().env("MARK", &mark));
        let builder = layout.reference("slow");
        let app = app(machine);
        let build = |name: &str| machine.pannier(["build", name, "--builder", &builder, "--path"]).arg(&app);
        let start = Instant::now();
        build("warm").ok();
        let whole = start.elapsed();
        let moments = if machine.person() == Person::Caller { 9 } else { 3 };
        for moment in 0..moments {
            let (signal, number) = [("INT", 2), ("TERM", 15), ("HUP", 1)][moment % 3];
            let mut child = build("ended").start();
            std::thread::sleep(whole.mul_f64(0.05 + 0.9 * moment as f64 / moments as f64));
            let was_done = child.try_wait().expect("it can be asked").is_some();
            if !was_done {
                assert!(machine.signal(&child, signal));
            }
            let sent = Instant::now();
            let output = child.wait_with_output().expect("it ends");
            assert!(sent.elapsed() < Duration::from_secs(10), "{:?}", sent.elapsed());
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            // It may have been quicker than the signal.
            if !output.status.success() {
                assert_eq!(output.status.signal(), Some(number), "{errors}");
                let lines: Vec<_> = errors.lines().filter(|line| line.starts_with("error:")).collect();
                assert!(lines.is_empty() || lines == [format!("error: ended by SIG{signal}; nothing is left half done")], "{errors}");
            }
            assert_eq!(machine.processes(), [""; 0]);
            assert_eq!(scratch(machine), [""; 0], "{signal} at moment {moment} of {whole:?}: {errors}");
            let strays = fs_err::read_dir(store(machine)).expect("a store").flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with('.'));
            assert_eq!(strays.count(), 0, "no half-written index");
        }
        if machine.person().is_root() {
            verify(machine);
        }
        build("ended").ok();
        machine.pannier(["run", "ended"]).ok().says("tool says hello");
    }
}

everyone! {
    /// Two builds of one app at once, of the same name: both work, and what is there afterwards is whole.
    fn side_by_side(machine: &Machine) {
        let builder = builder_of(machine, &slow());
        let app = app(machine);
        let build = || machine.pannier(["build", "both", "--builder", &builder, "--path"]).arg(&app);
        for _ in 0..2 {
            let children = [build().start(), build().start(), build().start()];
            for child in children {
                let output = child.wait_with_output().expect("it ends");
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            }
        }
        assert_eq!(scratch(machine), [""; 0]);
        if machine.person().is_root() {
            verify(machine);
        }
        machine.pannier(["run", "both"]).ok().says("tool says hello");
    }
}

#[test]
fn a_disk_that_fills_up() {
    let Some(machine) = machine() else { return };
    // The store's place in the home, so that the other helpers find it.
    let disk = machine.make_dir("home/.local/share/pannier");
    let Some(disk) = testkit::SmallDisk::mount(disk, "size=1m") else { return };
    let builder = builder_of(&machine, &[web()]);
    // Too small to unpack the builder; then for the layers of the app; then large enough.
    let unpacking = fails_with(&machine, 1, build(&machine, &builder));
    let large = "layer big launch; head -c 20000000 /dev/zero > \"$CNB_LAYERS_DIR/big/file\"";
    let fills = builder_of(&machine, &[facts("test/fills", large)]);
    let (grown, building) = (disk.remount("size=12m"), build(&machine, &fills).run());
    let left = scratch(&machine);
    let (grown_again, good) = (disk.remount("size=200m"), build(&machine, &builder).run());
    verify(&machine);
    disk.unmount();
    assert!(grown && grown_again);
    unpacking.says("No space left on device").says("hint: make room on the disk");
    assert!(
        !building.status.success() && building.all().contains("error: no space is left on the disk of"),
        "{building}"
    );
    assert_eq!(left, [""; 0]);
    assert!(good.status.success(), "{good}");
}
