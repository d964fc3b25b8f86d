//! One buildpack: its environment, its program, and what it left.

use std::io::{self, Write as _};
use std::path::Path;

use cnb::ParseError;
use cnb::descriptor::ModuleDescriptor;
use cnb::env::{Env, EnvDir, RootDir, Scope};
use cnb::group::{GroupElement, Kind};
use cnb::launch::Process;
use cnb::layer::{LayerToml, LayerTypes, Store, matches_exec_env};
use cnb::output::{BomEntry, BuildToml, Label, LaunchToml, Slice};
use cnb::plan::{BuildpackPlan, Unmet};
use events::{Events, Phase};
use fs_err as fs;
use layer::{Kind as FileKind, Root};

use super::sbom::{self, SbomFile};
use super::{BuildError, BuildInputs, BuiltLayer};
use crate::env_dir;
use crate::executor::{Executor, Invocation, Place};
use crate::files::{DESCRIPTOR_LIMIT, create_new, read_optional};
use crate::module_env::ModuleEnv;
use crate::program::{self, Failure};
use crate::share::Share;

/// What one buildpack left.
#[derive(Debug, Default)]
pub(super) struct Left {
    pub layers: Vec<BuiltLayer>,
    pub store: Option<Store>,
    pub processes: Vec<Process>,
    pub labels: Vec<Label>,
    pub slices: Vec<Slice>,
    pub unmet: Vec<Unmet>,
    pub launch_bom: Vec<BomEntry>,
    pub build_bom: Vec<BomEntry>,
    pub sboms: Vec<SbomFile>,
    pub warnings: Vec<String>,
}

impl Left {
    /// What it adds to the documents of the image.
    pub fn share(&self) -> Share {
        Share::of(&self.layers, self.store.as_ref(), &self.processes, &self.labels, &self.slices)
    }
}

/// Runs one buildpack, and adds what its layers bring to the environment of the next.
pub(super) fn run(
    inputs: &BuildInputs<'_>,
    element: &GroupElement,
    asked: &BuildpackPlan,
    env: &mut Env,
    executor: &dyn Executor,
    events: &dyn Events,
) -> Result<Left, BuildError> {
    let escaped = cnb::launch::escape_id(&element.id);
    let dir = Path::new(&escaped).join(&element.version);
    let parse = |source| BuildError::Parse { id: element.id.clone(), source };
    let text = inputs.buildpacks.read_to_string(dir.join("buildpack.toml"), DESCRIPTOR_LIMIT)?;
    let module = element.module(Kind::Buildpack);
    let descriptor = ModuleDescriptor::parse_named(&module, "buildpack.toml", &text).map_err(parse)?;
    let layers = prepare(inputs, &escaped)?;
    let plan = inputs.plans.join(format!("{escaped}.toml"));
    create_new(&plan.host)?.write_all(asked.to_toml().as_bytes())?;
    inputs.give(&plan.host)?;
    let invocation =
        invocation(inputs, &descriptor, &inputs.buildpacks_guest.join(&dir), &layers, &plan, env);
    execute(element, &invocation, executor, events)?;
    let knows = inputs.platform_api.at_least(15) && descriptor.api.at_least(12);
    read(element, &descriptor, asked, &layers, knows.then_some(inputs.exec_env), env)
        .map_err(|error| error.left_by(&element.id, &layers))
}

/// Makes the buildpack's layers folder.
fn prepare(inputs: &BuildInputs<'_>, escaped: &str) -> Result<Place, BuildError> {
    let layers = inputs.layers.join(escaped);
    match fs::create_dir(&layers.host) {
        Ok(()) => inputs.give(&layers.host)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if !fs::symlink_metadata(&layers.host)?.is_dir() {
                return Err(BuildError::NotAFolder { path: layers.host });
            }
        }
        Err(error) => return Err(error.into()),
    }
    Ok(layers)
}

fn invocation(
    inputs: &BuildInputs<'_>,
    descriptor: &ModuleDescriptor,
    dir: &Path,
    layers: &Place,
    plan: &Place,
    env: &Env,
) -> Invocation {
    let shared = ModuleEnv {
        platform_env: inputs.platform_env,
        build_config_env: inputs.build_config_env,
        platform: &inputs.platform,
        target: inputs.target,
        exec_env: inputs.exec_env,
    };
    let mut env = shared.of(env, descriptor, dir);
    if descriptor.api.at_least(8) {
        env.set("CNB_BP_PLAN_PATH", &plan.guest);
        env.set("CNB_LAYERS_DIR", &layers.guest);
    }
    Invocation {
        program: dir.join("bin/build"),
        args: [&layers.guest, &inputs.platform, &plan.guest].map(|path| path.as_os_str().to_owned()).into(),
        env: env.into_vars(),
        cwd: inputs.app.clone(),
    }
}

fn execute(
    element: &GroupElement,
    invocation: &Invocation,
    executor: &dyn Executor,
    events: &dyn Events,
) -> Result<(), BuildError> {
    let result = program::run(Phase::Build, invocation, executor, events)
        .map_err(|source| BuildError::Exec { id: element.id.clone(), source })?;
    result.map_err(|Failure { exit, tail }| BuildError::Failed {
        id: element.id.clone(),
        version: element.version.clone(),
        exit,
        tail,
    })
}

