//! Trees to layers, in one pass: walk, tar, diffID, compression, digest, sink.
//!
//! The tar is byte for byte what the reference lifecycle makes of the same tree, so its diffID is the same: names keep
//! their leading slash, directories have none at the end, every time is 1980-01-01T00:00:01Z, names of owners, extended
//! attributes and hard links are dropped, sockets are left out. A [`Tar`] takes the entries; whole trees, slices of the
//! app (see [`Slices`]) or single entries (the launcher's layer, the process types').
//!
//! Not here: which layers an image has.

mod header;
mod pipeline;
mod slices;
mod special;
mod upper;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;

pub use header::HeaderTooLarge;
use header::{Flag, Header, padding};
pub use slices::{Slices, SlicesError};
pub use special::LAUNCHER;
pub use upper::{Upper, UpperOwners};

use crate::error::{At, PathError};
use crate::glob;
use crate::meta::{Kind, Meta};
use crate::walk::Walk;
use crate::{Compression, Digest};
use pipeline::{Blocks, Failure, Stopped};

/// The time of every entry: 1980-01-01T00:00:01Z, as the reference has it.
pub const MTIME: i64 = 315_532_801;

/// What became of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Digest of what was written.
    pub digest: Digest,
    /// Bytes written.
    pub size: u64,
    /// Bytes of the uncompressed tar.
    pub tar_size: u64,
    /// Entries in the tar.
    pub entries: u64,
}

/// The diffID of a layer that was only computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of the uncompressed tar.
    pub tar_size: u64,
    /// Entries in the tar.
    pub entries: u64,
}

/// A layer could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The tree could not be read.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A file was shorter than its status said.
    #[error("`{}` became shorter while it was read", path.display())]
    Shrunk {
        /// The file.
        path: PathBuf,
    },
    /// An entry fits in no tar header.
    #[error("cannot archive `{}`", path.display())]
    Header {
        /// The entry's name in the layer.
        path: PathBuf,
        /// Why.
        #[source]
        source: HeaderTooLarge,
    },
    /// The name of an entry or of a tree does not begin with a slash.
    #[error("the name `{}` in a layer is not an absolute path", path.display())]
    NotAbsolute {
        /// The name.
        path: PathBuf,
    },
    /// A change that a layer has no words for: a name that stands for something deleted.
    #[error("`{}` cannot be in a layer, where names that begin with `.wh.` say what is deleted", path.display())]
    Whiteout {
        /// The entry's name in the layer.
        path: PathBuf,
    },
    /// The compressed layer could not be written.
    #[error("cannot write the layer")]
    Sink(#[source] io::Error),
    /// No more entries are taken because writing failed; [`pack`] gives the reason, [`PackError::Sink`], instead.
    #[error("the layer takes no more entries")]
    Stopped,
}

impl From<Stopped> for PackError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// Owner of an entry in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// As this process sees it on disk.
    AsOnDisk,
    /// These ids, whatever is on disk.
    Ids {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
}

impl Owner {
    pub(crate) fn of(self, uid: u32, gid: u32) -> (u32, u32) {
        match self {
            Self::AsOnDisk => (uid, gid),
            Self::Ids { uid, gid } => (uid, gid),
        }
    }
}

/// Who owns what in a layer made of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The tree's directory and everything in it: the lifecycle's `-uid` and `-gid`.
    pub tree: Owner,
    /// The directories above it. [`Owner::AsOnDisk`] as the reference, unless the disk cannot hold the real owner: in
    /// a user namespace with a single id all is 0.
    pub parents: Owner,
}

impl Ids {
    /// The tree is `uid:gid`'s, its parents are whose they are on disk.
    pub fn tree(uid: u32, gid: u32) -> Self {
        Self { tree: Owner::Ids { uid, gid }, parents: Owner::AsOnDisk }
    }
}

/// A directory above a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Permission bits, as the low twelve of a mode.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// A tree on disk and where it is to be in the layer.
#[derive(Clone, Debug)]
pub struct Tree<'a> {
    /// The directory on disk.
    pub dir: &'a Path,
    /// Its absolute name in the layer, such as `/layers/some_buildpack/deps`.
    pub name: &'a Path,
    /// The directories above `name` except `/`, outermost first. `None` looks at those above `dir`, one for each.
    pub parents: Option<Vec<Parent>>,
}

impl<'a> Tree<'a> {
    /// The tree at `dir`, named `name`; the directories above it are those on disk.
    pub fn new(dir: &'a Path, name: &'a Path) -> Self {
        Self { dir, name, parents: None }
    }

    /// The name without what means nothing: a slash at its end, `.`, `..`.
    fn clean_name(&self) -> Vec<u8> {
        glob::clean(self.name.as_os_str().as_bytes())
    }
}

/// How a layer is made.
pub struct Options<'a> {
    /// How it is compressed.
    pub compression: Compression,
    /// Threads that compress. The result does not depend on it.
    pub workers: usize,
    /// Told the number of tar bytes so far, about once for each MiB.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("compression", &self.compression)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

