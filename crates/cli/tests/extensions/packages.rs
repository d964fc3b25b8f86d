//! Packages that the base images have: extensions that are not needed; packages that extensions add.

use serde_json::{Value, json};
use testkit::image::digest;
use testkit::machine::{Call, Output};
use testkit::registry::{Kind, Options, Registry};
use testkit::{Base, Builder, Buildpack, Image, Layout, Machine, ReadImage, Tree};

use crate::fixture::extension;
use crate::support::*;

/// What the run image of [`Base::Alpine`] has and that of [`Base::Small`] has not.
const PACKAGE: &str = "ca-certificates-bundle";
const NOT_NEEDED: &str = "Base image already has ca-certificates-bundle: extension test/tls is not needed";
const ASKED: &str = "test/tls was asked";

/// An extension that says what it would install, and can not install it.
fn tls() -> Buildpack {
    silent()
        .generate(
            "echo test/tls was asked\n\
             printf 'ARG base_image\\nFROM ${base_image}\\n' > \"$CNB_OUTPUT_DIR/run.Dockerfile\"",
        )
        .tables(&format!("[[metadata.packages]]\nprovides = \"tls\"\nrun = [\"{PACKAGE}\"]"))
}

/// An extension that says nothing of packages.
fn silent() -> Buildpack {
    Buildpack::extension("test/tls", "1.0.0")
        .detect("printf '[[provides]]\\nname = \"tls\"\\n' > \"$CNB_BUILD_PLAN_PATH\"")
}

/// [`web`], which wants what the extension provides.
fn wants(name: &str) -> Buildpack {
    web().detect(&format!("printf '[[requires]]\\nname = \"{name}\"\\n' > \"$CNB_BUILD_PLAN_PATH\""))
}

fn with(base: Base, extension: Buildpack) -> Builder {
    let id = extension.id().to_owned();
    Builder::of(base, &[wants("tls")]).extension(extension).extension_group(&[&id])
}

/// Writes an image where the machine's person can read it, and returns its name.
fn image(machine: &Machine, tag: &str, image: &Image) -> String {
    let layout = Layout::new(machine.path("images"));
    layout.add(tag, image);
    layout.reference(tag)
}

/// The run image with a layer that has `content` where the label says that its SBOM is.
fn with_sbom_layer(content: &str) -> Image {
    let tree =
        Tree::new().dir("cnb", 0o755).dir("cnb/sbom", 0o755).file("cnb/sbom/bom.cdx.json", 0o644, content);
    let diff_id = digest(&tree.clone().into_tar());
    Base::Small.run().layer(tree).label("io.buildpacks.base.sbom", diff_id)
}

fn cyclonedx(package: &str) -> String {
    json!({"bomFormat": "CycloneDX", "specVersion": "1.5", "components": [
        {"type": "library", "name": package, "version": "1", "purl": format!("pkg:apk/alpine/{package}@1")},
    ]})
    .to_string()
}

fn was_asked(output: &Output) {
    output.says(ASKED).never_says("is not needed");
}

fn was_not_asked(output: &Output) {
    output.says(NOT_NEEDED).never_says(ASKED);
}

everyone! {
    /// The database in the run image answers, and no program of the extension runs. The second time, the store knows.
    fn databases(machine: &Machine) {
        let builder = builder(machine, &with(Base::Alpine, tls()));
        was_not_asked(&build(machine, &builder).ok());
        was_not_asked(&build(machine, &builder).ok());
        was_asked(&build(machine, &builder).arg("--no-base-packages").ok());
        assert_eq!(participants(&built(machine)), ["test/web"]);
    }
}

#[test]
fn a_database_of_rpm() {
    let Some(machine) = machine() else { return };
    let extension = tls().tables(
        "[[metadata.packages]]\nprovides = \"tls\"\nrun = [\"hello-tool=2:1.2-3\", \"perl(Foo::Bar)\"]",
    );
    // What is in the run image, and what the other table names, which is not.
    was_asked(&build(&machine, &builder(&machine, &with(Base::Rpm, extension))).ok());
    let extension = silent().generate("echo test/tls was asked").tables(
        "[[metadata.packages]]\nprovides = \"tls\"\nrun = [\"hello-tool=2:1.2-3\", \"perl(Foo::Bar)\"]",
    );
    build(&machine, &builder(&machine, &with(Base::Rpm, extension)))
        .ok()
        .says("Base image already has hello-tool=2:1.2-3, perl(Foo::Bar): extension test/tls is not needed")
        .never_says(ASKED);
}

