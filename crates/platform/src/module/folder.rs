//! Modules in folders and archives, and how their files are made ready for a builder.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use cnb::group::{Kind, ModuleId};
use fs_err as fs;
use layer::pack::Owner;
use layer::unpack::{Limits, Options, Owners, unpack};
use layer::{CopyOptions, Root, copy_tree};
use serde::Deserialize;

use super::download::ARCHIVE_LIMIT;
use super::{Content, Loader, Module, ModuleError, NamedBy, guest_path, read_descriptor};
use crate::document::Document;
use crate::locator::Locator;
use crate::project::InlineBuildpack;

/// Entries that an archive may have.
const ENTRY_LIMIT: u64 = 2_000_000;
/// How deep dependencies of dependencies may go.
const NESTING: usize = 8;
/// What a folder may have beside its descriptor: where the buildpacks are that a composite one needs.
const PACKAGE_FILE: &str = "package.toml";

impl Loader<'_> {
    /// The module in a folder of the user's, and those that its `package.toml` names.
    pub(super) fn user_folder(
        &self,
        kind: Kind,
        dir: &Path,
        place: &str,
        depth: usize,
    ) -> Result<Vec<Module>, ModuleError> {
        if depth > NESTING {
            return Err(ModuleError::Nesting { place: place.to_owned(), limit: NESTING });
        }
        let mut modules = vec![module(kind, dir.to_owned(), false, place)?];
        if kind == Kind::Extension || fs::symlink_metadata(dir.join(PACKAGE_FILE)).is_err() {
            return Ok(modules);
        }
        for dependency in dependencies(&Document::read_in(&Root::beneath(dir)?, PACKAGE_FILE)?)? {
            let locator = Locator::parse(&dependency, dir, &())?;
            modules.extend(match &locator {
                Locator::Path(path) if path.is_dir() => {
                    self.user_folder(kind, path, &path.display().to_string(), depth + 1)?
                }
                locator => self.load(kind, locator, dir, NamedBy::File)?,
            });
        }
        Ok(modules)
    }
}

/// The module in a folder.
pub(super) fn module(kind: Kind, dir: PathBuf, ours: bool, place: &str) -> Result<Module, ModuleError> {
    let descriptor = read_descriptor(kind, &Root::beneath(&dir)?, place)?;
    Ok(Module { descriptor, content: Content::Folder { dir, ours }, place: place.to_owned() })
}

/// What a `package.toml` says that the buildpack needs.
fn dependencies(document: &Document) -> Result<Vec<String>, ModuleError> {
    #[derive(Deserialize)]
    struct Package {
        #[serde(default)]
        dependencies: Vec<toml::Spanned<Dependency>>,
    }
    #[derive(Deserialize)]
    struct Dependency {
        uri: Option<String>,
        image: Option<String>,
    }
    let (package, _) = document.parse::<Package>()?;
    let dependency = |dependency: toml::Spanned<Dependency>| {
        let span = dependency.span();
        match dependency.into_inner() {
            Dependency { uri: Some(uri), image: None } => Ok(uri),
            Dependency { uri: None, image: Some(image) } => {
                Ok(format!("docker://{}", image.trim_start_matches("docker://")))
            }
            _ => Err(document.error(span, "a dependency must have either a `uri` or an `image`").into()),
        }
    };
    package.dependencies.into_iter().map(dependency).collect()
}

/// Unpacks a tar, compressed or not, into an empty folder of ours. All files become this process's.
///
/// # Errors
/// When it is not a tar, leads out of the folder, or holds too much.
pub fn unpack_archive(path: &Path, dir: &Path) -> Result<(), ModuleError> {
    let file = layer::named::open_input(path)?;
    let limits = Limits { bytes: ARCHIVE_LIMIT, entries: ENTRY_LIMIT };
    let options = Options { owners: Owners::Ours, devices: false, limits, ..Options::default() };
    unpack(file, dir, &options).map_err(|source| ModuleError::Archive { path: path.to_owned(), source })?;
    Ok(())
}

