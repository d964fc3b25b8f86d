//! Layers to trees: what is made of good ones, and that bad ones do no harm.
#![allow(clippy::print_stderr)] // to say what is skipped and why

mod support;

use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use pannier_layer::pack::{self, Ids, MTIME, Tree};
use pannier_layer::unpack::{Limits, Options, Owners, UnpackError, Unpacked, unpack};
use pannier_layer::{Compression, Digest};
use proptest::prelude::*;
use support::{TarBytes, header};
use tempfile::TempDir;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Options that an ordinary user can unpack with too.
fn options() -> Options<'static> {
    Options { owners: if is_root() { Owners::Real } else { Owners::Ours }, ..Options::default() }
}

/// A folder with a secret beside the place where layers go.
fn place() -> (TempDir, std::path::PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    fs_err::write(temp.path().join("secret"), "secret").unwrap();
    let dest = temp.path().join("dest");
    (temp, dest)
}

/// Nothing beside the destination was touched.
fn assert_contained(temp: &TempDir) {
    let mut names: Vec<_> =
        fs_err::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["dest", "secret"]);
    assert_eq!(fs_err::read_to_string(temp.path().join("secret")).unwrap(), "secret");
    assert_eq!(fs_err::metadata(temp.path().join("secret")).unwrap().mode() & 0o7777, 0o644);
}

fn ok(tar: &[u8]) -> (TempDir, std::path::PathBuf, Unpacked) {
    let (temp, dest) = place();
    let unpacked = unpack(tar, &dest, &options()).unwrap();
    assert_contained(&temp);
    assert_eq!(unpacked.diff_id, Digest::of(tar));
    assert_eq!(unpacked.tar_size, tar.len() as u64);
    (temp, dest, unpacked)
}

fn fails(tar: &[u8]) -> UnpackError {
    let (temp, dest) = place();
    let error = unpack(tar, &dest, &options()).unwrap_err();
    assert_contained(&temp);
    error
}

fn text(path: impl AsRef<Path>) -> String {
    fs_err::read_to_string(path.as_ref()).unwrap()
}

fn is_whiteout(path: impl AsRef<Path>) -> bool {
    let meta = fs_err::symlink_metadata(path.as_ref()).unwrap();
    meta.file_type().is_char_device() && meta.rdev() == 0
}

fn is_opaque(path: impl AsRef<Path>) -> bool {
    let mut value = [0; 4];
    rustix::fs::getxattr(path.as_ref(), "user.overlay.opaque", &mut value) == Ok(1) && value[0] == b'y'
}

