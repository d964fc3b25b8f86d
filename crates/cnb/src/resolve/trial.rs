//! One group of components and what they said: a group with a plan, or why not (buildpack.md, "Phase #1: Detection").
//!
//! A buildpack may offer several plans. The reference tries all combinations of them; here a choice is given up as
//! soon as what was chosen so far can not be completed, which leaves the same first combination that works.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::candidates::{Element, Exclusion};
use crate::group::{Group, GroupElement, Kind, ModuleId};
use crate::plan::{BuildPlan, Plan, PlanEntry, Provide, Require};

/// How much is done to find a combination of plans that works: each plan chosen counts with what it provides and
/// requires. Nobody waits for all combinations of twenty members with three alternatives each.
const STEPS: usize = 1 << 22;

/// What `bin/detect` of one module came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It passed, with this plan.
    Passed(BuildPlan),
    /// It said no: exit code 100.
    Failed,
    /// It did not work: another exit code, a signal, a plan that can not be read.
    Errored(String),
}

/// What became of one member of a group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It takes part, or would have if the others had passed.
    Passed,
    /// It said no.
    Failed,
    /// It did not work, and this is why.
    Errored(String),
    /// It is not for this execution environment.
    OtherExecEnv,
    /// It does not run on this base image.
    OtherTarget,
    /// It needs what no earlier member provides.
    Unmet {
        /// What it needs.
        requires: String,
    },
    /// It provides what no later member needs.
    Unused {
        /// What it provides.
        provides: String,
    },
}

/// A group that passed.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// Who takes part.
    pub group: Group,
    /// Who provides what for whom, in the order in which it is first needed.
    pub plan: Plan,
}

/// What became of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolution {
    /// For each member, in the order of the group.
    pub verdicts: Vec<Verdict>,
    /// The group and its plan, if it passed.
    pub resolved: Option<Resolved>,
    /// True when it failed and a member did not work or runs on other base images.
    pub errored: bool,
}

/// Resolves a group. `outcome` has what each member that was asked came to; one that was not asked counts as not
/// working.
pub fn resolve<'a>(group: &[Element], outcome: &dyn Fn(&ModuleId) -> Option<&'a Outcome>) -> Resolution {
    let mut verdicts = Vec::with_capacity(group.len());
    let mut members = Vec::new();
    for (index, element) in group.iter().enumerate() {
        let verdict = match (element.exclusion, outcome(&element.module)) {
            (Some(Exclusion::ExecEnv), _) => Verdict::OtherExecEnv,
            (Some(Exclusion::Target), _) => Verdict::OtherTarget,
            (None, Some(Outcome::Passed(plan))) => {
                members.push(Member::new(index, element, plan));
                Verdict::Passed
            }
            (None, Some(Outcome::Failed)) => Verdict::Failed,
            (None, Some(Outcome::Errored(reason))) => Verdict::Errored(reason.clone()),
            (None, None) => Verdict::Errored("it was not asked".to_owned()),
        };
        verdicts.push(verdict);
    }
    let is_fatal = |(element, verdict): (&Element, &Verdict)| {
        !element.optional && !matches!(verdict, Verdict::Passed | Verdict::OtherExecEnv)
    };
    if group.iter().zip(&verdicts).any(is_fatal) {
        let is_error = |verdict: &Verdict| matches!(verdict, Verdict::Errored(_) | Verdict::OtherTarget);
        let errored = group.iter().zip(&verdicts).any(|(element, verdict)| {
            matches!(verdict, Verdict::Errored(_)) || (!element.optional && is_error(verdict))
        });
        return Resolution { verdicts, resolved: None, errored };
    }
    let is_buildpack = |member: &Member<'_>| member.element.module.kind == Kind::Buildpack;
    if !members.iter().any(is_buildpack) {
        return Resolution { verdicts, resolved: None, errored: false };
    }
    let mut search = Search::new(&members);
    let found = search.run();
    if search.steps > STEPS {
        for member in &members {
            let reason = "with those of the others its plans can be combined in too many ways".to_owned();
            verdicts[member.index] = Verdict::Errored(reason);
        }
        return Resolution { verdicts, resolved: None, errored: true };
    }
    let resolved = match found {
        Some(trial) => {
            for (index, verdict) in &trial.removed {
                verdicts[*index] = verdict.clone();
            }
            Some(trial.into_resolved(&members))
        }
        None => {
            for (index, verdict) in search.first_failure.into_iter().flatten() {
                verdicts[index] = verdict;
            }
            None
        }
    };
    Resolution { verdicts, resolved, errored: false }
}

