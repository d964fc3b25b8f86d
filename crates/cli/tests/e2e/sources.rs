//! Where images come from and go to: layouts, archives, the store, registries with every kind of lock on them.

use base64::Engine as _;
use testkit::image::Stored;
use testkit::registry::{DockerRegistry, Kind, Pki, Registry, Setup, TokenSetup};
use testkit::{Base, Builder, Layout, Machine, ReadImage};

use crate::support::*;

/// An image of a registry, read by way of a layout.
fn fetch(machine: &Machine, name: &str, options: &[&str]) -> ReadImage {
    let _ = fs_err::remove_dir_all(machine.path("work/fetched"));
    machine.pannier(["image", "copy", &format!("docker://{name}"), "oci:fetched:it"]).args(options).ok();
    ReadImage::from_layout(&machine.path("work/fetched"), Some("it"))
}

/// Puts a builder and its run image into a registry, and returns the builder's name there.
fn push_builder(machine: &Machine, host: &str, options: &[&str]) -> String {
    let name = format!("{host}/test/builder:1");
    let run = format!("{host}/test/run:1");
    let copy = |from: &str, to: &str| {
        machine.pannier(["image", "copy", from, &format!("docker://{to}")]).args(options).ok()
    };
    copy(&Base::Small.run_reference(), &run);
    copy(&builder(machine, &Builder::of(Base::Small, &[web()]).run_images(&[&run])), &name);
    name
}

#[test]
fn archives() {
    let Some(machine) = machine() else { return };
    let builder = builder_of(&machine, &[web()]);
    let app = app(&machine);
    let build = |to: &str| machine.pannier(["build", to, "--builder", &builder, "--path"]).arg(&app).ok();
    build("oci:layout");
    build("oci-archive:oci.tar");
    build("docker-archive:docker.tar:my/app:1");
    let layout = ReadImage::from_layout(&machine.path("work/layout"), None);
    let archive = ReadImage::from_archive(&machine.path("work/oci.tar"), None);
    let docker = ReadImage::from_docker_archive(&machine.path("work/docker.tar"));
    assert_eq!(layout.digest, archive.digest);
    let diff_ids =
        |image: &ReadImage| image.layers.iter().map(|layer| layer.diff_id.clone()).collect::<Vec<_>>();
    assert_eq!(diff_ids(&layout), diff_ids(&docker));
    assert_eq!(layout.config, docker.config);
    let name = docker.manifest["RepoTags"][0].as_str().unwrap_or_default();
    assert!(name.ends_with("my/app:1"), "{name}");
    for name in ["oci:layout", "oci-archive:oci.tar", "docker-archive:docker.tar"] {
        machine.pannier(["run", name]).ok().says("tool says hello");
        machine.pannier(["inspect", name]).ok().says("test/web");
    }
}

#[test]
fn builders_from_every_source() {
    let Some(machine) = machine() else { return };
    let layout = builder_of(&machine, &[web()]);
    let copy = |to: &str| machine.pannier(["image", "copy", &layout, to]).ok();
    copy("oci-archive:builder.tar");
    copy("docker-archive:builder-docker.tar:b:1");
    copy("my-builder");
    let sources =
        [layout.as_str(), "oci-archive:builder.tar", "docker-archive:builder-docker.tar", "my-builder"];
    let mut digests = Vec::new();
    for source in sources {
        let _ = fs_err::remove_dir_all(machine.path("work/out"));
        build(&machine, source).ok();
        digests.push(built(&machine).digest);
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "the source of a builder changes nothing");
}

