//! What comes back from the build before, and what stays for the next one.

use cnb::label::{self, LayersMetadata};
use layer::CopyOptions;
use lifecycle::build::Built;
use lifecycle::detect::Detected;
use lifecycle::export::Exported;
use lifecycle::{Place, restore};

use super::guest::Renames;
use super::phases::{OURS, PLATFORM_API, Run, copy_app};
use super::request::RestoreMode;
use super::{BuildError, export, sbom};

impl Run<'_> {
    pub(super) fn restore(&mut self, detected: &Detected, mode: RestoreMode) -> Result<(), BuildError> {
        let empty = LayersMetadata::default();
        let previous = self.resolved.previous.as_ref();
        let exec_env = self.request.exec_env.as_str();
        // Images from before there was such a label are for production.
        let was_for =
            |image: &oci::Image| image.config.label(label::EXEC_ENV).unwrap_or("production").to_owned();
        let app = match previous {
            Some((image, _)) if was_for(image) != exec_env => {
                let was_for = was_for(image);
                self.events.info(&format!(
                    "Not restoring metadata from the previous image: it is for {was_for}, not for {exec_env}"
                ));
                &empty
            }
            previous => previous.map_or(&empty, |(_, label)| label),
        };
        let skip = self.request.clear_cache;
        let cache = self.kept.metadata();
        let plan =
            restore::plan(PLATFORM_API, &detected.group.group, app, &cache, exec_env, skip, self.events);
        self.layers.host = self.kept.restore(&plan, mode, &mut self.bench, self.events)?;
        let mut sboms = Vec::new();
        if plan.modules.iter().any(|module| !module.layers.is_empty()) {
            sboms = self.kept.sboms(self.events);
            if let Some((image, label)) = previous {
                sboms.extend(sbom::of_previous(image, label, &self.bench, self.events)?);
            }
        }
        restore::write(&plan, &sboms, &self.layers, self.bench.owner())?;
        Ok(())
    }

    /// The folder that a buildpack could not rename, as a message calls it, when it failed where a copy may help.
    pub(super) fn needs_copy(&self, error: &BuildError) -> Option<String> {
        let BuildError::Build(lifecycle::build::BuildError::Failed { tail, .. }) = error else {
            return None;
        };
        if self.request.restore != RestoreMode::Auto || self.kept.watch(&self.layers).is_none() {
            return None;
        }
        match &self.renames {
            Renames::Refused(path) => Some(format!("the restored folder {}", path.display())),
            Renames::Done => None,
            // Where the kernel lets nobody look, what the buildpack said has to do.
            Renames::Unwatched => {
                let tail = tail.to_lowercase();
                let said = ["cross-device", "exdev", "os error 18"].iter().any(|text| tail.contains(text));
                said.then(|| "a restored folder".to_owned())
            }
        }
    }

    /// Makes the bench what it was before the first buildpack ran, with copies of cached layers.
    pub(super) fn start_over(&mut self, detected: &Detected) -> Result<(), BuildError> {
        self.bench.unmount("build-root")?;
        self.bench.unmount("layers")?;
        sandbox::remove_tree(&self.app.host)?;
        self.bench.guest_folder("app", 0o777)?;
        copy_app(&self.resolved, &self.app.host, self.bench.owner())?;
        self.restore(detected, RestoreMode::Copy)
    }

    /// Keeps layers for the next build. A failure costs time then, not this image now.
    pub(super) fn keep(&mut self, built: &Built, exported: &Exported) {
        if let Err(error) = self.try_keep(built, exported) {
            self.events.warning(&format!("layers are not kept for the next build: {error}"));
        }
    }

    fn try_keep(&mut self, built: &Built, exported: &Exported) -> Result<(), BuildError> {
        let (request, ids) = (self.request, export::layer_ids(self));
        let sbom = self.cached_sbom()?;
        self.kept.pack(request, &built.modules, &self.layers, ids)?;
        self.bench.unmount("layers")?;
        let dir = sbom.as_ref().map(|place| place.host.as_path());
        self.kept.keep(&built.modules, exported, dir)?;
        self.kept.push(request, exported, sbom.as_ref(), ids, self.events)
    }

    /// SBOM files of cached layers, copied to where the cache can take them from.
    fn cached_sbom(&self) -> Result<Option<Place>, BuildError> {
        let from = self.layers.host.join("sbom/cache");
        if !from.is_dir() {
            return Ok(None);
        }
        self.bench.folder("kept/layers/sbom")?;
        let place = Place::new(self.bench.path("kept/layers/sbom/cache"), "/layers/sbom/cache");
        layer::copy_tree(&from, &place.host, &CopyOptions { owner: OURS, ..CopyOptions::default() })?;
        Ok(Some(place))
    }
}
