//! The restore phase: which layers of the previous build come back, and their metadata files
//! (platform.md, "restorer"; buildpack.md, "Layer Types").
//!
//! The decision is a value, made before anything is mounted or written: contents of cached layers come back as
//! lowers of an overlay, or as copies, and this module does not care which. Not here: the cache itself.

use std::io;
use std::path::Path;

use cnb::ApiVersion;
use cnb::group::GroupElement;
use cnb::label::{CacheMetadata, LayersMetadata};
use cnb::launch::escape_id;
use cnb::layer::{LayerMetadata, LayerToml, Store, matches_exec_env};
use events::Events;
use fs_err as fs;

use crate::executor::Place;

/// What comes back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RestorePlan {
    /// Per buildpack, in the order of the group.
    pub modules: Vec<RestoredModule>,
}

/// What comes back for one buildpack.
#[derive(Clone, Debug, PartialEq)]
pub struct RestoredModule {
    /// The buildpack's id.
    pub id: String,
    /// Its `store.toml`.
    pub store: Option<Store>,
    /// Its layers, sorted by name.
    pub layers: Vec<RestoredLayer>,
}

/// A layer whose metadata comes back.
#[derive(Clone, Debug, PartialEq)]
pub struct RestoredLayer {
    /// Its name.
    pub name: String,
    /// What was known of it.
    pub metadata: LayerMetadata,
    /// True when the cache has its contents, which come back too.
    pub contents: bool,
}

impl RestorePlan {
    /// The layers whose contents come back: buildpack id and layer name.
    pub fn contents(&self) -> impl Iterator<Item = (&str, &RestoredLayer)> {
        self.modules.iter().flat_map(|module| {
            module.layers.iter().filter(|layer| layer.contents).map(|layer| (module.id.as_str(), layer))
        })
    }
}

/// Decides what comes back.
///
/// `app` is the label of the previous image, `cache` what the cache holds; either may be empty. A layer for execution
/// environments without `exec_env` does not come back. With
/// `skip_layers` nothing but `store.toml` comes back.
pub fn plan(
    platform_api: ApiVersion,
    group: &[GroupElement],
    app: &LayersMetadata,
    cache: &CacheMetadata,
    exec_env: &str,
    skip_layers: bool,
    events: &dyn Events,
) -> RestorePlan {
    let modules = group.iter().map(|element| {
        let store = app.buildpack(&element.id).and_then(|buildpack| buildpack.store.clone());
        let layers = if skip_layers {
            Vec::new()
        } else {
            layers(platform_api, element, app, cache, exec_env, events)
        };
        RestoredModule { id: element.id.clone(), store, layers }
    });
    let plan = RestorePlan { modules: modules.collect() };
    if skip_layers {
        events.info("Skipping buildpack layer analysis");
    }
    plan
}

/// The environment that layers are looked at for: none where there are no such things.
fn environment<'a>(platform_api: ApiVersion, element: &GroupElement, exec_env: &'a str) -> Option<&'a str> {
    let knows = platform_api.at_least(15) && element.api.is_some_and(|api| api.at_least(12));
    knows.then_some(exec_env)
}

