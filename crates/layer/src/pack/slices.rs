//! The app directory divided into slices (buildpack specification, "Slices").
//!
//! Each slice takes what its patterns match and no earlier slice took; a matched directory takes all below it; what
//! nobody took is the last layer. The rules for the directories above matched files, and when these count as taken,
//! are the reference's: they decide which layers name a directory again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::{Ids, PackError, Tar, Tree};
use crate::error::{At, PathError};
use crate::glob::{self, BadPattern};
use crate::meta::{Kind, Meta};
use crate::root::{Root, stat};
use crate::walk::Walk;

/// An app directory, divided.
#[derive(Debug)]
pub struct Slices {
    /// For each slice and the rest: paths below the app directory, in the order of the layer. The directory itself is
    /// the empty path.
    files: Vec<Vec<Vec<u8>>>,
}

/// The app directory could not be divided.
#[derive(Debug, thiserror::Error)]
pub enum SlicesError {
    /// It could not be read.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A pattern is malformed.
    #[error("invalid pattern `{pattern}` in slice {slice}")]
    Pattern {
        /// Number of the slice, from 1.
        slice: usize,
        /// The pattern, cleaned.
        pattern: String,
        /// Why.
        #[source]
        source: BadPattern,
    },
}

impl Slices {
    /// Divides the tree at `dir` by the patterns of each slice. There is always one more layer than slices.
    pub fn new(dir: &Path, patterns: &[Vec<String>]) -> Result<Self, SlicesError> {
        let mut division = Division::read(dir)?;
        let mut files = Vec::new();
        for (index, patterns) in patterns.iter().enumerate() {
            let mut matched = Vec::new();
            for pattern in patterns {
                division.matched(pattern.as_bytes(), &mut matched).map_err(|source| {
                    SlicesError::Pattern {
                        slice: index + 1,
                        pattern: String::from_utf8_lossy(&glob::clean(pattern.as_bytes())).into_owned(),
                        source,
                    }
                })?;
            }
            files.push(division.take(&matched));
        }
        files.push(division.rest());
        Ok(Self { files })
    }

    /// Number of layers: one for each slice and one for the rest.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Never: there is always the rest.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Adds layer `index` to `tar`; `tree` is the app directory that was divided. A slice without files adds nothing.
    pub fn add(
        &self,
        index: usize,
        tar: &mut Tar<'_, '_>,
        tree: &Tree<'_>,
        ids: Ids,
    ) -> Result<(), PackError> {
        let files = &self.files[index];
        if files.is_empty() {
            return Ok(());
        }
        tar.parents(tree, ids.parents)?;
        let root = Root::open(tree.dir)?;
        for path in files {
            add_path(tar, &root, path, tree, ids)?;
        }
        Ok(())
    }
}

fn add_path(
    tar: &mut Tar<'_, '_>,
    root: &Root,
    path: &[u8],
    tree: &Tree<'_>,
    ids: Ids,
) -> Result<(), PackError> {
    let mut name = tree.clean_name();
    if path.is_empty() {
        let meta = Meta::from(rustix::fs::fstat(root).at("stat", tree.dir)?);
        return tar.special(&name, &meta, b"", ids.tree);
    }
    name.push(b'/');
    name.extend_from_slice(path);
    let path = Path::new(OsStr::from_bytes(path));
    let full = || tree.dir.join(path);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // A symlink at the end is refused by NO_SYMLINKS too unless only its handle is wanted.
    let handle = rustix::fs::openat2(root, path, flags, Mode::empty(), beneath).at("open", &full())?;
    let meta = stat(std::os::fd::AsFd::as_fd(&handle)).at("stat", &full())?;
    match meta.kind {
        Kind::File => {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let fd = rustix::fs::openat2(root, path, flags, Mode::empty(), beneath).at("open", &full())?;
            let file = File::from(fd);
            let meta = Meta::from(rustix::fs::fstat(&file).at("stat", &full())?);
            tar.opened(&name, &file, &meta, ids.tree, full)
        }
        Kind::Symlink => {
            let link = rustix::fs::readlinkat(&handle, "", Vec::new()).at("read link", &full())?;
            tar.special(&name, &meta, link.as_bytes(), ids.tree)
        }
        _ => tar.special(&name, &meta, b"", ids.tree),
    }
}

/// The state of dividing: every path below the app directory, and whether a slice took it.
struct Division {
    /// In walk order, which is the order in which patterns match.
    walked: Vec<Vec<u8>>,
    taken: HashMap<Vec<u8>, bool>,
    /// Directories that are not empty, with what is in them.
    children: HashMap<Vec<u8>, Vec<Vec<u8>>>,
}

impl Division {
    fn read(dir: &Path) -> Result<Self, PathError> {
        let mut division = Self {
            walked: Vec::new(),
            taken: HashMap::from([(Vec::new(), false)]),
            children: HashMap::new(),
        };
        let (mut walk, _) = Walk::new(dir)?;
        while walk.next()?.is_some() {
            let path = walk.path().as_os_str().as_bytes().to_vec();
            division.children.entry(parent(&path).to_vec()).or_default().push(path.clone());
            division.taken.insert(path.clone(), false);
            division.walked.push(path);
        }
        Ok(division)
    }

    /// Adds the paths that `pattern` matches.
    fn matched(&self, pattern: &[u8], matched: &mut Vec<Vec<u8>>) -> Result<(), BadPattern> {
        let pattern = glob::clean(pattern);
        for path in &self.walked {
            if glob::matches(&pattern, path)? {
                matched.push(path.clone());
            }
        }
        Ok(())
    }

    /// Takes what was matched: the files of a slice, sorted.
    fn take(&mut self, matched: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut files = BTreeSet::new();
        for path in matched {
            self.take_below(path, &mut files);
        }
        let parents: BTreeSet<_> =
            files.iter().flat_map(|path| ancestors(path)).filter(|path| !files.contains(*path)).collect();
        let mut by_depth: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for path in &parents {
            by_depth.entry(depth(path)).or_default().push(path.to_vec());
        }
        let parents: Vec<_> = parents.into_iter().map(<[u8]>::to_vec).collect();
        files.extend(parents);
        // A directory all of whose children are taken is taken; the deepest first, as those above depend on them.
        for path in by_depth.into_values().rev().flatten() {
            let children = self.children.get(&path).into_iter().flatten();
            let all = children.into_iter().all(|child| self.taken[child]);
            self.taken.insert(path, all);
        }
        files.into_iter().collect()
    }

    /// Takes a path and all below it, except what is taken already.
    fn take_below(&mut self, path: &[u8], files: &mut BTreeSet<Vec<u8>>) {
        let mut waiting = vec![path.to_vec()];
        while let Some(path) = waiting.pop() {
            let Some(taken @ false) = self.taken.get_mut(&path) else { continue };
            *taken = true;
            if let Some(children) = self.children.get(&path) {
                waiting.extend(children.iter().cloned());
            }
            files.insert(path);
        }
    }

    /// What no slice took, sorted.
    fn rest(&self) -> Vec<Vec<u8>> {
        let mut rest: Vec<_> =
            self.taken.iter().filter(|(_, taken)| !**taken).map(|(path, _)| path.clone()).collect();
        rest.sort();
        rest
    }
}

fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(b"", |slash| &path[..slash])
}

/// The directories above `path`, up to the app directory itself.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path), |path| (!path.is_empty()).then(|| parent(path))).skip(1)
}

fn depth(path: &[u8]) -> usize {
    if path.is_empty() { 0 } else { 1 + path.iter().filter(|byte| **byte == b'/').count() }
}
