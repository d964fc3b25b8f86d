//! The extensions and apps in `samples/`, with the builder that is described there, on base images of the test kit: a
//! Debian whose only repository is a folder, and a distroless image.

use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::machine::Call;
use testkit::{Base, Layout, Machine, Person, ReadImage, Tree, needs};

use crate::support::*;

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples")
}

/// Everybody's machine, if there can be one and the base images are to be had.
fn machines() -> Vec<Machine> {
    if !(Base::DebianApt.available() && Base::Distroless.available()) {
        return Vec::new();
    }
    Person::all().into_iter().map(|person| Machine::new(PANNIER, person)).collect()
}

/// Copies the samples, with the base images of tests in the builder's description, and makes the builder as its README
/// says. Returns its name.
fn sample_builder(machine: &Machine) -> &'static str {
    let folder = machine.make_dir("work");
    let copied = Command::new("cp").arg("-r").arg(samples()).arg(&folder).status().expect("cp starts");
    assert!(copied.success());
    let file = folder.join("samples/builder.toml");
    let text = fs_err::read_to_string(&file).expect("the sample has a builder.toml");
    let layout = Base::DebianApt.layout();
    let text = text
        .replace("docker.io/paketobuildpacks/build-jammy-base:latest", &layout.reference("build"))
        .replace("docker.io/paketobuildpacks/run-jammy-base:latest", &layout.reference("run"));
    assert!(!text.contains("docker.io"), "{text}");
    fs_err::write(file, text).expect("it can be written");
    machine.person().own_all(&folder.join("samples"));
    machine.pannier(["builder", "create", "sample-builder", "--config", "samples/builder.toml"]).ok();
    "sample-builder"
}

/// `pannier build` of one of the sample apps, without any network.
fn build_sample(machine: &Machine, app: &str) -> Call {
    let path = format!("samples/apps/{app}");
    let call = machine.pannier(["build", OUT, "--builder", "sample-builder", "--path", &path]);
    let call = call.args(["--pull-policy", "never", "--network", "none"]);
    if app == "distroless" { call.args(["--run-image", &Base::Distroless.run_reference()]) } else { call }
}

fn built_new(machine: &Machine) -> ReadImage {
    let image = built(machine);
    fs_err::remove_dir_all(machine.path("work/out")).expect("it was just written");
    image
}

/// Builds both apps for everybody, cold and again. Returns one image of each: they are all the same.
fn same_for_everybody() -> Vec<ReadImage> {
    let mut first = Vec::new();
    for machine in machines() {
        sample_builder(&machine);
        let built = ["apt-packages", "distroless"].map(|app| {
            build_sample(&machine, app).ok();
            assert_eq!(machine.pannier(["run", OUT]).ok().stdout, "Hello, world!\n", "{app}");
            let cold = built_new(&machine);
            build_sample(&machine, app).ok();
            assert_eq!(built_new(&machine).digest, cold.digest, "{app}: with all steps cached");
            cold
        });
        if first.is_empty() {
            first = built.to_vec();
        }
        for (image, first) in built.iter().zip(&first) {
            assert_eq!(image.config, first.config, "{}", machine.person().name());
            assert_eq!(image.digest, first.digest, "{}", machine.person().name());
        }
    }
    first
}

/// The names of the files (not folders) in the layers that the extension made.
fn files_of(image: &ReadImage, extension: &str) -> Vec<String> {
    let steps = image.config["history"].as_array().expect("a list").iter();
    let steps = steps.filter(|step| step["empty_layer"] != true);
    let of_extension =
        image.layers.iter().zip(steps).filter(|(_, step)| step.to_string().contains(extension));
    let entries = of_extension.flat_map(|(layer, _)| &layer.entries).filter(|entry| entry.kind != '5');
    entries.map(|entry| entry.name.trim_start_matches('/').to_owned()).collect()
}

