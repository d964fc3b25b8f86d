//! The file system below a step and in it.
//!
//! Below are the trees of earlier steps and of the base image, which is unpacked when the first step needs it; lowest
//! of all are empty mount points, so that a sandbox need not make any. In the step is an upper of its own. Where no
//! overlay can be mounted, a step is made in a copy, and what it changed is told from the kernel's notes.

use std::cell::{Cell, OnceCell};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fs_err as fs;
use layer::overlay::{Reduced, Snapshot, reduce};
use layer::{CopyOptions, PathError, Root};
use oci::Image;
use oci::passwd::User;
use sandbox::{Mount, Overlay};

use super::Engine;
use super::error::StepError;

/// The trees that a step is made on, and a folder to make it in, which is removed when this is dropped.
pub(super) struct Stack<'a> {
    engine: &'a Engine<'a>,
    image: &'a Image,
    /// Topmost first.
    base: OnceCell<Vec<PathBuf>>,
    /// Of the steps so far, lowest first.
    trees: Vec<PathBuf>,
    home: OnceCell<Home>,
    /// No overlay can be mounted.
    copies: Cell<bool>,
}

/// What is there so far, to be read.
struct View {
    path: PathBuf,
    _mount: Option<Mount>,
}

/// A folder of ours in the store's scratch space.
struct Home(PathBuf);

impl Drop for Home {
    fn drop(&mut self) {
        // What cannot be removed now is swept by the next process that uses the store.
        let _ = sandbox::remove_tree(&self.0);
    }
}

impl<'a> Stack<'a> {
    pub fn new(engine: &'a Engine<'a>, image: &'a Image) -> Self {
        let (base, home) = (OnceCell::new(), OnceCell::new());
        Self { engine, image, base, trees: Vec::new(), home, copies: Cell::new(false) }
    }

    /// Puts what a step changed on top.
    pub fn push(&mut self, tree: PathBuf) {
        self.trees.push(tree);
    }

    /// What the steps changed, topmost first.
    pub fn trees(&self) -> Vec<PathBuf> {
        self.trees.iter().rev().cloned().collect()
    }

    pub fn is_empty(&self) -> bool {
        self.trees.is_empty()
    }

    /// A folder of our own for this application.
    pub fn home(&self) -> Result<&Path, StepError> {
        if self.home.get().is_none() {
            let scratch = self.engine.store.scratch_dir()?;
            let dir = tempfile::Builder::new().prefix("extend-").tempdir_in(scratch)?.keep();
            let home = self.home.get_or_init(|| Home(dir));
            sandbox::make_skeleton(&home.0.join("skeleton"))?;
        }
        Ok(self.home.get().map_or(Path::new(""), |home| &home.0))
    }

    /// All trees, topmost first; the base image is unpacked now if it was not.
    fn lowers(&self) -> Result<Vec<PathBuf>, StepError> {
        if self.base.get().is_none() {
            let Engine { store, unpacker, events, .. } = self.engine;
            let base = store.rootfs(self.image, unpacker, *events)?;
            let _ = self.base.set(base);
        }
        let base = self.base.get().into_iter().flatten().cloned();
        let mut lowers = self.trees();
        lowers.extend(base);
        if lowers.is_empty() {
            // An image without layers: something has to be below.
            let nothing = self.home()?.join("nothing");
            fs::create_dir_all(&nothing)?;
            lowers.push(nothing);
        }
        Ok(lowers)
    }

    /// The user that the image knows by this text.
    pub fn user(&self, text: &str) -> Result<User, StepError> {
        let view = self.view("view")?;
        Ok(User::find(&Root::open(&view.path)?, text)?)
    }

    /// Whether looking up a user takes no unpacking.
    pub fn is_unpacked(&self) -> Result<bool, StepError> {
        Ok(self.base.get().is_some() || self.engine.store.is_unpacked(self.image, self.engine.unpacker)?)
    }

    /// What is there so far, to be read.
    fn view(&self, name: &str) -> Result<View, StepError> {
        let target = self.home()?.join(name);
        fs::create_dir_all(&target)?;
        match self.mount(Overlay { lowers: self.lowers()?, ..Overlay::default() }, &target)? {
            Some(mount) => Ok(View { path: target, _mount: Some(mount) }),
            None => Ok(View { path: self.flat()?, _mount: None }),
        }
    }