#[test]
fn a_packed_tree_comes_back() {
    let temp = tempfile::tempdir().unwrap();
    let tree = temp.path().join("tree");
    fs_err::create_dir_all(tree.join("deep/er")).unwrap();
    fs_err::write(tree.join("deep/er/ünïcödé"), "hello").unwrap();
    fs_err::write(tree.join("n".repeat(200)), "long").unwrap();
    let big: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs_err::write(tree.join("big"), &big).unwrap();
    fs_err::write(tree.join("run"), "x").unwrap();
    fs_err::set_permissions(tree.join("run"), PermissionsExt::from_mode(0o4755)).unwrap();
    fs_err::set_permissions(tree.join("deep"), PermissionsExt::from_mode(0o1555)).unwrap();
    symlink("deep/../run", tree.join("link")).unwrap();
    for compression in [Compression::Gzip(1), Compression::Gzip(6), Compression::Zstd(3), Compression::None] {
        let mut layer = Vec::new();
        let options_ = pack::Options { compression, ..pack::Options::default() };
        let name = Path::new("/layers/bp/l");
        let parents = vec![pack::Parent { mode: 0o755, uid: 0, gid: 0 }; 2];
        let from = Tree { parents: Some(parents), ..Tree::new(&tree, name) };
        let packed = pack::pack_tree(&options_, &mut layer, &from, Ids::tree(7, 8)).unwrap();
        let (_temp, dest) = place();
        let expected = Options { diff_id: Some(packed.diff_id), ..options() };
        let unpacked = unpack(&layer[..], &dest, &expected).unwrap();
        assert_eq!((unpacked.diff_id, unpacked.entries), (packed.diff_id, packed.entries));
        let at = |path: &str| dest.join("layers/bp/l").join(path);
        assert_eq!(text(at("deep/er/ünïcödé")), "hello");
        assert_eq!(text(at(&"n".repeat(200))), "long");
        assert!(fs_err::read(at("big")).unwrap() == big);
        assert_eq!(fs_err::read_link(at("link")).unwrap(), Path::new("deep/../run"));
        for path in ["", "deep", "deep/er", "run", "link"] {
            assert_eq!(fs_err::symlink_metadata(at(path)).unwrap().mtime(), MTIME, "{path}");
        }
        assert_eq!(fs_err::metadata(at("run")).unwrap().mode() & 0o7777, 0o4755);
        assert_eq!(fs_err::metadata(at("deep")).unwrap().mode() & 0o7777, 0o1555);
        if is_root() {
            let meta = fs_err::symlink_metadata(at("link")).unwrap();
            assert_eq!((meta.uid(), meta.gid()), (7, 8));
            assert_eq!(fs_err::metadata(at("run")).unwrap().gid(), 8);
        }
        // Packed again, it is the same layer.
        let tree = dest.join("layers/bp/l");
        let again = Tree { parents: from.parents.clone(), ..Tree::new(&tree, name) };
        let again = pack::hash(&|_| (), |tar| tar.tree(&again, Ids::tree(7, 8))).unwrap();
        assert_eq!(again.diff_id, packed.diff_id);
        // Else only root could remove it.
        fs_err::set_permissions(at("deep"), PermissionsExt::from_mode(0o755)).unwrap();
    }
    fs_err::set_permissions(tree.join("deep"), PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn deletions_are_written_for_overlayfs() {
    let tar = TarBytes::default()
        .dir("etc/")
        .file("etc/.wh.passwd", "")
        .file("gone/.wh..wh..opq", "")
        .file("gone/new", "new")
        .file(".wh.replaced", "")
        .dir("replaced")
        .file("replaced/x", "x")
        .dir("kept")
        .file(".wh.kept", "")
        .file("stays", "stays")
        .file(".wh.stays", "")
        .file(".wh.parent", "")
        .file("parent/child", "child")
        .file(".wh..wh.plnk", "")
        .end();
    let (_temp, dest, unpacked) = ok(&tar);
    assert!(is_whiteout(dest.join("etc/passwd")));
    assert!(is_opaque(dest.join("gone")) && is_opaque(dest.join("replaced")) && is_opaque(dest.join("kept")));
    assert!(is_opaque(dest.join("parent")) && !is_opaque(dest.join("etc")));
    assert_eq!(text(dest.join("gone/new")), "new");
    assert_eq!(text(dest.join("stays")), "stays");
    assert_eq!(text(dest.join("parent/child")), "child");
    assert!(!dest.join(".wh..wh.plnk").exists());
    assert_eq!(unpacked.entries, 14);
    for name in ["x/.wh.", "x/.wh..", "x/.wh..."] {
        assert!(
            matches!(fails(&TarBytes::default().file(name, "").end()), UnpackError::Invalid { .. }),
            "{name}"
        );
    }
}

#[test]
fn names_and_links_do_not_leave_the_tree() {
    let (_temp, dest, _) = ok(&TarBytes::default()
        .file("../secret", "1")
        .file("/abs/olute", "2")
        .file("a/../../../b", "3")
        .symlink("up", "../..")
        .file("up/secret", "4")
        .symlink("root", "/")
        .file("root/tmp/x", "5")
        .symlink("abs-link", "/etc")
        .file("abs-link/passwd", "6")
        .symlink("usr-lib", "usr/lib")
        .file("usr-lib/through", "7")
        .symlink("victim", "../secret")
        .file("victim", "8")
        .end());
    for (path, content) in [
        ("secret", "4"),
        ("abs/olute", "2"),
        ("b", "3"),
        ("tmp/x", "5"),
        ("etc/passwd", "6"),
        ("usr/lib/through", "7"),
        ("victim", "8"),
    ] {
        assert_eq!(text(dest.join(path)), content, "{path}");
    }
}

#[test]
fn loops_and_files_are_no_folders() {
    let tar = TarBytes::default().symlink("a", "b").symlink("b", "a").file("a/x", "").end();
    assert!(matches!(fails(&tar), UnpackError::Path(_)));
    let tar = TarBytes::default().file("a", "").file("a/x", "").end();
    assert!(matches!(fails(&tar), UnpackError::Path(_)));
    assert!(matches!(fails(&TarBytes::default().file("/", "").end()), UnpackError::Invalid { .. }));
    assert!(matches!(fails(&TarBytes::default().symlink("..", "x").end()), UnpackError::Invalid { .. }));
}

#[test]
fn later_entries_replace_earlier_ones() {
    let (_temp, dest, _) = ok(&TarBytes::default()
        .file("twice", "1")
        .file("twice", "2")
        .dir("dir")
        .file("dir/x", "x")
        .file("dir", "now a file")
        .file("file", "f")
        .dir("file")
        .file("file/y", "y")
        .symlink("link", "elsewhere")
        .dir("link")
        .file("link/z", "z")
        .dir("again")
        .file("again/kept", "kept")
        .dir("again")
        .dir("first")
        .file("first/x", "")
        .symlink("first", "again")
        .file("first/second", "2")
        .end());
    assert_eq!(text(dest.join("twice")), "2");
    assert_eq!(text(dest.join("dir")), "now a file");
    assert_eq!(text(dest.join("file/y")), "y");
    assert_eq!(text(dest.join("link/z")), "z");
    assert!(!dest.join("elsewhere").exists());
    assert_eq!(text(dest.join("again/kept")), "kept");
    assert_eq!(text(dest.join("again/second")), "2");
}

#[test]
fn hard_links_stay_in_the_layer() {
    let (_temp, dest, _) = ok(&TarBytes::default()
        .file("a", "content")
        .link("b", "/a")
        .link("sub/c", "a")
        .link("a", "a")
        .symlink("s", "../secret")
        .link("t", "s")
        .end());
    let inode = |name: &str| fs_err::symlink_metadata(dest.join(name)).unwrap().ino();
    assert_eq!(inode("a"), inode("b"));
    assert_eq!(inode("a"), inode("sub/c"));
    assert_eq!(text(dest.join("a")), "content");
    assert_eq!(fs_err::read_link(dest.join("t")).unwrap(), Path::new("../secret"));
    for (name, target) in [("x", "missing"), ("x", "../secret"), ("x", "/"), ("x", "dir"), ("/", "dir/f")] {
        let tar = TarBytes::default().dir("dir").file("dir/f", "").link(name, target).end();
        assert!(matches!(fails(&tar), UnpackError::HardLink { .. }), "{target}");
    }
    // Writing through a link to a link must not reach the target either.
    let (_temp, dest, _) =
        ok(&TarBytes::default().symlink("s", "../secret").link("t", "s").file("t", "written").end());
    assert_eq!(text(dest.join("t")), "written");
}

#[test]
fn devices_are_counted_and_pipes_are_made() {
    let device = header(b'3', b"null", b"", 0, |block| {
        block[329..336].copy_from_slice(b"0000001");
        block[337..344].copy_from_slice(b"0000003");
    });
    let tar = TarBytes::default()
        .raw(device, b"")
        .entry(b'4', "disk", "", b"")
        .entry(b'3', "whiteout", "", b"")
        .entry(b'6', "pipe", "", b"")
        .end();
    let (_temp, dest, unpacked) = ok(&tar);
    assert_eq!(unpacked.skipped_devices, 3);
    assert!(!dest.join("null").exists() && !dest.join("disk").exists() && !dest.join("whiteout").exists());
    assert!(fs_err::symlink_metadata(dest.join("pipe")).unwrap().file_type().is_fifo());
    let (_temp, dest) = place();
    let unpacked = unpack(&tar[..], &dest, &Options { devices: true, ..options() }).unwrap();
    match fs_err::symlink_metadata(dest.join("null")) {
        Ok(meta) => {
            assert!(meta.file_type().is_char_device());
            assert_eq!((meta.rdev(), unpacked.skipped_devices), (rustix::fs::makedev(1, 3), 1));
        }
        Err(_) => assert_eq!(unpacked.skipped_devices, 3, "made no device, so all are counted"),
    }
}

#[test]
fn attributes_are_kept_but_not_those_of_overlayfs() {
    let (_temp, dest, _) = ok(&TarBytes::default()
        .pax(&[
            ("SCHILY.xattr.user.mime", "text/plain"),
            ("SCHILY.xattr.user.overlay.redirect", "/etc"),
            ("SCHILY.xattr.user.overlay.opaque", "y"),
            ("SCHILY.xattr.trusted.overlay.opaque", "y"),
            ("mtime", "1700000000.5"),
            ("path", "d"),
        ])
        .dir("short")
        .end());
    let dir = dest.join("d");
    let mut value = [0; 32];
    assert_eq!(rustix::fs::getxattr(&dir, "user.mime", &mut value), Ok(10));
    assert!(!is_opaque(&dir));
    assert!(rustix::fs::getxattr(&dir, "user.overlay.redirect", &mut value).is_err());
    assert!(rustix::fs::getxattr(&dir, "trusted.overlay.opaque", &mut value).is_err());
    let meta = fs_err::metadata(&dir).unwrap();
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_700_000_000, 500_000_000));
}

