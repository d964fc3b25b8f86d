//! The phases, one after another, on one bench.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use cnb::ApiVersion;
use cnb::env::EnvDir;
use cnb::image::{ImageReport, Report};
use cnb::label::{self, CacheMetadata, LayersMetadata, ProjectMetadata, RunImageForRebase};
use cnb::metadata::LauncherMetadata;
use cnb::target::{Distro, TargetMetadata};
use events::{Events, Phase};
use fs_err as fs;
use layer::pack::{Ids as LayerIds, Owner};
use layer::{CopyOptions, Root};
use lifecycle::build::{BuildInputs, Built};
use lifecycle::detect::{DetectInputs, Detected, ModuleDir};
use lifecycle::export::{ExportInputs, Exported};
use lifecycle::{Place, restore};
use oci::{Image, ImageName, Reference};
use sandbox::{GuestMount, Ids, Network};

use super::bench::{Bench, Layered};
use super::guest::Guest;
use super::outcome::{LayerReport, LayerState, Outcome};
use super::request::BuildRequest;
use super::resolve::{self, Resolved, RunImageChoice};
use super::{BuildError, Clock, images};
use crate::builder::Builder;
use crate::passwd::User;
use crate::time;

/// The newest Platform API: both sides of it are ours.
const PLATFORM_API: ApiVersion = ApiVersion::new(0, 15);
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
/// 1980-01-01T00:00:01Z.
const DEFAULT_CREATED: u64 = 315_532_801;

/// Everything that the phases share.
struct Run<'a> {
    request: &'a BuildRequest,
    resolved: Resolved,
    builder: Builder,
    run_image: RunImageChoice,
    target: TargetMetadata,
    uid: u32,
    gid: u32,
    bench: Bench,
    app: Place,
    layers: Place,
    platform: PathBuf,
    plans: Place,
    base_env: BTreeMap<OsString, OsString>,
    platform_env: EnvDir,
    events: &'a dyn Events,
}

pub(super) fn run(
    request: &BuildRequest,
    resolved: Resolved,
    clock: &mut Clock<'_>,
) -> Result<Outcome, BuildError> {
    let events = clock.events;
    let mut run = clock.phase(Phase::Analyze, || Run::prepare(request, resolved, events))?;
    let detected = clock.phase(Phase::Detect, || run.detect())?;
    let plan = clock.phase(Phase::Restore, || run.restore(&detected))?;
    let built = clock.phase(Phase::Build, || run.build(&detected))?;
    let exported = clock.phase(Phase::Export, || run.export(&detected, &built))?;
    let _ = plan;
    run.reports(&exported)?;
    Ok(run.outcome(&exported, &built, std::mem::take(&mut clock.times)))
}

