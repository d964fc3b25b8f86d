//! The export phase: puts the image together (platform.md, "exporter").
//!
//! From the bottom: the run image, the layers of image extensions, each buildpack's launch layers, the launch SBOM, the
//! app's slices, the launcher, its configuration, links for the process types. A layer that did not change is not packed again.
//! Not here: where the image goes.

mod config;
mod extended;
mod layers;

use std::path::Path;

use cnb::ApiVersion;
use cnb::label::{BuildpackLayers, LayerSha, LayersMetadata, ProjectMetadata, RunImageForRebase};
use cnb::layer::LayerMetadata;
use cnb::metadata::{BuildMetadata, LauncherMetadata};
use events::Events;
use layer::pack::{Ids, PackError, Slices, SlicesError, Tar, Tree};
use layer::{Compression, Digest};
use oci::{Descriptor, History, Image, Layer, Store};

use crate::build::{BuiltLayer, BuiltModule};
use crate::executor::Place;
use crate::share::{self, TooMuch};
pub use extended::{ExtendedRunImage, ExtensionLayer};
use layers::{LayerMaker, Made};

// Layers of the lifecycle's own, by the names that the reference gives them.
const LAYER_CONFIG: &str = "buildpacksio/lifecycle:config";
const LAYER_LAUNCHER: &str = "buildpacksio/lifecycle:launcher";
const LAYER_PROCESS_TYPES: &str = "buildpacksio/lifecycle:process-types";
const LAYER_SBOM: &str = "buildpacksio/lifecycle:launch.sbom";

/// What the export phase works on.
pub struct ExportInputs<'a> {
    /// The Platform API in use.
    pub platform_api: ApiVersion,
    /// What each buildpack left.
    pub modules: &'a [BuiltModule],
    /// What `config/metadata.toml` holds.
    pub metadata: &'a BuildMetadata,
    /// `<layers>`.
    pub layers: &'a Place,
    /// `<app>`.
    pub app: &'a Place,
    /// Who owns what in new layers.
    pub ids: Ids,
    /// The run image, as it was before extensions.
    pub run_image: &'a Image,
    /// What extensions made of it, where they changed it.
    pub extended: Option<&'a ExtendedRunImage>,
    /// What the label says of it; the top layer is filled in.
    pub run_image_for_rebase: RunImageForRebase,
    /// The previous image and its label.
    pub previous: Option<(&'a Image, &'a LayersMetadata)>,
    /// The launcher's program.
    pub launcher: &'a Path,
    /// What the label says of it.
    pub launcher_metadata: LauncherMetadata,
    /// The label `io.buildpacks.project.metadata`.
    pub project: &'a ProjectMetadata,
    /// CNB_EXEC_ENV.
    pub exec_env: &'a str,
    /// The default process type that the user asked for.
    pub default_process: Option<&'a str>,
    /// When the image was made, RFC 3339.
    pub created: String,
    /// How new layers are compressed.
    pub compression: Compression,
    /// Where new blobs go.
    pub store: &'a Store,
    /// What is known of a layer (buildpack id, layer name) that the build left as it was.
    pub unchanged: &'a dyn Fn(&str, &str) -> Option<KnownLayer>,
}

/// A layer that the build left as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownLayer {
    /// Its diffID.
    pub diff_id: Digest,
    /// Its blob, which the store may still have.
    pub blob: Option<Descriptor>,
}

/// The image, put together.
#[derive(Clone, Debug)]
pub struct Exported {
    /// It.
    pub image: Image,
    /// Its label `io.buildpacks.lifecycle.metadata`.
    pub metadata: LayersMetadata,
    /// The layers above the run image's, from the bottom.
    pub layers: Vec<ExportedLayer>,
    /// The process type that starts by default.
    pub default_process: Option<String>,
}

/// A layer above the run image's.
#[derive(Clone, Debug)]
pub struct ExportedLayer {
    /// `buildpack:layer`, or the reference's name for one of its own.
    pub id: String,
    /// It.
    pub layer: Layer,
    /// True when it was there before.
    pub reused: bool,
}

