//! Modules in packages: images, and files that hold one (`.cnb`).

use std::collections::BTreeMap;
use std::path::Path;

use cnb::builder::{
    BUILDPACK_LAYERS, BUILDPACKAGE_METADATA, BuildpackageMetadata, EXTENSION_LAYERS, ModuleLayers,
    parse_label,
};
use cnb::group::{Kind, ModuleId};
use layer::Root;
use oci::{Image, ImageName, Layer, Layout, OciArchive, Origin};

use crate::default_builder;
use crate::locator::ModuleId as Wanted;

use super::{Content, Loader, Module, ModuleError, guest_path, read_descriptor};

impl Loader<'_> {
    /// The modules of a package image. One from a registry is kept in the store under its name.
    pub(super) fn image(&self, kind: Kind, name: &ImageName) -> Result<Vec<Module>, ModuleError> {
        let failed = |source| ModuleError::Image { name: name.to_string(), source };
        let image = (self.open)(name).map_err(failed)?;
        check(kind, &image, &name.to_string())?;
        let remote = matches!(image.origin(), Some(Origin::Registry(_)));
        let image = match name {
            ImageName::Plain(reference) | ImageName::Registry(reference) if remote => {
                let (kept, _) =
                    self.store.fetch_unpacked(&image, self.unpacker, self.events).map_err(failed)?;
                self.store.tag_image(reference, &kept).map_err(failed)?;
                kept
            }
            _ => image,
        };
        self.package(kind, &image, &name.to_string())
    }

    /// The modules of a package file.
    pub(super) fn package_file(
        &self,
        kind: Kind,
        path: &Path,
        place: &str,
    ) -> Result<Vec<Module>, ModuleError> {
        let image = OciArchive::open(path, self.scratch).and_then(|it| it.image(None, self.platform));
        let image = image.map_err(|source| ModuleError::Image { name: place.to_owned(), source })?;
        self.package(kind, &image, place)
    }

    /// The modules of a package in an OCI layout.
    pub(super) fn package_layout(
        &self,
        kind: Kind,
        dir: &Path,
        place: &str,
    ) -> Result<Vec<Module>, ModuleError> {
        let image = Layout::open(dir).and_then(|it| it.image(None, self.platform));
        let image = image.map_err(|source| ModuleError::Image { name: place.to_owned(), source })?;
        self.package(kind, &image, place)
    }

    fn package(&self, kind: Kind, image: &Image, place: &str) -> Result<Vec<Module>, ModuleError> {
        let (main, layers) = check(kind, image, place)?;
        self.store
            .rootfs(image, self.unpacker, self.events)
            .map_err(|source| ModuleError::Image { name: place.to_owned(), source })?;
        let by_diff_id: BTreeMap<String, &Layer> =
            image.layers().iter().map(|layer| (layer.diff_id.to_string(), layer)).collect();
        let mut modules = Vec::new();
        for (id, versions) in &layers {
            for (version, entry) in versions {
                let id = ModuleId { kind, id: id.clone(), version: version.clone() };
                let layer = by_diff_id.get(&entry.layer_diff_id).ok_or_else(|| {
                    not_a_package(place, kind, format!("it has no layer {} for {id}", entry.layer_diff_id))
                })?;
                let module = self.module_in(layer, &id, place)?;
                // The main one first.
                if id == main { modules.insert(0, module) } else { modules.push(module) }
            }
        }
        match modules.first() {
            Some(first) if first.id() == main => Ok(modules),
            _ => {
                Err(not_a_package(place, kind, format!("it does not contain {main}, which it is said to be")))
            }
        }
    }

    /// A module of the builder inside the program.
    pub(super) fn on_default_builder(&self, kind: Kind, wanted: &Wanted) -> Result<Module, ModuleError> {
        let name = default_builder::ensure(self.store, self.platform)?;
        let place = name.to_string();
        let failed = |source| ModuleError::Image { name: place.clone(), source };
        let image = (self.open)(&ImageName::Plain(name.clone())).map_err(failed)?;
        self.store.rootfs(&image, self.unpacker, self.events).map_err(failed)?;
        let layers: ModuleLayers = match image.config.label(layers_label(kind)) {
            Some(text) => parse_label(layers_label(kind), text)?,
            None => ModuleLayers::default(),
        };
        let all = layers.iter().flat_map(|(id, versions)| {
            versions.iter().map(move |(version, entry)| (id, version, &entry.layer_diff_id))
        });
        let fits = |(id, version): (&String, &String)| {
            *id == wanted.id && wanted.version.as_ref().is_none_or(|wanted| wanted == version)
        };
        let found = all.clone().find(|(id, version, _)| fits((id, version)));
        let layer = found.and_then(|(id, version, diff_id)| {
            let layer = image.layers().iter().find(|layer| layer.diff_id.to_string() == *diff_id)?;
            Some((ModuleId { kind, id: id.clone(), version: version.clone() }, layer))
        });
        match layer {
            Some((id, layer)) => self.module_in(layer, &id, &place),
            None => Err(ModuleError::NotOnDefaultBuilder {
                kind,
                wanted: wanted.to_string(),
                has: all.map(|(id, version, _)| format!("{id}@{version}")).collect(),
            }),
        }
    }

    /// The module of this name in an unpacked layer.
    fn module_in(&self, layer: &Layer, id: &ModuleId, place: &str) -> Result<Module, ModuleError> {
        let tree = self.store.rootfs_path(&self.unpacker.kind, layer.diff_id);
        let path = guest_path(id);
        let root = Root::open(&tree)?.subdir(path.trim_start_matches('/')).map_err(|_| {
            not_a_package(place, id.kind, format!("the layer {} has no folder {path}", layer.diff_id))
        })?;
        let shown = format!("{place}{path}");
        let descriptor = read_descriptor(id.kind, &root, &shown)?;
        if descriptor.module() != *id {
            let reason = format!("{path} holds {}, expected {id}", descriptor.module());
            return Err(not_a_package(place, id.kind, reason));
        }
        let content = Content::Layer { tree, layer: Box::new(layer.clone()) };
        Ok(Module { descriptor, content, place: place.to_owned() })
    }
}

/// What the labels of a package say: its main module, and where all of them are.
fn check(kind: Kind, image: &Image, place: &str) -> Result<(ModuleId, ModuleLayers), ModuleError> {
    let label = layers_label(kind);
    let text = |label: &str| {
        image
            .config
            .label(label)
            .ok_or_else(|| not_a_package(place, kind, format!("it has no label `{label}`")))
    };
    let metadata: BuildpackageMetadata = parse_label(BUILDPACKAGE_METADATA, text(BUILDPACKAGE_METADATA)?)?;
    let layers: ModuleLayers = parse_label(label, text(label)?)?;
    Ok((ModuleId { kind, id: metadata.module.id, version: metadata.module.version }, layers))
}

fn layers_label(kind: Kind) -> &'static str {
    match kind {
        Kind::Buildpack => BUILDPACK_LAYERS,
        Kind::Extension => EXTENSION_LAYERS,
    }
}

fn not_a_package(name: &str, kind: Kind, reason: String) -> ModuleError {
    ModuleError::NotAPackage { name: name.to_owned(), kind, reason }
}
