//! Making a builder: a build image, and on top of it the lifecycle, buildpacks, extensions and the files that say
//! how they are used, laid out as `pack builder create` lays them out.
//!
//! The same input gives the same image, byte for byte. Layers of packages are taken over as they are. One
//! platform at a time; not here: an index of several.

mod error;
mod layers;
mod lifecycle;
mod order;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use cnb::builder::{
    BUILDER_METADATA, BUILDPACK_LAYERS, BUILDPACK_ORDER, BuilderMetadata, BuilderRunImage, BuilderStack,
    CreatedBy, EXTENSION_LAYERS, EXTENSION_ORDER, ModuleEntry, ModuleLayers, SYSTEM, label_text, parse_label,
};
use cnb::descriptor::ModuleDescriptor;
use cnb::group::Kind;
use cnb::image::{RunImageMirrors, RunToml, StackToml};
use cnb::label::STACK_ID;
use events::Events;
use layer::Compression;
use oci::registry::Client;
use oci::{History, Image, ImageName, Layer, Platform, Reference, Sinks, Sources, Store};
use sandbox::Ids;

use crate::build::{PullPolicy, open_from, unpacker};
use crate::builder_toml::{BuilderToml, GroupEntry, ModuleEntry as Wanted, RunImageEntry};
use crate::locator::{Locator, LocatorError};
use crate::module::{Loader, Module, NamedBy, rebase};
use crate::time;
use crate::unavailable::Unavailable;
pub use error::CreateError;
use layers::{Layers, User};
use lifecycle::Lifecycle;

/// Where a builder has the variables that it sets, unless [`BUILD_CONFIG_VARIABLE`] says otherwise (platform.md).
pub const BUILD_CONFIG: &str = "/cnb/build-config";
/// The variable with that folder: of who makes a builder, and then of the builder's own environment.
pub const BUILD_CONFIG_VARIABLE: &str = "CNB_BUILD_CONFIG_DIR";
/// The label with the packages that a stack of old has.
const STACK_MIXINS: &str = "io.buildpacks.stack.mixins";
/// 1980-01-01T00:00:01Z.
const CREATED: u64 = 315_532_801;

/// A builder that is to be made.
#[derive(Clone, Debug)]
pub struct CreateRequest {
    /// The local store.
    pub store: Store,
    /// Which ids exist here: what [`sandbox::enter`] found.
    pub ids: Ids,
    /// How registries are spoken to.
    pub client: Arc<Client>,
    /// Where the builder goes.
    pub destination: ImageName,
    /// More names for it.
    pub tags: Vec<Reference>,
    /// What it is made from.
    pub config: BuilderToml,
    /// Labels to add.
    pub labels: Vec<(String, String)>,
    /// What it runs on; none for what the configuration says, or else this machine.
    pub platform: Option<Platform>,
    /// When to ask a registry for an image that the store has.
    pub pull_policy: PullPolicy,
    /// How new layers are compressed.
    pub compression: Compression,
    /// The folder in the builder for variables that it sets ([`BUILD_CONFIG`], else what builds find in the variable
    /// `CNB_BUILD_CONFIG_DIR`); absolute.
    pub build_config_dir: PathBuf,
    /// Who makes it, for its metadata.
    pub created_by: CreatedBy,
}

/// A builder that was made.
#[derive(Clone, Debug)]
pub struct Created {
    /// The image.
    pub image: Image,
    /// Its buildpacks and extensions as `id@version`.
    pub modules: Vec<String>,
    /// The version of the lifecycle in it.
    pub lifecycle: Option<String>,
}

/// Makes a builder, and writes it where it is to go.
///
/// # Errors
/// See [`CreateError`]. Nothing has a new name then.
pub fn create(request: &CreateRequest, events: &dyn Events) -> Result<Created, CreateError> {
    request.config.warnings.iter().for_each(|warning| events.warning(warning));
    if let ImageName::Registry(reference) = &request.destination {
        request
            .client
            .check_write(reference)
            .map_err(|error| CreateError::Write { name: reference.to_string(), source: error.into() })?;
    }
    let platform = platform(request, events)?;
    let scratch = tempfile::Builder::new().prefix("builder-").tempdir_in(request.store.scratch_dir()?)?;
    let sources = Sources { store: request.store.clone(), client: (*request.client).clone() };
    let open = |name: &ImageName| open_from(&sources, request.pull_policy, &platform, name);
    let loader = Loader {
        store: &request.store,
        client: &request.client,
        open: &open,
        platform: &platform,
        unpacker: &unpacker(request.ids),
        scratch: scratch.path(),
        pull_policy: request.pull_policy,
        events,
    };
    let created = Creator { request, loader: &loader, events }.create(&platform)?;
    let sinks = Sinks { store: request.store.clone(), client: (*request.client).clone() };
    sinks
        .write(&created.image, &request.destination, &request.tags, events)
        .map_err(|source| CreateError::Sink { name: request.destination.to_string(), source })?;
    Ok(created)
}

