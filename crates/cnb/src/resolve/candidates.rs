//! Groups of components, one after the other, from an order (buildpack.md, "Order Resolution").
//!
//! Each composite stands for one of its groups, an optional one also for nothing, and extensions come before
//! everything. There can be very many groups, so they are made one at a time, and those that share a required element
//! which is known to have failed are not made at all.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use thiserror::Error;

use super::chain::Chain;
use crate::ApiVersion;
use crate::descriptor::ModuleDescriptor;
use crate::group::{GroupElement, Kind, ModuleId, Order, OrderEntry, OrderGroup};
use crate::launch::matches_exec_env;
use crate::target::{Target, TargetMetadata};

/// How deep composites may be within composites: nobody writes more, and each level takes stack.
const DEPTH: usize = 100;

/// Entries that may be put into groups, in all groups of an order together. Each optional composite doubles the number of
/// groups: a short order can stand for more of them than anybody can wait for.
const STEPS: usize = 1 << 20;

/// A module and what it runs on.
#[derive(Clone, Debug)]
struct Module {
    descriptor: ModuleDescriptor,
    targets: Vec<Target>,
}

/// All modules that an order can lead to.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    modules: BTreeMap<ModuleId, Module>,
}

/// An order that can not be resolved, whatever is detected.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
pub enum OrderError {
    /// An order, or a composite, names a module that is not there.
    #[error("{} {module} is not there, but {by} names it", .module.kind)]
    Missing {
        /// What is named.
        module: ModuleId,
        /// What names it.
        by: String,
    },
    /// A composite buildpack leads back to itself.
    #[error("composite buildpack {} leads back to itself: {}", .path[0], join(.path))]
    Cycle {
        /// From the composite to itself.
        path: Vec<ModuleId>,
    },
    /// Composites within composites within composites.
    #[error("composite buildpack {module} is within {DEPTH} others, expected fewer")]
    Depth {
        /// The one that is too deep.
        module: ModuleId,
    },
    /// There are more groups than can be tried.
    #[error("the order stands for too many groups of buildpacks: {groups} were tried, and none passed")]
    TooMany {
        /// How many there were so far.
        groups: usize,
    },
}

fn join(path: &[ModuleId]) -> String {
    path.iter().map(ToString::to_string).collect::<Vec<_>>().join(" → ")
}

impl Catalog {
    /// Adds a module under the name that it was looked up by. `has_program` tells whether a file of this name is in
    /// its `bin`.
    pub fn insert(
        &mut self,
        module: ModuleId,
        descriptor: ModuleDescriptor,
        has_program: impl Fn(&str) -> bool,
    ) {
        let targets = descriptor.targets(has_program);
        self.modules.insert(module, Module { descriptor, targets });
    }

    /// The descriptor of a module.
    pub fn descriptor(&self, module: &ModuleId) -> Option<&ModuleDescriptor> {
        self.modules.get(module).map(|module| &module.descriptor)
    }

    /// The modules that this order or the composites in it name and that were not added yet. Adding them and asking
    /// again until there is none fills the catalog.
    pub fn missing(&self, order: &Order) -> BTreeSet<ModuleId> {
        let mut missing = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut todo: Vec<ModuleId> = named(&order.order, Kind::Buildpack)
            .chain(named(&order.order_extensions, Kind::Extension))
            .collect();
        while let Some(module) = todo.pop() {
            match self.modules.get(&module) {
                None => {
                    missing.insert(module);
                }
                Some(known) if seen.insert(module) => {
                    todo.extend(named(&known.descriptor.order, Kind::Buildpack));
                }
                Some(_) => {}
            }
        }
        missing
    }

    /// Checks that everything this order leads to is there, and that no composite leads back to itself.
    ///
    /// # Errors
    /// The first thing that is missing, or the first cycle.
    pub fn check(&self, order: &Order) -> Result<(), OrderError> {
        let mut done = BTreeSet::new();
        let roots =
            named(&order.order, Kind::Buildpack).chain(named(&order.order_extensions, Kind::Extension));
        for module in roots {
            self.check_below(module, &mut Vec::new(), &mut done)?;
        }
        Ok(())
    }

