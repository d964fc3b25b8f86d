//! `pannier doctor`: what this machine can do, and whether the store is as it should be.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use events::Events as _;
use lifecycle::cache::Cache;
use oci::store::{Part, Problem, Report};
use sandbox::{Check, Probe};

use crate::context::Context;
use crate::error::CommandError;
use crate::ui::{Style, bytes, escaped};

/// Say what this machine can do, and what to change
///
/// Tries what sandboxes need: namespaces, ids, overlays, and a whole sandbox. With --store it also reads every blob of
/// the store and follows every image. Ends with 1 when something is broken.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pannier doctor                     can this machine build and run?
  pannier doctor --store             is every byte of the store as it should be?
  pannier doctor --store --repair    remove what is not")]
pub struct DoctorArgs {
    /// Check the store too: every blob's digest, everything that images refer to, and that unpacked layers are what they
    /// were when they were unpacked
    #[arg(long)]
    pub store: bool,
    /// Remove blobs whose content is not what their name says, and broken unpacked layers and steps of Dockerfiles: they
    /// come again when they are needed
    #[arg(long, requires = "store")]
    pub repair: bool,
}

/// Looks at everything, says what it found.
pub fn run(context: &Context<'_>, args: &DoctorArgs) -> Result<ExitCode, CommandError> {
    let style = context.ui.style();
    let probe = sandbox::probe(existing(&context.store_dir))?;
    let mut lines: Vec<String> = probe.checks.iter().map(|check| describe(style, check)).collect();
    let mut good = probe.sandboxes_run();
    let (home, writable) = home(style, &context.store_dir);
    lines.push(home);
    good &= writable;
    if args.store {
        let (store_lines, store_good) = check_store(context, args.repair)?;
        lines.extend(store_lines);
        good &= store_good;
    }
    lines.push(String::new());
    lines.push(conclusion(&probe, good).to_owned());
    context.ui.finish();
    context.ui.results(lines.join("\n").split('\n'));
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The store's folder, or the nearest there is: the same file system, as a rule.
fn existing(dir: &Path) -> &Path {
    dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"))
}

/// The line about the place of the store, and whether this user can write there.
fn home(style: Style, store: &Path) -> (String, bool) {
    use rustix::fs::{Access, access};
    let place = existing(store);
    match access(place, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => {
            let state = if place == store { "" } else { ", made by the first build" };
            (line(style, Mark::Good, "home", &format!("{}{state}", store.display())), true)
        }
        Err(errno) => {
            let why = format!("{} cannot be written: {}", place.display(), std::io::Error::from(errno));
            let fix = "choose another place with --home or PANNIER_HOME, or have this one made yours";
            (line(style, Mark::Bad, "home", &why) + &hint(style, fix), false)
        }
    }
}

fn conclusion(probe: &Probe, good: bool) -> &'static str {
    match (probe.sandboxes_run(), good) {
        (true, true) if !has_overlays(probe) => {
            "pannier builds and runs images here, with copies in place of overlays, which takes longer."
        }
        (true, true) => "pannier builds and runs images here.",
        (true, false) => "sandboxes run here, but something is wrong with the store.",
        (false, _) => "pannier can neither build nor run images here.",
    }
}

/// Whether file systems are put together without a copy.
fn has_overlays(probe: &Probe) -> bool {
    probe.checks.iter().any(|check| check.name == "overlay" && check.result.is_ok())
}

fn describe(style: Style, check: &Check) -> String {
    match &check.result {
        Ok(found) => line(style, Mark::Good, &check.name, found),
        Err(problem) => {
            let mark = if check.required { Mark::Bad } else { Mark::Remark };
            let fix = problem.fix.as_deref().map(|fix| hint(style, fix)).unwrap_or_default();
            line(style, mark, &check.name, &problem.why) + &fix
        }
    }
}

/// The lines about the store, and whether all is well with it.
fn check_store(context: &Context<'_>, repair: bool) -> Result<(Vec<String>, bool), CommandError> {
    let style = context.ui.style();
    let place = context.store_dir.display();
    if !context.store_dir.join("oci-layout").exists() {
        return Ok((vec![line(style, Mark::Good, "store", &format!("none at {place} yet"))], true));
    }
    context.ui.info(&format!("Reading the store at {place}"));
    // Unpacked layers belong to ids of the namespace. Where there can be none, there are no such layers either.
    let _entered = context.enter();
    let store = context.store()?;
    let report = store.verify()?;
    let mut lines = vec![summary(style, &report, &place.to_string())];
    let mut good = true;
    for problem in &report.problems {
        let removed = repair && store.repair(problem)?;
        good &= removed;
        lines.push(explain(style, problem, removed));
    }
    let (cache_lines, caches_good) = check_caches(style, &store, repair)?;
    lines.extend(cache_lines);
    Ok((lines, good && caches_good))
}

