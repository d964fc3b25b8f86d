//! The verbs that look after images, as a person types them.

use std::path::Path;
use std::process::Command;

use fs_err as fs;

/// Runs `pannier` with a home of its own: exit code, standard output, standard error.
fn pannier(home: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pannier"))
        .args(arguments)
        .env("PANNIER_HOME", home.join("home"))
        .current_dir(home)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Runs it and expects that it works: standard output.
fn ok(home: &Path, arguments: &[&str]) -> String {
    let (code, out, err) = pannier(home, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {err}");
    out
}

/// An `oci-archive` with an image of one layer: `a.tar`.
fn archive(home: &Path) {
    let store = oci::Store::open(home.join("made")).unwrap();
    let tar = {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o644);
        builder.append_data(&mut header, "hello", &b"hello"[..]).unwrap();
        builder.into_inner().unwrap()
    };
    let descriptor = store.put(oci::media_type::OCI_LAYER, &tar).unwrap();
    let layer = oci::Layer { descriptor, diff_id: oci::Digest::of(&tar), blobs: store.blobs() };
    let config = serde_json::json!({
        "os": "linux", "architecture": oci::Platform::host().architecture, "created": "1980-01-01T00:00:01Z",
        "config": { "User": "1000", "Labels": { "maintainer": "me" } }, "rootfs": { "type": "layers" },
    });
    let config = serde_json::from_value(config).unwrap();
    let new = oci::NewImage {
        config,
        layers: vec![layer],
        format: oci::Format::Oci,
        annotations: Default::default(),
    };
    oci::archive::write::oci_archive(&home.join("a.tar"), &new.finish().unwrap(), &[], &[], &|_, _| {})
        .unwrap();
}

#[test]
fn an_image_comes_is_seen_and_goes() {
    let temp = tempfile::tempdir().unwrap();
    let home = temp.path();
    archive(home);
    assert_eq!(ok(home, &["image", "list"]), "no images\n");
    assert!(
        ok(home, &["image", "copy", "oci-archive:a.tar", "me/app", "--tag", "me/app:v2"]).contains("copied")
    );
    assert_eq!(ok(home, &["image", "list", "--quiet"]), "me/app:latest\nme/app:v2\n");

    let shown = ok(home, &["inspect", "me/app"]);
    assert!(shown.contains("  user        1000\n") && shown.contains("  maintainer  me"), "{shown}");
    for (to, from) in [
        ("oci:layout:x", "oci:layout:x"),
        ("docker-archive:d.tar:me/app", "docker-archive:d.tar"),
        ("oci-archive:o.tar", "oci-archive:o.tar"),
    ] {
        ok(home, &["image", "copy", "me/app", to]);
        let shown: serde_json::Value =
            serde_json::from_str(&ok(home, &["inspect", from, "-o", "json"])).unwrap();
        assert_eq!(shown["labels"]["maintainer"], "me");
        assert_eq!(shown["layers"].as_array().unwrap().len(), 1);
    }

    // What a verb names can be given to the next one.
    for to in ["me/app:v3", "oci:again:x", "oci-archive:again.tar", "docker-archive:again-docker.tar:me/app"]
    {
        let name = ok(home, &["image", "copy", "me/app", to, "--quiet"]);
        assert!(name.starts_with(to.split(':').next().unwrap_or_default()), "{name}");
        ok(home, &["inspect", name.trim_end()]);
    }
    let (_, _, err) = pannier(home, &["image", "copy", "me/app", "docker-archive:x.tar", "--all"]);
    assert!(err.contains("cannot hold an image for several platforms\nhint: "), "{err}");
    let name = ok(home, &["image", "copy", "me/app", "me/app:v3", "--quiet"]);
    ok(home, &["image", "remove", name.trim_end()]);

    let (code, out, err) = pannier(home, &["image", "remove", "me/app", "nothing"]);
    assert_eq!((code, out.as_str()), (Some(1), "removed me/app:latest\n"));
    assert!(err.starts_with("error: no image `nothing:latest` in the store "), "{err}");
    ok(home, &["image", "remove", "me/app:v2"]);
    assert_eq!(fs::read_dir(home.join("home/store/tmp")).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn prune_frees_what_no_image_needs() {
    let temp = tempfile::tempdir().unwrap();
    let home = temp.path();
    archive(home);
    ok(home, &["image", "copy", "oci-archive:a.tar", "app"]);
    let blobs = || fs::read_dir(home.join("home/store/blobs/sha256")).unwrap().count();
    if let (Some(code), _, err) = pannier(home, &["prune"])
        && code != 0
    {
        // Without a namespace nothing can be removed that belongs to ids of one.
        assert!(err.contains("doctor"), "{err}");
        return testkit::needs::cannot("no namespace can be entered");
    }
    assert_eq!(blobs(), 3);
    // The default builder of another version of this program goes by itself.
    ok(home, &["image", "copy", "app", "localhost/pannier/default-builder:0123456789abcdef"]);
    assert!(ok(home, &["prune"]).contains(" of 1 image (`pannier image remove NAME`, then prune again)"));
    assert_eq!(ok(home, &["image", "list", "--quiet"]), "app:latest\n");
    ok(home, &["image", "remove", "app"]);
    fs::create_dir_all(home.join("home/store/cache/app/x")).unwrap();
    let said = ok(home, &["prune"]);
    assert!(said.contains("(3 blobs, 0 unpacked layers)"), "{said}");
    assert!(
        said.contains("in 1 build cache (`pannier prune --caches`)") && !said.contains("image"),
        "{said}"
    );
    assert_eq!(blobs(), 0);
    assert!(home.join("home/store/cache/app").exists());
    assert!(ok(home, &["prune", "--caches"]).contains("(0 blobs, 0 unpacked layers, 1 cache, 0 steps)"));
    assert!(!home.join("home/store/cache/app").exists());

    let open = oci::Store::open(home.join("home/store")).unwrap();
    let (code, _, err) = pannier(home, &["prune"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("is in use by another process\nhint: wait until other builds are done"), "{err}");
    drop(open);
}

#[test]
fn mistakes_are_one_clear_line() {
    let temp = tempfile::tempdir().unwrap();
    let home = temp.path();
    fs::write(home.join("x.tar"), "not a tar at all").unwrap();
    for (arguments, expected) in [
        (&["inspect", "oci:nowhere"][..], "no OCI layout in nowhere: no such folder"),
        (&["inspect", "oci-archive:x.tar"], "invalid archive x.tar: it is not a tar"),
        (&["inspect", "UPPER"], "invalid image reference `UPPER`: the repository must be lower case"),
        (&["inspect", "x", "--registry-ca", "no.pem"], "there is no file no.pem here\nhint: --registry-ca"),
        (
            &["inspect", "x", "--insecure-registry", "http://y"],
            "invalid registry `http://y`: expected HOST[:PORT]",
        ),
        (&["image", "copy", "docker-daemon:x", "y"], "unsupported transport `docker-daemon:`"),
        (&["inspect", "x", "--platform", "linux//"], "invalid platform `linux//`"),
        (
            &["inspect", "127.0.0.1:1/x"],
            "127.0.0.1:1 refused the connection\nhint: check that a registry runs",
        ),
        (
            &["inspect", "127.0.0.1:1/x"],
            "the local store has no such image `127.0.0.1:1/x:latest`, so its registry",
        ),
        (&["image", "copy", "x", "oci-archive:no/x.tar"], "there is no folder no\n"),
    ] {
        let (code, _, err) = pannier(home, arguments);
        assert_eq!(code, Some(1), "{arguments:?}");
        assert!(err.starts_with("error: ") && err.contains(expected), "{arguments:?}: {err}");
    }
}
