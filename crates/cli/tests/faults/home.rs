//! The store's place: who may use it, what is swept in it, and what can be done where it cannot be written.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use testkit::machine::Call;
use testkit::{Base, Machine, Person};

use crate::store;
use crate::support::*;

/// A build of the app for the local store.
fn build_named(machine: &Machine, builder: &str, name: &str) -> Call {
    let app = app(machine);
    machine.pannier(["build", name, "--builder", builder, "--path"]).arg(app)
}

/// The same program as root, with the other person's home, as `sudo` with a kept HOME does it.
fn as_root(machine: &Machine, words: &[&str]) -> std::process::Output {
    Command::new(machine.program())
        .args(words)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", machine.path("home"))
        .current_dir(machine.path("work"))
        .stdin(Stdio::null())
        .output()
        .expect("it starts")
}

everyone! {
    /// Unpacked layers have setuid programs and more: nobody else gets to them.
    fn is_its_owners_alone(machine: &Machine) {
        let builder = builder_of(machine, &[web()]);
        build_named(machine, &builder, "app").ok();
        let about = fs_err::metadata(store(machine)).expect("a store");
        assert_eq!((about.mode() & 0o7777, about.uid()), (0o700, machine.person().id()));
        if !Person::Caller.is_root() {
            return;
        }
        let index = store(machine).join("index.json");
        let stranger = Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "cat"])
            .arg(&index)
            .output()
            .expect("it starts");
        assert!(!stranger.status.success(), "a stranger reads {}", index.display());
    }
}

#[test]
fn root_and_its_owner_can_both_use_it() {
    let person = Person::Plain;
    if !Base::Small.available() || !Person::all().contains(&person) {
        return;
    }
    let machine = Machine::new(PANNIER, person);
    let builder = builder_of(&machine, &[web()]);
    build_named(&machine, &builder, "mine").ok();
    let output = as_root(&machine, &["build", "roots", "--builder", &builder, "--path", "app"]);
    assert!(output.status.success(), "{output:?}");

    machine.pannier(["image", "list"]).ok().says("mine").says("roots");
    machine.pannier(["doctor", "--store"]).ok();
    build_named(&machine, &builder, "mine").ok();
    machine.pannier(["image", "remove", "roots", "mine"]).ok();
    // What root unpacked is root's, and stays until root prunes.
    let output = machine.pannier(["prune", "--caches"]).ok();
    output.says("freed").says("of another user");
    build_named(&machine, &builder, "mine").ok();
    machine.pannier(["image", "remove", "mine"]).ok();
    let output = as_root(&machine, &["prune", "--caches"]);
    assert!(output.status.success(), "{output:?}");
    machine.pannier(["prune", "--caches"]).ok().never_says("of another user");
    build_named(&machine, &builder, "mine").ok();
}

#[test]
fn anothers_is_refused_in_words() {
    let person = Person::Plain;
    if !Base::Small.available() || !Person::all().contains(&person) {
        return;
    }
    let machine = Machine::new(PANNIER, person);
    let builder = builder_of(&machine, &[web()]);
    // Made by root, in a directory that everybody may look at.
    let home = machine.path("roots-home");
    let roots = home.display().to_string();
    let output = as_root(&machine, &["--home", &roots, "build", "x", "--builder", &builder, "--path", "app"]);
    assert!(!output.status.success(), "there is no app yet: {output:?}");
    app(&machine);
    let output = as_root(&machine, &["--home", &roots, "build", "x", "--builder", &builder, "--path", "app"]);
    assert!(output.status.success(), "{output:?}");

    // In a user namespace nobody knows who root is.
    for (words, owner) in
        [(&["image", "list"][..], "uid 0"), (&["prune"], "another user"), (&["run", "x"], "another user")]
    {
        let output = machine.pannier(["--home", &roots]).args(words).fails();
        output.says(&format!("belongs to {owner}, and only its owner may use it"));
        output.says("hint: choose another place");
    }
    let output = machine.pannier(["--home", &roots, "doctor"]).fails();
    output.says("cannot be written").says("--home");
    // Nor can one be made in a directory of root's.
    let nowhere = home.join("deeper").display().to_string();
    machine.pannier(["--home", &nowhere, "doctor"]).fails().says("cannot be written");
    let output = machine.pannier(["--home", &nowhere, "image", "list"]).fails();
    output.says("cannot create the store").says("Permission denied").says("hint: choose another place");
    assert!(sandbox::remove_tree(&home).is_ok());
}