/// The image cannot be put together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A layer cannot be packed.
    #[error("failed to pack layer `{id}`")]
    Pack {
        /// Its id.
        id: String,
        /// Why.
        #[source]
        source: PackError,
    },
    /// The app cannot be cut into slices.
    #[error("failed to slice the app")]
    Slices(#[from] SlicesError),
    /// A launch layer without contents was not in the previous image.
    #[error("cannot reuse layer `{id}`: the previous image does not have it")]
    NotInPrevious {
        /// Its id.
        id: String,
    },
    /// A cached layer without contents.
    #[error("layer `{id}` is cache = true but has no contents")]
    NoContents {
        /// Its id.
        id: String,
    },
    /// The default process type that was asked for does not exist.
    #[error("tried to set {name} to default but it doesn't exist")]
    NoSuchProcess {
        /// The type.
        name: String,
        /// The types there are.
        known: Vec<String>,
    },
    /// The buildpacks left more than an image can say.
    #[error(transparent)]
    TooMuch(#[from] TooMuch),
    /// The store, or a document of an image.
    #[error(transparent)]
    Oci(#[from] oci::Error),
}

/// Puts the image together. `ready` is told of each new or reused layer as soon as it is there: its upload need
/// not wait for the others.
pub fn export(
    inputs: &ExportInputs<'_>,
    ready: &(dyn Fn(&Layer) + Sync),
    events: &dyn Events,
) -> Result<Exported, ExportError> {
    let default_process = config::default_process(inputs)?;
    // Before anything is packed, and on its way to a registry.
    let shares = inputs.modules.iter().map(|module| (module.element.id.as_str(), &module.share));
    share::check(shares, oci::image::MAX_DOCUMENT)?;
    let mut exporter = Exporter::new(inputs, ready, events);
    exporter.extensions();
    for module in inputs.modules {
        exporter.module(module)?;
    }
    if inputs.platform_api.at_least(8) {
        exporter.sbom()?;
    }
    exporter.app()?;
    exporter.launcher()?;
    let image = config::finish(inputs, &exporter, default_process.as_deref(), events)?;
    let Exporter { metadata, layers, .. } = exporter;
    Ok(Exported { image, metadata, layers, default_process })
}

struct Exporter<'a> {
    inputs: &'a ExportInputs<'a>,
    maker: LayerMaker<'a>,
    old: LayersMetadata,
    metadata: LayersMetadata,
    layers: Vec<ExportedLayer>,
    history: Vec<History>,
}

impl<'a> Exporter<'a> {
    fn new(inputs: &'a ExportInputs<'a>, ready: &'a (dyn Fn(&Layer) + Sync), events: &'a dyn Events) -> Self {
        let maker = LayerMaker {
            store: inputs.store,
            compression: inputs.compression,
            previous: inputs.previous.map(|(image, _)| image),
            events,
            ready,
        };
        let old = inputs.previous.map(|(_, label)| label.clone()).unwrap_or_default();
        let mut run_image = inputs.run_image_for_rebase.clone();
        if let Some(top) = inputs.run_image.layers().last() {
            run_image.top_layer = top.diff_id.to_string();
        }
        let stack = Some(run_image.to_stack());
        let metadata = LayersMetadata { run_image, stack, ..LayersMetadata::default() };
        Self { inputs, maker, old, metadata, layers: Vec::new(), history: Vec::new() }
    }

    /// The layers of extensions: they are there already, and in no label.
    fn extensions(&mut self) {
        for made in self.inputs.extended.map(|extended| extended.layers.as_slice()).unwrap_or_default() {
            self.maker.there(&made.id(), &made.layer, made.reused);
            self.add(
                made.id(),
                Made { layer: made.layer.clone(), reused: made.reused },
                made.created_by.clone(),
            );
        }
    }

    fn module(&mut self, module: &BuiltModule) -> Result<(), ExportError> {
        let element = &module.element;
        let mut label = BuildpackLayers {
            key: element.id.clone(),
            version: element.version.clone(),
            store: module.store.clone(),
            ..BuildpackLayers::default()
        };
        for layer in module.layers.iter().filter(|layer| layer.toml.types.launch) {
            let made = self.launch_layer(&element.id, layer)?;
            label.layers.insert(
                layer.name.clone(),
                LayerMetadata {
                    sha: made.layer.diff_id.to_string(),
                    data: layer.toml.metadata.clone(),
                    types: layer.toml.types,
                },
            );
            let created_by =
                format!("Layer: '{}', Created by buildpack: {}@{}", layer.name, element.id, element.version);
            self.add(format!("{}:{}", element.id, layer.name), made, created_by);
        }
        self.metadata.buildpacks.push(label);
        Ok(())
    }

    fn launch_layer(&self, buildpack: &str, layer: &BuiltLayer) -> Result<Made, ExportError> {
        let id = format!("{buildpack}:{}", layer.name);
        let old = self.old.buildpack(buildpack).and_then(|old| old.layers.get(&layer.name));
        let old_sha = old.and_then(|old| old.sha.parse().ok());
        if !layer.has_contents {
            if layer.toml.types.cache {
                return Err(ExportError::NoContents { id });
            }
            let found = old_sha.and_then(|sha| self.maker.find_previous(sha));
            return match found {
                Some(layer) => Ok(self.maker.reuse(&id, layer)),
                None => Err(ExportError::NotInPrevious { id }),
            };
        }
        if let Some(known) = (self.inputs.unchanged)(buildpack, &layer.name)
            && let Some(made) = self.maker.known(&id, known.diff_id, known.blob.as_ref())
        {
            return Ok(made);
        }
        let place = self.inputs.layers.join(cnb::launch::escape_id(buildpack)).join(&layer.name);
        self.tree(&id, &place, old_sha)
    }

    fn sbom(&mut self) -> Result<(), ExportError> {
        let place = self.inputs.layers.join("sbom/launch");
        if !place.host.is_dir() {
            return Ok(());
        }
        let old = self.old.sbom.as_ref().and_then(|old| old.sha.parse().ok());
        let made = self.tree(LAYER_SBOM, &place, old)?;
        self.metadata.sbom = Some(LayerSha::new(made.layer.diff_id.to_string()));
        self.add(LAYER_SBOM.to_owned(), made, "Software Bill-of-Materials".to_owned());
        Ok(())
    }

    fn app(&mut self) -> Result<(), ExportError> {
        let patterns: Vec<Vec<String>> =
            self.inputs.metadata.slices.iter().map(|slice| slice.paths().to_vec()).collect();
        let app = self.inputs.app;
        let slices = Slices::new(&app.host, &patterns)?;
        let tree = Tree::new(&app.host, &app.guest);
        for index in 0..slices.len() {
            let id = format!("slice-{}", index + 1);
            let fill = |tar: &mut Tar<'_, '_>| slices.add(index, tar, &tree, self.inputs.ids);
            // Any layer of the previous app will do, but it is nearly always the one in the same place.
            let old = self.old.app.get(index).and_then(|old| old.sha.parse().ok());
            let made = self.maker.make(&id, old, &fill)?;
            self.metadata.app.push(LayerSha::new(made.layer.diff_id.to_string()));
            let created_by = match patterns.is_empty() {
                true => "Application Layer".to_owned(),
                false => format!("Application Slice: {}", index + 1),
            };
            self.add(id, made, created_by);
        }
        Ok(())
    }

    fn launcher(&mut self) -> Result<(), ExportError> {
        let parse = |sha: &LayerSha| sha.sha.parse().ok();
        let launcher = self.inputs.launcher;
        let made =
            self.maker.make(LAYER_LAUNCHER, parse(&self.old.launcher), &|tar| tar.launcher(launcher))?;
        self.metadata.launcher = LayerSha::new(made.layer.diff_id.to_string());
        self.add(LAYER_LAUNCHER.to_owned(), made, "Buildpacks Application Launcher".to_owned());

        let made = self.tree(LAYER_CONFIG, &self.inputs.layers.join("config"), parse(&self.old.config))?;
        self.metadata.config = LayerSha::new(made.layer.diff_id.to_string());
        self.add(LAYER_CONFIG.to_owned(), made, "Buildpacks Launcher Config".to_owned());

        let types: Vec<&str> = self.inputs.metadata.processes.iter().map(|it| it.r#type.as_str()).collect();
        if types.is_empty() {
            return Ok(());
        }
        let fill = |tar: &mut Tar<'_, '_>| tar.process_types(types.iter().copied());
        let made = self.maker.make(LAYER_PROCESS_TYPES, parse(&self.old.process_types), &fill)?;
        self.metadata.process_types = LayerSha::new(made.layer.diff_id.to_string());
        self.add(LAYER_PROCESS_TYPES.to_owned(), made, "Buildpacks Process Types".to_owned());
        Ok(())
    }

    fn tree(&self, id: &str, place: &Place, old: Option<Digest>) -> Result<Made, ExportError> {
        let tree = Tree::new(&place.host, &place.guest);
        self.maker.make(id, old, &|tar| tar.tree(&tree, self.inputs.ids))
    }

    fn add(&mut self, id: String, made: Made, created_by: String) {
        self.history.push(History {
            created: Some(self.inputs.created.clone()),
            created_by: Some(created_by),
            ..History::default()
        });
        self.layers.push(ExportedLayer { id, layer: made.layer, reused: made.reused });
    }
}

impl std::fmt::Debug for ExportInputs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExportInputs")
            .field("layers", self.layers)
            .field("app", self.app)
            .finish_non_exhaustive()
    }
}
