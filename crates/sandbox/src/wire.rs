//! How a [`Spec`] travels to the re-executed helper: length-prefixed bytes in a memory file.
//!
//! Not JSON: paths, arguments and variables need not be UTF-8, and both ends are the same program.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::spec::{GuestMount, Network, Spec};

/// First bytes of every message: a helper started by something else finds no such thing.
const MAGIC: &[u8] = b"pannier-sandbox-1";

/// The parts of a [`Spec`] the helper works on; the streams are its descriptors 0 to 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub root: PathBuf,
    pub read_only_root: bool,
    pub mounts: Vec<GuestMount>,
    pub read_only_paths: Vec<PathBuf>,
    pub program: OsString,
    pub args: Vec<OsString>,
    pub env: Vec<OsString>,
    pub cwd: PathBuf,
    pub create_cwd: bool,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub hostname: String,
    pub network: Network,
    pub terminal: bool,
    /// Rows and columns.
    pub terminal_size: (u16, u16),
    /// Which of the three streams are the sandbox's own `/dev/null`.
    pub null_streams: [bool; 3],
    /// Whether renames are looked at from outside.
    pub watch_renames: bool,
    /// Whether only one id is mapped, so that another uid needs a user namespace of its own.
    pub single_id: bool,
}

impl Job {
    pub(crate) fn new(spec: &Spec, null_streams: [bool; 3], single_id: bool) -> Self {
        let mut args = vec![spec.arg0.clone().unwrap_or_else(|| spec.program.clone())];
        args.extend(spec.args.iter().cloned());
        let join = |(name, value): &(OsString, OsString)| {
            let mut entry = name.clone();
            entry.push("=");
            entry.push(value);
            entry
        };
        Self {
            root: spec.root.clone(),
            read_only_root: spec.read_only_root,
            mounts: spec.mounts.clone(),
            read_only_paths: spec.read_only_paths.clone(),
            program: spec.program.clone(),
            args,
            env: spec.env.iter().map(join).collect(),
            cwd: spec.cwd.clone(),
            create_cwd: spec.create_cwd,
            uid: spec.uid,
            gid: spec.gid,
            groups: spec.groups.clone(),
            hostname: spec.hostname.clone(),
            network: spec.network,
            terminal: spec.terminal,
            terminal_size: spec.terminal_size,
            null_streams,
            watch_renames: spec.watch_renames.is_some(),
            single_id,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut to = Writer(MAGIC.to_vec());
        to.bytes(self.root.as_os_str());
        to.flag(self.read_only_root);
        to.list(&self.mounts, |to, mount| to.mount(mount));
        to.list(&self.read_only_paths, |to, path| to.bytes(path.as_os_str()));
        to.bytes(&self.program);
        to.list(&self.args, |to, arg| to.bytes(arg));
        to.list(&self.env, |to, entry| to.bytes(entry));
        to.bytes(self.cwd.as_os_str());
        to.flag(self.create_cwd);
        to.number(self.uid.into());
        to.number(self.gid.into());
        to.list(&self.groups, |to, group| to.number((*group).into()));
        to.bytes(OsStr::new(&self.hostname));
        to.flag(self.network == Network::Host);
        to.flag(self.terminal);
        to.number(self.terminal_size.0.into());
        to.number(self.terminal_size.1.into());
        self.null_streams.into_iter().for_each(|null| to.flag(null));
        to.flag(self.watch_renames);
        to.flag(self.single_id);
        to.0
    }

    /// The reverse; `None` when the bytes are not what `encode` makes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes.strip_prefix(MAGIC)?);
        let job = Self {
            root: from.bytes()?.into(),
            read_only_root: from.flag()?,
            mounts: from.list(Reader::mount)?,
            read_only_paths: from.list(|from| from.bytes().map(PathBuf::from))?,
            program: from.bytes()?,
            args: from.list(Reader::bytes)?,
            env: from.list(Reader::bytes)?,
            cwd: from.bytes()?.into(),
            create_cwd: from.flag()?,
            uid: from.small()?,
            gid: from.small()?,
            groups: from.list(Reader::small)?,
            hostname: from.bytes()?.into_string().ok()?,
            network: if from.flag()? { Network::Host } else { Network::None },
            terminal: from.flag()?,
            terminal_size: (from.small()?.try_into().ok()?, from.small()?.try_into().ok()?),
            null_streams: [from.flag()?, from.flag()?, from.flag()?],
            watch_renames: from.flag()?,
            single_id: from.flag()?,
        };
        from.0.is_empty().then_some(job)
    }
}

