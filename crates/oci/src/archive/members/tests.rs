use proptest::prelude::*;

use super::*;

fn open(bytes: &[u8]) -> Result<Members> {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a.tar");
    fs_err::write(&path, bytes).unwrap();
    Members::open(path, temp.path())
}

fn header(kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header
}

fn content(members: &Members, name: &str) -> Option<String> {
    let mut text = String::new();
    members.open_member(name, 0)?.read_to_string(&mut text).unwrap();
    Some(text)
}

#[test]
fn only_a_regular_file_is_an_archive() {
    let temp = tempfile::tempdir().unwrap();
    let fifo = temp.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::from_raw_mode(0o644)).unwrap();
    for (path, kind) in [(fifo.as_path(), "a FIFO"), (Path::new("/dev/zero"), "a character device")] {
        let error = Members::open(path, temp.path()).unwrap_err().to_string();
        let expected = format!("cannot open `{}`: it is {kind}, expected a regular file", path.display());
        assert_eq!(error, expected);
    }
}

#[test]
fn members_without_end_are_not_remembered() {
    let mut builder = tar::Builder::new(Vec::new());
    for number in 0..70 {
        let name = format!("{number}/{}", "x".repeat(1_000_000));
        builder.append_data(&mut header(tar::EntryType::Regular, 0), name, &b""[..]).unwrap();
    }
    let error = open(&builder.into_inner().unwrap()).unwrap_err().to_string();
    assert!(error.ends_with("it has more files than images need"), "{error}");
}

#[test]
fn files_and_links_are_found() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header(tar::EntryType::Regular, 3), "./a/layer.tar", &b"one"[..]).unwrap();
    builder.append_data(&mut header(tar::EntryType::Regular, 4), &long, &b"long"[..]).unwrap();
    builder.append_link(&mut header(tar::EntryType::Symlink, 0), "b/layer.tar", "../a/layer.tar").unwrap();
    builder.append_link(&mut header(tar::EntryType::Link, 0), "hard", "a/layer.tar").unwrap();
    builder.append_link(&mut header(tar::EntryType::Symlink, 0), "loop", "loop").unwrap();
    builder.append_link(&mut header(tar::EntryType::Symlink, 0), "out", "../../etc/passwd").unwrap();
    builder.append_pax_extensions([("path", "paxed".as_bytes())]).unwrap();
    builder.append_data(&mut header(tar::EntryType::Regular, 3), "short", &b"pax"[..]).unwrap();
    builder.append_data(&mut header(tar::EntryType::Directory, 0), "dir/", &b""[..]).unwrap();
    let members = open(&builder.into_inner().unwrap()).unwrap();

    for (name, expected) in [
        ("a/layer.tar", Some("one")),
        ("/a/./layer.tar", Some("one")),
        ("b/layer.tar", Some("one")),
        ("hard", Some("one")),
        (&long, Some("long")),
        ("paxed", Some("pax")),
        ("short", None),
        ("loop", None),
        ("out", None),
        ("dir", None),
        ("../a/layer.tar", None),
    ] {
        assert_eq!(content(&members, name).as_deref(), expected, "{name}");
    }
    assert_eq!(members.size("b/layer.tar"), Some(3));
    let mut rest = String::new();
    members.open_member("a/layer.tar", 2).unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "e");
    assert!(members.read("a/layer.tar", 2).unwrap_err().to_string().contains("expected at most 2"));
}

#[test]
fn broken_archives_are_refused() {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header(tar::EntryType::Regular, 600), "a", &[1; 600][..]).unwrap();
    builder.append_data(&mut header(tar::EntryType::Regular, 1), "b", &[1][..]).unwrap();
    let whole = builder.into_inner().unwrap();
    let error = |bytes: &[u8]| open(bytes).unwrap_err().to_string();

    assert!(error(b"").contains("it is not a tar"));
    assert!(error(&[b'x'; 2000]).contains("it is not a tar"));
    assert!(error(&whole[..1000]).contains("go beyond the end of the file"));
    let mut wrong = whole.clone();
    wrong[512 + 1024] = b'x';
    assert!(error(&wrong).contains("at byte 1536 is broken: its checksum is wrong"));

    let mut huge = header(tar::EntryType::Regular, u64::MAX);
    huge.set_path("a").unwrap();
    huge.set_cksum();
    assert!(error(huge.as_bytes()).contains("go beyond the end"));
    let mut long = header(tar::EntryType::GNULongName, 2 << 20);
    long.set_cksum();
    assert!(error(&[&long.as_bytes()[..], &vec![b'a'; 2 << 20]].concat()).contains("too long"));
}

proptest! {
    #[test]
    fn never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 512..2048)) {
        let _ = open(&bytes);
        // Again with a checksum that is right, to get further.
        let sum: u32 = bytes[..512].iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes[156] = b"xLK012"[usize::from(bytes[156]) % 6];
        let _ = open(&bytes);
    }

    #[test]
    fn pax_records_never_panic(bytes in "[0-9]{1,3} [a-z]{0,4}=?[a-z0-9]{0,4}\n?") {
        let _ = pax(&mut Extended::default(), bytes.as_bytes());
    }
}