#[test]
fn gnu_names_and_old_headers() {
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(150));
    let old = header(0, b"old-dir/", b"", 0, |block| block[257..265].fill(0));
    let (_temp, dest, _) = ok(&TarBytes::default()
        .entry(b'L', "././@LongLink", "", format!("{long}\0").as_bytes())
        .file("short", "1")
        .entry(b'K', "././@LongLink", "", format!("{long}\0").as_bytes())
        .symlink("link", "short")
        .raw(old, b"")
        .entry(b'g', "global", "", b"16 path=ignored\n")
        .entry(b'7', "contiguous", "", b"7")
        .end());
    assert_eq!(text(dest.join(&long)), "1");
    assert_eq!(fs_err::read_link(dest.join("link")).unwrap(), Path::new(&long));
    assert!(dest.join("old-dir").is_dir());
    assert_eq!(text(dest.join("contiguous")), "7");
    assert!(!dest.join("ignored").exists());
}

#[test]
fn sparse_files_have_their_holes() {
    let map = "2\n4096\n3\n9000\n2\n";
    let mut one_zero = map.as_bytes().to_vec();
    one_zero.resize(512, 0);
    one_zero.extend_from_slice(b"abcde");
    let old = header(b'S', b"old", b"", 5, |block| {
        block[257..265].copy_from_slice(b"ustar  \0");
        for (at, number) in [4096u64, 3, 9000, 2, 10000, 0].iter().enumerate() {
            block[386 + at * 12..][..11].copy_from_slice(format!("{number:011o}").as_bytes());
        }
        block[483..494].copy_from_slice(format!("{:011o}", 10000).as_bytes());
    });
    let pairs = [("GNU.sparse.size", "10000"), ("GNU.sparse.numblocks", "2")];
    let repeated = [
        ("GNU.sparse.offset", "4096"),
        ("GNU.sparse.numbytes", "3"),
        ("GNU.sparse.offset", "9000"),
        ("GNU.sparse.numbytes", "2"),
    ];
    let (_temp, dest, _) = ok(&TarBytes::default()
        .raw(old, b"abcde")
        .pax(&[&pairs[..], &repeated].concat())
        .entry(b'0', "pax00", "", b"abcde")
        .pax(&[&pairs[..], &[("GNU.sparse.map", "4096,3,9000,2"), ("GNU.sparse.name", "pax01")]].concat())
        .entry(b'0', "GNUSparseFile.0/x", "", b"abcde")
        .pax(&[
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", "pax10"),
            ("GNU.sparse.realsize", "10000"),
        ])
        .entry(b'0', "GNUSparseFile.0/x", "", &one_zero)
        .file("after", "after")
        .end());
    let mut expected = vec![0; 10000];
    expected[4096..4099].copy_from_slice(b"abc");
    expected[9000..9002].copy_from_slice(b"de");
    for name in ["old", "pax00", "pax01", "pax10"] {
        assert!(fs_err::read(dest.join(name)).unwrap() == expected, "{name}");
    }
    assert_eq!(text(dest.join("after")), "after");
    for map in ["4096,3,9000", "9000,3,4096,2", "4096,3,9999,2", "4096,3,9000,1", "4096,3,,2", ""] {
        let tar = TarBytes::default()
            .pax(&[("GNU.sparse.size", "10000"), ("GNU.sparse.map", map)])
            .entry(b'0', "x", "", b"abcde")
            .end();
        if map.is_empty() {
            // An empty value takes the record back: an ordinary file.
            ok(&tar);
        } else {
            assert!(matches!(fails(&tar), UnpackError::Invalid { .. }), "{map}");
        }
    }
}

