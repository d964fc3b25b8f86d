//! `RUN`: a program in a sandbox whose root file system is the step.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use events::{Event, Phase, Stream};
use fs_err as fs;
use layer::{Digest, FullDisk, Root};
use oci::passwd::User;
use sandbox::{ExitStatus, GuestMount, Ids, Output, Spec, Stdio};

use super::error::{Failed, StepError};
use super::key::Key;
use super::mounts::{MountStep, Mounts};
use super::stack::Bench;
use super::state::{DEFAULT_PATH, State};
use super::step::{Inputs, working_dir};
use super::{Engine, config};
use crate::instruction::{Network, Run, Script};

/// Where a here-document that is a program is; `/dev` is no part of an image.
const SCRIPT: &str = "/dev/pipes/script";
/// How much of what a program wrote is told when it fails.
const LAST_LINES: usize = 10;
/// Longer lines are cut.
const LINE: usize = 500;

/// A program, and all it depends on but files.
#[derive(Debug)]
pub(super) struct RunStep {
    script: Script,
    shell: Vec<String>,
    /// The image's variables.
    env: Vec<String>,
    /// The Dockerfile's, and which of them count.
    args: Vec<(String, String)>,
    used_args: Vec<String>,
    user: String,
    cwd: PathBuf,
    mounts: Vec<MountStep>,
    network: Option<Network>,
}

impl RunStep {
    pub fn new(state: &State, inputs: &Inputs<'_>, run: &Run) -> Result<Self, Failed> {
        let script = run.script();
        let cwd = working_dir(state);
        let mounts = run.mounts.iter().map(|mount| MountStep::new(mount, &cwd, inputs));
        Ok(Self {
            shell: config::shell(&state.config.config),
            env: state.config.config.env.to_vec(),
            args: state.args().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            used_args: state.used_args(&script),
            user: state.config.config.user.clone(),
            mounts: mounts.collect::<Result<_, _>>()?,
            network: run.network,
            script,
            cwd,
        })
    }

    pub fn key(&self, parent: &Digest) -> Digest {
        let mut key = Key::new("run", parent);
        match &self.script {
            Script::Shell(text) => {
                key.texts(&self.shell);
                key.text(text);
            }
            Script::Exec(words) => key.texts(words),
            Script::File { content, .. } => {
                key.text("file");
                key.text(content);
            }
        }
        key.texts(&self.env);
        key.texts(&self.used_args);
        key.text(&self.user);
        key.os_text(self.cwd.as_os_str());
        key.text(if self.network == Some(Network::None) { "none" } else { "network" });
        for mount in &self.mounts {
            mount.add_to(&mut key);
        }
        key.finish()
    }

    /// Runs the program, and gives whose files that have no owner on disk are.
    pub fn make(&self, bench: &Bench<'_, '_>, engine: &Engine<'_>) -> Result<(u32, u32), Failed> {
        let user = User::find(&Root::open(&bench.root)?, &self.user)?;
        let network = match self.network {
            Some(Network::None) => sandbox::Network::None,
            _ => engine.network,
        };
        let mut mounts = Mounts::prepare(&self.mounts, &self.cwd, bench, engine)?;
        let mut spec = self.spec(bench, engine, &user, &mut mounts)?;
        spec.network = network;
        spec.mounts.append(&mut mounts.guest);
        let status = run(spec, engine);
        // Looked at now: what takes the space goes with the step.
        let disk = FullDisk::look(&bench.root);
        mounts.clean_up(bench)?;
        let (status, last) = status?;
        if status.success() {
            return Ok((user.uid, user.gid));
        }
        let output = last.lines();
        let hint = hint(engine.ids, &output);
        let disk = disk.map(|disk| FullDisk { path: engine.store.dir().to_owned(), ..disk });
        Err(Failed::Run { status, output, hint, disk })
    }

    fn spec(
        &self,
        bench: &Bench<'_, '_>,
        engine: &Engine<'_>,
        user: &User,
        mounts: &mut Mounts,
    ) -> Result<Spec, StepError> {
        let words = match &self.script {
            Script::Exec(words) => words.clone(),
            Script::Shell(text) => self.shell.iter().chain([text]).cloned().collect(),
            Script::File { content, .. } => {
                let file = bench.folder("script")?.join("script");
                fs::write(&file, content)?;
                fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
                mounts.guest.push(GuestMount::bind_read_only(file, SCRIPT));
                vec![SCRIPT.to_owned()]
            }
        };
        let mut words = words.into_iter();
        let mut spec = Spec::new(&bench.root, words.next().unwrap_or_default());
        spec.args = words.map(OsString::from).collect();
        spec.env = self.environment(engine, user, std::mem::take(&mut mounts.env));
        spec.cwd.clone_from(&self.cwd);
        (spec.uid, spec.gid) = (user.uid, user.gid);
        spec.groups.clone_from(&user.groups);
        spec.stdout = Stdio::Pipe;
        spec.stderr = Stdio::Pipe;
        Ok(spec)
    }

