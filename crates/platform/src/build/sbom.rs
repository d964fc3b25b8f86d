//! SBOM files of the previous image, which come back beside the layers they are about.

use std::path::Path;

use cnb::label::LayersMetadata;
use events::Events;
use layer::unpack::{Limits, Options, Owners};
use layer::{Kind, Root};
use lifecycle::restore::RestoredSbom;
use oci::Image;

use super::BuildError;
use super::bench::Bench;

/// More than any SBOM layer has.
const LIMITS: Limits = Limits { bytes: 1 << 30, entries: 100_000 };
const FILE_LIMIT: u64 = 256 << 20;
/// Where the files are in the layer.
const LAUNCH: &str = "layers/sbom/launch";

/// Reads the SBOM layer of the previous image: `/layers/sbom/launch/<buildpack>/<layer>/<file>`. A layer that
/// cannot be read costs the files, not the build.
pub(super) fn of_previous(
    image: &Image,
    label: &LayersMetadata,
    bench: &Bench,
    events: &dyn Events,
) -> Result<Vec<RestoredSbom>, BuildError> {
    let sha = label.sbom.as_ref().and_then(|layer| layer.sha.parse().ok());
    let Some(layer) = image.layers().iter().find(|layer| Some(layer.diff_id) == sha) else {
        return Ok(Vec::new());
    };
    let dir = bench.folder("previous-sbom")?;
    let options =
        Options { owners: Owners::Ours, limits: LIMITS, diff_id: Some(layer.diff_id), ..Options::default() };
    let unpacked = layer
        .open()
        .map_err(|error| error.to_string())
        .and_then(|reader| layer::unpack::unpack(reader, &dir, &options).map_err(|error| error.to_string()));
    if let Err(error) = unpacked {
        events.warning(&format!("SBOM files of the previous image are not restored: {error}"));
        return Ok(Vec::new());
    }
    read(&Root::open(&dir)?)
}

fn read(root: &Root) -> Result<Vec<RestoredSbom>, BuildError> {
    let mut found = Vec::new();
    for buildpack in folders(root, Path::new(LAUNCH))? {
        for layer in folders(root, &Path::new(LAUNCH).join(&buildpack))? {
            let dir = Path::new(LAUNCH).join(&buildpack).join(&layer);
            for file in root.read_dir(&dir)?.into_iter().filter(|entry| entry.kind == Kind::File) {
                let Ok(name) = file.name.into_string() else { continue };
                let content = root.read(dir.join(&name), FILE_LIMIT)?;
                found.push(RestoredSbom {
                    buildpack: buildpack.clone(),
                    layer: layer.clone(),
                    file: name,
                    content,
                });
            }
        }
    }
    Ok(found)
}

fn folders(root: &Root, path: &Path) -> Result<Vec<String>, BuildError> {
    if !root.is_dir(path) {
        return Ok(Vec::new());
    }
    let entries = root.read_dir(path)?.into_iter().filter(|entry| entry.kind == Kind::Dir);
    Ok(entries.filter_map(|entry| entry.name.into_string().ok()).collect())
}