/// What the builder is to run on: what was asked for, else what the configuration says, else this machine.
fn platform(request: &CreateRequest, events: &dyn Events) -> Result<Platform, CreateError> {
    let host = Platform::host();
    let targets: Vec<Platform> = request
        .config
        .targets
        .iter()
        .map(|target| match target.platform.architecture.as_str() {
            "" => Platform { architecture: host.architecture.clone(), ..target.platform.clone() },
            _ => target.platform.clone(),
        })
        .collect();
    let chosen = match (&request.platform, targets.as_slice()) {
        (Some(platform), _) => return Ok(platform.clone()),
        (None, []) => return Ok(host),
        (None, [one]) => return Ok(one.clone()),
        (None, several) => several.iter().find(|target| target.accepts(&host)),
    };
    match chosen {
        Some(platform) => {
            events.info(&format!("Of the configuration's targets, making the one for {platform}"));
            Ok(platform.clone())
        }
        None => Err(CreateError::Targets { targets: targets.iter().map(ToString::to_string).collect() }),
    }
}

struct Creator<'a> {
    request: &'a CreateRequest,
    loader: &'a Loader<'a>,
    events: &'a dyn Events,
}

/// What the build image brings: it may be a builder already.
struct Base {
    name: ImageName,
    image: Image,
    user: User,
    metadata: BuilderMetadata,
    buildpacks: ModuleLayers,
    extensions: ModuleLayers,
}

/// What is put on top of it.
struct Additions {
    buildpacks: Vec<Module>,
    extensions: Vec<Module>,
    lifecycle: Option<Lifecycle>,
}