/// Appends values.
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn number(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn flag(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }

    pub(crate) fn bytes(&mut self, value: &OsStr) {
        self.number(value.len() as u64);
        self.0.extend_from_slice(value.as_bytes());
    }

    fn list<T>(&mut self, values: &[T], write: impl Fn(&mut Self, &T)) {
        self.number(values.len() as u64);
        for value in values {
            write(self, value);
        }
    }

    fn mount(&mut self, mount: &GuestMount) {
        match mount {
            GuestMount::Bind { source, target, read_only } => {
                self.number(u64::from(*read_only));
                self.bytes(source.as_os_str());
                self.bytes(target.as_os_str());
            }
            GuestMount::Shared { root, path } => {
                self.number(3);
                self.bytes(root.as_os_str());
                self.bytes(path.as_os_str());
            }
            GuestMount::ReadOnly { target } => {
                self.number(4);
                self.bytes(target.as_os_str());
            }
            GuestMount::Tmpfs { target, mode, size } => {
                self.number(2);
                self.bytes(target.as_os_str());
                self.number((*mode).into());
                self.number(size.map_or(0, |size| size.max(1)));
            }
        }
    }
}

/// Takes values off the front.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    pub(crate) fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    pub(crate) fn small(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first != 0)
    }

    pub(crate) fn bytes(&mut self) -> Option<OsString> {
        let length = self.number()?.try_into().ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(OsString::from_vec(bytes.to_vec()))
    }

    fn list<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let length = self.number()?;
        (0..length).map(|_| read(self)).collect()
    }

    fn mount(&mut self) -> Option<GuestMount> {
        Some(match self.number()? {
            2 => GuestMount::Tmpfs {
                target: self.bytes()?.into(),
                mode: self.small()?,
                size: Some(self.number()?).filter(|size| *size > 0),
            },
            3 => GuestMount::Shared { root: self.bytes()?.into(), path: self.bytes()?.into() },
            4 => GuestMount::ReadOnly { target: self.bytes()?.into() },
            kind @ 0..2 => GuestMount::Bind {
                source: self.bytes()?.into(),
                target: self.bytes()?.into(),
                read_only: kind == 1,
            },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        let mut spec = Spec::new("/root", OsString::from_vec(b"prog\xff".to_vec()));
        spec.read_only_root = true;
        spec.mount(GuestMount::bind("/a", "/b")).mount(GuestMount::bind_read_only("/c", "/d"));
        spec.mount(GuestMount::tmp());
        spec.mount(GuestMount::Tmpfs { target: "/x".into(), mode: 0o700, size: Some(4096) });
        spec.mount(GuestMount::Shared { root: "/other".into(), path: "/home".into() });
        spec.mount(GuestMount::ReadOnly { target: "/cnb".into() });
        spec.read_only_paths.push("/ro".into());
        spec.arg("one").arg("").env("NAME", "a=b");
        spec.uid = 1000;
        spec.gid = u32::MAX;
        spec.groups = vec![1, 2];
        spec.network = Network::None;
        Job::new(&spec, [true, false, true], true)
    }

    #[test]
    fn what_is_written_is_read() {
        let job = job();
        assert_eq!(Job::decode(&job.encode()), Some(job.clone()));
        assert_eq!(job.env, [OsString::from("NAME=a=b")]);
        assert_eq!(job.args.len(), 3);
    }

    #[test]
    fn anything_else_is_refused() {
        let bytes = job().encode();
        for length in 0..bytes.len() {
            assert_eq!(Job::decode(&bytes[..length]), None, "cut at {length}");
        }
        assert_eq!(Job::decode(&[bytes.as_slice(), b"x"].concat()), None);
        assert_eq!(Job::decode(b"something"), None);
    }
}
