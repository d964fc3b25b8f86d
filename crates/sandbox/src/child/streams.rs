//! The three standard streams, both ends.
//!
//! What a program holds open it can change in other ways than by writing: `fchmod`, `fchown`, `futimens`, and
//! `ftruncate` reach the file itself. So nothing that has a name of the host's is handed in as it is: a pipe or a socket
//! is, a device is opened again through a read-only mount, and anything else is read and written out here.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::thread::JoinHandle;

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fcntl_getfl, fstat, fstatfs, major, minor, open};

use crate::mount::api;
use crate::spec::Stdio;

/// The file system numbers of what has no name anywhere: pipes, sockets, and other objects of the kernel's.
const NAMELESS: [i64; 3] = [0x5049_5045, 0x534f_434b, 0x0904_1934];

/// Both ends of the three streams.
pub(super) struct Streams {
    pub theirs: [OwnedFd; 3],
    /// Which of them are to be the sandbox's `/dev/null`.
    pub null: [bool; 3],
    pub stdin: Option<PipeWriter>,
    pub stdout: Option<PipeReader>,
    pub stderr: Option<PipeReader>,
    pub relays: Relays,
}

/// The threads that write out what a program puts into files of the caller's.
#[derive(Debug, Default)]
pub(super) struct Relays(Vec<JoinHandle<io::Result<()>>>);

/// One stream, as the program gets it.
enum Theirs {
    Null,
    As(OwnedFd),
}

impl Streams {
    pub(super) fn new(stdin: Stdio, stdout: Stdio, stderr: Stdio) -> io::Result<Self> {
        let (stdin_theirs, stdin) = match stdin {
            Stdio::Pipe => io::pipe().map(|(theirs, ours)| (Theirs::As(theirs.into()), Some(ours)))?,
            Stdio::Null => (Theirs::Null, None),
            Stdio::Inherit => (input(rustix::stdio::stdin().try_clone_to_owned()?)?, None),
            Stdio::Fd(descriptor) => (input(descriptor)?, None),
        };
        let mut relays = Relays::default();
        let mut written = None;
        let mut output = |stream, own: BorrowedFd<'_>| match stream {
            Stdio::Pipe => io::pipe().map(|(ours, theirs)| (Theirs::As(theirs.into()), Some(ours))),
            Stdio::Null => Ok((Theirs::Null, None)),
            Stdio::Inherit => Ok((relays.output(own.try_clone_to_owned()?, &mut written)?, None)),
            Stdio::Fd(descriptor) => Ok((relays.output(descriptor, &mut written)?, None)),
        };
        let (stdout_theirs, stdout) = output(stdout, rustix::stdio::stdout())?;
        let (stderr_theirs, stderr) = output(stderr, rustix::stdio::stderr())?;
        let theirs = [stdin_theirs, stdout_theirs, stderr_theirs];
        let null = [0, 1, 2].map(|index| matches!(theirs[index], Theirs::Null));
        // Until the sandbox stands, so that the number is taken.
        let place = File::from(open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?);
        let [a, b, c] = theirs.map(|theirs| match theirs {
            Theirs::Null => place.try_clone().map(OwnedFd::from),
            Theirs::As(descriptor) => Ok(descriptor),
        });
        Ok(Self { theirs: [a?, b?, c?], null, stdin, stdout, stderr, relays })
    }
}

impl Relays {
    /// A stream that the program writes to. Two that lead to the same file share a pipe, so that what is written
    /// first comes first; `written` is that of the one before.
    fn output(
        &mut self,
        descriptor: OwnedFd,
        written: &mut Option<((u64, u64), PipeWriter)>,
    ) -> io::Result<Theirs> {
        let stat = fstat(&descriptor)?;
        if let Some(theirs) = without_relay(&descriptor, &stat)? {
            return Ok(theirs);
        }
        let file = (stat.st_dev, stat.st_ino);
        if let Some((_, theirs)) = written.as_ref().filter(|(known, _)| *known == file) {
            return Ok(Theirs::As(theirs.try_clone()?.into()));
        }
        let (mut ours, theirs) = io::pipe()?;
        *written = Some((file, theirs.try_clone()?));
        let mut to = File::from(descriptor);
        self.0.push(std::thread::spawn(move || io::copy(&mut ours, &mut to).map(drop)));
        Ok(Theirs::As(theirs.into()))
    }

    /// Waits until everything is written, which is so soon after the last program has ended.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let mut first = Ok(());
        for relay in self.0.drain(..) {
            let done = relay.join().unwrap_or_else(|_| Err(io::Error::other("the relay of output panicked")));
            first = first.and(done);
        }
        first.map_err(|error| {
            io::Error::new(error.kind(), format!("cannot write what the program says: {error}"))
        })
    }
}

/// A stream that the program reads.
fn input(descriptor: OwnedFd) -> io::Result<Theirs> {
    let stat = fstat(&descriptor)?;
    if let Some(theirs) = without_relay(&descriptor, &stat)? {
        return Ok(theirs);
    }
    let (theirs, mut ours) = io::pipe()?;
    let mut from = File::from(descriptor);
    // It ends with the file, or when nobody reads any more; one that waits for more goes with this process.
    std::thread::spawn(move || io::copy(&mut from, &mut ours));
    Ok(Theirs::As(theirs.into()))
}

/// What can be handed in, itself or opened again; `None` for what has to go through a pipe.
fn without_relay(descriptor: &OwnedFd, stat: &Stat) -> io::Result<Option<Theirs>> {
    if NAMELESS.contains(&fstatfs(descriptor)?.f_type) {
        return Ok(Some(Theirs::As(descriptor.try_clone()?)));
    }
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice {
        return Ok(None);
    }
    if (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3) {
        return Ok(Some(Theirs::Null));
    }
    Ok(open_read_only_mounted(descriptor, stat).ok().map(Theirs::As))
}

/// Opens a device again, by its path, through a read-only mount: a terminal stays one, and its node is out of reach.
fn open_read_only_mounted(descriptor: &OwnedFd, stat: &Stat) -> io::Result<OwnedFd> {
    let link = |descriptor: &OwnedFd| format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    // Not the descriptor itself: its mount may be one of the namespace we have left.
    let path = fs_err::read_link(link(descriptor))?;
    let node = api::clone_tree(CWD, &path)?;
    let found = fstat(&node)?;
    if (found.st_dev, found.st_ino, found.st_rdev) != (stat.st_dev, stat.st_ino, stat.st_rdev) {
        return Err(io::ErrorKind::NotFound.into());
    }
    api::set_attributes(&node, api::READ_ONLY)?;
    let access = fcntl_getfl(descriptor.as_fd())? & (OFlags::RWMODE | OFlags::APPEND | OFlags::NONBLOCK);
    Ok(open(link(&node), access | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?)
}