/// What GNU tar itself writes, in each of its sparse formats.
#[test]
fn sparse_files_of_gnu_tar() {
    let temp = tempfile::tempdir().unwrap();
    let file = fs_err::File::create(temp.path().join("holes")).unwrap();
    file.set_len(3 << 20).unwrap();
    for at in 0..40u64 {
        std::os::unix::fs::FileExt::write_all_at(file.file(), &[at as u8 + 1; 700], at * 70_000 + 1).unwrap();
    }
    let expected = fs_err::read(temp.path().join("holes")).unwrap();
    for format in
        ["gnu", "posix --sparse-version=0.0", "posix --sparse-version=0.1", "posix --sparse-version=1.0"]
    {
        let mut command = Command::new("tar");
        command.args(["--sparse", "-c", "-C"]).arg(temp.path());
        let output = command.args(format!("--format={format}").split(' ')).arg("holes").output();
        let Ok(output) = output else {
            eprintln!("skipped: there is no tar program");
            return;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.len() < 1 << 20, "the archive is sparse");
        let (_temp, dest, _) = ok(&output.stdout);
        assert!(fs_err::read(dest.join("holes")).unwrap() == expected, "{format}");
    }
}

#[test]
fn every_truncation_is_an_error_or_a_shorter_layer() {
    let tar = TarBytes::default()
        .dir("d")
        .file("d/one", "some content")
        .pax(&[("path", "d/two")])
        .file("x", "more content")
        .symlink("s", "d/one")
        .end();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(&tar[..], 3).unwrap();
    let expected = Options { diff_id: Some(Digest::of(&tar)), ..options() };
    for (name, bytes) in [("plain", &tar), ("gzip", &gzip), ("zstd", &zstd)] {
        for length in (0..bytes.len()).step_by(if name == "plain" { 37 } else { 1 }) {
            let (temp, dest) = place();
            let error = unpack(&bytes[..length], &dest, &expected).unwrap_err();
            assert_contained(&temp);
            match error {
                UnpackError::Truncated { .. } | UnpackError::DiffId { .. } => (),
                // Compressed streams cut in their first bytes are not known as such.
                UnpackError::Read(_) if length < 20 => (),
                error => panic!("{name} at {length}: {error:?}"),
            }
        }
    }
    let error = fails(&tar[..512 + 512 + 4]);
    assert_eq!(error.to_string(), "the layer is truncated at `d/one`");
}

