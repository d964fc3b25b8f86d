//! The phases, one after another, on one bench. Not here: detection, restoring, exporting, which have files of their own.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use cnb::ApiVersion;
use cnb::env::EnvDir;
use cnb::label;
use cnb::target::{Distro, TargetMetadata};
use events::{Events, Phase};
use layer::pack::Owner;
use layer::{Root, SpaceWatch};
use lifecycle::Place;
use lifecycle::build::{BuildInputs, Built};
use lifecycle::detect::Detected;
use lifecycle::export::ExtendedRunImage;
use oci::Image;
use sandbox::{GuestMount, Ids, Network};

use super::bench::Bench;
use super::environment::{base_env, build_config, write_env};
use super::generate::{GENERATED, in_root};
use super::guest::{Guest, Renames, Writes};
use super::kept::Kept;
use super::outcome::Outcome;
use super::packages::Sboms;
use super::places::Places;
use super::request::{BuildRequest, RestoreMode};
use super::resolve::{self, Resolved, RunImageChoice};
use super::{BuildError, Clock, export};
use crate::builder::Builder;
use crate::selection::Selected;
use oci::passwd::User;

/// The newest Platform API: both sides of it are ours.
pub(super) const PLATFORM_API: ApiVersion = ApiVersion::new(0, 15);
pub(super) const LAYERS: &str = "/layers";
pub(super) const PLATFORM: &str = "/platform";
pub(super) const BUILDPACKS: &str = "/cnb/buildpacks";
pub(super) const EXTENSIONS: &str = "/cnb/extensions";
const PLANS: &str = "/cnb/plans";
const CNB: &str = "/cnb";
/// Where every program may leave something for those after it; besides its home.
const SHARED: [&str; 2] = ["/tmp", "/var/tmp"];
/// What has the programs and settings of a system, and no user's home.
const SYSTEM: [&str; 13] =
    ["bin", "boot", "cnb", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "sys", "usr"];
/// The largest `/etc/os-release` that is read, in bytes.
const OS_RELEASE_LIMIT: u64 = 64 << 10;
/// Files for the user are the user's: this process is uid 0 in its namespace.
pub(super) const OURS: Owner = Owner::Ids { uid: 0, gid: 0 };

/// Everything that the phases share.
pub(super) struct Run<'a> {
    pub request: &'a BuildRequest,
    pub resolved: Resolved,
    pub builder: Builder,
    pub run_image: RunImageChoice,
    pub target: TargetMetadata,
    /// What the build image's own files say, for run images that say nothing.
    pub build_distro: Option<Distro>,
    pub uid: u32,
    pub gid: u32,
    pub bench: Bench,
    /// What extensions made of the run image, where they changed it.
    pub extended: Option<ExtendedRunImage>,
    /// Which packages they installed in it.
    pub extension_sboms: Sboms,
    pub kept: Kept,
    pub app: Place,
    pub layers: Place,
    platform: PathBuf,
    pub plans: Place,
    pub base_env: BTreeMap<OsString, OsString>,
    /// What Dockerfiles of extensions set in the build image.
    pub extended_env: BTreeMap<OsString, OsString>,
    pub platform_env: EnvDir,
    /// Of the last buildpack.
    pub renames: Renames,
    /// Some of the lowers are in its folder, so it goes after the bench and its mounts.
    pub selected: Selected,
    pub events: &'a dyn Events,
}

pub(super) fn run(
    request: &BuildRequest,
    resolved: Resolved,
    clock: &mut Clock<'_>,
) -> Result<Outcome, BuildError> {
    let events = clock.events;
    let mut run = clock.phase(Phase::Analyze, || Run::prepare(request, resolved, events))?;
    let watch = SpaceWatch::start(request.store.dir());
    let outcome = all(&mut run, clock);
    outcome.map_err(|error| run.places().tell(error.for_want_of_space(&watch)))
}

/// The phases after the first.
fn all(run: &mut Run<'_>, clock: &mut Clock<'_>) -> Result<Outcome, BuildError> {
    let (request, events) = (run.request, run.events);
    let mut detected = clock.phase(Phase::Detect, || run.detect())?;
    if !detected.group.group_extensions.is_empty() {
        let generated = clock.phase(Phase::Generate, || run.generate(&detected))?;
        detected.plan = generated.plan.clone();
        run.switch_run_image(&generated)?;
        if generated.extend_build || generated.extend_run {
            clock.phase(Phase::Extend, || run.extend(&generated))?;
        }
    }
    clock.phase(Phase::Restore, || run.restore(&detected, request.restore))?;
    let mut built = clock.phase(Phase::Build, || run.build(&detected, "build-root"));
    if let Err(error) = &built
        && let Some(folder) = run.needs_copy(error)
    {
        events.warning(&format!(
            "a buildpack could not rename {folder}, which an overlay does not allow: \
             building again on a copy (--restore copy does so from the start)",
        ));
        clock.phase(Phase::Restore, || run.start_over(&detected))?;
        built = clock.phase(Phase::Build, || run.build(&detected, "second-build-root"));
    }
    let built = built?;
    run.extension_sboms.write(&run.layers.host, &run.bench)?;
    run.kept.look(&built.modules)?;
    let exported = clock.phase(Phase::Export, || export::export(run, &detected, &built))?;
    run.reports(&exported)?;
    clock.phase(Phase::Cache, || {
        run.keep(&built, &exported);
        Ok::<_, BuildError>(())
    })?;
    Ok(run.outcome(&exported, &built, std::mem::take(&mut clock.times)))
}