#[test]
fn what_is_missing_is_asked_for() {
    let Some(machine) = machine() else { return };
    // A run image without any database: nothing is known.
    was_asked(&build(&machine, &builder(&machine, &with(Base::Small, tls()))).ok());
    // One that has all but one of two packages.
    let both = tls().tables("[[metadata.packages]]\nprovides = \"tls\"\nrun = [\"not-there\"]");
    was_asked(&build(&machine, &builder(&machine, &with(Base::Alpine, both))).ok());
    let rpm = silent()
        .generate("echo test/tls was asked")
        .tables("[[metadata.packages]]\nprovides = \"tls\"\nrun = [\"hello-tool-part12=1.2-3\"]");
    was_asked(&build(&machine, &builder(&machine, &with(Base::Rpm, rpm))).ok());
    // An upper layer deletes the database.
    let gone = Base::Alpine.run().layer(Tree::new().dir("lib/apk/db", 0o755).file(
        "lib/apk/db/.wh.installed",
        0o644,
        "",
    ));
    let run = image(&machine, "gone", &gone);
    let name = builder(&machine, &with(Base::Alpine, tls()));
    was_asked(&build(&machine, &name).args(["--run-image", &run]).ok());
}

#[test]
fn a_spoilt_database_costs_the_answer_only() {
    let Some(machine) = machine() else { return };
    let folders =
        ["var", "var/lib", "var/lib/rpm"].iter().fold(Tree::new(), |tree, dir| tree.dir(dir, 0o755));
    let spoilt = Base::Small.run().layer(folders.file(
        "var/lib/rpm/rpmdb.sqlite",
        0o644,
        "SQLite format 3\0 is not enough",
    ));
    let run = image(&machine, "spoilt", &spoilt);
    let install = "RUN echo x > /new";
    let with = Builder::of(Base::Small, &[wants("tls")]).extension_group(&["test/tls", "test/more"]);
    let with = with.extension(tls()).extension(extension("test/more", "", install));
    let output = build(&machine, &builder(&machine, &with)).args(["--run-image", &run]).ok();
    was_asked(&output);
    output.says("it is not known which packages").says("var/lib/rpm/rpmdb.sqlite cannot be read");
    output.says("the SBOM does not say which packages extensions installed");
}

#[test]
fn a_given_sbom() {
    let Some(machine) = machine() else { return };
    let name = builder(&machine, &with(Base::Small, tls()));
    let sbom = machine.write("work/run.cdx.json", cyclonedx(PACKAGE));
    was_not_asked(&build(&machine, &name).arg("--run-image-sbom").arg(&sbom).ok());
    was_asked(&build(&machine, &name).arg("--no-base-packages").arg("--run-image-sbom").arg(&sbom).ok());
    machine.write("work/none.json", "{}");
    let output = build(&machine, &name).args(["--run-image-sbom", "none.json"]).fails();
    output.says("cannot use none.json as the SBOM of the run image").says("not an SBOM");
    build(&machine, &name).args(["--run-image-sbom", "missing.json"]).fails().says("missing.json");
}

#[test]
fn an_sbom_layer() {
    let Some(machine) = machine() else { return };
    let name = builder(&machine, &with(Base::Small, tls()));
    let run = image(&machine, "sbom", &with_sbom_layer(&cyclonedx(PACKAGE)));
    was_not_asked(&build(&machine, &name).args(["--run-image", &run]).ok());
    let other = image(&machine, "other", &with_sbom_layer(&cyclonedx("other")));
    was_asked(&build(&machine, &name).args(["--run-image", &other]).ok());
}

#[test]
fn an_sbom_that_refers_to_the_image() {
    let Some(machine) = machine() else { return };
    let registry = Registry::start(Options { referrers: true, ..Options::default() });
    let run = format!("{}/test/run:1", registry.host());
    let copy = machine.pannier(["image", "copy", &Base::Small.run_reference(), &format!("docker://{run}")]);
    copy.ok();
    let name = builder(&machine, &with(Base::Small, tls()));
    let build = |policy: &str| -> Call {
        build(&machine, &name).args(["--run-image", &run, "--pull-policy", policy])
    };
    was_asked(&build("always").ok());
    attach(&registry, &cyclonedx(PACKAGE));
    was_not_asked(&build("always").ok());
    // What is known needs no question, and no network.
    registry.forget();
    was_not_asked(&build("never").ok());
    assert_eq!(registry.count(Kind::Referrers), 0);
}

