//! Orders of a builder that is being made: every entry is of a module that it will have, and has a version.

use cnb::builder::{BuilderMetadata, ModuleEntry};
use cnb::group::{Kind, Order, OrderEntry, OrderGroup, System, SystemBuildpacks};
use cnb::label;
use cnb::target::{Distro, Target, TargetMetadata};
use events::Events;
use layer::Root;
use oci::Image;

use super::{CreateError, GroupEntry, ModuleDescriptor};
use crate::builder_toml::BuilderToml;
use crate::module::Module;

/// Orders whose entries all have versions.
pub(super) struct Resolved {
    pub order: Order,
    pub system: System,
}

/// Gives every entry of the configuration its version.
pub(super) fn resolve(
    config: &BuilderToml,
    buildpacks: &[ModuleEntry],
    extensions: &[ModuleEntry],
) -> Result<Resolved, CreateError> {
    let groups = |groups: &[Vec<GroupEntry>], kind, known: &[ModuleEntry]| {
        let group = |entries: &Vec<GroupEntry>| list(entries, kind, known).map(|group| OrderGroup { group });
        groups.iter().map(group).collect::<Result<Vec<_>, _>>()
    };
    let mut order = Order {
        order: groups(&config.order, Kind::Buildpack, buildpacks)?,
        order_extensions: groups(&config.order_extensions, Kind::Extension, extensions)?,
    };
    // Extensions always are: to say so is an error of `order.toml`.
    order
        .order_extensions
        .iter_mut()
        .flat_map(|group| &mut group.group)
        .for_each(|entry| entry.optional = false);
    let end = |entries: &[GroupEntry]| {
        Ok::<_, CreateError>(SystemBuildpacks { buildpacks: list(entries, Kind::Buildpack, buildpacks)? })
    };
    Ok(Resolved { order, system: System { pre: end(&config.system_pre)?, post: end(&config.system_post)? } })
}

fn list(entries: &[GroupEntry], kind: Kind, known: &[ModuleEntry]) -> Result<Vec<OrderEntry>, CreateError> {
    entries.iter().map(|entry| resolve_entry(entry, kind, known)).collect()
}

fn resolve_entry(entry: &GroupEntry, kind: Kind, known: &[ModuleEntry]) -> Result<OrderEntry, CreateError> {
    let fits = |version: &str| entry.version.as_ref().is_none_or(|wanted| wanted == version);
    let versions: Vec<&str> = known
        .iter()
        .filter(|known| known.id == entry.id && fits(&known.version))
        .map(|known| known.version.as_str())
        .collect();
    let version = match versions.as_slice() {
        [] => {
            let wanted = match &entry.version {
                Some(version) => format!("{}@{version}", entry.id),
                None => entry.id.clone(),
            };
            let known = known.iter().map(|entry| format!("{}@{}", entry.id, entry.version)).collect();
            return Err(CreateError::Unknown { place: entry.place.clone(), kind, wanted, known });
        }
        [one] => (*one).to_owned(),
        several => {
            let versions = several.iter().map(|&version| version.to_owned()).collect();
            let (place, id) = (entry.place.clone(), entry.id.clone());
            return Err(CreateError::Versions { place, id, versions });
        }
    };
    Ok(OrderEntry {
        id: entry.id.clone(),
        version,
        optional: entry.optional,
        exec_env: entry.exec_env.clone(),
    })
}

/// Checks that the modules can work: with the lifecycle, on the build image, with what else is there.
pub(super) fn check_modules(
    build_image: &Image,
    metadata: &BuilderMetadata,
    buildpacks: &[Module],
    extensions: &[Module],
    events: &dyn Events,
) -> Result<(), CreateError> {
    let base = target(build_image);
    for module in buildpacks.iter().chain(extensions) {
        check_api(&module.descriptor, metadata, events)?;
        if module.descriptor.is_composite() {
            check_complete(&module.descriptor, metadata.buildpacks.as_deref().unwrap_or_default())?;
        } else {
            check_target(module, &base)?;
        }
    }
    Ok(())
}

fn check_api(
    descriptor: &ModuleDescriptor,
    metadata: &BuilderMetadata,
    events: &dyn Events,
) -> Result<(), CreateError> {
    let apis = &metadata.lifecycle.apis.buildpack;
    let (api, id) = (descriptor.api, descriptor.module());
    if apis.deprecated.contains(&api) {
        events.warning(&format!(
            "{id} is for Buildpack API {api}, which the lifecycle will not speak for long"
        ));
        return Ok(());
    }
    // No lifecycle, or one that does not say: ours takes what it parsed.
    if apis.supported.is_empty() || apis.supported.contains(&api) {
        return Ok(());
    }
    let supported: Vec<String> = apis.supported.iter().map(ToString::to_string).collect();
    Err(CreateError::Api {
        id: id.to_string(),
        api,
        version: metadata.lifecycle.version.clone().unwrap_or_default(),
        supported: supported.join(", "),
    })
}

fn check_complete(descriptor: &ModuleDescriptor, known: &[ModuleEntry]) -> Result<(), CreateError> {
    let missing = descriptor
        .order
        .iter()
        .flat_map(|group| &group.group)
        .find(|entry| !known.iter().any(|known| known.id == entry.id && known.version == entry.version));
    match missing {
        Some(missing) => Err(CreateError::Incomplete {
            id: descriptor.module().to_string(),
            missing: format!("{}@{}", missing.id, missing.version),
        }),
        None => Ok(()),
    }
}

fn check_target(module: &Module, base: &TargetMetadata) -> Result<(), CreateError> {
    let root = Root::open(module.dir())?;
    let targets = module.descriptor.targets(|program| root.is_file(format!("bin/{program}")));
    let fits = |target: &Target| match base.distro {
        Some(_) => target.matches(base),
        // What the build image does not say is no reason to refuse.
        None => Target { distros: Vec::new(), ..target.clone() }.matches(base),
    };
    if targets.is_empty() || targets.iter().any(fits) {
        return Ok(());
    }
    let shown: Vec<String> = targets.iter().map(show_target).collect();
    let distro = base.distro.as_ref().map(|distro| format!(" {} {}", distro.name, distro.version));
    Err(CreateError::Target {
        id: module.id().to_string(),
        base: format!("{}/{}{}", base.os, base.arch, distro.unwrap_or_default()),
        targets: shown.join(", "),
    })
}

fn show_target(target: &Target) -> String {
    let part = |text: &str| if text.is_empty() { "any".to_owned() } else { text.to_owned() };
    let distros: Vec<String> =
        target.distros.iter().map(|distro| format!("{} {}", distro.name, distro.version)).collect();
    let distros = if distros.is_empty() { String::new() } else { format!(" ({})", distros.join(", ")) };
    format!("{}/{}{distros}", part(&target.os), part(&target.arch))
}

/// What a build image is, as far as it says so.
fn target(image: &Image) -> TargetMetadata {
    let text = |key| image.config.label(key).unwrap_or_default().to_owned();
    let distro = Distro { name: text(label::BASE_DISTRO_NAME), version: text(label::BASE_DISTRO_VERSION) };
    let known = !distro.name.is_empty() && !distro.version.is_empty();
    TargetMetadata {
        id: text(label::BASE_ID),
        os: image.config.os.clone(),
        arch: image.config.architecture.clone(),
        variant: image.config.variant.clone().unwrap_or_default(),
        distro: known.then_some(distro),
    }
}
