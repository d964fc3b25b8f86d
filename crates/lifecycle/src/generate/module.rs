//! One extension: its environment, its program or what stands for it, and what it left.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use cnb::descriptor::ModuleDescriptor;
use cnb::env::Env;
use cnb::group::{GroupElement, Kind};
use cnb::launch::escape_id;
use cnb::plan::BuildpackPlan;
use events::{Events, Phase};
use layer::CopyOptions;

use super::layout::Work;
use super::{GenerateError, GenerateInputs, GeneratedExtension, output};
use crate::executor::{Executor, Invocation, Place};
use crate::files::{DESCRIPTOR_LIMIT, create_new};
use crate::module_env::ModuleEnv;
use crate::program::{self, Failure};

/// An extension, and what it is asked for.
pub(super) struct Module<'a> {
    pub inputs: &'a GenerateInputs<'a>,
    pub element: &'a GroupElement,
    pub asked: &'a BuildpackPlan,
    /// The run image that an extension before it switched to.
    pub switched: Option<&'a str>,
}

impl Module<'_> {
    /// Asks the extension, and reads what it left.
    pub fn run(
        &self,
        work: &Work<'_>,
        env: &Env,
        executor: &dyn Executor,
        events: &dyn Events,
    ) -> Result<GeneratedExtension, GenerateError> {
        let Self { inputs, element, .. } = self;
        let dir = Path::new(&escape_id(&element.id)).join(&element.version);
        let descriptor = self.descriptor(&dir)?;
        if let Some(line) = self.covered(&descriptor) {
            events.info(&line);
            return Ok(GeneratedExtension {
                element: (*element).clone(),
                covered: Some(line),
                ..Default::default()
            });
        }
        let output = work.output(element)?;
        let extensions = inputs.extensions.root;
        if extensions.exists(dir.join("bin/generate")) {
            inputs.give(&output.host)?;
            let invocation =
                self.invocation(&descriptor, &inputs.extensions.guest.join(&dir), &output, env)?;
            self.execute(&invocation, executor, events)?;
        } else if extensions.exists(dir.join("generate")) {
            layer::copy_root(
                &extensions.subdir(dir.join("generate"))?,
                &output.host,
                &CopyOptions::default(),
            )?;
        }
        output::read(element, &work.open(element)?, &output.host, inputs.platform_api, events)
            .map_err(|error| error.left_by(&element.id, &output))
    }

    fn descriptor(&self, dir: &Path) -> Result<ModuleDescriptor, GenerateError> {
        let extensions = &self.inputs.extensions;
        let file = dir.join("extension.toml");
        let text = extensions.root.read_to_string(&file, DESCRIPTOR_LIMIT)?;
        let shown = extensions.guest.join(&file).display().to_string();
        ModuleDescriptor::parse_named(&self.element.module(Kind::Extension), &shown, &text)
            .map_err(|source| GenerateError::Parse { id: self.element.id.clone(), source })
    }

    /// The line that says that the images have what the extension would install.
    fn covered(&self, descriptor: &ModuleDescriptor) -> Option<String> {
        let covered = self.inputs.covered?;
        covered(self.element, &descriptor.packages_for(self.asked)?, self.switched)
    }

    fn invocation(
        &self,
        descriptor: &ModuleDescriptor,
        dir: &Path,
        output: &Place,
        env: &Env,
    ) -> Result<Invocation, GenerateError> {
        let inputs = self.inputs;
        let plan = inputs.plans.join(format!("{}.generate.toml", escape_id(&self.element.id)));
        create_new(&plan.host)?.write_all(self.asked.to_toml().as_bytes())?;
        inputs.give(&plan.host)?;
        let shared = ModuleEnv {
            platform_env: inputs.platform_env,
            build_config_env: inputs.build_config_env,
            platform: &inputs.platform,
            target: inputs.target,
            exec_env: inputs.exec_env,
        };
        let mut env = shared.of(env, descriptor, dir);
        env.set("CNB_BP_PLAN_PATH", &plan.guest);
        env.set("CNB_OUTPUT_DIR", &output.guest);
        let args: [&PathBuf; 3] = [&output.guest, &inputs.platform, &plan.guest];
        Ok(Invocation {
            program: dir.join("bin/generate"),
            args: args.map(|path| path.as_os_str().to_owned()).into(),
            env: env.into_vars(),
            cwd: inputs.app.clone(),
        })
    }

    fn execute(
        &self,
        invocation: &Invocation,
        executor: &dyn Executor,
        events: &dyn Events,
    ) -> Result<(), GenerateError> {
        let id = || self.element.id.clone();
        let result = program::run(Phase::Generate, invocation, executor, events)
            .map_err(|source| GenerateError::Exec { id: id(), source })?;
        let version = || self.element.version.clone();
        result.map_err(|Failure { exit, tail }| GenerateError::Failed {
            id: id(),
            version: version(),
            exit,
            tail,
        })
    }
}

impl GenerateInputs<'_> {
    /// Makes a path that this process made the extensions' user's.
    fn give(&self, path: &Path) -> std::io::Result<()> {
        match self.owner {
            Some((uid, gid)) => std::os::unix::fs::lchown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }
}
