//! The resolver against its rules, and against the reference's way of trying everything.

use proptest::prelude::*;

use super::*;
use crate::ApiVersion;
use crate::plan::PlanSection;

/// `+a -b` provides a and requires b; alternatives are separated by `|`.
fn plan(text: &str) -> BuildPlan {
    let mut sections = text.split('|').map(|section| {
        let names = |sign: char| section.split_whitespace().filter_map(move |word| word.strip_prefix(sign));
        PlanSection {
            provides: names('+').map(|name| Provide { name: name.into() }).collect(),
            requires: names('-').map(|name| Require { name: name.into(), ..Require::default() }).collect(),
        }
    });
    let PlanSection { provides, requires } = sections.next().unwrap_or_default();
    BuildPlan { provides, requires, or: sections.collect() }
}

/// `a`, `a?` for an optional one, `x:a` for an extension.
fn element(name: &str) -> Element {
    let kind = if name.starts_with("x:") { Kind::Extension } else { Kind::Buildpack };
    let id = name.trim_start_matches("x:").trim_end_matches('?').to_owned();
    Element {
        module: ModuleId { kind, id, version: "1".into() },
        api: ApiVersion::BUILDPACK_LATEST,
        homepage: String::new(),
        optional: name.ends_with('?') || kind == Kind::Extension,
        exclusion: None,
    }
}

fn run(members: &[(&str, Outcome)]) -> Resolution {
    let group: Vec<_> = members.iter().map(|(name, _)| element(name)).collect();
    resolve(&group, &|module| {
        let position = group.iter().position(|element| element.module == *module)?;
        Some(&members[position].1)
    })
}

fn passed(text: &str) -> Outcome {
    Outcome::Passed(plan(text))
}

/// The group and the plan as one line: `a b; name: providers`.
fn line(resolution: &Resolution) -> String {
    let Some(Resolved { group, plan }) = &resolution.resolved else { return "fail".into() };
    let ids = |list: &[GroupElement]| list.iter().map(|it| it.id.clone()).collect::<Vec<_>>().join(" ");
    let mut out = vec![ids(&group.group_extensions) + ids(&group.group).as_str()];
    for entry in &plan.entries {
        out.push(format!("{}×{}: {}", entry.requires[0].name, entry.requires.len(), ids(&entry.providers)));
    }
    out.join("; ")
}

#[test]
fn everyone_gets_what_was_provided_before() {
    let resolution = run(&[("a", passed("+node -node")), ("b", passed("+npm")), ("c", passed("-npm -node"))]);
    assert_eq!(line(&resolution), "a b c; node×2: a; npm×1: b");
    assert_eq!(resolution.verdicts, [Verdict::Passed, Verdict::Passed, Verdict::Passed]);
}

#[test]
fn several_may_provide_and_only_earlier_ones_count() {
    let resolution = run(&[("a", passed("+x")), ("b", passed("+x -x")), ("c", passed("-x"))]);
    assert_eq!(line(&resolution), "a b c; x×2: a b");
    let resolution = run(&[("a", passed("-x")), ("b", passed("+x -x"))]);
    assert_eq!(line(&resolution), "fail");
    assert_eq!(resolution.verdicts[0], Verdict::Unmet { requires: "x".into() });
}

#[test]
fn a_required_member_that_does_not_fit_fails_the_group() {
    let resolution = run(&[("a", passed("+x"))]);
    assert_eq!(resolution.verdicts, [Verdict::Unused { provides: "x".into() }]);
    assert!(resolution.resolved.is_none() && !resolution.errored);
}

#[test]
fn optional_members_that_do_not_fit_are_dropped_with_what_hangs_on_them() {
    let resolution = run(&[("a?", passed("+x")), ("b?", passed("-x -y")), ("c", passed(""))]);
    assert_eq!(line(&resolution), "c");
    assert_eq!(
        resolution.verdicts,
        [Verdict::Unused { provides: "x".into() }, Verdict::Unmet { requires: "y".into() }, Verdict::Passed]
    );
}

#[test]
fn alternatives_are_tried_in_order() {
    let resolution = run(&[("a", passed("+x|+y|")), ("b", passed("-y"))]);
    assert_eq!(line(&resolution), "a b; y×1: a");
    let resolution = run(&[("a", passed("+x|-z|")), ("b", passed(""))]);
    assert_eq!(line(&resolution), "a b");
}

