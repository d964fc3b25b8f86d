//! The real buildpack, called as a lifecycle calls it.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output};

struct Build {
    root: tempfile::TempDir,
}

impl Build {
    fn new(files: &[&str]) -> Self {
        let build = Build { root: tempfile::tempdir().unwrap() };
        for dir in ["app", "layers", "platform/env", "buildpack/bin"] {
            fs_err::create_dir_all(build.path(dir)).unwrap();
        }
        fs_err::write(build.path("buildpack/buildpack.toml"), include_str!("../buildpack.toml")).unwrap();
        fs_err::write(build.path("buildpack/bin/static-server"), "the server").unwrap();
        fs_err::write(build.path("plan.toml"), "").unwrap();
        for name in ["detect", "build"] {
            let program = env!("CARGO_BIN_EXE_pannier-buildpack-static-site");
            symlink(program, build.path("buildpack/bin").join(name)).unwrap();
        }
        for name in files {
            let path = build.path("app").join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, "x").unwrap();
        }
        build
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn call(&self, program: &str, arguments: &[&str]) -> Output {
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

#[test]
fn an_index_or_a_public_folder_is_a_site() {
    for (files, code) in [
        (&["index.html"][..], 0),
        (&["public/a.txt"], 0),
        (&["public"], 100),
        (&["index.htm", "sub/index.html"], 100),
        (&[], 100),
    ] {
        let output = Build::new(files).call("detect", &["platform", "plan.toml"]);
        assert_eq!(output.status.code(), Some(code), "{files:?}");
        let said = if code == 0 { "" } else { "no index.html and no folder 'public'\n" };
        assert_eq!(String::from_utf8(output.stdout).unwrap(), said);
    }
}

#[test]
fn the_site_is_served_by_the_server_in_a_layer() {
    for (files, root, shown) in [
        (&["index.html"][..], ".", "the app folder"),
        (&["index.html", "public/index.html"], "public", "public"),
    ] {
        let build = Build::new(files);
        let output = build.call("build", &["layers", "platform", "plan.toml"]);
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said, format!("serving {shown} on $PORT (8080 when not set)\n"));
        let launch = fs_err::read_to_string(build.path("layers/launch.toml")).unwrap();
        let process = format!(
            "[[processes]]\ntype = \"web\"\ncommand = [\"static-server\"]\nargs = [\"{root}\"]\ndefault = true\n"
        );
        assert_eq!(launch, process);
        let layer = fs_err::read_to_string(build.path("layers/server.toml")).unwrap();
        assert!(layer.contains("launch = true") && layer.contains("cache = true"), "{layer}");
        assert_eq!(
            fs_err::read_to_string(build.path("layers/server/bin/static-server")).unwrap(),
            "the server"
        );
    }
}
