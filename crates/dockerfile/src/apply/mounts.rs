//! `RUN --mount`, and the places in an image where something is mounted while a program runs.
//!
//! What is missing there is made before and, when nobody put anything into it, removed afterwards: it is no change.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};

use fs_err as fs;
use layer::Digest;
use layer::pack::{self, Ids as LayerIds, Tree};
use oci::store::{CacheMount, Sharing as StoreSharing};
use sandbox::{GuestMount, Ids, Mount as OwnMount, Overlay};

use super::Engine;
use super::error::{Failed, StepError};
use super::key::Key;
use super::place::Place;
use super::stack::Bench;
use super::step::{Inputs, join};
use crate::instruction::{Mount, MountKind, Sharing, Word};

/// Where secrets are when the mount does not say.
const SECRETS: &str = "/run/secrets";
/// Files of the sandbox's own that an image may have as links to nowhere.
const NETWORK_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];
/// Where the sandbox mounts file systems, and what every program expects, with their modes.
const FOLDERS: [(&str, u32); 4] = [("/dev", 0o755), ("/proc", 0o755), ("/sys", 0o755), ("/tmp", 0o1777)];

/// A mount of a `RUN`, its place and its content found.
#[derive(Debug)]
pub(super) struct MountStep {
    kind: MountKind,
    target: PathBuf,
    /// What is bound: where it is, and a digest of it.
    source: Option<(PathBuf, Digest)>,
    span: std::ops::Range<usize>,
}

impl MountStep {
    pub fn new(mount: &Mount, cwd: &Path, inputs: &Inputs<'_>) -> Result<Self, Failed> {
        let target = match &mount.kind {
            MountKind::Secret { id, .. } if mount.target.is_empty() => Path::new(SECRETS).join(id),
            _ => join(cwd, &mount.target),
        };
        let bound = match &mount.kind {
            MountKind::Bind { source: path, .. } => Some(bind_source(inputs, path, mount)?),
            _ => None,
        };
        Ok(Self { kind: mount.kind.clone(), target, source: bound, span: mount.span.clone() })
    }

    /// Adds what the outcome of a program may depend on: not what is in caches, and nothing of secrets but where they
    /// are.
    pub fn add_to(&self, key: &mut Key) {
        key.os_text(self.target.as_os_str());
        match &self.kind {
            MountKind::Bind { read_only, .. } => {
                key.text(if *read_only { "bind" } else { "bind rw" });
                key.text(&self.source.as_ref().map(|(_, digest)| digest.to_string()).unwrap_or_default());
            }
            MountKind::Cache { id, .. } => {
                key.text("cache");
                key.text(id);
            }
            MountKind::Tmpfs { .. } => key.text("tmpfs"),
            MountKind::Secret { id, env, .. } => {
                key.text("secret");
                key.text(id);
                key.text(env.as_deref().unwrap_or_default());
            }
        }
    }
}

/// What a bind mount shows: a file or folder beneath the context, links followed beneath it.
fn bind_source(inputs: &Inputs<'_>, path: &str, mount: &Mount) -> Result<(PathBuf, Digest), Failed> {
    let context = inputs.context()?;
    let word = Word { text: path.to_owned(), span: mount.span.clone() };
    let found = context.locate(inputs.source.dockerfile, &word)?;
    let host = fs::canonicalize(inputs.source.context)?.join(&found);
    let digest = if host.is_dir() {
        // The digest of a tar tells names, modes, links and contents.
        let tree = Tree { parents: Some(Vec::new()), ..Tree::new(&host, Path::new("/context")) };
        pack::hash(&|_| (), |tar| tar.tree(&tree, LayerIds::tree(0, 0)))?.diff_id
    } else {
        Digest::of_reader(context.root().open_file(&found)?)?
    };
    Ok((host, digest))
}

/// The mounts of one run.
pub(super) struct Mounts {
    /// What the sandbox mounts.
    pub guest: Vec<GuestMount>,
    /// Secrets as variables.
    pub env: Vec<(String, OsString)>,
    /// What was made for mounting, deepest last.
    made: Vec<PathBuf>,
    // Held until the program has ended.
    _caches: Vec<CacheMount>,
    _own: Vec<OwnMount>,
}

impl Mounts {
    pub fn prepare(
        steps: &[MountStep],
        cwd: &Path,
        bench: &Bench<'_, '_>,
        engine: &Engine<'_>,
    ) -> Result<Self, Failed> {
        let mut mounts = Self {
            guest: Vec::new(),
            env: Vec::new(),
            made: Vec::new(),
            _caches: Vec::new(),
            _own: Vec::new(),
        };
        let place = Place::open(&bench.root)?;
        // In an overlay these are there, from the lowest tree.
        for (path, mode) in FOLDERS {
            mounts.make(&place, Path::new(path), mode, false)?;
        }
        mounts.make(&place, cwd, 0o755, false)?;
        for path in NETWORK_FILES {
            mounts.make(&place, Path::new(path), 0o755, true)?;
        }
        for (number, step) in steps.iter().enumerate() {
            let Some(mount) = mounts.guest_mount(step, number, bench, engine)? else { continue };
            let is_file = matches!(&mount, GuestMount::Bind { source, .. } if !source.is_dir());
            mounts.make(&place, &step.target, 0o755, is_file)?;
            mounts.guest.push(mount);
        }
        Ok(mounts)
    }