    /// What the program sees: the image's variables, then the Dockerfile's, then what every program expects.
    fn environment(
        &self,
        engine: &Engine<'_>,
        user: &User,
        secrets: Vec<(String, OsString)>,
    ) -> Vec<(OsString, OsString)> {
        let mut env: Vec<(OsString, OsString)> = Vec::new();
        let mut known: HashSet<String> = HashSet::new();
        let mut add = |name: &str, value: OsString| {
            if known.insert(name.to_owned()) {
                env.push((name.into(), value));
            }
        };
        for (name, value) in secrets {
            add(&name, value);
        }
        for (name, value) in self.env.iter().filter_map(|entry| entry.split_once('=')) {
            add(name, value.into());
        }
        for (name, value) in self.args.iter().chain(&engine.proxies) {
            add(name, value.into());
        }
        add("PATH", DEFAULT_PATH.into());
        add("HOME", user.home.as_deref().unwrap_or(Path::new("/")).into());
        env
    }
}

/// Runs a program to its end, telling what it writes.
fn run(spec: Spec, engine: &Engine<'_>) -> Result<(ExitStatus, LastLines), StepError> {
    let mut last = LastLines::default();
    let status = spec.spawn()?.wait_with_output(|which, bytes| {
        let stream = if which == Output::Stdout { Stream::Stdout } else { Stream::Stderr };
        engine.events.event(Event::Output { phase: Phase::Extend, stream, bytes });
        last.add(bytes);
    })?;
    Ok((status, last))
}

/// What may be the matter with a program, by its own words: a lack of space, or of ids.
fn hint(ids: Ids, output: &[String]) -> Option<&'static str> {
    let refused =
        ["Operation not permitted", "Invalid argument", "operation not permitted", "invalid argument"];
    let was_refused = output.iter().any(|line| refused.iter().any(|text| line.contains(text)));
    let of_space = output.iter().rev().find_map(|line| layer::meaning_of_space(line));
    of_space.or((ids == Ids::Single && was_refused).then_some(
        "there is only one user id here, so a program can neither change owners nor become another user: give your \
         user more ids with a line like `NAME:100000:65536` in /etc/subuid and in /etc/subgid (the package that has \
         newuidmap must be installed, often `uidmap`)",
    ))
}

/// The last lines of what a program writes.
#[derive(Debug, Default)]
struct LastLines {
    lines: VecDeque<String>,
    /// The line that is not ended yet.
    rest: Vec<u8>,
}

impl LastLines {
    fn add(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE.saturating_sub(self.rest.len());
            self.rest.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.rest).trim_end().to_owned();
        self.rest.clear();
        if !line.is_empty() {
            self.lines.push_back(line);
        }
        if self.lines.len() > LAST_LINES {
            self.lines.pop_front();
        }
    }

    fn lines(mut self) -> Vec<String> {
        self.end_line();
        self.lines.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept() {
        let mut last = LastLines::default();
        for number in 0..100 {
            last.add(format!("line {number}\nhalf").as_bytes());
            last.add(b" line\r\n\n");
        }
        last.add(&[b'x'; 10_000]);
        last.add(b"\nthe end");
        let lines = last.lines();
        assert_eq!(lines.len(), LAST_LINES);
        assert_eq!(lines[LAST_LINES - 1], "the end");
        assert_eq!(lines[LAST_LINES - 2].len(), LINE);
        assert_eq!(lines[LAST_LINES - 3], "half line");
    }

    #[test]
    fn a_single_id_is_named_where_it_may_be_the_reason() {
        let output = ["chown: x: Invalid argument".to_owned()];
        assert!(hint(Ids::Single, &output).is_some_and(|hint| hint.contains("/etc/subuid")));
        assert!(hint(Ids::Ranges, &output).is_none());
        assert!(hint(Ids::Single, &["no such file".to_owned()]).is_none());
        let full = ["dd: /dev/shm/x: No space left on device".to_owned(), "gone".to_owned()];
        assert!(hint(Ids::Ranges, &full).is_some_and(|hint| hint.contains("/dev/shm")));
    }
}
