//! `run`: the program of an image in a sandbox, on a root file system that is thrown away afterwards.
//!
//! Not here: getting the image, and what a terminal or a signal of the caller's means.

mod command;
mod image;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fs_err as fs;
use layer::{PathError, Root};
use oci::RunConfig;
use sandbox::{Child, GuestMount, Mount, Network, Overlay, SpawnError, Spec, Stdio};

use crate::env_file::Variables;
use crate::volume::Volume;
use oci::passwd::{User, UserError};

pub use image::{ImageError, open};

/// Where programs are looked up when the image does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What to run, and how it differs from what the image says.
#[derive(Debug)]
pub struct RunRequest {
    /// What the image says.
    pub config: RunConfig,
    /// The trees of its layers, topmost first.
    pub lowers: Vec<PathBuf>,
    /// A folder on the store's file system for what the program writes.
    pub scratch: PathBuf,
    /// Instead of the image's entrypoint and command. Empty means: no entrypoint, only `args`.
    pub entrypoint: Option<String>,
    /// Instead of the image's command.
    pub args: Vec<OsString>,
    /// Added to the image's environment.
    pub env: Variables,
    /// Folders and files of the host's.
    pub volumes: Vec<Volume>,
    /// What is seen of the network.
    pub network: Network,
    /// Instead of the image's user: `user[:group]`.
    pub user: Option<String>,
    /// Instead of the image's working directory.
    pub working_dir: Option<PathBuf>,
    /// Whether the program gets a terminal of its own; else it has this process's streams.
    pub terminal: bool,
    /// Rows and columns of that terminal; zeroes where they are not known.
    pub terminal_size: (u16, u16),
}

