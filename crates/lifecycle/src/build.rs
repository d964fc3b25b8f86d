//! The build phase: runs `bin/build` of each buildpack of the group, in order, and gathers what they left
//! (platform.md, "builder"; buildpack.md, "Phase 3: Build").
//!
//! Buildpacks are not trusted: their files are read beneath a directory handle, and nothing is written below
//! the layers folder while one of their programs might still run.

mod metadata;
mod module;
mod sbom;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cnb::env::{Env, EnvDir};
use cnb::group::{GroupElement, Kind};
use cnb::launch::Process;
use cnb::layer::{LayerToml, Store};
use cnb::output::{BomEntry, Label, Slice};
use cnb::plan::Plan;
use cnb::target::TargetMetadata;
use cnb::{ApiVersion, ParseError};
use events::{Event, Events, Phase};
use layer::{PathError, Root};

use crate::executor::{ExecError, Executor, Exit, Place};
use crate::share::{self, Share, TooMuch};
pub use metadata::ProcessList;

/// What the build phase works on.
#[derive(Debug)]
pub struct BuildInputs<'a> {
    /// The buildpacks to run, and the extensions that took part.
    pub group: &'a [GroupElement],
    /// Extensions of the group.
    pub group_extensions: &'a [GroupElement],
    /// Who was asked for what.
    pub plan: &'a Plan,
    /// The Platform API in use.
    pub platform_api: ApiVersion,
    /// `/cnb/buildpacks`: `<escaped id>/<version>` in it are buildpacks. Only read.
    pub buildpacks: &'a Root,
    /// The guest's path of it.
    pub buildpacks_guest: PathBuf,
    /// `<layers>`.
    pub layers: &'a Place,
    /// `<app>`, by the guest's path.
    pub app: PathBuf,
    /// `<platform>`, by the guest's path.
    pub platform: PathBuf,
    /// A folder for plan files.
    pub plans: &'a Place,
    /// The environment of the build image, not filtered yet.
    pub base_env: BTreeMap<std::ffi::OsString, std::ffi::OsString>,
    /// What Dockerfiles of extensions set in the build image: unlike what else that has, buildpacks see all of it.
    pub extended_env: BTreeMap<std::ffi::OsString, std::ffi::OsString>,
    /// The user's variables: `<platform>/env`.
    pub platform_env: &'a EnvDir,
    /// The operator's variables: `<build-config>/env`.
    pub build_config_env: Option<&'a EnvDir>,
    /// What the image will run on.
    pub target: &'a TargetMetadata,
    /// CNB_EXEC_ENV.
    pub exec_env: &'a str,
    /// User and group that files of ours for buildpacks belong to; none leaves them this process's.
    pub owner: Option<(u32, u32)>,
}

impl BuildInputs<'_> {
    /// Makes a path that this process made the buildpacks' user's.
    fn give(&self, path: &Path) -> io::Result<()> {
        match self.owner {
            Some((uid, gid)) => std::os::unix::fs::lchown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }
}

/// What the buildpacks left, gathered.
#[derive(Clone, Debug, Default)]
pub struct Built {
    /// What each buildpack left, in the order of the group.
    pub modules: Vec<BuiltModule>,
    /// Processes, sorted by type.
    pub processes: Vec<Process>,
    /// The process type that starts by default, as buildpacks have it.
    pub default_process: Option<String>,
    /// Labels, in order.
    pub labels: Vec<Label>,
    /// Slices of the app folder, in order.
    pub slices: Vec<Slice>,
    /// The old bill of materials for launch, before Platform API 0.9.
    pub launch_bom: Vec<BomEntry>,
}

/// What one buildpack left in its layers folder.
#[derive(Clone, Debug)]
pub struct BuiltModule {
    /// The buildpack.
    pub element: GroupElement,
    /// Its layers, sorted by name; those without a type are left out.
    pub layers: Vec<BuiltLayer>,
    /// Its `store.toml`.
    pub store: Option<Store>,
    /// What it adds to the documents of the image.
    pub share: Share,
}

/// A layer that a buildpack asked for.
#[derive(Clone, Debug)]
pub struct BuiltLayer {
    /// Its name.
    pub name: String,
    /// `<layer>.toml`.
    pub toml: LayerToml,
    /// True when its folder is there.
    pub has_contents: bool,
}

