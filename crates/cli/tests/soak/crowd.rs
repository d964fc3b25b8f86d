//! Builds at once on one store, of the same app and of others, while somebody prunes, removes and lists: each works, or
//! says that the store is in use.

use std::path::Path;
use std::sync::Mutex;

use testkit::machine::Output;

use crate::lab::{Lab, Operation, Random, is_clear};
use crate::{Limit, Tally};

/// Builders at once.
const BUILDERS: usize = 4;

pub fn run(lab: &Lab, random: &mut Random, limit: Limit) -> Tally {
    let tally = Mutex::new(Tally::default());
    let add = |result| tally.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).add(result);
    let home = lab.warm_home();
    let expected = lab.digest(Operation::FirstBuild, &home).expect("what nobody disturbed can be read");

    std::thread::scope(|scope| {
        for number in 0..BUILDERS {
            let (home, expected, add) = (&home, &expected, &add);
            let mut random = Random(random.0 + number as u64);
            scope.spawn(move || {
                while !limit.is_over() {
                    add(build(lab, home, number, expected));
                    std::thread::sleep(std::time::Duration::from_millis(random.below(50) as u64));
                }
            });
        }
        let (home, add) = (&home, &add);
        scope.spawn(move || {
            while !limit.is_over() {
                for words in [
                    &["prune"][..],
                    &["image", "remove", "crowd-1"],
                    &["image", "list"],
                    &["prune", "--caches"],
                ] {
                    add(beside(&lab.pannier(home, words.iter().copied()).run()));
                }
            }
        });
    });
    add(lab.verify(&home).map(|()| true));
    add(match lab.leftovers(&home).as_slice() {
        [] => Ok(true),
        left => Err(format!("files are left: {left:?}")),
    });
    let rounds = if limit.short { 3 } else { 40 };
    (0..rounds).for_each(|round| add(new_store(lab, round, &expected)));
    tally.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn build(lab: &Lab, home: &Path, number: usize, expected: &str) -> Result<bool, String> {
    // Two of them build the same app.
    let name = format!("crowd-{}", number / 2);
    let output = lab.build_as(home, &name).run();
    if !output.status.success() {
        // Pruning while it begins is a clear error.
        return beside(&output);
    }
    match output.all().contains(&expected[..12]) {
        true => Ok(true),
        false => Err(format!("it does not make {expected}: {output}")),
    }
}

/// Something that has to work, or to be told that others are at it.
fn beside(output: &Output) -> Result<bool, String> {
    if output.status.success() {
        return Ok(true);
    }
    let said = output.all();
    let expected = ["in use by another process", "no image `", "no such image"];
    match expected.iter().any(|text| said.contains(text)) {
        true => is_clear(output).map(|()| false),
        false => Err(format!("it fails beside others: {output}")),
    }
}

/// Several builds at once, each of which finds no store.
fn new_store(lab: &Lab, round: usize, expected: &str) -> Result<bool, String> {
    let home = lab.machine.make_dir(format!("new-{round}"));
    let outputs: Vec<Result<bool, String>> = std::thread::scope(|scope| {
        let start = |number| {
            let home = &home;
            scope.spawn(move || build(lab, home, number, expected))
        };
        let started: Vec<_> = (0..2 * BUILDERS).map(start).collect();
        started.into_iter().map(|it| it.join().expect("a build was waited for")).collect()
    });
    for output in outputs {
        if !output? {
            return Err("a build on a new store did not work".to_owned());
        }
    }
    lab.verify(&home)?;
    match lab.leftovers(&home).as_slice() {
        [] => lab.remove(&home),
        left => return Err(format!("files are left: {left:?}")),
    }
    Ok(true)
}
