//! Files that an app, a buildpack, a layout, an archive or an image brings, in every form but that of a file: links to
//! what is none of theirs, FIFOs that nobody writes to, devices without end, and what is far too large. Each ends with a
//! clear error or is passed over, soon, in bounded memory, and nothing of what a link leads to is shown.

use std::path::Path;

use rustix::fs::{CWD, Mode, mkfifoat};
use testkit::machine::Call;
use testkit::{Base, Buildpack, Layout, Machine, Output, Tree};

use crate::support::*;

/// What no output may ever have in it.
const CANARY: &str = "canary-hunter2";

/// `pannier` with an end in sight: a minute, and 4 GiB of addresses. The canary is in its environment.
fn bounded<A: AsRef<std::ffi::OsStr>>(machine: &Machine, words: impl IntoIterator<Item = A>) -> Call {
    let script = "ulimit -v 4000000; exec timeout --kill-after 5 60 \"$@\"";
    machine
        .call("bash", ["-c", script, "bash"])
        .arg(machine.program())
        .args(words)
        .env("REGISTRY_PASSWORD", CANARY)
}

/// Checks that it came to an end by itself, and that nothing was shown that is nobody's business.
fn tame(output: Output, what: &str) -> Output {
    assert!(![124, 137, 134, 139].contains(&output.code()), "{what}: {output}");
    output.never_says(CANARY).never_says("panicked").never_says("root:");
    output
}

/// A form of a file that is none: its name, how to make it at a path, and what is said of it.
type Form = (&'static str, fn(&Machine, &Path), &'static str);

/// What a file can be that is none.
const FORMS: &[Form] = &[
    ("environment", |_, path| link("/proc/self/environ", path), "leads out of"),
    ("foreign file", |machine, path| link(machine.write("secret", CANARY), path), "leads out of"),
    ("endless", |_, path| link("/dev/zero", path), "leads out of"),
    ("FIFO", |machine, path| fifo(machine, path), "is a FIFO, expected a regular file"),
    (
        "directory",
        |_, path| fs_err::create_dir(path).expect("made"),
        "is a directory, expected a regular file",
    ),
    ("huge", |_, path| huge(path), "larger than the "),
];

fn link(target: impl AsRef<Path>, path: &Path) {
    std::os::unix::fs::symlink(target, path).expect("a link can be made");
}

fn fifo(_: &Machine, path: &Path) {
    mkfifoat(CWD, path, Mode::from_raw_mode(0o666)).expect("a FIFO can be made");
}

/// A gigabyte that takes no place.
fn huge(path: &Path) {
    fs_err::File::create(path).and_then(|file| file.set_len(1 << 30)).expect("written");
}

/// Makes `path` each of [`FORMS`] in turn, and has `run` find that it is refused in words of its own.
fn refuses_each_form(machine: &Machine, path: &Path, run: &dyn Fn() -> Call) {
    let name = path.file_name().expect("a name").to_string_lossy();
    let _ = fs_err::remove_file(path);
    for (what, make, expected) in FORMS {
        make(machine, path);
        let output = tame(run().fails(), what);
        output.says(expected).says(&name);
        let _ = fs_err::remove_file(path).or_else(|_| fs_err::remove_dir(path));
    }
}

everyone! {
    /// `project.toml` of the app, found or named.
    fn the_descriptor_of_an_app(machine: &Machine) {
        let app = app(machine);
        let descriptor = app.join("project.toml");
        let builder = builder_of(machine, &[web()]);
        let build = |more: &[&str]| bounded(machine, ["build", OUT, "--builder", &builder, "--path"]).arg(&app).args(more);
        refuses_each_form(machine, &descriptor, &|| build(&["-v"]));
        let named = descriptor.display().to_string();
        refuses_each_form(machine, &descriptor, &|| build(&["--descriptor", &named]));
        link("nowhere", &descriptor);
        tame(build(&[]).fails(), "a link to nothing").says("project.toml");
        fs_err::remove_file(&descriptor).expect("it is there");
        // A link within the app is as good as a file.
        machine.write("work/app/ci/build.toml", "[_]\nschema-version = \"0.2\"\n");
        link("ci/build.toml", &descriptor);
        tame(build(&[]).ok(), "a link within the app");
    }
}

