//! Renames that an overlay refuses are seen, and only those.

use std::path::PathBuf;

use pannier_sandbox::{GuestMount, Mount, Overlay, RenameWatch, Spec, remove_tree};
use tempfile::TempDir;

use crate::Case;
use crate::place::{Place, Root, eventually, finish};

pub const CASES: &[Case] = &[
    ("refused_renames_are_seen", refused_renames_are_seen),
    ("other_renames_are_not", other_renames_are_not),
    ("who_falls_back_is_seen_too", who_falls_back_is_seen_too),
    ("a_killed_program_leaves_no_watcher", a_killed_program_leaves_no_watcher),
    ("renames_cost_little", renames_cost_little),
];

/// An overlay with `java/bin/tool` in a lower.
struct Layers {
    folder: TempDir,
    mount: Option<Mount>,
    overlay: Overlay,
}

impl Layers {
    fn new(place: &Place) -> Self {
        let folder = place.scratch();
        let path = |name: &str| folder.path().join(name);
        for name in ["lower/java/bin", "empty", "upper", "work", "merged"] {
            fs_err::create_dir_all(path(name)).expect("made");
        }
        fs_err::write(path("lower/java/bin/tool"), "x").expect("written");
        let overlay = Overlay {
            lowers: vec![path("empty"), path("lower")],
            upper: Some(path("upper")),
            work: Some(path("work")),
            read_only: false,
        };
        let mount = Some(overlay.mount(&path("merged")).expect("an overlay"));
        Self { folder, mount, overlay }
    }

    fn show(&self, spec: &mut Spec) {
        let merged = self.folder.path().join("merged");
        spec.mount(GuestMount::bind(&merged, "/layers"));
        spec.watch_renames = Some(RenameWatch {
            merged,
            target: "/layers".into(),
            upper: self.overlay.upper.clone().expect("an upper"),
            lowers: self.overlay.lowers.clone(),
        });
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        self.mount = None;
        remove_tree(&self.folder.path().join("work")).expect("removed");
    }
}

/// Runs it; how it ended, and what was refused.
fn watch(layers: &Layers, mut spec: Spec) -> (i32, Option<PathBuf>) {
    layers.show(&mut spec);
    let mut child = spec.spawn().expect("a sandbox");
    assert!(child.watches_renames(), "this kernel has what it needs");
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let status = child.wait().expect("waited");
    let text = [out.map(std::io::read_to_string), err.map(std::io::read_to_string)];
    println!("  {status}: {text:?}");
    (status.shell_code(), child.refused_rename().map(PathBuf::from))
}

fn rename(place: &Place, root: &Root, from: &str, to: &str, uid: u32) -> (i32, Option<PathBuf>) {
    let layers = Layers::new(place);
    let mut spec = root.inside(&["rename", from, to]);
    (spec.uid, spec.gid) = (uid, uid);
    watch(&layers, spec)
}

fn refused_renames_are_seen(place: &Place) {
    let root = place.root();
    let exdev = libc::EXDEV;
    let java = Some(PathBuf::from("/layers/java"));
    assert_eq!(rename(place, &root, "/layers/java", "/layers/old", 0), (exdev, java.clone()));
    let bin = Some(PathBuf::from("/layers/java/bin"));
    assert_eq!(rename(place, &root, "/layers/java/bin", "/layers/bin", 0), (exdev, bin));
    // Through a link and upwards, and by a user of its own.
    let layers = Layers::new(place);
    let mut spec = root
        .sh("ln -s /layers/java/bin /tmp/link && cd /layers/java && exec /inside --inside rename \
                            /tmp/link/../../java /layers/java/../old");
    spec.mounts.extend(root.inside(&[]).mounts.into_iter().skip(1));
    assert_eq!(watch(&layers, spec), (exdev, java.clone()));
    let layers = Layers::new(place);
    fs_err::set_permissions(
        layers.folder.path().join("merged"),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .expect("chmod");
    let mut spec = root.inside(&["rename", "/layers/java", "/layers/old"]);
    (spec.uid, spec.gid) = (1000, 1000);
    assert_eq!(watch(&layers, spec), (exdev, java));
}

fn other_renames_are_not(place: &Place) {
    let root = place.root();
    let none = |from: &str, to: &str, code: i32| {
        assert_eq!(rename(place, &root, from, to, 0), (code, None), "{from} to {to}");
    };
    none("/layers/java/bin/tool", "/layers/tool", 0);
    none("/layers/missing", "/layers/old", libc::ENOENT);
    // Another mount is another mount whatever the layers are.
    none("/layers/java", "/tmp/java", libc::EXDEV);
    none("/bin", "/layers/java/bin2", libc::EXDEV);
    let layers = Layers::new(place);
    let script = "mkdir /layers/new && cd /layers && /inside --inside rename ./new newer && rm -r java && \
                  mkdir -p java/bin && /inside --inside rename /layers/java/bin /layers/bin && \
                  /inside --inside rename /layers/java /layers/old && ls /layers/old /layers/newer /layers/bin";
    let mut spec = root.sh(script);
    spec.mounts.extend(root.inside(&[]).mounts.into_iter().skip(1));
    assert_eq!(watch(&layers, spec), (0, None));
}

fn who_falls_back_is_seen_too(place: &Place) {
    let root = place.root();
    let layers = Layers::new(place);
    let spec = root.sh("mv /layers/java /layers/old && cat /layers/old/bin/tool && test ! -e /layers/java");
    assert_eq!(watch(&layers, spec), (0, Some(PathBuf::from("/layers/java"))));
}

fn a_killed_program_leaves_no_watcher(place: &Place) {
    let threads = || fs_err::read_dir("/proc/self/task").expect("threads").count();
    let before = threads();
    let root = place.root();
    let layers = Layers::new(place);
    let mut spec = root.sh("while true; do touch /layers/a; mv /layers/a /layers/b; done");
    layers.show(&mut spec);
    let child = spec.spawn().expect("a sandbox");
    assert_eq!(threads(), before + 1);
    drop(child);
    assert!(eventually(|| threads() == before));
}

fn renames_cost_little(place: &Place) {
    let root = place.root();
    for watched in [false, true] {
        let layers = Layers::new(place);
        let mut spec = root.inside(&["rename-much", "/layers"]);
        layers.show(&mut spec);
        if !watched {
            spec.watch_renames = None;
        }
        let ran = finish(spec.spawn().expect("a sandbox"));
        let nanoseconds: u64 = ran.ok().parse().expect("a number");
        println!("  a rename takes {} µs (watched: {watched})", nanoseconds / 1000);
        // Some 20 µs more; a timeout somewhere would be a thousand times that.
        assert!(nanoseconds < 2_000_000, "{nanoseconds}");
    }
}