#[test]
fn the_same_images_for_everybody() {
    let images = same_for_everybody();
    let [apt, distroless] = images.as_slice() else { return };
    assert_eq!(
        files_of(apt, "samples/apt-packages"),
        [
            "usr/bin/hello",
            "usr/share/libgreeting1/words",
            "var/lib/apt/extended_states",
            "var/lib/dpkg/info/hello.list",
            "var/lib/dpkg/info/hello.md5sums",
            "var/lib/dpkg/info/libgreeting1.list",
            "var/lib/dpkg/info/libgreeting1.md5sums",
            "var/lib/dpkg/status",
            "var/lib/dpkg/.wh.status-old",
        ]
    );
    assert_eq!(apt.label("io.buildpacks.rebasable"), Some("false"));
    assert_eq!(apt.config["config"]["User"], "cnb");
    assert_eq!(
        files_of(distroless, "samples/deb-packages"),
        [
            "usr/bin/hello",
            "usr/share/libgreeting1/words",
            "usr/share/man/man1/hello.1",
            "var/lib/dpkg/status.d/hello",
            "var/lib/dpkg/status.d/libgreeting1",
        ]
    );
    assert_eq!(distroless.label("io.buildpacks.rebasable"), Some("true"));
    assert_eq!(distroless.config["config"]["User"], "65532");
}

#[test]
fn an_image_that_has_the_packages_is_left_as_it_is() {
    for machine in machines().into_iter().take(1) {
        sample_builder(&machine);
        let call = build_sample(&machine, "apt-packages").args(["--env", "BP_APT_PACKAGES=bash dpkg"]);
        call.ok();
        let image = built_new(&machine);
        assert_eq!(files_of(&image, "samples/apt-packages"), [""; 0]);
        let base = ReadImage::from_layout(Base::DebianApt.layout().path(), Some("run"));
        let below = image.layers.iter().zip(&base.layers);
        assert!(
            below.clone().count() == base.layers.len() && below.clone().all(|(a, b)| a.diff_id == b.diff_id)
        );
    }
}

#[test]
fn packages_of_every_kind() {
    for machine in machines() {
        sample_builder(&machine);
        files_of_others(&machine);
        maintainer_scripts(&machine);
    }
}

/// With one id they can't be had, and are not left out silently.
fn files_of_others(machine: &Machine) {
    for (app, variable) in [("apt-packages", "BP_APT_PACKAGES"), ("distroless", "BP_DEB_PACKAGES")] {
        let call = build_sample(machine, app).args(["--env", &format!("{variable}=spooler hello")]);
        if machine.person() == Person::Plain {
            call.fails().says("spooler").says("/etc/subuid");
            continue;
        }
        call.ok();
        let image = built_new(machine);
        let spool = image.entry("/var/spool/spooler").expect("the package is installed");
        assert_eq!((spool.mode & 0o7777, spool.uid, spool.gid), (0o2775, 8, 8), "{app}");
        let file = image.entry("/var/spool/spooler/first").expect("the package is installed");
        assert_eq!((file.mode & 0o7777, file.uid, file.gid), (0o640, 1, 12), "{app}");
    }
}

fn maintainer_scripts(machine: &Machine) {
    build_sample(machine, "apt-packages").args(["--env", "BP_APT_RUN_PACKAGES=configured"]).ok();
    assert_eq!(built_new(machine).text("/etc/configured.conf"), "set up by postinst\n");

    let names = ["--env", "BP_DEB_PACKAGES=configured hello"];
    let left_out = "configured: its script postinst is not run";
    build_sample(machine, "distroless").args(names).ok().says(left_out);
    assert!(built_new(machine).entry("/etc/configured.conf").is_none());
    let call = build_sample(machine, "distroless").args(names).args(["--env", "BP_DEB_SCRIPTS=run"]);
    call.ok().says("configured: setting up");
    assert_eq!(built_new(machine).text("/etc/configured.conf"), "set up by postinst\n");

    let call = build_sample(machine, "apt-packages");
    call.args(["--env", "BP_APT_RUN_PACKAGES=broken-setup"]).fails().says("this can not be set up");
}

#[test]
fn packages_that_the_app_brings() {
    for machine in machines().into_iter().take(1) {
        sample_builder(&machine);
        let brought = testkit::Deb::new("brought", "7").file("/srv/brought", 0o600, "by the app\n").file(
            "/usr/share/netbase",
            0o644,
            "",
        );
        machine.write("work/samples/apps/distroless/debs/one.deb", brought.bytes());
        // One that the image has, in another version.
        let netbase = testkit::Deb::new("netbase", "999").file("/etc/protocols", 0o644, "");
        machine.write("work/samples/apps/distroless/debs/two.deb", netbase.bytes());
        build_sample(&machine, "distroless").ok().says("netbase: the image has 6.4, and keeps it");
        let image = built_new(&machine);
        assert_eq!(image.text("/srv/brought"), "by the app\n");
        assert!(image.text("/var/lib/dpkg/status.d/brought").contains("Version: 7\n"));
        assert!(image.entry("/etc/protocols").is_none());
        assert!(image.entry("/usr/bin/hello").is_some());

        machine.write("work/samples/apps/distroless/debs/three.deb", "no package at all");
        build_sample(&machine, "distroless").fails().says("debs/three.deb is not a Debian package");
    }
}

