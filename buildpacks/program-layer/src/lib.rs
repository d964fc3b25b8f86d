//! A launch layer that holds one program, which the buildpack brings along. Both buildpacks of the default builder have one.

use std::io;
use std::path::{Path, PathBuf};

use libcnb::build::BuildContext;
use libcnb::data::layer::LayerName;
use libcnb::generic::GenericMetadata;
use libcnb::layer::{CachedLayerDefinition, InvalidMetadataAction, LayerState, RestoredLayerAction};

/// Puts the program `<buildpack>/<program>` into the launch layer `name` and returns its path there.
///
/// A layer restored from the cache that holds the same bytes is left alone, so that it is neither packed nor sent again.
///
/// # Errors
/// The program cannot be read, or the layer cannot be written.
pub fn contribute<B>(
    context: &BuildContext<B>,
    name: LayerName,
    program: &str,
) -> libcnb::Result<PathBuf, B::Error>
where
    B: libcnb::Buildpack,
    B::Error: From<io::Error>,
{
    let failed = |error: io::Error| libcnb::Error::BuildpackError(B::Error::from(error));
    let source = context.buildpack_dir.join(program);
    let content = fs_err::read(&source).map_err(failed)?;
    let in_layer = |layer: &Path| layer.join("bin").join(source.file_name().unwrap_or_default());
    let layer = context.cached_layer(
        name,
        CachedLayerDefinition {
            build: false,
            launch: true,
            invalid_metadata_action: &|_| InvalidMetadataAction::<GenericMetadata>::DeleteLayer,
            restored_layer_action: &|_: &GenericMetadata, layer| match fs_err::read(in_layer(layer)) {
                Ok(restored) if restored == content => RestoredLayerAction::KeepLayer,
                _ => RestoredLayerAction::DeleteLayer,
            },
        },
    )?;
    let target = in_layer(&layer.path());
    if let LayerState::Empty { .. } = layer.state {
        fs_err::create_dir_all(layer.path().join("bin")).map_err(failed)?;
        // Copying keeps the permission to execute.
        fs_err::copy(&source, &target).map_err(failed)?;
    }
    Ok(target)
}
