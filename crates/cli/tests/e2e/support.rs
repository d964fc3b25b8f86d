//! What the tests share: a test for each person, an app, a builder, a build.

use std::path::{Path, PathBuf};

use testkit::machine::Call;
use testkit::{Base, Builder, Buildpack, Layout, Machine, Person, ReadImage, needs};

/// The binary under test.
pub const PANNIER: &str = env!("CARGO_BIN_EXE_pannier");

/// Defines a test that runs once for each person: the caller (root, in CI), a user with subordinate ids, a user
/// without. The body gets a fresh [`Machine`].
macro_rules! everyone {
    ($(#[$about:meta])* fn $name:ident($machine:ident: &Machine) $body:block) => {
        $(#[$about])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn body($machine: &testkit::Machine) $body

            #[test]
            fn caller() {
                $crate::support::on_machine_of(testkit::Person::Caller, body);
            }

            #[test]
            fn with_ranges() {
                $crate::support::on_machine_of(testkit::Person::Ranges, body);
            }

            #[test]
            fn plain() {
                $crate::support::on_machine_of(testkit::Person::Plain, body);
            }
        }
    };
}
pub(crate) use everyone;

/// Runs `body` on a fresh machine of `person`, if there can be one and the small base image is to be had.
pub fn on_machine_of(person: Person, body: fn(&Machine)) {
    if !Base::Small.available() {
        return;
    }
    if !Person::all().contains(&person) {
        needs::cannot(&format!("{} can't be had: only root can become another user", person.name()));
        return;
    }
    body(&Machine::new(PANNIER, person));
}

/// A machine of the caller, for what does not depend on who it is.
pub fn machine() -> Option<Machine> {
    Base::Small.available().then(|| Machine::new(PANNIER, Person::Caller))
}

/// Writes a one-file app and returns its folder.
pub fn app(machine: &Machine) -> PathBuf {
    machine.write_script("work/app/app.sh", "#!/usr/bin/env bash\necho the app runs\n");
    machine.path("work/app")
}

/// A buildpack whose image runs `tool hello` by default: a launch layer with a program in it, a process `web`.
pub fn web() -> Buildpack {
    Buildpack::new("test/web", "1.0.0").build(WEB)
}

/// The script of [`web`].
pub const WEB: &str = r#"
mkdir -p "$CNB_LAYERS_DIR/tool/bin"
printf '#!/bin/sh\necho tool says "$@"\n' > "$CNB_LAYERS_DIR/tool/bin/tool"
chmod +x "$CNB_LAYERS_DIR/tool/bin/tool"
printf '[types]\nlaunch = true\n' > "$CNB_LAYERS_DIR/tool.toml"
cat > "$CNB_LAYERS_DIR/launch.toml" <<END
[[processes]]
type = "web"
command = ["tool"]
args = ["hello"]
default = true
END
echo "web has built"
"#;

/// A buildpack that runs `script` in its build, with the functions `fact NAME VALUE` (leaves a value where
/// [`fact`] finds it) and `layer NAME TYPES` (makes a layer: `layer deps launch,cache`).
pub fn facts(id: &str, script: &str) -> Buildpack {
    Buildpack::new(id, "1.0.0").build(&format!("{FUNCTIONS}\n{script}"))
}

/// The functions that [`facts`] gives a script.
pub const FUNCTIONS: &str = r#"
fact() {
    mkdir -p "$CNB_LAYERS_DIR/facts"
    printf '[types]\nlaunch = true\n' > "$CNB_LAYERS_DIR/facts.toml"
    printf '%s' "$2" > "$CNB_LAYERS_DIR/facts/$1"
}
layer() {
    mkdir -p "$CNB_LAYERS_DIR/$1"
    printf '[types]\n' > "$CNB_LAYERS_DIR/$1.toml"
    for type in ${2//,/ }; do echo "$type = true" >> "$CNB_LAYERS_DIR/$1.toml"; done
}
"#;

/// A value that a [`facts`] buildpack left in the image.
pub fn fact<'a>(image: &'a ReadImage, id: &str, name: &str) -> &'a str {
    image.text(&format!("/layers/{}/facts/{name}", id.replace('/', "_")))
}