impl<'a> Run<'a> {
    /// Sets the bench up: the app's copy, the layers folder, what `/platform` shows.
    fn prepare(
        request: &'a BuildRequest,
        resolved: Resolved,
        events: &'a dyn Events,
    ) -> Result<Self, BuildError> {
        let scratch = request.store.scratch_dir()?.to_owned();
        // Read through an overlay of its own: what the builder's files say is a matter of all its layers.
        let mut bench = Bench::new(&scratch, None)?;
        let view = Root::open(bench.overlay("builder", resolved.lowers.clone())?.merged)?;
        let builder = Builder::read(&resolved.builder, &view)?;
        let run_image = resolve::run_image(request, &resolved.builder_name, &builder.run_images, events)?;
        let target = target(&run_image.image);
        let (uid, gid) = (request.uid.unwrap_or(builder.uid), request.gid.unwrap_or(builder.gid));
        // With one id only, all files are this process's, and the sandbox shows them as the buildpacks'.
        let owner = (request.ids != Ids::Single).then_some((uid, gid));
        bench.set_owner(owner);
        let app = Place::new(bench.guest_folder("app", 0o777)?, Path::new("/").join(&request.workspace));
        let filter = &resolved.project.filter;
        resolved.source.copy_to(&app.host, owner, &|path, is_dir| filter.keep(path, is_dir))?;
        let layers = Place::new(bench.path("layers"), LAYERS);
        let plans = Place::new(bench.guest_folder("plans", 0o755)?, PLANS);
        let platform = bench.folder("platform")?;
        write_env(&bench.folder("platform/env")?, &resolved.env)?;
        let platform_env = resolved.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let base_env = base_env(&resolved.builder, &User::with_id(&view, uid)?);
        Ok(Self {
            request,
            resolved,
            builder,
            run_image,
            target,
            uid,
            gid,
            bench,
            app,
            layers,
            platform,
            plans,
            base_env,
            platform_env,
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
        Ok(Guest { root: root.merged, mounts, uid: self.uid, gid: self.gid, network })
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

    fn restore(&mut self, detected: &Detected) -> Result<restore::RestorePlan, BuildError> {
        let empty = LayersMetadata::default();
        let app = self.resolved.previous.as_ref().map_or(&empty, |(_, label)| label);
        let cache = CacheMetadata::default();
        let skip = self.request.clear_cache;
        let plan = restore::plan(PLATFORM_API, &detected.group.group, app, &cache, skip, self.events);
        self.bench.guest_folder("layers", 0o755)?;
        restore::write(&plan, &[], &self.layers, self.bench.owner())?;
        Ok(plan)
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

    fn build(&mut self, detected: &Detected) -> Result<Built, BuildError> {
        let app = self.app.host.clone();
        let mut guest = self.guest("build-root", &app)?;
        guest.mounts.insert(0, GuestMount::bind(&self.layers.host, LAYERS));
        let root = Root::open(&guest.root)?;
        let build_config = build_config(&root)?;
        let buildpacks = root.subdir("cnb/buildpacks")?;
        let inputs = self.build_inputs(detected, &buildpacks, build_config.as_ref());
        let built = lifecycle::build::build(&inputs, &guest, self.events)?;
        self.bench.unmount("build-root")?;
        Ok(built)
    }

    fn export(&self, detected: &Detected, built: &Built) -> Result<Exported, BuildError> {
        let request = self.request;
        let launcher = self.bench.path("launcher");
        fs::write(&launcher, embedded::launcher())?;
        let run_image = &self.run_image;
        let ids = LayerIds {
            tree: Owner::Ids { uid: self.uid, gid: self.gid },
            parents: match request.ids {
                Ids::Single => Owner::Ids { uid: self.uid, gid: self.gid },
                Ids::Host | Ids::Ranges => Owner::AsOnDisk,
            },
        };
        let metadata = built.metadata(&detected.group.group, &detected.group.group_extensions);
        let project = project_metadata(&self.resolved);
        let inputs = ExportInputs {
            platform_api: PLATFORM_API,
            modules: &built.modules,
            metadata: &metadata,
            layers: &self.layers,
            app: &self.app,
            ids,
            run_image: &run_image.image,
            run_image_for_rebase: RunImageForRebase {
                top_layer: String::new(),
                reference: images::reference_of(&run_image.name, &run_image.image),
                image: run_image.entry.image.clone(),
                mirrors: run_image.entry.mirrors.clone(),
            },
            previous: self.resolved.previous.as_ref().map(|(image, label)| (image, label)),
            launcher: &launcher,
            launcher_metadata: LauncherMetadata {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..LauncherMetadata::default()
            },
            project: &project,
            exec_env: &request.exec_env,
            default_process: request.default_process.as_deref(),
            created: time::rfc3339(request.created.unwrap_or(DEFAULT_CREATED)),
            compression: request.compression,
            store: &request.store,
            unchanged: &|_, _| None,
        };
        let failed = |source| BuildError::Sink { name: request.destination.to_string(), source };
        let Some(reference) = resolve::registry_of(&request.destination) else {
            let exported = lifecycle::export::export(&inputs, &|_| (), self.events)?;
            let sinks = oci::Sinks { store: request.store.clone(), client: (*request.client).clone() };
            let names: Vec<Reference> =
                request.tags.iter().filter_map(|tag| tag.reference().cloned()).collect();
            sinks.write(&exported.image, &request.destination, &names, self.events).map_err(failed)?;
            return Ok(exported);
        };
        // Layers are on their way while later ones are still being made.
        std::thread::scope(|scope| {
            let push = oci::sink::Push::start(scope, &request.client, reference, self.events);
            let exported = lifecycle::export::export(&inputs, &|layer| push.add(layer), self.events)?;
            let tags: Vec<Reference> = std::iter::once(reference)
                .chain(request.tags.iter().filter_map(resolve::registry_of))
                .cloned()
                .collect();
            push.finish(&exported.image, &tags).map_err(failed)?;
            Ok(exported)
        })
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

/// The environment of the builder's containers: its configuration, and what a container engine adds.
fn base_env(builder: &Image, user: &User) -> BTreeMap<OsString, OsString> {
    let vars = builder.config.config.env.iter().filter_map(|entry| entry.split_once('='));
    let mut env: BTreeMap<OsString, OsString> =
        vars.map(|(name, value)| (name.into(), value.into())).collect();
    let home = user.home.clone().unwrap_or_else(|| PathBuf::from("/"));
    env.entry("HOME".into()).or_insert_with(|| home.into_os_string());
    env.entry("HOSTNAME".into()).or_insert_with(|| HOSTNAME.into());
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

fn project_metadata(resolved: &Resolved) -> ProjectMetadata {
    let source = resolved.project.source_metadata().map(|source| serde_json::json!({ "source": source }));
    source.and_then(|json| serde_json::from_value(json).ok()).unwrap_or_default()
}
