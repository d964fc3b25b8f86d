//! Overlays, binds and what of them is left.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use pannier_sandbox::{GuestMount, Overlay, bind, remove_tree, tmpfs};

use crate::Case;
use crate::place::{Place, run};

pub const CASES: &[Case] = &[
    ("binds_are_as_writable_as_said", binds_are_as_writable_as_said),
    ("read_only_roots_and_paths", read_only_roots_and_paths),
    ("what_is_there_can_be_made_read_only", what_is_there_can_be_made_read_only),
    ("roots_share_what_is_said", roots_share_what_is_said),
    ("mounts_lie_in_mounts", mounts_lie_in_mounts),
    ("links_in_the_image_lead_nowhere", links_in_the_image_lead_nowhere),
    ("changes_are_in_the_upper_alone", changes_are_in_the_upper_alone),
    ("four_hundred_lowers", four_hundred_lowers),
    ("long_paths", long_paths),
    ("any_name_can_be_part_of_an_overlay", any_name_can_be_part_of_an_overlay),
    ("overlays_that_cannot_be_are_explained", overlays_that_cannot_be_are_explained),
    ("unmounting_waits_for_no_disk", unmounting_waits_for_no_disk),
    ("mounts_end_with_their_owner", mounts_end_with_their_owner),
];

fn binds_are_as_writable_as_said(place: &Place) {
    let folder = place.scratch();
    fs_err::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).expect("chmod");
    fs_err::write(folder.path().join("file"), "text").expect("written");
    // A mount below is part of it, and as read-only as the rest.
    fs_err::create_dir(folder.path().join("below")).expect("made");
    let below = tmpfs(&folder.path().join("below"), 0o777).expect("a tmpfs");
    let root = place.root();
    let mut spec = root.sh(
        "cat /ro/file /made/up/file; echo x > /ro/file; echo x > /ro/new; echo x > /ro/below/new; chmod 700 /ro/file; \
         echo x > /made/up/new; echo x > /rw/new && rm /rw/new && echo x > /rw/below/new && echo written",
    );
    spec.mount(GuestMount::bind_read_only(folder.path(), "/ro"));
    spec.mount(GuestMount::bind_read_only(folder.path().join("file"), "/made/up/file"));
    spec.mount(GuestMount::bind(folder.path(), "/rw"));
    let ran = run(spec);
    assert_eq!(ran.stdout.trim(), "texttextwritten", "{ran:?}");
    assert_eq!(ran.stderr.matches("Read-only file system").count(), 4, "{ran:?}");
    assert_eq!(fs_err::read_to_string(folder.path().join("file")).expect("read"), "text");
    below.unmount().expect("unmounted");
}

fn read_only_roots_and_paths(place: &Place) {
    let root = place.root();
    let mut spec = root.sh("touch /new /bin/new; touch /tmp/fine && echo written");
    spec.read_only_root = true;
    let ran = run(spec);
    assert_eq!((ran.stdout.trim(), ran.stderr.matches("Read-only").count()), ("written", 2), "{ran:?}");
    let mut spec = root.sh("touch /bin/new; touch /new && echo written");
    spec.read_only_paths = vec!["/bin".into(), "/not/there".into()];
    let ran = run(spec);
    assert_eq!((ran.stdout.trim(), ran.stderr.matches("Read-only").count()), ("written", 1), "{ran:?}");
}

fn what_is_there_can_be_made_read_only(place: &Place) {
    let folder = place.scratch();
    fs_err::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).expect("chmod");
    let root = place.root();
    let script =
        "touch /opt/new; rm /opt/kept; mv /opt /other; touch /opt/in/new /opt/later/new && echo written";
    fs_err::create_dir(root.path().join("opt")).expect("made");
    fs_err::write(root.path().join("opt/kept"), "").expect("written");
    let mut spec = root.sh(script);
    // Mounts in it stay as they are, before or after.
    spec.mount(GuestMount::bind(folder.path(), "/opt/later"));
    spec.mount(GuestMount::bind(folder.path(), "/opt/in"));
    spec.mount(GuestMount::ReadOnly { target: "/opt".into() });
    spec.mount(GuestMount::ReadOnly { target: "/not/there".into() });
    spec.mount(GuestMount::bind(folder.path(), "/opt/later"));
    let ran = run(spec);
    assert_eq!((ran.stdout.trim(), ran.stderr.matches("Read-only").count()), ("written", 2), "{ran:?}");
    assert!(root.path().join("opt/kept").exists() && !root.path().join("not").exists());
}

