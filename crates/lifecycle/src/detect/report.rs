//! Who said what: for those who want to know why a group did not pass.

use std::collections::BTreeMap;
use std::time::Duration;

use cnb::group::ModuleId;
use cnb::resolve::{Element, Outcome, Verdict};

/// The groups that were tried and what their members said.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The groups, in the order in which they were tried. Groups that could not pass because a required member had
    /// failed in an earlier one are not among them.
    pub groups: Vec<GroupReport>,
    /// What each module came to; nobody is asked twice.
    pub runs: BTreeMap<ModuleId, Run>,
}

/// What became of a group.
#[derive(Clone, Debug)]
pub struct GroupReport {
    /// Its members, in the order in which they would build.
    pub members: Vec<Member>,
}

/// What became of a member of a group.
#[derive(Clone, Debug)]
pub struct Member {
    /// Who it is.
    pub element: Element,
    /// What became of it.
    pub verdict: Verdict,
}

impl GroupReport {
    pub(super) fn new(elements: Vec<Element>, verdicts: Vec<Verdict>) -> Self {
        let members = elements.into_iter().zip(verdicts);
        Self { members: members.map(|(element, verdict)| Member { element, verdict }).collect() }
    }
}

/// One run of `bin/detect`.
#[derive(Clone, Debug)]
pub struct Run {
    /// What it came to.
    pub outcome: Outcome,
    /// What it printed on both streams, as it came. Of very much only the end.
    pub output: Vec<u8>,
    /// How long it took.
    pub elapsed: Duration,
}
