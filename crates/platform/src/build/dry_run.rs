//! What a build would do, found out by detection and generation alone: no buildpack builds, no Dockerfile is applied,
//! no image gets a name.

use std::collections::{BTreeSet, HashMap, HashSet};

use cnb::group::{GroupElement, Kind as ModuleKind};
use cnb::plan::Require;
use cnb::resolve::Outcome as Answer;
use dockerfile::apply::{Cached, PlannedStep};
use dockerfile::{Instruction, InstructionKind, Kind};
use events::{Events, Phase};
use lifecycle::detect::Detected;
use lifecycle::generate::{Generated, GeneratedDockerfile, GeneratedExtension};
use serde::Serialize;

use super::phases::Run;
use super::request::BuildRequest;
use super::resolve::{self, Keep};
use super::{BuildError, Clock};

/// What a build would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DryRun {
    /// The builder's name.
    pub builder: String,
    /// The run image's name.
    pub run_image: String,
    /// True when an extension switches to it.
    pub switched: bool,
    /// The extensions of the group, in order.
    pub extensions: Vec<Participant>,
    /// The buildpacks of the group, in order.
    pub buildpacks: Vec<Participant>,
    /// Who provides what for whom.
    pub plan: Vec<PlanLine>,
    /// The Dockerfiles, those for the build image first, each in the order in which they would be applied.
    pub dockerfiles: Vec<DryDockerfile>,
}

/// An extension or a buildpack that takes part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Participant {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Why an extension is not asked for Dockerfiles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub covered: Option<String>,
}

/// An entry of the build plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlanLine {
    /// What is provided.
    pub name: String,
    /// Who provides it: ids of modules.
    pub provided_by: Vec<String>,
    /// Who requires it: ids of modules.
    pub required_by: Vec<String>,
}

/// A Dockerfile of an extension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DryDockerfile {
    /// The extension.
    pub extension: String,
    /// `build` or `run`.
    pub image: &'static str,
    /// What becomes of it.
    pub fate: Fate,
    /// Its instructions, variables expanded.
    pub steps: Vec<DryStep>,
}

/// What becomes of a Dockerfile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It is applied.
    Applied,
    /// It only says which image to start from.
    OnlyFrom,
    /// A later extension switches the run image, so that it has no effect.
    Ignored,
}

/// An instruction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DryStep {
    /// Its line in the Dockerfile.
    pub line: usize,
    /// It, as it would be applied.
    pub instruction: String,
    /// Whether it has to be carried out.
    pub state: StepState,
}

/// Whether an instruction has to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// What it did is kept from an earlier build.
    Cached,
    /// It has to be.
    New,
    /// That depends on what comes before it.
    Unknown,
    /// It changes no file.
    Config,
}

/// Finds out what a build would do. The store has no other names afterwards, and nothing goes to the destination,
/// which need not be writable.
///
/// # Errors
/// See [`BuildError`].
pub fn dry_run(request: &BuildRequest, events: &dyn Events) -> Result<DryRun, BuildError> {
    let mut clock = Clock { times: Vec::new(), events };
    let resolved = clock.phase(Phase::Resolve, || resolve::resolve(request, Keep::Nothing, events))?;
    let mut run = clock.phase(Phase::Analyze, || Run::prepare(request, resolved, events))?;
    let watch = layer::SpaceWatch::start(request.store.dir());
    let found = find_out(&mut run, &mut clock);
    found.map_err(|error| run.places().tell(error.for_want_of_space(&watch)))
}

