//! What is in an image: what its manifest, configuration and labels say, for apps, builders and all others.
//!
//! Nothing is run and no layer is read. Not here: what it looks like to people.

use std::collections::{BTreeMap, BTreeSet};

use cnb::builder::{self, BuilderMetadata, BuildpackageMetadata};
use cnb::group::{GroupElement, OrderGroup};
use cnb::label::{self, LayersMetadata};
use cnb::metadata::BuildLabel;
use oci::{Digest, Image};
use serde::Serialize;

/// An image, seen from outside.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// The manifest's digest.
    pub digest: Digest,
    /// The digest of the configuration, which other tools call the image's ID.
    pub id: Digest,
    /// The manifest's media type.
    pub media_type: String,
    /// `os/architecture[/variant]`.
    pub platform: String,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Bytes of all its blobs, as they are stored.
    pub size: u64,
    /// `user[:group]`.
    pub user: String,
    /// Where programs start.
    pub working_dir: String,
    /// What starts.
    pub entrypoint: Vec<String>,
    /// Its arguments.
    pub cmd: Vec<String>,
    /// What it is built on.
    pub base: Base,
    /// What made it, if buildpacks did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<App>,
    /// What it builds with, if it is a builder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builder: Option<Builder>,
    /// What it packages, if it is a buildpack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buildpackage: Option<Module>,
    /// The layers, lowest first.
    pub layers: Vec<LayerInfo>,
    /// Labels that are not of the specification.
    pub labels: BTreeMap<String, String>,
}

/// The target that the labels of an image name.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Base {
    /// `io.buildpacks.base.id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `name version` of the distribution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distro: Option<String>,
    /// `io.buildpacks.stack.id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
}

/// An image that buildpacks made.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct App {
    /// The image it runs on.
    pub run_image: RunImage,
    /// Whether it may get another one.
    pub rebasable: bool,
    /// The execution environment it was built for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec_env: Option<String>,
    /// The buildpacks, in their order.
    pub buildpacks: Vec<Module>,
    /// The extensions, in their order.
    pub extensions: Vec<Module>,
    /// The processes.
    pub processes: Vec<ProcessInfo>,
    /// The diffID of the layer with the software bill of materials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sbom: Option<String>,
    /// The launcher's version.
    pub launcher: String,
    /// Where the source came from: `io.buildpacks.project.metadata`.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub source: serde_json::Value,
}

/// A run image, as the image on it names it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunImage {
    /// Its name.
    pub image: String,
    /// The very image: a reference with a digest, or an ID.
    pub reference: String,
    /// Its other names.
    pub mirrors: Vec<String>,
    /// The diffID of its last layer.
    pub top_layer: String,
}

/// A buildpack or extension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Module {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Where to read about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub homepage: String,
}

/// A process of an app image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessInfo {
    /// Its type.
    pub r#type: String,
    /// Whether the image starts it by itself.
    pub default: bool,
    /// The program and what a user cannot replace.
    pub command: Vec<String>,
    /// What a user can replace.
    pub args: Vec<String>,
    /// False when a shell starts it.
    pub direct: bool,
    /// Where it starts; empty for the app's folder.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// The buildpack that defined it.
    pub buildpack: String,
}

/// A builder.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Builder {
    /// What it says of itself.
    pub description: String,
    /// Who made it.
    pub created_by: String,
    /// The version of the lifecycle in it, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<String>,
    /// The run images it names, each with its mirrors.
    pub run_images: Vec<(String, Vec<String>)>,
    /// Its buildpacks.
    pub buildpacks: Vec<Module>,
    /// Its extensions.
    pub extensions: Vec<Module>,
    /// The groups that are tried, in this order.
    pub order: Vec<OrderGroup>,
    /// The groups of extensions that are tried before each of them.
    pub order_extensions: Vec<OrderGroup>,
}

/// A layer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerInfo {
    /// The digest of its content.
    pub diff_id: Digest,
    /// The digest of the blob.
    pub digest: Digest,
    /// The blob's bytes.
    pub size: u64,
    /// What it is for.
    pub kind: LayerKind,
    /// Which one of its kind: `buildpack:layer` for a buildpack's, `id@version` for a builder's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// What a layer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerKind {
    /// Of the image below.
    Base,
    /// What an image extension added to it.
    Extension,
    /// A launch layer of a buildpack.
    Buildpack,
    /// A slice of the app.
    App,
    /// The software bill of materials.
    Sbom,
    /// The launcher.
    Launcher,
    /// The launcher's configuration.
    Config,
    /// The links to processes.
    ProcessTypes,
    /// A buildpack or extension of a builder or package.
    Module,
    /// Unknown.
    Other,
}

