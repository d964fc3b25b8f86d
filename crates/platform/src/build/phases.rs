//! The phases, one after another, on one bench. Not here: exporting (see [`super::export`]).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cnb::ApiVersion;
use cnb::env::EnvDir;
use cnb::image::{ImageReport, Report};
use cnb::label::{self, LayersMetadata};
use cnb::target::{Distro, TargetMetadata};
use events::{Events, Phase};
use fs_err as fs;
use layer::pack::Owner;
use layer::{CopyOptions, Root};
use lifecycle::build::{BuildInputs, Built};
use lifecycle::detect::{DetectInputs, Detected, ModuleDir};
use lifecycle::export::Exported;
use lifecycle::{Place, restore};
use oci::{Image, ImageName};
use sandbox::{GuestMount, Ids, Network};

use super::bench::{Bench, Layered};
use super::guest::{Guest, Renames};
use super::kept::Kept;
use super::outcome::{LayerReport, LayerState, Outcome};
use super::request::{BuildRequest, RestoreMode};
use super::resolve::{self, Resolved, RunImageChoice};
use super::{BuildError, Clock, export, sbom};
use crate::builder::Builder;
use crate::passwd::User;
use crate::selection::Selected;

/// The newest Platform API: both sides of it are ours.
pub(super) const PLATFORM_API: ApiVersion = ApiVersion::new(0, 15);
const LAYERS: &str = "/layers";
const PLATFORM: &str = "/platform";
const BUILDPACKS: &str = "/cnb/buildpacks";
const BUILD_CONFIG: &str = "cnb/build-config";
/// What sandboxes are called.
const HOSTNAME: &str = "pannier";
const PLANS: &str = "/cnb/plans";
/// `bin/detect` programs that run at once: they mostly wait for the disk and for each other's shells.
const DETECTS: usize = 8;
/// Files for the user are the user's: this process is uid 0 in its namespace.
const OURS: Owner = Owner::Ids { uid: 0, gid: 0 };

/// Everything that the phases share.
pub(super) struct Run<'a> {
    pub request: &'a BuildRequest,
    pub resolved: Resolved,
    pub builder: Builder,
    pub run_image: RunImageChoice,
    target: TargetMetadata,
    pub uid: u32,
    pub gid: u32,
    pub bench: Bench,
    pub kept: Kept,
    pub app: Place,
    pub layers: Place,
    platform: PathBuf,
    plans: Place,
    base_env: BTreeMap<OsString, OsString>,
    platform_env: EnvDir,
    /// Of the last buildpack.
    renames: Renames,
    /// Some of the lowers are in its folder, so it goes after the bench and its mounts.
    _selected: Selected,
    pub events: &'a dyn Events,
}

pub(super) fn run(
    request: &BuildRequest,
    resolved: Resolved,
    clock: &mut Clock<'_>,
) -> Result<Outcome, BuildError> {
    let events = clock.events;
    let mut run = clock.phase(Phase::Analyze, || Run::prepare(request, resolved, events))?;
    let detected = clock.phase(Phase::Detect, || run.detect())?;
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
    run.kept.look(&built.modules)?;
    let exported = clock.phase(Phase::Export, || export::export(&run, &detected, &built))?;
    run.reports(&exported)?;
    clock.phase(Phase::Cache, || {
        run.keep(&built, &exported);
        Ok::<_, BuildError>(())
    })?;
    Ok(run.outcome(&exported, &built, std::mem::take(&mut clock.times)))
}

