//! What must never happen, tried at random moments and places: signals, full disks, registries that fail, builds side
//! by side. As a test it is short, a minute of signals and each fault once; `cargo xtask soak` runs it for as long as
//! it is told.
//!
//! | file | theme |
//! |---|---|
//! | [`lab`] | a machine with all that the operations need, and the operations |
//! | [`signals`] | an end by a signal at any moment |
//! | [`disk`] | a disk that is full at any point |
//! | [`registry`] | a registry that fails at any request |
//! | [`crowd`] | builds at once, beside prune and remove |
//!
//! Every part counts what it tried and what came of it. Something is *lost* when it is wrong afterwards: another digest,
//! a store that is not whole, something left behind, an end that nobody understands.
#![allow(clippy::print_stdout)] // it reports what it does

mod crowd;
mod disk;
mod lab;
mod registry;
mod signals;
#[path = "../e2e/support.rs"]
#[allow(dead_code, unused_macros, unused_imports, reason = "the end-to-end tests use the rest")]
mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use testkit::{Base, Person};

use lab::{Lab, Random};

/// What came of all tries of a part.
#[derive(Debug, Default)]
pub struct Tally {
    /// All of them.
    pub tried: usize,
    /// Went well all the same.
    pub survived: usize,
    /// Failed, and said clearly why, or ended as the signal asked.
    pub clear: usize,
    /// What is wrong, each with all that is needed to try it again.
    pub lost: Vec<String>,
}

impl Tally {
    /// Takes what one try came to: whether it went well, or what was lost.
    pub fn add(&mut self, result: Result<bool, String>) {
        self.tried += 1;
        match result {
            Ok(true) => self.survived += 1,
            Ok(false) => self.clear += 1,
            Err(lost) => {
                println!("LOST  {lost}");
                self.lost.push(lost);
            }
        }
    }
}

/// How long a part goes on.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// The end, for parts that could go on for ever.
    pub end: Instant,
    /// Each fault once, in place of everything at every point.
    pub short: bool,
}

impl Limit {
    /// Whether the time is up.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }
}

/// How long a part goes on that has no end of its own, when nobody said how long.
const SHORT: Duration = Duration::from_secs(30);

type Part = fn(&Lab, &mut Random, Limit) -> Tally;

const PARTS: [(&str, Part); 4] =
    [("signals", signals::run), ("disk", disk::run), ("registry", registry::run), ("crowd", crowd::run)];

/// What the command line asks for.
struct Asked {
    minutes: Option<f64>,
    seed: u64,
    person: Person,
    /// Parts whose names contain one of these; all when there are none.
    filters: Vec<String>,
    list: bool,
}

impl Asked {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut asked = Self {
            minutes: None,
            seed: Random::any(),
            person: Person::Caller,
            filters: Vec::new(),
            list: false,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            let number = |text: String| text.parse().map_err(|_| format!("`{text}` is no number"));
            match argument.as_str() {
                "--minutes" => asked.minutes = Some(number(value()?)?),
                "--seed" => asked.seed = number(value()?)? as u64,
                "--only" => asked.filters.push(value()?),
                "--as" => {
                    asked.person = match value()?.as_str() {
                        "caller" => Person::Caller,
                        "ranges" => Person::Ranges,
                        "plain" => Person::Plain,
                        other => return Err(format!("`{other}`: expected caller, ranges or plain")),
                    };
                }
                "--list" => asked.list = true,
                // Those of the ordinary harness, which cargo passes to every test.
                flag if flag.starts_with('-') => {}
                filter => asked.filters.push(filter.to_owned()),
            }
        }
        Ok(asked)
    }

    fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter.as_str()))
    }
}

fn main() -> ExitCode {
    let asked = match Asked::parse(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(error) => {
            println!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let parts: Vec<_> = PARTS.iter().filter(|(name, _)| asked.wants(name)).collect();
    if asked.list {
        parts.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if parts.is_empty() || !Base::Small.available() {
        return ExitCode::SUCCESS;
    }

    println!("soak as {}, seed {}", asked.person.name(), asked.seed);
    let share =
        asked.minutes.map_or(SHORT, |minutes| Duration::from_secs_f64(minutes * 60.0 / parts.len() as f64));
    let mut lost = 0;
    for (name, part) in parts {
        let lab = Lab::new(asked.person);
        let start = Instant::now();
        let limit = Limit { end: start + share, short: asked.minutes.is_none() };
        let tally = part(&lab, &mut Random(asked.seed), limit);
        println!(
            "{name:<9} {:>5} tried  {:>5} survived  {:>5} clear errors  {:>3} lost  ({:.0} s)",
            tally.tried,
            tally.survived,
            tally.clear,
            tally.lost.len(),
            start.elapsed().as_secs_f64()
        );
        lost += tally.lost.len();
    }
    if lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
