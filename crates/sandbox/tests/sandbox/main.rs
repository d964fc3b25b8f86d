//! Programs in real sandboxes: as root, as an ordinary user with id ranges, and as one without.
//!
//! The first process runs this same file as each of these people (`--suite`), since entering namespaces is a thing a
//! process does once. `cargo test -p pannier-sandbox --test sandbox -- NAME` runs the cases with NAME in theirs;
//! `-- starts` prints how long starts take.
// A test harness of its own prints what happened. Calls that are to be refused have no safe wrapper.
#![allow(clippy::print_stdout, clippy::print_stderr, unsafe_code)]

mod ending;
mod failing;
mod inside;
mod isolation;
mod mounts;
mod nodes;
mod place;
mod renames;
mod running;
mod terminal;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use pannier_sandbox::{EnterOptions, Ids};
use testkit::{Machine, Person};

use place::Place;

/// A case: its name and what it does.
pub type Case = (&'static str, fn(&Place));

fn main() -> ExitCode {
    pannier_sandbox::init_if_requested();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--inside", what, rest @ ..] => inside::run(what, rest),
        ["--deleted", root] => running::deleted(root.as_ref()),
        ["--victim", folder] => ending::victim(folder.as_ref()),
        ["--suite", ids, filters @ ..] => suite(*ids == "single", filters),
        _ => everybody(&arguments),
    }
}

fn everybody(arguments: &[String]) -> ExitCode {
    let filters: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        for (name, _) in cases() {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    if !testkit::needs::have(&["busybox"]) {
        return ExitCode::SUCCESS;
    }
    let own = std::env::current_exe().expect("this test's own file");
    let own = own.to_str().expect("a path in UTF-8");
    let mut failed = false;
    for (person, ids) in people() {
        println!("\nas {} ({ids})", person.name());
        let machine = Machine::new(own, person);
        let output = machine.pannier(["--suite", ids]).args(&filters).run();
        print!("{}", output.stdout);
        eprint!("{}", output.stderr);
        failed |= !output.status.success();
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Everybody with the ids they get by themselves; who has ranges also tries without, and that on every machine.
fn people() -> Vec<(Person, &'static str)> {
    let mut people: Vec<_> = Person::all().into_iter().map(|person| (person, "own")).collect();
    let ordinary = people.iter().find(|(person, _)| !person.is_root()).map(|(person, _)| *person);
    people.extend(ordinary.filter(|person| *person != Person::Plain).map(|person| (person, "single")));
    people
}

fn cases() -> Vec<Case> {
    [
        running::CASES,
        failing::CASES,
        isolation::CASES,
        mounts::CASES,
        nodes::CASES,
        ending::CASES,
        terminal::CASES,
        renames::CASES,
    ]
    .concat()
}

/// Enters, and runs the cases one after another.
fn suite(single_id: bool, filters: &[&str]) -> ExitCode {
    // Before entering: it does so itself.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let probed = pannier_sandbox::probe(folder.path()).expect("probed");
    assert_eq!(fs_err::read_dir(folder.path()).expect("read").count(), 0, "nothing is left");
    let entered = match pannier_sandbox::enter(&EnterOptions { single_id }) {
        Ok(entered) => entered,
        Err(error) => {
            println!("cannot enter: {error}: {:?}; {:?}", std::error::Error::source(&error), error.hint());
            return ExitCode::FAILURE;
        }
    };
    if single_id {
        assert_eq!(entered.ids, Ids::Single);
    }
    println!("entered: {entered:?}");
    assert!(probed.sandboxes_run(), "{probed:?}");
    assert_eq!(probed.checks.len(), 5);
    for check in probed.checks {
        println!("  {}: {:?}", check.name, check.result);
    }
    let place = Place::new(entered);
    let mut failed = 0;
    for (name, case) in cases() {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter)) {
            continue;
        }
        let passed = catch_unwind(AssertUnwindSafe(|| case(&place))).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += usize::from(!passed);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
