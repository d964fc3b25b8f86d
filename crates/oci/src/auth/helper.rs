//! Credential helpers: programs named `docker-credential-NAME` that are asked `get` on their standard input.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::{Error, Secret};

/// What a helper said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelperAnswer {
    /// It knows the server.
    Found {
        /// The user's name; `<token>` means that the secret is an identity token.
        username: String,
        /// The password or token.
        secret: Secret,
    },
    /// It does not know the server.
    NotFound,
}

/// Asks credential helpers.
pub trait HelperRunner: fmt::Debug + Send + Sync {
    /// Asks the helper `NAME` (of `docker-credential-NAME`) about a server.
    fn get(&self, helper: &str, server: &str) -> Result<HelperAnswer, Error>;
}

/// Asks nobody: every server is unknown.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHelpers;

impl HelperRunner for NoHelpers {
    fn get(&self, _helper: &str, _server: &str) -> Result<HelperAnswer, Error> {
        Ok(HelperAnswer::NotFound)
    }
}

/// Runs helpers found in the given folders, with the environment of this process.
#[derive(Clone, Debug, Default)]
pub struct PathHelpers {
    folders: Vec<PathBuf>,
}

/// The largest answer that is believed, in bytes. Tokens of cloud registries have a few thousand.
const MAX_ANSWER: usize = 1 << 20;

impl PathHelpers {
    /// Folders to look in, as in `PATH`, first wins.
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Self { folders }
    }
}

impl HelperRunner for PathHelpers {
    fn get(&self, helper: &str, server: &str) -> Result<HelperAnswer, Error> {
        let program = format!("docker-credential-{helper}");
        let failed =
            |reason: String| Error::Helper { program: program.clone(), server: server.to_owned(), reason };
        // The name comes from a file: it must not lead out of the folders.
        if helper.contains('/') {
            return Err(failed("has a `/` in its name".to_owned()));
        }
        let path = self.folders.iter().map(|folder| folder.join(&program)).find(|path| path.is_file());
        let path = path.ok_or_else(|| failed("is not on the PATH".to_owned()))?;
        let (ok, stdout) = run(&path, server).map_err(|e| failed(format!("cannot be run: {e}")))?;
        parse_answer(ok, &stdout).map_err(failed)
    }
}

fn run(path: &std::path::Path, server: &str) -> io::Result<(bool, Vec<u8>)> {
    let mut child = Command::new(path)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // What a helper says there is meant for its author, and may hold anything.
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(format!("{server}\n").as_bytes()) {
            // It may answer without reading.
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => return Err(e),
            _ => {}
        }
    }
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        // One byte more tells an answer that is too long; the helper need not end by itself then.
        stdout.take(MAX_ANSWER as u64 + 1).read_to_end(&mut answer)?;
    }
    if answer.len() > MAX_ANSWER {
        let _ = child.kill();
        child.wait()?;
        return Ok((true, answer));
    }
    Ok((child.wait()?.success(), answer))
}

fn parse_answer(ok: bool, stdout: &[u8]) -> Result<HelperAnswer, String> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(rename = "Username", default)]
        username: String,
        #[serde(rename = "Secret", default)]
        secret: String,
    }
    if !ok {
        let text = String::from_utf8_lossy(stdout);
        return if text.to_lowercase().contains("credentials not found") {
            Ok(HelperAnswer::NotFound)
        } else {
            Err("failed".to_owned())
        };
    }
    if stdout.len() > MAX_ANSWER {
        return Err("answered more than a credential".to_owned());
    }
    let raw: Raw = serde_json::from_slice(stdout)
        .map_err(|_| "answered something that is not a credential".to_owned())?;
    // Some helpers answer an empty pair for servers they do not know.
    if raw.username.is_empty() && raw.secret.is_empty() {
        return Ok(HelperAnswer::NotFound);
    }
    Ok(HelperAnswer::Found { username: raw.username, secret: Secret::new(raw.secret) })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn helper(script: &str) -> (tempfile::TempDir, PathHelpers) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker-credential-t");
        fs_err::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let runner = PathHelpers::new(vec!["/nonexistent".into(), dir.path().to_owned()]);
        (dir, runner)
    }

    #[test]
    fn asks_over_standard_input() {
        let (_dir, runner) =
            helper(r#"read server; [ "$1" = get ] && printf '{"Username":"u","Secret":"for %s"}' "$server""#);
        let found = runner.get("t", "a.io").unwrap();
        assert_eq!(found, HelperAnswer::Found { username: "u".to_owned(), secret: Secret::new("for a.io") });
    }

    #[test]
    fn not_found_is_an_answer() {
        let (_dir, runner) = helper("echo 'credentials not found in native keychain'; exit 1");
        assert_eq!(runner.get("t", "a.io").unwrap(), HelperAnswer::NotFound);
    }

    #[test]
    fn failures_name_the_program_and_never_its_output() {
        let endless = "while :; do echo hunter2hunter2hunter2hunter2hunter2hunter2; done";
        for script in ["echo hunter2; exit 1", "echo hunter2 >&2; exit 3", "echo hunter2", endless] {
            let (_dir, runner) = helper(script);
            let shown = runner.get("t", "a.io").unwrap_err().to_string();
            assert!(shown.contains("docker-credential-t") && !shown.contains("hunter2"), "{shown}");
        }
        let shown = PathHelpers::default().get("t", "a.io").unwrap_err().to_string();
        assert!(shown.ends_with("is not on the PATH"), "{shown}");
        assert!(PathHelpers::default().get("../t", "a.io").is_err());
    }
}
