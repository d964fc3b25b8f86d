//! `ADD` of archives and of files of web servers.

use std::io::Write;
use std::process::Command;
use std::sync::Mutex;

use layer::Digest;
use oci::registry::FileVersion;
use pannier_dockerfile::{Engine, Fetch, FetchError, Need};

use crate::Case;
use crate::lab::Lab;

pub const CASES: &[Case] = &[
    ("archives_are_unpacked", archives),
    ("archives_are_merged_with_what_is_there", merged),
    ("archives_stay_beneath_the_destination", hostile),
    ("files_of_web_servers", urls),
    ("a_checksum_that_does_not_fit", checksums),
    ("what_add_does_not_take", refused),
];

/// Makes an archive of the context from files of the context.
fn archive(lab: &Lab, name: &str, options: &[&str], files: &[&str]) {
    let context = lab.path("context");
    let done = Command::new("tar")
        .args(["--owner=12", "--group=13", "--mtime=@1", "--mode=u=rwX,go=rX"])
        .args(options)
        .arg("-cf")
        .arg(context.join(name))
        .arg("-C")
        .arg(&context)
        .args(files)
        .status()
        .expect("tar");
    assert!(done.success());
}

fn archives(lab: &Lab) {
    lab.write("d/one", "1");
    lab.write("d/.wh.two", "2");
    archive(lab, "a.tar.gz", &["-z"], &["d"]);
    lab.write("three", "3");
    archive(lab, "b.bin", &["-J"], &["three"]);
    lab.write("c.tar.gz", "no archive");
    let entries = |line: &str| lab.entries(&lab.run(line));
    // A file whose name begins like that would delete something in a layer: there is no way to add it.
    let error = lab.fails("ADD a.tar.gz /srv");
    assert!(error.to_string().starts_with("run.Dockerfile:3:"), "{error}");
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    assert!(cause.contains("`/srv/d/.wh.two` cannot be in a layer"), "{cause}");
    fs_err::remove_file(lab.path("context/d/.wh.two")).expect("removed");
    archive(lab, "a.tar.gz", &["-z"], &["d"]);
    assert_eq!(
        entries("ADD a.tar.gz /srv/"),
        ["drwxr-xr-x 0/0 /srv", "drwxr-xr-x 12/13 /srv/d", "-rw-r--r-- 12/13 /srv/d/one"]
    );
    assert_eq!(entries("ADD --chown=7:8 b.bin /home"), ["-rw-r--r-- 7/8 /home/three"]);
    assert_eq!(entries("ADD --unpack=false --chmod=0644 b.bin /b"), ["-rw-r--r-- 0/0 /b"]);
    assert_eq!(entries("COPY --chmod=0644 b.bin /b"), ["-rw-r--r-- 0/0 /b"]);
    assert_eq!(entries("ADD --chmod=0644 c.tar.gz /c"), ["-rw-r--r-- 0/0 /c"]);
    let applied = lab.run("ADD a.tar.gz b.bin /srv/\nADD a.tar.gz /srv/");
    assert_eq!(lab.read(&applied, "srv/three").as_deref(), Some("3"));
    assert_eq!(applied.steps[1].entries, 0, "what is there already is no change");
    assert!(lab.run("ADD a.tar.gz b.bin /srv/").steps[0].cached);
    let error = lab.fails("ADD --chmod=600 a.tar.gz /srv/").to_string();
    assert!(error.starts_with("run.Dockerfile:3:5: --chmod does not apply"), "{error}");
}

fn merged(lab: &Lab) {
    let tree = testkit::Tree::new()
        .dir("usr", 0o755)
        .dir("usr/lib", 0o755)
        .symlink("lib", "usr/lib")
        .dir("tmp", 0o1777)
        .dir("srv", 0o750)
        .file("srv/f", 0o644, "old");
    lab.base(&testkit::Image::new().layer(tree).user("1000"));
    lab.write("root/lib/x.so", "1");
    lab.write("root/srv/f", "new");
    // As most archives are made: everything beneath a dot.
    archive(lab, "root.tar", &[], &["-C", "root", "."]);
    assert_eq!(
        lab.entries(&lab.run("ADD root.tar /")),
        ["drwxr-xr-x 12/13 /srv", "-rw-r--r-- 12/13 /srv/f", "-rw-r--r-- 12/13 /usr/lib/x.so"],
        "the link stays, and / is as it was"
    );
    lab.write("one/x", "1");
    archive(lab, "x.tar", &[], &["-C", "one", "."]);
    assert_eq!(lab.entries(&lab.run("ADD x.tar /tmp")), ["-rw-r--r-- 12/13 /tmp/x"]);
    assert_eq!(lab.entries(&lab.run("ADD x.tar /new")), ["drwxr-xr-x 0/0 /new", "-rw-r--r-- 12/13 /new/x"]);
    lab.write("srv", "a file");
    archive(lab, "srv.tar", &[], &["srv"]);
    let error = lab.fails("ADD srv.tar /").to_string();
    assert!(error.starts_with("run.Dockerfile:3:5: cannot unpack the archive: cannot replace"), "{error}");
    lab.write("layers/x", "1");
    archive(lab, "layers.tar", &[], &["layers"]);
    let error = lab.fails("ADD layers.tar /").to_string();
    assert!(error.contains(":3:1: ") && error.contains("it writes to `/layers/x`"), "{error}");
}

