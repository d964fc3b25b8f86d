//! Runs the programs of a phase in the sandbox: the lifecycle's executor.

use std::io::Read;
use std::path::PathBuf;

use events::Stream;
use lifecycle::{ExecError, Executor, Exit, Invocation};
use sandbox::{ExitStatus, GuestMount, Network, Spec, Stdio};

/// Bytes of output handed on at a time.
const CHUNK: usize = 64 * 1024;

/// A root file system, what is mounted in it, and who runs there.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    /// The mounted root file system.
    pub root: PathBuf,
    /// What is mounted in it.
    pub mounts: Vec<GuestMount>,
    /// Who programs run as.
    pub uid: u32,
    /// Their group.
    pub gid: u32,
    /// What they see of the network.
    pub network: Network,
}

impl Executor for Guest {
    fn run(&self, invocation: &Invocation, output: &mut dyn FnMut(Stream, &[u8])) -> Result<Exit, ExecError> {
        let mut spec = Spec::new(&self.root, invocation.program.as_os_str());
        spec.mounts.clone_from(&self.mounts);
        spec.args.clone_from(&invocation.args);
        spec.env = invocation.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        spec.cwd.clone_from(&invocation.cwd);
        spec.uid = self.uid;
        spec.gid = self.gid;
        spec.network = self.network;
        spec.stdout = Stdio::Pipe;
        spec.stderr = Stdio::Pipe;
        let mut child = spec.spawn().map_err(|error| ExecError::new(&invocation.program, error))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        pump(stdout, stderr, output);
        let status = child.wait().map_err(|error| ExecError::new(&invocation.program, error))?;
        Ok(match status {
            ExitStatus::Code(code) => Exit::Code(code),
            ExitStatus::Signal(signal) => Exit::Signal(signal),
        })
    }
}

/// Hands on what comes from both streams, as it comes, until both are closed.
fn pump(
    stdout: Option<impl Read + Send>,
    stderr: Option<impl Read + Send>,
    output: &mut dyn FnMut(Stream, &[u8]),
) {
    let (sender, receiver) = std::sync::mpsc::sync_channel::<(Stream, Vec<u8>)>(16);
    std::thread::scope(|scope| {
        if let Some(stdout) = stdout {
            let sender = sender.clone();
            scope.spawn(move || forward(stdout, Stream::Stdout, &sender));
        }
        if let Some(stderr) = stderr {
            let sender = sender.clone();
            scope.spawn(move || forward(stderr, Stream::Stderr, &sender));
        }
        drop(sender);
        for (stream, bytes) in receiver {
            output(stream, &bytes);
        }
    });
}

fn forward(mut from: impl Read, stream: Stream, to: &std::sync::mpsc::SyncSender<(Stream, Vec<u8>)>) {
    let mut buffer = vec![0; CHUNK];
    // A stream that fails is one that ended.
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.send((stream, buffer[..count].to_vec())).is_err() {
            return;
        }
    }
}
