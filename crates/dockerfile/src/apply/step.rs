//! Steps: instructions that may change files, with all that they depend on.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use layer::{Digest, Root};

use super::copy::CopyStep;
use super::error::Failed;
use super::key::Key;
use super::run::RunStep;
use super::state::State;
use super::{Engine, Source};
use crate::add::Downloads;
use crate::context::Context;
use crate::ignore::Ignore;
use crate::instruction::{Instruction, InstructionKind};

/// A Dockerfile with its files.
pub(super) struct Inputs<'a> {
    pub source: &'a Source<'a>,
    /// Files of web servers.
    pub downloads: Downloads<'a>,
    context: OnceCell<Rc<Context>>,
}

impl<'a> Inputs<'a> {
    pub fn new(source: &'a Source<'a>, engine: &Engine<'a>) -> Self {
        let downloads = Downloads::new(engine.store.downloads_dir(), engine.fetch);
        Self { source, downloads, context: OnceCell::new() }
    }

    /// The same without bringing any file: what was brought before is taken for what there is.
    pub fn offline(source: &'a Source<'a>, engine: &Engine<'a>) -> Self {
        Self { downloads: Downloads::new(engine.store.downloads_dir(), None), ..Self::new(source, engine) }
    }

    /// The context, opened when the first instruction asks for it.
    pub fn context(&self) -> Result<Rc<Context>, Failed> {
        if let Some(context) = self.context.get() {
            return Ok(Rc::clone(context));
        }
        let name = self.source.path.and_then(|path| path.parent().zip(path.file_name()?.to_str()));
        let folder = name.map(|(folder, _)| Root::open(folder)).transpose()?;
        let beside = folder.as_ref().zip(name.map(|(_, name)| name));
        let ignore = Ignore::find(&Root::open(self.source.context)?, beside)?;
        let context = Rc::new(Context::open(self.source.context, ignore)?);
        Ok(Rc::clone(self.context.get_or_init(|| context)))
    }
}

/// An instruction that may change files.
#[derive(Debug)]
pub(super) enum Step {
    Run(RunStep),
    Copy(CopyStep),
    /// A folder, made when it is missing, and the user whose it is then.
    Workdir {
        path: PathBuf,
        user: String,
    },
}

impl Step {
    /// The step that an expanded instruction is; none when it changes the configuration only. `WORKDIR` does both.
    pub fn of(
        state: &mut State,
        inputs: &Inputs<'_>,
        instruction: &Instruction,
    ) -> Result<Option<Self>, Failed> {
        match &instruction.kind {
            InstructionKind::Run(run) => Ok(Some(Self::Run(RunStep::new(state, inputs, run)?))),
            InstructionKind::Copy(copy) => Ok(Some(Self::Copy(CopyStep::copy(state, inputs, copy)?))),
            InstructionKind::Add(add) => Ok(Some(Self::Copy(CopyStep::add(state, inputs, add)?))),
            InstructionKind::Workdir(path) => {
                let path = join(&working_dir(state), &path.text);
                state.config.config.working_dir = path.display().to_string();
                let user = state.config.config.user.clone();
                Ok(Some(Self::Workdir { path, user }))
            }
            _ => Ok(None),
        }
    }

    /// The key of what it does after `parent`.
    pub fn key(&self, parent: &Digest) -> Digest {
        match self {
            Self::Run(run) => run.key(parent),
            Self::Copy(copy) => copy.key(parent),
            Self::Workdir { path, user } => {
                let mut key = Key::new("workdir", parent);
                key.os_text(path.as_os_str());
                key.text(user);
                key.finish()
            }
        }
    }
}

/// The working directory so far.
pub(super) fn working_dir(state: &State) -> PathBuf {
    let dir = &state.config.config.working_dir;
    join(Path::new("/"), dir)
}

/// `path` as seen from the directory `dir`, without `.` and `..`.
pub(super) fn join(dir: &Path, path: &str) -> PathBuf {
    let mut joined = PathBuf::from("/");
    for part in dir.join(path).components() {
        match part {
            std::path::Component::Normal(name) => joined.push(name),
            std::path::Component::ParentDir => {
                joined.pop();
            }
            _ => {}
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_as_docker_does() {
        let joined = |dir: &str, path: &str| join(Path::new(dir), path).display().to_string();
        assert_eq!(joined("/a", "b/./c"), "/a/b/c");
        assert_eq!(joined("/a", "/b"), "/b");
        assert_eq!(joined("/a", "../.."), "/");
        assert_eq!(joined("/", ""), "/");
    }
}
