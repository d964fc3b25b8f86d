//! Layers that are kept between builds: how they come back, what the build did with them, what is kept next.
//!
//! Where an overlay can be mounted, kept layers are its lowers and nothing is read or copied; else they are
//! copied. Not here: the cache itself (`lifecycle::cache`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cnb::label::CacheMetadata;
use cnb::launch::escape_id;
use events::Events;
use lifecycle::Place;
use lifecycle::build::{BuiltLayer, BuiltModule};
use lifecycle::cache::{Cache, CacheError, Change, Commit, CommitBuildpack, CommitLayer, Contents, Snapshot};
use lifecycle::export::{ExportError, Exported, KnownLayer};
use lifecycle::restore::{RestorePlan, RestoredSbom};
use oci::{Digest, Layer};
use sandbox::RenameWatch;

use super::BuildError;
use super::bench::Bench;
use super::cache_image::{self, CacheImage};
use super::request::{BuildRequest, RestoreMode};
use crate::cache_spec::CachePlace;

/// A layer by buildpack id and name.
type Id = (String, String);

/// The cache of this build, and how its layers came back.
#[derive(Debug)]
pub(super) struct Kept {
    cache: Cache,
    /// What a layer's tar depends on besides its content.
    made_as: String,
    image: Option<CacheImage>,
    way: Way,
    changes: BTreeMap<Id, Change>,
    /// Layers that were packed for the cache image alone.
    packed: BTreeMap<Id, KnownLayer>,
}

/// How layers came back.
#[derive(Debug)]
enum Way {
    /// As lowers of an overlay with this upper.
    Overlay { upper: PathBuf, lowers: Vec<PathBuf>, restored: BTreeSet<Id> },
    /// As copies, or not at all: a first build has none.
    Copy { layers: PathBuf, restored: BTreeMap<Id, Snapshot> },
}

impl Kept {
    /// Opens the cache, waiting for another build of the same app.
    pub fn open(request: &BuildRequest, made_as: String, events: &dyn Events) -> Result<Self, BuildError> {
        let dir = folder(request);
        let mut cache = match Cache::try_open(&dir)? {
            Some(cache) => cache,
            None => {
                events.info("Waiting for another build that uses the same cache");
                Cache::open(&dir)?
            }
        };
        request.store.scratch_elsewhere(cache.scratch());
        if let Some(why) = cache.discarded() {
            events.warning(why);
        }
        if request.clear_cache {
            cache.clear()?;
        }
        let image = match &request.cache {
            CachePlace::Image(name) => Some(CacheImage::open(request, name.parse()?, events)?),
            CachePlace::Store { .. } | CachePlace::Folder(_) => None,
        };
        if let Some(image) = image.as_ref().filter(|_| !request.clear_cache) {
            image.import(&mut cache, &made_as, request, events)?;
        }
        let layers = cache.scratch().join("layers");
        let way = Way::Copy { layers, restored: BTreeMap::new() };
        Ok(Self { cache, made_as, image, way, changes: BTreeMap::new(), packed: BTreeMap::new() })
    }

    pub fn metadata(&self) -> CacheMetadata {
        self.cache.metadata()
    }

    pub fn sboms(&self, events: &dyn Events) -> Vec<RestoredSbom> {
        self.cache.sboms().unwrap_or_else(|error| {
            events.warning(&format!("SBOM files of cached layers are not restored: {error}"));
            Vec::new()
        })
    }

    /// What to watch for renames that only a copy allows, when layers came back as lowers of the overlay at `layers`.
    pub fn watch(&self, layers: &Place) -> Option<RenameWatch> {
        let Way::Overlay { upper, lowers, .. } = &self.way else { return None };
        Some(RenameWatch {
            merged: layers.host.clone(),
            target: layers.guest.clone(),
            upper: upper.clone(),
            lowers: lowers.clone(),
        })
    }

    /// Brings the contents of layers back, and gives the folder that will be `<layers>`.
    pub fn restore(
        &mut self,
        plan: &RestorePlan,
        mode: RestoreMode,
        bench: &mut Bench,
        events: &dyn Events,
    ) -> Result<PathBuf, BuildError> {
        let ids: Vec<Id> = plan.contents().map(|(id, layer)| (id.to_owned(), layer.name.clone())).collect();
        self.clean()?;
        if ids.is_empty() || mode == RestoreMode::Copy {
            return self.copy(&ids, bench);
        }
        match self.mount(&ids, bench) {
            Err(error) if mode == RestoreMode::Auto => {
                events.debug(&format!("cached layers are copied, because they cannot be mounted: {error}"));
                self.copy(&ids, bench)
            }
            result => result,
        }
    }