/// A program cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Neither the image nor the caller says what to run.
    #[error("no program to run: the image has none, or it was taken away, and none was given")]
    NoProgram,
    /// The user is not one of the image's.
    #[error(transparent)]
    User(#[from] UserError),
    /// Its accounts cannot be read.
    #[error(transparent)]
    Root(#[from] PathError),
    /// The working directory is not absolute.
    #[error("working directory `{}` is not an absolute path", .0.display())]
    WorkingDir(PathBuf),
    /// The root file system cannot be prepared.
    #[error("cannot prepare the root file system")]
    Prepare(#[source] io::Error),
    /// The sandbox or the program did not start.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

/// A running program. Dropping it kills the program and removes what it wrote.
#[derive(Debug)]
pub struct Running {
    /// The program.
    pub child: Child,
    // In this order: the program, its root, the folder of that.
    _root: RootFs,
}

impl RunError {
    /// What the user can do about it, when that is not obvious.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoProgram => Some("give a program after `--`, or with --entrypoint"),
            Self::Spawn(error) => error.hint(),
            _ => None,
        }
    }
}

/// Starts the program.
///
/// # Errors
/// [`RunError`]. Nothing is left then.
pub fn start(request: RunRequest) -> Result<Running, RunError> {
    let command = command::choose(&request.config, request.entrypoint.as_deref(), &request.args)
        .ok_or(RunError::NoProgram)?;
    let working_dir = working_dir(&request)?;
    let root = RootFs::new(&request.scratch, request.lowers)?;
    let user = request.user.as_deref().unwrap_or(&request.config.user);
    let user = User::find(&Root::open(root.path())?, user)?;

    let mut spec = Spec::new(root.path(), command.program);
    spec.args = command.args;
    spec.env = environment(&request.config, request.env, user.home.as_deref());
    (spec.uid, spec.gid, spec.groups) = (user.uid, user.gid, user.groups);
    spec.cwd = working_dir;
    spec.create_cwd = true;
    spec.network = request.network;
    spec.mounts = request.volumes.into_iter().map(mount).collect();
    spec.terminal = request.terminal;
    spec.terminal_size = request.terminal_size;
    if !request.terminal {
        (spec.stdin, spec.stdout, spec.stderr) = (Stdio::Inherit, Stdio::Inherit, Stdio::Inherit);
    }
    Ok(Running { child: spec.spawn()?, _root: root })
}

fn working_dir(request: &RunRequest) -> Result<PathBuf, RunError> {
    let image = Some(Path::new(&request.config.working_dir)).filter(|path| !path.as_os_str().is_empty());
    let path = request.working_dir.as_deref().or(image).unwrap_or(Path::new("/"));
    if path.is_absolute() { Ok(path.to_owned()) } else { Err(RunError::WorkingDir(path.to_owned())) }
}

fn mount(volume: Volume) -> GuestMount {
    GuestMount::Bind { source: volume.host, target: volume.target, read_only: !volume.writable }
}

/// The image's variables, the caller's over them, and what every program expects.
fn environment(config: &RunConfig, own: Variables, home: Option<&Path>) -> Vec<(OsString, OsString)> {
    let mut env: Vec<(OsString, OsString)> = Vec::new();
    let mut places: HashMap<OsString, usize> = HashMap::new();
    let mut set = |name: OsString, value: OsString| match places.get(&name) {
        Some(place) => env[*place].1 = value,
        None => {
            places.insert(name.clone(), env.len());
            env.push((name, value));
        }
    };
    for entry in &config.env {
        if let Some((name, value)) = entry.split_once('=').filter(|(name, _)| !name.is_empty()) {
            set(name.into(), value.into());
        }
    }
    for (name, value) in own {
        set(name.into(), value);
    }
    let home = home.unwrap_or(Path::new("/")).as_os_str();
    for (name, value) in [("PATH", OsStr::new(DEFAULT_PATH)), ("HOME", home)] {
        if !places.contains_key(OsStr::new(name)) {
            env.push((name.into(), value.into()));
        }
    }
    env
}

/// An image's trees with a writable one above them, and empty mount points below; a copy of them where that cannot be.
#[derive(Debug)]
struct RootFs {
    dir: PathBuf,
    mount: Option<Mount>,
}

impl RootFs {
    fn new(scratch: &Path, mut lowers: Vec<PathBuf>) -> Result<Self, RunError> {
        let dir =
            tempfile::Builder::new().prefix("run-").tempdir_in(scratch).map_err(RunError::Prepare)?.keep();
        let mut root = Self { dir, mount: None };
        let [merged, upper, work, skeleton] =
            ["root", "upper", "work", "skeleton"].map(|name| root.dir.join(name));
        let prepare = || -> io::Result<()> {
            for folder in [&merged, &upper, &work] {
                fs::create_dir(folder)?;
            }
            sandbox::make_skeleton(&skeleton)?;
            // `/` looks as its topmost tree does, and that is the upper.
            let top = fs::symlink_metadata(lowers.first().unwrap_or(&skeleton))?;
            std::os::unix::fs::lchown(&upper, Some(top.uid()), Some(top.gid()))?;
            fs::set_permissions(&upper, std::fs::Permissions::from_mode(top.mode() & 0o7777))
        };
        prepare().map_err(RunError::Prepare)?;
        lowers.push(skeleton);
        let overlay = Overlay { lowers, upper: Some(upper), work: Some(work), read_only: false };
        match overlay.mount(&merged) {
            Ok(mount) => root.mount = Some(mount),
            Err(_) => layer::flatten(&overlay.lowers, &merged)?,
        }
        Ok(root)
    }

    fn path(&self) -> PathBuf {
        self.dir.join("root")
    }
}

impl Drop for RootFs {
    fn drop(&mut self) {
        self.mount = None;
        // What cannot be removed now is swept by the next process that uses the store.
        let _ = sandbox::remove_tree(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_variables_win_and_defaults_fill_in() {
        let config = RunConfig {
            env: ["A=image", "B=b=b", "PATH=/own", "broken", "=x"].map(str::to_owned).to_vec().into(),
            ..RunConfig::default()
        };
        let own = Variables::from([("A".to_owned(), "mine".into())]);
        let text = |env: Vec<(OsString, OsString)>| -> Vec<String> {
            env.iter().map(|(name, value)| format!("{}={}", name.display(), value.display())).collect()
        };
        assert_eq!(
            text(environment(&config, own, Some(Path::new("/home/me")))),
            ["A=mine", "B=b=b", "PATH=/own", "HOME=/home/me"]
        );
        let own = Variables::from([("HOME".to_owned(), "/mine".into())]);
        assert_eq!(
            text(environment(&RunConfig::default(), own, None)),
            ["HOME=/mine".to_owned(), format!("PATH={DEFAULT_PATH}")]
        );
    }
}
