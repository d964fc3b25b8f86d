//! What the user's configuration file does, through the program.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

/// Runs the program with its home in `home`, and returns its exit code and standard error.
fn pannier(home: &Path, args: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = Command::new(env!("CARGO_BIN_EXE_pannier"))
        .args(args)
        .env("PANNIER_HOME", home)
        .env("HOME", home)
        .current_dir(home)
        .output()
        .expect("the program starts");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

fn home(config: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a folder");
    fs_err::write(home.path().join("config.toml"), config).expect("a file");
    fs_err::create_dir(home.path().join("app")).expect("a folder");
    home
}

#[test]
fn an_error_in_it_is_shown_with_its_line() {
    let home = home("pull-policy = \"daily\"\n");
    let (code, stderr) = pannier(home.path(), &["inspect", "oci:missing"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("config.toml:1:15: invalid pull policy `daily`"), "{stderr}");
    assert!(stderr.contains("^^^^^^^"), "{stderr}");
    assert!(stderr.contains("expected `always`, `never` or `if-not-present`"), "{stderr}");
}

#[test]
fn a_verb_that_needs_none_of_it_works_with_a_broken_file() {
    let home = home("pull-policy = \n");
    assert_eq!(pannier(home.path(), &["version"]).0, Some(0));
}

#[test]
fn an_unknown_key_is_a_warning() {
    let home = home("experimental = true\n");
    let (_, stderr) = pannier(home.path(), &["inspect", "oci:missing"]);
    assert_eq!(stderr.matches("config.toml:1:1: unknown key `experimental`").count(), 1, "{stderr}");
}

#[test]
fn the_default_builder_is_used_unless_another_is_named() {
    let home = home("default-builder-image = \"oci:configured\"\n");
    let (code, stderr) = pannier(home.path(), &["build", "app", "--path", "app"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("oci:configured"), "{stderr}");
    let named = ["build", "app", "--path", "app", "--builder", "oci:named"];
    let (_, stderr) = pannier(home.path(), &named);
    assert!(stderr.contains("oci:named") && !stderr.contains("oci:configured"), "{stderr}");
}

#[test]
fn a_mirror_is_asked_in_place_of_the_registry() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mirror = listener.local_addr().expect("an address");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    // Ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut line = String::new();
            let _ = BufReader::new(&stream).read_line(&mut line);
            log.lock().expect("not poisoned").push(line);
            let _ = (&stream).write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let home = home(&format!(
        "insecure-registries = [\"{mirror}\"]\n[registry-mirrors]\n\"registry.invalid\" = \"{mirror}/cache\"\n"
    ));
    let (code, stderr) = pannier(home.path(), &["inspect", "docker://registry.invalid/app"]);
    assert_eq!(code, Some(1), "{stderr}");
    let asked = asked.lock().expect("not poisoned");
    assert!(asked.iter().any(|line| line.contains(" /v2/cache/app/manifests/latest ")), "{asked:?}");
}