#[test]
fn can_be_read_where_it_cannot_be_written() {
    let Some(machine) = machine() else { return };
    let Some(disk) = testkit::SmallDisk::mount(machine.make_dir("disk"), "size=200m") else { return };
    let builder = builder_of(&machine, &[web()]);
    let pannier = |words: &[&str]| machine.pannier(words).env("PANNIER_HOME", disk.path());
    let app = app(&machine);
    pannier(&["build", "app", "--builder", &builder, "--path"]).arg(&app).ok();
    assert!(disk.remount("ro"));

    let listed = pannier(&["image", "list"]).run();
    let inspected = pannier(&["inspect", "app"]).run();
    let copied = pannier(&["image", "copy", "app", "oci-archive:app.tar"]).run();
    let checked = pannier(&["doctor", "--store"]).run();
    let built = pannier(&["build", "app", "--builder", &builder, "--path"]).arg(&app).run();
    let removed = pannier(&["image", "remove", "app"]).run();
    let pruned = pannier(&["prune"]).run();
    disk.unmount();

    for output in [&listed, &inspected, &copied] {
        assert!(output.status.success(), "{output}");
    }
    listed.says("app:latest");
    assert!(machine.path("work/app.tar").exists());
    assert_eq!(checked.status.code(), Some(1), "{checked}");
    checked.says("1 images").says("cannot be written");
    for output in [&built, &removed, &pruned] {
        assert_eq!(output.status.code(), Some(1), "{output}");
        assert!(
            output.all().contains("cannot be written") || output.all().contains("Read-only file system"),
            "{output}"
        );
    }
}

everyone! {
    /// Directories of the store that somebody replaced by links lead nowhere.
    fn nothing_is_swept_through_a_link(machine: &Machine) {
        let builder = builder_of(machine, &[web()]);
        let precious = machine.make_dir("precious");
        for name in ["1-1", "file", "7-7.lock"] {
            machine.write(format!("precious/{name}"), "dear");
        }
        build_named(machine, &builder, "app").ok();
        for name in ["tmp", "rootfs", "cache", "steps", "downloads"] {
            let (place, aside) = (store(machine).join(name), machine.path("aside"));
            fs_err::rename(&place, &aside).expect("moved");
            symlink(&precious, &place).expect("linked");
            for words in [&["prune", "--caches"][..], &["image", "list"]] {
                machine.pannier(words).fails().says(name).says("link");
            }
            fs_err::remove_file(&place).expect("removed");
            fs_err::rename(&aside, &place).expect("moved back");
        }
        let left = |dir: &Path| fs_err::read_dir(dir).expect("it is there").count();
        assert_eq!(left(&precious), 3);
        machine.pannier(["prune", "--caches"]).ok();
        build_named(machine, &builder, "app").ok();
    }
}

everyone! {
    /// An unpacked layer that lost a file is found, and made again.
    fn an_unpacked_layer_that_is_not_whole(machine: &Machine) {
        let builder = builder_of(machine, &[web()]);
        build_named(machine, &builder, "app").ok();
        let trees = store(machine).join("rootfs");
        let find = "find . -name sh -path '*/bin/sh' | head -n 1";
        // As whoever it belongs to: `sh` of the largest layer.
        let found = std::process::Command::new("sh").args(["-c", find]).current_dir(&trees).output().expect("it starts");
        let shell = trees.join(String::from_utf8_lossy(&found.stdout).trim());
        fs_err::remove_file(&shell).expect("a file of a layer");

        let output = machine.pannier(["doctor", "--store"]).fails();
        output.says("unpacked layer").says("expected").says("--repair");
        machine.pannier(["doctor", "--store", "--repair"]).ok().says("unpacked again");
        machine.pannier(["doctor", "--store"]).ok();
        build_named(machine, &builder, "app").ok();
        assert!(shell.exists());
    }
}

everyone! {
    /// A kept layer that lost a file is found, and made again.
    fn a_kept_layer_that_is_not_whole(machine: &Machine) {
        let kept = facts("test/kept", "layer data cache; [ -e \"$CNB_LAYERS_DIR/data/file\" ] || echo made anew; echo 1 > \"$CNB_LAYERS_DIR/data/file\"");
        let builder = builder_of(machine, &[kept, web()]);
        build_named(machine, &builder, "app").ok().says("made anew");
        build_named(machine, &builder, "app").ok().never_says("made anew");
        let find = "find . -path '*/trees/*/data/file'";
        let caches = store(machine).join("cache");
        let found = std::process::Command::new("sh").args(["-c", find]).current_dir(&caches).output().expect("it starts");
        let file = caches.join(String::from_utf8_lossy(&found.stdout).trim());
        fs_err::remove_file(&file).expect("a file of a kept layer");

        machine.pannier(["doctor", "--store"]).fails().says("test/kept:data is not what it was");
        machine.pannier(["doctor", "--store", "--repair"]).ok().says("make it again");
        machine.pannier(["doctor", "--store"]).ok();
        build_named(machine, &builder, "app").ok().says("made anew");
    }
}