#[test]
fn ways_to_store_layers() {
    let Some(machine) = machine() else { return };
    let layout = Layout::new(machine.path("stored"));
    for stored in [Stored::Gzip, Stored::Plain, Stored::Docker] {
        let tag = format!("{stored:?}").to_lowercase();
        let own = testkit::Tree::new().dir("/own", 0o755).file("/own/file", 0o644, &tag);
        layout.add(&tag, &Base::Small.run().layer(own).stored(stored));
        let run = machine.pannier(["run", &layout.reference(&tag), "--entrypoint", "cat", "--", "/own/file"]);
        assert_eq!(run.ok().stdout, tag);
        machine.pannier(["image", "copy", &layout.reference(&tag), &format!("oci:copied:{tag}")]).ok();
        let copied = ReadImage::from_layout(&machine.path("work/copied"), Some(&tag));
        assert_eq!(
            copied.digest,
            ReadImage::from_layout(layout.path(), Some(&tag)).digest,
            "a copy is the same, byte for byte"
        );
    }
}

#[test]
fn zstd_layers() {
    testkit::needs!("zstd");
    let Some(machine) = machine() else { return };
    let builder = builder_of(&machine, &[web()]);
    let plain = {
        build(&machine, &builder).args(["--compression", "none"]).ok();
        built(&machine)
    };
    let diff_ids =
        |image: &ReadImage| image.layers.iter().map(|layer| layer.diff_id.clone()).collect::<Vec<_>>();
    for compression in ["zstd", "zstd:10", "gzip:1", "gzip:9"] {
        let _ = fs_err::remove_dir_all(machine.path("work/out"));
        build(&machine, &builder).args(["--compression", compression]).ok();
        let image = built(&machine);
        assert_eq!(diff_ids(&image), diff_ids(&plain), "{compression}");
        let kind = format!(
            "application/vnd.oci.image.layer.v1.tar+{}",
            compression.split(':').next().unwrap_or_default()
        );
        assert_eq!(
            image.manifest["layers"]
                .as_array()
                .and_then(|layers| layers.last())
                .map(|last| &last["mediaType"]),
            Some(&kind.into())
        );
        machine.pannier(["run", OUT]).ok().says("tool says hello");
    }
    build(&machine, &builder).args(["--compression", "rar"]).fails().says("rar");
}

#[test]
fn several_platforms() {
    let Some(machine) = machine() else { return };
    let layout = Layout::new(machine.path("index"));
    let of = |architecture: &str| {
        let own = testkit::Tree::new().file("/platform-file", 0o644, architecture);
        Base::Small.run().layer(own).platform("linux", architecture)
    };
    let here = testkit::image::architecture();
    layout.add_index("many", &[of("mips64le"), of(here), of("s390x")]);
    let cat = |options: &[&str]| {
        machine.pannier(["run", &layout.reference("many")]).args(options).args([
            "--entrypoint",
            "cat",
            "--",
            "/platform-file",
        ])
    };
    assert_eq!(cat(&[]).ok().stdout, here);
    layout.add_index("elsewhere", &[of("mips64le")]);
    machine.pannier(["run", &layout.reference("elsewhere")]).fails().says(here).says("mips64le");
    machine
        .pannier(["image", "copy", &layout.reference("many"), "oci:one:it", "--platform", "linux/s390x"])
        .ok();
    assert_eq!(ReadImage::from_layout(&machine.path("work/one"), Some("it")).config["architecture"], "s390x");
}

everyone! {
    /// Build from a registry, publish to it, and again: only what is new is sent.
    fn a_registry(machine: &Machine) {
        testkit::needs!("docker-registry");
        let registry = DockerRegistry::start(&Setup::default());
        let host = registry.host();
        let builder = push_builder(machine, host, &[]);
        let app = app(machine);
        let name = format!("{host}/apps/one:1");
        let second = format!("{host}/apps/one:2");
        let build = || machine.pannier(["build", &name, "--tag", &second, "--publish", "--builder", &builder, "--path"]).arg(&app);
        build().args(["--report-output-dir", "report"]).ok();
        let image = fetch(machine, &name, &[]);
        let report = fs_err::read_to_string(machine.path("work/report/report.toml")).expect("there is a report");
        assert!(report.contains(&format!("digest = \"{}\"", image.digest)) && report.contains("manifest-size"), "{report}");
        assert_eq!(fetch(machine, &second, &[]).digest, image.digest);
        assert_eq!(image.label("io.buildpacks.lifecycle.metadata").map(|text| text.contains(&format!("{host}/test/run"))), Some(true));
        build().ok();
        assert_eq!(fetch(machine, &name, &[]).digest, image.digest);
        machine.pannier(["run", &name]).ok().says("tool says hello");
        machine.pannier(["run", &format!("docker://{name}")]).ok().says("tool says hello");
    }
}

