//! `COPY`, `ADD` and what they leave.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::Case;
use crate::lab::Lab;

pub const CASES: &[Case] = &[
    ("files_and_folders", files),
    ("owners_and_modes", owners),
    ("links_of_the_image_are_followed", links),
    ("here_documents_are_files", heredocs),
    ("what_is_there_already_is_no_change", same),
];

/// A file of the context with permissions that no umask of a test changes.
fn file(lab: &Lab, name: &str, content: &str) {
    let path = lab.write(name, content);
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
}

fn folder(lab: &Lab, name: &str) {
    let path = lab.path("context").join(name);
    fs_err::create_dir_all(&path).expect("made");
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
}

fn files(lab: &Lab) {
    file(lab, "one", "1");
    file(lab, "d/two", "2");
    file(lab, "d/e/three", "3");
    folder(lab, "d/e");
    folder(lab, "d");
    symlink("two", lab.path("context/d/link")).expect("linked");
    let entries = |line: &str| lab.entries(&lab.run(line));
    assert_eq!(entries("COPY one /one-copy"), ["-rw-r--r-- 0/0 /one-copy"]);
    assert_eq!(entries("COPY one /etc"), ["-rw-r--r-- 0/0 /etc/one"]);
    assert_eq!(entries("COPY one /new/"), ["drwxr-xr-x 0/0 /new", "-rw-r--r-- 0/0 /new/one"]);
    assert_eq!(
        entries("WORKDIR /home\nCOPY one x/y"),
        ["drwxr-xr-x 0/0 /home/x", "-rw-r--r-- 0/0 /home/x/y"]
    );
    assert_eq!(
        entries("COPY d /srv"),
        [
            "drwxr-xr-x 0/0 /srv",
            "drwxr-xr-x 0/0 /srv/e",
            "-rw-r--r-- 0/0 /srv/e/three",
            "lrwxrwxrwx 0/0 /srv/link -> two",
            "-rw-r--r-- 0/0 /srv/two",
        ]
    );
    assert_eq!(
        entries("COPY d/t* one /x/"),
        ["drwxr-xr-x 0/0 /x", "-rw-r--r-- 0/0 /x/one", "-rw-r--r-- 0/0 /x/two"]
    );
    file(lab, ".dockerignore", "d/e\n");
    let applied = lab.run("COPY d /srv");
    assert_eq!(applied.new_layers.len(), 1);
    assert!(!lab.entries(&applied).iter().any(|entry| entry.contains("three")));
    fs_err::write(lab.path("run.Dockerfile.dockerignore"), "d/two\n").expect("written");
    let entries = lab.entries(&lab.run("COPY d /srv"));
    assert!(entries.iter().any(|entry| entry.contains("three")), "its own file comes first: {entries:?}");
    assert!(!entries.iter().any(|entry| entry.contains("two ")), "{entries:?}");
}

fn owners(lab: &Lab) {
    file(lab, "d/f", "1");
    folder(lab, "d");
    let entries = |line: &str| lab.entries(&lab.run(line));
    assert_eq!(
        entries("USER cnb\nWORKDIR /w/x\nUSER root\nWORKDIR /w/x/y\nUSER 7:8\nWORKDIR z"),
        [
            "drwxr-xr-x 1000/1000 /w",
            "drwxr-xr-x 1000/1000 /w/x",
            "drwxr-xr-x 0/0 /w/x/y",
            "drwxr-xr-x 7/8 /w/x/y/z"
        ]
    );
    assert_eq!(entries("COPY --chown=12 d/f /f"), ["-rw-r--r-- 12/12 /f"]);
    assert_eq!(
        entries("COPY --chown=cnb d /srv/"),
        ["drwxr-xr-x 1000/1000 /srv", "-rw-r--r-- 1000/1000 /srv/f"]
    );
    assert_eq!(entries("COPY --chown=cnb:root --chmod=600 d/f /f"), ["-rw------- 1000/0 /f"]);
    assert_eq!(entries("COPY --chmod=u+x d/f /f"), ["-rwxr--r-- 0/0 /f"]);
    assert_eq!(entries("USER cnb\nCOPY d/f /home/cnb/f"), ["-rw-r--r-- 0/0 /home/cnb/f"]);
    // What another step writes to keeps its owner.
    assert_eq!(
        entries("COPY --chown=7:8 d/f /f\nUSER root\nRUN echo 2 >> /f\nUSER cnb"),
        ["-rw-r--r-- 7/8 /f", "-rw-r--r-- 7/8 /f"]
    );
    let error = lab.fails("COPY --chown=nobody-here d/f /f");
    assert!(error.to_string().starts_with("run.Dockerfile:3:"), "{error}");
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    assert!(cause.contains("no user `nobody-here` in /etc/passwd"), "{cause}");
}

fn links(lab: &Lab) {
    file(lab, "f", "1");
    file(lab, "tree/lib/x", "1");
    folder(lab, "tree/lib");
    let tree = testkit::Tree::new()
        .dir("usr", 0o755)
        .dir("usr/lib", 0o755)
        .symlink("lib", "usr/lib")
        .symlink("out", "../../../../tmp")
        .dir("tmp", 0o1777)
        .file("etc-file", 0o644, "old")
        .symlink("link", "etc-file");
    lab.base(&testkit::Image::new().layer(tree).user("1000"));
    let entries = |line: &str| lab.entries(&lab.run(line));
    assert_eq!(entries("COPY f /lib/f"), ["-rw-r--r-- 0/0 /usr/lib/f"]);
    assert_eq!(entries("COPY f /out/"), ["-rw-r--r-- 0/0 /tmp/f"]);
    assert_eq!(entries("COPY f /link"), ["-rw-r--r-- 0/0 /etc-file"]);
    assert_eq!(entries("COPY tree /"), ["-rw-r--r-- 0/0 /usr/lib/x"]);
    let error = lab.fails("COPY tree /etc-file");
    assert!(error.to_string().starts_with("run.Dockerfile:3:"), "{error}");
    assert!(lab.fails("COPY f /usr/lib/../../usr/lib/f/\nCOPY f /usr/lib").to_string().contains(":4:"));
}

fn heredocs(lab: &Lab) {
    let applied =
        lab.run("ARG given\nCOPY <<one <<'two' /x/\n$given\none\n$given\ntwo\nCOPY <<E /etc/name\nhi\nE");
    assert_eq!(lab.read(&applied, "x/one").as_deref(), Some("by the extension\n"));
    assert_eq!(lab.read(&applied, "x/two").as_deref(), Some("$given\n"));
    assert_eq!(lab.read(&applied, "etc/name").as_deref(), Some("hi\n"));
    assert_eq!(lab.entries(&applied).len(), 4);
}

fn same(lab: &Lab) {
    file(lab, "d/f", "1");
    folder(lab, "d");
    let applied = lab.run("COPY d /srv\nCOPY d /srv\nCOPY d/f /srv/f");
    assert_eq!(applied.steps.iter().map(|step| step.entries).collect::<Vec<_>>(), [2, 0, 0]);
    assert_eq!(applied.new_layers.len(), 1);
}
