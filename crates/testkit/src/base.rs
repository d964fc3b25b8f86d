//! Base images. Made once and kept: the Debian root file system in a cache folder that outlives a `cargo clean`, the
//! images in the scratch folder.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use fs_err as fs;

use crate::deb;
use crate::image::{Image, Layout};
use crate::needs;
use crate::tree::{MTIME, Tree};

/// The user and group of all base images but [`Base::Distroless`]: `cnb`, 1000:1000.
pub const CNB: u64 = 1000;

/// A pair of a build image and a run image that fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Base {
    /// Two megabytes: a static busybox and a static bash. Unpacked in no time, so most tests use it.
    Small,
    /// Debian 12, made from its packages.
    Debian,
    /// Debian 12 with apt, whose only repository is a folder in the image, [`REPOSITORY`]. What that has:
    /// [`deb::packages`].
    DebianApt,
    /// [`Base::Small`] with an apk database of five packages, as Alpine has it.
    Alpine,
    /// [`Base::Small`] with a database of rpm 4.18 that has 13 packages, `hello-tool` and its parts.
    Rpm,
    /// Builds on [`Base::Small`]; runs on nothing but `/etc/passwd` and one static program, `/bin/echo`.
    Shellless,
    /// Builds on [`Base::DebianApt`]; runs on what distroless images have: accounts, certificates, `/etc/os-release` and
    /// the records of three packages in `/var/lib/dpkg/status.d`. No shell, no program at all. Its user is `nonroot`.
    Distroless,
}

/// The user and group of [`Base::Distroless`], `nonroot`.
pub const NONROOT: u64 = 65532;

/// The folder of packages in [`Base::DebianApt`].
pub const REPOSITORY: &str = "/srv/packages";

/// Bumped when what this module makes changes.
const VERSION: &str = "v2";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\ncnb:x:1000:1000::/home/cnb:/bin/bash\n";
const GROUP: &str = "root:x:0:\ncnb:x:1000:\n";

impl Base {
    /// Whether this machine has what the base is made of; if not, the running test is said to be skipped.
    pub fn available(self) -> bool {
        match self {
            Base::Small | Base::Shellless | Base::Alpine | Base::Rpm => {
                needs::have(&["busybox", "bash-static"])
            }
            Base::Debian => cache().join(ESSENTIAL.file()).exists() || needs::have(&["mmdebstrap"]),
            Base::DebianApt | Base::Distroless => {
                needs::have(&["busybox"])
                    && (cache().join(APT.file()).exists() || needs::have(&["mmdebstrap"]))
            }
        }
    }

    /// The build image, to be used as it is or to be built on.
    pub fn build(self) -> Image {
        match self {
            Base::Shellless => Base::Small.build(),
            Base::Distroless => Base::DebianApt.build(),
            _ => Image::from_layout(self.layout(), "build"),
        }
    }

    /// The run image.
    pub fn run(self) -> Image {
        Image::from_layout(self.layout(), "run")
    }

    /// The run image, as Pannier is told about it.
    pub fn run_reference(self) -> String {
        self.layout().reference("run")
    }

    /// The layout that holds this base as `build` and `run`.
    pub fn layout(self) -> &'static Layout {
        static MADE: Mutex<Vec<(Base, &'static Layout)>> = Mutex::new(Vec::new());
        let mut made = MADE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, layout)) = made.iter().find(|(base, _)| *base == self) {
            return layout;
        }
        let layout = Box::leak(Box::new(self.make()));
        made.push((self, layout));
        layout
    }

    fn make(self) -> Layout {
        let folder = scratch().join(format!("base-{VERSION}-{self:?}"));
        let _lock = lock(&folder);
        if !folder.join("index.json").exists() {
            let temporary = folder.with_extension("new");
            let _ = fs::remove_dir_all(&temporary);
            let layout = Layout::new(&temporary);
            let run = self.finish(self.files());
            if !matches!(self, Base::Shellless | Base::Distroless) {
                layout.add("build", &run.clone().env("CNB_USER_ID", "1000").env("CNB_GROUP_ID", "1000"));
            }
            layout.add("run", &run);
            fs::rename(&temporary, &folder).expect("a finished layout can be renamed");
        }
        Layout::new(folder)
    }

    fn files(self) -> Image {
        match self {
            Base::Small => Image::new().layer(small()),
            Base::Debian => Image::new().layer_tar(debian(&ESSENTIAL)),
            Base::DebianApt => Image::new().layer_tar(debian(&APT)).layer(local_packages()),
            Base::Alpine => Image::new().layer(small()).layer(apk_database()),
            Base::Rpm => Image::new().layer(small()).layer(rpm_database()),
            Base::Shellless => Image::new().layer(shellless()),
            Base::Distroless => Image::new().layer(distroless()),
        }
    }

    fn finish(self, image: Image) -> Image {
        let image = image.label("io.buildpacks.base.id", "test.base");
        let distro = |image: Image, name: &str, version: &str| {
            image
                .label("io.buildpacks.base.distro.name", name)
                .label("io.buildpacks.base.distro.version", version)
        };
        let image = match self {
            Base::Debian | Base::DebianApt => distro(image, "debian", "12"),
            Base::Distroless => return distro(image, "debian", "12").user(&NONROOT.to_string()),
            Base::Alpine => distro(image, "alpine", "3.20.3"),
            Base::Rpm => distro(image, "fedora", "41"),
            Base::Small | Base::Shellless => distro(image, "small", "1"),
        };
        let (passwd, group) = match self {
            Base::DebianApt => accounts_of(&APT),
            _ => (PASSWD.to_owned(), GROUP.to_owned()),
        };
        let accounts = Tree::new()
            .dir("etc", 0o755)
            .file("etc/passwd", 0o644, passwd)
            .file("etc/group", 0o644, group)
            .dir("home", 0o755)
            .owner(CNB, CNB)
            .dir("home/cnb", 0o755);
        image.layer(accounts).user("cnb")
    }
}