fn layers(
    platform_api: ApiVersion,
    element: &GroupElement,
    app: &LayersMetadata,
    cache: &CacheMetadata,
    exec_env: &str,
    events: &dyn Events,
) -> Vec<RestoredLayer> {
    let id = &element.id;
    let environment = environment(platform_api, element, exec_env);
    let is_for_us = |layer: &LayerMetadata| {
        environment.is_none_or(|exec_env| matches_exec_env(layer.data.as_ref(), exec_env))
    };
    let in_app = app.buildpack(id).map(|buildpack| &buildpack.layers);
    let in_cache = cache.buildpack(id).map(|buildpack| &buildpack.layers);
    let cached = |name: &str| in_cache.and_then(|layers| layers.get(name)).filter(|it| it.types.cache);
    let mut restored = Vec::new();
    for (name, layer) in in_app.into_iter().flatten() {
        // A build layer that is not cached has to be made again anyway; one that was cached and is not any
        // more has to look as if it never was.
        let types = layer.types;
        if !types.launch || (types.build && !types.cache) || (types.cache && cached(name).is_none()) {
            continue;
        }
        if !is_for_us(layer) {
            events.info(&format!("Not restoring \"{id}:{name}\" from app image, it is not for {exec_env}"));
            continue;
        }
        let contents = match cached(name) {
            Some(copy) if copy.sha != layer.sha => {
                events.info(&format!("Removing \"{id}:{name}\", wrong sha"));
                continue;
            }
            found => found.is_some(),
        };
        events.info(&format!("Restoring metadata for \"{id}:{name}\" from app image"));
        restored.push(RestoredLayer { name: name.clone(), metadata: layer.clone(), contents });
    }
    // Sorted by name, as the label is.
    let in_image = restored.len();
    for (name, layer) in in_cache.into_iter().flatten() {
        let in_app = in_app.is_some_and(|layers| layers.contains_key(name));
        let from_app = layer.types.launch && (in_app || !platform_api.at_least(14));
        if !layer.types.cache || from_app || is_in(&restored[..in_image], name) {
            continue;
        }
        if !is_for_us(layer) {
            events.info(&format!("Not restoring \"{id}:{name}\" from cache, it is not for {exec_env}"));
            continue;
        }
        events.info(&format!("Restoring metadata for \"{id}:{name}\" from cache"));
        restored.push(RestoredLayer { name: name.clone(), metadata: layer.clone(), contents: true });
    }
    restored.sort_by(|a, b| a.name.cmp(&b.name));
    for layer in restored.iter().filter(|layer| layer.contents) {
        events.info(&format!("Restoring data for \"{id}:{}\" from cache", layer.name));
    }
    restored
}

/// Whether one of these layers, which are sorted by name, has this one.
fn is_in(layers: &[RestoredLayer], name: &str) -> bool {
    layers.binary_search_by(|layer| layer.name.as_str().cmp(name)).is_ok()
}

/// An SBOM file that comes back beside its layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredSbom {
    /// The buildpack's folder: its escaped id.
    pub buildpack: String,
    /// The layer.
    pub layer: String,
    /// `sbom.cdx.json` and the like.
    pub file: String,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// Writes `<layer>.toml`, `store.toml` and SBOM files into `layers`. No buildpack may have run there yet.
///
/// Types are left out of `<layer>.toml`: a buildpack has to say again what a layer is for.
pub fn write(
    plan: &RestorePlan,
    sboms: &[RestoredSbom],
    layers: &Place,
    owner: Option<(u32, u32)>,
) -> io::Result<()> {
    for module in &plan.modules {
        if module.store.is_none() && module.layers.is_empty() {
            continue;
        }
        let dir = layers.host.join(escape_id(&module.id));
        match fs::create_dir(&dir) {
            Ok(()) => give(&dir, owner)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let put = |name: String, content: &[u8]| {
            let path = dir.join(name);
            fs::write(&path, content)?;
            give(&path, owner)
        };
        if let Some(store) = &module.store {
            put("store.toml".to_owned(), store.to_toml().as_bytes())?;
        }
        for layer in &module.layers {
            let text = LayerToml::restored_toml(layer.metadata.data.as_ref());
            put(format!("{}.toml", layer.name), text.as_bytes())?;
        }
        for sbom in sboms.iter().filter(|sbom| sbom.buildpack == escape_id(&module.id)) {
            if is_plain(&sbom.layer) && is_plain(&sbom.file) {
                put(format!("{}.{}", sbom.layer, sbom.file), &sbom.content)?;
            }
        }
    }
    Ok(())
}

/// A name that stays in its folder.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != ".."
}

fn give(path: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    owner.map_or(Ok(()), |(uid, gid)| std::os::unix::fs::lchown(path, Some(uid), Some(gid)))
}

#[cfg(test)]
mod tests {
    use cnb::label::BuildpackLayers;
    use cnb::layer::LayerTypes;
    use events::Silent;

    use super::*;

    const API: ApiVersion = ApiVersion::new(0, 15);

    fn layer(types: &str, sha: &str) -> LayerMetadata {
        let types = LayerTypes {
            build: types.contains('b'),
            launch: types.contains('l'),
            cache: types.contains('c'),
        };
        LayerMetadata { sha: sha.to_owned(), data: None, types }
    }

    fn buildpack(layers: &[(&str, &str, &str)]) -> Vec<BuildpackLayers> {
        let layers = layers.iter().map(|(name, types, sha)| ((*name).to_owned(), layer(types, sha)));
        vec![BuildpackLayers {
            key: "a/b".to_owned(),
            layers: layers.collect(),
            ..BuildpackLayers::default()
        }]
    }