impl Default for Options<'_> {
    /// The default compression, a worker for each processor, nobody told.
    fn default() -> Self {
        Self {
            compression: Compression::DEFAULT,
            workers: thread::available_parallelism().map_or(1, usize::from),
            progress: &|_| (),
        }
    }
}

/// Makes a layer of the entries that `fill` adds, and writes it to `sink`.
pub fn pack(
    options: &Options<'_>,
    sink: &mut (dyn Write + Send),
    fill: impl FnOnce(&mut Tar<'_, '_>) -> Result<(), PackError>,
) -> Result<Packed, PackError> {
    let result = pipeline::run(options.compression, options.workers, sink, options.progress, |blocks| {
        write(blocks, fill)
    });
    match result {
        Ok((entries, diff_id, tar_size, written)) => {
            Ok(Packed { diff_id, digest: written.digest, size: written.size, tar_size, entries })
        }
        Err(Failure::Source(error)) => Err(error),
        Err(Failure::Sink(error)) => Err(PackError::Sink(error)),
    }
}

/// The diffID that [`pack`] would give, without compressing or writing anything.
pub fn hash(
    progress: &(dyn Fn(u64) + Sync),
    fill: impl FnOnce(&mut Tar<'_, '_>) -> Result<(), PackError>,
) -> Result<Hashed, PackError> {
    let (entries, diff_id, tar_size) = pipeline::hash_only(progress, |blocks| write(blocks, fill))?;
    Ok(Hashed { diff_id, tar_size, entries })
}

/// [`pack`] of one tree.
pub fn pack_tree(
    options: &Options<'_>,
    sink: &mut (dyn Write + Send),
    tree: &Tree<'_>,
    ids: Ids,
) -> Result<Packed, PackError> {
    pack(options, sink, |tar| tar.tree(tree, ids))
}

fn write(
    blocks: &mut Blocks<'_>,
    fill: impl FnOnce(&mut Tar<'_, '_>) -> Result<(), PackError>,
) -> Result<u64, PackError> {
    let mut tar = Tar { blocks, header: Vec::new(), entries: 0 };
    fill(&mut tar)?;
    let entries = tar.entries;
    // The end of a tar: two blocks of zeros.
    blocks.put_zeros(2 * header::BLOCK)?;
    Ok(entries)
}

/// A layer's tar while it is written. Names are absolute and in their final order: nothing is sorted here.
#[derive(Debug)]
pub struct Tar<'t, 'b> {
    blocks: &'t mut Blocks<'b>,
    header: Vec<u8>,
    entries: u64,
}

impl Tar<'_, '_> {
    /// Adds a directory.
    pub fn dir(&mut self, name: &Path, mode: u32, uid: u32, gid: u32) -> Result<(), PackError> {
        self.entry(Header { mode, uid, gid, ..header(name, Flag::Dir) })
    }

    /// Adds a symlink. The reference gives those on disk mode 0777, those it makes 0755.
    pub fn symlink(
        &mut self,
        name: &Path,
        target: &Path,
        mode: u32,
        uid: u32,
        gid: u32,
    ) -> Result<(), PackError> {
        let link = target.as_os_str().as_bytes();
        self.entry(Header { mode, uid, gid, link, ..header(name, Flag::Symlink) })
    }

    /// Adds a file of this content.
    pub fn bytes(
        &mut self,
        name: &Path,
        content: &[u8],
        mode: u32,
        uid: u32,
        gid: u32,
    ) -> Result<(), PackError> {
        let size = content.len() as u64;
        self.entry(Header { mode, uid, gid, size, ..header(name, Flag::File) })?;
        self.blocks.put(content)?;
        Ok(self.blocks.put_zeros(padding(size))?)
    }

    /// Adds the file at `path` on disk, which is trusted, under another name, mode and owner: the launcher's layer.
    pub fn file(&mut self, name: &Path, path: &Path, mode: u32, uid: u32, gid: u32) -> Result<(), PackError> {
        let file = rustix::fs::open(
            path,
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        );
        let file = File::from(file.at("open", path)?);
        self.sized_file(name, &file, path, mode, uid, gid)
    }

    /// Adds an open regular file, which was resolved by somebody who does not trust its path, from its start.
    pub fn opened_file(
        &mut self,
        name: &Path,
        file: &File,
        mode: u32,
        uid: u32,
        gid: u32,
    ) -> Result<(), PackError> {
        self.sized_file(name, file, name, mode, uid, gid)
    }

    /// `path` names it when it cannot be read.
    fn sized_file(
        &mut self,
        name: &Path,
        file: &File,
        path: &Path,
        mode: u32,
        uid: u32,
        gid: u32,
    ) -> Result<(), PackError> {
        let size = rustix::fs::fstat(file).map(Meta::from).at("stat", path)?.size;
        self.entry(Header { mode, uid, gid, size, ..header(name, Flag::File) })?;
        self.content(file, size, || path.to_owned())
    }

