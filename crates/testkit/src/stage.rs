//! A place to call a buildpack's own programs in, as a lifecycle calls them, without one.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output};

/// Folders and files as a lifecycle has them for one buildpack: `app`, `layers`, `platform`, `buildpack`, `plan.toml`.
#[derive(Debug)]
pub struct Stage {
    root: tempfile::TempDir,
}

impl Stage {
    /// A stage for the buildpack with this `buildpack.toml`, whose `bin/detect` and `bin/build` are `program`. The plan
    /// and the app are empty.
    pub fn new(descriptor: &str, program: &str) -> Self {
        let stage = Self { root: tempfile::tempdir().unwrap() };
        for dir in ["app", "layers", "platform/env", "buildpack/bin"] {
            fs_err::create_dir_all(stage.path(dir)).unwrap();
        }
        fs_err::write(stage.path("buildpack/buildpack.toml"), descriptor).unwrap();
        fs_err::write(stage.path("plan.toml"), "").unwrap();
        for name in ["detect", "build"] {
            symlink(program, stage.path("buildpack/bin").join(name)).unwrap();
        }
        stage
    }

    /// A path on the stage.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Calls `bin/detect`.
    pub fn detect(&self) -> Output {
        self.call("detect", &["platform", "plan.toml"])
    }

    /// Calls `bin/build`.
    pub fn build(&self) -> Output {
        self.call("build", &["layers", "platform", "plan.toml"])
    }

    /// Calls a program of the buildpack's in the app, with these paths on the stage.
    pub fn call(&self, program: &str, arguments: &[&str]) -> Output {
        Command::new(self.path("buildpack/bin").join(program))
            .args(arguments.iter().map(|name| self.path(name)))
            .current_dir(self.path("app"))
            .env("CNB_BUILDPACK_DIR", self.path("buildpack"))
            .env("CNB_TARGET_OS", "linux")
            .env("CNB_TARGET_ARCH", "amd64")
            .env("CNB_TARGET_DISTRO_NAME", "any")
            .env("CNB_TARGET_DISTRO_VERSION", "1")
            .output()
            .unwrap()
    }
}
