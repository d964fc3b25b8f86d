//! The context: which of its files `COPY`, `ADD` and bind mounts take.
//!
//! Everything is resolved beneath the context's directory. A source that leads out of it, by `..` or by a symlink, is an
//! error; a symlink within a folder that is copied is copied as it is, wherever it leads. Not here: writing.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use layer::{Digest, Hasher, Kind, Meta, PathError, Root};

use crate::error::{SourceError, nearest};
use crate::glob::{Glob, is_pattern};
use crate::ignore::{Ignore, Matched, clean};
use crate::instruction::Word;
use crate::parse::Dockerfile;

/// More links in one path are a loop.
const MAX_LINKS: usize = 40;

/// A folder that Dockerfiles take files from.
#[derive(Debug)]
pub struct Context {
    root: Root,
    ignore: Ignore,
}

/// What sources of an instruction lead to, in the order of the sources, that of a pattern by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// What was found: nothing only where patterns match nothing.
    pub items: Vec<Selected>,
}

/// One thing that a source leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// Its name as the source gives it: what a file is called in a destination that is a folder.
    pub name: OsString,
    /// Where the source is written.
    pub span: Range<usize>,
    /// True for a folder: its content is copied, not itself.
    pub is_dir: bool,
    /// The file alone, with an empty path; or all that is in the folder, parents before what is in them, by name.
    pub entries: Vec<Entry>,
}

/// A file, folder or symlink to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path beneath what was selected.
    pub path: PathBuf,
    /// Its path beneath the context, without symlinks.
    pub source: PathBuf,
    /// Its status: a file, a folder or a symlink.
    pub meta: Meta,
    /// The target of a symlink, as it is written.
    pub link: Option<PathBuf>,
}

/// Why a path cannot be taken.
#[derive(Debug)]
enum Miss {
    /// A part of it is not there.
    Missing(PathBuf),
    /// Its own `..` lead out.
    Outside,
    /// This symlink leads out, and to where.
    Link(PathBuf, PathBuf),
    /// Symlinks lead in circles.
    Loop,
    /// What was found, and it is of no use.
    Special(PathBuf),
    Read(PathError),
}

impl From<PathError> for Miss {
    fn from(error: PathError) -> Self {
        Self::Read(error)
    }
}

impl Context {
    /// The folder at `path`, which is trusted, without what is ignored.
    ///
    /// # Errors
    /// A folder that cannot be opened.
    pub fn open(path: &Path, ignore: Ignore) -> Result<Self, PathError> {
        Ok(Self { root: Root::open(path)?, ignore })
    }

    /// The folder itself.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Finds what `sources`, expanded paths and patterns of an instruction, lead to, without what `excludes` match.
    ///
    /// # Errors
    /// Each with its place: a source that is not there or leads out of the context, unless it is a pattern; something that is neither file, folder nor symlink; what cannot be read.
    pub fn select(
        &self,
        dockerfile: &Dockerfile,
        sources: &[&Word],
        excludes: &[Word],
    ) -> Result<Selection, SourceError> {
        let mut excluded = Ignore::default();
        if let Some(first) = excludes.first() {
            excluded = Ignore::of_patterns(excludes.iter().map(|word| word.text.as_str()))
                .map_err(|error| dockerfile.error(&first.span, error.to_string()))?;
        }
        let mut items = Vec::new();
        for source in sources {
            let fault = |miss| self.fault(dockerfile, source, miss);
            for path in self.paths(dockerfile, source)? {
                let Some(found) = self.resolve(&path).transpose() else { continue };
                items.extend(self.selected(&path, &found.map_err(fault)?, source, &excluded).map_err(fault)?);
            }
        }
        Ok(Selection { items })
    }

    /// Where a source of a bind mount is beneath the context, without symlinks.
    ///
    /// # Errors
    /// As [`Context::select`], at `source`.
    pub fn locate(&self, dockerfile: &Dockerfile, source: &Word) -> Result<PathBuf, SourceError> {
        let found = lexical(&source.text).and_then(|path| self.must_resolve(&path));
        found.map_err(|miss| self.fault(dockerfile, source, miss))
    }

    /// Opens the file of an entry.
    ///
    /// # Errors
    /// It is not there any more, or cannot be read.
    pub fn open_file(&self, entry: &Entry) -> Result<File, PathError> {
        self.root.open_file(&entry.source)
    }

