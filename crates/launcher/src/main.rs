//! The Cloud Native Buildpacks launcher: it stands before every process of an app image, sets up what the buildpacks'
//! layers contribute, and becomes the process (platform specification, "launcher").
//!
//! It runs at the start of every container, so it is small, static, without threads, and does no more than it must:
//! about one system call for each thing a layer may hold.
//!
//! | module | what lives there |
//! |---|---|
//! | [`process`] | which process, with which arguments |
//! | [`layers`] | what the layers add: environment, `exec.d`, profiles |
//! | [`execd`] | running an `exec.d` program |
//! | [`lookup`] | finding the program in PATH |
//! | [`shell`] | processes that want bash |
//! | [`console`], [`failure`] | what is said, and exit codes |
//! | [`files`], [`paths`] | the file system, and path arithmetic |

mod console;
mod execd;
mod failure;
mod files;
mod launch;
mod layers;
mod lookup;
mod paths;
mod process;
mod shell;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use cnb::ApiVersion;
use cnb::launch::{LaunchBuildpack, LaunchMetadata};

use console::Console;
use failure::{BUILDPACK_API, Context, FAILED, Failure, PLATFORM_API, reason};
use launch::Launch;

fn main() -> ExitCode {
    let console = Console::new(variable("CNB_NO_COLOR").as_ref().and_then(|value| value.to_str()));
    let Err(failure) = run(console);
    console.error(&failure.message);
    ExitCode::from(failure.code)
}

/// Everything up to becoming the process, so it only ever returns a failure.
fn run(console: Console) -> Result<std::convert::Infallible, Failure> {
    let platform = platform_api(variable("CNB_PLATFORM_API"))?;
    let layers_dir = dir("CNB_LAYERS_DIR", "/layers");
    let metadata = read_metadata(&layers_dir)?;
    for buildpack in &metadata.buildpacks {
        check_buildpack_api(buildpack)?;
    }
    if let Some(process_type) = variable("CNB_PROCESS_TYPE") {
        let name = process_type.to_string_lossy();
        console.warn(&format!("CNB_PROCESS_TYPE is not supported in Platform API {platform}"));
        console.warn(&format!("Run with ENTRYPOINT '{name}' to invoke the '{name}' process type"));
    }
    let mut arguments = std::env::args_os();
    let launch = Launch {
        caller: arguments.next().unwrap_or_default(),
        user_args: arguments.collect(),
        metadata,
        platform,
        exec_env: variable("CNB_EXEC_ENV")
            .map_or_else(|| "production".to_owned(), |name| name.to_string_lossy().into_owned()),
        app_dir: dir("CNB_APP_DIR", "/workspace"),
        layers_dir,
    };
    launch.start().context("failed to launch")
}

/// An environment variable that is not empty.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn dir(name: &str, default: &str) -> PathBuf {
    variable(name).map_or_else(|| PathBuf::from(default), PathBuf::from)
}

fn platform_api(requested: Option<OsString>) -> Result<ApiVersion, Failure> {
    let fail = |message: String| Failure { code: PLATFORM_API, message };
    let requested = requested.unwrap_or_default();
    let requested = requested.to_string_lossy();
    if requested.trim().is_empty() {
        return Err(fail(
            "failed to get platform API version; please set 'CNB_PLATFORM_API' to specify the desired platform API version"
                .to_owned(),
        ));
    }
    let version: ApiVersion =
        requested.parse().map_err(|_| fail(format!("failed to parse platform API '{requested}'")))?;
    if !version.is_supported_platform() {
        return Err(fail(format!(
            "failed to set platform API: platform API version '{requested}' is incompatible with the lifecycle"
        )));
    }
    Ok(version)
}

fn check_buildpack_api(buildpack: &LaunchBuildpack) -> Result<(), Failure> {
    let LaunchBuildpack { id, api } = buildpack;
    if api.is_supported_buildpack() {
        return Ok(());
    }
    Err(Failure {
        code: BUILDPACK_API,
        message: format!(
            "failed to set API for buildpack '{id}': buildpack API version '{api}' is incompatible with the lifecycle"
        ),
    })
}

fn read_metadata(layers_dir: &std::path::Path) -> Result<LaunchMetadata, Failure> {
    let path = paths::join(layers_dir, "config/metadata.toml");
    let fail =
        |message: String| Failure { code: FAILED, message: format!("failed to read metadata: {message}") };
    let file = path.to_string_lossy();
    let content = files::read(&path).map_err(|error| fail(format!("open {file}: {}", reason(&error))))?;
    let text = cnb::error::utf8(&file, &content).map_err(|error| fail(error.to_string()))?;
    LaunchMetadata::parse(&file, text).map_err(|error| fail(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platform_api_is_required_and_checked() {
        let message = |value: &str| platform_api(Some(value.into())).unwrap_err();
        assert_eq!(platform_api(Some("0.15".into())), Ok(ApiVersion::new(0, 15)));
        assert_eq!(platform_api(None).unwrap_err(), message(" "));
        assert_eq!(message("x").message, "failed to parse platform API 'x'");
        assert_eq!(
            message("0.6").message,
            "failed to set platform API: platform API version '0.6' is incompatible with the lifecycle"
        );
        assert_eq!(message("0.6").code, 11);
    }

    #[test]
    fn a_buildpack_of_the_future_is_refused() {
        let buildpack = LaunchBuildpack { id: "a/b".into(), api: ApiVersion::new(0, 99) };
        let failure = check_buildpack_api(&buildpack).unwrap_err();
        assert_eq!(failure.code, 12);
        assert_eq!(
            failure.message,
            "failed to set API for buildpack 'a/b': buildpack API version '0.99' is incompatible with the lifecycle"
        );
    }
}