#[test]
fn only_new_bytes_are_sent() {
    let Some(machine) = machine() else { return };
    let registry = Registry::default();
    let builder = push_builder(&machine, &registry.host(), &[]);
    let app = app(&machine);
    let name = format!("{}/apps/one:1", registry.host());
    let build =
        || machine.pannier(["build", &name, "--publish", "--builder", &builder, "--path"]).arg(&app).ok();
    registry.forget();
    build();
    assert!(registry.count(Kind::Mount) >= 1, "the run image's layers go from repository to repository");
    let base =
        registry.seen().iter().filter(|seen| seen.kind == Kind::UploadPut).map(|seen| seen.received).max();
    assert!(base.is_some_and(|largest| largest < 1_500_000), "the base was not uploaded: {base:?}");
    registry.forget();
    build();
    let sent = registry.seen().iter().map(|seen| seen.received).sum::<u64>();
    assert_eq!(registry.count(Kind::UploadPut), 0, "nothing changed, so no blob is sent");
    assert!(sent < 20_000, "{sent} bytes were sent");
}

#[test]
fn passwords_and_tokens() {
    testkit::needs!("docker-registry", "htpasswd", "openssl");
    let Some(machine) = machine() else { return };
    let basic = DockerRegistry::start(&Setup { password: Some(("user", "s3cret-pass")), ..Setup::default() });
    let token = DockerRegistry::start(&Setup {
        token: Some(TokenSetup::user("user", "s3cret-pass")),
        ..Setup::default()
    });
    for registry in [&basic, &token] {
        let host = registry.host();
        let to = format!("docker://{host}/test/run:1");
        let copy = || machine.pannier(["image", "copy", &Base::Small.run_reference(), &to]);
        let write = |file: &str, password: &str| {
            let auth = base64::engine::general_purpose::STANDARD.encode(format!("user:{password}"));
            machine.write(file, format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"{auth}\"}}}}}}"))
        };
        let _ = fs_err::remove_file(machine.path("home/.docker/config.json"));
        let refused = copy().fails();
        refused.says("unauthorized").says(host).never_says("panicked");
        write("home/.docker/config.json", "wrong-pass");
        copy().fails().says("unauthorized").never_says("wrong-pass");
        write("home/.docker/config.json", "s3cret-pass");
        copy().arg("--verbose").ok().never_says("s3cret-pass");
        fs_err::remove_file(machine.path("home/.docker/config.json")).expect("it is there");
        let podman = write("elsewhere/auth.json", "s3cret-pass");
        copy().env("REGISTRY_AUTH_FILE", podman).ok();
        let header = base64::engine::general_purpose::STANDARD.encode("user:s3cret-pass");
        copy().env("CNB_REGISTRY_AUTH", format!("{{\"{host}\":\"Basic {header}\"}}")).ok();
    }
}

#[test]
fn credential_helpers() {
    testkit::needs!("docker-registry", "htpasswd");
    let Some(machine) = machine() else { return };
    let registry =
        DockerRegistry::start(&Setup { password: Some(("user", "s3cret-pass")), ..Setup::default() });
    let host = registry.host();
    machine.write_script("bin/docker-credential-test", "#!/bin/sh\nread -r server\n[ \"$1\" = get ] && echo \"{\\\"ServerURL\\\":\\\"$server\\\",\\\"Username\\\":\\\"user\\\",\\\"Secret\\\":\\\"s3cret-pass\\\"}\"\n");
    machine.write("home/.docker/config.json", format!("{{\"credHelpers\":{{\"{host}\":\"test\"}}}}"));
    let to = format!("docker://{host}/test/run:1");
    let path = format!("{}:/usr/bin:/bin", machine.path("bin").display());
    machine.pannier(["image", "copy", &Base::Small.run_reference(), &to]).env("PATH", path).ok();
    machine
        .pannier(["image", "copy", &Base::Small.run_reference(), &to])
        .fails()
        .says("docker-credential-test");
}

