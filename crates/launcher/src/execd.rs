//! `exec.d` programs: each runs in the launch environment so far and hands variables back through file descriptor 3,
//! as a TOML table of strings (buildpack specification, "exec.d").

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cnb::env::Env;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::{SigSet, Signal};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};

use crate::failure::{Context, Failure, reason};

/// Where the program finds its end of the pipe.
const OUTPUT: i32 = 3;

/// The most bytes that it may write there: more than any program can have in its environment.
const OUTPUT_LIMIT: u64 = 16 << 20;

/// Runs the program at `path` and sets the variables it returns.
pub fn run(path: &Path, env: &mut Env) -> Result<(), Failure> {
    let output = output_of(path, env)
        .context(format_args!("failed to execute exec.d file at path '{}'", path.display()))?;
    let variables = parse(output)
        .context(format_args!("failed to decode output from exec.d file at path '{}'", path.display()))?;
    for (name, value) in variables {
        env.set(name, value);
    }
    Ok(())
}

fn output_of(path: &Path, env: &Env) -> Result<Vec<u8>, Failure> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| failure(error.into()))?;
    let child =
        spawn(path, env, write.as_raw_fd()).map_err(|error| Failure::path("fork/exec", path, &error))?;
    // The end of the output is when nobody can write any more, so our own end has to go first.
    drop(write);
    let mut output = Vec::new();
    // The pipe goes before the program is waited for: one that writes more is ended by that.
    let result = File::from(read).take(OUTPUT_LIMIT + 1).read_to_end(&mut output);
    let ended = wait(child);
    if output.len() as u64 > OUTPUT_LIMIT {
        return Err(Failure::launch(format!("it wrote more than {OUTPUT_LIMIT} bytes")));
    }
    ended?;
    result.map_err(failure)?;
    Ok(output)
}

/// Starts the program with an empty standard input. `posix_spawn` is used because it can put a descriptor in the place
/// of one that the container runtime passed on to the app (socket activation begins at 3, too).
fn spawn(path: &Path, env: &Env, output: i32) -> std::io::Result<Pid> {
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut files = PosixSpawnFileActions::init()?;
    files.add_dup2(null.as_raw_fd(), 0)?;
    files.add_dup2(output, OUTPUT)?;
    let mut attributes = PosixSpawnAttr::init()?;
    // Our runtime ignores SIGPIPE; the program must not inherit that.
    attributes.set_sigdefault(&SigSet::from(Signal::SIGPIPE))?;
    attributes.set_flags(PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF)?;
    let program = CString::new(path.as_os_str().as_bytes()).map_err(|_| nix::Error::EINVAL)?;
    let mut variables = Vec::new();
    for (name, value) in env.iter() {
        let entry = [name.as_bytes(), b"=", value.as_bytes()].concat();
        variables.push(CString::new(entry).map_err(|_| nix::Error::EINVAL)?);
    }
    let child = posix_spawn(program.as_c_str(), &files, &attributes, &[&program], &variables)?;
    Pid::from_raw(child.as_raw()).ok_or_else(|| nix::Error::ECHILD.into())
}

fn wait(child: Pid) -> Result<(), Failure> {
    let status = loop {
        match waitpid(Some(child), WaitOptions::empty()) {
            Ok(Some((_, status))) => break status,
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failure(error.into())),
        }
    };
    match exit_text(status) {
        None => Ok(()),
        Some(text) => Err(Failure::launch(text)),
    }
}

/// How the program ended, nothing for success.
fn exit_text(status: WaitStatus) -> Option<String> {
    if let Some(code) = status.exit_status() {
        return (code != 0).then(|| format!("exit status {code}"));
    }
    let signal = status.terminating_signal()?;
    // 0x80 is the core flag of wait(2).
    let core = if status.as_raw() as u32 & 0x80 != 0 { " (core dumped)" } else { "" };
    Some(format!("signal: {}{core}", signal_name(signal)))
}

fn signal_name(signal: i32) -> String {
    let name = match Signal::try_from(signal) {
        Ok(Signal::SIGHUP) => "hangup",
        Ok(Signal::SIGINT) => "interrupt",
        Ok(Signal::SIGQUIT) => "quit",
        Ok(Signal::SIGILL) => "illegal instruction",
        Ok(Signal::SIGTRAP) => "trace/breakpoint trap",
        Ok(Signal::SIGABRT) => "aborted",
        Ok(Signal::SIGBUS) => "bus error",
        Ok(Signal::SIGFPE) => "floating point exception",
        Ok(Signal::SIGKILL) => "killed",
        Ok(Signal::SIGUSR1) => "user defined signal 1",
        Ok(Signal::SIGSEGV) => "segmentation fault",
        Ok(Signal::SIGUSR2) => "user defined signal 2",
        Ok(Signal::SIGPIPE) => "broken pipe",
        Ok(Signal::SIGALRM) => "alarm clock",
        Ok(Signal::SIGTERM) => "terminated",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}

fn parse(output: Vec<u8>) -> Result<BTreeMap<String, String>, Failure> {
    let text = String::from_utf8(output).map_err(|_| Failure::launch("toml: not valid UTF-8"))?;
    toml::from_str(&text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1;
        Failure::launch(format!("toml: line {line}: {}", error.message().trim().replace('\n', ", ")))
    })
}

fn failure(error: std::io::Error) -> Failure {
    Failure::launch(reason(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_a_table_of_strings() {
        let variables = parse(b"A = \"1\"\n\"b.c\" = '''x\ny'''\n".to_vec()).unwrap();
        assert_eq!(
            variables.into_iter().collect::<Vec<_>>(),
            [("A".to_owned(), "1".to_owned()), ("b.c".to_owned(), "x\ny".to_owned())]
        );
        assert!(parse(Vec::new()).unwrap().is_empty());
    }

    #[test]
    fn other_output_names_its_line() {
        let message = |text: &str| parse(text.as_bytes().to_vec()).unwrap_err().message;
        assert_eq!(
            message("a = \"x\"\nb = 1\n"),
            "toml: line 2: invalid type: integer `1`, expected a string"
        );
        assert!(message("a = \n").starts_with("toml: line 1: "));
        assert_eq!(parse(vec![0xff]).unwrap_err().message, "toml: not valid UTF-8");
    }

    #[test]
    fn signals_have_names() {
        assert_eq!(signal_name(9), "killed");
        assert_eq!(signal_name(64), "signal 64");
    }
}