/// Writes a builder where the machine's person can read it, and returns its name.
pub fn builder(machine: &Machine, builder: &Builder) -> String {
    let layout = Layout::new(machine.path("images"));
    layout.add("builder", &builder.image());
    layout.reference("builder")
}

/// As [`builder`], on the small base, with one group: all of `buildpacks`.
pub fn builder_of(machine: &Machine, buildpacks: &[Buildpack]) -> String {
    builder(machine, &Builder::of(Base::Small, buildpacks))
}

/// `pannier build`, of the machine's app with `builder`, to an OCI layout that [`built`] reads.
pub fn build(machine: &Machine, builder: &str) -> Call {
    let app = app(machine);
    machine.pannier(["build", OUT, "--builder", builder, "--path"]).arg(app)
}

/// What [`build`] writes to, below the machine's working folder; also what `pannier run` can be given.
pub const OUT: &str = "oci:out:app";

/// The image that [`build`] wrote.
pub fn built(machine: &Machine) -> ReadImage {
    ReadImage::from_layout(&machine.path("work/out"), Some("app"))
}

/// Builds with these buildpacks in one group, and reads the image.
pub fn build_with(machine: &Machine, buildpacks: &[Buildpack]) -> ReadImage {
    build(machine, &builder_of(machine, buildpacks)).ok();
    built(machine)
}

/// The ids of the buildpacks that took part, as the image says.
pub fn participants(image: &ReadImage) -> Vec<String> {
    let metadata = image.json_label("io.buildpacks.build.metadata");
    let buildpacks = metadata["buildpacks"].as_array().cloned().unwrap_or_default();
    buildpacks.iter().map(|known| known["id"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Names, modes and contents of everything below a folder: to see whether anything was changed.
pub fn snapshot(folder: &Path) -> Vec<(PathBuf, u32, i64, Vec<u8>)> {
    use std::os::unix::fs::MetadataExt as _;
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            let about = fs_err::symlink_metadata(&path).expect("it is there");
            let content =
                if about.is_file() { fs_err::read(&path).expect("it can be read") } else { Vec::new() };
            if about.is_dir() {
                folders.push(path.clone());
            }
            found.push((path, about.mode(), about.mtime(), content));
        }
    }
    found.sort();
    found
}

/// The machine's devices that every program sees.
const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];

/// A script that tries to change the mode, owner and times of devices, of what covers parts of `/proc`, and of its own
/// streams.
pub const SPOIL: &str = r#"
for file in /dev/full /dev/null /dev/random /dev/tty /dev/urandom /dev/zero /proc/kcore /proc/keys /proc/timer_list \
    /dev/stdin /dev/stdout /dev/stderr /proc/self/fd/0; do
    for change in 'chmod 600' 'chmod 604' 'chown 1000:1000' 'touch -d 2001-01-01' touch; do
        $change $file 2>/dev/null || true
    done
done
echo x > /dev/null; head -c 1 /dev/zero > /dev/null; head -c 1 /dev/urandom > /dev/null
"#;

/// Mode, owner and the second of the last change of the machine's devices. Whoever writes to a terminal as `/dev/tty`
/// changes its times.
pub fn devices() -> Vec<(&'static str, u32, u32, u32, i64, i64)> {
    use std::os::unix::fs::MetadataExt as _;
    let about = |name| {
        let meta = fs_err::metadata(Path::new("/dev").join(name)).expect("it is there");
        let times = if name == "tty" { (0, 0) } else { (meta.mtime(), meta.ctime()) };
        (name, meta.mode(), meta.uid(), meta.gid(), times.0, times.1)
    };
    DEVICES.into_iter().map(about).collect()
}
