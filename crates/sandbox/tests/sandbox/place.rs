//! A root file system made of busybox, and short ways to run things in it.

use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use pannier_sandbox::{
    Child, Entered, ExitStatus, GuestMount, Ids, Mount, Overlay, Spec, Stdio, remove_tree,
};
use tempfile::TempDir;

const APPLETS: &str = "cat chmod chown chroot cp dd echo env false grep head hostname id ifconfig kill ln ls mkdir mknod mount nc \
                       nproc printenv ps pwd readlink rm sed seq setsid sh sleep stat stty test touch tr true truncate tty \
                       umount uname unshare wc";

/// What a case works with.
#[derive(Debug)]
pub struct Place {
    pub entered: Entered,
    folder: TempDir,
}

/// A root whose changes go to an upper of its own.
#[derive(Debug)]
pub struct Root {
    mount: Option<Mount>,
    folder: TempDir,
}

/// How a program ended, and what it wrote.
#[derive(Debug)]
pub struct Ran {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Place {
    pub fn new(entered: Entered) -> Self {
        let place = Self { entered, folder: tempfile::tempdir().expect("a temporary folder") };
        let bin = place.lower().join("bin");
        fs_err::create_dir_all(&bin).expect("made");
        let busybox = testkit::needs::find("busybox").expect("busybox, looked for before");
        fs_err::copy(busybox, bin.join("busybox")).expect("copied");
        for applet in APPLETS.split_whitespace() {
            symlink("busybox", bin.join(applet)).expect("linked");
        }
        for path in [place.folder.path(), &place.lower(), &bin] {
            fs_err::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("chmod");
        }
        pannier_sandbox::make_skeleton(&place.skeleton()).expect("a skeleton");
        place
    }

    /// A folder for a case's own things.
    pub fn scratch(&self) -> TempDir {
        tempfile::tempdir_in(self.folder.path()).expect("a temporary folder")
    }

    /// The read-only tree with busybox.
    pub fn lower(&self) -> PathBuf {
        self.folder.path().join("lower")
    }

    pub fn skeleton(&self) -> PathBuf {
        self.folder.path().join("skeleton")
    }

    /// A fresh root.
    pub fn root(&self) -> Root {
        let folder = self.scratch();
        for name in ["upper", "work", "root"] {
            fs_err::create_dir(folder.path().join(name)).expect("made");
        }
        let overlay = Overlay {
            lowers: vec![self.lower(), self.skeleton()],
            upper: Some(folder.path().join("upper")),
            work: Some(folder.path().join("work")),
            read_only: false,
        };
        let mount = overlay.mount(&folder.path().join("root")).expect("an overlay");
        Root { mount: Some(mount), folder }
    }

    /// Runs a script in a fresh root, as uid 0.
    pub fn sh(&self, script: &str) -> Ran {
        let root = self.root();
        run(root.sh(script))
    }

    /// Whether other ids than 0 exist without a further namespace.
    pub fn has_ranges(&self) -> bool {
        self.entered.ids != Ids::Single
    }
}

impl Root {
    pub fn path(&self) -> &Path {
        self.mount.as_ref().expect("mounted until dropped").target()
    }

    pub fn upper(&self) -> PathBuf {
        self.folder.path().join("upper")
    }

    /// A script, with a `PATH`, a `/tmp` and its output in pipes.
    pub fn sh(&self, script: &str) -> Spec {
        let mut spec = self.program("/bin/sh");
        spec.arg("-c").arg(script);
        spec
    }

    /// Any program, likewise.
    pub fn program(&self, program: &str) -> Spec {
        let mut spec = Spec::new(self.path(), program);
        spec.env("PATH", "/bin").mount(GuestMount::tmp());
        spec.stdout = Stdio::Pipe;
        spec.stderr = Stdio::Pipe;
        spec
    }

    /// This test's own file with `--inside`, and what it needs to start.
    pub fn inside(&self, arguments: &[&str]) -> Spec {
        let mut spec = self.program("/inside");
        spec.arg("--inside");
        for argument in arguments {
            spec.arg(*argument);
        }
        let own = std::env::current_exe().expect("this test's own file");
        spec.mount(GuestMount::bind_read_only(own, "/inside"));
        for libraries in ["/lib", "/lib64", "/usr/lib"] {
            if Path::new(libraries).exists() {
                spec.mount(GuestMount::bind_read_only(libraries, libraries));
            }
        }
        spec
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        self.mount = None;
        // Its mode 000 folder is what the temporary folder's own removal cannot do as an ordinary user.
        remove_tree(&self.folder.path().join("work")).expect("removed");
    }
}

/// Runs it to its end.
pub fn run(spec: Spec) -> Ran {
    finish(spec.spawn().expect("a sandbox"))
}

/// Reads what it writes, to its end.
pub fn finish(mut child: Child) -> Ran {
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let read = |stream: &mut dyn Read| {
        let mut text = Vec::new();
        stream.read_to_end(&mut text).expect("read");
        String::from_utf8_lossy(&text).into_owned()
    };
    let (stdout, stderr) = std::thread::scope(|scope| {
        let stderr = scope.spawn(|| err.as_mut().map_or(String::new(), |err| read(err)));
        (out.as_mut().map_or(String::new(), |out| read(out)), stderr.join().expect("read"))
    });
    Ran { status: child.wait().expect("waited"), stdout, stderr }
}

impl Ran {
    /// Its output, when it ended well.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert!(self.status.success(), "{self:?}");
        self.stdout.trim()
    }
}

/// How many processes outside have `marker` in their command line, this one and its ancestors aside.
pub fn processes_with(marker: &str) -> usize {
    let entries = fs_err::read_dir("/proc").expect("/proc");
    entries
        .filter_map(|entry| fs_err::read(entry.ok()?.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(marker))
        .count()
}

/// Tries for two seconds until `condition` holds.
pub fn eventually(condition: impl Fn() -> bool) -> bool {
    (0..200).any(|_| {
        let holds = condition();
        if !holds {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        holds
    })
}

/// The processes this one has started and not waited for.
pub fn children() -> Vec<i32> {
    let pid = std::process::id();
    let text = fs_err::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("children");
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
