//! Faults as a person at a shell meets them: what is said of each, how the program exits, and that nothing is left.
//!
//! The end-to-end tests have the common ones; here is what they do not look at that closely.
//!
//! | file | theme |
//! |---|---|
//! | [`told`] | what is said: verdicts, carets, hints, exit codes |
//! | [`planted`] | symlinks and worse where our own process reads and writes |
//! | [`spoilt`] | blobs of the store that are not what they should be |
//! | [`home`] | a store that is not this user's, cannot be written, or has links in it |
//! | [`endings`] | signals at any moment, a full disk, two builds at once |

mod endings;
mod home;
mod planted;
mod spoilt;
#[path = "../e2e/support.rs"]
#[allow(dead_code, reason = "the end-to-end tests use the rest")]
mod support;
mod told;

use testkit::Machine;
use testkit::machine::{Call, Output};

/// Fails with this exit code and one line that begins with `error:`; nothing is left in the store's scratch folder.
fn fails_with(machine: &Machine, code: i32, call: Call) -> Output {
    let output = call.fails();
    assert_eq!(output.code(), code, "{output}");
    let errors = output.stderr.lines().filter(|line| line.starts_with("error:")).count();
    assert_eq!(errors, 1, "one clear line\n{output}");
    output.never_says("panicked");
    assert_eq!(scratch(machine), [""; 0], "{output}");
    output
}

/// What is in the store's scratch folder.
fn scratch(machine: &Machine) -> Vec<String> {
    let Ok(entries) = fs_err::read_dir(store(machine).join("tmp")) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The store's folder.
fn store(machine: &Machine) -> std::path::PathBuf {
    machine.path("home/.local/share/pannier/store")
}

/// Checks every blob and every image of the store. Its folders must be for the caller to read.
fn verify(machine: &Machine) {
    let report = oci::Store::open(store(machine)).expect("a store").verify().expect("it can be read");
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}