/// Reads what the buildpack left.
fn read(
    element: &GroupElement,
    descriptor: &ModuleDescriptor,
    asked: &BuildpackPlan,
    place: &Place,
    exec_env: Option<&str>,
    env: &mut Env,
) -> Result<Left, BuildError> {
    let parse = |source| BuildError::Parse { id: element.id.clone(), source };
    if !fs::symlink_metadata(&place.host)?.is_dir() {
        return Err(BuildError::NotAFolder { path: place.host.clone() });
    }
    let root = Root::beneath(&place.host)?;
    let shown = |name: &str| place.guest.join(name).display().to_string();
    let mut left =
        Left { layers: layers(&root, &shown).map_err(|e| e.into_build(element))?, ..Left::default() };
    for layer in &mut left.layers {
        // It can be kept for a build that it is for.
        if exec_env.is_some_and(|exec_env| !matches_exec_env(layer.toml.metadata.as_ref(), exec_env)) {
            layer.toml.types = LayerTypes { cache: layer.toml.types.cache, ..LayerTypes::default() };
        }
    }
    for layer in left.layers.iter().filter(|layer| layer.has_contents) {
        if layer.toml.types.build {
            add_to_env(env, &root, place, &layer.name, &element.id)?;
        }
        if layer.toml.types.launch {
            check_launch_env(&root, place, &layer.name, &element.id)?;
        }
    }
    if let Some(text) = read_optional(&root, "build.toml")? {
        let toml = BuildToml::parse(&shown("build.toml"), &text, asked, element).map_err(parse)?;
        (left.unmet, left.build_bom) = (toml.unmet, toml.bom);
    }
    if let Some(text) = read_optional(&root, "launch.toml")? {
        let toml = LaunchToml::parse(&shown("launch.toml"), &text, descriptor.api, element).map_err(parse)?;
        left.processes = toml.processes;
        left.labels = toml.labels;
        left.slices = toml.slices;
        left.launch_bom = toml.bom;
        left.warnings.extend(toml.warnings.into_iter().map(|warning| format!("{}: {warning}", element.id)));
    }
    if let Some(text) = read_optional(&root, "store.toml")? {
        left.store = Some(Store::parse(&shown("store.toml"), &text).map_err(parse)?);
    }
    left.sboms = sbom::find(element, descriptor, &root, &left.layers)?;
    // A layer that nobody asked to keep or to use is gone for everyone who comes after. Where its folder came
    // back from the cache, an overlay cannot rename it; nothing below looks at it either way.
    for layer in left.layers.iter().filter(|layer| layer.toml.types.is_ignored() && layer.has_contents) {
        let _ = fs::rename(place.host.join(&layer.name), place.host.join(format!("{}.ignore", layer.name)));
    }
    left.layers.retain(|layer| !layer.toml.types.is_ignored());
    Ok(left)
}

/// A file of a layer is invalid, or cannot be read.
pub(crate) enum LayersError {
    Parse(ParseError),
    Path(layer::PathError),
}

impl LayersError {
    fn into_build(self, element: &GroupElement) -> BuildError {
        match self {
            Self::Parse(source) => BuildError::Parse { id: element.id.clone(), source },
            Self::Path(source) => BuildError::Path(source),
        }
    }
}

/// The layers that `<layer>.toml` files in a buildpack's layers folder speak of, sorted by name.
fn layers(root: &Root, shown: &dyn Fn(&str) -> String) -> Result<Vec<BuiltLayer>, LayersError> {
    let mut layers = Vec::new();
    for entry in root.read_dir("").map_err(LayersError::Path)? {
        let Some(file) = entry.name.to_str().filter(|_| entry.kind != FileKind::Dir) else { continue };
        let Some(name) = file.strip_suffix(".toml") else { continue };
        if matches!(name, "launch" | "build" | "store") {
            continue;
        }
        // The name becomes a path: it must not mean the folder of all layers, or the one above it.
        if matches!(name, "" | "." | "..") || name.contains(char::is_control) {
            let message = format!("'{}' can not be the name of a layer", name.escape_debug());
            return Err(LayersError::Parse(ParseError::new(shown(file), message)));
        }
        let text = root.read_to_string(file, DESCRIPTOR_LIMIT).map_err(LayersError::Path)?;
        let toml = LayerToml::parse(&shown(file), &text).map_err(LayersError::Parse)?;
        let has_contents = root.lstat(name).is_ok_and(|meta| meta.is_dir());
        layers.push(BuiltLayer { name: name.to_owned(), toml, has_contents });
    }
    layers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(layers)
}

/// What a build layer brings to the environment of the buildpacks that follow.
fn add_to_env(env: &mut Env, root: &Root, place: &Place, name: &str, id: &str) -> Result<(), BuildError> {
    let layer = Path::new(name);
    for dir in RootDir::of(Scope::Build) {
        let path = layer.join(dir.name());
        if root.is_dir(&path) {
            env.add_root_dir(Scope::Build, *dir, &place.guest.join(path));
        }
    }
    for dir in ["env", "env.build"] {
        env.add_env_dir(&read_env(root, place, &layer.join(dir), id)?);
    }
    Ok(())
}

/// The variables in a folder of a layer. One that no program could be given is refused now, with the name of who wrote
/// it: later it would be a program's that has nothing to do with it.
fn read_env(root: &Root, place: &Place, dir: &Path, id: &str) -> Result<EnvDir, BuildError> {
    let env = env_dir::read(root, dir)?;
    match env.check() {
        Ok(()) => Ok(env),
        Err(reason) => Err(BuildError::Variable { id: id.to_owned(), dir: place.guest.join(dir), reason }),
    }
}

/// Checks the variables that a layer has for the processes of the app image, which the launcher reads.
fn check_launch_env(root: &Root, place: &Place, name: &str, id: &str) -> Result<(), BuildError> {
    let layer = Path::new(name);
    for dir in ["env", "env.launch"] {
        let dir = layer.join(dir);
        if !root.is_dir(&dir) {
            continue;
        }
        read_env(root, place, &dir, id)?;
        for entry in root.read_dir(&dir)?.into_iter().filter(|entry| entry.kind == FileKind::Dir) {
            read_env(root, place, &dir.join(entry.name), id)?;
        }
    }
    Ok(())
}
