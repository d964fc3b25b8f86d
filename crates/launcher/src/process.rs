//! Which process to start: a type that a buildpack defined, or a command that the user gave
//! (platform specification, "launcher, Inputs").

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use cnb::ApiVersion;
use cnb::launch::{LaunchMetadata, Process};

use crate::failure::Failure;

/// A process with everything decided that its definition and the user's arguments decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartCommand {
    /// The process type, empty for a command of the user.
    pub process_type: String,
    /// Program and fixed arguments; empty when the buildpack gave none.
    pub command: Vec<OsString>,
    /// Arguments after the command.
    pub args: Vec<OsString>,
    /// True when the program is executed without a shell.
    pub direct: bool,
    /// The buildpack that defined the process, empty for a command of the user.
    pub buildpack_id: String,
    /// The folder to start in, none for the app folder.
    pub working_dir: Option<PathBuf>,
}

/// The type that the name of the program asks for: the last element of `argv0`, if there is a process of that type.
pub fn requested_type(argv0: &OsStr, metadata: &LaunchMetadata) -> Option<String> {
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(argv0);
    let name = std::str::from_utf8(bytes.rsplit(|byte| *byte == b'/').next()?).ok()?;
    metadata.process(name).map(|process| process.r#type.clone())
}

/// Decides what to start from the requested type and the user's arguments.
pub fn select(
    metadata: &LaunchMetadata,
    platform: ApiVersion,
    exec_env: &str,
    requested: Option<&str>,
    user_args: &[OsString],
) -> Result<StartCommand, Failure> {
    let Some(requested) = requested else { return user_command(user_args) };
    let process = metadata
        .processes
        .iter()
        .find(|process| process.r#type == requested && process.is_eligible(platform, exec_env))
        .ok_or_else(|| Failure::launch(format!("process type {requested} was not found")))?;
    with_user_args(metadata, platform, process, user_args)
}

/// A command line without a process type: after `--` it is executed as it is, otherwise by a shell.
fn user_command(user_args: &[OsString]) -> Result<StartCommand, Failure> {
    let (direct, line) = match user_args {
        [first, rest @ ..] if first == "--" && !rest.is_empty() => (true, rest),
        line => (false, line),
    };
    let [program, args @ ..] = line else {
        return Err(Failure::launch("when there is no default process a command is required"));
    };
    Ok(StartCommand {
        command: vec![program.clone()],
        args: args.to_vec(),
        direct,
        ..StartCommand::default()
    })
}

fn with_user_args(
    metadata: &LaunchMetadata,
    platform: ApiVersion,
    process: &Process,
    user_args: &[OsString],
) -> Result<StartCommand, Failure> {
    let owned = |words: &[String]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let (mut command, mut args) = (owned(&process.command), owned(process.args()));
    if !platform.at_least(10) {
        args.extend_from_slice(user_args);
    } else if command.len() > 1 {
        // Only a command that is a list has arguments that the user cannot replace.
        let fixed = command.split_off(1);
        let replaceable = if user_args.is_empty() { args } else { user_args.to_vec() };
        args = [fixed, replaceable].concat();
    } else if !user_args.is_empty() {
        if replaces_args(metadata, process)? {
            args.clear();
        }
        args.extend_from_slice(user_args);
    }
    Ok(StartCommand {
        process_type: process.r#type.clone(),
        command,
        args,
        direct: process.direct,
        buildpack_id: process.buildpack_id.clone(),
        working_dir: Some(&process.working_dir)
            .filter(|dir| !dir.is_empty())
            .map(|dir| Path::new(dir).to_owned()),
    })
}

/// From Buildpack API 0.9 on, the user's arguments take the place of the buildpack's.
fn replaces_args(metadata: &LaunchMetadata, process: &Process) -> Result<bool, Failure> {
    let found = metadata.buildpacks.iter().find(|buildpack| buildpack.id == process.buildpack_id);
    match found {
        Some(buildpack) => Ok(buildpack.api.at_least(9)),
        None => Err(Failure::launch(format!(
            "failed to find buildpack for process {} with buildpack ID {}",
            process.r#type, process.buildpack_id
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"
        [[buildpacks]]
        id = "old"
        api = "0.8"
        [[buildpacks]]
        id = "new"
        api = "0.9"
        [[processes]]
        type = "list"
        command = ["serve", "--fixed"]
        args = ["--default"]
        direct = true
        buildpack-id = "new"
        [[processes]]
        type = "single"
        command = ["serve"]
        args = ["--default"]
        direct = true
        buildpack-id = "new"
        working-dir = "/srv"
        [[processes]]
        type = "appends"
        command = "serve"
        args = ["--default"]
        buildpack-id = "old"
        [[processes]]
        type = "orphan"
        command = "serve"
        buildpack-id = "gone"
        [[processes]]
        type = "tests"
        command = ["check"]
        direct = true
        buildpack-id = "new"
        exec-env = ["test"]
    "#;

    fn line(minor: u32, requested: Option<&str>, user: &[&str]) -> Result<String, String> {
        let metadata = LaunchMetadata::parse("metadata.toml", METADATA).unwrap();
        let user: Vec<OsString> = user.iter().map(OsString::from).collect();
        select(&metadata, ApiVersion::new(0, minor), "production", requested, &user)
            .map(|start| {
                let words = [start.command, start.args].concat();
                let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
                format!("{}{}", if start.direct { "direct " } else { "shell " }, words.join(" "))
            })
            .map_err(|failure| failure.message)
    }

    #[test]
    fn the_users_arguments_replace_what_they_may() {
        for (minor, process_type, user, want) in [
            (10, "list", &[][..], "direct serve --fixed --default"),
            (10, "list", &["x"], "direct serve --fixed x"),
            (9, "list", &["x"], "direct serve --fixed --default x"),
            (10, "single", &[], "direct serve --default"),
            (10, "single", &["x", "y"], "direct serve x y"),
            (9, "single", &["x"], "direct serve --default x"),
            (10, "appends", &["x"], "shell serve --default x"),
            (9, "appends", &["x"], "shell serve --default x"),
            (15, "orphan", &[], "shell serve"),
        ] {
            assert_eq!(line(minor, Some(process_type), user).as_deref(), Ok(want), "{process_type} {user:?}");
        }
        assert_eq!(
            line(10, Some("orphan"), &["x"]).unwrap_err(),
            "failed to find buildpack for process orphan with buildpack ID gone"
        );
    }

    #[test]
    fn a_command_line_is_direct_only_after_two_dashes() {
        for (user, want) in [
            (&["ls"][..], "shell ls"),
            (&["ls", "-l"], "shell ls -l"),
            (&["--", "ls", "-l"], "direct ls -l"),
            (&["--"], "shell --"),
            (&["--", "--", "ls"], "direct -- ls"),
        ] {
            assert_eq!(line(15, None, user).as_deref(), Ok(want));
        }
        assert_eq!(
            line(15, None, &[]).unwrap_err(),
            "when there is no default process a command is required"
        );
    }

    #[test]
    fn a_process_of_another_execution_environment_is_not_found() {
        assert_eq!(line(15, Some("tests"), &[]).unwrap_err(), "process type tests was not found");
        assert_eq!(line(14, Some("tests"), &[]).as_deref(), Ok("direct check"));
    }

    #[test]
    fn the_program_name_asks_for_a_type() {
        let metadata = LaunchMetadata::parse("metadata.toml", METADATA).unwrap();
        let requested = |argv0: &str| requested_type(OsStr::new(argv0), &metadata);
        assert_eq!(requested("/cnb/process/list").as_deref(), Some("list"));
        assert_eq!(requested("list").as_deref(), Some("list"));
        assert_eq!(requested("/cnb/lifecycle/launcher"), None);
        assert_eq!(requested("/cnb/process/list/"), None);
    }
}
