//! Inputs that fuzzing kept, each with what comes of it.
//!
//! A corpus is a folder of inputs, as a fuzzer takes it, and beside it a file `NAME.txt` with a line for each: the
//! input's name, a tab, its outcome. The outcome is whatever the target has to say in a line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use fs_err as fs;

/// The variable that makes [`check`] write outcomes down instead of comparing them: `1`, or a folder with a folder of
/// inputs for each corpus, from which the smallest are taken.
const RECORD: &str = "PANNIER_RECORD_CORPUS";
/// Inputs of a corpus.
const MOST: usize = 40;
/// Bytes of such an input.
const LARGEST: usize = 4096;

/// Gives every input of the corpus `tests/corpus/<name>` of the crate in the folder `home` to `outcome`, and compares what
/// it says with what is written in `<name>.txt` beside it.
///
/// With `PANNIER_RECORD_CORPUS=1` in the environment the file is written anew. With `PANNIER_RECORD_CORPUS=fuzz/corpus`
/// (an absolute path) inputs are taken from there first: for each outcome the smallest, forty at most.
///
/// # Panics
/// When an outcome is another one, an input has none or there are none, or the target panics.
pub fn check(home: &str, name: &str, outcome: impl Fn(&[u8]) -> String) {
    let dir = &Path::new(home).join("tests/corpus").join(name);
    let record = std::env::var_os(RECORD).filter(|value| !value.is_empty());
    if let Some(from) = record.as_deref().filter(|value| *value != "1") {
        take_smallest(&Path::new(from).join(name), dir, &outcome);
    }
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let said = outcome(&fs::read(&path).unwrap());
        assert!(!said.contains(['\n', '\t']), "{name}: an outcome is one line: {said:?}");
        found.insert(name, said);
    }
    assert!(!found.is_empty(), "no inputs in {}", dir.display());
    let file = dir.with_extension("txt");
    match record {
        Some(_) => fs::write(file, lines(&found)).unwrap(),
        None => compare(&file, &found),
    }
}

fn lines(outcomes: &BTreeMap<String, String>) -> String {
    outcomes.iter().fold(String::new(), |mut text, (name, said)| {
        writeln!(text, "{name}\t{said}").unwrap();
        text
    })
}

fn compare(file: &Path, found: &BTreeMap<String, String>) {
    let text = fs::read_to_string(file).unwrap();
    let mut written = BTreeMap::new();
    for line in text.lines() {
        let (name, said) = line.split_once('\t').unwrap_or_else(|| panic!("no tab: {line:?}"));
        written.insert(name.to_owned(), said.to_owned());
    }
    let names: BTreeSet<&String> = found.keys().chain(written.keys()).collect();
    let differing: Vec<String> = names
        .into_iter()
        .filter(|name| found.get(*name) != written.get(*name))
        .map(|name| format!("{name}: {:?}, expected {:?}", found.get(name), written.get(name)))
        .collect();
    let (file, lines) = (file.display(), differing.join("\n"));
    assert!(differing.is_empty(), "{file} (write it anew with {RECORD}=1, if that is meant)\n{lines}");
}

/// A fuzzer names inputs by their SHA-1. Those with other names were put there by people, and stay.
fn is_hash(name: &str) -> bool {
    name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Replaces what a corpus has from a fuzzer: by the smallest input for each outcome, or by some of these where they are
/// many.
fn take_smallest(from: &Path, dir: &Path, outcome: &impl Fn(&[u8]) -> String) {
    let mut candidates = BTreeSet::new();
    for entry in [from, dir].into_iter().filter(|dir| dir.is_dir()).flat_map(|dir| fs::read_dir(dir).unwrap())
    {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        // A fuzzer that is at work replaces some by smaller ones.
        let Some(bytes) = fs::read(&path).ok().filter(|bytes| bytes.len() <= LARGEST) else { continue };
        if is_hash(&name) {
            candidates.insert((bytes.len(), name, bytes));
        }
    }
    for (_, name, _) in &candidates {
        let _ = fs::remove_file(dir.join(name));
    }
    let named: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    let mut outcomes: BTreeSet<String> = named.iter().map(|path| outcome(&fs::read(path).unwrap())).collect();
    candidates.retain(|(_, _, bytes)| outcomes.insert(outcome(bytes)));
    // The very smallest are much alike: of many, take some of every size.
    let step = candidates.len().div_ceil(MOST.saturating_sub(named.len()).max(1)).max(1);
    for (_, name, bytes) in candidates.into_iter().step_by(step) {
        fs::write(dir.join(name), bytes).unwrap();
    }
}