/// A folder for what tests make and may lose: one for each user, where everybody may look.
pub fn scratch() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let user = if crate::Person::Caller.is_root() {
            "root".into()
        } else {
            crate::Person::Caller.id().to_string()
        };
        folder_for_all(std::env::temp_dir().join(format!("pannier-tests-{user}")))
    })
}

/// A folder for what took long to make.
fn cache() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = if crate::Person::Caller.is_root() {
            PathBuf::from("/var/cache")
        } else {
            std::env::var_os("HOME")
                .map_or_else(std::env::temp_dir, |home| PathBuf::from(home).join(".cache"))
        };
        folder_for_all(folder.join("pannier-tests"))
    })
}

fn folder_for_all(folder: PathBuf) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    fs::create_dir_all(&folder).expect("a folder for tests can be made");
    fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).expect("the folder is ours");
    folder
}

/// Holds everybody else off `path`, other processes included, until dropped.
fn lock(path: &Path) -> std::fs::File {
    let file = fs::File::create(path.with_extension("lock")).expect("a lock file can be made").into_file();
    file.lock().expect("a lock file can be locked");
    file
}

fn small() -> Tree {
    let program = |name: &str| {
        let path = needs::find(name).unwrap_or_else(|| panic!("no {name} on this machine"));
        fs::read(path).expect("a program can be read")
    };
    let applets = Command::new("busybox").arg("--list").output().expect("busybox runs").stdout;
    let mut tree = Tree::new();
    for folder in ["bin", "etc", "home", "proc", "root", "sys", "dev", "usr", "usr/bin", "var"] {
        tree = tree.dir(folder, 0o755);
    }
    tree = tree
        .dir("tmp", 0o1777)
        .file("bin/busybox", 0o755, program("busybox"))
        .file("bin/bash", 0o755, program("bash-static"))
        .symlink("usr/bin/env", "/bin/busybox")
        .file("etc/os-release", 0o644, "ID=small\nVERSION_ID=1\n");
    for applet in
        String::from_utf8_lossy(&applets).lines().filter(|applet| !["busybox", "bash"].contains(applet))
    {
        tree = tree.symlink(&format!("bin/{applet}"), "busybox");
    }
    tree
}

fn shellless() -> Tree {
    // busybox acts as the name it is called by, so this is `echo` and nothing else.
    let busybox =
        fs::read(needs::find("busybox").expect("busybox is on this machine")).expect("it can be read");
    Tree::new().dir("bin", 0o755).file("bin/echo", 0o755, busybox).dir("etc", 0o755).dir("tmp", 0o1777)
}

/// Debian, as its label and its packages have it.
fn os_release(id: &str, version: &str) -> String {
    format!("PRETTY_NAME=\"{id} {version}\"\nID={id}\nVERSION_ID=\"{version}\"\n")
}

