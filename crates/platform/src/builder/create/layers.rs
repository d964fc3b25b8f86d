//! The layers of a builder that is being made, in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cnb::builder::{ModuleLayer, ModuleLayers};
use cnb::group::ModuleId;
use cnb::launch::escape_id;
use events::{Event, Events, Transfer};
use layer::pack::{Options, PackError, Tar, pack};
use layer::{Compression, Kind, Root};
use oci::{Layer, Store};

use super::CreateError;
use super::lifecycle::{Lifecycle, Program};
use crate::module::{self, Content, Module, guest_folder, guest_path};

/// Folders of root's that every builder has.
const FOLDERS: [&str; 5] = ["/cnb", "/cnb/buildpacks", "/cnb/extensions", "/platform", "/platform/env"];

/// Who buildpacks run as.
#[derive(Clone, Copy, Debug)]
pub(super) struct User {
    pub uid: u32,
    pub gid: u32,
}

/// Layers, lowest first, each with what it is.
pub(super) struct Layers<'a> {
    store: &'a Store,
    compression: Compression,
    events: &'a dyn Events,
    done: Vec<(String, Layer)>,
}

impl<'a> Layers<'a> {
    pub fn new(store: &'a Store, compression: Compression, events: &'a dyn Events) -> Self {
        Self { store, compression, events, done: Vec::new() }
    }

    pub fn finish(self) -> Vec<(String, Layer)> {
        self.done
    }

    /// The folders that a builder needs.
    pub fn folders(&mut self, user: User, build_config: &Path) -> Result<(), CreateError> {
        self.add("folders", |tar| {
            for name in ["/workspace", "/layers"] {
                tar.dir(Path::new(name), 0o755, user.uid, user.gid)?;
            }
            FOLDERS.iter().try_for_each(|name| tar.dir(Path::new(name), 0o755, 0, 0))?;
            tar.dir(build_config, 0o755, 0, 0)?;
            tar.dir(&build_config.join("env"), 0o755, 0, 0)
        })
    }

    /// The programs of the lifecycle.
    pub fn lifecycle(&mut self, lifecycle: &Lifecycle) -> Result<(), CreateError> {
        let dir = Path::new("/cnb/lifecycle");
        self.add("lifecycle", |tar| {
            tar.dir(dir, 0o755, 0, 0)?;
            for (name, program) in &lifecycle.files {
                match program {
                    Program::File(path, mode) => tar.file(&dir.join(name), path, *mode, 0, 0)?,
                    Program::Link(target) => tar.symlink(&dir.join(name), target, 0o777, 0, 0)?,
                }
            }
            // Where it was before it was there.
            tar.symlink(Path::new("/lifecycle"), dir, 0o644, 0, 0)
        })
    }

    /// The modules, by name; `known` is what the builder has, and then has more of. What is there under the name of
    /// a new module is hidden first.
    pub fn modules(&mut self, modules: &[Module], known: &mut ModuleLayers) -> Result<(), CreateError> {
        let mut sorted: Vec<&Module> = modules.iter().collect();
        sorted.sort_by_key(|module| module.id().to_string());
        let before = self.done.len();
        for module in sorted {
            let id = module.id();
            let layer = self.module_layer(module, modules)?;
            let there = known.get(&id.id).and_then(|versions| versions.get(&id.version));
            let diff_id = layer.diff_id.to_string();
            match there.map(|there| there.layer_diff_id == diff_id) {
                Some(true) => continue,
                Some(false) => self.hide(&id)?,
                None => {}
            }
            // One layer of a package may hold several modules.
            if !self.done[before..].iter().any(|(_, done)| done.diff_id == layer.diff_id) {
                self.done.push((id.to_string(), layer));
            }
            let entry = ModuleLayer::new(&module.descriptor, diff_id);
            known.entry(id.id).or_default().insert(id.version, entry);
        }
        Ok(())
    }

    /// The layer of a module: a package's as it is, unless there is more in it than `modules`.
    fn module_layer(&self, module: &Module, modules: &[Module]) -> Result<Layer, CreateError> {
        if let Content::Layer { tree, layer } = &module.content
            && holds_only(&Root::open(tree)?, modules)
        {
            return Ok((**layer).clone());
        }
        let id = module.id();
        let place = PathBuf::from(guest_path(&id));
        let parent = place.parent().unwrap_or(Path::new("/")).to_owned();
        let root = Root::open(module.dir())?;
        self.pack(&id.to_string(), |tar| {
            tar.dir(&parent, 0o755, 0, 0)?;
            tar.dir(&place, 0o755, 0, 0)?;
            put_folder(tar, &root, Path::new(""), &place)
        })
    }

