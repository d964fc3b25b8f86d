//! What a build leaves becomes the cache of the next one.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use cnb::launch::escape_id;
use cnb::layer::{LayerTypes, Store};
use fs_err as fs;
use layer::{CopyOptions, copy_tree, overlay};

use super::index::{BuildpackRecord, Index, LayerRecord, TreeRecord, is_plain};
use super::{Cache, CacheError, like_parent_of, remove};
use crate::export::KnownLayer;

/// All that is to be in the cache: what is not named here is in it no more.
#[derive(Debug, Default)]
pub struct Commit<'a> {
    /// The buildpacks, in the order of the group.
    pub buildpacks: Vec<CommitBuildpack<'a>>,
    /// The folder with SBOM files of cached layers, `<layers>/sbom/cache`, if there is one.
    pub sbom: Option<&'a Path>,
}

/// A buildpack and its cached layers.
#[derive(Debug)]
pub struct CommitBuildpack<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its version.
    pub version: &'a str,
    /// Its `store.toml`.
    pub store: Option<&'a Store>,
    /// Its layers that are to be kept.
    pub layers: Vec<CommitLayer<'a>>,
}

/// A cached layer.
#[derive(Debug)]
pub struct CommitLayer<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is for.
    pub types: LayerTypes,
    /// `[metadata]` of its `<layer>.toml`.
    pub metadata: Option<&'a toml::Table>,
    /// Its tar, where there is one.
    pub known: Option<KnownLayer>,
    /// What its tar depends on besides its content; see [`Cache::known`].
    pub made_as: &'a str,
    /// Where it is.
    pub contents: Contents,
}

/// Where the contents of a layer are when a build ended. Nothing writes there any more, and no overlay with that upper
/// is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// In the cache, unchanged.
    Cached,
    /// In the cache, but for what this part of an upper changes: `<upper>/<buildpack>/<layer>`.
    Upper(PathBuf),
    /// All of it in this folder, `<buildpack>/<layer>` in an upper or in an ordinary folder.
    Whole(PathBuf),
}

impl Cache {
    /// Makes the cache what `commit` says. Folders that it names are moved from where they are.
    ///
    /// # Errors
    /// Files that cannot be read or moved. The cache is what it was then, but folders may have moved.
    pub fn commit(&mut self, commit: &Commit<'_>) -> Result<(), CacheError> {
        let mut next = Index { boot: self.index.boot.clone(), ..Index::default() };
        let mut names = Names::new(&self.dir.join("trees"))?;
        for buildpack in &commit.buildpacks {
            let mut layers = Vec::new();
            for layer in &buildpack.layers {
                layers.push(self.commit_layer(buildpack.id, layer, &mut names)?);
            }
            layers.sort_by(|a, b| a.name.cmp(&b.name));
            next.buildpacks.push(BuildpackRecord {
                id: buildpack.id.to_owned(),
                version: buildpack.version.to_owned(),
                store: buildpack.store.map(Store::to_toml),
                layers,
            });
        }
        next.sbom = self.commit_sbom(commit.sbom, &mut names)?;
        // Replacing it by itself would wait for the disk for nothing.
        if next != self.index {
            next.write(&self.dir)?;
            self.index = next;
        }
        // What was replaced. Whatever stays is swept at the next opening.
        let _ = self.sweep();
        Ok(())
    }

    fn commit_layer(
        &self,
        id: &str,
        layer: &CommitLayer<'_>,
        names: &mut Names,
    ) -> Result<LayerRecord, CacheError> {
        if !is_plain(layer.name) {
            return Err(CacheError::BadName { name: layer.name.to_owned() });
        }
        let cached = self.index.layer(id, layer.name);
        let missing = || CacheError::NoLayer { buildpack: id.to_owned(), name: layer.name.to_owned() };
        let (known, made_as) = (layer.known.clone(), layer.made_as.to_owned());
        let tree = match &layer.contents {
            Contents::Cached => cached.ok_or_else(missing)?.tree.clone(),
            Contents::Whole(from) => {
                self.new_tree(names, &path_in_tree(id, layer.name), from, |to| move_tree(from, to))?
            }
            Contents::Upper(upper) => {
                let below = self.layer_dir(id, cached.ok_or_else(missing)?);
                self.new_tree(names, &path_in_tree(id, layer.name), upper, |to| {
                    // Other names for files of a tree that nobody writes into; the old tree goes soon.
                    if overlay::link_tree(&below, to).is_err() {
                        if to.exists() {
                            remove(to)?;
                        }
                        copy_tree(&below, to, &CopyOptions::default())?;
                    }
                    Ok(overlay::apply(upper, to)?)
                })?
            }
        };
        Ok(LayerRecord {
            name: layer.name.to_owned(),
            tree,
            build: layer.types.build,
            launch: layer.types.launch,
            cache: layer.types.cache,
            metadata: layer.metadata.map(toml::Table::to_string),
            diff_id: known.as_ref().map(|known| known.diff_id),
            blob: known.and_then(|known| known.blob),
            made_as,
        })
    }

    /// Makes a tree with a layer at `path` in it; `make` makes the layer, `from` is where its parent's mode and owner
    /// are found.
    fn new_tree(
        &self,
        names: &mut Names,
        path: &Path,
        from: &Path,
        make: impl FnOnce(&Path) -> Result<(), CacheError>,
    ) -> Result<TreeRecord, CacheError> {
        let name = names.next();
        let tree = self.dir.join("trees").join(&name);
        fs::create_dir(&tree)?;
        let to = tree.join(path);
        if let Some(parent) = path.parent() {
            like_parent_of(from, &tree.join(parent))?;
        }
        make(&to)?;
        Ok(TreeRecord { name, shape: layer::shape(&to)? })
    }

    /// SBOM files are few and small, and come from a mounted overlay: they are copied, when they are not the same.
    fn commit_sbom(&self, from: Option<&Path>, names: &mut Names) -> Result<Option<TreeRecord>, CacheError> {
        let Some(from) = from.filter(|from| from.is_dir()) else { return Ok(None) };
        if let Some(old) = &self.index.sbom {
            let tree = self.tree(old);
            // Neither has anything that the other has not, or has otherwise.
            if overlay::same(from, &tree)? && overlay::same(&tree, from)? {
                return Ok(Some(old.clone()));
            }
        }
        let name = names.next();
        let tree = self.dir.join("trees").join(&name);
        copy_tree(from, &tree, &CopyOptions::default())?;
        Ok(Some(TreeRecord { name, shape: layer::shape(&tree)? }))
    }
}

fn path_in_tree(id: &str, name: &str) -> PathBuf {
    Path::new(&escape_id(id)).join(name)
}

/// Moves a layer that needs nothing of what was cached.
fn move_tree(from: &Path, to: &Path) -> Result<(), CacheError> {
    match fs::rename(from, to) {
        // The upper is on another file system.
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            copy_tree(from, to, &CopyOptions::default())?;
        }
        result => result?,
    }
    Ok(overlay::strip(to)?)
}

/// Names for new trees.
struct Names {
    used: BTreeSet<String>,
    next: u64,
}

impl Names {
    fn new(trees: &Path) -> io::Result<Self> {
        let names = fs::read_dir(trees)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        Ok(Self { used: names.collect::<io::Result<_>>()?, next: 0 })
    }

    fn next(&mut self) -> String {
        loop {
            let name = self.next.to_string();
            self.next += 1;
            if !self.used.contains(&name) {
                return name;
            }
        }
    }
}