impl<'a> Run<'a> {
    /// Sets the bench up: the app's copy, the layers folder, what `/platform` shows.
    fn prepare(
        request: &'a BuildRequest,
        mut resolved: Resolved,
        events: &'a dyn Events,
    ) -> Result<Self, BuildError> {
        let scratch = request.store.scratch_dir()?.to_owned();
        // Read through an overlay of its own: what the builder's files say is a matter of all its layers.
        let mut bench = Bench::new(&scratch, None)?;
        let view = Root::open(bench.overlay("builder", resolved.lowers.clone())?.merged)?;
        let mut builder = Builder::read(&resolved.builder, &view)?;
        let selected = super::select::select(request, &mut resolved, &mut builder, &view, events)?;
        let run_image = resolve::run_image(request, &resolved.builder_name, &builder.run_images, events)?;
        let target = target(&run_image.image);
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
            uid,
            gid,
            bench,
            kept,
            app,
            layers,
            platform,
            plans,
            base_env,
            platform_env,
            renames: Renames::default(),
            _selected: selected,
            events,
        })
    }

    /// A root file system of the builder, fresh but for what this build adds, and what is mounted in it.
    fn guest(&mut self, name: &str, app: &Path) -> Result<Guest, BuildError> {
        let root = self.bench.overlay(name, self.resolved.lowers.clone())?;
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
        let network = if self.request.network { Network::Host } else { Network::None };
        Ok(Guest {
            root: root.merged,
            mounts,
            uid: self.uid,
            gid: self.gid,
            network,
            watch: None,
            renames: Arc::default(),
        })
    }

    fn detect(&mut self) -> Result<Detected, BuildError> {
        let app = self.bench.overlay("detect-app", vec![self.app.host.clone()])?;
        let guest = self.guest("detect-root", &app.merged)?;
        let root = Root::open(&guest.root)?;
        let build_config = build_config(&root)?;
        let buildpacks = root.subdir("cnb/buildpacks")?;
        let inputs = DetectInputs {
            order: &self.builder.order,
            system: (!self.request.disable_system_buildpacks).then_some(&self.builder.system),
            platform_api: PLATFORM_API,
            buildpacks: ModuleDir { root: &buildpacks, guest: PathBuf::from(BUILDPACKS) },
            extensions: None,
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
        self.warn_of_writes(&app)?;
        self.bench.unmount("detect-app")?;
        self.bench.unmount("detect-root")?;
        Ok(detected)
    }

    /// What `bin/detect` wrote to the app was thrown away: say so, because it looks as if it had worked.
    fn warn_of_writes(&self, app: &Layered) -> Result<(), BuildError> {
        let written = Root::open(&app.upper)?.read_dir("")?;
        if let Some(first) = written.first() {
            let path = self.app.guest.join(&first.name);
            self.events.warning(&format!(
                "what buildpacks wrote to the app during detection is gone: {} and {} more",
                path.display(),
                written.len() - 1
            ));
        }
        Ok(())
    }

    fn restore(&mut self, detected: &Detected, mode: RestoreMode) -> Result<(), BuildError> {
        let empty = LayersMetadata::default();
        let previous = self.resolved.previous.as_ref();
        let app = previous.map_or(&empty, |(_, label)| label);
        let skip = self.request.clear_cache;
        let cache = self.kept.metadata();
        let plan = restore::plan(PLATFORM_API, &detected.group.group, app, &cache, skip, self.events);
        self.layers.host = self.kept.restore(&plan, mode, &mut self.bench, self.events)?;
        let mut sboms = Vec::new();
        if plan.modules.iter().any(|module| !module.layers.is_empty()) {
            sboms = self.kept.sboms(self.events);
            if let Some((image, label)) = previous {
                sboms.extend(sbom::of_previous(image, label, &self.bench, self.events)?);
            }
        }
        restore::write(&plan, &sboms, &self.layers, self.bench.owner())?;
        Ok(())
    }

    /// The folder that a buildpack could not rename, as a message calls it, when it failed where a copy may help.
    fn needs_copy(&self, error: &BuildError) -> Option<String> {
        let BuildError::Build(lifecycle::build::BuildError::Failed { tail, .. }) = error else {
            return None;
        };
        if self.request.restore != RestoreMode::Auto || self.kept.watch(&self.layers).is_none() {
            return None;
        }
        match &self.renames {
            Renames::Refused(path) => Some(format!("the restored folder {}", path.display())),
            Renames::Done => None,
            // Where the kernel lets nobody look, what the buildpack said has to do.
            Renames::Unwatched => {
                let tail = tail.to_lowercase();
                let said = ["cross-device", "exdev", "os error 18"].iter().any(|text| tail.contains(text));
                said.then(|| "a restored folder".to_owned())
            }
        }
    }

    /// Makes the bench what it was before the first buildpack ran, with copies of cached layers.
    fn start_over(&mut self, detected: &Detected) -> Result<(), BuildError> {
        self.bench.unmount("build-root")?;
        self.bench.unmount("layers")?;
        sandbox::remove_tree(&self.app.host)?;
        self.bench.guest_folder("app", 0o777)?;
        copy_app(&self.resolved, &self.app.host, self.bench.owner())?;
        self.restore(detected, RestoreMode::Copy)
    }

    /// Keeps layers for the next build. A failure costs time then, not this image now.
    fn keep(&mut self, built: &Built, exported: &Exported) {
        if let Err(error) = self.try_keep(built, exported) {
            self.events.warning(&format!("layers are not kept for the next build: {error}"));
        }
    }

    fn try_keep(&mut self, built: &Built, exported: &Exported) -> Result<(), BuildError> {
        let (request, ids) = (self.request, export::layer_ids(self));
        let sbom = self.cached_sbom()?;
        self.kept.pack(request, &built.modules, &self.layers, ids)?;
        self.bench.unmount("layers")?;
        let dir = sbom.as_ref().map(|place| place.host.as_path());
        self.kept.keep(&built.modules, exported, dir)?;
        self.kept.push(request, exported, sbom.as_ref(), ids, self.events)
    }

    /// SBOM files of cached layers, copied to where the cache can take them from.
    fn cached_sbom(&self) -> Result<Option<Place>, BuildError> {
        let from = self.layers.host.join("sbom/cache");
        if !from.is_dir() {
            return Ok(None);
        }
        self.bench.folder("kept/layers/sbom")?;
        let place = Place::new(self.bench.path("kept/layers/sbom/cache"), "/layers/sbom/cache");
        layer::copy_tree(&from, &place.host, &CopyOptions { owner: OURS, ..CopyOptions::default() })?;
        Ok(Some(place))
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
        let build_config = build_config(&root)?;
        let buildpacks = root.subdir("cnb/buildpacks")?;
        let inputs = self.build_inputs(detected, &buildpacks, build_config.as_ref());
        let built = lifecycle::build::build(&inputs, &guest, self.events);
        self.renames = guest.renames();
        let built = built.map_err(|source| {
            // Looked at now: what takes the space goes with the bench.
            match matches!(source, lifecycle::build::BuildError::Failed { .. }) && self.bench.is_full() {
                true => BuildError::FullDisk { store: self.request.store.dir().to_owned(), source },
                false => BuildError::Build(source),
            }
        })?;
        self.bench.unmount(name)?;
        Ok(built)
    }

    /// Writes `report.toml` and SBOM files where they were asked for.
    fn reports(&self, exported: &Exported) -> Result<(), BuildError> {
        if let Some(dir) = &self.request.report_output_dir {
            let pushed = resolve::registry_of(&self.request.destination).is_some();
            let image = ImageReport {
                tags: self.names().collect(),
                image_id: if pushed { String::new() } else { exported.image.id().to_string() },
                digest: if pushed { exported.image.digest().to_string() } else { String::new() },
                manifest_size: if pushed { exported.image.manifest_bytes.len() as i64 } else { 0 },
            };
            fs::create_dir_all(dir)?;
            fs::write(dir.join("report.toml"), Report { image, ..Report::default() }.to_toml())?;
        }
        if let Some(dir) = &self.request.sbom_output_dir {
            fs::create_dir_all(dir)?;
            let sbom = self.layers.host.join("sbom");
            if sbom.is_dir() {
                let dest = dir.join("sbom");
                // A copy of before would mix with this one.
                if dest.exists() {
                    fs::remove_dir_all(&dest)?;
                }
                layer::copy_tree(&sbom, &dest, &CopyOptions { owner: OURS, ..CopyOptions::default() })?;
            }
        }
        Ok(())
    }

    fn names(&self) -> impl Iterator<Item = String> {
        std::iter::once(&self.request.destination).chain(&self.request.tags).map(ImageName::to_string)
    }

    fn outcome(
        &self,
        exported: &Exported,
        built: &Built,
        times: Vec<(Phase, std::time::Duration)>,
    ) -> Outcome {
        let base = self.run_image.image.layers().iter().map(|layer| LayerReport {
            name: "run image".to_owned(),
            size: layer.descriptor.size,
            state: LayerState::Base,
        });
        let new = exported.layers.iter().map(|it| LayerReport {
            name: it.id.clone(),
            size: it.layer.descriptor.size,
            state: if it.reused { LayerState::Reused } else { LayerState::New },
        });
        Outcome {
            names: self.names().collect(),
            digest: exported.image.digest(),
            id: exported.image.id(),
            layers: base.chain(new).collect(),
            processes: built.processes.iter().map(|process| process.r#type.clone()).collect(),
            default_process: exported.default_process.clone(),
            times,
        }
    }
}

fn copy_app(resolved: &Resolved, dest: &Path, owner: Option<(u32, u32)>) -> Result<(), BuildError> {
    let filter = &resolved.project.filter;
    Ok(resolved.source.copy_to(dest, owner, &|path, is_dir| filter.keep(path, is_dir))?)
}

/// What the run image says of itself.
fn target(run_image: &Image) -> TargetMetadata {
    let config = &run_image.config;
    let label = |key| config.label(key).unwrap_or_default().to_owned();
    let distro = Distro { name: label(label::BASE_DISTRO_NAME), version: label(label::BASE_DISTRO_VERSION) };
    TargetMetadata {
        id: label(label::BASE_ID),
        os: config.os.clone(),
        arch: config.architecture.clone(),
        variant: config.variant.clone().unwrap_or_default(),
        distro: (!distro.name.is_empty()).then_some(distro),
    }
}

/// The variables of ours that buildpacks see too, in both cases.
const PROXIES: [&str; 6] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"];

/// The environment of the builder's containers: its configuration, what a container engine adds, and our proxies.
fn base_env(builder: &Image, user: &User, request: &BuildRequest) -> BTreeMap<OsString, OsString> {
    let vars = builder.config.config.env.iter().filter_map(|entry| entry.split_once('='));
    let mut env: BTreeMap<OsString, OsString> =
        vars.map(|(name, value)| (name.into(), value.into())).collect();
    let home = user.home.clone().unwrap_or_else(|| PathBuf::from("/"));
    env.entry("HOME".into()).or_insert_with(|| home.into_os_string());
    env.entry("HOSTNAME".into()).or_insert_with(|| HOSTNAME.into());
    let proxies = PROXIES.iter().filter_map(|name| Some(((*name).into(), (request.host_env.0)(name)?)));
    env.extend(proxies);
    env
}

fn build_config(root: &Root) -> Result<Option<EnvDir>, BuildError> {
    let dir = Path::new(BUILD_CONFIG).join("env");
    if !root.is_dir(&dir) {
        return Ok(None);
    }
    Ok(Some(lifecycle::env_dir::read(root, &dir)?))
}

fn write_env(dir: &Path, env: &crate::env_file::Variables) -> Result<(), BuildError> {
    use std::os::unix::ffi::OsStrExt as _;
    for (name, value) in env {
        fs::write(dir.join(name), value.as_bytes())?;
    }
    Ok(())
}
