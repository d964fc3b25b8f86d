//! The generation phase: runs `bin/generate` of each extension of the group, in order, and reads the Dockerfiles that
//! they leave (image_extension.md, "Phase: Generation"; platform.md, "detector").
//!
//! Extensions are not trusted: what they leave is read beneath a directory handle. Which run image they want, and
//! whether there is anything to extend, is found here. Not here: applying a Dockerfile to an image.

mod error;
mod layout;
mod module;
mod output;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Instant;

use cnb::ApiVersion;
use cnb::descriptor::ImagePackages;
use cnb::env::{Env, EnvDir};
use cnb::group::{GroupElement, Kind};
use cnb::image::{Analyzed, RunImage, RunImageMirrors};
use cnb::launch::escape_id;
use cnb::plan::Plan;
use cnb::target::TargetMetadata;
use dockerfile::Dockerfile;
use events::{Event, Events, Phase};

use crate::detect::ModuleDir;
use crate::executor::{Executor, Place};
pub use error::GenerateError;
pub use layout::read;

/// Says whether the base images have packages: asked before an extension that declares what it would install. The
/// last argument is the run image that an earlier extension switched to. The answer is a line for people that says
/// so, none when something is missing.
pub type Covered<'a> = dyn Fn(&GroupElement, &ImagePackages, Option<&str>) -> Option<String> + 'a;

/// What the generation phase works on.
#[expect(missing_debug_implementations, reason = "it holds a closure")]
pub struct GenerateInputs<'a> {
    /// The extensions to run.
    pub group_extensions: &'a [GroupElement],
    /// Who is asked for what.
    pub plan: &'a Plan,
    /// The Platform API in use: what `<generated>` looks like depends on it.
    pub platform_api: ApiVersion,
    /// `/cnb/extensions`.
    pub extensions: ModuleDir<'a>,
    /// `<app>`, by the guest's path.
    pub app: PathBuf,
    /// `<platform>`, by the guest's path.
    pub platform: PathBuf,
    /// A folder for plan files.
    pub plans: &'a Place,
    /// `<generated>`: it has to be there.
    pub generated: &'a Place,
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
    /// User and group that files of ours for extensions belong to; none leaves them this process's.
    pub owner: Option<(u32, u32)>,
    /// The name of the run image so far: `run-image.image` of `analyzed.toml`.
    pub run_image: Option<&'a str>,
    /// The run images that are known: `run.toml`.
    pub run_images: &'a [RunImageMirrors],
    /// Asked about extensions that declare packages; none asks every extension.
    pub covered: Option<&'a Covered<'a>>,
}

/// What the extensions of a group want.
#[derive(Clone, Debug, Default)]
pub struct Generated {
    /// Each extension, in the order of the group.
    pub extensions: Vec<GeneratedExtension>,
    /// What is left for the buildpacks: without all that extensions were asked for.
    pub plan: Plan,
    /// The run image to use in place of the given one.
    pub run_image: Option<String>,
    /// True when a Dockerfile has instructions for the build image.
    pub extend_build: bool,
    /// True when a Dockerfile that counts has instructions for the run image.
    pub extend_run: bool,
}

/// What one extension wants.
#[derive(Clone, Debug, Default)]
pub struct GeneratedExtension {
    /// The extension.
    pub element: GroupElement,
    /// Its `build.Dockerfile`.
    pub build: Option<GeneratedDockerfile>,
    /// Its `run.Dockerfile`.
    pub run: Option<GeneratedDockerfile>,
    /// A `run.Dockerfile` that has no effect, because a later extension switches the run image.
    pub ignored_run: Option<GeneratedDockerfile>,
    /// Why it was not asked: the images have all that it would install.
    pub covered: Option<String>,
}

/// A Dockerfile, and what it is applied with.
#[derive(Clone, Debug)]
pub struct GeneratedDockerfile {
    /// What it says, as it was when the extension had run.
    pub dockerfile: Dockerfile,
    /// Where it is, on this machine.
    pub path: PathBuf,
    /// The image that it starts from instead of `${base_image}`.
    pub base: Option<String>,
    /// True when it has an instruction that may change the image.
    pub extends: bool,
    /// The extension's arguments for it.
    pub args: Vec<(String, String)>,
    /// The folder that its files come from, on this machine; none for the app.
    pub context: Option<PathBuf>,
    /// The packages that it would install: where the image has all of them it changes nothing.
    pub packages: Vec<String>,
}