/// Without a diffID to compare with, as tools that cut where an entry ends make layers: those are whole, and no others.
#[test]
fn a_cut_layer_is_whole_only_between_entries() {
    let content = "x".repeat(5000);
    let tar = TarBytes::default()
        .file("a", &content)
        .pax(&[("path", "b")])
        .file("b0", &content)
        .file("c", "")
        .end();
    // A header and ten blocks; a header, records, a header and ten blocks; a header; two blocks of nothing.
    let ends = [0, 11, 24, 25, 26, 27];
    assert_eq!(tar.len() % 512, 0);
    for blocks in 0..tar.len() / 512 {
        let cut = &tar[..blocks * 512];
        let (_temp, dest) = place();
        match unpack(cut, &dest, &options()) {
            Ok(unpacked) => {
                assert!(ends.contains(&blocks) || blocks > 27, "{blocks} blocks: {unpacked:?}");
                for (name, end) in [("a", 11), ("b", 24)] {
                    assert_eq!(dest.join(name).exists(), blocks >= end, "{blocks} blocks");
                    assert!(blocks < end || text(dest.join(name)) == content, "{blocks} blocks");
                }
            }
            Err(error) => {
                assert!(!ends.contains(&blocks), "{blocks} blocks: {error}");
                assert!(matches!(error, UnpackError::Truncated { .. }), "{blocks} blocks: {error:?}");
            }
        }
    }
}