    fn check_below(
        &self,
        module: ModuleId,
        path: &mut Vec<ModuleId>,
        done: &mut BTreeSet<ModuleId>,
    ) -> Result<(), OrderError> {
        if let Some(start) = path.iter().position(|above| *above == module) {
            let mut path = path.split_off(start);
            path.push(module);
            return Err(OrderError::Cycle { path });
        }
        if done.contains(&module) {
            return Ok(());
        }
        if path.len() > DEPTH {
            return Err(OrderError::Depth { module });
        }
        let Some(known) = self.modules.get(&module) else {
            let by = path.last().map_or_else(|| "the order".to_owned(), ToString::to_string);
            return Err(OrderError::Missing { module, by });
        };
        path.push(module.clone());
        for below in named(&known.descriptor.order, Kind::Buildpack) {
            self.check_below(below, path, done)?;
        }
        path.pop();
        done.insert(module);
        Ok(())
    }
}

fn named(groups: &[OrderGroup], kind: Kind) -> impl Iterator<Item = ModuleId> {
    groups.iter().flat_map(|group| &group.group).map(move |entry| entry.module(kind))
}

/// What a build is for.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The Platform API: targets count from 0.12 on, execution environments from 0.15 on.
    pub platform: ApiVersion,
    /// What the run image is. Nothing known matches everything but a list of distributions.
    pub target: TargetMetadata,
    /// The execution environment; empty for any.
    pub exec_env: String,
}

impl Context {
    fn exec_env_matches(&self, matches: impl Fn(&str) -> bool) -> bool {
        !self.platform.at_least(15) || self.exec_env.is_empty() || matches(&self.exec_env)
    }
}

/// Why a member of a group is not even asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exclusion {
    /// It is for other execution environments: the group goes on as if it was not there.
    ExecEnv,
    /// It runs on other base images: the group fails, unless the member is optional.
    Target,
}

/// A member of a group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Element {
    /// Which module.
    pub module: ModuleId,
    /// The Buildpack API that it was written for.
    pub api: ApiVersion,
    /// Where to read about it.
    pub homepage: String,
    /// True when the group can do without it.
    pub optional: bool,
    /// Why it is not asked, if it is not.
    pub exclusion: Option<Exclusion>,
}

impl Element {
    /// As `group.toml` has it.
    pub fn to_group_element(&self) -> GroupElement {
        GroupElement {
            id: self.module.id.clone(),
            version: self.module.version.clone(),
            api: Some(self.api),
            homepage: self.homepage.clone(),
            ..GroupElement::default()
        }
    }
}

/// A group of components, in the order in which they build.
pub type Candidate = Vec<Element>;

/// What is still to be put into a group.
#[derive(Clone, Copy, Debug)]
enum Item<'a> {
    Entry(&'a OrderEntry, Kind),
    /// The groups of extensions, one of which or none is taken.
    Extensions,
}

/// A group that is being made: what is in it, the last first, and what is still to come.
#[derive(Clone, Debug)]
struct State<'a> {
    done: Chain<Rc<Element>>,
    rest: Chain<Item<'a>>,
    /// How many groups had been given when it was looked at for members that have failed; of those that came later
    /// only the last is to be looked at.
    looked_at: usize,
}

/// The groups of an order, one after the other.
#[derive(Debug)]
pub struct Candidates<'a> {
    catalog: &'a Catalog,
    context: &'a Context,
    extensions: &'a [OrderGroup],
    stack: Vec<State<'a>>,
    /// How many groups were given.
    groups: usize,
    /// Entries that were put into groups.
    steps: usize,
}

