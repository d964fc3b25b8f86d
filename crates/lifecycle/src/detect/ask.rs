//! Runs `bin/detect` of several modules at once.

use std::os::unix::fs::fchown;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use cnb::descriptor::ModuleDescriptor;
use cnb::env::Env;
use cnb::group::{Kind, ModuleId};
use cnb::plan::BuildPlan;
use cnb::resolve::{Catalog, Outcome};
use events::{Event, Events, Phase};
use layer::{PathError, Root};

use super::report::Run;
use super::{DetectError, DetectInputs, ModuleDir};
use crate::executor::{Executor, Exit, Invocation, Place};
use crate::files::{DESCRIPTOR_LIMIT, create_new, read_optional};
use crate::module_env::ModuleEnv;

/// Bytes of output that are kept of one program.
const OUTPUT_LIMIT: usize = 256 * 1024;

/// The exit code that says no.
const FAIL: i32 = 100;

/// Asks modules whether they take part.
pub(super) struct Asker<'a> {
    inputs: &'a DetectInputs<'a>,
    catalog: &'a Catalog,
    executor: &'a dyn Executor,
    events: &'a dyn Events,
    /// What every program's environment begins with.
    env: Env,
    /// Plan files so far, for their names.
    plans: AtomicUsize,
}

impl<'a> Asker<'a> {
    pub(super) fn new(
        inputs: &'a DetectInputs<'a>,
        catalog: &'a Catalog,
        executor: &'a dyn Executor,
        events: &'a dyn Events,
    ) -> Self {
        let env = Env::for_build(inputs.base_env.clone());
        Self { inputs, catalog, executor, events, env, plans: AtomicUsize::new(0) }
    }

    /// Asks all of them, not more than allowed at once.
    pub(super) fn ask(&self, modules: &[&ModuleId]) -> Result<Vec<(ModuleId, Run)>, DetectError> {
        let next = AtomicUsize::new(0);
        let answers = Mutex::new(Vec::with_capacity(modules.len()));
        let work = || {
            while let Some(module) = modules.get(next.fetch_add(1, Ordering::Relaxed)) {
                let answer = self.ask_one(module).map(|run| ((*module).clone(), run));
                // A worker that panics takes the others along with the scope.
                answers.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(answer);
            }
        };
        let workers = self.inputs.parallel.clamp(1, modules.len().max(1));
        std::thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(work);
            }
            work();
        });
        answers.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).into_iter().collect()
    }

    fn ask_one(&self, module: &ModuleId) -> Result<Run, DetectError> {
        // Candidates are made of what the catalog and its folders have.
        let (Some(descriptor), Some(modules)) =
            (self.catalog.descriptor(module), self.inputs.modules(module.kind))
        else {
            let outcome = Outcome::Errored("it is not there".to_owned());
            return Ok(Run { outcome, output: Vec::new(), elapsed: Default::default() });
        };
        let (id, version) = (module.id.as_str(), module.version.as_str());
        self.events.event(Event::ModuleStarted { phase: Phase::Detect, id, version });
        let start = Instant::now();
        let dir = ModuleDir::path(module);
        let is_static = module.kind == Kind::Extension && !modules.root.exists(dir.join("bin/detect"));
        let answer = if is_static {
            Ok((written_plan(modules.root, &dir)?, Vec::new()))
        } else {
            self.run(descriptor, &modules.guest.join(&dir))
        };
        let elapsed = start.elapsed();
        self.events.event(Event::ModuleEnded { phase: Phase::Detect, id, elapsed });
        let (outcome, output) = answer?;
        Ok(Run { outcome, output, elapsed })
    }

    /// Runs one program; `dir` is the guest's path of its module.
    fn run(&self, descriptor: &ModuleDescriptor, dir: &Path) -> Result<(Outcome, Vec<u8>), DetectError> {
        let name = format!("detect-{}.toml", self.plans.fetch_add(1, Ordering::Relaxed));
        let plan = self.inputs.plans.join(&name);
        let file = create_new(&plan.host)?;
        if let Some((uid, gid)) = self.inputs.owner {
            fchown(&file, Some(uid), Some(gid))?;
        }
        drop(file);
        let mut output = Vec::new();
        let exit = self.executor.run(&self.invocation(descriptor, dir, &plan), &mut |_, bytes| {
            output.extend_from_slice(bytes);
            if output.len() > 2 * OUTPUT_LIMIT {
                output.drain(..output.len() - OUTPUT_LIMIT);
            }
        });
        output.drain(..output.len().saturating_sub(OUTPUT_LIMIT));
        let outcome = match exit {
            Ok(Exit::Code(0)) => self.plan(descriptor.kind, &name, &plan),
            Ok(Exit::Code(FAIL)) => Outcome::Failed,
            Ok(exit) => Outcome::Errored(format!("bin/detect ended with {exit}")),
            Err(error) => Outcome::Errored(error.whole()),
        };
        Ok((outcome, output))
    }

    /// Reads the plan that a program wrote. The folder may be the program's to write to: what is at the name now need
    /// not be our file any more.
    fn plan(&self, kind: Kind, name: &str, plan: &Place) -> Outcome {
        let text = Root::beneath(&self.inputs.plans.host)
            .and_then(|root| read_optional(&root, name))
            .map_err(|error| format!("{error}: {}", error.source));
        let parse = |text: Option<String>| {
            let shown = plan.guest.display().to_string();
            BuildPlan::parse(kind, &shown, &text.unwrap_or_default()).map_err(|error| error.to_string())
        };
        text.and_then(parse).map_or_else(Outcome::Errored, Outcome::Passed)
    }

    fn invocation(&self, descriptor: &ModuleDescriptor, dir: &Path, plan: &Place) -> Invocation {
        let inputs = self.inputs;
        let shared = ModuleEnv {
            platform_env: inputs.platform_env,
            build_config_env: inputs.build_config_env,
            platform: &inputs.platform,
            target: inputs.target,
            exec_env: inputs.exec_env,
        };
        let mut env = shared.of(&self.env, descriptor, dir);
        if descriptor.api.at_least(8) {
            env.set("CNB_BUILD_PLAN_PATH", &plan.guest);
        }
        Invocation {
            program: dir.join("bin/detect"),
            args: [&inputs.platform, &plan.guest].map(|path| path.as_os_str().to_owned()).into(),
            env: env.into_vars(),
            cwd: inputs.app.clone(),
        }
    }
}

/// The plan of an extension that has no program: written beforehand, or empty.
fn written_plan(root: &Root, dir: &Path) -> Result<Outcome, PathError> {
    let file = dir.join("detect/plan.toml");
    if !root.exists(&file) {
        return Ok(Outcome::Passed(BuildPlan::default()));
    }
    let text = root.read_to_string(&file, DESCRIPTOR_LIMIT)?;
    let plan = BuildPlan::parse(Kind::Extension, &file.display().to_string(), &text);
    Ok(plan.map_or_else(|error| Outcome::Errored(error.to_string()), Outcome::Passed))
}