#[test]
fn an_optional_member_is_dropped_only_when_no_alternative_fits() {
    let resolution = run(&[("a?", passed("-nothing|")), ("b", passed(""))]);
    assert_eq!(line(&resolution), "a b");
    let resolution = run(&[("a?", passed("-nothing|-neither")), ("b", passed(""))]);
    assert_eq!(line(&resolution), "b");
}

#[test]
fn extensions_provide_and_do_not_make_a_group() {
    let resolution = run(&[("x:e", passed("+curl")), ("b", passed("-curl"))]);
    assert_eq!(line(&resolution), "eb; curl×1: e");
    assert!(resolution.resolved.unwrap().plan.entries[0].providers[0].extension);
    assert_eq!(line(&run(&[("x:e", passed("+curl")), ("b", passed(""))])), "b");
    assert_eq!(line(&run(&[("x:e", passed("")), ("b?", Outcome::Failed)])), "fail");
}

#[test]
fn the_same_id_may_be_an_extension_and_a_buildpack() {
    assert_eq!(line(&run(&[("x:a", passed("+n")), ("a", passed("-n"))])), "aa; n×1: a");
}

#[test]
fn who_fails_is_told_from_who_does_not_work() {
    let errored = || Outcome::Errored("exit code 1".into());
    let resolution = run(&[("a", Outcome::Failed), ("b", passed(""))]);
    assert_eq!((line(&resolution).as_str(), resolution.errored), ("fail", false));
    let resolution = run(&[("a", errored()), ("b", passed(""))]);
    assert_eq!((line(&resolution).as_str(), resolution.errored), ("fail", true));
    let resolution = run(&[("a?", errored()), ("b", Outcome::Failed)]);
    assert_eq!((line(&resolution).as_str(), resolution.errored), ("fail", true));
    let resolution = run(&[("a?", errored()), ("b", passed(""))]);
    assert_eq!((line(&resolution).as_str(), resolution.errored), ("b", false));
    assert_eq!(resolution.verdicts[0], Verdict::Errored("exit code 1".into()));
}

#[test]
fn members_that_are_not_asked_are_left_out_or_fail_the_group() {
    let with = |name: &str, exclusion: Exclusion| {
        let group = [Element { exclusion: Some(exclusion), ..element(name) }, element("b")];
        let b = passed("");
        let resolution = resolve(&group, &|module| (module.id == "b").then_some(&b));
        (line(&resolution), resolution.errored)
    };
    assert_eq!(with("a", Exclusion::ExecEnv), ("b".into(), false));
    assert_eq!(with("a?", Exclusion::Target), ("b".into(), false));
    assert_eq!(with("a", Exclusion::Target), ("fail".into(), true));
}

#[test]
fn many_alternatives_do_not_take_for_ever() {
    let names: Vec<String> = (0..60).map(|index| format!("b{index}")).collect();
    let members: Vec<_> = names.iter().map(|name| (name.as_str(), passed("+p|-q|+r -s"))).collect();
    assert_eq!(line(&run(&members)), "fail");
}