impl<'a> Candidates<'a> {
    /// Of this order. System buildpacks are part of it already, see [`Order::with_system`].
    ///
    /// # Errors
    /// An order that [`Catalog::check`] refuses.
    pub fn new(order: &'a Order, catalog: &'a Catalog, context: &'a Context) -> Result<Self, OrderError> {
        catalog.check(order)?;
        let has_extensions = !order.order_extensions.is_empty();
        let state = |group: &'a OrderGroup| {
            let mut rest = Chain::default();
            // Extensions come first, so what is pushed last is theirs.
            push_items(&mut rest, group, Kind::Buildpack);
            if has_extensions {
                rest.push(Item::Extensions);
            }
            State { done: Chain::default(), rest, looked_at: 0 }
        };
        let stack = order.order.iter().rev().map(state).collect();
        Ok(Self { catalog, context, extensions: &order.order_extensions, stack, groups: 0, steps: 0 })
    }

    /// The next group that may pass. Groups with a required member that `has_failed` are left out; who has failed once
    /// has failed for good.
    ///
    /// # Errors
    /// [`OrderError::TooMany`], when there are more groups than anybody can wait for.
    pub fn next_group(
        &mut self,
        has_failed: &dyn Fn(&ModuleId) -> bool,
    ) -> Result<Option<Candidate>, OrderError> {
        while let Some(mut state) = self.stack.pop() {
            let is_dead = |element: &Rc<Element>| {
                !element.optional && element.exclusion.is_none() && has_failed(&element.module)
            };
            let unseen = if state.looked_at == self.groups { 1 } else { state.done.len() };
            if state.done.iter().take(unseen).any(is_dead) {
                continue;
            }
            state.looked_at = self.groups;
            match state.rest.pop() {
                None => {
                    self.step(state.done.len())?;
                    self.groups += 1;
                    let mut group: Candidate = state.done.iter().map(|it| Element::clone(it)).collect();
                    group.reverse();
                    return Ok(Some(group));
                }
                Some(Item::Extensions) => self.branch(state, self.extensions, Kind::Extension, true)?,
                Some(Item::Entry(entry, kind)) => self.add(state, entry, kind)?,
            }
        }
        Ok(None)
    }

    fn step(&mut self, entries: usize) -> Result<(), OrderError> {
        self.steps += entries;
        if self.steps > STEPS { Err(OrderError::TooMany { groups: self.groups }) } else { Ok(()) }
    }

    /// Puts an entry into a group, or what it stands for.
    fn add(&mut self, mut state: State<'a>, entry: &OrderEntry, kind: Kind) -> Result<(), OrderError> {
        let module = entry.module(kind);
        let catalog = self.catalog;
        // The catalog was checked, so it has all that an order leads to.
        let Some(known) = catalog.modules.get(&module) else { return Ok(()) };
        let is_there = |element: &Rc<Element>| {
            element.module.kind == kind
                && element.module.id == module.id
                && element.exclusion != Some(Exclusion::ExecEnv)
        };
        let named = self.context.exec_env_matches(|current| matches_exec_env(&entry.exec_env, current));
        if state.done.iter().any(is_there) || (!named && known.descriptor.is_composite()) {
            self.stack.push(state);
        } else if known.descriptor.is_composite() {
            self.branch(state, &known.descriptor.order, Kind::Buildpack, entry.optional)?;
        } else {
            let exclusion = if named { self.exclusion(known) } else { Some(Exclusion::ExecEnv) };
            state.done.push(Rc::new(Element {
                api: known.descriptor.api,
                homepage: known.descriptor.info.homepage.clone(),
                optional: entry.optional || kind == Kind::Extension,
                exclusion,
                module,
            }));
            self.stack.push(state);
        }
        Ok(())
    }

    /// Goes on with each of these groups, and without any if that is allowed.
    fn branch(
        &mut self,
        state: State<'a>,
        groups: &'a [OrderGroup],
        kind: Kind,
        optional: bool,
    ) -> Result<(), OrderError> {
        if optional {
            self.stack.push(state.clone());
        }
        for group in groups.iter().rev() {
            self.step(1 + group.group.len())?;
            let mut state = state.clone();
            push_items(&mut state.rest, group, kind);
            self.stack.push(state);
        }
        Ok(())
    }

    fn exclusion(&self, known: &Module) -> Option<Exclusion> {
        let Module { descriptor, targets } = known;
        let runs_on = |target: &TargetMetadata| targets.iter().any(|it| it.matches(target));
        if self.context.platform.at_least(12) && !targets.is_empty() && !runs_on(&self.context.target) {
            Some(Exclusion::Target)
        } else if !self.context.exec_env_matches(|current| descriptor.matches_exec_env(current)) {
            Some(Exclusion::ExecEnv)
        } else {
            None
        }
    }
}

