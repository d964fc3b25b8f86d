//! `COPY` and `ADD`: files that appear in the step, and the folder of `WORKDIR`.
//!
//! They are written through the mounted root file system, so that links in the image lead where they would lead a
//! program, and what is there already and the same is no change.

mod chmod;
mod write;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use layer::{Digest, Kind, Root};
use oci::passwd::User;
use sandbox::Ids;

use super::Engine;
use super::error::{Failed, StepError};
use super::key::Key;
use super::place::Place;
use super::stack::Bench;
use super::state::State;
use super::step::{Inputs, join, working_dir};
use crate::context::{Context, Entry, Selected, Selection};
use crate::instruction::{Add, Copy, CopySource, Heredoc, Word};
use chmod::Chmod;
use write::Writer;

/// Files to appear, and all they depend on.
#[derive(Debug)]
pub(super) struct CopyStep {
    items: Vec<Item>,
    /// None when no source is of the context.
    context: Option<Rc<Context>>,
    /// The digest of what is taken from the context.
    digest: Option<Digest>,
    dest: PathBuf,
    /// The destination is a folder, whatever is there.
    into_folder: bool,
    chown: Option<String>,
    chmod: Option<Chmod>,
    chmod_text: String,
}

/// One thing to appear.
#[derive(Debug)]
enum Item {
    /// A file of the context, or what is in a folder of it.
    Selected(Selected),
    /// A file whose content is in the Dockerfile.
    Text { name: String, content: String },
}

impl CopyStep {
    pub fn copy(state: &State, inputs: &Inputs<'_>, copy: &Copy) -> Result<Self, Failed> {
        let mut items = Vec::new();
        let mut context = None;
        let mut selection = Selection { items: Vec::new() };
        for source in &copy.sources {
            match source {
                CopySource::Path(word) => {
                    let files = inputs.context()?;
                    let found = files.select(inputs.source.dockerfile, &[word], &copy.excludes)?;
                    selection.items.extend(found.items.iter().cloned());
                    items.extend(found.items.into_iter().map(Item::Selected));
                    context = Some(files);
                }
                CopySource::Heredoc(heredoc) => items.push(text(heredoc)),
            }
        }
        let digest = context.as_ref().map(|context| context.digest(&selection)).transpose()?;
        let chmod_text = copy.chmod.as_ref().map(|word| word.text.clone()).unwrap_or_default();
        let chmod = copy.chmod.as_ref().map(parse_chmod).transpose()?;
        let dest = &copy.dest.text;
        Ok(Self {
            into_folder: dest.ends_with('/') || dest == "." || dest.ends_with("/.") || items.len() > 1,
            dest: join(&working_dir(state), dest),
            items,
            context,
            digest,
            chown: copy.chown.as_ref().map(|word| word.text.clone()).filter(|text| !text.is_empty()),
            chmod,
            chmod_text,
        })
    }

    pub fn add(state: &State, inputs: &Inputs<'_>, add: &Add) -> Result<Self, Failed> {
        Self::copy(state, inputs, &add.copy)
    }

    pub fn key(&self, parent: &Digest) -> Digest {
        let mut key = Key::new("copy", parent);
        key.os_text(self.dest.as_os_str());
        key.text(if self.into_folder { "into" } else { "to" });
        key.text(self.chown.as_deref().unwrap_or_default());
        key.text(&self.chmod_text);
        key.text(&self.digest.map(|digest| digest.to_string()).unwrap_or_default());
        for item in &self.items {
            match item {
                Item::Selected(selected) => key.text(if selected.is_dir { "folder" } else { "file" }),
                Item::Text { name, content } => key.texts([name, content]),
            }
        }
        key.finish()
    }

    /// Writes the files, and gives whose they are.
    pub fn make(&self, bench: &Bench<'_, '_>, engine: &Engine<'_>) -> Result<(u32, u32), Failed> {
        let owner = match &self.chown {
            Some(text) => owner(&bench.root, text)?,
            None => (0, 0),
        };
        let place = Place::open(&bench.root)?;
        let writer = Writer {
            place: &place,
            owner,
            real_owners: engine.ids != Ids::Single,
            owner_asked: self.chown.is_some(),
            chmod: self.chmod.as_ref(),
        };
        for item in &self.items {
            match item {
                Item::Selected(selected) if selected.is_dir => self.write_folder(&writer, selected)?,
                Item::Selected(selected) => {
                    if let (Some(entry), Some(context)) = (selected.entries.first(), &self.context) {
                        let (parent, name) = self.place_of(&writer, &selected.name)?;
                        self.write(&writer, context, entry, &parent, &name)?;
                    }
                }
                Item::Text { name, content } => {
                    let (parent, name) = self.place_of(&writer, name.as_ref())?;
                    let done = writer.file(&parent, &name, 0o644, None, &mut content.as_bytes());
                    done.map_err(in_image(&parent.join(name)))?;
                }
            }
        }
        Ok(owner)
    }

