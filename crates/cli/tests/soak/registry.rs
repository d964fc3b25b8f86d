//! A registry that fails at any request: the operation goes on or says why not, no name ever points at something that
//! is not whole, and when the registry is well again everything works.

use std::time::{Duration, Instant};

use testkit::registry::{Fault, Kind};

use crate::lab::{Lab, Operation, Random, is_clear};
use crate::{Limit, Tally};

const KINDS: [Kind; 9] = [
    Kind::Ping,
    Kind::ManifestGet,
    Kind::ManifestHead,
    Kind::ManifestPut,
    Kind::BlobGet,
    Kind::BlobHead,
    Kind::UploadStart,
    Kind::Mount,
    Kind::UploadPut,
];

/// No answer to any request takes longer than this to be a clear error.
const PATIENCE: Duration = Duration::from_secs(300);

fn faults() -> Vec<Fault> {
    let status = [400, 401, 403, 404, 405, 409, 413, 416, 418, 429, 500, 502, 503, 504];
    let mut faults: Vec<Fault> = status.into_iter().map(Fault::Status).collect();
    faults.extend([401, 403, 413, 503].map(Fault::Reject));
    faults.extend([0, 1, 100, 10_000].map(Fault::CutAnswer));
    faults.extend([0, 1, 100, 10_000].map(Fault::CutRequest));
    faults.extend([1, 100].map(Fault::Short));
    faults.extend([Fault::RetryAfter(1), Fault::NoAnswer, Fault::WrongByte, Fault::NoRange]);
    faults.extend([Fault::Slow(200_000), Fault::Echo(401), Fault::Echo(403)]);
    faults.extend([Fault::Page(200), Fault::Page(401), Fault::Empty(200), Fault::Empty(204)]);
    faults.extend([Fault::Redirect(302, "http://127.0.0.1:1/login".to_owned()), Fault::WrongDigest]);
    faults.extend([
        Fault::Instead(200),
        Fault::Instead(202),
        Fault::Gzip,
        Fault::Endless,
        Fault::EndlessHeaders,
    ]);
    faults
}

/// Those that take the client's whole patience.
const SILENCES: [Fault; 4] = [Fault::Hang, Fault::Stall(0), Fault::Stall(100), Fault::Trickle(1000)];
/// One of so many tries is a silence.
const SILENCE_EVERY: usize = 40;

pub fn run(lab: &Lab, random: &mut Random, limit: Limit) -> Tally {
    let mut tally = Tally::default();
    let home = lab.warm_home();
    let operation = Operation::CacheImage;
    lab.call(operation, &home).ok();
    let expected = lab.digest(operation, &home).expect("what nobody disturbed can be read");

    let mut try_one = |kind: Kind, fault: &Fault, after: u32, times: u32| {
        let found = failing(lab, operation, &home, (kind, fault, after, times), &expected);
        tally.add(found.map_err(|lost| format!("{kind:?} number {after}, {times} times {fault:?}: {lost}")));
    };
    if limit.short {
        // Each once; the kinds of requests take turns.
        for (number, fault) in faults().iter().enumerate() {
            try_one(KINDS[number % KINDS.len()], fault, 0, 1);
        }
        return tally;
    }
    let faults = faults();
    while !limit.is_over() {
        let (kind, after) = (KINDS[random.below(KINDS.len())], random.below(4) as u32);
        match random.below(SILENCE_EVERY) {
            0 => try_one(kind, &SILENCES[random.below(SILENCES.len())], after, 1),
            _ => try_one(kind, &faults[random.below(faults.len())], after, [1, 2, 100][random.below(3)]),
        }
    }
    tally
}

fn failing(
    lab: &Lab,
    operation: Operation,
    home: &std::path::Path,
    (kind, fault, after, times): (Kind, &Fault, u32, u32),
    expected: &str,
) -> Result<bool, String> {
    lab.registry.fail_after(after, kind, fault.clone(), times);
    let start = Instant::now();
    let output = lab.call(operation, home).run();
    lab.registry.recover();
    if start.elapsed() > PATIENCE {
        return Err(format!("it took {:?}: {output}", start.elapsed()));
    }
    let survived = output.status.success();
    if !survived {
        is_clear(&output)?;
    }
    let left = lab.leftovers(home);
    if !left.is_empty() {
        return Err(format!("files are left: {left:?}: {output}"));
    }
    lab.verify(home)?;
    // What has the name is whole: the copy reads all of it.
    let digest = lab.digest(operation, home)?;
    if survived && digest != expected {
        return Err(format!("it made {digest}, expected {expected}: {output}"));
    }

    let output = lab.call(operation, home).run();
    if !output.status.success() {
        return Err(format!("when the registry is well again it fails: {output}"));
    }
    match lab.digest(operation, home)? {
        digest if digest == expected => Ok(survived),
        digest => Err(format!("then it makes {digest}, expected {expected}")),
    }
}