/// The lines about layers that are kept between builds, and whether all is well with them. Those that a build is using
/// right now are left out.
fn check_caches(style: Style, store: &oci::Store, repair: bool) -> Result<(Vec<String>, bool), CommandError> {
    let (mut lines, mut good) = (Vec::new(), true);
    let mut caches: Vec<_> = store.caches()?;
    caches.sort();
    for dir in caches {
        let damage = match Cache::damage(&dir) {
            // Another user's, who alone uses it.
            Err(error) if error.is_denied() => continue,
            damage => damage?.unwrap_or_default(),
        };
        if damage.is_empty() {
            continue;
        }
        if repair {
            Cache::repair(&dir)?;
        }
        good &= repair;
        let advice = match repair {
            true => "removed: buildpacks make it again",
            false => "`pannier doctor --store --repair` removes it",
        };
        let place = dir.display();
        lines.extend(
            damage
                .iter()
                .map(|what| line(style, Mark::Bad, "", &format!("{what}: {place}")) + &hint(style, advice)),
        );
    }
    Ok((lines, good))
}

fn summary(style: Style, report: &Report, place: &str) -> String {
    let mark = if report.problems.is_empty() { Mark::Good } else { Mark::Bad };
    let Report { images, blobs, rootfs, steps, .. } = report;
    let mut found = format!("{place}: {images} images, {blobs} blobs, {} read", bytes(report.bytes));
    for (count, what) in [(rootfs, "unpacked layers"), (steps, "steps of Dockerfiles")] {
        if *count > 0 {
            found += &format!(", {count} {what}");
        }
    }
    line(style, mark, "store", &found)
}

fn explain(style: Style, problem: &Problem, removed: bool) -> String {
    let mut text = CommandError::new(problem.error.to_string()).message();
    if !problem.images.is_empty() {
        text += &format!(" (needed by {})", problem.images.join(", "));
    }
    let advice = match (removed, &problem.part) {
        (true, Some(Part::Step(_))) => "removed: it is made again when it is needed",
        (true, Some(Part::Rootfs(_))) => "removed: it is unpacked again when it is needed",
        (true, _) => "removed: it is fetched again when it is needed",
        (false, _) if problem.can_be_removed() => "`pannier doctor --store --repair` removes it",
        (false, _) => "build or fetch the image again",
    };
    line(style, Mark::Bad, "", &text) + &hint(style, advice)
}

#[derive(Clone, Copy, Debug)]
enum Mark {
    Good,
    Remark,
    Bad,
}

fn line(style: Style, mark: Mark, name: &str, text: &str) -> String {
    let mark = match mark {
        Mark::Good => style.good("ok  "),
        Mark::Remark => style.paint(crate::ui::WARNING, "note"),
        Mark::Bad => style.paint(crate::ui::ERROR, "bad "),
    };
    format!("{mark}  {name:<11} {}", escaped(text))
}

fn hint(style: Style, text: &str) -> String {
    format!("\n{:>18}{} {}", "", style.paint(crate::ui::HINT, "hint:"), escaped(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(required: bool, result: Result<String, sandbox::Problem>) -> Check {
        Check { name: "user ids".to_owned(), required, result }
    }

    #[test]
    fn findings_are_lines() {
        let plain = Style::default();
        insta::assert_snapshot!(describe(plain, &check(true, Ok("all of them".to_owned()))), @"ok    user ids    all of them");
        let problem = sandbox::Problem { why: "only one".to_owned(), fix: Some("add some".to_owned()) };
        assert_eq!(
            describe(plain, &check(false, Err(problem.clone()))),
            "note  user ids    only one\n                  hint: add some"
        );
        assert!(describe(plain, &check(true, Err(problem))).starts_with("bad "));
    }

    #[test]
    fn the_nearest_folder_is_tried() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(existing(&dir.path().join("not/there")), dir.path());
        assert_eq!(existing(dir.path()), dir.path());
    }
}
