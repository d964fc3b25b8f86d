//! Extended images in every place that images go to, from every place that run images are in.

use testkit::registry::{Kind, Registry};
use testkit::{Base, Machine, ReadImage};

use crate::fixture::*;
use crate::support::*;

/// An extension that adds a file of 300 kB to the run image: more than all other layers together.
fn large() -> testkit::Buildpack {
    extension("test/ext", "RUN echo built > /etc/built", "RUN head -c 300000 /dev/urandom > /etc/large")
}

/// A builder in a registry, its run image in the same one; its name.
fn push_builder(machine: &Machine, host: &str) -> String {
    let (name, run) = (format!("{host}/test/builder:1"), format!("{host}/test/run:1"));
    let copy =
        |from: &str, to: &str| machine.pannier(["image", "copy", from, &format!("docker://{to}")]).ok();
    copy(&Base::Small.run_reference(), &run);
    let extended = extended_builder(&[large()], &[web()]).run_images(&[&run]);
    copy(&builder(machine, &extended), &name);
    name
}

fn diff_ids(image: &ReadImage) -> Vec<String> {
    image.layers.iter().map(|layer| layer.diff_id.clone()).collect()
}

#[test]
fn files_and_the_store() {
    let Some(machine) = machine() else { return };
    let builder = with_extensions(&machine, &[large()], &[web()]);
    let app = app(&machine);
    let build = |to: &str| machine.pannier(["build", to, "--builder", &builder, "--path"]).arg(&app).ok();
    for to in ["oci:layout", "oci-archive:oci.tar", "docker-archive:docker.tar:my/app:1", "in-store"] {
        build(to);
        let name = if to.starts_with("docker-archive") { "docker-archive:docker.tar" } else { to };
        machine.pannier(["run", name]).ok().says("tool says hello");
        machine
            .pannier(["run", name, "--entrypoint", "sh", "--", "-c", "wc -c < /etc/large"])
            .ok()
            .says("300000");
    }
    let layout = ReadImage::from_layout(&machine.path("work/layout"), None);
    assert_eq!(layout.digest, ReadImage::from_archive(&machine.path("work/oci.tar"), None).digest);
    let docker = ReadImage::from_docker_archive(&machine.path("work/docker.tar"));
    assert_eq!((diff_ids(&layout), &layout.config), (diff_ids(&docker), &docker.config));
    machine.pannier(["image", "copy", "in-store", "oci:from-store"]).ok();
    assert_eq!(layout.digest, ReadImage::from_layout(&machine.path("work/from-store"), None).digest);
}

#[test]
fn a_registry_is_sent_what_it_has_not() {
    let Some(machine) = machine() else { return };
    let registry = Registry::default();
    let builder = push_builder(&machine, &registry.host());
    let app = app(&machine);
    let name = format!("{}/apps/one:1", registry.host());
    let build = || machine.pannier(["build", &name, "--publish", "--builder", &builder, "--path"]).arg(&app);
    registry.forget();
    build().ok();
    assert!(registry.count(Kind::Mount) >= 1, "the run image's layers go from repository to repository");
    let largest =
        registry.seen().iter().filter(|seen| seen.kind == Kind::UploadPut).map(|seen| seen.received).max();
    assert!(largest.is_some_and(|it| (290_000..700_000).contains(&it)), "{largest:?}");
    machine.pannier(["image", "copy", &format!("docker://{name}"), "oci:fetched:it"]).ok();
    let image = ReadImage::from_layout(&machine.path("work/fetched"), Some("it"));
    assert_eq!(image.entry("/etc/large").map(|entry| entry.content.len()), Some(300_000));
    registry.forget();
    build().ok();
    assert_eq!(registry.count(Kind::UploadPut), 0, "nothing changed, so no blob is sent");
    let of_run_image = |seen: &&testkit::registry::Seen| {
        seen.kind == Kind::BlobGet && seen.path.starts_with("/v2/test/run/")
    };
    assert_eq!(registry.seen().iter().filter(of_run_image).count(), 1, "its configuration, and no layer");
}

everyone! {
    /// A run image that is in the store only, and one that is in a layout only.
    fn run_images_without_a_registry(machine: &Machine) {
        let builder = with_extensions(machine, &[large()], &[web()]);
        machine.pannier(["image", "copy", &Base::Small.run_reference(), "only-here"]).ok();
        let app = app(machine);
        let mut digests = Vec::new();
        for run_image in ["only-here", &Base::Small.run_reference()] {
            machine
                .pannier(["build", "oci:out:app", "--pull-policy", "never", "--run-image", run_image])
                .args(["--builder", &builder, "--path"])
                .arg(&app)
                .ok();
            let image = built(machine);
            assert!(image.entry("/etc/large").is_some());
            digests.push(diff_ids(&image));
        }
        assert_eq!(digests[0], digests[1]);
    }
}

#[test]
fn layers_are_compressed_as_asked_for() {
    testkit::needs!("zstd");
    let Some(machine) = machine() else { return };
    let layout = testkit::Layout::new(machine.path("run-images"));
    layout.add("docker", &Base::Small.run().stored(testkit::image::Stored::Docker));
    let builder = with_extensions(&machine, &[large()], &[web()]);
    let mut found = Vec::new();
    // What one build keeps, another with other wishes does not take as it is.
    for compression in ["gzip", "zstd", "none", "gzip"] {
        let options = ["--compression", compression, "--run-image", &layout.reference("docker")];
        build(&machine, &builder).args(options).ok();
        let image = built(&machine);
        let created = image.created_by();
        let at = created.iter().position(|line| line.contains("by extension: test/ext")).expect("a layer");
        let kind = image.manifest["layers"][at]["mediaType"].as_str().unwrap_or_default().to_owned();
        let expected = match compression {
            "zstd" => "application/vnd.oci.image.layer.v1.tar+zstd",
            "none" => "application/vnd.docker.image.rootfs.diff.tar",
            _ => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        };
        assert_eq!(kind, expected);
        found.push(image.layers[at].diff_id.clone());
        machine.pannier(["run", OUT]).ok().says("tool says hello");
        let _ = fs_err::remove_dir_all(machine.path("work/out"));
    }
    found.dedup();
    assert_eq!(found.len(), 1, "the same files");
}

#[test]
fn a_run_image_that_is_not_to_be_had() {
    let Some(machine) = machine() else { return };
    let ext = exactly("run.Dockerfile", "FROM registry.invalid/no/such:1\n");
    let builder = with_extensions(&machine, &[ext], &[web()]);
    let output = build(&machine, &builder).args(["--pull-policy", "never"]).fails();
    output.says("registry.invalid/no/such:1").says("pull policy is `never`").never_says("panicked");
    assert!(!machine.path("work/out").exists());
}

/// Builds of different apps that need the same steps, at once: each step is made once, and all are whole.
#[test]
fn side_by_side() {
    let Some(machine) = machine() else { return };
    let slow = "RUN sleep 1; head -c 100000 /dev/urandom > /etc/random";
    let builder = with_extensions(&machine, &[extension("test/ext", slow, slow)], &[web()]);
    let app = app(&machine);
    let build = |name: &str| machine.pannier(["build", name, "--builder", &builder, "--path"]).arg(&app);
    let children = ["one", "two", "three"].map(|name| build(name).start());
    for child in children {
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let random = ["one", "two", "three"].map(|name| {
        machine.pannier(["run", name, "--entrypoint", "sha256sum", "--", "/etc/random"]).ok().stdout
    });
    assert!(random.iter().all(|it| *it == random[0]), "{random:?}");
}