#[test]
fn content_is_verified() {
    let tar = TarBytes::default().file("a", "a").end();
    let (_temp, dest) = place();
    let wrong = Options { diff_id: Some(Digest::of(b"other")), ..options() };
    assert!(matches!(unpack(&tar[..], &dest, &wrong), Err(UnpackError::DiffId { .. })));
    // What follows the end of the archive belongs to the layer's digest.
    let mut padded = tar.clone();
    padded.resize(10240, 0);
    ok(&padded);
}

#[test]
fn bombs_hit_a_limit() {
    let limits = Limits { bytes: 20 << 20, entries: 100 };
    let bomb = |size: u64| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&header(b'0', b"zeros", b"", size, |_| ())).unwrap();
        std::io::copy(&mut std::io::repeat(0).take(size.next_multiple_of(512) + 1024), &mut gzip).unwrap();
        gzip.finish().unwrap()
    };
    let run = |bytes: &[u8]| unpack(bytes, &place().1, &Options { limits, ..options() });
    assert!(run(&bomb(10 << 20)).is_ok());
    let error = run(&bomb(40 << 20)).unwrap_err();
    assert_eq!(error.to_string(), "the layer has more than 20971520 bytes");
    // A sparse file costs its full size to whoever reads it.
    let sparse = TarBytes::default()
        .pax(&[("GNU.sparse.size", "8000000000000000000"), ("GNU.sparse.map", "0,1")])
        .file("x", "x")
        .end();
    assert!(matches!(run(&sparse), Err(UnpackError::Limit { what: "bytes", .. })));
    let huge = header(b'0', b"x", b"", 0, |block| {
        block[124..136].fill(0xff);
        block[124] = 0x80;
        block[125..128].fill(0);
        block[128] = 0x7f;
    });
    assert!(matches!(run(&TarBytes::default().raw(huge, b"").end()), Err(UnpackError::Limit { .. })));
    let many = (0..200).fold(TarBytes::default(), |tar, n| tar.file(&n.to_string(), ""));
    assert!(matches!(run(&many.end()), Err(UnpackError::Limit { what: "entries", limit: 100 })));
    // An extended header as large as memory.
    let record = header(b'x', b"x", b"", 3 << 30, |_| ());
    assert!(matches!(run(&TarBytes::default().raw(record, b"").end()), Err(UnpackError::Invalid { .. })));
}

