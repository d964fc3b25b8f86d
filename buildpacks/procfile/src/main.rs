//! The buildpack `pannier/procfile`. `bin/detect` and `bin/build` are both this program; the name it is called by decides.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use libcnb::build::{BuildContext, BuildResult, BuildResultBuilder};
use libcnb::data::launch::{LaunchBuilder, Process, ProcessBuilder, ProcessType};
use libcnb::data::layer_name;
use libcnb::detect::{DetectContext, DetectResult, DetectResultBuilder};
use libcnb::generic::{GenericMetadata, GenericPlatform};
use libcnb::{Buildpack, buildpack_main};

use procfile::file::{self, Entry, LineError};
use procfile::program::{self, Trouble};
use procfile::source;
use procfile::words::Line;

/// What starts a line with variables, in the buildpack's folder and in the layer.
const RUNNER: &str = "bin/procfile-run";

/// The shell for lines that need one, where the build image has it.
const BASH: &str = "/bin/bash";

struct Procfile;

/// What the author of the app has to change, or what the machine did not do.
#[derive(Debug)]
enum Error {
    Line(LineError),
    Io(io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Error::Io(error)
    }
}

impl From<Error> for libcnb::Error<Error> {
    fn from(error: Error) -> Self {
        libcnb::Error::BuildpackError(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Line(error) => error.fmt(out),
            Error::Io(error) => error.fmt(out),
        }
    }
}

impl Buildpack for Procfile {
    type Platform = GenericPlatform;
    type Metadata = GenericMetadata;
    type Error = Error;

    fn detect(&self, context: DetectContext<Self>) -> libcnb::Result<DetectResult, Self::Error> {
        if source::is_there(&context.app_dir) {
            return DetectResultBuilder::pass().build();
        }
        say("no Procfile");
        DetectResultBuilder::fail().build()
    }

    fn build(&self, context: BuildContext<Self>) -> libcnb::Result<BuildResult, Self::Error> {
        let text = source::read(&context.app_dir).map_err(Error::Io)?;
        let entries = file::parse(&text).map_err(Error::Line)?;
        let default = file::default_type(&entries);
        let mut launch = LaunchBuilder::new();
        let mut needs_runner = false;
        for entry in &entries {
            let command = command_of(&context.app_dir, entry, Path::new(BASH).exists())?;
            needs_runner |= matches!(command, Start::Expanded);
            let process = process(entry, command, default == Some(&entry.r#type))?;
            say(&format!("{}: {}", entry.r#type, entry.command));
            launch.process(process);
        }
        if needs_runner {
            program_layer::contribute(&context, layer_name!("runner"), RUNNER)?;
        }
        if default.is_none() {
            say("no process is called web, so the image has no default: name one when you run it");
        }
        BuildResultBuilder::new().launch(launch.build()).build()
    }

    fn on_error(&self, error: libcnb::Error<Self::Error>) {
        match error {
            libcnb::Error::BuildpackError(error) => say(&format!("error: {error}")),
            other => say(&format!("error: {other}")),
        }
    }
}

/// How a line is started.
#[derive(Debug, PartialEq, Eq)]
enum Start {
    /// These words, as they are.
    Words(Vec<String>),
    /// By the runner, which fills in variables.
    Expanded,
    /// By bash.
    Shell,
}

fn command_of(app: &Path, entry: &Entry, has_bash: bool) -> Result<Start, Error> {
    let fail = |message: String| Error::Line(LineError { number: entry.number, message });
    let line = match Line::parse(&entry.command) {
        Ok(line) => line,
        Err(error) if error.is_for_a_shell() && has_bash => return Ok(Start::Shell),
        Err(error) if error.is_for_a_shell() => {
            return Err(fail(format!(
                "{error}, and the image has none; put it into a program, or choose a builder with bash"
            )));
        }
        Err(error) => return Err(fail(error.to_string())),
    };
    if let Some(name) = line.program() {
        match program::check(app, &name) {
            Some(Trouble::Broken(why)) => return Err(fail(why)),
            Some(Trouble::Needs(what)) => say(&format!(
                "warning: Procfile line {}: {what}, which is not in the build image; link it statically, or choose a run image that has it",
                entry.number
            )),
            None => {}
        }
    }
    Ok(line.literal().map_or(Start::Expanded, Start::Words))
}

fn process(entry: &Entry, start: Start, is_default: bool) -> Result<Process, Error> {
    let fail = |message: String| Error::Line(LineError { number: entry.number, message });
    let name: ProcessType =
        entry.r#type.parse().map_err(|_| fail(format!("`{}` cannot be a process type", entry.r#type)))?;
    // Everything is in the command, so that arguments of the user are added and replace nothing.
    let command = match start {
        Start::Words(words) => words,
        Start::Expanded => vec!["procfile-run".to_owned(), entry.command.clone()],
        Start::Shell => vec!["bash".to_owned(), "-c".to_owned(), entry.command.clone()],
    };
    Ok(ProcessBuilder::new(name, command).default(is_default).build())
}

fn say(line: &str) {
    // Nobody is left to tell when the stream is gone.
    let _ = io::stdout().write_all(format!("{line}\n").as_bytes());
}

buildpack_main!(Procfile);

#[cfg(test)]
mod tests {
    use super::*;

    fn start(command: &str, has_bash: bool) -> Result<Start, String> {
        let entry = Entry { number: 3, r#type: "web".into(), command: command.into() };
        command_of(Path::new("/no/such/app"), &entry, has_bash).map_err(|error| error.to_string())
    }

    #[test]
    fn a_line_is_started_with_as_little_as_it_needs() {
        assert_eq!(
            start("server -p 80", false),
            Ok(Start::Words(vec!["server".into(), "-p".into(), "80".into()]))
        );
        assert_eq!(start("server -p $PORT", true), Ok(Start::Expanded));
        assert_eq!(start("a && b", true), Ok(Start::Shell));
    }

    #[test]
    fn what_cannot_be_started_is_explained() {
        assert_eq!(
            start("a && b", false).unwrap_err(),
            "Procfile line 3: `&&` (a second command if the first succeeds) needs a shell, and the image has none; put it into a program, or choose a builder with bash"
        );
        assert_eq!(start("a 'b", true).unwrap_err(), "Procfile line 3: no closing '");
        assert_eq!(start("./server", true).unwrap_err(), "Procfile line 3: ./server is not in the app");
    }
}