fn distroless() -> Tree {
    let record = |name: &str, version: &str| {
        format!(
            "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Test Kit <test@example.org>\n\
             Description: {name}, as distroless has it\n"
        )
    };
    let mut tree = Tree::new();
    for folder in [
        "etc",
        "etc/ssl",
        "etc/ssl/certs",
        "home",
        "root",
        "usr",
        "usr/lib",
        "usr/share",
        "var",
        "var/lib",
        "var/lib/dpkg",
        "var/lib/dpkg/status.d",
    ] {
        tree = tree.dir(folder, 0o755);
    }
    tree.dir("tmp", 0o1777)
        .file("etc/passwd", 0o644, "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n")
        .file("etc/group", 0o644, "root:x:0:\nnonroot:x:65532:\n")
        .file("etc/ssl/certs/ca-certificates.crt", 0o644, "# no authority is trusted\n")
        .file("usr/lib/os-release", 0o644, os_release("debian", "12"))
        .symlink("etc/os-release", "../usr/lib/os-release")
        .file("var/lib/dpkg/status.d/base", 0o644, record("base-files", "12.4+deb12u11"))
        .file("var/lib/dpkg/status.d/netbase", 0o644, record("netbase", "6.4"))
        .file("var/lib/dpkg/status.d/tzdata", 0o644, record("tzdata", "2025b-0+deb12u1"))
        .owner(NONROOT, NONROOT)
        .dir("home/nonroot", 0o700)
}

/// The records of packages as `apk` keeps them, and what else says that this is Alpine.
fn apk_database() -> Tree {
    let record = |name: &str, version: &str, origin: &str, more: &str| {
        format!(
            "C:Q1{name:A<27}=\nP:{name}\nV:{version}\nA:x86_64\nS:1024\nI:4096\nT:{name}, for tests\n\
             U:https://example.org/{name}\nL:MIT\no:{origin}\n{more}\n"
        )
    };
    let installed = [
        record("alpine-baselayout", "3.6.5-r0", "alpine-baselayout", "F:etc\nR:hosts\n"),
        record("busybox", "1.36.1-r29", "busybox", "p:cmd:busybox=1.36.1-r29\nF:bin\nR:busybox\na:0:0:755\n"),
        record(
            "ca-certificates-bundle",
            "20240705-r0",
            "ca-certificates",
            "p:ca-certificates-cacert=20240705-r0\n",
        ),
        record("libcrypto3", "3.3.2-r0", "openssl", "p:so:libcrypto.so.3=3\nF:lib\nR:libcrypto.so.3\n"),
        record(
            "musl",
            "1.2.5-r0",
            "musl",
            "p:so:libc.musl-x86_64.so.1=1\nF:lib\nR:ld-musl-x86_64.so.1\na:0:0:755\n",
        ),
    ];
    let mut tree = Tree::new();
    for folder in ["etc", "etc/apk", "lib", "lib/apk", "lib/apk/db"] {
        tree = tree.dir(folder, 0o755);
    }
    tree.file("etc/alpine-release", 0o644, "3.20.3\n")
        .file("etc/os-release", 0o644, os_release("alpine", "3.20.3"))
        .file("etc/apk/world", 0o644, "alpine-baselayout\nbusybox\nca-certificates-bundle\n")
        .file("lib/apk/db/installed", 0o644, installed.concat())
}

/// A database that rpm itself wrote, and what else says that this is Fedora.
fn rpm_database() -> Tree {
    const DATABASE: &[u8] = include_bytes!("../../packages/tests/data/rpmdb.sqlite.gz");
    let mut database = Vec::new();
    flate2::read::GzDecoder::new(DATABASE).read_to_end(&mut database).expect("the file is whole");
    let mut tree = Tree::new();
    for folder in ["etc", "usr", "usr/lib", "usr/lib/sysimage", "usr/lib/sysimage/rpm"] {
        tree = tree.dir(folder, 0o755);
    }
    tree.file("etc/os-release", 0o644, os_release("fedora", "41")).file(
        "usr/lib/sysimage/rpm/rpmdb.sqlite",
        0o644,
        database,
    )
}

/// A Debian root file system as `mmdebstrap` makes it.
struct Variant {
    name: &'static str,
    version: u32,
}

const ESSENTIAL: Variant = Variant { name: "essential", version: 1 };
const APT: Variant = Variant { name: "apt", version: 1 };

impl Variant {
    /// Where it is kept, in the cache folder.
    fn file(&self) -> String {
        let Variant { name, version } = self;
        match *name {
            "essential" => format!("debian-12-v{version}.tar"),
            _ => format!("debian-12-{name}-v{version}.tar"),
        }
    }
}

fn debian(variant: &Variant) -> Vec<u8> {
    let file = cache().join(variant.file());
    let _lock = lock(&file);
    if !file.exists() {
        let temporary = file.with_extension("new");
        let mut command = Command::new("mmdebstrap");
        command.env("SOURCE_DATE_EPOCH", MTIME.to_string());
        command.args(["--quiet", "--format=tar", "--skip=output/dev"]);
        command.arg(format!("--variant={}", variant.name));
        for folder in ["doc", "man", "locale", "info", "zoneinfo"] {
            command.arg(format!("--dpkgopt=path-exclude=/usr/share/{folder}/*"));
        }
        let output = command.arg("bookworm").arg(&temporary).output().expect("mmdebstrap starts");
        assert!(output.status.success(), "mmdebstrap failed: {}", String::from_utf8_lossy(&output.stderr));
        fs::rename(&temporary, &file).expect("a finished file can be renamed");
    }
    fs::read(&file).expect("the root file system can be read")
}

