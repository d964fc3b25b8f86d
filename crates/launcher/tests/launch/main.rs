//! Runs the real launcher on made-up app images.
//!
//! Every case says what is printed and how the program ends, byte for byte. The same cases can be run with the
//! reference's launcher, which keeps our expectations honest:
//! `PANNIER_REFERENCE_LAUNCHER=/path/to/launcher cargo test -p pannier-launcher -- --ignored`.

mod cases;
mod fixture;
mod process;

use std::path::PathBuf;

use fixture::Case;

fn ours() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_pannier-launcher"))
}

fn check(launcher: &std::path::Path, cases: &[Case], of_reference: bool) {
    let mut wrong = Vec::new();
    for case in cases.iter().filter(|case| !of_reference || !case.only_ours) {
        if let Err(difference) = case.run(launcher) {
            wrong.push(difference);
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn every_case_is_as_written() {
    check(&ours(), &cases::all(), false);
}

#[test]
#[ignore = "needs the reference's launcher in PANNIER_REFERENCE_LAUNCHER"]
fn every_case_is_as_the_reference_does_it() {
    let reference =
        std::env::var_os("PANNIER_REFERENCE_LAUNCHER").expect("PANNIER_REFERENCE_LAUNCHER is set");
    check(&PathBuf::from(reference), &cases::all(), true);
}