#[test]
fn nonsense_is_refused() {
    let spoil = |at: usize, byte: u8| {
        let mut tar = TarBytes::default().file("a", "a").end();
        tar[at] = byte;
        tar
    };
    assert!(matches!(fails(&spoil(0, b'b')), UnpackError::Invalid { .. }), "checksum");
    assert!(matches!(fails(&spoil(124, b'9')), UnpackError::Invalid { .. }), "octal");
    let unknown = TarBytes::default().entry(b'Z', "a", "", b"").end();
    assert!(matches!(fails(&unknown), UnpackError::Invalid { .. }));
    let negative = header(b'0', b"a", b"", 0, |block| block[124..136].fill(0xff));
    assert!(matches!(fails(&TarBytes::default().raw(negative, b"").end()), UnpackError::Invalid { .. }));
    for records in
        ["5 a=b\n", "99 path=x\n", "path=x\n", "9 pathx\n\n", "8 uid=x\n", "0 \n", "12 mtime=1.x\n"]
    {
        let tar = TarBytes::default().entry(b'x', "x", "", records.as_bytes()).file("a", "").end();
        assert!(matches!(fails(&tar), UnpackError::Invalid { .. }), "{records:?}");
    }
    let zero = TarBytes::default().pax(&[("path", "a\0b")]).file("a", "").end();
    assert!(matches!(fails(&zero), UnpackError::Invalid { .. }));
    let mut lone = vec![0; 512];
    lone.extend(TarBytes::default().file("a", "").end());
    assert!(matches!(fails(&lone), UnpackError::Invalid { .. }));
    assert!(matches!(
        fails(&[0x1f, 0x8b, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        UnpackError::Read(_) | UnpackError::Truncated { .. }
    ));
}

#[test]
fn a_hundred_thousand_entries() {
    let mut tar = TarBytes::default();
    for number in 0..100_000 {
        tar = tar.symlink(&format!("d{}/{number}", number % 100), "t");
    }
    let (_temp, dest, unpacked) = ok(&tar.end());
    assert_eq!(unpacked.entries, 100_000);
    assert_eq!(fs_err::read_dir(dest.join("d42")).unwrap().count(), 1000);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever a tar says, nothing outside its folder changes, and nothing panics.
    #[test]
    fn hostile_entries_stay_inside(
        entries in prop::collection::vec(
            (
                prop::sample::select(b"0123456".to_vec()),
                "(\\.\\./|/|a/|b/|\\./|\\.wh\\.|c){1,6}",
                "(\\.\\./|/|a/|b/|secret|dest|c){1,6}",
            ),
            0..12,
        ),
        flip in prop::option::weighted(0.3, (0usize..4096, any::<u8>())),
    ) {
        let mut tar = entries
            .iter()
            .fold(TarBytes::default(), |tar, (flag, name, link)| tar.entry(*flag, name, link, b""))
            .end();
        if let Some((at, byte)) = flip {
            let at = at % tar.len();
            tar[at] = byte;
        }
        let (temp, dest) = place();
        let _ = unpack(&tar[..], &dest, &options());
        assert_contained(&temp);
    }

    /// One wrong bit in a header is noticed, whichever it is: but for the checksum's own text, which has several forms.
    #[test]
    fn a_wrong_bit_in_a_header_is_an_error(entry in 0usize..3, at in 0usize..512, bit in 0u8..8) {
        prop_assume!(!(148..156).contains(&at));
        let mut tar = TarBytes::default().dir("d").file("d/a", "content").symlink("d/s", "a").end();
        tar[[0, 512, 1536][entry] + at] ^= 1 << bit;
        fails(&tar);
    }

    /// Bytes that are no tar at all.
    #[test]
    fn garbage_is_an_error(bytes in prop::collection::vec(any::<u8>(), 1..2000)) {
        prop_assume!(!bytes.iter().take(512).all(|byte| *byte == 0));
        fails(&bytes);
    }
}

#[test]
fn unpacks_only_what_is_wanted() {
    let tar = TarBytes::default()
        .file("./var/lib/dpkg/status", "wanted")
        .file("var/lib/other", "not wanted")
        .file("var/lib/.wh.dpkg-old", "")
        .file("var/lib/.wh.other-too", "")
        .file("etc/.wh..wh..opq", "")
        .file("var/.wh..wh..opq", "")
        .file(".wh.gone", "")
        .end();
    let (temp, dest) = place();
    let only = |path: &Path| {
        let wanted = Path::new("var/lib/dpkg");
        path.starts_with(wanted) || wanted.starts_with(path) || path == Path::new("var/lib/dpkg-old")
    };
    let unpacked = unpack(&tar[..], &dest, &Options { only: Some(&only), ..options() }).unwrap();
    assert_contained(&temp);
    // All of it was read all the same.
    assert_eq!(unpacked.diff_id, Digest::of(&tar));
    assert_eq!(fs_err::read_to_string(dest.join("var/lib/dpkg/status")).unwrap(), "wanted");
    assert!(is_whiteout(dest.join("var/lib/dpkg-old")));
    assert!(is_opaque(dest.join("var")));
    for absent in ["var/lib/other", "var/lib/other-too", "etc", "gone"] {
        assert!(fs_err::symlink_metadata(dest.join(absent)).is_err(), "{absent}");
    }
}