/// Writes the files of a buildpack that is one script.
pub(super) fn write_inline(inline: &InlineBuildpack, dir: &Path) -> io::Result<()> {
    let mut buildpack = toml::Table::new();
    buildpack.insert("id".to_owned(), inline.id.clone().into());
    buildpack.insert("version".to_owned(), inline.version.clone().into());
    let mut descriptor = toml::Table::new();
    descriptor.insert("api".to_owned(), inline.api.clone().into());
    descriptor.insert("buildpack".to_owned(), buildpack.into());
    fs::write(dir.join("buildpack.toml"), descriptor.to_string())?;
    fs::create_dir(dir.join("bin"))?;
    let shell = &inline.shell;
    for (name, script) in [("build", inline.script.as_str()), ("detect", "exit 0")] {
        let path = dir.join("bin").join(name);
        fs::write(&path, format!("#!{shell}\n\n{script}\n"))?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Puts the files of a module into a tree that is to be a lower of an overlay, at the module's place, instead of
/// whatever builders below have there. The user's files are copied, ours are moved. They belong to who owns
/// `tree`; everybody may read them.
///
/// # Errors
/// When something cannot be read or written.
pub fn stage(module: &Module, tree: &Path) -> Result<(), ModuleError> {
    let target = make_place(&module.id(), tree)?;
    match &module.content {
        Content::Folder { dir, ours: true } => {
            fs::remove_dir(&target)?;
            fs::rename(dir, &target)?;
        }
        Content::Folder { ours: false, .. } | Content::Layer { .. } => {
            let meta = fs::metadata(tree)?;
            let owner = Owner::Ids { uid: meta.uid(), gid: meta.gid() };
            // The folder of a module may be a link in a hostile layer: what it leads to in there is meant.
            let dir = match &module.content {
                Content::Folder { dir, .. } => dir.clone(),
                Content::Layer { tree, .. } => plain_dir(tree, &guest_path(&module.id()))?,
            };
            copy_tree(&dir, &target, &CopyOptions { owner, ..CopyOptions::default() })?;
        }
    }
    normalise(&target)?;
    layer::overlay::make_opaque(&target)?;
    Ok(())
}

/// Makes the module's place in a tree, empty, and such that it hides what is below.
pub(crate) fn hide(module: &ModuleId, tree: &Path) -> Result<(), ModuleError> {
    let target = make_place(module, tree)?;
    Ok(layer::overlay::make_opaque(&target)?)
}

fn make_place(module: &ModuleId, tree: &Path) -> io::Result<PathBuf> {
    let mut path = tree.to_owned();
    for part in guest_path(module).trim_start_matches('/').split('/') {
        path.push(part);
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result?,
        }
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    }
    Ok(path)
}

/// The folder at `path` below `tree`, none of whose parts is a link.
fn plain_dir(tree: &Path, path: &str) -> io::Result<PathBuf> {
    let mut dir = tree.to_owned();
    for part in path.trim_start_matches('/').split('/') {
        dir.push(part);
        if !fs::symlink_metadata(&dir)?.is_dir() {
            let message = format!("`{}` is not a folder", dir.display());
            return Err(io::Error::new(io::ErrorKind::NotADirectory, message));
        }
    }
    Ok(dir)
}

/// Gives everything in a folder the modes that it has in builders: see [`mode`].
fn normalise(dir: &Path) -> io::Result<()> {
    let mut folders = vec![(dir.to_owned(), PathBuf::new())];
    while let Some((dir, relative)) = folders.pop() {
        // First the folder itself: it may be closed to us too.
        fs::set_permissions(&dir, Permissions::from_mode(0o755))?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let relative = relative.join(entry.file_name());
            let meta = entry.metadata()?;
            if meta.is_dir() {
                folders.push((entry.path(), relative));
            } else if meta.is_file() {
                let mode = mode(&relative, meta.permissions().mode());
                fs::set_permissions(entry.path(), Permissions::from_mode(mode))?;
            }
        }
    }
    Ok(())
}

/// The mode that a file of a module has in builders, as with `pack`: everybody may read it, and run it if anybody
/// may; the programs of the specification can always be run.
pub(crate) fn mode(path: &Path, mode: u32) -> u32 {
    let program =
        ["bin/build", "bin/detect", "bin/generate"].iter().any(|program| Path::new(program) == path);
    if program || mode & 0o111 != 0 { 0o755 } else { 0o644 }
}
