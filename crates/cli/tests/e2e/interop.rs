//! Other programs read what was written, and run it.

use std::process::Command;

use serde_json::Value;
use testkit::{Machine, Person};

use crate::support::*;

/// An image for other programs: in a layout and an archive.
fn image(machine: &Machine) {
    let builder = builder_of(machine, &[web()]);
    build(machine, &builder).ok();
    machine.pannier(["image", "copy", OUT, "oci-archive:out.tar:it"]).ok();
    machine.pannier(["image", "copy", OUT, "docker-archive:docker.tar:pannier/test:1"]).ok();
}

#[test]
fn skopeo() {
    testkit::needs!("skopeo");
    let Some(machine) = machine() else { return };
    image(&machine);
    for name in [OUT, "oci-archive:out.tar", "docker-archive:docker.tar"] {
        let said = machine.call("skopeo", ["inspect", name]).ok().stdout;
        let said: Value = serde_json::from_str(&said).expect("skopeo writes JSON");
        assert!(said["Labels"]["io.buildpacks.lifecycle.metadata"].is_string(), "{name}: {said:#}");
    }
    let digest = built(&machine).digest;
    machine.call("skopeo", ["copy", "--quiet", OUT, "dir:copied"]).ok();
    let manifest = fs_err::read(machine.path("work/copied/manifest.json")).expect("skopeo wrote it");
    assert_eq!(testkit::image::digest(&manifest), digest);
    // And the other way: what skopeo writes is read here.
    machine.call("skopeo", ["copy", "--quiet", OUT, "oci-archive:theirs.tar:x"]).ok();
    machine.pannier(["run", "oci-archive:theirs.tar"]).ok().says("tool says hello");
    machine.call("skopeo", ["copy", "--quiet", OUT, "docker-archive:theirs-docker.tar:x:1"]).ok();
    machine.pannier(["run", "docker-archive:theirs-docker.tar"]).ok().says("tool says hello");
}

#[test]
fn the_store_is_a_layout() {
    testkit::needs!("skopeo");
    let Some(machine) = machine() else { return };
    let builder = builder_of(&machine, &[web()]);
    let app = app(&machine);
    machine.pannier(["build", "in-store", "--builder", &builder, "--path"]).arg(app).ok();
    let index = fs_err::read(machine.path("home/.local/share/pannier/store/index.json"))
        .expect("the store has an index");
    let index: Value = serde_json::from_slice(&index).expect("it is JSON");
    let names = index["manifests"].as_array().into_iter().flatten();
    let mut names =
        names.filter_map(|known| known["annotations"]["org.opencontainers.image.ref.name"].as_str());
    let name = names.find(|name| name.contains("in-store")).expect("the image has a name in the index");
    let reference = format!("oci:{}:{name}", machine.path("home/.local/share/pannier/store").display());
    machine.call("skopeo", ["inspect", &reference]).ok().says("io.buildpacks.build.metadata");
}

#[test]
fn umoci_and_runc() {
    testkit::needs!("umoci");
    let Some(machine) = machine() else { return };
    image(&machine);
    let rootless: &[&str] = if machine.person().is_root() { &[] } else { &["--rootless"] };
    machine.call("umoci", ["unpack"]).args(rootless).args(["--image", "out:app", "bundle"]).ok();
    let text = fs_err::read_to_string(machine.path("work/bundle/rootfs/workspace/app.sh"))
        .expect("umoci unpacked it");
    assert!(text.contains("the app runs"));

    testkit::needs!("runc");
    let config = machine.path("work/bundle/config.json");
    let mut spec: Value = serde_json::from_slice(&fs_err::read(&config).expect("a bundle")).expect("JSON");
    spec["process"]["terminal"] = Value::Bool(false);
    // The host's network namespace and no cgroups: what a plain machine gives.
    if let Some(namespaces) = spec["linux"]["namespaces"].as_array_mut() {
        namespaces.retain(|namespace| namespace["type"] != "network" && namespace["type"] != "cgroup");
    }
    fs_err::write(&config, spec.to_string()).expect("it can be written");
    let name = format!("pannier-test-{}", std::process::id());
    let output = machine
        .call("runc", ["--root"])
        .arg(machine.path("runc"))
        .args(["run", "--bundle", "bundle", &name])
        .run();
    if output.all().contains("cgroup") && !output.status.success() {
        testkit::needs::cannot("runc finds no cgroups it can use here");
        return;
    }
    assert!(output.status.success(), "{output}");
    assert_eq!(output.stdout, "tool says hello\n");
}