#[test]
fn certificates() {
    testkit::needs!("docker-registry", "openssl");
    let Some(machine) = machine() else { return };
    let pki = Pki::new();
    let registry = DockerRegistry::start(&Setup { tls: Some(&pki), ..Setup::default() });
    let host = registry.host().to_owned();
    let to = format!("docker://{host}/test/run:1");
    let copy = || machine.pannier(["image", "copy", &Base::Small.run_reference(), &to]);
    copy().fails().says("certificate");
    copy().args(["--registry-ca", &pki.other_ca().display().to_string()]).fails().says("certificate");
    copy().args(["--registry-ca", &pki.ca().display().to_string()]).ok();
    copy().env("SSL_CERT_FILE", pki.ca()).ok();
    copy().args(["--insecure-registry", &host]).ok();

    let strict =
        DockerRegistry::start(&Setup { tls: Some(&pki), client_certificate: true, ..Setup::default() });
    let host = strict.host().to_owned();
    let to = format!("docker://{host}/test/run:1");
    let ca = pki.ca().display().to_string();
    let copy =
        || machine.pannier(["image", "copy", &Base::Small.run_reference(), &to]).args(["--registry-ca", &ca]);
    copy().fails();
    let (certificate, key) = pki.client();
    for (from, name) in [(certificate, "client.cert"), (key, "client.key")] {
        let content = fs_err::read(from).expect("it is there");
        machine.write(format!("home/.config/docker/certs.d/{host}/{name}"), &content);
        machine.write(format!("home/.docker/certs.d/{host}/{name}"), &content);
    }
    copy().ok();
}

#[test]
fn cache_images() {
    let Some(machine) = machine() else { return };
    let registry = Registry::default();
    let script = "layer deps cache; echo \"deps: $(cat \"$CNB_LAYERS_DIR/deps/file\" 2>/dev/null || echo none)\"; echo there > \"$CNB_LAYERS_DIR/deps/file\"";
    let builder = builder_of(&machine, &[facts("test/deps", script)]);
    let cache = format!("{}/caches/one:1", registry.host());
    // Without --publish too: the image goes to a layout.
    build(&machine, &builder).args(["--cache-image", &cache]).ok().says("deps: none");
    let other = Machine::new(PANNIER, machine.person());
    let elsewhere = builder_of(&other, &[facts("test/deps", script)]);
    build(&other, &elsewhere).args(["--cache-image", &cache]).ok().says("deps: there");
    let (_, manifest) = registry.manifest("caches/one", "1").expect("the cache was pushed");
    assert!(String::from_utf8_lossy(&manifest).contains("layers"));
}

#[test]
fn pull_policies() {
    let Some(machine) = machine() else { return };
    let registry = Registry::default();
    let builder = push_builder(&machine, &registry.host(), &[]);
    build(&machine, &builder).args(["--pull-policy", "never"]).fails().says(&builder);
    build(&machine, &builder).args(["--pull-policy", "if-not-present"]).ok();
    let run = format!("{}/test/run:1", registry.host());
    machine.pannier(["image", "copy", &format!("docker://{run}"), &run]).ok();
    registry.forget();
    build(&machine, &builder).args(["--pull-policy", "never"]).ok();
    assert!(registry.seen().is_empty(), "{:?}", registry.seen());
    build(&machine, &builder).args(["--pull-policy", "always"]).ok();
    assert!(!registry.seen().is_empty());
    build(&machine, &builder).args(["--pull-policy", "sometimes"]).fails().says("sometimes");
}
