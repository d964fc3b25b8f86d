//! Applying what extensions generated: to the image that buildpacks run in, and to the one that the app runs in.
//!
//! A Dockerfile that changes nothing leaves its image as it was, with its digest.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use dockerfile::apply::{self, Applied, Engine, Need, PlannedStep, Source};
use dockerfile::{Fetch, Kind};
use events::{Events, Turn};
use lifecycle::export::{ExtendedRunImage, ExtensionLayer};
use lifecycle::generate::{Generated, GeneratedExtension};
use oci::{Image, ImageConfig, Unpacker};
use sandbox::Network;

use super::environment::proxies;
use super::packages::Sboms;
use super::phases::{LAYERS, PLATFORM, Run};
use super::request::PullPolicy;
use super::resolve;
use super::{BuildError, export};

impl Run<'_> {
    /// Applies the Dockerfiles for both images at once: they have nothing to do with each other, and mostly wait for
    /// what they download.
    pub(super) fn extend(&mut self, generated: &Generated) -> Result<(), BuildError> {
        let turn = Turn::new(self.events);
        let this = &*self;
        let (build, run) = std::thread::scope(|scope| {
            let run = scope.spawn(|| this.apply(generated, Kind::Run, &turn));
            let build = this.apply(generated, Kind::Build, this.events);
            // What is told of the run image comes second, and not at all after an error.
            if build.is_ok() {
                turn.begin();
            }
            (build, run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        if let Some(applied) = build? {
            self.extended_env = changed_env(&self.resolved.builder.config, &applied.config);
            // The layers of buildpacks that the builder does not have stay on top.
            let above = self.selected.lowers.len();
            self.resolved.lowers.splice(above..above, applied.trees);
        }
        if let Some(applied) = run? {
            self.extension_sboms = self.find_sboms(generated, &applied);
            self.extended = Some(extended_run_image(applied));
        }
        Ok(())
    }

    /// Applies the Dockerfiles for one image. None when there are none, or they change nothing.
    fn apply(
        &self,
        generated: &Generated,
        kind: Kind,
        events: &dyn Events,
    ) -> Result<Option<Applied>, BuildError> {
        let sources = self.sources(generated, kind);
        if sources.is_empty() {
            return Ok(None);
        }
        let (image, name, need) = self.image_of(kind);
        let unpacker = resolve::unpacker(self.request.ids);
        let applied = apply::apply(image, &sources, &self.engine(&unpacker, events), need)
            .map_err(|source| BuildError::Extend { image: name, source: Box::new(source) })?;
        if !applied.changed {
            events.info(&format!("Extensions change nothing in the {name}: it stays as it is"));
            return Ok(None);
        }
        Ok(Some(applied))
    }

    /// What applying the Dockerfiles for one image would do.
    pub(super) fn plan_steps(
        &self,
        generated: &Generated,
        kind: Kind,
    ) -> Result<Vec<PlannedStep>, BuildError> {
        let (image, name, _) = self.image_of(kind);
        let unpacker = resolve::unpacker(self.request.ids);
        apply::plan(image, &self.sources(generated, kind), &self.engine(&unpacker, self.events))
            .map_err(|source| BuildError::Extend { image: name, source: Box::new(source) })
    }

    /// The Dockerfiles for one image that do more than to start from it, in the order in which they are applied.
    fn sources<'b>(&'b self, generated: &'b Generated, kind: Kind) -> Vec<Source<'b>> {
        let source = |extension: &'b GeneratedExtension| {
            let dockerfile = match kind {
                Kind::Build => extension.build.as_ref(),
                Kind::Run => extension.run.as_ref(),
            };
            let generated = dockerfile.filter(|it| it.extends)?;
            Some(Source {
                dockerfile: &generated.dockerfile,
                origin: extension.element.id.clone(),
                version: extension.element.version.clone(),
                args: generated.args.clone(),
                context: generated.context.as_deref().unwrap_or(&self.app.host),
                path: Some(&generated.path),
            })
        };
        generated.extensions.iter().filter_map(source).collect()
    }

    /// The SBOM files of what extensions installed in the run image.
    fn find_sboms(&self, generated: &Generated, applied: &Applied) -> Sboms {
        let version = |id: &str| {
            let extension = generated.extensions.iter().find(|it| it.element.id == id);
            extension.map(|it| it.element.version.clone()).unwrap_or_default()
        };
        let created = export::created(self.request);
        Sboms::find(self.request, &self.run_image.image, applied, &version, &created, self.events)
    }

    fn image_of(&self, kind: Kind) -> (&Image, &'static str, Need) {
        match kind {
            Kind::Build => (&self.resolved.builder, "build image", Need::Tree),
            Kind::Run => (&self.run_image.image, "run image", Need::Image),
        }
    }

    fn engine<'b>(&'b self, unpacker: &'b Unpacker, events: &'b dyn Events) -> Engine<'b> {
        let request = self.request;
        let text =
            |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        // What is at hand is used as it is where nothing may be brought.
        let may_fetch = request.network && request.pull_policy != PullPolicy::Never;
        Engine {
            store: &request.store,
            unpacker,
            ids: request.ids,
            network: if request.network { Network::Host } else { Network::None },
            compression: request.compression,
            build_id: build_id(),
            ttl: request.extend_cache_ttl,
            use_cache: !request.clear_cache && request.extend_cache_ttl != Some(Duration::ZERO),
            secrets: request.secrets.0.clone(),
            fetch: may_fetch.then_some(&*request.client as &dyn Fetch),
            proxies: proxies(request).filter_map(text).collect(),
            forbidden: [LAYERS.into(), PLATFORM.into(), PathBuf::from("/cnb"), "/workspace".into()]
                .into_iter()
                .chain(Some(self.app.guest.clone()).filter(|app| app.as_os_str() != "/workspace"))
                .collect(),
            events,
        }
    }
}