#[test]
fn names_that_are_none_are_refused() {
    for machine in machines().into_iter().take(1) {
        sample_builder(&machine);
        for (app, variable) in [("apt-packages", "BP_APT_PACKAGES"), ("distroless", "BP_DEB_PACKAGES")] {
            for name in ["--allow-unauthenticated", "$(id)", "*", "Hello"] {
                let call = build_sample(&machine, app).args(["--env", &format!("{variable}=hello {name}")]);
                call.fails().says(&format!("\"{name}\" is not the name of a package"));
            }
        }
        let call = build_sample(&machine, "apt-packages").args(["--env", "BP_APT_PACKAGES=no-such-package"]);
        call.fails().says("Unable to locate package no-such-package");
    }
}

/// From a web server on this machine, which is what a mirror of Debian is.
#[test]
fn packages_of_a_web_server() {
    if !needs::have(&["busybox"]) {
        return;
    }
    for machine in machines().into_iter().take(1) {
        sample_builder(&machine);
        let folder = machine.make_dir("www");
        testkit::deb::write_repository(&folder, &testkit::deb::packages());
        let server = WebServer::start(&folder);
        let sources = format!("deb [trusted=yes] http://127.0.0.1:{}/ ./\n", server.port);
        let sources =
            Tree::new().dir("etc", 0o755).dir("etc/apt", 0o755).file("etc/apt/sources.list", 0o644, sources);
        let layout = Layout::new(machine.path("images"));
        layout.add("run", &Base::DebianApt.run().layer(sources));
        let call = machine.pannier(["build", OUT, "--builder", "sample-builder", "--pull-policy", "never"]);
        let call = call.args(["--path", "samples/apps/apt-packages", "--env", "BP_APT_PACKAGES="]);
        let call =
            call.args(["--env", "BP_APT_RUN_PACKAGES=greeting", "--run-image", &layout.reference("run")]);
        call.ok();
        assert_eq!(
            machine.pannier(["run", OUT, "--entrypoint", "greeting"]).run().stdout,
            "hello from a package\n"
        );
        let files = files_of(&built(&machine), "samples/apt-packages");
        assert!(files.contains(&"usr/bin/greeting".to_owned()), "{files:?}");
        assert!(
            !files.iter().any(|file| file.starts_with("var/lib/apt/lists") || file.starts_with("var/cache"))
        );
    }
}

/// busybox's, which serves a folder.
struct WebServer {
    child: std::process::Child,
    port: u16,
}

impl WebServer {
    fn start(folder: &Path) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = port.expect("a free port").port();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new("busybox");
        command.args(["httpd", "-f", "-p", &address, "-h"]).arg(folder);
        let child = command.spawn().expect("busybox starts");
        while std::net::TcpStream::connect(&address).is_err() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Self { child, port }
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn skopeo_reads_and_podman_runs_them() {
    if !needs::have(&["skopeo", "podman"]) {
        return;
    }
    for machine in machines().into_iter().take(1) {
        sample_builder(&machine);
        for app in ["apt-packages", "distroless"] {
            build_sample(&machine, app).ok();
            let image = built(&machine);
            let read = machine.call("skopeo", ["inspect", "--config", OUT]).ok();
            let config = serde_json::from_str::<serde_json::Value>(&read.stdout).expect("skopeo writes JSON");
            assert_eq!(config["rootfs"], image.config["rootfs"]);
            let storage = [
                "--root",
                "storage",
                "--runroot",
                "run",
                "--storage-driver",
                "vfs",
                "--cgroup-manager",
                "cgroupfs",
            ];
            let call = machine.call("podman", storage);
            // What podman wants to set beyond these, not everybody may set.
            let call = call.args(["run", "--rm", "--quiet", "--network=host", "--cgroups=no-conmon"]);
            let call = call.args(["--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000"]);
            let call = call.args(["--security-opt", "seccomp=unconfined", OUT]);
            assert_eq!(call.ok().stdout, "Hello, world!\n", "{app}");
            fs_err::remove_dir_all(machine.path("work/out")).expect("it was just written");
        }
    }
}
