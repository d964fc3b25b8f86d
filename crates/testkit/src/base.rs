//! Base images. Made once and kept: the Debian root file system in a cache folder that outlives a `cargo clean`, the
//! images in the scratch folder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use fs_err as fs;

use crate::image::{Image, Layout};
use crate::needs;
use crate::tree::{MTIME, Tree};

/// The user and group of all base images: `cnb`, 1000:1000.
pub const CNB: u64 = 1000;

/// A pair of a build image and a run image that fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Base {
    /// Two megabytes: a static busybox and a static bash. Unpacked in no time, so most tests use it.
    Small,
    /// Debian 12, made from its packages.
    Debian,
    /// Builds on [`Base::Small`]; runs on nothing but `/etc/passwd` and one static program, `/bin/echo`.
    Shellless,
}

/// Bumped when what this module makes changes.
const VERSION: &str = "v1";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\ncnb:x:1000:1000::/home/cnb:/bin/bash\n";
const GROUP: &str = "root:x:0:\ncnb:x:1000:\n";

impl Base {
    /// Whether this machine has what the base is made of; if not, the running test is said to be skipped.
    pub fn available(self) -> bool {
        match self {
            Base::Small | Base::Shellless => needs::have(&["busybox", "bash-static"]),
            Base::Debian => cache().join(ROOTFS).exists() || needs::have(&["mmdebstrap"]),
        }
    }

    /// The build image, to be used as it is or to be built on.
    pub fn build(self) -> Image {
        match self {
            Base::Shellless => Base::Small.build(),
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
            if self != Base::Shellless {
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
            Base::Debian => Image::new().layer_tar(debian()),
            Base::Shellless => Image::new().layer(shellless()),
        }
    }

    fn finish(self, image: Image) -> Image {
        let (distro, version) = if self == Base::Debian { ("debian", "12") } else { ("small", "1") };
        let accounts = Tree::new()
            .dir("etc", 0o755)
            .file("etc/passwd", 0o644, PASSWD)
            .file("etc/group", 0o644, GROUP)
            .dir("home", 0o755)
            .owner(CNB, CNB)
            .dir("home/cnb", 0o755);
        image
            .layer(accounts)
            .user("cnb")
            .label("io.buildpacks.base.id", "test.base")
            .label("io.buildpacks.base.distro.name", distro)
            .label("io.buildpacks.base.distro.version", version)
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

const ROOTFS: &str = "debian-12-v1.tar";

fn debian() -> Vec<u8> {
    let file = cache().join(ROOTFS);
    let _lock = lock(&file);
    if !file.exists() {
        let temporary = file.with_extension("new");
        let mut command = Command::new("mmdebstrap");
        command.env("SOURCE_DATE_EPOCH", MTIME.to_string());
        command.args(["--quiet", "--variant=essential", "--format=tar", "--skip=output/dev"]);
        for folder in ["doc", "man", "locale", "info", "zoneinfo"] {
            command.arg(format!("--dpkgopt=path-exclude=/usr/share/{folder}/*"));
        }
        let output = command.arg("bookworm").arg(&temporary).output().expect("mmdebstrap starts");
        assert!(output.status.success(), "mmdebstrap failed: {}", String::from_utf8_lossy(&output.stderr));
        fs::rename(&temporary, &file).expect("a finished file can be renamed");
    }
    fs::read(&file).expect("the root file system can be read")
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