    fn restored(
        api: ApiVersion,
        app: &[(&str, &str, &str)],
        cache: &[(&str, &str, &str)],
    ) -> Vec<(String, bool)> {
        let group = [GroupElement { id: "a/b".to_owned(), ..GroupElement::default() }];
        let app = LayersMetadata { buildpacks: buildpack(app), ..LayersMetadata::default() };
        let cache = CacheMetadata { buildpacks: buildpack(cache), ..CacheMetadata::default() };
        let plan = plan(api, &group, &app, &cache, "production", false, &Silent);
        plan.modules[0].layers.iter().map(|layer| (layer.name.clone(), layer.contents)).collect()
    }

    #[test]
    fn rules_of_the_reference() {
        let one = |name: &str, contents| vec![(name.to_owned(), contents)];
        assert_eq!(restored(API, &[("l", "l", "1")], &[]), one("l", false));
        assert_eq!(restored(API, &[("l", "bl", "1")], &[]), []);
        assert_eq!(restored(API, &[("l", "lc", "1")], &[]), []);
        assert_eq!(restored(API, &[("l", "lc", "1")], &[("l", "lc", "1")]), one("l", true));
        assert_eq!(restored(API, &[("l", "lc", "1")], &[("l", "lc", "2")]), []);
        assert_eq!(restored(API, &[], &[("l", "bc", "1")]), one("l", true));
        assert_eq!(restored(API, &[], &[("l", "lc", "1")]), one("l", true));
        assert_eq!(restored(ApiVersion::new(0, 13), &[], &[("l", "lc", "1")]), []);
    }

    #[test]
    fn layers_for_other_environments_stay_away() {
        let for_test = |api| {
            let mut data = toml::Table::new();
            data.insert("exec-env".to_owned(), vec!["test"].into());
            let only_test = LayerMetadata { data: Some(data), ..layer("lc", "1") };
            let layers = [("all".to_owned(), layer("lc", "1")), ("some".to_owned(), only_test)];
            let known = BuildpackLayers {
                key: "a/b".to_owned(),
                layers: layers.into(),
                ..BuildpackLayers::default()
            };
            let group = [GroupElement { id: "a/b".to_owned(), api: Some(api), ..GroupElement::default() }];
            let app = LayersMetadata { buildpacks: vec![known.clone()], ..LayersMetadata::default() };
            let cache = CacheMetadata { buildpacks: vec![known], ..CacheMetadata::default() };
            let empty = LayersMetadata::default();
            let count = |platform, app: &LayersMetadata, exec_env: &str| {
                plan(platform, &group, app, &cache, exec_env, false, &Silent).modules[0].layers.len()
            };
            assert_eq!(count(ApiVersion::new(0, 14), &app, "production"), 2);
            assert_eq!((count(API, &app, "test"), count(API, &empty, "test")), (2, 2));
            (count(API, &app, "production"), count(API, &empty, "production"))
        };
        assert_eq!(for_test(ApiVersion::new(0, 12)), (1, 1));
        assert_eq!(for_test(ApiVersion::new(0, 11)), (2, 2));
    }

    #[test]
    fn files_are_written_without_types() {
        let dir = tempfile::tempdir().unwrap();
        let mut data = toml::Table::new();
        data.insert("n".to_owned(), toml::Value::Integer(3));
        let metadata = LayerMetadata { data: Some(data), ..layer("lc", "1") };
        let layers = vec![RestoredLayer { name: "l".to_owned(), metadata, contents: false }];
        let plan =
            RestorePlan { modules: vec![RestoredModule { id: "a/b".to_owned(), store: None, layers }] };
        let sbom = RestoredSbom {
            buildpack: "a_b".to_owned(),
            layer: "l".to_owned(),
            file: "sbom.cdx.json".to_owned(),
            content: b"{}".to_vec(),
        };
        write(&plan, &[sbom], &Place::same(dir.path()), None).unwrap();
        let text = fs::read_to_string(dir.path().join("a_b/l.toml")).unwrap();
        assert_eq!(text, "[metadata]\n  n = 3\n");
        assert!(dir.path().join("a_b/l.sbom.cdx.json").exists());
    }
}