    /// Mounts an overlay where that can be done. Where it cannot, it is said once.
    fn mount(&self, overlay: Overlay, target: &Path) -> Result<Option<Mount>, StepError> {
        if self.copies.get() {
            return Ok(None);
        }
        match overlay.mount(target) {
            Ok(mount) => Ok(Some(mount)),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                self.engine.events.info(&format!(
                    "No overlay can be mounted here, so the image is copied for each step that is made: {error}: {cause}"
                ));
                self.copies.set(true);
                Ok(None)
            }
        }
    }

    /// What is there so far as one tree, which nobody may change.
    fn flat(&self) -> Result<PathBuf, StepError> {
        let lowers = self.lowers()?;
        let (own, base) = lowers.split_at(self.trees.len());
        let base = self.engine.store.flat(base)?;
        if own.is_empty() {
            return Ok(base);
        }
        let dir = self.home()?.join(format!("flat-{}", own.len()));
        if !dir.exists() {
            let all: Vec<_> = own.iter().cloned().chain([base]).collect();
            layer::flatten(&all, &dir)?;
        }
        Ok(dir)
    }

    /// A place to make a step in.
    pub fn bench(&self) -> Result<Bench<'_, 'a>, StepError> {
        let dir = tempfile::Builder::new().prefix("step-").tempdir_in(self.home()?)?;
        let [root, upper, work] = ["root", "upper", "work"].map(|name| dir.path().join(name));
        for folder in [&root, &upper, &work] {
            fs::create_dir(folder)?;
        }
        let mut lowers = self.lowers()?;
        // `/` looks as its topmost tree does, and that is the upper.
        copy_mode_and_owner(&lowers[0], &upper)?;
        lowers.push(self.home()?.join("skeleton"));
        let overlay = Overlay { lowers, upper: Some(upper.clone()), work: Some(work), read_only: false };
        let way = match self.mount(overlay, &root)? {
            Some(mount) => Way::Overlay(Some(mount)),
            None => {
                layer::copy_tree(&self.flat()?, &root, &CopyOptions::default())?;
                Way::Copy(Snapshot::of(&root)?)
            }
        };
        // From here on the folder goes with the bench: a work folder of mode 000 is no matter for `TempDir`.
        Ok(Bench { stack: self, root, upper, way, dir: dir.keep() })
    }
}

/// Where a step is made: a root file system whose changes are its own.
pub(super) struct Bench<'s, 'a> {
    stack: &'s Stack<'a>,
    /// The mounted root file system.
    pub root: PathBuf,
    upper: PathBuf,
    way: Way,
    dir: PathBuf,
}

/// How the root file system of a step came about.
enum Way {
    Overlay(Option<Mount>),
    /// As a copy, which was like this.
    Copy(Snapshot),
}

/// What a step changed.
pub(super) struct Changes {
    /// The upper, with nothing but changes in it.
    pub tree: PathBuf,
    pub reduced: Reduced,
}

/// Something of a step is where nothing may be written.
#[derive(Debug)]
pub(super) struct Forbidden(pub PathBuf);

impl Bench<'_, '_> {
    /// A folder beside the root file system.
    pub fn folder(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.dir.join(name);
        fs::create_dir(&path)?;
        Ok(path)
    }

    /// Ends the step, and says what it changed: what is to be kept of it has to move away before this is dropped.
    /// `owner` is who it ran as, for where there is one id only.
    pub fn finish(&mut self, owner: (u32, u32)) -> Result<Result<Changes, Forbidden>, StepError> {
        let tree = self.upper.clone();
        match &mut self.way {
            Way::Overlay(mount) => mount.take().map_or(Ok(()), Mount::unmount)?,
            Way::Copy(before) => before.take_changes(&self.root, &tree)?,
        }
        if fs::read_dir(&tree)?.next().is_none() {
            return Ok(Ok(Changes { tree, reduced: Reduced::default() }));
        }
        let view = self.stack.view("below")?;
        let single = self.stack.engine.ids == sandbox::Ids::Single;
        let mut reduced = reduce(&tree, &view.path, single.then_some(owner))?;
        let below = Root::open(&view.path)?;
        for path in &self.stack.engine.forbidden {
            match look_for(&tree, path, &below)? {
                Touched::No => {}
                Touched::Made => {
                    fs::remove_dir(tree.join(relative(path)))?;
                    reduced.entries -= 1;
                }
                Touched::Changed(path) => return Ok(Err(Forbidden(path))),
            }
        }
        if reduced.entries == 0 {
            // What held a folder that was dropped.
            reduced = reduce(&tree, &view.path, None)?;
        }
        Ok(Ok(Changes { tree, reduced }))
    }
}

impl Drop for Bench<'_, '_> {
    fn drop(&mut self) {
        if let Way::Overlay(mount) = &mut self.way {
            *mount = None;
        }
        let _ = sandbox::remove_tree(&self.dir);
    }
}

/// What a step did to a path that it must not write to.
enum Touched {
    No,
    /// It made an empty folder of this name, which is nothing.
    Made,
    /// It wrote this.
    Changed(PathBuf),
}

fn look_for(tree: &Path, path: &Path, below: &Root) -> Result<Touched, PathError> {
    let upper = Root::open(tree)?;
    let mut so_far = PathBuf::new();
    for part in relative(path).components() {
        so_far.push(part);
        match upper.lstat(&so_far) {
            Err(error) if error.is_not_found() => return Ok(Touched::No),
            Ok(meta) if meta.is_dir() => {}
            // Taken away, or something else put in its place.
            _ => return Ok(Touched::Changed(Path::new("/").join(so_far))),
        }
    }
    // Folders that only hold something are there too: what was written is the first thing at the end of them.
    let mut depth = 0;
    while let Some(entry) = upper.read_dir(&so_far)?.first() {
        depth += 1;
        so_far.push(&entry.name);
        if entry.kind != layer::Kind::Dir {
            break;
        }
    }
    if depth == 0 && below.lstat(&so_far).is_err() {
        return Ok(Touched::Made);
    }
    Ok(Touched::Changed(Path::new("/").join(so_far)))
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn copy_mode_and_owner(from: &Path, to: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(from)?;
    std::os::unix::fs::lchown(to, Some(meta.uid()), Some(meta.gid()))?;
    fs::set_permissions(to, std::fs::Permissions::from_mode(meta.mode() & 0o7777))
}
