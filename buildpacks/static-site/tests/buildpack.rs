//! The real buildpack, called as a lifecycle calls it.

use std::path::PathBuf;

use testkit::Stage;

struct Build(Stage);

impl Build {
    fn new(files: &[&str]) -> Self {
        let program = env!("CARGO_BIN_EXE_pannier-buildpack-static-site");
        let build = Build(Stage::new(include_str!("../buildpack.toml"), program));
        fs_err::write(build.path("buildpack/bin/static-server"), "the server").unwrap();
        for name in files {
            let path = build.path("app").join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, "x").unwrap();
        }
        build
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
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
        let output = Build::new(files).0.detect();
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
        let output = build.0.build();
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