/// One of the plans that a member offers.
#[derive(Clone, Copy, Debug)]
struct Choice<'a> {
    provides: &'a [Provide],
    requires: &'a [Require],
    /// An optional member may only be dropped with its last plan: before that, the next one is tried.
    droppable: bool,
}

impl Choice<'_> {
    /// What it adds to the work.
    fn size(&self) -> usize {
        1 + self.provides.len() + self.requires.len()
    }
}

/// A member that passed.
#[derive(Debug)]
struct Member<'a> {
    /// Its place in the group.
    index: usize,
    element: &'a Element,
    choices: Vec<Choice<'a>>,
}

impl<'a> Member<'a> {
    fn new(index: usize, element: &'a Element, plan: &'a BuildPlan) -> Self {
        let mut choices: Vec<_> = plan
            .sections()
            .map(|(provides, requires)| Choice { provides, requires, droppable: false })
            .collect();
        if let Some(last) = choices.last_mut() {
            last.droppable = element.optional;
        }
        Self { index, element, choices }
    }
}

/// Verdicts of members by their place in the group.
type Removed = BTreeMap<usize, Verdict>;

/// Looks for the first combination of plans that works.
struct Search<'s, 'a> {
    members: &'s [Member<'a>],
    /// The last member that has a plan which needs this name.
    last_needed: HashMap<&'a str, usize>,
    /// The plans chosen so far, one for each of the first members.
    choices: Vec<Choice<'a>>,
    /// How many of them provide this name.
    provided: HashMap<&'a str, usize>,
    /// Why the first combination that was given up does not work.
    first_failure: Option<Removed>,
    /// What was done so far.
    steps: usize,
}

impl<'s, 'a> Search<'s, 'a> {
    fn new(members: &'s [Member<'a>]) -> Self {
        let mut last_needed = HashMap::new();
        for (position, member) in members.iter().enumerate() {
            for require in member.choices.iter().flat_map(|choice| choice.requires) {
                last_needed.insert(require.name.as_str(), position);
            }
        }
        Self {
            members,
            last_needed,
            choices: Vec::new(),
            provided: HashMap::new(),
            first_failure: None,
            steps: 0,
        }
    }

    fn run(&mut self) -> Option<Trial<'a>> {
        // Depth is the number of members, each of which was a program that ran: never so many that the stack ends.
        if self.choices.len() == self.members.len() {
            return match Trial::new(&self.choices).settle(self.members, &mut self.steps) {
                Ok(trial) => Some(trial),
                Err(removed) => self.fail(removed),
            };
        }
        let members = self.members;
        for choice in &members[self.choices.len()].choices {
            self.push(*choice);
            let found = match self.hopeless() {
                Some(removed) => self.fail(removed),
                None => self.run(),
            };
            self.pop();
            if found.is_some() || self.steps > STEPS {
                return found;
            }
        }
        None
    }

    fn push(&mut self, choice: Choice<'a>) {
        self.steps += choice.size();
        self.choices.push(choice);
        for provide in choice.provides {
            *self.provided.entry(&provide.name).or_default() += 1;
        }
    }

    fn pop(&mut self) {
        let Some(choice) = self.choices.pop() else { return };
        for provide in choice.provides {
            if let Some(count) = self.provided.get_mut(provide.name.as_str()) {
                *count -= 1;
            }
        }
    }

    fn fail(&mut self, removed: Removed) -> Option<Trial<'a>> {
        self.first_failure.get_or_insert(removed);
        None
    }

    /// Why the plan chosen last can not work whatever is chosen after it: it needs what nobody so far provides, or
    /// provides what nobody after it can need.
    fn hopeless(&self) -> Option<Removed> {
        let last = self.choices.last()?;
        if last.droppable {
            return None;
        }
        let position = self.choices.len() - 1;
        let index = self.members[position].index;
        let provided = |name: &str| self.provided.get(name).is_some_and(|count| *count > 0);
        if let Some(require) = last.requires.iter().find(|require| !provided(&require.name)) {
            return Some(BTreeMap::from([(index, Verdict::Unmet { requires: require.name.clone() })]));
        }
        let own: HashSet<&str> = last.requires.iter().map(|require| require.name.as_str()).collect();
        let needed = |name: &str| {
            own.contains(name) || self.last_needed.get(name).is_some_and(|needs| *needs > position)
        };
        let unused = last.provides.iter().find(|provide| !needed(&provide.name))?;
        Some(BTreeMap::from([(index, Verdict::Unused { provides: unused.name.clone() })]))
    }
}

