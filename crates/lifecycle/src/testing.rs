//! Buildpacks that are shell scripts, run in place: for the tests of phases that run programs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use events::{Event, Events, Stream};
use fs_err as fs;

use crate::executor::{ExecError, Executor, Exit, Invocation, Place};

/// Runs programs in place: guest paths are host paths. Keeps what it was asked to run.
#[derive(Debug, Default)]
pub(crate) struct InPlace {
    pub ran: Mutex<Vec<Invocation>>,
}

impl Executor for InPlace {
    fn run(&self, invocation: &Invocation, output: &mut dyn FnMut(Stream, &[u8])) -> Result<Exit, ExecError> {
        self.ran.lock().unwrap().push(invocation.clone());
        let result = Command::new(&invocation.program)
            .args(&invocation.args)
            .env_clear()
            .envs(&invocation.env)
            .current_dir(&invocation.cwd)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| ExecError::new(&invocation.program, error))?;
        output(Stream::Stdout, &result.stdout);
        output(Stream::Stderr, &result.stderr);
        Ok(match result.status.code() {
            Some(code) => Exit::Code(code),
            None => Exit::Signal(result.status.signal().unwrap_or_default()),
        })
    }
}

/// Keeps warnings and output.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub warnings: Mutex<Vec<String>>,
    pub output: Mutex<Vec<u8>>,
}

impl Events for Heard {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Warning { text } => self.warnings.lock().unwrap().push(text.to_owned()),
            Event::Output { bytes, .. } => self.output.lock().unwrap().extend_from_slice(bytes),
            _ => {}
        }
    }
}

/// The folders of a build.
pub(crate) struct Folders {
    pub dir: tempfile::TempDir,
}

impl Folders {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["app", "buildpacks", "extensions", "layers", "plans", "platform"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn place(&self, name: &str) -> Place {
        Place::same(self.path(name))
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Writes a file and the folders it needs.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes a script.
    pub fn script(&self, name: &str, text: &str) {
        self.write(name, &format!("#!/bin/bash\nset -eu\n{text}\n"));
        fs::set_permissions(self.path(name), PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// Adds version 1 of a buildpack: what stands below its own table, and its two programs.
    pub fn buildpack(&self, id: &str, api: &str, tail: &str, programs: [&str; 2]) {
        let dir = format!("buildpacks/{}/1", id.replace('/', "_"));
        let text = format!("api = \"{api}\"\n[buildpack]\nid = \"{id}\"\nversion = \"1\"\n{tail}");
        self.write(&format!("{dir}/buildpack.toml"), &text);
        for (name, program) in ["detect", "build"].into_iter().zip(programs) {
            if !program.is_empty() {
                self.script(&format!("{dir}/bin/{name}"), program);
            }
        }
    }
}

/// An environment that bash scripts can live in, with something in it that no buildpack may see.
pub(crate) fn base_env() -> BTreeMap<OsString, OsString> {
    [("PATH", "/usr/bin:/bin"), ("HOME", "/home/cnb"), ("SECRET", "token")]
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

/// The value of a variable that a program was run with.
pub(crate) fn variable<'a>(invocation: &'a Invocation, name: &str) -> Option<&'a Path> {
    invocation.env.get(OsString::from(name).as_os_str()).map(Path::new)
}