    /// Makes what is missing of a place where something is mounted.
    fn make(&mut self, place: &Place, path: &Path, mode: u32, is_file: bool) -> Result<(), StepError> {
        let in_image = |source| StepError::InImage { path: path.to_owned(), source };
        let mut found = place.find(path).map_err(in_image)?;
        if found.exists() {
            return Ok(());
        }
        let name = if is_file { found.missing.pop() } else { None };
        let mut note = |_: &std::os::fd::OwnedFd, path: &Path| {
            self.made.push(path.to_owned());
            Ok(())
        };
        let dir = place.make_dirs(&found, mode, &mut note).map_err(in_image)?;
        if let Some(name) = name {
            place.make_file(&dir, &name, 0o644).map_err(in_image)?;
            self.made.push(found.path().join(name));
        }
        Ok(())
    }

    /// Removes what was made for mounting and is still empty.
    pub fn clean_up(&self, bench: &Bench<'_, '_>) -> Result<(), StepError> {
        let place = Place::open(&bench.root)?;
        self.made.iter().rev().for_each(|path| place.remove_if_empty(path));
        Ok(())
    }

    fn guest_mount(
        &mut self,
        step: &MountStep,
        number: usize,
        bench: &Bench<'_, '_>,
        engine: &Engine<'_>,
    ) -> Result<Option<GuestMount>, Failed> {
        let target = step.target.clone();
        Ok(Some(match (&step.kind, &step.source) {
            (MountKind::Bind { read_only: false, .. }, Some((source, _))) => {
                GuestMount::bind(self.copy_to_write(source, number, bench)?, target)
            }
            (MountKind::Bind { .. }, Some((source, _))) => GuestMount::bind_read_only(source, target),
            (MountKind::Bind { .. }, None) => return Ok(None),
            (MountKind::Tmpfs { size }, _) => GuestMount::Tmpfs { target, mode: 0o1777, size: *size },
            (MountKind::Cache { .. }, _) => self.cache(&step.kind, target, engine)?,
            (MountKind::Secret { .. }, _) => return self.secret(step, number, bench, engine),
        }))
    }

    /// What may be written to and is thrown away: a view of a folder, a copy of a file.
    fn copy_to_write(
        &mut self,
        source: &Path,
        number: usize,
        bench: &Bench<'_, '_>,
    ) -> Result<PathBuf, StepError> {
        let folder = bench.folder(&format!("bind-{number}"))?;
        let [target, upper, work] = ["target", "upper", "work"].map(|name| folder.join(name));
        if !source.is_dir() {
            fs::copy(source, &target)?;
            return Ok(target);
        }
        for folder in [&target, &upper, &work] {
            fs::create_dir(folder)?;
        }
        fs::set_permissions(&upper, fs::metadata(source)?.permissions())?;
        let overlay = Overlay {
            lowers: vec![source.to_owned()],
            upper: Some(upper),
            work: Some(work),
            read_only: false,
        };
        self._own.push(overlay.mount(&target)?);
        Ok(target)
    }

    fn cache(
        &mut self,
        kind: &MountKind,
        target: PathBuf,
        engine: &Engine<'_>,
    ) -> Result<GuestMount, StepError> {
        let MountKind::Cache { id, sharing, read_only, mode, uid, gid } = kind else {
            return Err(std::io::Error::other("not a cache mount").into());
        };
        let sharing = match sharing {
            Sharing::Shared => StoreSharing::Shared,
            Sharing::Private => StoreSharing::Private,
            Sharing::Locked => StoreSharing::Locked,
        };
        let cache = engine.store.cache_mount(&engine.unpacker.kind, id, sharing)?;
        if cache.is_new {
            if engine.ids != Ids::Single {
                lchown(&cache.dir, Some(uid.unwrap_or(0)), Some(gid.unwrap_or(0)))?;
            }
            fs::set_permissions(&cache.dir, std::fs::Permissions::from_mode(mode.unwrap_or(0o755)))?;
        }
        let mount = GuestMount::Bind { source: cache.dir.clone(), target, read_only: *read_only };
        self._caches.push(cache);
        Ok(mount)
    }

    /// A secret is written to memory only, and is gone when the program has ended.
    fn secret(
        &mut self,
        step: &MountStep,
        number: usize,
        bench: &Bench<'_, '_>,
        engine: &Engine<'_>,
    ) -> Result<Option<GuestMount>, Failed> {
        let MountKind::Secret { id, env, required, mode, uid, gid } = &step.kind else { return Ok(None) };
        let Some(value) = engine.secrets.get(id) else {
            return match required {
                false => Ok(None),
                true => {
                    let message = format!("secret `{id}` is required and was not given");
                    Err(Failed::Message(message, Some(step.span.clone())))
                }
            };
        };
        if let Some(name) = env {
            self.env.push((name.clone(), OsString::from_vec(value.clone())));
            if step.target == Path::new(SECRETS).join(id) {
                return Ok(None);
            }
        }
        let folder = bench.folder(&format!("secret-{number}"))?;
        self._own.push(sandbox::tmpfs(&folder, 0o700)?);
        let path = folder.join("secret");
        fs::OpenOptions::new().write(true).create_new(true).open(&path)?.write_all(value)?;
        if engine.ids != Ids::Single {
            lchown(&path, Some(uid.unwrap_or(0)), Some(gid.unwrap_or(0))).map_err(StepError::Io)?;
        }
        fs::set_permissions(&path, std::fs::Permissions::from_mode(mode.unwrap_or(0o400)))?;
        Ok(Some(GuestMount::bind_read_only(path, step.target.clone())))
    }
}