/// The build failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A buildpack's program failed.
    #[error("buildpack {id} {version} failed: bin/build ended with {exit}")]
    Failed {
        /// The buildpack.
        id: String,
        /// Its version.
        version: String,
        /// How its program ended.
        exit: Exit,
        /// The end of what it printed.
        tail: String,
    },
    /// A buildpack's program could not be run.
    #[error("buildpack {id} could not be run")]
    Exec {
        /// The buildpack.
        id: String,
        /// Why.
        #[source]
        source: ExecError,
    },
    /// A file that a buildpack left is not as it should be.
    #[error("buildpack {id} left an invalid file")]
    Parse {
        /// The buildpack.
        id: String,
        /// What is wrong with it.
        #[source]
        source: ParseError,
    },
    /// A buildpack left something that is not read.
    #[error("buildpack {id} left {}, which cannot be read", path.display())]
    Unreadable {
        /// The buildpack.
        id: String,
        /// The file, as programs see it.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A buildpack wrote an SBOM of a kind it does not declare.
    #[error(
        "buildpack {id} wrote {file}, but `sbom-formats` in its buildpack.toml does not list {media_type}"
    )]
    SbomFormat {
        /// The buildpack.
        id: String,
        /// The SBOM file's name.
        file: String,
        /// Its media type.
        media_type: &'static str,
    },
    /// A buildpack put something else where its layers folder should be.
    #[error("{} is not a folder any more", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// A buildpack left more than an image can say.
    #[error(transparent)]
    TooMuch(#[from] TooMuch),
    /// A variable of a layer is none that a program could be given.
    #[error("buildpack {id} left an invalid variable in {}: {reason}", dir.display())]
    Variable {
        /// The buildpack.
        id: String,
        /// The folder with the variable's file, by the guest's path.
        dir: PathBuf,
        /// Which variable, and what is wrong with it.
        reason: String,
    },
    /// What a buildpack left, or what it is to get, cannot be read or written.
    #[error("the files of buildpack {id} cannot be used")]
    Files {
        /// The buildpack.
        id: String,
        /// Why.
        #[source]
        source: Box<BuildError>,
    },
    /// A folder cannot be read.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A file cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl BuildError {
    /// Says of an error of a file in `place` whose it is, and what programs call it.
    fn left_by(self, id: &str, place: &Place) -> Self {
        match self {
            Self::Path(error) => {
                let (path, source) = place.as_seen(error);
                Self::Unreadable { id: id.to_owned(), path, source }
            }
            other => other,
        }
    }

    /// Names the buildpack where the error does not.
    fn of(self, id: &str) -> Self {
        match self {
            Self::Path(_) | Self::Io(_) | Self::NotAFolder { .. } => {
                Self::Files { id: id.to_owned(), source: Box::new(self) }
            }
            error => error,
        }
    }
}

/// Runs the buildpacks of the group.
///
/// # Errors
/// The first buildpack that fails ends the phase.
pub fn build(
    inputs: &BuildInputs<'_>,
    executor: &dyn Executor,
    events: &dyn Events,
) -> Result<Built, BuildError> {
    let mut env = Env::for_build(inputs.base_env.clone());
    inputs.extended_env.iter().for_each(|(name, value)| env.set(name, value));
    let mut plan = inputs.plan.clone();
    let mut built = Built::default();
    let mut processes = ProcessList::default();
    let mut build_bom = Vec::new();
    let mut sboms = Vec::new();
    for element in inputs.group {
        let asked = plan.of(Kind::Buildpack, &element.id);
        let version = element.version.as_str();
        events.event(Event::ModuleStarted { phase: Phase::Build, id: &element.id, version });
        let start = Instant::now();
        let left = module::run(inputs, element, &asked, &mut env, executor, events);
        let elapsed = start.elapsed();
        events.event(Event::ModuleEnded { phase: Phase::Build, id: &element.id, elapsed });
        let left = left.map_err(|error| error.of(&element.id))?;
        let share = left.share();
        share::check(std::iter::once((element.id.as_str(), &share)), oci::image::MAX_DOCUMENT)?;
        left.warnings.iter().for_each(|warning| events.warning(warning));
        plan.remove_met(&asked, &left.unmet);
        if let Some(warning) = processes.add(left.processes) {
            events.warning(&warning);
        }
        built.labels.extend(left.labels);
        built.slices.extend(left.slices);
        built.launch_bom.extend(left.launch_bom);
        build_bom.extend(left.build_bom);
        sboms.extend(left.sboms);
        built.modules.push(BuiltModule {
            element: element.clone(),
            layers: left.layers,
            store: left.store,
            share,
        });
    }
    (built.processes, built.default_process) = processes.finish();
    // From here on no program of a buildpack runs: what is written now stays as it is.
    check_folders(inputs)?;
    sbom::gather(inputs, &sboms, &built.launch_bom, &build_bom)?;
    if inputs.platform_api.at_least(9) {
        built.launch_bom.clear();
    }
    metadata::write(inputs, &built)?;
    Ok(built)
}

/// No buildpack may have put a symlink where this process will read a tree.
fn check_folders(inputs: &BuildInputs<'_>) -> Result<(), BuildError> {
    for element in inputs.group {
        let path = inputs.layers.host.join(cnb::launch::escape_id(&element.id));
        let meta =
            fs_err::symlink_metadata(&path).map_err(|error| BuildError::from(error).of(&element.id))?;
        if !meta.is_dir() {
            return Err(BuildError::NotAFolder { path }.of(&element.id));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
