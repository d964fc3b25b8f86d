//! An app image in a temporary folder: `layers`, `workspace` and `bin`, where the launcher's links are.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// One start of the launcher and what comes of it. `{root}` stands for the temporary folder in every text.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is shown.
    pub name: &'static str,
    /// CNB_PLATFORM_API.
    pub platform: &'static str,
    /// The text of `layers/config/metadata.toml`; none when it is empty.
    pub metadata: &'static str,
    /// Files below the root: folders end in `/`, contents that begin with `#!` are executable, `-> x` is a link to x.
    pub files: &'static [(&'static str, &'static str)],
    /// The name the launcher is called by.
    pub caller: &'static str,
    /// Its arguments.
    pub args: &'static [&'static str],
    /// Variables beside PATH and the folders.
    pub env: &'static [(&'static str, &'static str)],
    /// Expected standard output; lines are sorted first when it begins with `sorted:`.
    pub stdout: &'static str,
    /// Expected exit code.
    pub code: i32,
    /// True when the reference's text is of another library and not worth having.
    pub only_ours: bool,
}

impl Default for Case {
    fn default() -> Self {
        Case {
            name: "",
            platform: "0.15",
            metadata: "",
            files: &[],
            caller: "web",
            args: &[],
            env: &[],
            stdout: "",
            code: 0,
            only_ours: false,
        }
    }
}

impl Case {
    /// Runs `launcher` on this case; the difference when there is one.
    pub fn run(&self, launcher: &Path) -> Result<(), String> {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        self.lay_out(&root, launcher);
        let output = self.command(&root).output().unwrap();
        let got = self.shown(&root, &output);
        let want = self.stdout.strip_prefix("sorted:").unwrap_or(self.stdout);
        if got == want && output.status.code() == Some(self.code) {
            return Ok(());
        }
        Err(format!(
            "{}:\n  want {} {want:?}\n  got  {:?} {got:?}\n  stderr {:?}",
            self.name,
            self.code,
            output.status.code(),
            String::from_utf8_lossy(&output.stderr)
        ))
    }

    /// Writes the files, and a link to the launcher for the caller.
    pub fn lay_out(&self, root: &Path, launcher: &Path) {
        for dir in ["layers/config", "workspace", "bin"] {
            fs_err::create_dir_all(root.join(dir)).unwrap();
        }
        symlink(launcher, root.join("bin").join(self.caller)).unwrap();
        if !self.metadata.is_empty() {
            let text = self.metadata.replace("{root}", root.to_str().unwrap());
            fs_err::write(root.join("layers/config/metadata.toml"), text).unwrap();
        }
        for (path, content) in self.files {
            write(&root.join(path), &content.replace("{root}", root.to_str().unwrap()), path.ends_with('/'));
        }
    }

    /// The command that starts the launcher in the root.
    pub fn command(&self, root: &Path) -> Command {
        let mut command = Command::new(root.join("bin").join(self.caller));
        command.args(self.args).current_dir(root).stdin(Stdio::null()).env_clear();
        command.env("PATH", "/cnb/process:/cnb/lifecycle:/usr/bin:/bin");
        command.env("CNB_LAYERS_DIR", root.join("layers")).env("CNB_APP_DIR", root.join("workspace"));
        command.env("CNB_PLATFORM_API", self.platform).env("CNB_NO_COLOR", "true");
        command.envs(
            self.env.iter().map(|(name, value)| (name, value.replace("{root}", root.to_str().unwrap()))),
        );
        command
    }

    fn shown(&self, root: &Path, output: &Output) -> String {
        let text = String::from_utf8_lossy(&output.stdout).replace(root.to_str().unwrap(), "{root}");
        if !self.stdout.starts_with("sorted:") {
            return text;
        }
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.join("\n")
    }
}

fn write(path: &Path, content: &str, folder: bool) {
    if folder {
        return fs_err::create_dir_all(path).unwrap();
    }
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    if let Some(target) = content.strip_prefix("-> ") {
        return symlink(target, path).unwrap();
    }
    fs_err::write(path, content).unwrap();
    let mode = if content.starts_with("#!") { 0o755 } else { 0o644 };
    fs_err::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

impl Case {
    /// Not compared with the reference: order of variables, or the words of its TOML library.
    #[must_use]
    pub fn ours(self) -> Self {
        Case { only_ours: true, ..self }
    }
}