fn find_out(run: &mut Run<'_>, clock: &mut Clock<'_>) -> Result<DryRun, BuildError> {
    let detected = clock.phase(Phase::Detect, || run.detect())?;
    let mut generated = Generated::default();
    if !detected.group.group_extensions.is_empty() {
        generated = clock.phase(Phase::Generate, || run.generate(&detected))?;
        run.switch_run_image(&generated)?;
    }
    let mut dockerfiles = Vec::new();
    for kind in [Kind::Build, Kind::Run] {
        let steps = run.plan_steps(&generated, kind)?;
        dockerfiles.extend(generated.extensions.iter().flat_map(|it| files(it, kind, &steps)));
    }
    let covered = |element: &GroupElement| {
        let extension = generated.extensions.iter().find(|it| it.element.id == element.id)?;
        extension.covered.clone()
    };
    let participant = |element: &GroupElement| Participant {
        id: element.id.clone(),
        version: element.version.clone(),
        covered: None,
    };
    let extension =
        |element: &GroupElement| Participant { covered: covered(element), ..participant(element) };
    Ok(DryRun {
        builder: run.resolved.builder_name.to_string(),
        run_image: run.run_image.name.to_string(),
        switched: generated.run_image.is_some(),
        extensions: detected.group.group_extensions.iter().map(extension).collect(),
        buildpacks: detected.group.group.iter().map(participant).collect(),
        plan: plan_lines(&detected),
        dockerfiles,
    })
}

/// The Dockerfiles of one extension for one image.
fn files(extension: &GeneratedExtension, kind: Kind, steps: &[PlannedStep]) -> Vec<DryDockerfile> {
    let (file, ignored) = match kind {
        Kind::Build => (&extension.build, &None),
        Kind::Run => (&extension.run, &extension.ignored_run),
    };
    let id = &extension.element.id;
    let dry = |fate, steps| DryDockerfile { extension: id.clone(), image: name(kind), fate, steps };
    let mut files = Vec::new();
    if let Some(file) = file {
        let planned =
            steps.iter().filter(|step| step.origin == *id).map(|step| dry_step(step, file)).collect();
        files.push(match file.extends {
            true => dry(Fate::Applied, planned),
            false => dry(Fate::OnlyFrom, as_written(file)),
        });
    }
    files.extend(ignored.as_ref().map(|file| dry(Fate::Ignored, as_written(file))));
    files
}

/// The instructions of a Dockerfile that is not applied.
fn as_written(file: &GeneratedDockerfile) -> Vec<DryStep> {
    let dry = |it: &Instruction| DryStep {
        line: it.line,
        instruction: in_file(it, file),
        state: StepState::Config,
    };
    file.dockerfile.instructions.iter().map(dry).collect()
}

fn dry_step(step: &PlannedStep, file: &GeneratedDockerfile) -> DryStep {
    let state = match step.cached {
        Cached::Yes => StepState::Cached,
        Cached::No => StepState::New,
        Cached::Unknown => StepState::Unknown,
        Cached::Config => StepState::Config,
    };
    let written = file.dockerfile.instructions.iter().find(|it| it.line == step.line);
    let instruction = written.map_or_else(|| step.text.clone(), |written| shown(step, written, file));
    DryStep { line: step.line, instruction, state }
}

/// An instruction with its variables filled in. A `RUN` in which nothing is for us to fill in keeps its lines.
fn shown(step: &PlannedStep, written: &Instruction, file: &GeneratedDockerfile) -> String {
    let lines = in_file(written, file);
    let same = || lines.replace("\\\n", " ").split_whitespace().eq(step.text.split_whitespace());
    match written.kind {
        InstructionKind::Run(_) if same() => lines,
        _ => step.text.clone(),
    }
}

/// An instruction as it is in the file, with its here-documents.
fn in_file(instruction: &Instruction, file: &GeneratedDockerfile) -> String {
    file.dockerfile.text()[instruction.span.clone()].trim_end().to_owned()
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Build => "build",
        Kind::Run => "run",
    }
}

fn plan_lines(detected: &Detected) -> Vec<PlanLine> {
    let mut required_by = requirers(detected);
    let line = |entry: &cnb::plan::PlanEntry| {
        let name = entry.requires.first().map(|require| require.name.clone()).unwrap_or_default();
        let provided_by = entry.providers.iter().map(|it| it.id.clone()).collect();
        let required_by = required_by.remove(&name).unwrap_or_default();
        PlanLine { name, provided_by, required_by }
    };
    detected.plan.entries.iter().map(line).collect()
}