/// Runs the extensions of the group.
///
/// # Errors
/// The first extension that fails, or leaves something that it must not, ends the phase.
pub fn generate(
    inputs: &GenerateInputs<'_>,
    executor: &dyn Executor,
    events: &dyn Events,
) -> Result<Generated, GenerateError> {
    check_folders(inputs.group_extensions)?;
    let env = Env::for_build(inputs.base_env.clone());
    let mut generated = Generated { plan: inputs.plan.clone(), ..Generated::default() };
    let work = layout::Work::new(inputs)?;
    for element in inputs.group_extensions {
        let asked = generated.plan.of(Kind::Extension, &element.id);
        let switched = generated.switch().map(|(_, image)| image);
        let module = module::Module { inputs, element, asked: &asked, switched };
        let (id, version) = (element.id.as_str(), element.version.as_str());
        events.event(Event::ModuleStarted { phase: Phase::Generate, id, version });
        let start = Instant::now();
        let left = module.run(&work, &env, executor, events);
        events.event(Event::ModuleEnded { phase: Phase::Generate, id, elapsed: start.elapsed() });
        let left = left?;
        // An extension satisfies all that it is asked for.
        generated.plan.remove_met(&asked, &[]);
        generated.extensions.push(left);
    }
    // From here on no program of an extension runs: what is looked at now stays as it is.
    generated.settle();
    generated.choose_run_image(inputs, events);
    work.finish(&mut generated)?;
    Ok(generated)
}

/// Ids that differ can have the same folder; one would take what the other left for its own.
fn check_folders(elements: &[GroupElement]) -> Result<(), GenerateError> {
    let mut folders = BTreeSet::new();
    match elements.iter().find(|element| !folders.insert(escape_id(&element.id))) {
        Some(element) => Err(GenerateError::SameFolder { id: element.id.clone() }),
        None => Ok(()),
    }
}

impl Generated {
    /// The last extension that switches the run image, and what to.
    fn switch(&self) -> Option<(usize, &str)> {
        self.extensions.iter().enumerate().rev().find_map(|(at, extension)| {
            let run = extension.run.as_ref()?;
            Some((at, run.base.as_deref()?))
        })
    }

    /// Finds out which `run.Dockerfile`s count, and what is to be extended.
    fn settle(&mut self) {
        let switch = self.switch().map(|(at, image)| (at, image.to_owned()));
        if let Some((at, image)) = switch {
            for extension in &mut self.extensions[..at] {
                extension.ignored_run = extension.run.take();
            }
            self.run_image = Some(image);
        }
        let extends =
            |dockerfile: &Option<GeneratedDockerfile>| dockerfile.as_ref().is_some_and(|it| it.extends);
        self.extend_build = self.extensions.iter().any(|it| extends(&it.build));
        self.extend_run = self.extensions.iter().any(|it| extends(&it.run));
    }

    fn choose_run_image(&mut self, inputs: &GenerateInputs<'_>, events: &dyn Events) {
        let Some(image) = &self.run_image else { return };
        // From Platform API 0.12 on, the name that is used already is no change, if it is written the same way.
        if inputs.platform_api.at_least(12) && inputs.run_image == Some(image) {
            self.run_image = None;
        } else if !is_known(image, inputs.run_images) {
            events.warning(&format!(
                "the run image {image}, which an extension switches to, is none of the builder's"
            ));
        }
    }

    /// Writes what was decided into `analyzed.toml`.
    pub fn update(&self, analyzed: &mut Analyzed) {
        if let Some(image) = &self.run_image {
            // What was known of the other run image does not hold for this one.
            analyzed.run_image = Some(RunImage {
                reference: image.clone(),
                image: image.clone(),
                extend: false,
                target: None,
            });
        }
        if let Some(run_image) = &mut analyzed.run_image {
            run_image.extend = self.extend_run;
        }
        analyzed.build_image.get_or_insert_default().extend = self.extend_build;
    }
}

/// True when an image is one of these or of their mirrors, whatever digests the names have.
fn is_known(image: &str, known: &[RunImageMirrors]) -> bool {
    let name = |text: &str| {
        let reference = text.parse::<oci::Reference>().ok()?;
        Some((reference.name(), reference.tag().unwrap_or("latest").to_owned()))
    };
    let same = |other: &String| other == image || (name(other).is_some() && name(other) == name(image));
    known.iter().any(|known| same(&known.image) || known.mirrors.iter().any(same))
}

#[cfg(test)]
mod tests;