    /// Adds a tree: the directories above it, itself, and all below it.
    pub fn tree(&mut self, tree: &Tree<'_>, ids: Ids) -> Result<(), PackError> {
        self.parents(tree, ids.parents)?;
        let (mut walk, meta) = Walk::new(tree.dir)?;
        let mut name = tree.clean_name();
        self.special(&name, &meta, b"", ids.tree)?;
        let prefix = name.len();
        while let Some(kind) = walk.next()? {
            name.truncate(prefix);
            name.push(b'/');
            name.extend_from_slice(walk.path().as_os_str().as_bytes());
            if kind == Kind::File {
                let (file, meta) = walk.open()?;
                self.opened(&name, &file, &meta, ids.tree, || walk.full_path())?;
            } else {
                let meta = walk.stat()?;
                let link = if meta.kind == Kind::Symlink { walk.read_link()? } else { Vec::new() };
                self.special(&name, &meta, &link, ids.tree)?;
            }
        }
        Ok(())
    }

    /// Adds the directories above a tree, outermost first.
    fn parents(&mut self, tree: &Tree<'_>, owner: Owner) -> Result<(), PackError> {
        if !tree.name.is_absolute() {
            return Err(PackError::NotAbsolute { path: tree.name.to_owned() });
        }
        let name = tree.clean_name();
        let mut names: Vec<_> = Path::new(OsStr::from_bytes(&name)).ancestors().skip(1).collect();
        // The last one is `/`, which the reference leaves out.
        names.pop();
        let parents = match &tree.parents {
            Some(parents) => parents.clone(),
            None => parents_on_disk(tree.dir, names.len())?,
        };
        for (name, parent) in names.iter().rev().zip(&parents) {
            let (uid, gid) = owner.of(parent.uid, parent.gid);
            self.dir(name, parent.mode, uid, gid)?;
        }
        Ok(())
    }

    /// Adds an open regular file; `path` names it when it cannot be read.
    fn opened(
        &mut self,
        name: &[u8],
        file: &File,
        meta: &Meta,
        owner: Owner,
        path: impl Fn() -> PathBuf,
    ) -> Result<(), PackError> {
        let (uid, gid) = owner.of(meta.uid, meta.gid);
        let name = Path::new(OsStr::from_bytes(name));
        self.entry(Header { mode: meta.mode, uid, gid, size: meta.size, ..header(name, Flag::File) })?;
        self.content(file, meta.size, path)
    }

    /// Adds an entry that has no content; a socket is left out.
    fn special(&mut self, name: &[u8], meta: &Meta, link: &[u8], owner: Owner) -> Result<(), PackError> {
        let (flag, device) = match meta.kind {
            Kind::Dir => (Flag::Dir, 0),
            Kind::Symlink => (Flag::Symlink, 0),
            Kind::Fifo => (Flag::Fifo, 0),
            Kind::CharDevice => (Flag::CharDevice, meta.rdev),
            Kind::BlockDevice => (Flag::BlockDevice, meta.rdev),
            // A file that was something else when its directory was read: nothing a finished build has.
            Kind::Socket | Kind::File => return Ok(()),
        };
        let (uid, gid) = owner.of(meta.uid, meta.gid);
        let device = (rustix::fs::major(device), rustix::fs::minor(device));
        let name = Path::new(OsStr::from_bytes(name));
        self.entry(Header { mode: meta.mode, uid, gid, link, device, ..header(name, flag) })
    }

    fn entry(&mut self, entry: Header<'_>) -> Result<(), PackError> {
        let path = || PathBuf::from(OsStr::from_bytes(entry.name));
        if entry.name.first() != Some(&b'/') {
            return Err(PackError::NotAbsolute { path: path() });
        }
        self.header.clear();
        entry.encode(&mut self.header).map_err(|source| PackError::Header { path: path(), source })?;
        self.entries += 1;
        Ok(self.blocks.put(&self.header)?)
    }

    /// Adds the first `size` bytes of a file and the padding after them.
    fn content(&mut self, file: &File, size: u64, path: impl Fn() -> PathBuf) -> Result<(), PackError> {
        let mut left = size;
        while left > 0 {
            match self.blocks.put_from(left, |buffer| Ok(rustix::io::read(file, buffer)?))? {
                Ok(0) => return Err(PackError::Shrunk { path: path() }),
                Ok(count) => left -= count as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(source) => return Err(PathError { action: "read", path: path(), source }.into()),
            }
        }
        Ok(self.blocks.put_zeros(padding(size))?)
    }
}

/// A header whose numbers are zero, with the time that all have.
fn header(name: &Path, flag: Flag) -> Header<'_> {
    Header {
        name: name.as_os_str().as_bytes(),
        flag,
        link: b"",
        mode: 0,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: MTIME,
        device: (0, 0),
        xattrs: &[],
    }
}

/// The status of the `count` directories above `dir`, outermost first.
fn parents_on_disk(dir: &Path, count: usize) -> Result<Vec<Parent>, PathError> {
    let mut parents = Vec::new();
    for above in dir.ancestors().skip(1).take(count) {
        let meta = Meta::from(rustix::fs::stat(above).at("stat", above)?);
        parents.push(Parent { mode: meta.mode, uid: meta.uid, gid: meta.gid });
    }
    parents.reverse();
    Ok(parents)
}
