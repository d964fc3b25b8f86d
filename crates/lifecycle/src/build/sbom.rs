//! SBOM files: found beside a buildpack's layers, gathered in `<layers>/sbom` (buildpack.md, "Software-Bill-of-Materials").

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use cnb::descriptor::ModuleDescriptor;
use cnb::group::GroupElement;
use cnb::output::{BomEntry, SbomFormat, legacy_sbom};
use fs_err as fs;
use layer::Root;

use super::{BuildError, BuildInputs, BuiltLayer};
use crate::files::DESCRIPTOR_LIMIT;

/// An SBOM file of a buildpack and the folders of `<layers>/sbom` it belongs in.
#[derive(Debug)]
pub(super) struct SbomFile {
    /// The id of the buildpack.
    id: String,
    /// Its name in the buildpack's layers folder, from that of all layers.
    path: PathBuf,
    /// `launch`, `build` and `cache`, each with the path of the copy in it.
    copies: Vec<PathBuf>,
}

/// The SBOM files of one buildpack: of the app image (`launch.sbom.*`), of the build, and of layers.
pub(super) fn find(
    element: &GroupElement,
    descriptor: &ModuleDescriptor,
    root: &Root,
    layers: &[BuiltLayer],
) -> Result<Vec<SbomFile>, BuildError> {
    let escaped = cnb::launch::escape_id(&element.id);
    let by_name: HashMap<&str, &BuiltLayer> = layers.iter().map(|it| (it.name.as_str(), it)).collect();
    let mut files = Vec::new();
    for entry in root.read_dir("")? {
        let Some(name) = entry.name.to_str() else { continue };
        let (Some(format), Some(stem)) = (SbomFormat::of_file(name), name.split('.').next()) else {
            continue;
        };
        let kinds: Vec<&str> = match (stem, by_name.get(stem)) {
            ("launch", _) => vec!["launch"],
            ("build", _) => vec!["build"],
            (_, Some(layer)) => {
                let first = if layer.toml.types.launch { "launch" } else { "build" };
                let cache = layer.toml.types.cache.then_some("cache");
                std::iter::once(first).chain(cache).collect()
            }
            // The reference passes over files of layers that are not there.
            (_, None) => continue,
        };
        if !format.is_in(&descriptor.info.sbom_formats) {
            let media_type = format.media_type();
            return Err(BuildError::SbomFormat { id: element.id.clone(), file: name.to_owned(), media_type });
        }
        let layer = if matches!(stem, "launch" | "build") { "" } else { stem };
        let copy = |kind| Path::new(kind).join(&escaped).join(layer).join(format.file_name());
        files.push(SbomFile {
            id: element.id.clone(),
            path: Path::new(&escaped).join(name),
            copies: kinds.into_iter().map(copy).collect(),
        });
    }
    Ok(files)
}

/// Makes `<layers>/sbom` anew.
pub(super) fn gather(
    inputs: &BuildInputs<'_>,
    files: &[SbomFile],
    launch_bom: &[BomEntry],
    build_bom: &[BomEntry],
) -> Result<(), BuildError> {
    let sbom = inputs.layers.host.join("sbom");
    remove(&sbom)?;
    let root = Root::beneath(&inputs.layers.host)?;
    // Platforms before 0.8 have no folder for them.
    for file in files.iter().filter(|_| inputs.platform_api.at_least(8)) {
        let content = root
            .read(&file.path, 16 * DESCRIPTOR_LIMIT)
            .map_err(|error| BuildError::from(error).left_by(&file.id, inputs.layers))?;
        for copy in &file.copies {
            write(inputs, &sbom, copy, &content)?;
        }
    }
    if inputs.platform_api.at_least(9) {
        write(inputs, &sbom, Path::new("launch/sbom.legacy.json"), legacy_sbom(launch_bom).as_bytes())?;
        write(inputs, &sbom, Path::new("build/sbom.legacy.json"), legacy_sbom(build_bom).as_bytes())?;
    }
    Ok(())
}

/// Removes whatever a buildpack put there, a symlink too.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes a file below `base`, and gives it and the folders on its way to the buildpacks' user.
pub(super) fn write(
    inputs: &BuildInputs<'_>,
    base: &Path,
    name: &Path,
    content: &[u8],
) -> Result<(), BuildError> {
    let path = base.join(name);
    let mut folders: Vec<_> = path.ancestors().skip(1).take_while(|dir| dir.starts_with(base)).collect();
    folders.reverse();
    for folder in folders {
        match fs::create_dir(folder) {
            Ok(()) => inputs.give(folder)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
    }
    fs::write(&path, content)?;
    Ok(inputs.give(&path)?)
}