/// `/etc/passwd` and `/etc/group` with Debian's own accounts, which its packages want, and `cnb`.
fn accounts_of(variant: &Variant) -> (String, String) {
    let rootfs = debian(variant);
    let mut archive = tar::Archive::new(rootfs.as_slice());
    let (mut passwd, mut group) = (String::new(), String::new());
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("a whole tar");
        let text = match entry.path_bytes().as_ref() {
            b"./etc/passwd" => &mut passwd,
            b"./etc/group" => &mut group,
            _ => continue,
        };
        entry.read_to_string(text).expect("accounts are text");
    }
    let last = |text: &str| text.lines().last().map(|line| format!("{line}\n")).unwrap_or_default();
    (passwd + &last(PASSWD), group + &last(GROUP))
}

/// The repository of [`Base::DebianApt`], and apt's only source.
fn local_packages() -> Tree {
    let mut tree = Tree::new()
        .dir("etc", 0o755)
        .dir("etc/apt", 0o755)
        .file("etc/apt/sources.list", 0o644, format!("deb [trusted=yes] file:{REPOSITORY} ./\n"))
        .dir("srv", 0o755)
        .dir("srv/packages", 0o755);
    for (name, content) in deb::repository(&deb::packages()) {
        tree = tree.file(&format!("srv/packages/{name}"), 0o644, content);
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReadImage;

    #[test]
    fn small_has_a_shell_and_a_user() {
        if !Base::Small.available() {
            return;
        }
        let image = ReadImage::from_layout(Base::Small.layout().path(), Some("build"));
        assert_eq!(image.env("CNB_USER_ID"), Some("1000"));
        assert_eq!(image.entry("/bin/sh").map(|entry| entry.link.as_str()), Some("busybox"));
        assert_eq!(image.entry("/home/cnb").map(|entry| entry.uid), Some(CNB));
        assert_eq!(image.label("io.buildpacks.base.distro.name"), Some("small"));
    }

    #[test]
    fn distroless_has_records_of_packages_and_no_program() {
        if !Base::Distroless.available() {
            return;
        }
        let image = ReadImage::from_layout(Base::Distroless.layout().path(), Some("run"));
        assert_eq!(image.config["config"]["User"], "65532");
        assert!(image.text("/var/lib/dpkg/status.d/tzdata").starts_with("Package: tzdata\n"));
        let programs = image.layers.iter().flat_map(|layer| &layer.entries);
        assert!(programs.filter(|entry| entry.kind == '0').all(|entry| entry.mode & 0o111 == 0));
    }

    #[test]
    fn others_have_databases_of_packages() {
        if !Base::Alpine.available() {
            return;
        }
        let read = |base: Base| ReadImage::from_layout(base.layout().path(), Some("run"));
        assert!(read(Base::Alpine).text("/lib/apk/db/installed").contains("\nP:musl\nV:1.2.5-r0\n"));
        let rpm = read(Base::Rpm);
        let database = rpm.entry("/usr/lib/sysimage/rpm/rpmdb.sqlite").expect("there is one");
        assert!(database.content.starts_with(b"SQLite format 3\0"));
    }

    #[test]
    fn debian_with_apt_knows_one_repository() {
        if !Base::DebianApt.available() {
            return;
        }
        let image = ReadImage::from_layout(Base::DebianApt.layout().path(), Some("build"));
        assert_eq!(image.text("/etc/apt/sources.list"), "deb [trusted=yes] file:/srv/packages ./\n");
        assert!(image.entry("/usr/bin/apt-get").is_some());
        assert!(image.text("/srv/packages/Packages").contains("Package: greeting\n"));
        assert!(image.entry("/srv/packages/greeting_1.2_all.deb").is_some());
    }

    #[test]
    fn debian_is_debian() {
        if !Base::Debian.available() {
            return;
        }
        let image = ReadImage::from_layout(Base::Debian.layout().path(), Some("run"));
        assert!(image.text("/usr/lib/os-release").contains("VERSION_ID=\"12\""));
        assert!(image.text("/etc/passwd").contains("cnb:x:1000:1000"));
        assert!(image.entry("/usr/bin/bash").is_some_and(|entry| entry.content.len() > 100_000));
        assert_eq!(image.env("CNB_USER_ID"), None);
    }
}