/// Puts an SBOM beside the image `test/run:1`.
fn attach(registry: &Registry, sbom: &str) {
    let (media_type, manifest) = registry.manifest("test/run", "1").expect("it was pushed");
    let blob = registry.add_blob("test/run", sbom.as_bytes());
    let empty = registry.add_blob("test/run", b"{}");
    let artifact = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.cyclonedx+json",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2},
        "layers": [{"mediaType": "application/vnd.cyclonedx+json", "digest": blob, "size": sbom.len()}],
        "subject": {"mediaType": media_type, "digest": digest(&manifest), "size": manifest.len()},
    });
    let bytes = artifact.to_string().into_bytes();
    registry.add_manifest("test/run", &digest(&bytes), "application/vnd.oci.image.manifest.v1+json", &bytes);
}

#[test]
fn a_dockerfile_that_is_not_needed() {
    let Some(machine) = machine() else { return };
    let finds_out = silent().generate(
        "printf 'ARG base_image\\nFROM ${base_image}\\nRUN false\\n' > \"$CNB_OUTPUT_DIR/run.Dockerfile\"\n\
         printf '[run]\\npackages = [\"ca-certificates-bundle\"]\\n' > \"$CNB_OUTPUT_DIR/extend-config.toml\"",
    );
    build(&machine, &builder(&machine, &with(Base::Alpine, finds_out))).ok().says(
        "Base image already has ca-certificates-bundle: run.Dockerfile of extension test/tls is not needed",
    );
    // The run image is what it was.
    let base = ReadImage::from_layout(Base::Alpine.layout().path(), Some("run"));
    let top = base.layers.len() - 1;
    let image = built(&machine);
    assert_eq!(image.layers[top].diff_id, base.layers[top].diff_id);
    assert!(image.layers[top + 1].names().iter().any(|name| name.contains("layers/test_web")));
}

/// What an app image says of the packages that this extension added, in both formats.
fn added(machine: &Machine, image: &ReadImage, id: &str) -> Vec<String> {
    let dir = format!("/layers/sbom/launch/{}", id.replace('/', "_"));
    let (cyclonedx, spdx) =
        (image.text(&format!("{dir}/sbom.cdx.json")), image.text(&format!("{dir}/sbom.spdx.json")));
    let outside = machine.path("work/reports/sbom/launch").join(id.replace('/', "_"));
    assert_eq!(fs_err::read_to_string(outside.join("sbom.cdx.json")).unwrap(), cyclonedx);
    assert_eq!(fs_err::read_to_string(outside.join("sbom.spdx.json")).unwrap(), spdx);
    let (cyclonedx, spdx): (Value, Value) =
        (serde_json::from_str(cyclonedx).unwrap(), serde_json::from_str(spdx).unwrap());
    let origin = format!("io.buildpacks.extension: {id}@1.0.0");
    let texts = |list: &Value, name: &str| -> Vec<String> {
        list.as_array().unwrap().iter().map(|it| it[name].as_str().unwrap().to_owned()).collect()
    };
    for component in cyclonedx["components"].as_array().unwrap() {
        assert_eq!(component["properties"][0], json!({"name": "io.buildpacks.extension.id", "value": id}));
    }
    for package in spdx["packages"].as_array().unwrap() {
        assert_eq!(package["annotations"][0]["comment"], origin.as_str());
    }
    let purls = texts(&cyclonedx["components"], "purl");
    let references =
        spdx["packages"].as_array().unwrap().iter().map(|it| &it["externalRefs"][0]["referenceLocator"]);
    assert!(references.eq(purls.iter().map(String::as_str)));
    purls
}

/// Instructions that do what `apk add` does to the database.
fn apk_add(package: &str) -> String {
    format!("RUN printf 'P:{package}\\nV:1.2-r3\\nA:x86_64\\nL:MIT\\n\\n' >> /lib/apk/db/installed")
}

fn reported(call: Call) -> Call {
    call.args(["--sbom-output-dir", "reports"])
}

