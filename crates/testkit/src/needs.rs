//! Programs that tests call. A test that can't have what it needs is skipped, and said to be: on standard error, and
//! in the file that `cargo xtask test` names, whose lines end up in its summary. Where everything is required (CI), it
//! fails instead.

use std::io::Write as _;
use std::path::PathBuf;

/// The variable that names the file for skipped tests: a line each, the test's name, a tab and the reason.
pub const SKIPPED: &str = "PANNIER_TEST_SKIPPED";
/// The variable that makes a missing need a failure.
pub const REQUIRE_ALL: &str = "PANNIER_TEST_REQUIRE_ALL";

/// Returns from the test, saying so, when one of the programs named is not on this machine.
///
/// ```no_run
/// # use pannier_testkit as testkit;
/// # fn test() {
/// testkit::needs!("skopeo", "umoci");
/// # }
/// ```
#[macro_export]
macro_rules! needs {
    ($($program:expr),+ $(,)?) => {
        if !$crate::needs::have(&[$($program),+]) {
            return;
        }
    };
}

/// Whether all `programs` are here. If not, the running test is said to be skipped.
///
/// # Panics
///
/// When one is missing and everything is required.
pub fn have(programs: &[&str]) -> bool {
    let missing = programs.iter().filter(|program| find(program).is_none()).copied().collect::<Vec<_>>();
    if missing.is_empty() {
        return true;
    }
    skip(&format!("no {} on this machine", missing.join(", ")));
    false
}

/// Says that the running test (or a part of it) can't be done here, and why.
///
/// # Panics
///
/// When everything is required.
pub fn skip(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    assert!(std::env::var_os(REQUIRE_ALL).is_none(), "{test} can't run, and everything is required: {why}");
    cannot(why);
}

/// As [`skip`], for what no installation could change (a kernel that lacks something, say): never a failure.
pub fn cannot(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Not `eprintln!`: the test harness would swallow it.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
    if let Some(log) = std::env::var_os(SKIPPED) {
        let line = format!("{test}\t{why}\n");
        let _ = fs_err::OpenOptions::new()
            .append(true)
            .create(true)
            .open(log)
            .map(|mut file| file.write_all(line.as_bytes()));
    }
}

/// Where a program is: in PATH, or in the folders that an ordinary user's PATH leaves out.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}