    /// Removes what an earlier attempt of this build left.
    fn clean(&self) -> Result<(), BuildError> {
        for name in ["layers", "upper", "work"] {
            sandbox::remove_tree(&self.cache.scratch().join(name))?;
        }
        Ok(())
    }

    fn mount(&mut self, ids: &[Id], bench: &mut Bench) -> Result<PathBuf, BuildError> {
        // The topmost lower says who `<layers>` belongs to.
        let mut lowers = vec![bench.guest_folder("layers.base", 0o755)?];
        lowers.extend(self.cache.lowers(ids.iter().map(|(id, name)| (id.as_str(), name.as_str()))));
        let scratch = self.cache.scratch();
        let layered = bench.overlay_in(&scratch, "layers", lowers.clone())?;
        self.way = Way::Overlay { upper: layered.upper, lowers, restored: ids.iter().cloned().collect() };
        Ok(layered.merged)
    }

    fn copy(&mut self, ids: &[Id], bench: &Bench) -> Result<PathBuf, BuildError> {
        let layers = self.cache.scratch().join("layers");
        bench.make_guest_folder(&layers, 0o755)?;
        let mut restored = BTreeMap::new();
        for (id, name) in ids {
            let snapshot = self.cache.restore_copy(id, name, &layers)?;
            restored.insert((id.clone(), name.clone()), snapshot);
        }
        self.way = Way::Copy { layers: layers.clone(), restored };
        Ok(layers)
    }

    /// Where `<layers>` and what is written to it are, on this machine.
    pub fn folders(&self) -> [PathBuf; 2] {
        ["layers", "upper"].map(|name| self.cache.scratch().join(name))
    }

    /// Looks at what the build did with each layer.
    pub fn look(&mut self, modules: &[BuiltModule]) -> Result<(), BuildError> {
        self.changes.clear();
        for (module, layer) in layers(modules) {
            let id = (module.element.id.clone(), layer.name.clone());
            let change = match &self.way {
                Way::Overlay { upper, restored, .. } => {
                    self.cache.change(upper, &id.0, &id.1, restored.contains(&id))?
                }
                Way::Copy { restored, .. } => match restored.get(&id) {
                    Some(snapshot) => Cache::change_of_copy(snapshot)?,
                    None => Change::New,
                },
            };
            self.changes.insert(id, change);
        }
        Ok(())
    }

    /// What is known of a layer that the build left as it was.
    pub fn unchanged(&self, id: &str, name: &str) -> Option<KnownLayer> {
        let change = self.changes.get(&(id.to_owned(), name.to_owned()))?;
        (*change == Change::Unchanged).then(|| self.cache.known(id, name, &self.made_as))?
    }

    /// Packs the layers that only the cache image needs. They must still be where the build left them.
    pub fn pack(
        &mut self,
        request: &BuildRequest,
        modules: &[BuiltModule],
        place: &Place,
        ids: layer::pack::Ids,
    ) -> Result<(), BuildError> {
        let Some(image) = &self.image else { return Ok(()) };
        let cached = |layer: &BuiltLayer| layer.toml.types.cache && !layer.toml.types.launch;
        for (module, layer) in layers(modules).filter(|(_, layer)| cached(layer)) {
            let id = (module.element.id.clone(), layer.name.clone());
            let known = self.unchanged(&id.0, &id.1);
            let there = |known: &KnownLayer| {
                image.layer(known.diff_id).is_some()
                    || known.blob.as_ref().is_some_and(|blob| request.store.has(blob))
            };
            let known = match known.filter(there) {
                Some(known) => known,
                None => pack(request, &place.join(escape_id(&id.0)).join(&id.1), ids)?,
            };
            self.packed.insert(id, known);
        }
        Ok(())
    }

    /// Makes the cache image what the cache is, after [`Kept::keep`].
    pub fn push(
        &self,
        request: &BuildRequest,
        exported: &Exported,
        sbom: Option<&Place>,
        ids: layer::pack::Ids,
        events: &dyn Events,
    ) -> Result<(), BuildError> {
        let Some(image) = &self.image else { return Ok(()) };
        let mut layers: BTreeMap<Digest, Layer> =
            exported.layers.iter().map(|it| (it.layer.diff_id, it.layer.clone())).collect();
        let sbom = sbom.map(|place| pack(request, place, ids)).transpose()?;
        for known in self.packed.values().chain(&sbom) {
            let here = known.blob.clone().filter(|blob| request.store.has(blob)).map(|descriptor| Layer {
                descriptor,
                diff_id: known.diff_id,
                blobs: request.store.blobs(),
            });
            if let Some(layer) = here.or_else(|| image.layer(known.diff_id).cloned()) {
                layers.insert(known.diff_id, layer);
            }
        }
        let metadata = cache_image::metadata(&self.cache, sbom.map(|known| known.diff_id));
        image.push(request, &metadata, &layers, events)
    }