everyone! {
    /// Each package has the extension that it came with, and the same build gives the same image, cold and cached.
    fn added_packages_are_in_the_sbom(machine: &Machine) {
        let extensions = [
            extension("test/first", "", &format!("{}\n{}", apk_add("first-lib"), apk_add("doomed"))),
            extension("test/second", "", &format!("RUN sed -i '/^P:doomed$/,/^$/d' /lib/apk/db/installed\n{}", apk_add("second-lib"))),
            extension("test/third", "RUN echo built > /mark", "LABEL some=label"),
        ];
        let with = Builder::of(Base::Alpine, &[web()]).extension_group(&["test/first", "test/second", "test/third"]);
        let name = builder(machine, &extensions.into_iter().fold(with, Builder::extension));
        reported(build(machine, &name)).ok();
        let image = built(machine);
        assert_eq!(added(machine, &image, "test/first"), ["pkg:apk/alpine/first-lib@1.2-r3?arch=x86_64&distro=alpine-3.20.3"]);
        assert_eq!(added(machine, &image, "test/second").len(), 1);
        assert!(image.entry("/layers/sbom/launch/test_third/sbom.cdx.json").is_none());
        // Once more, with every step kept; and with nothing kept of what is known of the images.
        reported(build(machine, &name)).ok();
        assert_eq!(built(machine).digest, image.digest);
        reported(build(machine, &name)).arg("--clear-cache").ok();
        assert_eq!(built(machine).digest, image.digest);
        // Whoever builds, it is the same layer.
        let sbom = image.layer_by("Software Bill-of-Materials").expect("there is an SBOM layer");
        assert_eq!(sbom.diff_id, "sha256:1a0c79e47d0ce899c33c0b8f762a6069335f2a4c675feee74bff7dd8a104f77e");
    }
}

#[test]
fn packages_without_a_package_manager() {
    let Some(machine) = machine() else { return };
    if !Base::Distroless.available() {
        return;
    }
    let record = "COPY <<EOF /var/lib/dpkg/status.d/libhello\nPackage: libhello\nVersion: 1:2+b1\nArchitecture: all\nSource: hello\nEOF";
    let with = Builder::of(Base::Distroless, &[web()]).extension_group(&["test/copy"]);
    let name = builder(&machine, &with.extension(extension("test/copy", "", record)));
    reported(build(&machine, &name)).ok();
    assert_eq!(
        added(&machine, &built(&machine), "test/copy"),
        ["pkg:deb/debian/libhello@1:2%2Bb1?arch=all&distro=debian-12&upstream=hello"]
    );
}

everyone! {
    /// A real package manager.
    fn packages_by_apt(machine: &Machine) {
        if !Base::DebianApt.available() {
            return;
        }
        let install = "RUN apt-get -o APT::Sandbox::User=root update && \
                       apt-get -o APT::Sandbox::User=root install -y --no-install-recommends hello";
        let with = Builder::of(Base::DebianApt, &[web()]).extension_group(&["test/apt"]);
        let name = builder(machine, &with.extension(extension("test/apt", "", install)));
        reported(build(machine, &name)).ok();
        let purls = added(machine, &built(machine), "test/apt");
        assert!(purls.iter().any(|purl| purl.starts_with("pkg:deb/debian/hello@")), "{purls:?}");
    }
}

#[test]
fn a_buildpack_of_the_same_name_keeps_its_files() {
    let Some(machine) = machine() else { return };
    let script = format!("{WEB}\necho '{{\"mine\": true}}' > \"$CNB_LAYERS_DIR/launch.sbom.cdx.json\"");
    let buildpack = Buildpack::new("test/web", "1.0.0")
        .keys("sbom-formats = [\"application/vnd.cyclonedx+json\"]")
        .build(&script);
    let with = Builder::of(Base::Alpine, &[buildpack]).extension_group(&["test/web"]);
    let name = builder(&machine, &with.extension(extension("test/web", "", &apk_add("new-lib"))));
    build(&machine, &name).ok();
    let image = built(&machine);
    assert_eq!(image.text("/layers/sbom/launch/test_web/sbom.cdx.json"), "{\"mine\": true}\n");
    assert!(image.text("/layers/sbom/launch/test_web/extension/sbom.cdx.json").contains("new-lib"));
}