impl<'a> Run<'a> {
    /// Sets the bench up: the app's copy, the layers folder, what `/platform` shows.
    pub(super) fn prepare(
        request: &'a BuildRequest,
        mut resolved: Resolved,
        events: &'a dyn Events,
    ) -> Result<Self, BuildError> {
        // Read through an overlay of its own: what the builder's files say is a matter of all its layers.
        let mut bench = Bench::new(&request.store)?;
        let view = Root::open(bench.view("builder", resolved.lowers.clone())?)?;
        if let Some(why) = bench.why_copies() {
            events.warning(&format!(
                "files are copied for this build, which takes longer: {why} (`pannier doctor` says what to change)"
            ));
        }
        let mut builder = Builder::read(&resolved.builder, &view)?;
        let selected = super::select::select(request, &mut resolved, &mut builder, &view, events)?;
        let run_image = resolve::run_image(request, &resolved.builder_name, &builder.run_images, events)?;
        let build_distro = distro_of(&view)?;
        let target = target(&run_image.image, build_distro.as_ref());
        let (uid, gid) = (request.uid.unwrap_or(builder.uid), request.gid.unwrap_or(builder.gid));
        // With one id only, all files are this process's, and the sandbox shows them as the buildpacks'.
        let owner = (request.ids != Ids::Single).then_some((uid, gid));
        bench.set_owner(owner);
        let app = Place::new(bench.guest_folder("app", 0o777)?, Path::new("/").join(&request.workspace));
        copy_app(&resolved, &app.host, owner)?;
        // Whatever a layer's tar depends on besides its content.
        let kept = Kept::open(request, format!("{uid}:{gid} {}", request.compression), events)?;
        let layers = Place::new(bench.path("layers"), LAYERS);
        let plans = Place::new(bench.guest_folder("plans", 0o755)?, PLANS);
        let platform = bench.folder("platform")?;
        write_env(&bench.folder("platform/env")?, &resolved.env)?;
        let platform_env = resolved.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let base_env = base_env(&resolved.builder, &User::with_id(&view, uid)?, request);
        Ok(Self {
            request,
            resolved,
            builder,
            run_image,
            target,
            build_distro,
            uid,
            gid,
            bench,
            extended: None,
            extension_sboms: Sboms::default(),
            kept,
            app,
            layers,
            platform,
            plans,
            base_env,
            extended_env: BTreeMap::new(),
            platform_env,
            renames: Renames::default(),
            selected,
            events,
        })
    }

    /// What folders of the bench are called in sandboxes.
    pub(super) fn places(&self) -> Places {
        let mut places = Places::default();
        for layers in self.kept.folders().iter().chain([&self.layers.host]) {
            places.add(layers, Path::new(LAYERS));
        }
        let bench = |name: &str| self.bench.path(name);
        for app in [self.app.host.clone(), bench("detect-app"), bench("generate-app")] {
            places.add(&app, &self.app.guest);
        }
        for root in ["builder", "detect-root", "generate-root", "build-root", "second-build-root"] {
            places.add(&bench(root), Path::new("/"));
        }
        places.add(&self.platform, Path::new(PLATFORM));
        places.add(&self.plans.host, Path::new(PLANS));
        places.add(&bench("generated"), Path::new(GENERATED));
        places.add(&bench("kept/layers"), Path::new(LAYERS));
        places
    }

    /// A root file system of the builder, fresh but for what this build adds, and what is mounted in it.
    pub(super) fn guest(&mut self, name: &str, app: &Path) -> Result<Guest, BuildError> {
        let root = self.bench.derive(name, self.resolved.lowers.clone())?;
        let writes = self.writes(name)?;
        let mut mounts = vec![
            GuestMount::bind(app, &self.app.guest),
            GuestMount::bind_read_only(&self.platform, PLATFORM),
            GuestMount::bind(&self.plans.host, PLANS),
        ];
        mounts.extend(self.request.volumes.iter().map(|volume| GuestMount::Bind {
            source: volume.host.clone(),
            target: volume.target.clone(),
            read_only: !volume.writable,
        }));
        // Last: where a volume is in it, its place can be made.
        mounts.push(GuestMount::ReadOnly { target: CNB.into() });
        let network = if self.request.network { Network::Host } else { Network::None };
        Ok(Guest {
            root: root.dir,
            writes,
            mounts,
            uid: self.uid,
            gid: self.gid,
            network,
            watch: None,
            renames: Arc::default(),
        })
    }

