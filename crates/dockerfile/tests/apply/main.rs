//! Real Dockerfiles applied to real images: as root, as an ordinary user with id ranges, and as one without.
//!
//! The first process runs this same file as each of these people (`--suite`), since entering namespaces is a thing a
//! process does once. `cargo test -p pannier-dockerfile --test apply -- NAME` runs the cases with NAME in theirs.
// A test harness of its own prints what happened.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod adding;
mod cache;
mod copying;
mod failing;
mod lab;
mod running;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use lab::Lab;
use sandbox::{EnterOptions, Ids};
use testkit::{Base, Machine, Person};

/// A case: its name and what it does.
pub type Case = (&'static str, fn(&Lab));

fn main() -> ExitCode {
    sandbox::init_if_requested();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--victim", store] => failing::victim(store.as_ref()),
        ["--suite", digests, filters @ ..] => suite(digests, filters),
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
    if !Base::Small.available() {
        return ExitCode::SUCCESS;
    }
    let own = std::env::current_exe().expect("this test's own file");
    let own = own.to_str().expect("a path in UTF-8");
    let mut failed = false;
    let mut digests: Option<(String, String)> = None;
    for person in Person::all() {
        println!("\nas {}", person.name());
        let machine = Machine::new(own, person);
        let file = machine.path("tmp/digests");
        let output = machine.pannier(["--suite", file.to_str().expect("UTF-8")]).args(&filters).run();
        print!("{}", output.stdout);
        eprint!("{}", output.stderr);
        failed |= !output.status.success();
        // What each of them made of the same Dockerfiles is the same.
        let made = fs_err::read_to_string(&file).unwrap_or_default();
        match &digests {
            Some((first, expected)) if *expected != made => {
                let differ = expected.lines().filter(|line| !made.contains(line)).collect::<Vec<_>>();
                println!("{} made other layers than {first}: not {differ:#?}", person.name());
                failed = true;
            }
            Some(_) => {}
            None => digests = Some((person.name().to_owned(), made)),
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn cases() -> Vec<Case> {
    [running::CASES, copying::CASES, adding::CASES, cache::CASES, failing::CASES].concat()
}

/// Enters, and runs the cases one after another.
fn suite(digests: &str, filters: &[&str]) -> ExitCode {
    // Before entering: it belongs to the user.
    Base::Small.layout();
    let entered = match sandbox::enter(&EnterOptions { single_id: false }) {
        Ok(entered) => entered,
        Err(error) => {
            println!("cannot enter: {error}: {:?}", error.hint());
            return ExitCode::FAILURE;
        }
    };
    println!("entered: {:?}", entered.ids);
    let mut failed = 0;
    let mut made = String::new();
    for (name, case) in cases() {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter)) {
            continue;
        }
        let lab = Lab::new(entered.ids, false);
        failed += usize::from(!passes(name, case, &lab));
        for line in lab.layers() {
            made += &format!("{name}: {line}\n");
        }
    }
    for (name, case) in running::ON_COPIES {
        if filters.is_empty() || filters.iter().any(|filter| name.contains(filter)) {
            failed += usize::from(!passes(name, *case, &Lab::new(entered.ids, true)));
        }
    }
    fs_err::write(digests, made).expect("written");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn passes(name: &str, case: fn(&Lab), lab: &Lab) -> bool {
    let passed = catch_unwind(AssertUnwindSafe(|| case(lab))).is_ok();
    println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
    passed
}

/// Whether the disk can say whose files are.
fn has_owners(ids: Ids) -> bool {
    ids != Ids::Single
}