fn extended_run_image(applied: Applied) -> ExtendedRunImage {
    // A step that changed no file has no layer.
    let steps = applied.steps.into_iter().filter(|step| step.entries > 0);
    let layers = applied.new_layers.into_iter().zip(steps).map(|(new, step)| ExtensionLayer {
        extension: new.origin,
        instruction: step.text,
        created_by: new.created_by,
        layer: new.layer,
        reused: step.cached,
    });
    ExtendedRunImage { config: applied.config.config, layers: layers.collect() }
}

/// The variables that differ from those before.
fn changed_env(before: &ImageConfig, after: &ImageConfig) -> BTreeMap<OsString, OsString> {
    let vars = after.config.env.iter().filter_map(|entry| entry.split_once('='));
    vars.filter(|(name, value)| before.config.env_var(name) != Some(value))
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

/// A UUID that no other build has: what time it is, and which process this is.
fn build_id() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seed = format!("{} {}", now.as_nanos(), std::process::id());
    let hex = layer::Digest::of(seed.as_bytes()).hex();
    // RFC 9562, version 8: made in a way of its own.
    format!("{}-{}-8{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(env: &[&str]) -> ImageConfig {
        serde_json::from_value(serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {"Env": env},
            "rootfs": {"type": "layers", "diff_ids": []},
        }))
        .unwrap()
    }

    #[test]
    fn what_dockerfiles_set_is_what_differs() {
        let after = ["PATH=/new:/bin", "A=x=y z\n!", "SAME=1", "EMPTY="];
        let changed = changed_env(&config(&["PATH=/bin", "SAME=1"]), &config(&after));
        let changed: Vec<_> =
            changed.iter().map(|(n, v)| (n.to_str().unwrap(), v.to_str().unwrap())).collect();
        assert_eq!(changed, [("A", "x=y z\n!"), ("EMPTY", ""), ("PATH", "/new:/bin")]);
    }

    #[test]
    fn build_ids_are_uuids_that_differ() {
        let (one, two) = (build_id(), build_id());
        assert_ne!(one, two);
        let lengths: Vec<usize> = one.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
    }
}
