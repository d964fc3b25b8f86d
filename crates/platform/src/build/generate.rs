//! Asking the extensions of the group for Dockerfiles, and the run image that they switch to.

use std::path::{Path, PathBuf};

use cnb::descriptor::ImagePackages;
use cnb::group::GroupElement;
use cnb::image::RunImageMirrors;
use layer::Root;
use lifecycle::Place;
use lifecycle::detect::{Detected, ModuleDir};
use lifecycle::generate::{GenerateInputs, Generated};

use super::environment::build_config;
use super::packages::BasePackages;
use super::phases::{EXTENSIONS, PLATFORM, PLATFORM_API, Run, target};
use super::{BuildError, resolve};

/// Where extensions write to. `/layers` is no part of the sandbox in this phase.
pub(super) const GENERATED: &str = "/generated";

impl Run<'_> {
    /// Runs the extensions of the group. What they write to the app is thrown away.
    pub(super) fn generate(&mut self, detected: &Detected) -> Result<Generated, BuildError> {
        let app = self.bench.derive("generate-app", vec![self.app.host.clone()])?;
        let mut guest = self.guest("generate-root", &app.dir)?;
        let generated = Place::new(self.bench.guest_folder("generated", 0o755)?, GENERATED);
        guest.mounts.push(sandbox::GuestMount::bind(&generated.host, GENERATED));
        let root = Root::open(&guest.root)?;
        let build_config = build_config(&root, &self.resolved.builder)?;
        let extensions = root.subdir(in_root(EXTENSIONS))?;
        let known: Vec<RunImageMirrors> = self.builder.run_images.iter().map(mirrors).collect();
        let base = BasePackages::new(
            self.request,
            (&self.resolved.builder_name, &self.resolved.builder),
            (&self.run_image.name, &self.run_image.image),
            self.events,
        )?;
        let covered = |element: &GroupElement, wanted: &ImagePackages, switched: Option<&str>| {
            base.covered(element, wanted, switched)
        };
        let inputs = GenerateInputs {
            group_extensions: &detected.group.group_extensions,
            plan: &detected.plan,
            platform_api: PLATFORM_API,
            extensions: ModuleDir { root: &extensions, guest: PathBuf::from(EXTENSIONS) },
            app: self.app.guest.clone(),
            platform: PathBuf::from(PLATFORM),
            plans: &self.plans,
            generated: &generated,
            base_env: self.base_env.clone(),
            platform_env: &self.platform_env,
            build_config_env: build_config.as_ref(),
            target: &self.target,
            exec_env: &self.request.exec_env,
            owner: self.bench.owner(),
            run_image: Some(&self.run_image.entry.image),
            run_images: &known,
            covered: Some(&covered),
        };
        let mut generated = lifecycle::generate::generate(&inputs, &guest, self.events)?;
        base.leave_out(&mut generated);
        self.warn_of_writes(&app, "image extensions wrote to the app")?;
        self.bench.unmount("generate-app")?;
        self.bench.unmount("generate-root")?;
        Ok(generated)
    }

    /// Takes the run image that extensions ask for in place of the one before.
    pub(super) fn switch_run_image(&mut self, generated: &Generated) -> Result<(), BuildError> {
        if let Some(name) = &generated.run_image {
            let (request, known) = (self.request, &self.builder.run_images);
            self.run_image = resolve::switched_run_image(request, name, known, self.events)?;
            self.target = target(&self.run_image.image, self.build_distro.as_ref());
        }
        Ok(())
    }
}

/// A path of the guest, in its root.
pub(super) fn in_root(path: &str) -> &Path {
    Path::new(path.trim_start_matches('/'))
}

fn mirrors(known: &crate::run_image::RunImage) -> RunImageMirrors {
    RunImageMirrors { image: known.image.clone(), mirrors: known.mirrors.clone() }
}