/// One combination of plans.
struct Trial<'a> {
    choices: Vec<Choice<'a>>,
    /// Who was dropped, by place in the group, and why.
    removed: Removed,
    /// Who was dropped, by place among those who passed.
    dropped: BTreeSet<usize>,
}

/// Who provides a name and who needs it.
#[derive(Default)]
struct Dependency<'a> {
    /// Members that provide it and are followed by one that needs it.
    providers: Vec<usize>,
    requires: Vec<&'a Require>,
    /// Members that provide it for nobody so far.
    waiting: Vec<usize>,
    /// Members that need it before anybody provides it.
    early: Vec<usize>,
}

impl<'a> Trial<'a> {
    fn new(choices: &[Choice<'a>]) -> Self {
        Self { choices: choices.to_vec(), removed: BTreeMap::new(), dropped: BTreeSet::new() }
    }

    /// Drops optional members until what is left fits. Dropping never makes anything fit that did not, so the order
    /// of dropping does not matter. What is done counts in `steps`; too many of them end it, too.
    fn settle(mut self, members: &[Member<'a>], steps: &mut usize) -> Result<Self, Removed> {
        loop {
            *steps += self.choices.iter().map(Choice::size).sum::<usize>();
            if *steps > STEPS {
                return Err(self.removed);
            }
            let mut misfits: BTreeMap<usize, Verdict> = BTreeMap::new();
            for (name, dependency) in self.dependencies() {
                for position in dependency.early {
                    misfits.insert(position, Verdict::Unmet { requires: name.to_owned() });
                }
                for position in dependency.waiting {
                    misfits.entry(position).or_insert_with(|| Verdict::Unused { provides: name.to_owned() });
                }
            }
            if misfits.is_empty() {
                break;
            }
            let fails = misfits.keys().any(|position| !self.choices[*position].droppable);
            for (position, verdict) in misfits {
                self.dropped.insert(position);
                self.removed.insert(members[position].index, verdict);
            }
            if fails {
                return Err(self.removed);
            }
        }
        let stays = |(position, member): (usize, &Member<'_>)| {
            member.element.module.kind == Kind::Buildpack && !self.dropped.contains(&position)
        };
        if members.iter().enumerate().any(stays) { Ok(self) } else { Err(self.removed) }
    }

    /// Who provides what for whom, by name.
    fn dependencies(&self) -> BTreeMap<&'a str, Dependency<'a>> {
        let mut all: BTreeMap<&str, Dependency<'_>> = BTreeMap::new();
        for (position, choice) in self.choices.iter().enumerate() {
            if self.dropped.contains(&position) {
                continue;
            }
            for provide in choice.provides {
                all.entry(&provide.name).or_default().waiting.push(position);
            }
            for require in choice.requires {
                let dependency = all.entry(&require.name).or_default();
                dependency.providers.append(&mut dependency.waiting);
                if dependency.providers.is_empty() {
                    dependency.early.push(position);
                } else {
                    dependency.requires.push(require);
                }
            }
        }
        all
    }

    fn into_resolved(self, members: &[Member<'a>]) -> Resolved {
        let mut group = Group::default();
        for (position, member) in members.iter().enumerate() {
            if !self.dropped.contains(&position) {
                let list = match member.element.module.kind {
                    Kind::Buildpack => &mut group.group,
                    Kind::Extension => &mut group.group_extensions,
                };
                list.push(member.element.to_group_element());
            }
        }
        let mut dependencies = self.dependencies();
        let kept = self.choices.iter().enumerate().filter(|(position, _)| !self.dropped.contains(position));
        let names: Vec<&str> =
            kept.flat_map(|(_, choice)| choice.requires).map(|require| require.name.as_str()).collect();
        let entries = names
            .into_iter()
            .filter_map(|name| dependencies.remove(name))
            .map(|dependency| PlanEntry {
                providers: dependency
                    .providers
                    .iter()
                    .map(|position| provider(members[*position].element))
                    .collect(),
                requires: dependency.requires.into_iter().cloned().collect(),
            })
            .collect();
        Resolved { group, plan: Plan { entries } }
    }
}

/// As `plan.toml` names a member.
fn provider(element: &Element) -> GroupElement {
    GroupElement {
        id: element.module.id.clone(),
        version: element.module.version.clone(),
        extension: element.module.kind == Kind::Extension,
        ..GroupElement::default()
    }
}

#[cfg(test)]
mod tests;
