//! Detection, in a root file system and on a view of the app that are thrown away afterwards.

use std::path::PathBuf;

use layer::Root;
use lifecycle::detect::{DetectInputs, Detected, ModuleDir};

use super::BuildError;
use super::bench::Derived;
use super::environment::build_config;
use super::generate::in_root;
use super::phases::{BUILDPACKS, EXTENSIONS, PLATFORM, PLATFORM_API, Run};

/// `bin/detect` programs that run at once: they mostly wait for the disk and for each other's shells.
const DETECTS: usize = 8;

impl Run<'_> {
    pub(super) fn detect(&mut self) -> Result<Detected, BuildError> {
        let app = self.bench.derive("detect-app", vec![self.app.host.clone()])?;
        let guest = self.guest("detect-root", &app.dir)?;
        let root = Root::open(&guest.root)?;
        let build_config = build_config(&root, &self.resolved.builder)?;
        let buildpacks = root.subdir(in_root(BUILDPACKS))?;
        let extensions = match root.is_dir(in_root(EXTENSIONS)) {
            true => Some(root.subdir(in_root(EXTENSIONS))?),
            false => None,
        };
        let inputs = DetectInputs {
            order: &self.builder.order,
            system: (!self.request.disable_system_buildpacks).then_some(&self.builder.system),
            platform_api: PLATFORM_API,
            buildpacks: ModuleDir { root: &buildpacks, guest: PathBuf::from(BUILDPACKS) },
            extensions: extensions.as_ref().map(|root| ModuleDir { root, guest: PathBuf::from(EXTENSIONS) }),
            app: self.app.guest.clone(),
            platform: PathBuf::from(PLATFORM),
            plans: &self.plans,
            base_env: self.base_env.clone(),
            platform_env: &self.platform_env,
            build_config_env: build_config.as_ref(),
            target: &self.target,
            exec_env: &self.request.exec_env,
            owner: self.bench.owner(),
            parallel: DETECTS,
        };
        let detected = lifecycle::detect::detect(&inputs, &guest, self.events)?;
        self.warn_of_writes(&app, "buildpacks wrote to the app during detection")?;
        self.bench.unmount("detect-app")?;
        self.bench.unmount("detect-root")?;
        Ok(detected)
    }

    /// What was written to a view of the app was thrown away: say so, because it looks as if it had worked.
    pub(super) fn warn_of_writes(&self, app: &Derived, what: &str) -> Result<(), BuildError> {
        let written = app.written()?;
        if let Some(first) = written.first() {
            let path = self.app.guest.join(first);
            let others = match written.len() - 1 {
                0 => String::new(),
                others => format!(" and {others} more"),
            };
            self.events.warning(&format!("what {what} is gone: {}{others}", path.display()));
        }
        Ok(())
    }
}