    /// Keeps the layers that buildpacks want kept. No overlay may be mounted on them any more.
    pub fn keep(
        &mut self,
        modules: &[BuiltModule],
        exported: &Exported,
        sbom: Option<&Path>,
    ) -> Result<(), CacheError> {
        let known: BTreeMap<&str, KnownLayer> = exported
            .layers
            .iter()
            .map(|it| {
                let blob = Some(it.layer.descriptor.clone());
                (it.id.as_str(), KnownLayer { diff_id: it.layer.diff_id, blob })
            })
            .collect();
        let Self { cache, made_as, way, changes, packed, .. } = self;
        let kept = Left { made_as, way, changes, packed, known };
        let buildpacks = modules.iter().map(|module| {
            let layers = module.layers.iter().filter(|layer| layer.toml.types.cache && layer.has_contents);
            CommitBuildpack {
                id: &module.element.id,
                version: &module.element.version,
                store: module.store.as_ref(),
                layers: layers.filter_map(|layer| kept.layer(module, layer)).collect(),
            }
        });
        let commit = Commit { buildpacks: buildpacks.collect(), sbom };
        cache.commit(&commit)
    }
}

/// What a build left, for the cache.
struct Left<'a> {
    made_as: &'a str,
    way: &'a Way,
    changes: &'a BTreeMap<Id, Change>,
    packed: &'a BTreeMap<Id, KnownLayer>,
    /// Layers of the image by id.
    known: BTreeMap<&'a str, KnownLayer>,
}

impl<'a> Left<'a> {
    fn layer(&self, module: &'a BuiltModule, layer: &'a BuiltLayer) -> Option<CommitLayer<'a>> {
        let id = (module.element.id.clone(), layer.name.clone());
        let path = Path::new(&escape_id(&id.0)).join(&id.1);
        let contents = match (self.way, self.changes.get(&id)?) {
            (_, Change::Gone) => return None,
            (_, Change::Unchanged) => Contents::Cached,
            (Way::Overlay { upper, .. }, Change::Changed) => Contents::Upper(upper.join(path)),
            (Way::Overlay { upper, .. }, Change::New) => Contents::Whole(upper.join(path)),
            (Way::Copy { layers, .. }, _) => Contents::Whole(layers.join(path)),
        };
        let known = self.known.get(format!("{}:{}", id.0, id.1).as_str()).or_else(|| self.packed.get(&id));
        Some(CommitLayer {
            name: &layer.name,
            types: layer.toml.types,
            metadata: layer.toml.metadata.as_ref(),
            known: known.cloned(),
            made_as: self.made_as,
            contents,
        })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // The next opening sweeps what cannot be removed now.
        let _ = self.clean();
    }
}

fn layers(modules: &[BuiltModule]) -> impl Iterator<Item = (&BuiltModule, &BuiltLayer)> {
    modules.iter().flat_map(|module| {
        module.layers.iter().filter(|layer| layer.has_contents).map(move |layer| (module, layer))
    })
}

/// Makes a layer of a tree, in the store.
fn pack(request: &BuildRequest, place: &Place, ids: layer::pack::Ids) -> Result<KnownLayer, BuildError> {
    let compression = request.compression;
    let mut blob = request.store.unhashed_blob_writer()?;
    let options = layer::pack::Options { compression, ..Default::default() };
    let tree = layer::pack::Tree::new(&place.host, &place.guest);
    let packed = layer::pack::pack_tree(&options, &mut blob, &tree, ids)
        .map_err(|source| ExportError::Pack { id: place.guest.display().to_string(), source })?;
    let descriptor = blob.commit_with(compression.media_type(), packed.digest)?;
    Ok(KnownLayer { diff_id: packed.diff_id, blob: Some(descriptor) })
}

/// Where the cache of this build is: by its own name, or by the image's.
fn folder(request: &BuildRequest) -> PathBuf {
    let name = match &request.cache {
        CachePlace::Folder(dir) => return dir.join("build-cache"),
        CachePlace::Store { name: Some(name) } => format!("name {name}"),
        CachePlace::Store { name: None } => format!("app {}", request.destination),
        CachePlace::Image(name) => format!("image {name}"),
    };
    // Trees on disk differ by whose ids their files have.
    let ids = super::resolve::unpacker(request.ids).kind;
    let digest = Digest::of(format!("{name} {ids} {}", request.platform).as_bytes());
    request.store.cache_dir().join(&digest.hex()[..32])
}