fn roots_share_what_is_said(place: &Place) {
    let outside = place.scratch();
    let (one, other) = (place.root(), place.root());
    for name in ["home/me", "real"] {
        fs_err::create_dir_all(other.path().join(name)).expect("made");
    }
    symlink("/real", other.path().join("link")).expect("linked");
    symlink(outside.path(), other.path().join("out")).expect("linked");
    let shared = ["/home/me", "/link", "/out", "/not/there"];
    let script = "for dir in /home/me /link; do touch $dir/new || echo cannot; done; touch /home/elsewhere; ls -d /out /not";
    let mut spec = one.sh(script);
    for path in shared {
        spec.mount(GuestMount::Shared { root: other.path().to_owned(), path: path.into() });
    }
    let ran = run(spec);
    assert_eq!(ran.stdout.trim(), "", "{ran:?}");
    assert!(other.path().join("home/me/new").exists() && other.path().join("real/new").exists());
    assert!(!other.path().join("home/elsewhere").exists());
    assert_eq!(fs_err::read_dir(outside.path()).expect("read").count(), 0);
}

fn mounts_lie_in_mounts(place: &Place) {
    let folder = place.scratch();
    fs_err::write(folder.path().join("file"), "deep").expect("written");
    let root = place.root();
    let mut spec =
        root.sh("cat /a/b/file; stat -c %a /a; grep -c ' /a tmpfs ' /proc/mounts; touch /a/new && echo x");
    spec.mount(GuestMount::Tmpfs { target: "/a".into(), mode: 0o750, size: Some(65536) });
    spec.mount(GuestMount::bind_read_only(folder.path(), "/a/b"));
    assert_eq!(run(spec).ok(), "deep750\n1\nx");
    let mut spec = root.sh("head -c 200000 /dev/zero > /a/big");
    spec.mount(GuestMount::Tmpfs { target: "/a".into(), mode: 0o755, size: Some(65536) });
    assert!(!run(spec).status.success(), "more than it may hold");
}

fn links_in_the_image_lead_nowhere(place: &Place) {
    let outside = place.scratch();
    let root = place.root();
    fs_err::create_dir(root.path().join("etc2")).expect("made");
    symlink(outside.path(), root.path().join("etc2/absolute")).expect("linked");
    symlink("../../../../../../../..", root.path().join("up")).expect("linked");
    let folder = place.scratch();
    fs_err::write(folder.path().join("file"), "x").expect("written");
    let mut spec = root.sh("ls /etc2/absolute/made /up/made2");
    spec.mount(GuestMount::bind_read_only(folder.path(), "/up/made2"));
    spec.mount(GuestMount::bind_read_only(folder.path(), "/etc2/absolute/made"));
    // A link to what is not there cannot be a mount point; it is refused or made inside, never followed outside.
    let _ = spec.spawn().map(|mut child| child.wait());
    assert_eq!(fs_err::read_dir(outside.path()).expect("read").count(), 0);
    assert!(root.path().join("made2").is_dir());
}

fn changes_are_in_the_upper_alone(place: &Place) {
    let root = place.root();
    run(root.sh("echo new > /new; rm /bin/true; mkdir /dir; rm -r /etc; mkdir /etc 2>/dev/null; true")).ok();
    let upper = root.upper();
    assert_eq!(fs_err::read_to_string(upper.join("new")).expect("read"), "new\n");
    let whiteout = fs_err::symlink_metadata(upper.join("bin/true")).expect("there");
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    assert!(place.lower().join("bin/true").exists());
    for name in ["dev", "proc", "sys", "tmp"] {
        assert!(!upper.join(name).exists(), "{name} is only mounted on");
    }
}

fn four_hundred_lowers(place: &Place) {
    let folder = place.scratch();
    let lowers: Vec<PathBuf> = (0..400)
        .map(|number| {
            let lower = folder.path().join(format!("lower-{number}"));
            fs_err::create_dir(&lower).expect("made");
            fs_err::write(lower.join(format!("file-{number}")), "x").expect("written");
            fs_err::write(lower.join("top"), number.to_string()).expect("written");
            lower
        })
        .collect();
    for name in ["upper", "work-false", "work-true", "target"] {
        fs_err::create_dir(folder.path().join(name)).expect("made");
    }
    let target = folder.path().join("target");
    for old in [false, true] {
        let overlay = Overlay {
            lowers: lowers.clone(),
            upper: Some(folder.path().join("upper")),
            work: Some(folder.path().join(format!("work-{old}"))),
            read_only: false,
        };
        let start = std::time::Instant::now();
        let mounted = if old { overlay.mount_with_option_string(&target) } else { overlay.mount(&target) };
        let mount = mounted.expect("an overlay");
        println!("  400 lowers mounted in {:.2?} (option string: {old})", start.elapsed());
        assert_eq!(fs_err::read_dir(&target).expect("read").count(), 401);
        assert_eq!(fs_err::read_to_string(target.join("top")).expect("read"), "0");
        drop(mount);
        assert_eq!(fs_err::read_dir(&target).expect("read").count(), 0);
    }
    assert!(std::env::current_dir().is_ok(), "this thread's working directory is untouched");
    remove_tree(folder.path()).expect("removed");
}

