//! Layers to trees: a stream as it comes from a registry becomes a directory that can be a lower of an overlay.
//!
//! Each layer gets a directory of its own, so layers can be unpacked side by side and each one once for all images.
//! What a layer deletes is written as overlayfs writes it: a whiteout is a character device `0:0`, an opaque directory
//! has the attribute `user.overlay.opaque` (overlays are mounted with `userxattr`).
//!
//! Layers are hostile: names cannot leave the directory, memory does not depend on what the stream says, and there are
//! limits. Not here: where streams come from.

mod stream;
mod tar;
mod tree;

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::Digest;
use crate::error::PathError;
pub use stream::decompressed;
use stream::{Stream, StreamError};
use tar::{Entry, TarError, Type};
use tree::TreeWriter;

/// Who owns what is unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owners {
    /// The ids in the layer.
    #[default]
    Real,
    /// This process, whatever the layer says: in a user namespace that has one id only.
    Ours,
}

/// What a layer may cost at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the uncompressed tar, and of the files in it once unpacked.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
}

impl Default for Limits {
    /// 128 GiB and ten million entries: more than images have, less than what fills a large disk.
    fn default() -> Self {
        Self { bytes: 128 << 30, entries: 10_000_000 }
    }
}

/// How a layer is unpacked.
pub struct Options<'a> {
    /// Who owns what is unpacked.
    pub owners: Owners,
    /// Whether devices are made; they are counted and left out otherwise, and where the system does not let us.
    pub devices: bool,
    /// What it may cost.
    pub limits: Limits,
    /// What the uncompressed tar must be.
    pub diff_id: Option<Digest>,
    /// Told the number of uncompressed bytes so far, after each entry.
    pub progress: &'a (dyn Fn(u64) + Sync),
    /// Which paths are wanted, where not all are: the rest is passed over. A whiteout and an opaque mark go by the path
    /// that they are about. Without the directory or the link on its way, a file lies in a plain directory.
    pub only: Option<&'a (dyn Fn(&Path) -> bool + Sync)>,
    /// Whether it is a layer: entries named `.wh.…` say what is gone, a folder replaces a link, and one without a name is
    /// the directory itself. Any other archive is merged with what is there: such names are files like any other, a
    /// link to a folder stays, a folder is not replaced, and the directory stays as it is.
    pub is_layer: bool,
    /// Who owns everything, whatever the entries say.
    pub owner: Option<(u32, u32)>,
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("owners", &self.owners)
            .field("devices", &self.devices)
            .field("limits", &self.limits)
            .field("diff_id", &self.diff_id)
            .finish_non_exhaustive()
    }
}

impl Default for Options<'_> {
    /// Real owners, no devices, the default limits, any diffID, nobody told, every path, a
    /// layer, the entries' owners.
    fn default() -> Self {
        Self {
            owners: Owners::Real,
            devices: false,
            limits: Limits::default(),
            diff_id: None,
            progress: &|_| (),
            only: None,
            is_layer: true,
            owner: None,
        }
    }
}

/// What was unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of the uncompressed tar.
    pub tar_size: u64,
    /// Entries in it.
    pub entries: u64,
    /// Devices among them that were left out.
    pub skipped_devices: u64,
}

/// A layer could not be unpacked. What there is of the directory is of no use then.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The tree could not be written.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The source failed, or is not compressed as it says.
    #[error("cannot read the layer")]
    Read(#[source] io::Error),
    /// The stream ends in the middle.
    #[error("the layer is truncated{}", in_entry(path))]
    Truncated {
        /// The entry that is not whole; none when it ends between entries.
        path: Option<PathBuf>,
    },
    /// It is no tar, or says impossible things.
    #[error("the layer is not a valid tar archive{}: {reason}", in_entry(&Some(path.clone())))]
    Invalid {
        /// The last entry that was read.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It costs more than allowed.
    #[error("the layer has more than {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much was allowed.
        limit: u64,
    },
    /// A hard link to something that this layer does not have.
    #[error("hard link `{}` to `{}`, which is not a file of this layer", path.display(), target.display())]
    HardLink {
        /// The link.
        path: PathBuf,
        /// What it should be another name of.
        target: PathBuf,
    },
    /// An owner that this user namespace has no id for.
    #[error("`{}` belongs to {uid}:{gid}, which this user namespace has no id for", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its user in the layer.
        uid: u64,
        /// Its group in the layer.
        gid: u64,
    },
    /// The content is not what was expected.
    #[error("the layer's content is {actual}, expected {expected}")]
    DiffId {
        /// The digest it should have.
        expected: Digest,
        /// The digest it has.
        actual: Digest,
    },
}

fn in_entry(path: &Option<PathBuf>) -> String {
    match path {
        Some(path) if !path.as_os_str().is_empty() => format!(" at `{}`", path.display()),
        _ => String::new(),
    }
}

impl From<StreamError> for UnpackError {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Truncated => Self::Truncated { path: None },
            // The limit is filled in where it is known.
            StreamError::TooLong => Self::Limit { what: "bytes", limit: 0 },
            StreamError::Read(error) => Self::Read(error),
        }
    }
}

/// Unpacks the layer that `source` gives, compressed or not, into the directory `dest`, which is made if it is not
/// there. `source` is read on a thread of its own and to its end.
pub fn unpack(source: impl Read + Send, dest: &Path, options: &Options<'_>) -> Result<Unpacked, UnpackError> {
    let tree = TreeWriter::new(dest, options.owners, !options.is_layer)?;
    let unpacked = std::thread::scope(|scope| {
        let stream = Stream::start(scope, source, options.limits.bytes);
        let counts = Unpacker { stream, tree, options, entries: 0, bytes: 0, skipped: 0, last: Vec::new() };
        counts.run()
    })?;
    match options.diff_id {
        Some(expected) if expected != unpacked.diff_id => {
            Err(UnpackError::DiffId { expected, actual: unpacked.diff_id })
        }
        _ => Ok(unpacked),
    }
}

