//! Layers made to do harm. None may write outside the rootfs it is unpacked into, and none may end in anything but a
//! clear error or a harmless tree.

use tar::EntryType;
use testkit::{Base, Image, Layout, Machine, Output, Tree};

use crate::support::*;

/// Runs `true` on the small run image with `tree` as a layer on top.
fn run_with(machine: &Machine, tree: Tree, script: &str) -> Output {
    run_layers(machine, Base::Small.run().layer(tree), script)
}

fn run_layers(machine: &Machine, image: Image, script: &str) -> Output {
    let layout = Layout::new(machine.path("hostile"));
    layout.add("it", &image);
    let output =
        machine.pannier(["run", &layout.reference("it"), "--entrypoint", "sh", "--", "-c", script]).run();
    output.never_says("panicked");
    assert!(output.status.code().is_some(), "{output}");
    output
}

everyone! {
    /// `..`, absolute names, and links that lead out: each stays inside, or is refused.
    fn names_that_lead_out(machine: &Machine) {
        let outside = machine.path("outside");
        machine.make_dir("outside");
        let out = outside.display().to_string();
        let up = format!("../../../../../../../../../..{out}/planted");
        let trees = [
            Tree::new().file(&up, 0o644, "planted"),
            Tree::new().file(&format!("{out}/planted"), 0o644, "planted"),
            Tree::new().symlink("away", &out).file("away/planted", 0o644, "planted"),
            Tree::new().symlink("away", "../../../../../../../../../..").file(&format!("away{out}/planted"), 0o644, "planted"),
            Tree::new().hard_link("linked", "/etc/passwd").file("linked", 0o644, "planted"),
            Tree::new().hard_link("linked", "../../../../../../etc/hostname"),
            Tree::new().symlink("away", &out).dir("away", 0o777).file("away/planted", 0o644, "planted"),
            Tree::new().symlink("a", ".").symlink("a/b", &out).file("b/planted", 0o644, "planted"),
        ];
        let passwd = fs_err::read("/etc/passwd").expect("there is one");
        for tree in trees {
            run_with(machine, tree, "true");
            assert!(!outside.join("planted").exists());
            assert_eq!(fs_err::read("/etc/passwd").expect("there is one"), passwd);
        }
        machine.pannier(["doctor", "--store"]).ok();
    }
}

everyone! {
    /// Device nodes and setuid files give nobody a right they had not.
    fn devices_and_setuid(machine: &Machine) {
        let tree = Tree::new()
            .entry(EntryType::Char, "dev-mem", 0o666, "", &[])
            .entry(EntryType::Block, "dev-disk", 0o666, "", &[])
            .entry(EntryType::Fifo, "pipe", 0o666, "", &[])
            .file("setuid", 0o4755, fs_err::read(testkit::needs::find("busybox").expect("checked")).expect("a program"));
        // As the image's user, not root.
        let output = run_with(machine, tree, "cat /dev-mem; cat /dev-disk; cp setuid /tmp/id; /setuid id -u; touch /etc/x; echo done");
        output.says("done").never_says("root:");
        assert!(!output.stdout.lines().any(|line| line == "0"), "setuid gives nothing: {output}");
    }
}

everyone! {
    /// Whiteouts, of files and of folders, and what they must not reach.
    fn whiteouts(machine: &Machine) {
        let below = Tree::new().dir("d", 0o755).file("d/one", 0o644, "1").file("d/two", 0o644, "2").dir("o", 0o755).file("o/old", 0o644, "x").file("gone", 0o644, "x");
        let above = Tree::new()
            .file("d/.wh.one", 0o644, "").file("o/.wh..wh..opq", 0o644, "").file("o/new", 0o644, "y").file(".wh.gone", 0o644, "");
        let image = Base::Small.run().layer(below.clone()).layer(above);
        let output = run_layers(machine, image, "cd /; ls d o; [ -e gone ] || echo no gone");
        assert_eq!(output.stdout, "d:\ntwo\n\no:\nnew\nno gone\n", "{output}");

        for name in [".wh...", ".wh..", "d/.wh...", ".wh."] {
            let image = Base::Small.run().layer(below.clone()).layer(Tree::new().file(name, 0o644, ""));
            run_layers(machine, image, "true");
        }
        let back = Base::Small.run().layer(below.clone()).layer(Tree::new().file(".wh.d", 0o644, "")).layer(Tree::new().dir("d", 0o755).file("d/three", 0o644, "3"));
        assert_eq!(run_layers(machine, back, "ls /d").stdout, "three\n");
        machine.pannier(["doctor", "--store"]).ok();
    }
}

