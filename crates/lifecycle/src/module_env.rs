//! The environment of a buildpack's or extension's program, as far as it is the same for detect, generate and
//! build (buildpack.md, "Environment").

use std::path::Path;

use cnb::descriptor::ModuleDescriptor;
use cnb::env::{Env, EnvDir};
use cnb::group::Kind;
use cnb::target::TargetMetadata;

/// What it is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ModuleEnv<'a> {
    /// The user's variables.
    pub platform_env: &'a EnvDir,
    /// The operator's variables.
    pub build_config_env: Option<&'a EnvDir>,
    /// `<platform>`, by the guest's path.
    pub platform: &'a Path,
    /// What the image will run on.
    pub target: &'a TargetMetadata,
    /// CNB_EXEC_ENV.
    pub exec_env: &'a str,
}

impl ModuleEnv<'_> {
    /// The environment of the module in `dir`, made from what layers so far have made of it.
    pub fn of(&self, env: &Env, module: &ModuleDescriptor, dir: &Path) -> Env {
        let platform_env = (!module.info.clear_env).then_some(self.platform_env);
        let mut env = env.with_overrides(platform_env, self.build_config_env);
        env.set(
            match module.kind {
                Kind::Buildpack => "CNB_BUILDPACK_DIR",
                Kind::Extension => "CNB_EXTENSION_DIR",
            },
            dir,
        );
        if module.api.at_least(8) {
            env.set("CNB_PLATFORM_DIR", self.platform);
        }
        if module.api.at_least(10) {
            self.target.variables().into_iter().for_each(|(name, value)| env.set(name, value));
        }
        if module.api.at_least(12) && !self.exec_env.is_empty() {
            env.set("CNB_EXEC_ENV", self.exec_env);
        }
        env
    }
}
