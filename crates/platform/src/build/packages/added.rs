//! What extensions of the run image installed: found by comparing its package databases before and after each of them,
//! written where the SBOM files of buildpacks are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dockerfile::apply::Applied;
use events::Events;
use fs_err as fs;
use layer::Digest;
use oci::{Image, Layer};
use packages::PackageSet;
use packages::sbom::{self, Origin};

use super::databases::{Databases, DatabasesError};
use super::{chain, known};
use crate::build::bench::Bench;
use crate::build::request::BuildRequest;

/// The layers that one extension put on the run image, the lowest first.
#[derive(Debug)]
struct ExtendedBy {
    origin: Origin,
    layers: Vec<Layer>,
}

/// The SBOM files of one extension.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SbomFiles {
    id: String,
    cyclonedx: Vec<u8>,
    spdx: Vec<u8>,
}

/// The SBOM files of the extensions of a build.
#[derive(Clone, Debug, Default)]
pub(in crate::build) struct Sboms(Vec<SbomFiles>);

impl Sboms {
    /// Compares the databases of `base` with those of the image after each extension that was applied to it.
    /// `version_of` knows the extensions' versions; `created` is the time that the documents say. Databases that cannot
    /// be read cost the files, not the build.
    pub fn find(
        request: &BuildRequest,
        base: &Image,
        applied: &Applied,
        version_of: &dyn Fn(&str) -> String,
        created: &str,
        events: &dyn Events,
    ) -> Self {
        // A tree for each layer, the other way round; else the layers themselves are read.
        let mut trees: BTreeMap<Digest, PathBuf> = BTreeMap::new();
        if applied.trees.len() == applied.new_layers.len() {
            let layers = applied.new_layers.iter().map(|new| new.layer.diff_id);
            trees.extend(layers.zip(applied.trees.iter().rev().cloned()));
        }
        let mut extensions: Vec<ExtendedBy> = Vec::new();
        for new in &applied.new_layers {
            match extensions.last_mut().filter(|last| last.origin.id == new.origin) {
                Some(last) => last.layers.push(new.layer.clone()),
                None => extensions.push(ExtendedBy {
                    origin: Origin { id: new.origin.clone(), version: version_of(&new.origin) },
                    layers: vec![new.layer.clone()],
                }),
            }
        }
        let databases = Databases::new(request, events);
        match added(&databases, base, extensions, &|diff_id| trees.get(&diff_id).cloned()) {
            Ok(added) => Self(added.iter().map(|(origin, set)| files(origin, set, created)).collect()),
            Err(error) => {
                let error = chain(&error);
                events
                    .warning(&format!("the SBOM does not say which packages extensions installed: {error}"));
                Self::default()
            }
        }
    }

    /// Writes the files to `<layers>/sbom/launch/<id>/`, after the buildpacks' files were gathered there.
    pub fn write(&self, layers: &Path, bench: &Bench) -> std::io::Result<()> {
        for files in &self.0 {
            let mut dir = layers.join("sbom/launch").join(cnb::launch::escape_id(&files.id));
            // A buildpack can have the same id, and files of its own.
            if dir.join("sbom.cdx.json").exists() || dir.join("sbom.spdx.json").exists() {
                dir.push("extension");
            }
            let new: Vec<PathBuf> = dir
                .ancestors()
                .take_while(|dir| *dir != layers && !dir.exists())
                .map(Path::to_owned)
                .collect();
            fs::create_dir_all(&dir)?;
            for (name, content) in [("sbom.cdx.json", &files.cyclonedx), ("sbom.spdx.json", &files.spdx)] {
                let path = dir.join(name);
                fs::write(&path, content)?;
                bench.give(&path)?;
            }
            new.iter().try_for_each(|dir| bench.give(dir))?;
        }
        Ok(())
    }
}

/// The packages that each extension added and that are still there at the end.
fn added(
    databases: &Databases<'_>,
    base: &Image,
    extensions: Vec<ExtendedBy>,
    tree: &dyn Fn(Digest) -> Option<PathBuf>,
) -> Result<Vec<(Origin, PackageSet)>, DatabasesError> {
    if extensions.is_empty() {
        return Ok(Vec::new());
    }
    let diff_ids = |extension: &ExtendedBy| extension.layers.iter().map(|layer| layer.diff_id).collect();
    let name = known::of_extensions(base, extensions.iter().map(|it| (it.origin.id.as_str(), diff_ids(it))));
    let sets: Vec<PackageSet> = match known::read(databases.store(), &name) {
        Some(sets) => sets,
        None => {
            let sets = compare(databases, base, &extensions, tree)?;
            known::write(databases.store(), &name, &sets);
            sets
        }
    };
    let added = extensions.into_iter().map(|extension| extension.origin).zip(sets);
    Ok(added.filter(|(_, set)| !set.is_empty()).collect())
}

/// What each extension added, of the packages that are there after the last.
fn compare(
    databases: &Databases<'_>,
    base: &Image,
    extensions: &[ExtendedBy],
    tree: &dyn Fn(Digest) -> Option<PathBuf>,
) -> Result<Vec<PackageSet>, DatabasesError> {
    let mut layers = base.layers().to_vec();
    let mut before = databases.of_layers(&layers, tree)?.unwrap_or_default();
    let mut found = Vec::new();
    for extension in extensions {
        layers.extend(extension.layers.iter().cloned());
        let after = databases.of_layers(&layers, tree)?.unwrap_or_default();
        found.push(PackageSet::added(&before, &after));
        before = after;
    }
    Ok(found.iter().map(|added| added.retained_in(&before)).collect())
}

fn files(origin: &Origin, added: &PackageSet, created: &str) -> SbomFiles {
    SbomFiles {
        id: origin.id.clone(),
        cyclonedx: sbom::cyclonedx(added, origin),
        spdx: sbom::spdx(added, origin, created),
    }
}