    /// The digest of all that a selection copies: names, kinds, permissions, contents and targets; neither times nor
    /// owners.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn digest(&self, selection: &Selection) -> Result<Digest, PathError> {
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 1 << 16];
        for item in &selection.items {
            // A folder's own name is nowhere to be seen in what is copied.
            let name = if item.is_dir { OsStr::new("") } else { &item.name };
            framed(&mut hasher, name.as_bytes());
            hasher.update(&(item.entries.len() as u64).to_le_bytes());
            for entry in &item.entries {
                framed(&mut hasher, entry.path.as_os_str().as_bytes());
                match entry.meta.kind {
                    Kind::Dir => hasher.update(b"d"),
                    Kind::Symlink => {
                        hasher.update(b"l");
                        let target = entry.link.as_deref().unwrap_or(Path::new(""));
                        framed(&mut hasher, target.as_os_str().as_bytes());
                        continue;
                    }
                    _ => {
                        hasher.update(b"f");
                        framed(&mut hasher, self.content(entry, &mut buffer)?.to_string().as_bytes());
                    }
                }
                hasher.update(&entry.meta.mode.to_le_bytes());
            }
        }
        Ok(hasher.finish())
    }

    fn content(&self, entry: &Entry, buffer: &mut [u8]) -> Result<Digest, PathError> {
        let mut file = self.open_file(entry)?;
        let mut hasher = Hasher::new();
        loop {
            match file.read(buffer) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(length) => hasher.update(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(source) => {
                    return Err(PathError {
                        action: "read",
                        path: self.root.path().join(&entry.source),
                        source,
                    });
                }
            }
        }
    }

    /// The paths that a source names: itself, or what matches it.
    fn paths(&self, dockerfile: &Dockerfile, source: &Word) -> Result<Vec<PathBuf>, SourceError> {
        let fault = |miss| self.fault(dockerfile, source, miss);
        let path = lexical(&source.text).map_err(fault)?;
        let text = path.to_string_lossy().into_owned();
        if !is_pattern(&text) || self.resolve(&path).is_ok_and(|found| found.is_some()) {
            self.must_resolve(&path).map_err(fault)?;
            return Ok(vec![path]);
        }
        let mut found = vec![PathBuf::new()];
        for part in text.split('/') {
            let glob = Glob::new(part).map_err(|error| dockerfile.error(&source.span, error.to_string()))?;
            let mut next = Vec::new();
            for folder in &found {
                self.matching(folder, &glob, &mut next).map_err(fault)?;
            }
            found = next;
        }
        found.retain(|path| !self.ignore.ignores(path) || self.ignore.keeps_some());
        Ok(found)
    }

    /// Adds what is in a folder and matches; nothing when it is no folder.
    fn matching(&self, folder: &Path, glob: &Glob, found: &mut Vec<PathBuf>) -> Result<(), Miss> {
        let Some(real) = self.resolve(folder)? else { return Ok(()) };
        if !self.root.is_dir(&real) {
            return Ok(());
        }
        for entry in self.root.read_dir(&real)? {
            if glob.matches(&entry.name.to_string_lossy()) {
                found.push(folder.join(&entry.name));
            }
        }
        Ok(())
    }

    /// The path without symlinks; `None` when nothing is there.
    fn resolve(&self, path: &Path) -> Result<Option<PathBuf>, Miss> {
        match self.must_resolve(path) {
            Ok(path) => Ok(Some(path)),
            Err(Miss::Missing(_)) => Ok(None),
            Err(miss) => Err(miss),
        }
    }

    fn must_resolve(&self, path: &Path) -> Result<PathBuf, Miss> {
        let mut waiting: Vec<OsString> = path.iter().rev().map(OsStr::to_owned).collect();
        let mut real = PathBuf::new();
        let mut links = 0;
        while let Some(part) = waiting.pop() {
            let next = real.join(&part);
            let meta = match self.root.lstat(&next) {
                Err(error) if is_missing(&error) => return Err(Miss::Missing(next)),
                meta => meta?,
            };
            if meta.kind != Kind::Symlink {
                real = next;
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Miss::Loop);
            }
            let target = self.root.read_link(&next)?;
            let out = || Miss::Link(next.clone(), target.clone());
            if target.is_absolute() {
                return Err(out());
            }
            let mut parts = Vec::new();
            for part in target.iter().filter(|part| *part != ".") {
                // What is before it has no symlinks any more: `..` is the folder above.
                if part == ".." && parts.is_empty() {
                    if !real.pop() {
                        return Err(out());
                    }
                } else if part == ".." {
                    parts.pop();
                } else {
                    parts.push(part.to_owned());
                }
            }
            waiting.extend(parts.into_iter().rev());
        }
        Ok(real)
    }

    /// What there is at a path: nothing when all of it is ignored.
    fn selected(
        &self,
        path: &Path,
        real: &Path,
        source: &Word,
        excluded: &Ignore,
    ) -> Result<Option<Selected>, Miss> {
        let meta = self.root.lstat(real)?;
        let is_dir = meta.is_dir();
        let name = path.file_name().unwrap_or_default().to_owned();
        let mut entries = Vec::new();
        if is_dir {
            let rules =
                [(&self.ignore, self.ignore.folder(real)), (excluded, excluded.folder(Path::new("")))];
            self.walk(real, Path::new(""), &rules, &mut entries)?;
            let all_ignored = entries.is_empty() && self.ignore.ignores(real);
            if all_ignored && !real.as_os_str().is_empty() {
                return self.nothing(path, source);
            }
        } else {
            if self.ignore.ignores(real) || self.ignore.ignores(path) {
                return self.nothing(path, source);
            }
            if excluded.ignores(Path::new(&name)) {
                return Ok(None);
            }
            entries.extend(self.entry(real.to_owned(), PathBuf::new(), meta)?);
        }
        Ok(Some(Selected { name, span: source.span.clone(), is_dir, entries }))
    }

    /// What is ignored is not there: an error where it is named, nothing where a pattern finds it.
    fn nothing(&self, path: &Path, source: &Word) -> Result<Option<Selected>, Miss> {
        if is_pattern(&source.text) { Ok(None) } else { Err(Miss::Missing(path.to_owned())) }
    }

    /// Adds what is in a folder. The rules are those for paths of the context and for paths beneath what is selected.
    fn walk(
        &self,
        real: &Path,
        path: &Path,
        rules: &[(&Ignore, Matched); 2],
        entries: &mut Vec<Entry>,
    ) -> Result<(), Miss> {
        let [(context, context_folder), (excluded, excluded_folder)] = rules;
        for child in self.root.read_dir(real)? {
            let (source, path) = (real.join(&child.name), path.join(&child.name));
            let of_context = context.within(context_folder, &source.to_string_lossy());
            let of_selection = excluded.within(excluded_folder, &path.to_string_lossy());
            let ignored = of_context.ignored || of_selection.ignored;
            if ignored && (child.kind != Kind::Dir || !context.keeps_some() && !excluded.keeps_some()) {
                continue;
            }
            let meta = self.root.lstat(&source)?;
            if !meta.is_dir() {
                entries.extend(self.entry(source, path, meta)?);
                continue;
            }
            let at = entries.len();
            entries.push(Entry { path: path.clone(), source: source.clone(), meta, link: None });
            self.walk(&source, &path, &[(context, of_context), (excluded, of_selection)], entries)?;
            // An ignored folder is there only when something in it is.
            if ignored && entries.len() == at + 1 {
                entries.pop();
            }
        }
        Ok(())
    }

    fn entry(&self, source: PathBuf, path: PathBuf, meta: Meta) -> Result<Option<Entry>, Miss> {
        let link = match meta.kind {
            Kind::File => None,
            Kind::Symlink => Some(self.root.read_link(&source)?),
            // The remains of a program that listened: of no use anywhere else.
            Kind::Socket => return Ok(None),
            _ => return Err(Miss::Special(source)),
        };
        Ok(Some(Entry { path, source, meta, link }))
    }

    fn fault(&self, dockerfile: &Dockerfile, source: &Word, miss: Miss) -> SourceError {
        let text = &source.text;
        let error = |message: String| dockerfile.error(&source.span, message);
        match miss {
            Miss::Missing(path) => {
                let shown = path.display().to_string();
                if self.ignore.ignores(&path) || self.root.lstat(&path).is_ok() {
                    return error(format!("`{text}` is not in the context: .dockerignore leaves it out"));
                }
                let missing = if shown == clean(text) {
                    format!("`{text}` is not in the context")
                } else {
                    format!("`{text}` is not in the context: there is no `{shown}`")
                };
                let error = error(missing);
                match self.similar(&path) {
                    Some(name) => error.with_help(format!("there is `{name}`")),
                    None => error,
                }
            }
            Miss::Outside => error(format!("`{text}` is outside of the context"))
                .with_help("sources are paths within the context, which `..` does not leave"),
            Miss::Link(link, target) => error(format!(
                "`{}` is a symlink that leads out of the context, to `{}`",
                link.display(),
                target.display()
            )),
            Miss::Loop => error(format!("`{text}` leads through too many symlinks")),
            Miss::Special(path) => error(format!("`{}` is neither file, folder nor symlink", path.display())),
            Miss::Read(failure) => {
                error(format!("cannot read `{text}` of the context: {failure}: {}", failure.source))
            }
        }
    }

    /// A name in the same folder that may have been meant.
    fn similar(&self, path: &Path) -> Option<String> {
        let folder = path.parent()?;
        let names: Vec<String> = self
            .root
            .read_dir(folder)
            .ok()?
            .into_iter()
            .map(|entry| entry.name.to_string_lossy().into_owned())
            .filter(|name| !self.ignore.ignores(&folder.join(name)))
            .collect();
        let name = nearest(path.file_name()?.to_str()?, names.iter().map(String::as_str))?;
        Some(folder.join(name).display().to_string())
    }
}

/// A source's path beneath the context: a leading slash is the context, `..` takes back what is before it.
fn lexical(text: &str) -> Result<PathBuf, Miss> {
    let path = clean(text);
    if path == ".." || path.starts_with("../") { Err(Miss::Outside) } else { Ok(PathBuf::from(path)) }
}

fn is_missing(error: &PathError) -> bool {
    matches!(error.source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn framed(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

#[cfg(test)]
mod tests;