/// The reference: every combination in turn, without looking ahead.
fn exhaustive(members: &[(&str, Outcome)]) -> Option<Vec<String>> {
    fn from(
        elements: &[(Element, BuildPlan)],
        chosen: &mut Vec<(Element, PlanSection)>,
    ) -> Option<Vec<String>> {
        let Some((element, plan)) = elements.get(chosen.len()) else { return settle(chosen.clone()) };
        let sections: Vec<_> = plan.sections().collect();
        for (index, (provides, requires)) in sections.iter().enumerate() {
            let optional = element.optional && index + 1 == sections.len();
            let section = PlanSection { provides: provides.to_vec(), requires: requires.to_vec() };
            chosen.push((Element { optional, ..element.clone() }, section));
            let found = from(elements, chosen);
            chosen.pop();
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn settle(mut trial: Vec<(Element, PlanSection)>) -> Option<Vec<String>> {
        loop {
            let misfit = trial.iter().enumerate().find(|(index, (_, section))| {
                let provided = |name: &str| {
                    trial[..=*index].iter().any(|(_, it)| it.provides.iter().any(|it| it.name == name))
                };
                let needed = |name: &str| {
                    trial[*index..].iter().any(|(_, it)| it.requires.iter().any(|it| it.name == name))
                };
                section.requires.iter().any(|it| !provided(&it.name))
                    || section.provides.iter().any(|it| !needed(&it.name))
            });
            match misfit.map(|(index, (element, _))| (index, element.optional)) {
                None if trial.is_empty() => return None,
                None => return Some(trial.into_iter().map(|(element, _)| element.module.id).collect()),
                Some((_, false)) => return None,
                Some((index, true)) => drop(trial.remove(index)),
            }
        }
    }

    let elements: Vec<_> = members
        .iter()
        .filter_map(|(name, outcome)| match outcome {
            Outcome::Passed(plan) => Some((element(name), plan.clone())),
            _ => None,
        })
        .collect();
    from(&elements, &mut Vec::new())
}

proptest! {
    #[test]
    fn the_first_combination_that_works_is_found(
        texts in prop::collection::vec(("[ab]", "([+-][xyz] ){0,3}(\\|([+-][xyz] ){0,2}){0,2}", any::<bool>()), 1..6)
    ) {
        let names: Vec<String> = texts
            .iter()
            .enumerate()
            .map(|(index, (name, _, optional))| format!("{name}{index}{}", if *optional { "?" } else { "" }))
            .collect();
        let members: Vec<_> =
            names.iter().zip(&texts).map(|(name, (_, text, _))| (name.as_str(), passed(text))).collect();
        let resolution = run(&members);
        let ids = resolution
            .resolved
            .as_ref()
            .map(|it| it.group.group.iter().map(|it| it.id.clone()).collect::<Vec<_>>());
        prop_assert_eq!(&ids, &exhaustive(&members));

        // Whoever is required is there, whoever is left has passed, and nothing in the plan hangs in the air.
        if let Some(Resolved { group, plan }) = &resolution.resolved {
            for ((name, _), verdict) in members.iter().zip(&resolution.verdicts) {
                let id = name.trim_end_matches('?');
                let present = group.group.iter().any(|it| it.id == id);
                prop_assert_eq!(present, *verdict == Verdict::Passed);
                prop_assert!(present || name.ends_with('?'));
            }
            for entry in &plan.entries {
                prop_assert!(!entry.providers.is_empty() && !entry.requires.is_empty());
                prop_assert!(entry.requires.iter().all(|it| it.name == entry.requires[0].name));
                prop_assert!(entry.providers.iter().all(|it| group.group.iter().any(|in_group| in_group.id == it.id)));
            }
        } else {
            prop_assert!(resolution.verdicts.iter().any(|verdict| *verdict != Verdict::Passed));
        }
    }
}

/// Plans of thousands of names take as long as their size, not as its square.
#[test]
fn huge_plans_are_no_trouble() {
    let names =
        |count: usize, sign: char| (0..count).map(|name| format!("{sign}n{name} ")).collect::<String>();
    let (provides, requires) = (names(50_000, '+'), names(50_000, '-'));
    let all = run(&[("a", passed(&provides)), ("b", passed(&requires))]);
    let resolved = all.resolved.unwrap();
    assert_eq!(resolved.plan.entries.len(), 50_000);
    let mut plan = resolved.plan;
    let asked = plan.of(Kind::Buildpack, "a");
    let unmet: Vec<_> =
        asked.entries[..25_000].iter().map(|it| crate::plan::Unmet { name: it.name.clone() }).collect();
    plan.remove_met(&asked, &unmet);
    assert_eq!(plan.entries.len(), 25_000);
    let alone = run(&[("a", passed(&format!("{provides}{}", names(49_999, '-'))))]);
    assert_eq!(alone.verdicts, [Verdict::Unused { provides: "n49999".into() }]);
}

#[test]
fn combinations_that_nobody_could_wait_for_end_in_an_error() {
    // The last one needs something that no combination of the others has.
    let names: Vec<_> = (0..40).map(|member| format!("m{member}")).collect();
    let mut members: Vec<_> = names.iter().map(|name| (name.as_str(), passed("|+x|+y"))).collect();
    members.push(("last", passed("-x -y -z")));
    let resolution = run(&members);
    assert!(resolution.errored && resolution.resolved.is_none());
    assert!(
        matches!(&resolution.verdicts[0], Verdict::Errored(why) if why.contains("in too many ways")),
        "{:?}",
        resolution.verdicts[0]
    );
}