/// For each name the members of the group that require it.
fn requirers(detected: &Detected) -> HashMap<String, Vec<String>> {
    let entries = || detected.plan.entries.iter();
    let provided: HashSet<(&str, &str)> = entries()
        .filter_map(|entry| Some((entry.requires.first()?.name.as_str(), &entry.providers)))
        .flat_map(|(name, providers)| providers.iter().map(move |it| (name, it.id.as_str())))
        .collect();
    let text = |require: &Require| format!("{require:?}");
    let required: HashSet<String> = entries().flat_map(|entry| &entry.requires).map(text).collect();
    let mut requirers: HashMap<String, Vec<String>> = HashMap::new();
    for element in &detected.group.group {
        let run = detected.report.runs.get(&element.module(ModuleKind::Buildpack));
        let Some(Answer::Passed(plan)) = run.map(|run| &run.outcome) else { continue };
        // Of several plans that a buildpack offers, the first that is in what all agreed on was taken.
        let taken = plan.sections().find(|(provides, requires)| {
            provides.iter().all(|it| provided.contains(&(it.name.as_str(), element.id.as_str())))
                && requires.iter().all(|it| required.contains(&text(it)))
        });
        let names: BTreeSet<_> =
            taken.into_iter().flat_map(|(_, requires)| requires).map(|it| &it.name).collect();
        for name in names {
            requirers.entry(name.clone()).or_default().push(element.id.clone());
        }
    }
    requirers
}

#[cfg(test)]
mod tests {
    use cnb::group::{Group, ModuleId};
    use cnb::plan::{BuildPlan, Plan};
    use lifecycle::detect;

    use super::*;

    fn answer(plan: &str) -> detect::Run {
        let plan = BuildPlan::parse(ModuleKind::Buildpack, "plan.toml", plan).unwrap();
        detect::Run { outcome: Answer::Passed(plan), output: Vec::new(), elapsed: std::time::Duration::ZERO }
    }

    #[test]
    fn programs_keep_their_lines() {
        let text = "FROM a\nRUN x \\\n  && y\nRUN <<END\none\nEND\nCOPY a \\\n  b\nRUN --mount=target=$t z\n";
        let dockerfile = dockerfile::Dockerfile::parse("run.Dockerfile", text).unwrap();
        let file = GeneratedDockerfile {
            dockerfile: dockerfile.clone(),
            path: "run.Dockerfile".into(),
            base: None,
            extends: true,
            args: Vec::new(),
            context: None,
            packages: Vec::new(),
        };
        let planned = ["FROM a", "RUN x && y", "RUN <<END\none\nEND", "COPY a b", "RUN --mount=target=/x z"];
        let expected = ["FROM a", "RUN x \\\n  && y", planned[2], planned[3], planned[4]];
        for ((written, planned), expected) in dockerfile.instructions.iter().zip(planned).zip(expected) {
            let step = PlannedStep {
                origin: "a".to_owned(),
                line: written.line,
                text: planned.to_owned(),
                cached: Cached::No,
            };
            assert_eq!(shown(&step, written, &file), expected);
        }
    }

    #[test]
    fn who_requires_what_is_known_of_plans_with_alternatives() {
        let group = Group::parse(
            "group.toml",
            "[[group]]\nid = \"a\"\nversion = \"1\"\n[[group]]\nid = \"b\"\nversion = \"1\"\n",
        );
        let plan = "[[entries]]\n[[entries.providers]]\nid = \"ext\"\nversion = \"1\"\n\
            [[entries.requires]]\nname = \"x\"\n";
        let mut report = detect::Report::default();
        let b = "[[requires]]\nname = \"y\"\n[[or]]\n[[or.requires]]\nname = \"x\"\n";
        report.runs.insert(ModuleId::buildpack("a", "1"), answer(""));
        report.runs.insert(ModuleId::buildpack("b", "1"), answer(b));
        let plan = Plan::parse("plan.toml", plan).unwrap();
        let detected = Detected { group: group.unwrap(), plan, report };
        let expected = PlanLine {
            name: "x".to_owned(),
            provided_by: vec!["ext".to_owned()],
            required_by: vec!["b".to_owned()],
        };
        assert_eq!(plan_lines(&detected), [expected]);
    }
}
