//! `procfile-run LINE [ARGUMENT...]`: expands the variables in a line of a Procfile and becomes the command. The user's
//! arguments follow as they are.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use procfile::words::Line;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let line = arguments.next().and_then(|line| line.into_string().ok()).unwrap_or_default();
    let error = run(&line, arguments);
    // Nobody is left to tell when the stream is gone.
    let _ = std::io::stderr().write_all(format!("procfile: {error}\n").as_bytes());
    ExitCode::from(127)
}

/// Becomes the command. Returns why that did not work.
fn run(line: &str, arguments: impl Iterator<Item = OsString>) -> String {
    let parsed = match Line::parse(line) {
        Ok(parsed) => parsed,
        Err(error) => return format!("{line}: {error}"),
    };
    let (assignments, words) = parsed.expand(|name| std::env::var_os(name));
    let mut words = words.into_iter().chain(arguments);
    let Some(program) = words.next() else {
        return format!("{line}: no command is left after the variables are filled in");
    };
    let error = Command::new(&program).args(words).envs(assignments).exec();
    format!("cannot run {}: {error}", program.display())
}
