//! Processes that want a shell: a bash that sources the profiles, changes folder and then becomes a second bash, which
//! runs the command. The generated script is the reference's to the letter, since scripts can see it in `$BASH_EXECUTION_STRING`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use cnb::launch::LaunchMetadata;

use crate::failure::{Failure, reason};
use crate::files::{self, Kind};
use crate::layers::{self, BuildpackLayers};
use crate::paths::join;
use crate::process::StartCommand;

/// The shell of every process that is not direct.
pub const BASH: &str = "/bin/bash";

/// The app's own profile, sourced last.
const APP_PROFILE: &str = ".profile";

/// Arguments for bash, the first being its name; `caller` is what profiles see as `$0`.
pub fn arguments(
    start: &StartCommand,
    working_dir: &Path,
    profiles: &[PathBuf],
    caller: &OsStr,
) -> Vec<OsString> {
    let script = script(profiles, working_dir, start.args.len());
    let command = start.command.join(OsStr::new(" "));
    let mut arguments =
        vec![OsString::from("bash"), OsString::from("-c"), script, caller.to_owned(), command];
    arguments.extend(start.args.iter().cloned());
    arguments
}

/// A process with arguments must come from a buildpack that we know, or from the user.
pub fn check_origin(start: &StartCommand, metadata: &LaunchMetadata) -> Result<(), Failure> {
    let known = || metadata.buildpacks.iter().any(|buildpack| buildpack.id == start.buildpack_id);
    if start.args.is_empty() || start.buildpack_id.is_empty() || known() {
        return Ok(());
    }
    Err(Failure::launch(format!(
        "process type '{}' provided by unknown buildpack '{}'",
        start.process_type, start.buildpack_id
    )))
}

/// The scripts to source: those of the layers in order, then the app's.
pub fn profiles(
    layers: &[BuildpackLayers],
    process_type: &str,
    app_dir: &Path,
) -> Result<Vec<PathBuf>, Failure> {
    let mut profiles = Vec::new();
    for folder in layers::folders(layers, "profile.d", process_type) {
        profiles.extend(files::list(&folder, Kind::Other)?);
    }
    let app_profile = join(app_dir, APP_PROFILE);
    match rustix::fs::stat(&app_profile) {
        Ok(stat) if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() => {}
        Ok(_) => profiles.push(PathBuf::from(APP_PROFILE)),
        Err(rustix::io::Errno::NOENT) => {}
        Err(error) => {
            let path = app_profile.display();
            return Err(Failure::launch(format!(
                "failed to determine if app profile script exists at path '{path}': stat {path}: {}",
                reason(&error.into())
            )));
        }
    }
    Ok(profiles)
}

fn script(profiles: &[PathBuf], working_dir: &Path, args: usize) -> OsString {
    let mut script = Vec::new();
    for profile in profiles {
        script.extend_from_slice(b"source \"");
        script.extend_from_slice(profile.as_os_str().as_bytes());
        script.extend_from_slice(b"\"\n");
    }
    script.extend_from_slice(b"cd \"");
    script.extend_from_slice(working_dir.as_os_str().as_bytes());
    script.extend_from_slice(b"\"\n");
    if args == 0 {
        // The command is a script.
        script.extend_from_slice(br#"exec bash -c "$@""#);
    } else {
        // Command and arguments are words, in each of which the second shell expands variables.
        script.extend_from_slice(br#"exec bash -c '"$(eval echo \"$0\")""#);
        for number in 1..=args {
            script.extend_from_slice(format!(r#" "$(eval echo \"${{{number}}}\")""#).as_bytes());
        }
        script.extend_from_slice(br#"' "${@:1}""#);
    }
    OsString::from_vec(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_without_arguments_is_a_script() {
        let start = StartCommand { command: vec!["echo $A".into()], ..StartCommand::default() };
        let profiles = [PathBuf::from("/l/a/profile.d/x"), PathBuf::from(".profile")];
        let arguments = arguments(&start, Path::new("/workspace"), &profiles, OsStr::new("web"));
        assert_eq!(
            arguments,
            [
                "bash",
                "-c",
                "source \"/l/a/profile.d/x\"\nsource \".profile\"\ncd \"/workspace\"\nexec bash -c \"$@\"",
                "web",
                "echo $A"
            ]
        );
    }

    #[test]
    fn arguments_are_words_to_expand() {
        let start = StartCommand {
            command: vec!["echo".into(), "-n".into()],
            args: vec!["$A".into(), "b c".into()],
            ..StartCommand::default()
        };
        let arguments = arguments(&start, Path::new("/w"), &[], OsStr::new("launcher"));
        assert_eq!(
            arguments[2],
            concat!(
                "cd \"/w\"\n",
                r#"exec bash -c '"$(eval echo \"$0\")" "$(eval echo \"${1}\")" "$(eval echo \"${2}\")"' "${@:1}""#
            )
        );
        assert_eq!(arguments[3..], ["launcher", "echo -n", "$A", "b c"]);
    }
}