    /// What becomes of what buildpacks write to the builder's files.
    fn writes(&self, name: &str) -> Result<Writes, BuildError> {
        if self.request.ids != Ids::Single {
            return Ok(Writes::Kept);
        }
        let home = self.base_env.get(OsStr::new("HOME")).map(PathBuf::from).filter(|home| is_apart(home));
        let shared: Vec<_> = SHARED.iter().map(PathBuf::from).chain(home).collect();
        Ok(match self.bench.fresh(name, self.resolved.lowers.clone())? {
            Some(fresh) => Writes::Dropped(fresh, shared),
            None => Writes::Refused(shared),
        })
    }

    fn build_inputs<'b>(
        &'b self,
        detected: &'b Detected,
        buildpacks: &'b Root,
        build_config: Option<&'b EnvDir>,
    ) -> BuildInputs<'b> {
        BuildInputs {
            group: &detected.group.group,
            group_extensions: &detected.group.group_extensions,
            plan: &detected.plan,
            platform_api: PLATFORM_API,
            buildpacks,
            buildpacks_guest: PathBuf::from(BUILDPACKS),
            layers: &self.layers,
            app: self.app.guest.clone(),
            platform: PathBuf::from(PLATFORM),
            plans: &self.plans,
            base_env: self.base_env.clone(),
            extended_env: self.extended_env.clone(),
            platform_env: &self.platform_env,
            build_config_env: build_config,
            target: &self.target,
            exec_env: &self.request.exec_env,
            owner: self.bench.owner(),
        }
    }

    fn build(&mut self, detected: &Detected, name: &str) -> Result<Built, BuildError> {
        let app = self.app.host.clone();
        let mut guest = self.guest(name, &app)?;
        guest.mounts.insert(0, GuestMount::bind(&self.layers.host, LAYERS));
        if self.request.restore == RestoreMode::Auto {
            guest.watch = self.kept.watch(&self.layers);
        }
        let root = Root::open(&guest.root)?;
        let build_config = build_config(&root, &self.resolved.builder)?;
        let buildpacks = root.subdir(in_root(BUILDPACKS))?;
        let inputs = self.build_inputs(detected, &buildpacks, build_config.as_ref());
        let built = lifecycle::build::build(&inputs, &guest, self.events);
        self.renames = guest.renames();
        let built = built?;
        self.bench.unmount(name)?;
        Ok(built)
    }
}

/// Whether a home is a folder of its own, not one with a system's files.
fn is_apart(home: &Path) -> bool {
    let Ok(relative) = home.strip_prefix("/") else { return false };
    let mut names = relative.components().map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    match names.next() {
        Some(Some(top)) => !SYSTEM.iter().any(|name| top == *name) && names.all(|name| name.is_some()),
        _ => false,
    }
}

pub(super) fn copy_app(
    resolved: &Resolved,
    dest: &Path,
    owner: Option<(u32, u32)>,
) -> Result<(), BuildError> {
    let filter = &resolved.project.filter;
    Ok(resolved.source.copy_to(dest, owner, &|path, is_dir| filter.keep(path, is_dir))?)
}

/// What the run image says of itself. Of one that names no distribution it is taken to be the build image's, as the
/// reference does.
pub(super) fn target(run_image: &Image, build_distro: Option<&Distro>) -> TargetMetadata {
    let config = &run_image.config;
    let label = |key| config.label(key).unwrap_or_default().to_owned();
    let distro = Distro { name: label(label::BASE_DISTRO_NAME), version: label(label::BASE_DISTRO_VERSION) };
    TargetMetadata {
        id: label(label::BASE_ID),
        os: config.os.clone(),
        arch: config.architecture.clone(),
        variant: config.variant.clone().unwrap_or_default(),
        distro: if distro.name.is_empty() { build_distro.cloned() } else { Some(distro) },
    }
}

/// The distribution that `/etc/os-release` of the build image names.
fn distro_of(build_image: &Root) -> Result<Option<Distro>, BuildError> {
    match build_image.read_to_string("etc/os-release", OS_RELEASE_LIMIT) {
        Ok(text) => Ok(Distro::from_os_release(&text)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_among_the_systems_files_is_not_shared() {
        for home in ["/home/cnb", "/root", "/app", "/var/lib/cnb", "/users"] {
            assert!(is_apart(Path::new(home)), "{home}");
        }
        for home in ["/", "", "home", "/usr", "/usr/home/cnb", "/etc", "/cnb/home", "/home/../usr", "/.."] {
            assert!(!is_apart(Path::new(home)), "{home}");
        }
    }
}