#[test]
fn a_descriptor_that_a_person_names_may_be_a_link_or_a_pipe() {
    let Some(machine) = machine() else { return };
    let app = app(&machine);
    let builder = builder_of(&machine, &[web()]);
    machine.write("work/elsewhere.toml", "[_]\nschema-version = \"0.2\"\nodd = 1\n");
    link("elsewhere.toml", &machine.path("work/link.toml"));
    let build = |descriptor: &str| {
        bounded(&machine, ["build", OUT, "--builder", &builder, "--descriptor", descriptor, "--path"])
            .arg(&app)
    };
    tame(build("link.toml").ok(), "a link").says("link.toml:3:1: `_.odd` is ignored");
    let script = format!(
        "exec timeout 60 \"$0\" build {OUT} --builder {builder} --path {} --descriptor <(cat elsewhere.toml)",
        app.display()
    );
    let piped = machine.call("bash", ["-c", &script]).arg(machine.program());
    tame(piped.ok(), "a pipe").says("`_.odd` is ignored");
    fifo(&machine, &machine.path("work/fifo.toml"));
    tame(build("fifo.toml").fails(), "a FIFO").says("fifo.toml").says("is a FIFO");
}

#[test]
fn files_of_a_persons_options() {
    let Some(machine) = machine() else { return };
    let app = app(&machine);
    let builder =
        builder_of(&machine, &[facts("test/env", r#"fact it "$(cat "$CNB_PLATFORM_DIR/env/IT")""#)]);
    let build = |more: &[&str]| {
        bounded(&machine, ["build", OUT, "--builder", &builder, "--path"]).arg(&app).args(more)
    };
    fifo(&machine, &machine.path("work/fifo"));
    for (option, value) in [("--env-file", "fifo"), ("--secret", "id=x,src=fifo")] {
        tame(build(&[option, value]).fails(), option).says("is a FIFO, expected a regular file");
    }
    for (option, value) in [("--env-file", "/dev/zero"), ("--secret", "id=x,src=/dev/zero")] {
        tame(build(&[option, value]).fails(), option).says("is a character device, expected a regular file");
    }
    for app in ["fifo", "/dev/zero"] {
        let words = ["build", OUT, "--builder", &builder, "--path", app];
        tame(bounded(&machine, words).fails(), app).says("is neither a folder nor a zip file");
    }
    // What is in the way of credentials must not hang either: the registry may need none.
    machine.make_dir("docker");
    fifo(&machine, &machine.path("docker/config.json"));
    let docker = machine.path("docker");
    tame(build(&[]).env("DOCKER_CONFIG", &docker).ok(), "config.json").says("credentials are not read");
    let script = format!(
        "exec timeout 60 \"$0\" build {OUT} --builder {builder} --path {} --env-file <(sleep 0.2; echo IT=piped) \
         --secret id=x,src=<(echo {CANARY})",
        app.display()
    );
    tame(machine.call("bash", ["-c", &script]).arg(machine.program()).ok(), "pipes");
    assert_eq!(fact(&built(&machine), "test/env", "it"), "piped");
}

#[test]
fn descriptors_of_buildpacks() {
    let Some(machine) = machine() else { return };
    let app = app(&machine);
    let builder = builder_of(&machine, &[web()]);
    let folder = machine.make_dir("work/bp");
    Buildpack::new("test/own", "1.0.0").write(&folder);
    let build = || {
        bounded(&machine, ["build", OUT, "--builder", &builder, "--buildpack", "./bp", "--path"]).arg(&app)
    };
    refuses_each_form(&machine, &folder.join("package.toml"), &build);
    refuses_each_form(&machine, &folder.join("buildpack.toml"), &build);
    fifo(&machine, &machine.path("work/bp.tgz"));
    let named = ["build", OUT, "--builder", &builder, "--buildpack", "./bp.tgz", "--path"];
    tame(bounded(&machine, named).arg(&app).fails(), "an archive").says("bp.tgz").says("is a FIFO");
    for uri in ["../bp.tgz", "/dev/stdin", "file:///dev/zero"] {
        let text = format!("[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\nuri = \"{uri}\"\n");
        machine.write("work/app/project.toml", text);
        // A pipe that stays open, as the standard input of a CI system may be.
        let script = format!(
            "exec timeout 60 \"$0\" build {OUT} --builder {builder} --path {} < <(exec sleep 90 > /dev/null 2>&1)",
            app.display()
        );
        let build = machine.call("bash", ["-c", &script]).arg(machine.program());
        tame(build.fails(), uri).says("expected a regular file");
    }
}

everyone! {
    /// A layout and its blobs, and archives of images.
    fn layouts_and_archives(machine: &Machine) {
        let layout = Layout::new(machine.path("work/layout"));
        let digest = layout.add("it", &Base::Small.run());
        let run = |name: &str| bounded(machine, ["run", name, "--entrypoint", "true"]);
        tame(run(&layout.reference("it")).ok(), "as it is");
        for file in [layout.path().join("oci-layout"), layout.path().join("index.json"), layout.blob_path(&digest)] {
            let whole = fs_err::read(&file).expect("it is there");
            let name = file.file_name().expect("a name").to_string_lossy();
            for (what, make, _) in FORMS {
                fs_err::remove_file(&file).expect("it is there");
                make(machine, &file);
                tame(run(&layout.reference("it")).fails(), what).says(&name);
                let _ = fs_err::remove_file(&file).or_else(|_| fs_err::remove_dir(&file));
                fs_err::write(&file, &whole).expect("written");
            }
        }
        fifo(machine, &machine.path("work/fifo"));
        for name in ["oci-archive:fifo", "docker-archive:fifo", "oci-archive:/dev/zero", "docker-archive:/dev/zero"] {
            tame(run(name).fails(), name).says("expected a regular file");
            tame(bounded(machine, ["image", "copy", name, "oci:copy:it"]).fails(), name).says("expected a regular file");
        }
    }
}

#[test]
fn what_buildpacks_write() {
    let Some(machine) = machine() else { return };
    let secret = machine.write("secret", CANARY).display().to_string();
    let forms = [
        &format!("ln -s {secret} FILE"),
        "ln -s /etc/shadow FILE",
        "ln -s /proc/self/environ FILE",
        "ln -s /dev/zero FILE",
        "mkfifo FILE",
        "truncate -s 2G FILE",
    ];
    let app = app(&machine);
    for file in ["launch.toml", "build.toml", "store.toml", "own.toml", "launch.sbom.cdx.json"] {
        for form in forms {
            let script = format!("cd \"$CNB_LAYERS_DIR\"; mkdir own; {}", form.replace("FILE", file));
            let buildpack = Buildpack::new("test/odd", "1.0.0").build(&script);
            let buildpack = buildpack.keys("sbom-formats = [\"application/vnd.cyclonedx+json\"]");
            let builder = builder_of(&machine, &[buildpack]);
            let build = bounded(&machine, ["build", OUT, "--builder", &builder, "--path"]).arg(&app);
            tame(build.fails(), &format!("{file}: {form}")).says(file).says("test/odd");
        }
    }
}

#[test]
fn variables_of_layers() {
    let Some(machine) = machine() else { return };
    let script = r#"
mkdir -p "$CNB_LAYERS_DIR/own/env"; printf '[types]\nbuild = true\n' > "$CNB_LAYERS_DIR/own.toml"
cd "$CNB_LAYERS_DIR/own/env"; ln -s /dev/zero A; ln -s /etc/passwd B; mkfifo C; ln -s /proc/self/environ D
"#;
    let next = facts("test/next", r#"fact seen "$(env | grep -E '^[ABCD]=' || true)""#);
    let image = build_with(&machine, &[Buildpack::new("test/odd", "1.0.0").build(script), next]);
    assert_eq!(fact(&image, "test/next", "seen"), "");
}

#[test]
fn plans_and_what_extensions_generate() {
    let Some(machine) = machine() else { return };
    let app = app(&machine);
    machine.write("secret", CANARY);
    let fails = |what: &str, parts: testkit::Builder, named: &str| {
        let builder = builder(&machine, &parts);
        let output = bounded(&machine, ["build", OUT, "--builder", &builder, "--path"]).arg(&app).fails();
        tame(output, what).says(named);
    };
    for form in
        ["ln -sf /dev/zero", "ln -sf /etc/passwd", "rm -f $FILE; mkfifo", "rm -f $FILE; truncate -s 2G"]
    {
        let detect = format!("FILE=\"$CNB_BUILD_PLAN_PATH\"; {form} \"$FILE\"");
        let odd = web().detect(&detect.replace("ln -sf /", "rm -f $FILE; ln -s /"));
        fails(&detect, testkit::Builder::of(Base::Small, &[odd]), "plan");
        for file in ["build.Dockerfile", "run.Dockerfile", "extend-config.toml"] {
            let generate = format!("FILE=\"$CNB_OUTPUT_DIR/{file}\"; {form} \"$FILE\"");
            let extension = Buildpack::extension("test/ext", "1.0.0").generate(&generate);
            let builder = testkit::Builder::of(Base::Small, &[web()])
                .extension(extension)
                .extension_group(&["test/ext"]);
            fails(&generate, builder, file);
        }
    }
}

#[test]
fn files_of_images() {
    use tar::EntryType;
    let Some(machine) = machine() else { return };
    let huge = vec![b'x'; 80 << 20];
    for file in ["etc/passwd", "etc/group", "etc/os-release", "var/lib/dpkg/status"] {
        let forms = [
            Tree::new().symlink(file, "/proc/self/environ"),
            Tree::new().symlink(file, "../../../../../../../../proc/self/environ"),
            Tree::new().symlink(file, "/dev/zero"),
            Tree::new().entry(EntryType::Fifo, file, 0o644, "", &[]),
            Tree::new().entry(EntryType::Char, file, 0o644, "", &[]),
            Tree::new().file(file, 0o644, &huge),
        ];
        for (number, form) in forms.into_iter().enumerate() {
            let layout = Layout::new(machine.path("images"));
            layout.add("odd", &Base::Small.run().layer(form.clone()).user("nobody"));
            let name = layout.reference("odd");
            let what = format!("{file}, {number}");
            tame(bounded(&machine, ["run", &name, "--entrypoint", "true"]).run(), &what);
            if matches!(file, "etc/passwd" | "etc/group") {
                // Programs of the builder would read it, and wait: those are not ours.
                continue;
            }
            let builder = testkit::Builder::of(Base::Small, &[web()]).image().layer(form);
            layout.add("builder", &builder);
            let builder = layout.reference("builder");
            let words = ["build", OUT, "--builder", &builder, "--run-image", &name, "--path"];
            tame(bounded(&machine, words).arg(app(&machine)).run(), &what);
        }
    }
}

#[test]
fn a_procfile_is_a_file_of_the_app() {
    let Some(machine) = machine() else { return };
    let app = app(&machine);
    let procfile = app.join("Procfile");
    let words = ["build", OUT, "--buildpack", "from=default-builder:pannier/procfile", "--path"];
    let build = || bounded(&machine, words).arg(&app).args(["--env", &format!("TOKEN={CANARY}")]);
    for target in ["/proc/self/environ", "/dev/zero", "/etc/passwd", "/platform/env/TOKEN"] {
        link(target, &procfile);
        tame(build().fails(), target);
        fs_err::remove_file(&procfile).expect("it is there");
    }
    fifo(&machine, &procfile);
    tame(build().fails(), "a FIFO");
    fs_err::remove_file(&procfile).expect("it is there");
    huge(&procfile);
    tame(build().fails(), "huge").says("Procfile is larger than the 1048576 bytes expected at most");
}

#[test]
fn zip_files_that_swell() {
    let Some(machine) = machine() else { return };
    let builder = builder_of(&machine, &[web()]);
    let path = machine.path("work/app.zip");
    let python = |script: &str| {
        machine.call("python3", ["-c", script]).arg(&path).ok();
        bounded(&machine, ["build", OUT, "--builder", &builder, "--path"]).arg(&path).fails()
    };
    let swells = "
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED) as z:
    with z.open('zeros', 'w') as f:
        for _ in range(1100): f.write(bytes(1 << 20))
";
    tame(python(swells), "swells").says("app.zip").says("more than 1073741824 bytes");
    let overlaps = "
import io, struct, sys, zipfile
data = io.BytesIO()
with zipfile.ZipFile(data, 'w', zipfile.ZIP_DEFLATED) as z:
    for name in ['a', 'b', 'c']: z.writestr(name, bytes(1 << 20))
data = bytearray(data.getvalue())
at = data.find(b'PK\\x01\\x02')
while at >= 0:
    data[at + 42:at + 46] = struct.pack('<I', 0)
    at = data.find(b'PK\\x01\\x02', at + 1)
open(sys.argv[1], 'wb').write(data)
";
    tame(python(overlaps), "overlaps").says("app.zip").says("several entries have the same bytes");
    assert!(!machine.path("work/out").exists(), "nothing is built");
}

#[test]
fn a_program_that_is_none() {
    use tar::EntryType;
    let Some(machine) = machine() else { return };
    let layout = Layout::new(machine.path("images"));
    layout.add("odd", &Base::Small.run().layer(Tree::new().entry(EntryType::Fifo, "fifo", 0o755, "", &[])));
    let run = bounded(&machine, ["run", &layout.reference("odd"), "--entrypoint", "/fifo"]);
    tame(run.fails(), "a FIFO").says("/fifo");
}

#[test]
fn reports_are_not_written_through_what_is_there() {
    let Some(machine) = machine() else { return };
    let app = app(&machine);
    let builder = builder_of(&machine, &[web()]);
    let report = app.join("report.toml");
    let precious = machine.write("precious", CANARY);
    let build = || {
        let words = ["build", OUT, "--builder", &builder, "--report-output-dir"];
        bounded(&machine, words).arg(&app).arg("--path").arg(&app)
    };
    let makers: [&dyn Fn(); 2] = [&|| link(&precious, &report), &|| fifo(&machine, &report)];
    for make in makers {
        make();
        tame(build().ok(), "a report");
        assert!(fs_err::read_to_string(&report).expect("a report").contains("[image]"));
        assert_eq!(fs_err::read_to_string(&precious).expect("it is there"), CANARY);
        fs_err::remove_file(&report).expect("it is a file of its own");
    }
}
