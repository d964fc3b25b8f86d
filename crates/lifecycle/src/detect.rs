//! The detect phase: runs `bin/detect` of one group after the other until one passes (platform.md, "detector";
//! buildpack.md, "Phase #1: Detection").
//!
//! All members of a group are asked at once, and nobody is asked twice, however many groups it is in. Which groups
//! there are and which of them fits are rules of `cnb::resolve`; running programs and reading files is done here.
//! Descriptors and plans are somebody else's: they are read beneath a directory handle, and with a bound.

mod ask;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use cnb::descriptor::ModuleDescriptor;
use cnb::env::EnvDir;
use cnb::group::{Group, Kind, ModuleId, Order, System};
use cnb::plan::Plan;
use cnb::resolve::{Candidates, Catalog, Context, OrderError, Outcome, Resolved, resolve};
use cnb::target::TargetMetadata;
use cnb::{ApiVersion, ParseError};
use events::Events;
use layer::{PathError, Root};

use crate::executor::{Executor, Place};
use crate::files::DESCRIPTOR_LIMIT;
pub use report::{GroupReport, Member, Report, Run};

/// Where modules of one kind are: `<escaped id>/<version>` in it is one.
#[derive(Debug)]
pub struct ModuleDir<'a> {
    /// As this process reads it.
    pub root: &'a Root,
    /// As programs see it.
    pub guest: PathBuf,
}

impl ModuleDir<'_> {
    /// The path of a module in this folder.
    fn path(module: &ModuleId) -> PathBuf {
        Path::new(&cnb::launch::escape_id(&module.id)).join(&module.version)
    }
}

/// What the detect phase works on.
#[derive(Debug)]
pub struct DetectInputs<'a> {
    /// The groups to try.
    pub order: &'a Order,
    /// What comes before and after each of them; only from Platform API 0.15 on.
    pub system: Option<&'a System>,
    /// The Platform API in use.
    pub platform_api: ApiVersion,
    /// `/cnb/buildpacks`.
    pub buildpacks: ModuleDir<'a>,
    /// `/cnb/extensions`, where there are any.
    pub extensions: Option<ModuleDir<'a>>,
    /// `<app>`, by the guest's path.
    pub app: PathBuf,
    /// `<platform>`, by the guest's path.
    pub platform: PathBuf,
    /// A folder for plan files.
    pub plans: &'a Place,
    /// The environment of the build image, not filtered yet.
    pub base_env: BTreeMap<OsString, OsString>,
    /// The user's variables: `<platform>/env`.
    pub platform_env: &'a EnvDir,
    /// The operator's variables: `<build-config>/env`.
    pub build_config_env: Option<&'a EnvDir>,
    /// What the image will run on.
    pub target: &'a TargetMetadata,
    /// CNB_EXEC_ENV.
    pub exec_env: &'a str,
    /// User and group that plan files belong to; none leaves them this process's.
    pub owner: Option<(u32, u32)>,
    /// How many programs may run at once; 0 counts as 1.
    pub parallel: usize,
}

impl DetectInputs<'_> {
    /// Where modules of this kind are.
    fn modules(&self, kind: Kind) -> Option<&ModuleDir<'_>> {
        match kind {
            Kind::Buildpack => Some(&self.buildpacks),
            Kind::Extension => self.extensions.as_ref(),
        }
    }
}

/// A group that passed.
#[derive(Clone, Debug)]
pub struct Detected {
    /// Who takes part: `group.toml`.
    pub group: Group,
    /// Who provides what for whom: `plan.toml`.
    pub plan: Plan,
    /// All groups that were tried, the one that passed last.
    pub report: Report,
}

/// No group was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DetectError {
    /// No group passed.
    #[error("no group of buildpacks detected the app")]
    NoGroup {
        /// True when in some group a buildpack did not work, or runs on other base images: then it may not be the
        /// app's fault.
        errored: bool,
        /// Who said what.
        report: Box<Report>,
    },
    /// The order can not be resolved, whatever is detected.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// A descriptor is not as it should be.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A descriptor or a plan can not be read.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A plan file can not be made.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Finds the first group that passes.
///
/// # Errors
/// When there is none; when the order or a descriptor in it is not valid; when a file of ours can not be written.
/// A program that does not work is none: the groups after it are tried.
pub fn detect(
    inputs: &DetectInputs<'_>,
    executor: &dyn Executor,
    events: &dyn Events,
) -> Result<Detected, DetectError> {
    let order = match inputs.system {
        Some(system) if inputs.platform_api.at_least(15) => inputs.order.clone().with_system(system),
        _ => inputs.order.clone(),
    };
    let catalog = read_catalog(inputs, &order)?;
    let context = Context {
        platform: inputs.platform_api,
        target: inputs.target.clone(),
        exec_env: inputs.exec_env.to_owned(),
    };
    let mut candidates = Candidates::new(&order, &catalog, &context)?;
    let mut report = Report::default();
    let mut errored = false;
    let asker = ask::Asker::new(inputs, &catalog, executor, events);
    loop {
        let runs = &report.runs;
        let has_failed = |module: &ModuleId| {
            runs.get(module).is_some_and(|run| !matches!(run.outcome, Outcome::Passed(_)))
        };
        let Some(group) = candidates.next_group(&has_failed)? else {
            return Err(DetectError::NoGroup { errored, report: Box::new(report) });
        };
        let unasked: Vec<&ModuleId> = group
            .iter()
            .filter(|element| element.exclusion.is_none() && !runs.contains_key(&element.module))
            .map(|element| &element.module)
            .collect();
        let answers = asker.ask(&unasked)?;
        report.runs.extend(answers);
        let resolution = resolve(&group, &|module| report.runs.get(module).map(|run| &run.outcome));
        errored |= resolution.errored;
        report.groups.push(GroupReport::new(group, resolution.verdicts));
        if let Some(Resolved { group, plan }) = resolution.resolved {
            return Ok(Detected { group, plan, report });
        }
    }
}

/// Reads the descriptors of everything that the order leads to. What is not there is left out: that it is named is
/// found by who resolves the order.
fn read_catalog(inputs: &DetectInputs<'_>, order: &Order) -> Result<Catalog, DetectError> {
    let mut catalog = Catalog::default();
    let mut absent = BTreeSet::new();
    loop {
        let missing: Vec<_> = catalog.missing(order).into_iter().filter(|it| !absent.contains(it)).collect();
        if missing.is_empty() {
            return Ok(catalog);
        }
        for module in missing {
            let Some(ModuleDir { root, guest }) = inputs.modules(module.kind) else {
                absent.insert(module);
                continue;
            };
            let dir = ModuleDir::path(&module);
            let file = dir.join(format!("{}.toml", module.kind));
            match root.read_to_string(&file, DESCRIPTOR_LIMIT) {
                Ok(text) => {
                    let shown = guest.join(&file).display().to_string();
                    let descriptor = ModuleDescriptor::parse_named(&module, &shown, &text)?;
                    catalog.insert(module, descriptor, |name| root.exists(dir.join("bin").join(name)));
                }
                Err(error) if error.is_not_found() => {
                    absent.insert(module);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
