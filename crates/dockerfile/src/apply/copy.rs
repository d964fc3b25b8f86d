//! `COPY` and `ADD`: files that appear in the step, and the folder of `WORKDIR`.
//!
//! They are written through the mounted root file system, so that links in the image lead where they would lead a
//! program, and what is there already and the same is no change.

mod chmod;
mod write;

use std::collections::HashMap;
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use layer::unpack::Owners;
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
use crate::add::{Download, is_archive, unpack_archive};
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
    /// An archive, of which the content appears.
    Archive { file: Archive, span: Range<usize> },
    /// A file of a web server.
    Download { path: PathBuf, name: OsString, digest: Digest },
}

/// Where an archive is.
#[derive(Debug)]
enum Archive {
    Context(Entry),
    Download { path: PathBuf, digest: Digest },
}

impl CopyStep {
    pub fn copy(state: &State, inputs: &Inputs<'_>, copy: &Copy) -> Result<Self, Failed> {
        let mut found = Found::default();
        for source in &copy.sources {
            match source {
                CopySource::Path(word) if word.is_url() => {
                    return Err(at(word, format!("COPY does not take `{}`", word.text), "ADD does"));
                }
                CopySource::Path(word) => {
                    let items = found.select(inputs, word, &copy.excludes)?;
                    found.items.extend(items.into_iter().map(Item::Selected));
                }
                CopySource::Heredoc(heredoc) => found.items.push(text(heredoc)),
            }
        }
        Self::of(state, copy, found)
    }

    pub fn add(state: &State, inputs: &Inputs<'_>, add: &Add) -> Result<Self, Failed> {
        let Add { copy, checksum, unpack } = add;
        if let Some(checksum) = checksum
            && !matches!(&copy.sources[..], [CopySource::Path(only)] if only.is_url())
        {
            let message = "--checksum is for one URL, and nothing else";
            return Err(Failed::Message(message.to_owned(), Some(checksum.span.clone())));
        }
        let mut found = Found::default();
        for source in &copy.sources {
            match source {
                CopySource::Path(word) if word.is_git() => {
                    let help = "bring its files with the context, or with RUN";
                    return Err(at(word, "ADD does not take git repositories".to_owned(), help));
                }
                CopySource::Path(word) if word.is_url() => {
                    let download = inputs.downloads.get(inputs.source.dockerfile, word, checksum.as_ref())?;
                    let unpack = unpack.unwrap_or(false);
                    found.items.push(downloaded(download, word, unpack, &copy.dest)?);
                }
                CopySource::Path(word) => {
                    for selected in found.select(inputs, word, &copy.excludes)? {
                        found.items.push(found.archive(selected, unpack.unwrap_or(true))?);
                    }
                }
                CopySource::Heredoc(heredoc) => found.items.push(text(heredoc)),
            }
        }
        let has_archive = found.items.iter().any(|item| matches!(item, Item::Archive { .. }));
        if let Some(chmod) = copy.chmod.as_ref().filter(|_| has_archive) {
            return Err(at(
                chmod,
                "--chmod does not apply to what is in an archive".to_owned(),
                "unpack it with RUN",
            ));
        }
        Self::of(state, copy, found)
    }