fn hostile(lab: &Lab) {
    lab.write("x", "1");
    archive(lab, "up.tar", &["--transform=s,x,../../../../tmp/x,", "-P"], &["x"]);
    // Whether it is an error or a file beneath: not a file elsewhere.
    if let Ok(applied) = lab.try_apply(&[("e", "FROM x\nADD up.tar /srv/\nUSER 1000")], Need::Image, |_| ()) {
        assert!(lab.entries(&applied).iter().all(|entry| entry.contains("/srv")));
    }
    fs_err::remove_file(lab.path("context/x")).expect("removed");
    std::os::unix::fs::symlink("/etc", lab.path("context/x")).expect("linked");
    archive(lab, "link.tar", &[], &["x"]);
    fs_err::remove_file(lab.path("context/x")).expect("removed");
    lab.write("x/passwd", "evil");
    archive(lab, "through.tar", &[], &["x/passwd"]);
    let applied = lab.run_unlisted("ADD link.tar /srv/\nADD through.tar /srv/");
    assert!(lab.entries(&applied).iter().all(|entry| !entry.contains(" /etc/")));
    let bytes = fs_err::read(lab.path("context/link.tar")).expect("read");
    fs_err::write(lab.path("context/cut.tar"), &bytes[..700]).expect("written");
    fs_err::write(lab.path("context/cut2.tar"), &bytes[..513]).expect("written");
    let error = lab.fails("ADD cut2.tar /srv/").to_string();
    assert!(error.starts_with("run.Dockerfile:3:5: cannot unpack the archive"), "{error}");
}

/// A server that remembers how often it was asked.
#[derive(Default)]
struct Server(Mutex<Vec<bool>>);

impl Fetch for Server {
    fn fetch(
        &self,
        url: &str,
        known: Option<&FileVersion>,
        to: &mut dyn Write,
    ) -> Result<Option<FileVersion>, FetchError> {
        self.0.lock().expect("not poisoned").push(known.is_some());
        if url.ends_with("/missing") {
            return Err("cannot download it: not found".into());
        }
        if known.is_some() {
            return Ok(None);
        }
        to.write_all(b"content")?;
        Ok(Some(FileVersion { etag: Some("1".to_owned()), last_modified: None }))
    }
}

fn urls(lab: &Lab) {
    let server: &Server = Box::leak(Box::default());
    let online = |line: &str| lab.run_with(line, |engine: &mut Engine<'_>| engine.fetch = Some(server));
    let applied = online("ADD https://h/a/f.txt?token=1 /srv/");
    assert_eq!(lab.entries(&applied), ["drwxr-xr-x 0/0 /srv", "-rw------- 0/0 /srv/f.txt"]);
    assert!(online("ADD https://h/a/f.txt?token=1 /srv/").steps[0].cached);
    assert_eq!(*server.0.lock().expect("not poisoned"), [false, true]);
    // Everything at hand means no network.
    assert!(lab.run("ADD https://h/a/f.txt?token=1 /srv/").steps[0].cached);
    let applied = online("ADD --chmod=644 --chown=3 https://h/a/ /f");
    assert_eq!(lab.entries(&applied), ["-rw-r--r-- 3/3 /f"]);
    let error = lab.fails("ADD https://me:secret@h/other?token=1 /srv/").to_string();
    assert_eq!(
        error,
        "run.Dockerfile:3:5: `https://h/other` is not at hand, and the network may not be used"
    );
    let dockerfile = "FROM x\nADD https://h/missing /srv/";
    let error = lab
        .try_apply(&[("e", dockerfile)], Need::Tree, |engine| engine.fetch = Some(server))
        .expect_err("no such file");
    assert_eq!(error.to_string(), "run.Dockerfile:2:5: cannot download it: not found");
}

fn checksums(lab: &Lab) {
    let server: &Server = Box::leak(Box::default());
    let (right, wrong) = (Digest::of(b"content"), Digest::of(b"other"));
    let apply = |checksum: &str| {
        let text = format!("FROM x\nARG sum={checksum}\nADD --checksum=$sum https://h/f /f\nUSER 1000");
        lab.try_apply(&[("e", &text)], Need::Image, |engine| engine.fetch = Some(server))
    };
    let error = apply(&wrong.to_string()).expect_err("another checksum");
    assert_eq!(
        error.to_string(),
        format!(
            "run.Dockerfile:3:21: `https://h/f` is not what --checksum says: it is {right}, expected {wrong}"
        )
    );
    assert!(apply("sha1:00").expect_err("no checksum").to_string().contains(":3:5: `sha1:00` is not"));
    apply(&right.to_string()).expect("the right one");
    let asked = server.0.lock().expect("not poisoned").len();
    apply(&right.to_string()).expect("the right one");
    assert_eq!(server.0.lock().expect("not poisoned").len(), asked, "what is here is not asked for");
    let error = lab.fails("ADD --checksum=sha256:00 f /f").to_string();
    assert!(error.contains("--checksum is for one URL"), "{error}");
}

fn refused(lab: &Lab) {
    for (line, expected) in [
        ("ADD https://github.com/a/b.git /x", ":3:5: ADD does not take git repositories"),
        ("ADD git@github.com:a/b.git /x", ":3:5: ADD does not take git repositories"),
        ("COPY https://h/f /x", ":3:6: COPY does not take `https://h/f`"),
        ("ADD none /x", ":3:5: `none` is not in the context"),
        ("ADD none* /x", ":3:5: nothing in the context matches `none*`"),
        ("COPY none* nothing* /x/", ":3:6: nothing in the context matches `none*`"),
    ] {
        let error = lab.fails(line).to_string();
        assert!(error.starts_with(&format!("run.Dockerfile{expected}")), "{error}");
    }
    // As long as something is found, patterns may find nothing.
    lab.write("package.json", "{}");
    let applied = lab.run_unlisted("COPY package.json lock.json* /x/");
    assert_eq!(lab.read(&applied, "x/package.json").as_deref(), Some("{}"));
}