impl Creator<'_> {
    fn create(&self, platform: &Platform) -> Result<Created, CreateError> {
        let config = &self.request.config;
        let base = self.base(platform)?;
        self.check_run_images()?;
        let additions = Additions {
            lifecycle: Lifecycle::get(self.loader, config, &base.image.platform())?,
            buildpacks: self.modules(Kind::Buildpack, &config.buildpacks)?,
            extensions: self.modules(Kind::Extension, &config.extensions)?,
        };
        if config.lifecycle.is_none() && base.metadata.lifecycle.version.is_none() {
            self.events.info("The builder has no lifecycle: pannier needs none, other platforms do");
        }
        let mut metadata = self.metadata(&base, &additions);
        metadata.lifecycle = match &additions.lifecycle {
            Some(lifecycle) => lifecycle.metadata.clone(),
            None => metadata.lifecycle,
        };
        order::check_modules(
            &base.image,
            &metadata,
            &additions.buildpacks,
            &additions.extensions,
            self.events,
        )?;
        let known = |entries: &Option<Vec<ModuleEntry>>| entries.clone().unwrap_or_default();
        let resolved = order::resolve(config, &known(&metadata.buildpacks), &known(&metadata.extensions))?;
        let image = self.image(&base, &additions, &metadata, &resolved)?;
        let modules = known(&metadata.buildpacks).into_iter().chain(known(&metadata.extensions));
        Ok(Created {
            image,
            modules: modules.map(|entry| format!("{}@{}", entry.id, entry.version)).collect(),
            lifecycle: metadata.lifecycle.version,
        })
    }

    fn base(&self, platform: &Platform) -> Result<Base, CreateError> {
        let config = &self.request.config;
        let name = rebase(config.build_image.parse()?, config.folder());
        let shown = || name.to_string();
        let image =
            (self.loader.open)(&name).map_err(|source| Unavailable::new("build image", &name, source))?;
        let found = image.platform();
        if !platform.accepts(&found) {
            return Err(CreateError::Platform { name: shown(), found, wanted: platform.clone() });
        }
        self.events.info(&format!("Using build image {name}"));
        check_stack("build image", &shown(), config.stack_id.as_deref(), &image)?;
        let id = |variable| {
            let value = image.config.config.env_var(variable).and_then(|value| value.parse().ok());
            value.ok_or_else(|| CreateError::User { name: shown(), variable })
        };
        let user = User { uid: id("CNB_USER_ID")?, gid: id("CNB_GROUP_ID")? };
        let invalid = |source| CreateError::Label { name: shown(), source };
        Ok(Base {
            user,
            metadata: label(&image, BUILDER_METADATA).map_err(invalid)?,
            buildpacks: label(&image, BUILDPACK_LAYERS).map_err(invalid)?,
            extensions: label(&image, EXTENSION_LAYERS).map_err(invalid)?,
            name,
            image,
        })
    }

    /// Run images need not be here, but those that are must be of the stack that the configuration names.
    fn check_run_images(&self) -> Result<(), CreateError> {
        let config = &self.request.config;
        for image in &config.run_images {
            for text in std::iter::once(&image.image).chain(&image.mirrors) {
                let name = rebase(text.parse()?, config.folder());
                match (self.loader.open)(&name) {
                    Ok(image) => check_stack("run image", text, config.stack_id.as_deref(), &image)?,
                    Err(error) => {
                        self.events.warning(&format!("the run image {text} cannot be read: {error}"))
                    }
                }
            }
        }
        Ok(())
    }

    fn modules(&self, kind: Kind, wanted: &[Wanted]) -> Result<Vec<Module>, CreateError> {
        let mut modules: Vec<Module> = Vec::new();
        for entry in wanted {
            for module in self.module(kind, entry)? {
                let id = module.id();
                if let Some(at) = modules.iter().position(|known| known.id() == id) {
                    let before = modules.remove(at);
                    if before.place != module.place {
                        let (first, last) = (&before.place, &module.place);
                        self.events
                            .debug(&format!("{id} comes from {first} and from {last}: the latter is used"));
                    }
                }
                modules.push(module);
            }
        }
        Ok(modules)
    }

    /// One entry of the configuration: the module itself, then those that came with it, by name.
    fn module(&self, kind: Kind, entry: &Wanted) -> Result<Vec<Module>, CreateError> {
        let folder = self.request.config.folder();
        let failed = |source| CreateError::Module {
            place: entry.place.clone(),
            kind,
            locator: entry.locator.clone(),
            source,
        };
        let locator = Locator::parse(&entry.locator, folder, &())
            .map_err(|error| failed(LocatorError { kind, ..error }.into()))?;
        let mut modules = self.loader.load(kind, &locator, folder, NamedBy::File).map_err(failed)?;
        modules[1..].sort_by_key(Module::id);
        let found = modules[0].id();
        let fits =
            |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        if !fits(&entry.id, &found.id) || !fits(&entry.version, &found.version) {
            let id = entry.id.as_deref().unwrap_or(&found.id);
            let wanted = match &entry.version {
                Some(version) => format!("{id}@{version}"),
                None => id.to_owned(),
            };
            let (place, locator) = (entry.place.clone(), entry.locator.clone());
            return Err(CreateError::Mismatch { place, locator, found: found.to_string(), wanted });
        }
        Ok(modules)
    }

    fn metadata(&self, base: &Base, additions: &Additions) -> BuilderMetadata {
        let config = &self.request.config;
        let run_image = |image: &RunImageEntry| BuilderRunImage {
            image: image.image.clone(),
            mirrors: (!image.mirrors.is_empty()).then(|| image.mirrors.clone()),
        };
        let stack = config.stack_id.as_ref().and(config.run_images.first()).map(run_image);
        BuilderMetadata {
            description: config.description.clone(),
            buildpacks: entries(base.metadata.buildpacks.as_deref(), &additions.buildpacks),
            extensions: entries(base.metadata.extensions.as_deref(), &additions.extensions),
            stack: BuilderStack { run_image: stack.unwrap_or_default() },
            lifecycle: base.metadata.lifecycle.clone(),
            created_by: self.request.created_by.clone(),
            run_images: Some(config.run_images.iter().map(run_image).collect()),
        }
    }

    fn image(
        &self,
        base: &Base,
        additions: &Additions,
        metadata: &BuilderMetadata,
        order: &order::Resolved,
    ) -> Result<Image, CreateError> {
        let config = &self.request.config;
        let mut layers = Layers::new(&self.request.store, self.request.compression, self.events);
        let build_config = &self.request.build_config_dir;
        layers.folders(base.user, build_config)?;
        if let Some(lifecycle) = &additions.lifecycle {
            layers.lifecycle(lifecycle)?;
        }
        let (mut buildpacks, mut extensions) = (base.buildpacks.clone(), base.extensions.clone());
        layers.modules(&additions.buildpacks, &mut buildpacks)?;
        layers.modules(&additions.extensions, &mut extensions)?;
        layers.file("/cnb/order.toml", &order.order.to_toml())?;
        if !order.system.is_empty() {
            layers.file("/cnb/system.toml", &order.system.to_toml())?;
        }
        let run_images = config.run_images.iter().map(mirrors);
        let stack = StackToml { run_image: config.run_images.first().map(mirrors).unwrap_or_default() };
        layers.file("/cnb/stack.toml", &stack.to_toml())?;
        layers.file("/cnb/run.toml", &RunToml { images: run_images.collect() }.to_toml())?;
        if !config.build_env.is_empty() {
            layers.build_env(build_config, &config.build_env)?;
        }
        let mut labels = BTreeMap::from([
            (BUILDER_METADATA, label_text(metadata)),
            (BUILDPACK_LAYERS, label_text(&buildpacks)),
            (EXTENSION_LAYERS, label_text(&extensions)),
            (BUILDPACK_ORDER, list(&order.order.order)),
            (EXTENSION_ORDER, list(&order.order.order_extensions)),
        ]);
        if !order.system.is_empty() {
            labels.insert(SYSTEM, label_text(&order.system));
        }
        self.finish(base, layers.finish(), labels)
    }

    fn finish(
        &self,
        base: &Base,
        layers: Vec<(String, Layer)>,
        labels: BTreeMap<&str, String>,
    ) -> Result<Image, CreateError> {
        let mut image = base.image.derive();
        // They say what the build image is.
        image.annotations.clear();
        let created = time::rfc3339(CREATED);
        let history = &mut image.config.history;
        if history.iter().filter(|entry| !entry.empty_layer).count() != image.layers.len() {
            *history = vec![History::default(); image.layers.len()];
        }
        history.iter_mut().for_each(|entry| entry.created = Some(created.clone()));
        for (what, layer) in layers {
            let created_by = Some(format!("builder: {what}"));
            history.push(History { created: Some(created.clone()), created_by, ..History::default() });
            image.layers.push(layer);
        }
        image.config.created = Some(created);
        let config = &mut image.config.config;
        "/layers".clone_into(&mut config.working_dir);
        let dir = self.request.build_config_dir.to_string_lossy();
        // A build image that is a builder may say it already.
        if dir != BUILD_CONFIG || config.env_var(BUILD_CONFIG_VARIABLE).is_some() {
            config.set_env(BUILD_CONFIG_VARIABLE, &dir);
        }
        config.labels.entry(STACK_MIXINS.to_owned()).or_insert_with(|| "null".to_owned());
        config.labels.extend(self.request.labels.iter().cloned());
        config.labels.extend(labels.into_iter().map(|(key, value)| (key.to_owned(), value)));
        image.finish().map_err(|source| Unavailable::new("build image", &base.name, source).into())
    }
}