#[test]
fn podman() {
    testkit::needs!("podman");
    let Some(machine) = machine() else { return };
    image(&machine);
    let storage =
        ["--root", "storage", "--runroot", "run", "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"];
    let podman = |arguments: &[&str]| machine.call("podman", storage).args(arguments);
    for name in ["oci-archive:out.tar", "docker-archive:docker.tar"] {
        let options = [
            "run",
            "--rm",
            "--network=host",
            "--cgroups=no-conmon",
            // Podman raises these; not everywhere may root do that.
            "--ulimit=nofile=1024:1024",
            "--ulimit=nproc=1000:1000",
            "--security-opt",
            "seccomp=unconfined",
            "--quiet",
        ];
        let output = podman(&options).args([name]).run();
        assert!(output.status.success(), "{output}");
        assert_eq!(output.stdout, "tool says hello\n", "{output}");
    }
}

/// A private `dockerd`, stopped in the end.
struct Dockerd {
    child: std::process::Child,
    host: String,
}

impl Dockerd {
    fn start(machine: &Machine) -> Option<Self> {
        let host = format!("unix://{}", machine.path("docker.sock").display());
        let log = fs_err::File::create(machine.path("dockerd.log")).expect("a log").into_file();
        let child = Command::new("dockerd")
            .args(["--iptables=false", "--bridge=none", "--storage-driver=vfs", "--host", &host])
            .arg("--data-root")
            .arg(machine.path("docker"))
            .arg("--exec-root")
            .arg(machine.path("docker-exec"))
            .arg("--pidfile")
            .arg(machine.path("docker.pid"))
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("dockerd starts");
        let mut daemon = Self { child, host };
        for _ in 0..150 {
            if daemon.docker(machine, &["version"]).run().status.success() {
                return Some(daemon);
            }
            if daemon.child.try_wait().expect("it can be asked").is_some() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let log = fs_err::read_to_string(machine.path("dockerd.log")).unwrap_or_default();
        testkit::needs::cannot(&format!(
            "dockerd does not start here: {}",
            log.lines().last().unwrap_or_default()
        ));
        None
    }

    fn docker(&self, machine: &Machine, arguments: &[&str]) -> testkit::machine::Call {
        machine.call("docker", ["--host", &self.host]).args(arguments)
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // TERM, so that it stops its containerd and unmounts.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

#[test]
fn docker() {
    testkit::needs!("dockerd", "docker");
    if !Person::Caller.is_root() {
        testkit::needs::cannot("dockerd needs root");
        return;
    }
    let Some(machine) = machine() else { return };
    image(&machine);
    let Some(daemon) = Dockerd::start(&machine) else { return };
    daemon.docker(&machine, &["load", "--quiet", "--input", "docker.tar"]).ok().says("pannier/test:1");
    let run =
        daemon.docker(&machine, &["run", "--rm", "--network=host", "pannier/test:1", "other", "words"]).run();
    assert_eq!(run.stdout, "tool says other words\n", "{run}");
    let id = daemon.docker(&machine, &["inspect", "--format", "{{.Id}}", "pannier/test:1"]).ok().stdout;
    let archive = testkit::ReadImage::from_docker_archive(&machine.path("work/docker.tar"));
    assert_eq!(id.trim(), archive.digest, "the image's id is the digest of our config");
    // Docker 20.10 loads an OCI archive if there is a manifest.json beside the index.
    let output = daemon.docker(&machine, &["load", "--input", "out.tar"]).run();
    assert!(output.status.success(), "{output}");
    // What docker saves is read here.
    daemon.docker(&machine, &["save", "--output", "saved.tar", "pannier/test:1"]).ok();
    machine.pannier(["run", "docker-archive:saved.tar"]).ok().says("tool says hello");
}
