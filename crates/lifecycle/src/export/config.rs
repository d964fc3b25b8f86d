//! The configuration of the image: labels, environment, entrypoint, history.

use cnb::label;
use events::Events;
use oci::{Format, History, Image};

use super::{ExportError, ExportInputs, Exporter};

const LAUNCHER: &str = "/cnb/lifecycle/launcher";
/// Where the links for process types are, and the launcher: both come first in PATH.
const PROCESS_DIR: &str = "/cnb/process";
const LIFECYCLE_DIR: &str = "/cnb/lifecycle";

/// The process type that starts by default: the user's choice, or the buildpacks'.
pub(super) fn default_process(inputs: &ExportInputs<'_>) -> Result<Option<String>, ExportError> {
    let metadata = inputs.metadata;
    if let Some(name) = inputs.default_process {
        let known: Vec<String> = metadata.processes.iter().map(|it| it.r#type.clone()).collect();
        if !known.iter().any(|it| it == name) {
            return Err(ExportError::NoSuchProcess { name: name.to_owned(), known });
        }
        return Ok(Some(name.to_owned()));
    }
    let name = &metadata.buildpack_default_process_type;
    Ok((!name.is_empty()).then(|| name.clone()))
}

/// Puts the image together from the run image and the new layers.
pub(super) fn finish(
    inputs: &ExportInputs<'_>,
    exporter: &Exporter<'_>,
    default_process: Option<&str>,
    events: &dyn Events,
) -> Result<Image, ExportError> {
    let mut image = inputs.run_image.derive();
    // Annotations say what the run image is, which is not what this one is.
    image.annotations.clear();
    if let Some(extended) = inputs.extended {
        image.config.config = extended.config.clone();
    }
    // Docker's media types have no word for zstd.
    if matches!(inputs.compression, layer::Compression::Zstd(_)) {
        image.format = Format::Oci;
    }
    fill_history(&mut image.config.history, image.layers.len(), &inputs.created);
    image.layers.extend(exporter.layers.iter().map(|it| it.layer.clone()));
    image.config.history.extend(exporter.history.iter().cloned());
    image.config.created = Some(inputs.created.clone());
    let config = &mut image.config.config;
    for (key, value) in labels(inputs, exporter) {
        events.info(&format!("Adding label '{key}'"));
        config.labels.insert(key, value);
    }
    config.set_env("CNB_LAYERS_DIR", &inputs.layers.guest.to_string_lossy());
    config.set_env("CNB_APP_DIR", &inputs.app.guest.to_string_lossy());
    config.set_env("CNB_PLATFORM_API", &inputs.platform_api.to_string());
    config.set_env("CNB_DEPRECATION_MODE", "quiet");
    let path = config.env_var("PATH").unwrap_or_default();
    let path = format!("{PROCESS_DIR}:{LIFECYCLE_DIR}:{path}");
    config.set_env("PATH", &path);
    config.working_dir = inputs.app.guest.to_string_lossy().into_owned();
    config.entrypoint = vec![match default_process {
        Some(name) => {
            events.info(&format!("Setting default process type '{name}'"));
            format!("{PROCESS_DIR}/{name}")
        }
        None => {
            events.info("no default process type");
            LAUNCHER.to_owned()
        }
    }];
    config.cmd.clear();
    Ok(image.finish()?)
}

/// The labels, in the order in which the reference adds them: one of a buildpack can replace the lifecycle's.
fn labels(inputs: &ExportInputs<'_>, exporter: &Exporter<'_>) -> Vec<(String, String)> {
    let metadata = inputs.metadata;
    let mut labels = vec![
        (label::LIFECYCLE_METADATA.to_owned(), exporter.metadata.to_json()),
        (label::BUILD_METADATA.to_owned(), metadata.to_json(&inputs.launcher_metadata, inputs.platform_api)),
        (label::PROJECT_METADATA.to_owned(), inputs.project.to_json()),
    ];
    labels.extend(metadata.labels.iter().map(|label| (label.key.clone(), label.value.clone())));
    if inputs.platform_api.at_least(15) && !inputs.exec_env.is_empty() {
        labels.push((label::EXEC_ENV.to_owned(), inputs.exec_env.to_owned()));
    }
    labels
}

/// Makes a history that does not fit the layers one that does: an entry per layer. Every time in it becomes the
/// image's own, as the reference has it.
fn fill_history(history: &mut Vec<History>, layers: usize, created: &str) {
    let entries = history.iter().filter(|entry| !entry.empty_layer).count();
    if entries != layers {
        *history = vec![History::default(); layers];
    }
    for entry in history {
        entry.created = Some(created.to_owned());
    }
}