    /// Where a single file goes: in the destination when that is a folder, else it is the destination.
    fn place_of(
        &self,
        writer: &Writer<'_>,
        name: &std::ffi::OsStr,
    ) -> Result<(PathBuf, OsString), StepError> {
        let at_dest = in_image(&self.dest);
        let found = writer.place.find(&self.dest).map_err(&at_dest)?;
        if self.into_folder || found.is_dir() {
            return Ok((writer.folder(&self.dest).map_err(at_dest)?, name.to_owned()));
        }
        let path = found.path();
        let (parent, name) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or(name));
        let parent = writer.folder(&Path::new("/").join(parent)).map_err(at_dest)?;
        Ok((parent, name.to_owned()))
    }

    fn write_folder(&self, writer: &Writer<'_>, selected: &Selected) -> Result<(), StepError> {
        let Some(context) = &self.context else { return Ok(()) };
        let top = writer.folder(&self.dest).map_err(in_image(&self.dest))?;
        // Folders by their path beneath what is copied: where they are without links.
        let mut folders: HashMap<&Path, PathBuf> = HashMap::from([(Path::new(""), top)]);
        for entry in &selected.entries {
            let above = entry.path.parent().unwrap_or(Path::new(""));
            let (Some(parent), Some(name)) = (folders.get(above).cloned(), entry.path.file_name()) else {
                continue;
            };
            if entry.meta.is_dir() {
                let made = writer.dir(&parent, name, entry.meta.mode);
                folders.insert(&entry.path, made.map_err(in_image(&parent.join(name)))?);
            } else {
                self.write(writer, context, entry, &parent, name)?;
            }
        }
        Ok(())
    }

    fn write(
        &self,
        writer: &Writer<'_>,
        context: &Context,
        entry: &Entry,
        parent: &Path,
        name: &std::ffi::OsStr,
    ) -> Result<(), StepError> {
        let at = parent.join(name);
        match (entry.meta.kind, &entry.link) {
            (Kind::Symlink, Some(target)) => writer.link(parent, name, target).map_err(in_image(&at)),
            _ => {
                let mut file = context.open_file(entry)?;
                let time = (entry.meta.mtime, entry.meta.mtime_nsec);
                writer.copy_file(parent, name, entry.meta.mode, time, &mut file).map_err(in_image(&at))
            }
        }
    }
}

/// Makes the folder of a `WORKDIR`, when it is missing.
pub(super) fn make_folder(bench: &Bench<'_, '_>, path: &Path) -> Result<(), StepError> {
    let place = Place::open(&bench.root)?;
    let writer = Writer { place: &place, owner: (0, 0), real_owners: false, owner_asked: false, chmod: None };
    writer.folder(path).map_err(in_image(path))?;
    Ok(())
}

fn text(heredoc: &Heredoc) -> Item {
    Item::Text { name: heredoc.name.clone(), content: heredoc.content() }
}

fn parse_chmod(word: &Word) -> Result<Chmod, Failed> {
    Chmod::parse(&word.text).map_err(|message| Failed::Message(message, Some(word.span.clone())))
}

/// Who `--chown` names. A number alone is the group's too; a name alone has the group that the image gives it.
fn owner(root: &Path, text: &str) -> Result<(u32, u32), StepError> {
    if let Ok(id) = text.parse() {
        return Ok((id, id));
    }
    let numbers = text.split_once(':').map(|(user, group)| (user.parse(), group.parse()));
    if let Some((Ok(uid), Ok(gid))) = numbers {
        return Ok((uid, gid));
    }
    let user = User::find(&Root::open(root)?, text)?;
    Ok((user.uid, user.gid))
}

/// Says which path of the image something is about.
fn in_image(path: &Path) -> impl Fn(std::io::Error) -> StepError {
    let path = Path::new("/").join(path);
    move |source| StepError::InImage { path: path.clone(), source }
}