fn long_paths(place: &Place) {
    let folder = place.scratch();
    let long = folder.path().join("a".repeat(200)).join("b".repeat(200));
    for name in ["lower,one:x", "upper", "work-false", "work-true", "target"] {
        fs_err::create_dir_all(long.join(name)).expect("made");
    }
    fs_err::write(long.join("lower,one:x/file"), "x").expect("written");
    for old in [false, true] {
        let overlay = Overlay {
            lowers: vec![long.join("lower,one:x")],
            upper: Some(long.join("upper")),
            work: Some(long.join(format!("work-{old}"))),
            read_only: false,
        };
        let target = long.join("target");
        let mounted = if old { overlay.mount_with_option_string(&target) } else { overlay.mount(&target) };
        let mount = mounted.expect("an overlay");
        fs_err::write(mount.target().join("new"), "y").expect("written");
        assert!(mount.target().join("file").exists());
    }
    remove_tree(folder.path()).expect("removed");
}

fn any_name_can_be_part_of_an_overlay(place: &Place) {
    let all: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
    // Each byte alone between two others, and such as mean something together.
    let mut names: Vec<Vec<u8>> = all.iter().map(|byte| vec![b'a', *byte, b'b']).collect();
    names.extend(
        [&b"\\"[..], b",lowerdir=", b":", b"::", b"\\:", b"\\040", b"a,b:c\\d\ne", b"'\""]
            .map(<[u8]>::to_vec),
    );
    for name in names {
        let folder = place.scratch();
        let base = folder.path().join(OsStr::from_bytes(&name));
        let path = |name: &str| base.join(name);
        for name in ["upper", "work-false", "work-true", "target", "one", "other"] {
            fs_err::create_dir_all(path(name)).expect("made");
        }
        fs_err::write(path("one/one"), "").expect("written");
        fs_err::write(path("other/other"), "").expect("written");
        for old in [false, true] {
            let overlay = Overlay {
                lowers: vec![path("one"), path("other")],
                upper: Some(path("upper")),
                work: Some(path(&format!("work-{old}"))),
                read_only: false,
            };
            let target = path("target");
            let mounted =
                if old { overlay.mount_with_option_string(&target) } else { overlay.mount(&target) };
            let mount = mounted.unwrap_or_else(|error| panic!("{}: {error}", name.escape_ascii()));
            fs_err::write(target.join("new"), "").expect("written");
            let found = fs_err::read_dir(&target).expect("read").count();
            assert_eq!(found, 3, "{}", name.escape_ascii());
            assert!(path("upper/new").exists());
            // As a program that ends finds its mounts.
            pannier_sandbox::unmount_below(&base).expect("unmounted");
            assert_eq!(fs_err::read_dir(&target).expect("read").count(), 0, "{}", name.escape_ascii());
            drop(mount);
        }
        remove_tree(folder.path()).expect("removed");
    }
}

fn overlays_that_cannot_be_are_explained(place: &Place) {
    let folder = place.scratch();
    let target = folder.path().join("target");
    fs_err::create_dir(&target).expect("made");
    let lower = place.lower();
    let none = Overlay::default().mount(&target).expect_err("no lower");
    assert_eq!(std::error::Error::source(&none).expect("a source").to_string(), "no lower directory");
    let missing =
        Overlay { lowers: vec![lower.clone(), folder.path().join("nothing")], ..Overlay::default() };
    let error = missing.mount(&target).expect_err("a missing lower");
    assert!(error.to_string().contains(&target.display().to_string()), "{error}");
    // One lower alone is bound, and read-only.
    let one = Overlay { lowers: vec![lower], ..Overlay::default() }.mount(&target).expect("bound");
    assert!(target.join("bin/busybox").exists());
    let error = fs_err::write(target.join("new"), "x").expect_err("read-only");
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    drop(one);
}

fn unmounting_waits_for_no_disk(place: &Place) {
    let folder = place.scratch();
    for old in [false, true] {
        let path = |name: &str| folder.path().join(format!("{name}-{old}"));
        for name in ["upper", "work", "target"] {
            fs_err::create_dir(path(name)).expect("made");
        }
        let (upper, work) = (Some(path("upper")), Some(path("work")));
        let overlay = Overlay { lowers: vec![place.lower()], upper, work, read_only: false };
        let target = path("target");
        let mounted = if old { overlay.mount_with_option_string(&target) } else { overlay.mount(&target) };
        let _mount = mounted.expect("an overlay");
        let mounts = fs_err::read_to_string("/proc/self/mountinfo").expect("mounts");
        let shown = target.display().to_string();
        let line = mounts.lines().find(|line| line.contains(&shown)).expect("it is mounted");
        // Newer kernels call it `fsync=volatile`.
        assert!(line.contains("volatile"), "{line}");
    }
    remove_tree(folder.path()).expect("removed");
}

fn mounts_end_with_their_owner(place: &Place) {
    let mounts = || fs_err::read_to_string("/proc/self/mountinfo").expect("mounts").lines().count();
    let before = mounts();
    {
        let root = place.root();
        let folder = place.scratch();
        let _bound = bind(root.path(), folder.path(), true).expect("bound");
        run(root.sh("true")).ok();
        assert_eq!(mounts(), before + 2);
    }
    assert_eq!(mounts(), before);
}