/// An order as JSON; none at all is `null`, as the reference has it.
fn list(groups: &[cnb::group::OrderGroup]) -> String {
    if groups.is_empty() { "null".to_owned() } else { label_text(&groups) }
}

fn mirrors(image: &RunImageEntry) -> RunImageMirrors {
    RunImageMirrors { image: image.image.clone(), mirrors: image.mirrors.clone() }
}

fn label<T: Default + for<'de> serde::Deserialize<'de>>(
    image: &Image,
    key: &str,
) -> Result<T, cnb::ParseError> {
    image.config.label(key).map_or_else(|| Ok(T::default()), |text| parse_label(key, text))
}

fn check_stack(
    role: &'static str,
    name: &str,
    wanted: Option<&str>,
    image: &Image,
) -> Result<(), CreateError> {
    let found = image.config.label(STACK_ID).unwrap_or_default();
    match wanted.filter(|wanted| *wanted != found) {
        Some(wanted) => Err(CreateError::Stack {
            role,
            name: name.to_owned(),
            found: found.to_owned(),
            wanted: wanted.to_owned(),
        }),
        None => Ok(()),
    }
}

/// The entries of a builder's metadata: what the build image has already, then what is added.
fn entries(before: Option<&[ModuleEntry]>, added: &[Module]) -> Option<Vec<ModuleEntry>> {
    let added: Vec<ModuleEntry> = added.iter().map(Module::entry).collect();
    let replaced =
        |entry: &&ModuleEntry| added.iter().all(|new| (&new.id, &new.version) != (&entry.id, &entry.version));
    let kept = before.unwrap_or_default().iter().filter(replaced).cloned();
    let all: Vec<ModuleEntry> = kept.chain(added.iter().cloned()).collect();
    (!all.is_empty() || before.is_some()).then_some(all)
}
