//! What the buildpacks' layers add to a process: environment, `exec.d` programs and profile scripts.
//!
//! Order is part of the contract: buildpacks as in the group, in each the layers by name, in each layer first what
//! holds for every process and then what holds for this process type only.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use cnb::env::{Env, EnvDir, RootDir, Scope};
use cnb::launch::{LaunchBuildpack, escape_id};

use crate::failure::{Context, Failure};
use crate::files::{self, Kind};
use crate::paths::{absolute, join};

/// The layers of one buildpack, in order.
#[derive(Debug)]
pub struct BuildpackLayers(Vec<PathBuf>);

/// Lists the layers of each buildpack that has any.
///
/// Every folder counts: a layer that is not meant for launch is not in the image in the first place.
pub fn list(layers_dir: &Path, buildpacks: &[LaunchBuildpack]) -> Result<Vec<BuildpackLayers>, Failure> {
    let mut found = Vec::with_capacity(buildpacks.len());
    for buildpack in buildpacks {
        let dir = join(layers_dir, escape_id(&buildpack.id));
        match rustix::fs::stat(&dir) {
            Ok(_) => {
                found.push(BuildpackLayers(files::list(&dir, Kind::Folder).context("add layer root")?));
            }
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => {
                return Err(Failure::path("stat", &dir, &error.into()).within("find buildpack directory"));
            }
        }
    }
    Ok(found)
}

/// Applies layer paths and environment folders to `env`.
pub fn apply_environment(
    layers: &[BuildpackLayers],
    process_type: &str,
    env: &mut Env,
) -> Result<(), Failure> {
    for buildpack in layers {
        for layer in &buildpack.0 {
            add_roots(layer, env).context("add layer root")?;
        }
        for layer in &buildpack.0 {
            add_env_dirs(layer, process_type, env).context("add layer env")?;
        }
    }
    Ok(())
}

/// The folders `<layer>/<name>` and `<layer>/<name>/<process type>` of one layer after another, there or not.
pub fn folders(layers: &[BuildpackLayers], name: &str, process_type: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for layer in layers.iter().flat_map(|buildpack| &buildpack.0) {
        let folder = join(layer, name);
        let of_type = (!process_type.is_empty()).then(|| join(&folder, process_type));
        folders.push(folder);
        folders.extend(of_type);
    }
    folders
}

fn add_roots(layer: &Path, env: &mut Env) -> Result<(), Failure> {
    for root in RootDir::of(Scope::Launch) {
        let dir = absolute(&join(layer, root.name()));
        match rustix::fs::stat(&dir) {
            Ok(_) => env.add_root_dir(Scope::Launch, *root, &dir),
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(Failure::path("stat", &dir, &error.into())),
        }
    }
    Ok(())
}

fn add_env_dirs(layer: &Path, process_type: &str, env: &mut Env) -> Result<(), Failure> {
    let launch = join(layer, "env.launch");
    let mut apply = |dir: &Path| -> Result<(), Failure> {
        let files =
            read_env_dir(dir).context(format_args!("apply env files from dir '{}'", dir.display()))?;
        env.add_env_dir(&files);
        Ok(())
    };
    apply(&join(layer, "env"))?;
    apply(&launch)?;
    if process_type.is_empty() { Ok(()) } else { apply(&join(&launch, process_type)) }
}

/// The files of an environment folder; folders in it and links to folders are not variables.
fn read_env_dir(dir: &Path) -> Result<EnvDir, Failure> {
    let mut variables = Vec::new();
    for entry in files::read_dir(dir).map_err(|error| Failure::path("open", dir, &error))? {
        let path = join(dir, &entry.name);
        if entry.is_dir || (entry.is_link && files::is_dir(&path)?) {
            continue;
        }
        let value = files::read(&path).map_err(|error| Failure::path("open", &path, &error))?;
        variables.push((entry.name.to_string_lossy().into_owned(), OsString::from_vec(value)));
    }
    Ok(EnvDir::from_iter(variables))
}