    fn hide(&mut self, id: &ModuleId) -> Result<(), CreateError> {
        let folder = Path::new(guest_folder(id.kind)).join(escape_id(&id.id));
        let name = folder.join(format!(".wh.{}", id.version));
        self.add(&format!("without the former {id}"), |tar| tar.bytes(&name, b"", 0o644, 0, 0))
    }

    /// A layer of one file.
    pub fn file(&mut self, name: &str, text: &str) -> Result<(), CreateError> {
        self.add(name, |tar| tar.bytes(Path::new(name), text.as_bytes(), 0o644, 0, 0))
    }

    /// Variables that the builder sets.
    pub fn build_env(
        &mut self,
        build_config: &Path,
        files: &BTreeMap<String, String>,
    ) -> Result<(), CreateError> {
        let dir = build_config.join("env");
        self.add("variables", |tar| {
            let mut files = files.iter();
            files.try_for_each(|(name, value)| tar.bytes(&dir.join(name), value.as_bytes(), 0o644, 0, 0))
        })
    }

    fn add(
        &mut self,
        id: &str,
        fill: impl FnOnce(&mut Tar<'_, '_>) -> Result<(), PackError>,
    ) -> Result<(), CreateError> {
        let layer = self.pack(id, fill)?;
        self.done.push((id.to_owned(), layer));
        Ok(())
    }

    fn pack(
        &self,
        id: &str,
        fill: impl FnOnce(&mut Tar<'_, '_>) -> Result<(), PackError>,
    ) -> Result<Layer, CreateError> {
        let kind = Transfer::Pack;
        self.events.event(Event::TransferStarted { kind, id, total: None });
        let progress = |done| self.events.event(Event::TransferProgress { kind, id, done });
        let options = Options { compression: self.compression, progress: &progress, ..Options::default() };
        let mut blob = self.store.unhashed_blob_writer()?;
        let packed = pack(&options, &mut blob, fill)
            .map_err(|source| CreateError::Pack { id: id.to_owned(), source })?;
        let descriptor = blob.commit_with(self.compression.media_type(), packed.digest)?;
        self.events.event(Event::TransferEnded { kind, id, reused: false });
        Ok(Layer { descriptor, diff_id: packed.diff_id, blobs: self.store.blobs() })
    }
}

/// Adds everything in `dir` of a module's folder, with the modes that modules have in builders. Symlinks are taken
/// as they are written and never followed.
fn put_folder(tar: &mut Tar<'_, '_>, root: &Root, dir: &Path, place: &Path) -> Result<(), PackError> {
    for entry in root.read_dir(dir)? {
        let path = dir.join(&entry.name);
        let name = place.join(&path);
        match entry.kind {
            Kind::Dir => {
                tar.dir(&name, 0o755, 0, 0)?;
                put_folder(tar, root, &path, place)?;
            }
            Kind::File => {
                let file = root.open_file(&path)?;
                let mode = module::mode(&path, root.lstat(&path)?.mode);
                tar.opened_file(&name, &file, mode, 0, 0)?;
            }
            Kind::Symlink => tar.symlink(&name, &root.read_link(&path)?, 0o755, 0, 0)?,
            Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => {}
        }
    }
    Ok(())
}

/// True when nothing but these modules is in a layer's tree: a builder must not get the rest from a stranger.
fn holds_only(tree: &Root, modules: &[Module]) -> bool {
    let allowed: BTreeSet<String> = modules.iter().map(|module| guest_path(&module.id())).collect();
    let is_above = |path: &str| allowed.iter().any(|allowed| allowed.starts_with(&format!("{path}/")));
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = tree.read_dir(&folder) else { return false };
        for entry in entries {
            let Some(name) = entry.name.to_str() else { return false };
            let path = format!("{folder}/{name}");
            match entry.kind {
                Kind::Dir if allowed.contains(&path) => {}
                Kind::Dir if is_above(&path) => folders.push(path),
                _ => return false,
            }
        }
    }
    true
}
