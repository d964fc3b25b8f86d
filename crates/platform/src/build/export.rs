//! Exporting: the image is put together and goes where it was asked to.

use std::collections::BTreeSet;

use cnb::label::{ProjectMetadata, RunImageForRebase};
use cnb::metadata::LauncherMetadata;
use fs_err as fs;
use layer::pack::{Ids as LayerIds, Owner};
use lifecycle::build::Built;
use lifecycle::detect::Detected;
use lifecycle::export::{ExportInputs, Exported};
use oci::{ImageName, Origin, Reference};
use sandbox::Ids;

use super::phases::{PLATFORM_API, Run};
use super::request::BuildRequest;
use super::resolve::{self, Resolved};
use super::{BuildError, images};
use crate::time;

/// 1980-01-01T00:00:01Z.
const DEFAULT_CREATED: u64 = 315_532_801;

/// Puts the image together and writes it. Its name is given last, so that nothing half-made ever has it. A blob of the
/// store that turns out to be corrupt is removed, and fetched or made again.
pub(super) fn export(run: &Run<'_>, detected: &Detected, built: &Built) -> Result<Exported, BuildError> {
    let store = &run.request.store;
    let mut removed = BTreeSet::new();
    loop {
        let error = match export_once(run, detected, built) {
            Err(error) => error,
            exported => return exported,
        };
        match corrupt_blob(&error, &store.blobs().origin().to_string()) {
            Some(digest) if removed.insert(digest) => {
                run.events.warning(&format!("{}: fetched or made again", last_cause(&error)));
                store.discard(digest)?;
            }
            _ => return Err(error),
        }
    }
}

/// The corrupt blob of this place that is to blame.
fn corrupt_blob(error: &BuildError, place: &str) -> Option<oci::Digest> {
    causes(error).find_map(|cause| match cause.downcast_ref() {
        Some(oci::Error::CorruptBlob { digest, place: found, .. }) if found == place => Some(*digest),
        _ => None,
    })
}

fn last_cause(error: &BuildError) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

fn causes(error: &BuildError) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source())
}

fn export_once(run: &Run<'_>, detected: &Detected, built: &Built) -> Result<Exported, BuildError> {
    let request = run.request;
    let launcher = run.bench.path("launcher");
    fs::write(&launcher, embedded::launcher())?;
    let run_image = &run.run_image;
    let metadata = built.metadata(&detected.group.group, &detected.group.group_extensions);
    let project = project_metadata(&run.resolved);
    let inputs = ExportInputs {
        platform_api: PLATFORM_API,
        modules: &built.modules,
        metadata: &metadata,
        layers: &run.layers,
        app: &run.app,
        ids: layer_ids(run),
        run_image: &run_image.image,
        extended: run.extended.as_ref(),
        run_image_for_rebase: RunImageForRebase {
            top_layer: String::new(),
            reference: images::reference_of(&run_image.name, &run_image.image),
            image: run_image.entry.image.clone(),
            mirrors: run_image.entry.mirrors.clone(),
        },
        previous: run.resolved.previous.as_ref().map(|(image, label)| (image, label)),
        launcher: &launcher,
        launcher_metadata: LauncherMetadata {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..LauncherMetadata::default()
        },
        project: &project,
        exec_env: &request.exec_env,
        default_process: request.default_process.as_deref(),
        created: created(request),
        compression: request.compression,
        store: &request.store,
        unchanged: &|id, name| run.kept.unchanged(id, name),
    };
    let failed = |source| BuildError::Sink { name: request.destination.to_string(), source };
    let Some(reference) = resolve::registry_of(&request.destination) else {
        keep_run_image(run).map_err(failed)?;
        let exported = lifecycle::export::export(&inputs, &|_| (), run.events)?;
        let sinks = oci::Sinks { store: request.store.clone(), client: (*request.client).clone() };
        let names: Vec<Reference> = request.tags.iter().filter_map(|tag| tag.reference().cloned()).collect();
        sinks.write(&exported.image, &request.destination, &names, run.events).map_err(failed)?;
        return Ok(exported);
    };
    // Layers are on their way while later ones are still being made.
    std::thread::scope(|scope| {
        let push = oci::sink::Push::start(scope, &request.client, reference, run.events);
        let exported = lifecycle::export::export(&inputs, &|layer| push.add(layer), run.events)?;
        let tags: Vec<Reference> = std::iter::once(reference)
            .chain(request.tags.iter().filter_map(resolve::registry_of))
            .cloned()
            .collect();
        push.finish(&exported.image, &tags).map_err(failed)?;
        Ok(exported)
    })
}

/// Keeps a run image that came from a registry under its name: its layers are needed for the image in any case,
/// and the next build then needs no registry.
fn keep_run_image(run: &Run<'_>) -> Result<(), oci::Error> {
    let store = &run.request.store;
    let image = &run.run_image.image;
    if let (ImageName::Plain(reference), Some(Origin::Registry(_))) = (&run.run_image.name, image.origin()) {
        let kept = store.fetch(image, run.events)?;
        store.tag_image(reference, &kept)?;
    }
    Ok(())
}

/// When the image says that it was made, RFC 3339.
pub(super) fn created(request: &BuildRequest) -> String {
    time::rfc3339(request.created.unwrap_or(DEFAULT_CREATED))
}

/// Who owns what in new layers: where one id is all there is, the disk cannot say.
pub(super) fn layer_ids(run: &Run<'_>) -> LayerIds {
    let user = Owner::Ids { uid: run.uid, gid: run.gid };
    LayerIds { tree: user, parents: if run.request.ids == Ids::Single { user } else { Owner::AsOnDisk } }
}

/// The label `io.buildpacks.project.metadata`: what the descriptor says of where the app comes from.
fn project_metadata(resolved: &Resolved) -> ProjectMetadata {
    let source = resolved.project.source_metadata().map(|source| serde_json::json!({ "source": source }));
    source.and_then(|json| serde_json::from_value(json).ok()).unwrap_or_default()
}