struct Unpacker<'a> {
    stream: Stream,
    tree: TreeWriter,
    options: &'a Options<'a>,
    entries: u64,
    /// Bytes of files.
    bytes: u64,
    skipped: u64,
    /// Name of the last entry: for messages.
    last: Vec<u8>,
}

impl Unpacker<'_> {
    fn run(mut self) -> Result<Unpacked, UnpackError> {
        let limit = self.options.limits.bytes;
        let last = |name: &[u8]| PathBuf::from(OsStr::from_bytes(name));
        let located = |error: UnpackError, name: &[u8]| match error {
            UnpackError::Truncated { .. } => UnpackError::Truncated { path: Some(last(name)) },
            UnpackError::Limit { what: "bytes", .. } => UnpackError::Limit { what: "bytes", limit },
            error => error,
        };
        loop {
            let next = tar::next(&mut self.stream).map_err(|error| match error {
                TarError::Invalid(reason) => UnpackError::Invalid { path: last(&self.last), reason },
                TarError::Stream(error) => located(error.into(), &self.last),
            })?;
            let Some(mut entry) = next else { break };
            if let Some((uid, gid)) = self.options.owner {
                (entry.uid, entry.gid) = (uid.into(), gid.into());
            }
            self.last.clone_from(&entry.name);
            self.entry(&entry).map_err(|error| located(error, &entry.name))?;
            (self.options.progress)(self.stream.received());
        }
        self.tree.finish()?;
        let (diff_id, tar_size) = self.stream.finish().map_err(|error| located(error.into(), &self.last))?;
        (self.options.progress)(tar_size);
        Ok(Unpacked { diff_id, tar_size, entries: self.entries, skipped_devices: self.skipped })
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        let limits = &self.options.limits;
        self.entries += 1;
        if self.entries > limits.entries {
            return Err(UnpackError::Limit { what: "entries", limit: limits.entries });
        }
        self.bytes = self.bytes.saturating_add(entry.size);
        if self.bytes > limits.bytes || entry.stored > limits.bytes {
            return Err(StreamError::TooLong.into());
        }
        if self.leaves_out(entry) || self.deletes(entry)? {
            self.stream.pass(entry.stored, |_| Ok::<_, StreamError>(()))?;
        } else {
            self.make(entry)?;
        }
        Ok(tar::skip_padding(&mut self.stream, entry.stored)?)
    }

    /// True for an entry that is about a path that nobody wants.
    fn leaves_out(&self, entry: &Entry) -> bool {
        if !self.options.is_layer && entry.kind == Type::Dir && tree::split(&entry.name).is_none() {
            return true;
        }
        let (Some(only), Some((mut path, name))) = (self.options.only, tree::split(&entry.name)) else {
            return false;
        };
        let whiteout = if self.options.is_layer { name.strip_prefix(b".wh.") } else { None };
        let about = whiteout.unwrap_or(&name);
        if whiteout != Some(b".wh..opq") {
            path.extend_from_slice(if path.is_empty() { b"" } else { b"/" });
            path.extend_from_slice(about);
        }
        !only(Path::new(OsStr::from_bytes(&path)))
    }

    /// Applies an entry that only says what is gone (OCI image specification, "Whiteouts"); false for all others.
    fn deletes(&mut self, entry: &Entry) -> Result<bool, UnpackError> {
        if !self.options.is_layer {
            return Ok(false);
        }
        let Some((parent, name)) = tree::split(&entry.name) else { return Ok(false) };
        let Some(hidden) = name.strip_prefix(b".wh.") else { return Ok(false) };
        if hidden == b".wh..opq" {
            self.tree.opaque(&parent)?;
        } else if hidden.is_empty() || hidden == b"." || hidden == b".." {
            let path = PathBuf::from(OsStr::from_bytes(&entry.name));
            return Err(UnpackError::Invalid { path, reason: "a whiteout of no name".to_owned() });
        } else if !hidden.starts_with(b".wh.") {
            self.tree.whiteout(&parent, hidden)?;
        }
        // The rest are notes that AUFS made for itself.
        Ok(true)
    }

    fn make(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        match entry.kind {
            Type::File => {
                let mut file = self.tree.file(entry)?;
                let whole = [(0, entry.stored)];
                let pieces = entry.sparse.as_deref().unwrap_or(&whole);
                for (offset, length) in pieces {
                    file.seek(*offset);
                    self.stream.pass(*length, |bytes| Ok::<_, UnpackError>(file.write(bytes)?))?;
                }
                self.tree.finish_file(file, entry)
            }
            Type::Dir => self.tree.dir(entry),
            Type::Symlink => self.tree.symlink(entry),
            Type::HardLink => self.tree.hard_link(entry),
            Type::Fifo => self.tree.node(entry, FileType::Fifo).map(|_| ()),
            // This device would be a whiteout, which a layer can only write as `.wh.`.
            Type::CharDevice if entry.device == (0, 0) => self.skip_device(),
            Type::CharDevice if self.options.devices => self.device(entry, FileType::CharacterDevice),
            Type::BlockDevice if self.options.devices => self.device(entry, FileType::BlockDevice),
            Type::CharDevice | Type::BlockDevice => self.skip_device(),
        }
    }

    fn device(&mut self, entry: &Entry, kind: FileType) -> Result<(), UnpackError> {
        if self.tree.node(entry, kind)? { Ok(()) } else { self.skip_device() }
    }

    fn skip_device(&mut self) -> Result<(), UnpackError> {
        self.skipped += 1;
        Ok(())
    }
}
