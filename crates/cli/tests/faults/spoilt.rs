//! Blobs of the store that are not what they should be: found, named, and fetched or made again.

use std::path::{Path, PathBuf};

use testkit::{Base, Machine, Person};

use crate::support::*;
use crate::{fails_with, store, verify};

/// Changes one bit in the middle of a blob, in a file of its own.
fn spoil(blob: &Path) -> String {
    let mut content = fs_err::read(blob).expect("it can be read");
    let middle = content.len() / 2;
    content[middle] ^= 1;
    // Layouts of tests share their blobs by hard links.
    fs_err::remove_file(blob).expect("it is there");
    fs_err::write(blob, content).expect("it can be spoilt");
    blob.file_name().expect("a name").to_string_lossy().into_owned()
}

/// The files of a store's blobs, the largest first.
fn blobs(store: &Path) -> Vec<PathBuf> {
    let mut blobs: Vec<_> =
        fs_err::read_dir(store.join("blobs/sha256")).expect("a store").flatten().collect();
    blobs.sort_by_key(|entry| entry.metadata().map(|about| about.len()).unwrap_or_default());
    blobs.iter().rev().map(fs_err::DirEntry::path).collect()
}

/// A machine whose store has a run image that a registry has too, and an app built for it.
fn machine_with_run_image(registry: &testkit::Registry) -> Option<(Machine, String, String)> {
    let machine = machine()?;
    let run = format!("{}/test/run:1", registry.host());
    machine.pannier(["image", "copy", &Base::Small.run_reference(), &format!("docker://{run}")]).ok();
    let builder = builder_of(&machine, &[web()]);
    build_for(&machine, &builder, &run, "app:1").ok();
    Some((machine, run, builder))
}

fn build_for(machine: &Machine, builder: &str, run: &str, name: &str) -> testkit::machine::Call {
    let app = app(machine);
    machine.pannier(["build", name, "--builder", builder, "--run-image", run, "--path"]).arg(app)
}

/// The names of a layout's blobs that begin so, the largest first.
fn blobs_of(layout: &str, beginning: &[u8]) -> Vec<std::ffi::OsString> {
    let dir = layout.strip_prefix("oci:").and_then(|rest| rest.rsplit_once(':')).expect("a layout").0;
    let begins = |blob: &PathBuf| fs_err::read(blob).expect("it can be read").starts_with(beginning);
    let found = blobs(Path::new(dir)).into_iter().filter(begins);
    found.map(|blob| blob.file_name().expect("a name").to_owned()).collect()
}

/// Where the largest layer of the run image is in the store.
fn run_layer(machine: &Machine) -> PathBuf {
    let layers = blobs_of(&Base::Small.run_reference(), b"\x1f\x8b");
    let mut here = layers.iter().map(|name| store(machine).join("blobs/sha256").join(name));
    here.find(|blob| blob.exists()).expect("the store has its layers")
}

#[test]
fn a_spoilt_run_image_is_fetched_again() {
    let registry = testkit::Registry::default();
    let Some((machine, run, builder)) = machine_with_run_image(&registry) else { return };
    let other = testkit::Registry::default();
    let published = format!("{}/test/app:1", other.host());
    for (sink, publish) in
        [("oci-archive:app.tar", false), ("oci:out:app", false), (published.as_str(), true)]
    {
        // The store has all of it.
        build_for(&machine, &builder, &run, "app:1").ok();
        let digest = spoil(&run_layer(&machine));
        let call = build_for(&machine, &builder, &run, sink).args(["--pull-policy", "if-not-present"]);
        let call = if publish { call.arg("--publish") } else { call };
        call.ok().says(&format!("warning: blob sha256:{digest}")).says("corrupt");
    }
    for image in ["oci-archive:app.tar", "oci:out:app", &format!("docker://{published}")] {
        machine.pannier(["run", image]).ok().says("tool says hello");
    }
    build_for(&machine, &builder, &run, "app:1").ok();
    verify(&machine);

    // A document, without which nothing is known of the image.
    let documents = blobs_of(&Base::Small.run_reference(), b"{");
    for document in
        documents.iter().map(|name| store(&machine).join("blobs/sha256").join(name)).filter(|it| it.exists())
    {
        spoil(&document);
        build_for(&machine, &builder, &run, "app:1").ok();
        verify(&machine);
    }
}

#[test]
fn a_spoilt_layer_of_the_app_is_made_again() {
    let registry = testkit::Registry::default();
    let Some((machine, run, _)) = machine_with_run_image(&registry) else { return };
    let published = format!("{}/test/app:1", registry.host());
    let before = blobs(&store(&machine));
    let big = facts(
        "test/big",
        "layer big launch,cache; [ -e $CNB_LAYERS_DIR/big/file ] || head -c 300000 /dev/urandom > $CNB_LAYERS_DIR/big/file",
    );
    let builder = builder_of(&machine, &[big, web()]);
    // One cache for all names.
    let build = |run: &str, name: &str| {
        build_for(&machine, &builder, run, name).args(["--cache", "type=build;format=volume;name=spoilt"])
    };
    build(&run, "app:1").ok();
    let layer = |machine: &Machine| {
        let new = blobs(&store(machine)).into_iter().filter(|blob| !before.contains(blob));
        new.into_iter().find(|blob| blob.metadata().is_ok_and(|it| (300_000..310_000).contains(&it.len())))
    };
    for sink in [&published, "oci-archive:app.tar"] {
        let digest = spoil(&layer(&machine).expect("the layer's blob"));
        let call = build(&run, sink);
        let call = if sink == published { call.arg("--publish") } else { call };
        call.ok().says(&format!("warning: blob sha256:{digest}")).says("corrupt");
        verify(&machine);
    }
    machine.pannier(["run", &format!("docker://{published}")]).ok().says("tool says hello");
    machine.pannier(["run", "oci-archive:app.tar"]).ok().says("tool says hello");
}

#[test]
fn a_spoilt_builder_is_mended() {
    let Some(machine) = machine() else { return };
    let registry = testkit::Registry::default();
    let name = format!("{}/test/builder:1", registry.host());
    let local = builder_of(&machine, &[web()]);
    machine.pannier(["image", "copy", &local, &format!("docker://{name}")]).ok();
    build(&machine, &name).ok();
    let largest = blobs(&store(&machine)).swap_remove(0);
    let digest = spoil(&largest);
    // Else nobody would read it.
    fs_err::remove_dir_all(store(&machine).join("rootfs")).expect("trees can be removed");
    fs_err::create_dir(store(&machine).join("rootfs")).expect("it can be made");
    build(&machine, &name)
        .ok()
        .says(&format!("warning: blob sha256:{digest}"))
        .says("corrupt: fetched again");
    verify(&machine);

    // One that is nowhere else is named, and the build ends.
    let blob = machine.path("images/blobs/sha256").join(&digest);
    spoil(&blob);
    let fresh = Machine::new(PANNIER, Person::Caller);
    fails_with(&fresh, 1, build(&fresh, &local)).says(&digest).says("corrupt");
    verify(&fresh);
}