/// Puts the entries of a group before what is still to come.
fn push_items<'a>(rest: &mut Chain<Item<'a>>, group: &'a OrderGroup, kind: Kind) {
    group.group.iter().rev().for_each(|entry| rest.push(Item::Entry(entry, kind)));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a b?` is a group of two, the second optional; groups are separated by `|`.
    fn groups(text: &str) -> Vec<OrderGroup> {
        let entry = |word: &str| OrderEntry {
            id: word.trim_end_matches('?').to_owned(),
            version: "1".into(),
            optional: word.ends_with('?'),
            ..OrderEntry::default()
        };
        text.split('|')
            .filter(|group| !group.trim().is_empty())
            .map(|group| OrderGroup { group: group.split_whitespace().map(entry).collect() })
            .collect()
    }

    fn order(buildpacks: &str, extensions: &str) -> Order {
        Order { order: groups(buildpacks), order_extensions: groups(extensions) }
    }

    fn descriptor(kind: Kind, id: &str, tail: &str) -> ModuleDescriptor {
        let text = format!("api = \"0.12\"\n[{kind}]\nid = \"{id}\"\nversion = \"1\"\n{tail}");
        ModuleDescriptor::parse(kind, "x.toml", &text).unwrap()
    }

    /// Everything of one letter is a component, `E1`… an extension, and composites are given with their groups.
    fn catalog(components: &str, composites: &[(&str, &str)]) -> Catalog {
        let mut catalog = Catalog::default();
        for id in components.split_whitespace() {
            let kind = if id.starts_with('E') { Kind::Extension } else { Kind::Buildpack };
            let module = ModuleId { kind, id: id.into(), version: "1".into() };
            catalog.insert(module, descriptor(kind, id, ""), |_| true);
        }
        for (id, text) in composites {
            let mut composite = descriptor(Kind::Buildpack, id, "");
            composite.order = groups(text);
            catalog.insert(ModuleId::buildpack(*id, "1"), composite, |_| false);
        }
        catalog
    }

    fn all(order: &Order, catalog: &Catalog, failed: &[&str]) -> Vec<String> {
        let context = Context {
            platform: ApiVersion::PLATFORM_LATEST,
            target: TargetMetadata { os: "linux".into(), arch: "amd64".into(), ..TargetMetadata::default() },
            exec_env: "production".into(),
        };
        let mut candidates = Candidates::new(order, catalog, &context).unwrap();
        let has_failed = |module: &ModuleId| failed.contains(&module.id.as_str());
        std::iter::from_fn(|| candidates.next_group(&has_failed).unwrap())
            .map(|group| {
                let names: Vec<_> = group
                    .iter()
                    .map(|element| {
                        let mark = match (element.exclusion, element.optional) {
                            (Some(Exclusion::ExecEnv), _) => "-env",
                            (Some(Exclusion::Target), _) => "-target",
                            (None, true) => "?",
                            (None, false) => "",
                        };
                        format!("{}{mark}", element.module.id)
                    })
                    .collect();
                names.join(" ")
            })
            .collect()
    }

    #[test]
    fn composites_are_expanded_depth_first_from_the_left() {
        let catalog = catalog("A B C D E F G H", &[("o", "A B | C D"), ("p", "F | G H?")]);
        assert_eq!(all(&order("H o F", ""), &catalog, &[]), ["H A B F", "H C D F"]);
        assert_eq!(all(&order("o p", ""), &catalog, &[]), ["A B F", "A B G H?", "C D F", "C D G H?"]);
    }

    #[test]
    fn an_optional_composite_stands_for_nothing_at_last() {
        let catalog = catalog("A B C", &[("o", "A | B")]);
        assert_eq!(all(&order("o? C | C", ""), &catalog, &[]), ["A C", "B C", "C", "C"]);
    }

    #[test]
    fn extensions_come_first_and_are_never_required() {
        let catalog = catalog("A E1 E2 E3", &[]);
        assert_eq!(all(&order("A", "E1 E2 | E3"), &catalog, &[]), ["E1? E2? A", "E3? A", "A"]);
    }

    #[test]
    fn what_is_there_is_not_added_again() {
        let catalog = catalog("A B", &[("o", "A B")]);
        assert_eq!(all(&order("A o", ""), &catalog, &[]), ["A B"]);
    }

    #[test]
    fn groups_that_can_not_pass_any_more_are_left_out() {
        let catalog = catalog("A B C", &[("o", "A | B"), ("p", "C | C")]);
        assert_eq!(all(&order("o p", ""), &catalog, &["A"]), ["B C", "B C"]);
        assert_eq!(all(&order("A? p", ""), &catalog, &["A"]), ["A? C", "A? C"]);
    }

    #[test]
    fn failing_early_keeps_a_huge_order_small() {
        let composites: Vec<_> = (0..40).map(|index| (format!("o{index}"), "A | B")).collect();
        let composites: Vec<_> = composites.iter().map(|(id, text)| (id.as_str(), *text)).collect();
        let catalog = catalog("A B Z", &composites);
        let names: Vec<_> = composites.iter().map(|(id, _)| *id).collect();
        let order = order(&format!("Z {}", names.join(" ")), "");
        assert_eq!(all(&order, &catalog, &["Z"]), Vec::<String>::new());
    }

    /// How many groups there are before it is too much, when none passes.
    fn tried(order: &Order, catalog: &Catalog) -> (usize, Option<OrderError>) {
        let context = Context::default();
        let mut candidates = Candidates::new(order, catalog, &context).unwrap();
        for count in 0.. {
            match candidates.next_group(&|_| false) {
                Ok(Some(_)) => {}
                Ok(None) => return (count, None),
                Err(error) => return (count, Some(error)),
            }
        }
        unreachable!("there is an end")
    }

    #[test]
    fn an_order_that_stands_for_too_many_groups_ends_in_an_error() {
        let composites: Vec<_> = (0..60).map(|index| (format!("o{index}"), format!("A{index}"))).collect();
        let components: Vec<_> = composites.iter().map(|(_, component)| component.as_str()).collect();
        let named: Vec<_> = composites.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
        let catalog = catalog(&components.join(" "), &named);
        let all: Vec<_> = named.iter().map(|(id, _)| format!("{id}?")).collect();
        let (count, error) = tried(&order(&all.join(" "), ""), &catalog);
        assert_eq!(error, Some(OrderError::TooMany { groups: count }));
        assert!(count > 10_000, "{count}");
    }

    #[test]
    fn thousands_of_groups_and_of_entries_are_no_trouble() {
        let ids: Vec<_> = (0..5000).map(|index| format!("A{index}")).collect();
        let catalog = catalog(&format!("Z {}", ids.join(" ")), &[("o", "Z")]);
        assert_eq!(tried(&order(&ids.join(" | "), ""), &catalog), (5000, None));
        assert_eq!(tried(&order(&ids.join(" "), ""), &catalog), (1, None));
        let optional = vec!["o?"; 5000].join(" ");
        assert!(matches!(
            tried(&order(&format!("Z {optional}"), ""), &catalog).1,
            Some(OrderError::TooMany { .. })
        ));
    }

    #[test]
    fn composites_are_not_within_hundreds_of_others() {
        let composites: Vec<_> =
            (0..200).map(|index| (format!("o{index}"), format!("o{}", index + 1))).collect();
        let named: Vec<_> = composites.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
        let catalog = catalog("o200", &named);
        let error = catalog.check(&order("o0", "")).unwrap_err();
        assert_eq!(error.to_string(), "composite buildpack o101@1 is within 100 others, expected fewer");
        assert_eq!(all(&order("o150", ""), &catalog, &[]), ["o200"]);
    }

    #[test]
    fn a_cycle_is_an_error_that_shows_it() {
        let catalog = catalog("A", &[("o", "A | p"), ("p", "q"), ("q", "A p?")]);
        let error = catalog.check(&order("A o", "")).unwrap_err();
        assert_eq!(error.to_string(), "composite buildpack p@1 leads back to itself: p@1 → q@1 → p@1");
    }

    #[test]
    fn what_is_missing_is_named() {
        let catalog = catalog("A", &[("o", "A X")]);
        let error = catalog.check(&order("o", "")).unwrap_err();
        assert_eq!(error.to_string(), "buildpack X@1 is not there, but o@1 names it");
        let missing: Vec<_> = catalog.missing(&order("o Y", "E1")).into_iter().collect();
        assert_eq!(
            missing,
            [ModuleId::buildpack("X", "1"), ModuleId::buildpack("Y", "1"), ModuleId::extension("E1", "1")]
        );
    }

    #[test]
    fn targets_and_execution_environments_exclude() {
        let mut catalog = catalog("A", &[]);
        for (id, tail) in [
            ("W", "[[targets]]\nos = \"windows\"\n"),
            ("M", "[[targets]]\nos = \"windows\"\n[[targets]]\nos = \"linux\"\n"),
            ("T", "exec-env = [\"test\"]\n"),
        ] {
            let descriptor = descriptor(Kind::Buildpack, id, tail);
            catalog.insert(ModuleId::buildpack(id, "1"), descriptor, |_| true);
        }
        assert_eq!(all(&order("A W? M T", ""), &catalog, &[]), ["A W-target M T-env"]);
    }
}