#[test]
fn broken_tars() {
    let Some(machine) = machine() else { return };
    let whole = Tree::new().file("a", 0o644, vec![b'x'; 5000]);
    let mut garbled = whole.clone().into_tar();
    garbled[..400].fill(0xff);
    let mut endless = whole.clone().into_tar();
    // A size that no layer can have.
    endless[124..136].copy_from_slice(b"77777777777\0");
    for (what, tar) in [
        ("truncated", whole.into_truncated_tar()),
        ("garbled", garbled),
        ("endless", endless),
        ("too short", vec![1, 2, 3]),
    ] {
        let output = run_layers(&machine, Base::Small.run().layer_tar(tar), "true");
        assert!(output.code() != 0, "{what}: {output}");
        output.says("sha256:");
    }
    machine.pannier(["doctor", "--store"]).ok();
}

#[test]
fn many_entries() {
    let Some(machine) = machine() else { return };
    let mut tree = Tree::new();
    for folder in 0..100 {
        tree = tree.dir(&format!("many/{folder}"), 0o755);
        for file in 0..1000 {
            tree = tree.file(&format!("many/{folder}/{file}"), 0o644, "");
        }
    }
    assert_eq!(run_with(&machine, tree, "find /many -type f | wc -l").stdout.trim(), "100000");
}

#[test]
fn a_layer_that_swells() {
    use std::io::Write as _;
    let Some(machine) = machine() else { return };
    // Two hundred mebibytes of nothing in two hundred kilobytes: must not pass through memory whole.
    let mut tar = Tree::new().file("zeros", 0o644, vec![0; 200 << 20]).into_tar();
    let layout = Layout::new(machine.path("bomb"));
    layout.add("bomb", &Base::Small.run().layer_tar(std::mem::take(&mut tar)));
    let limit = "ulimit -v 4000000; exec \"$@\"";
    let call = machine.call("bash", ["-c", limit, "bash"]).arg(PANNIER).args([
        "run",
        &layout.reference("bomb"),
        "--entrypoint",
        "wc",
        "--",
        "-c",
        "/zeros",
    ]);
    let output = call.ok();
    assert!(output.stdout.starts_with("209715200"), "{output}");
    std::io::stdout().flush().expect("it can be");
}

#[test]
fn manifests_that_lie() {
    let Some(machine) = machine() else { return };
    let layout = Layout::new(machine.path("lying"));
    let digest = layout.add("it", &Base::Small.run());
    let path = layout.blob_path(&digest);
    let text = fs_err::read_to_string(&path).expect("a manifest");
    // The size in the index no longer fits, nor does the digest.
    fs_err::remove_file(&path).expect("it is there");
    fs_err::write(&path, text.replace("\"layers\"", "\"loyers\"")).expect("it can be written");
    machine
        .pannier(["run", &layout.reference("it"), "--entrypoint", "true"])
        .fails()
        .says("sha256:")
        .never_says("panicked");
    let deep = "[".repeat(100_000);
    fs_err::write(layout.path().join("index.json"), deep).expect("it can be written");
    machine
        .pannier(["run", &layout.reference("it"), "--entrypoint", "true"])
        .fails()
        .says("index.json")
        .never_says("panicked");
}
