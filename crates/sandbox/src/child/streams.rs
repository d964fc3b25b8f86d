//! The three standard streams, both ends.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::spec::Stdio;

/// Both ends of the three streams.
pub(super) struct Streams {
    pub theirs: [OwnedFd; 3],
    pub stdin: Option<PipeWriter>,
    pub stdout: Option<PipeReader>,
    pub stderr: Option<PipeReader>,
}

impl Streams {
    pub(super) fn new(stdin: Stdio, stdout: Stdio, stderr: Stdio) -> io::Result<Self> {
        let (stdin_theirs, stdin) = match stdin {
            Stdio::Pipe => io::pipe().map(|(theirs, ours)| (theirs.into(), Some(ours)))?,
            other => (plain_stream(other, rustix::stdio::stdin())?, None),
        };
        let output = |stream, own| match stream {
            Stdio::Pipe => io::pipe().map(|(ours, theirs)| (OwnedFd::from(theirs), Some(ours))),
            other => plain_stream(other, own).map(|theirs| (theirs, None)),
        };
        let (stdout_theirs, stdout) = output(stdout, rustix::stdio::stdout())?;
        let (stderr_theirs, stderr) = output(stderr, rustix::stdio::stderr())?;
        Ok(Self { theirs: [stdin_theirs, stdout_theirs, stderr_theirs], stdin, stdout, stderr })
    }
}

fn plain_stream(stream: Stdio, own: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    match stream {
        Stdio::Fd(descriptor) => Ok(descriptor),
        Stdio::Inherit => own.try_clone_to_owned(),
        Stdio::Null | Stdio::Pipe => {
            let null = fs_err::OpenOptions::new().read(true).write(true).open("/dev/null")?;
            Ok(null.into_parts().0.into())
        }
    }
}