    fn of(state: &State, copy: &Copy, found: Found) -> Result<Self, Failed> {
        let Found { items, context, selection } = found;
        if items.is_empty()
            && let Some(CopySource::Path(first)) = copy.sources.first()
        {
            let message = format!("nothing in the context matches `{}`", first.text);
            return Err(Failed::Message(message, Some(first.span.clone())));
        }
        let digest = context.as_ref().map(|context| context.digest(&selection)).transpose()?;
        let chmod_text = copy.chmod.as_ref().map(|word| word.text.clone()).unwrap_or_default();
        let chmod = copy.chmod.as_ref().map(parse_chmod).transpose()?;
        let dest = &copy.dest.text;
        Ok(Self {
            into_folder: is_folder(dest) || items.len() > 1,
            dest: join(&working_dir(state), dest),
            items,
            context,
            digest,
            chown: copy.chown.as_ref().map(|word| word.text.clone()).filter(|text| !text.is_empty()),
            chmod,
            chmod_text,
        })
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
                Item::Archive { file: Archive::Context(_), .. } => key.text("archive"),
                Item::Archive { file: Archive::Download { digest, .. }, .. } => {
                    key.texts(["archive", &digest.to_string()]);
                }
                Item::Download { name, digest, .. } => {
                    key.os_text(name);
                    key.text(&digest.to_string());
                }
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
                Item::Archive { file, span } => self.unpack(&writer, bench, file, span)?,
                Item::Download { path, name, .. } => {
                    let (parent, name) = self.place_of(&writer, name)?;
                    let mut file = fs_err::File::open(path)?;
                    // As Docker has it: what came from elsewhere is for root alone until somebody says otherwise.
                    let done = writer.file(&parent, &name, 0o600, None, &mut file);
                    done.map_err(in_image(&parent.join(name)))?;
                }
            }
        }
        Ok(owner)
    }

    fn unpack(
        &self,
        writer: &Writer<'_>,
        bench: &Bench<'_, '_>,
        file: &Archive,
        span: &Range<usize>,
    ) -> Result<(), Failed> {
        let dest = writer.folder(&self.dest).map_err(in_image(&self.dest))?;
        let file = match (file, &self.context) {
            (Archive::Context(entry), Some(context)) => context.open_file(entry)?,
            (Archive::Context(_), None) => return Ok(()),
            (Archive::Download { path, .. }, _) => fs_err::File::open(path)?.into_file(),
        };
        let owners = if writer.real_owners { Owners::Real } else { Owners::Ours };
        let owner = self.chown.as_ref().map(|_| writer.owner);
        unpack_archive(file, &bench.root.join(dest), owners, owner).map_err(|error| {
            let mut message = format!("cannot unpack the archive: {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                message.push_str(&format!(": {error}"));
                cause = error.source();
            }
            Failed::Message(message, Some(span.clone()))
        })?;
        Ok(())
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

/// Sources as they are found.
struct Found {
    items: Vec<Item>,
    context: Option<Rc<Context>>,
    /// All of the context.
    selection: Selection,
}

impl Default for Found {
    fn default() -> Self {
        Self { items: Vec::new(), context: None, selection: Selection { items: Vec::new() } }
    }
}

impl Found {
    fn select(
        &mut self,
        inputs: &Inputs<'_>,
        word: &Word,
        excludes: &[Word],
    ) -> Result<Vec<Selected>, Failed> {
        let context = inputs.context()?;
        let found = context.select(inputs.source.dockerfile, &[word], excludes)?;
        self.context = Some(context);
        self.selection.items.extend(found.items.iter().cloned());
        Ok(found.items)
    }

    /// A file that is an archive is taken for what is in it.
    fn archive(&self, selected: Selected, unpack: bool) -> Result<Item, Failed> {
        if unpack
            && !selected.is_dir
            && let ([entry], Some(context)) = (&selected.entries[..], &self.context)
            && entry.meta.is_file()
            && is_archive(context.open_file(entry)?)?
        {
            return Ok(Item::Archive { file: Archive::Context(entry.clone()), span: selected.span });
        }
        Ok(Item::Selected(selected))
    }
}

/// A file of a web server, or what is in it.
fn downloaded(download: Download, word: &Word, unpack: bool, dest: &Word) -> Result<Item, Failed> {
    let Download { path, digest, name } = download;
    if unpack && is_archive(fs_err::File::open(&path)?)? {
        return Ok(Item::Archive { file: Archive::Download { path, digest }, span: word.span.clone() });
    }
    match name {
        None if is_folder(&dest.text) => {
            let message = "the URL names no file, and the destination is a folder".to_owned();
            Err(at(word, message, "name the file in the destination"))
        }
        name => {
            Ok(Item::Download { path, name: name.unwrap_or_else(|| "download".to_owned()).into(), digest })
        }
    }
}

/// Whether a destination says that it is a folder.
fn is_folder(dest: &str) -> bool {
    dest.ends_with('/') || dest == "." || dest.ends_with("/.")
}

fn at(word: &Word, message: String, help: &str) -> Failed {
    Failed::Message(format!("{message}: {help}"), Some(word.span.clone()))
}

/// Makes the folder of a `WORKDIR`, when it is missing: it is the user's who works in it. Gives whose it is.
pub(super) fn make_folder(
    bench: &Bench<'_, '_>,
    engine: &Engine<'_>,
    path: &Path,
    user: &str,
) -> Result<(u32, u32), StepError> {
    let place = Place::open(&bench.root)?;
    if place.find(path).is_ok_and(|found| found.is_dir()) {
        return Ok((0, 0));
    }
    let owner = match user {
        "" => (0, 0),
        user => User::find(&Root::open(&bench.root)?, user).map(|user| (user.uid, user.gid))?,
    };
    let real_owners = engine.ids != Ids::Single;
    let writer = Writer { place: &place, owner, real_owners, owner_asked: false, chmod: None };
    writer.folder(path).map_err(in_image(path))?;
    Ok(owner)
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