/// Looks at an image.
///
/// # Errors
/// When a label of the specification is not what the specification says.
pub fn inspect(image: &Image) -> Result<Inspection, cnb::ParseError> {
    let config = &image.config;
    let text = |name: &str| config.label(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let distro = text(label::BASE_DISTRO_NAME).map(|name| match text(label::BASE_DISTRO_VERSION) {
        Some(version) => format!("{name} {version}"),
        None => name,
    });
    let lifecycle = parse(image, label::LIFECYCLE_METADATA, LayersMetadata::parse)?;
    let app = match &lifecycle {
        Some(layers) => Some(app(image, layers)?),
        None => None,
    };
    Ok(Inspection {
        digest: image.digest(),
        id: image.id(),
        media_type: image.descriptor.media_type.clone(),
        platform: image.platform().to_string(),
        created: config.created.clone(),
        size: image.size(),
        user: config.config.user.clone(),
        working_dir: config.config.working_dir.clone(),
        entrypoint: config.config.entrypoint.clone(),
        cmd: config.config.cmd.clone(),
        base: Base { id: text(label::BASE_ID), distro, stack: text(label::STACK_ID) },
        app,
        builder: parse(image, builder::BUILDER_METADATA, builder::parse_label::<BuilderMetadata>)?
            .map(|metadata| describe_builder(image, metadata))
            .transpose()?,
        buildpackage: parse(
            image,
            builder::BUILDPACKAGE_METADATA,
            builder::parse_label::<BuildpackageMetadata>,
        )?
        .map(|package| Module {
            id: package.module.id,
            version: package.module.version,
            homepage: package.module.homepage,
        }),
        layers: layers(image, lifecycle.as_ref())?,
        labels: config
            .config
            .labels
            .clone()
            .into_iter()
            .filter(|(key, _)| !key.starts_with("io.buildpacks."))
            .collect(),
    })
}

/// The types of the processes of an app image; none of any other.
pub fn process_types(image: &Image) -> Vec<String> {
    let build = parse(image, label::BUILD_METADATA, BuildLabel::parse).ok().flatten().unwrap_or_default();
    build.processes.into_iter().map(|process| process.r#type).collect()
}

/// A label, where the image has it.
fn parse<T>(
    image: &Image,
    name: &str,
    parse: impl FnOnce(&str, &str) -> Result<T, cnb::ParseError>,
) -> Result<Option<T>, cnb::ParseError> {
    let text = image.config.label(name).filter(|text| !text.is_empty());
    text.map(|text| parse(&format!("label {name}"), text)).transpose()
}

fn app(image: &Image, layers: &LayersMetadata) -> Result<App, cnb::ParseError> {
    let build = parse(image, label::BUILD_METADATA, BuildLabel::parse)?.unwrap_or_default();
    let modules = |elements: &[GroupElement]| elements.iter().map(module).collect();
    let default = default_process(image, &build);
    let processes = build.processes.iter().map(|process| ProcessInfo {
        r#type: process.r#type.clone(),
        default: default.as_ref() == Some(&process.r#type),
        command: process.command.clone(),
        args: process.args().to_vec(),
        direct: process.direct,
        working_dir: process.working_dir.clone(),
        buildpack: process.buildpack_id.clone(),
    });
    // Older images name the run image under `stack` alone.
    let stack = layers.stack.as_ref().map(|stack| stack.run_image.clone()).unwrap_or_default();
    let run = &layers.run_image;
    let (name, mirrors) = if run.image.is_empty() {
        (stack.image, stack.mirrors)
    } else {
        (run.image.clone(), run.mirrors.clone())
    };
    let source = parse(image, label::PROJECT_METADATA, builder::parse_label::<serde_json::Value>)?;
    Ok(App {
        run_image: RunImage {
            image: name,
            reference: run.reference.clone(),
            mirrors,
            top_layer: run.top_layer.clone(),
        },
        // Images from before the label could all be rebased.
        rebasable: image.config.label(label::REBASABLE) != Some("false"),
        exec_env: image.config.label(label::EXEC_ENV).filter(|env| !env.is_empty()).map(str::to_owned),
        buildpacks: modules(&build.buildpacks),
        extensions: modules(&build.extensions),
        processes: processes.collect(),
        sbom: layers.sbom.as_ref().map(|sbom| sbom.sha.clone()).filter(|sha| !sha.is_empty()),
        launcher: build.launcher.version,
        source: source.and_then(|project| project.get("source").cloned()).unwrap_or_default(),
    })
}

/// The process that the image starts by itself: its entrypoint says so, or (before Platform API 0.4) a variable.
fn default_process(image: &Image, build: &BuildLabel) -> Option<String> {
    let run = &image.config.config;
    let by_entrypoint = run.entrypoint.first().and_then(|path| path.strip_prefix("/cnb/process/"));
    let by_variable = || run.env_var("CNB_PROCESS_TYPE").filter(|_| !build.processes.is_empty());
    by_entrypoint.or_else(by_variable).map(|name| name.trim_end_matches(".exe").to_owned())
}

fn module(element: &GroupElement) -> Module {
    Module { id: element.id.clone(), version: element.version.clone(), homepage: element.homepage.clone() }
}

fn describe_builder(image: &Image, metadata: BuilderMetadata) -> Result<Builder, cnb::ParseError> {
    let modules = |entries: Option<Vec<builder::ModuleEntry>>| {
        let mut seen = BTreeSet::new();
        let entries = entries.unwrap_or_default().into_iter();
        let modules = entries.map(|e| Module { id: e.id, version: e.version, homepage: e.homepage });
        modules.filter(|module| seen.insert((module.id.clone(), module.version.clone()))).collect()
    };
    let run_images = match metadata.run_images {
        Some(images) if !images.is_empty() => images,
        _ if metadata.stack.run_image.image.is_empty() => Vec::new(),
        _ => vec![metadata.stack.run_image],
    };
    // An empty order is `null` to the reference.
    let order = |name: &str| {
        let order = parse(image, name, builder::parse_label::<Option<Vec<OrderGroup>>>)?;
        Ok(order.flatten().unwrap_or_default())
    };
    let created_by = [metadata.created_by.name, metadata.created_by.version].join(" ").trim().to_owned();
    Ok(Builder {
        description: metadata.description,
        created_by,
        lifecycle: metadata.lifecycle.version.filter(|version| !version.is_empty()),
        run_images: run_images.into_iter().map(|run| (run.image, run.mirrors.unwrap_or_default())).collect(),
        buildpacks: modules(metadata.buildpacks),
        extensions: modules(metadata.extensions),
        order: order(builder::BUILDPACK_ORDER)?,
        order_extensions: order(builder::EXTENSION_ORDER)?,
    })
}

fn layers(image: &Image, app: Option<&LayersMetadata>) -> Result<Vec<LayerInfo>, cnb::ParseError> {
    let mut known: BTreeMap<String, (LayerKind, String)> = BTreeMap::new();
    if let Some(app) = app {
        let mut add = |sha: &str, kind, name: String| known.insert(sha.to_owned(), (kind, name));
        app.app.iter().for_each(|slice| drop(add(&slice.sha, LayerKind::App, String::new())));
        app.sbom.iter().for_each(|sbom| drop(add(&sbom.sha, LayerKind::Sbom, String::new())));
        add(&app.config.sha, LayerKind::Config, String::new());
        add(&app.launcher.sha, LayerKind::Launcher, String::new());
        add(&app.process_types.sha, LayerKind::ProcessTypes, String::new());
        for buildpack in &app.buildpacks {
            for (name, layer) in &buildpack.layers {
                add(&layer.sha, LayerKind::Buildpack, format!("{}:{name}", buildpack.key));
            }
        }
    }
    for name in [builder::BUILDPACK_LAYERS, builder::EXTENSION_LAYERS] {
        let modules: builder::ModuleLayers = parse(image, name, builder::parse_label)?.unwrap_or_default();
        for (id, versions) in modules {
            for (version, layer) in versions {
                known.entry(layer.layer_diff_id).or_insert((LayerKind::Module, format!("{id}@{version}")));
            }
        }
    }
    let base_end = app.and_then(|app| {
        image.layers().iter().position(|layer| layer.diff_id.to_string() == app.run_image.top_layer)
    });
    let history = of_layers(image);
    let info = |(at, layer): (usize, &oci::Layer)| {
        let base = base_end.is_some_and(|end| at <= end);
        let extension = history.get(at).copied().flatten();
        let (kind, name) = match known.get(&layer.diff_id.to_string()) {
            // Above the run image's top layer; where another platform counts them to it, below.
            found if extension.is_some() && (base || found.is_none()) => {
                (LayerKind::Extension, extension.unwrap_or_default().to_owned())
            }
            _ if base => (LayerKind::Base, String::new()),
            Some((kind, name)) => (*kind, name.clone()),
            None => (LayerKind::Other, String::new()),
        };
        let blob = &layer.descriptor;
        LayerInfo { diff_id: layer.diff_id, digest: blob.digest, size: blob.size, kind, name }
    };
    Ok(image.layers().iter().enumerate().map(info).collect())
}

/// The extension that each layer comes from, as the history says; empty where the history is not of all layers.
fn of_layers(image: &Image) -> Vec<Option<&str>> {
    let entries = image.config.history.iter().filter(|entry| !entry.empty_layer);
    let words = entries.map(|entry| entry.created_by.as_deref().unwrap_or_default());
    let all: Vec<_> =
        words.map(|text| text.rsplit_once(", Created by extension: ").map(|(_, id)| id)).collect();
    if all.len() == image.layers().len() { all } else { Vec::new() }
}

#[cfg(test)]
mod tests;
