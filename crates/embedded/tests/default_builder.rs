//! The embedded programs at work: the buildpacks of the default builder on the sample apps, laid out in a temporary
//! folder and called as a lifecycle calls them, and what they put into images.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use embedded::{Content, default_builder};

/// The build image without what is root's business, and folders for one build.
struct Machine {
    root: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Machine { root: tempfile::tempdir().unwrap() };
        for layer in default_builder().build_image.layers {
            for entry in layer.tree.entries {
                let path = machine.path(entry.path.trim_start_matches('/'));
                match entry.content {
                    Content::Directory => fs_err::create_dir_all(&path).unwrap(),
                    Content::Symlink(target) => symlink(target, &path).unwrap(),
                    Content::File(content) => {
                        fs_err::write(&path, content).unwrap();
                        fs_err::set_permissions(&path, PermissionsExt::from_mode(entry.mode)).unwrap();
                    }
                }
            }
        }
        fs_err::write(machine.path("plan.toml"), "").unwrap();
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn call(&self, buildpack: &str, program: &str, app: &Path) -> Output {
        let dir = self.path(&format!("cnb/buildpacks/pannier_{buildpack}/0.1.0"));
        let mut command = Command::new(dir.join("bin").join(program));
        let arguments: &[&str] = match program {
            "detect" => &["platform", "plan.toml"],
            _ => &["layers", "platform", "plan.toml"],
        };
        command.args(arguments.iter().map(|name| self.path(name))).current_dir(app).env_clear();
        for (name, value) in
            [("OS", "linux"), ("ARCH", "amd64"), ("DISTRO_NAME", "x"), ("DISTRO_VERSION", "1")]
        {
            command.env(format!("CNB_TARGET_{name}"), value);
        }
        command.env("CNB_BUILDPACK_DIR", &dir).output().unwrap()
    }
}

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/apps").join(name).canonicalize().unwrap()
}

#[test]
fn the_sample_site_is_detected_built_and_served() {
    let machine = Machine::new();
    let app = sample("site");
    assert_eq!(machine.call("static-site", "detect", &app).status.code(), Some(0));
    assert_eq!(machine.call("procfile", "detect", &app).status.code(), Some(100));
    let output = machine.call("static-site", "build", &app);
    assert!(output.status.success(), "{output:?}");

    let mut server = Command::new(machine.path("layers/server/bin/static-server"))
        .arg("public")
        .current_dir(&app)
        .env_clear()
        .env("PORT", "0")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port: u16 = line.trim().rsplit(':').next().unwrap().parse().unwrap();
    let page = get(port, "/");
    let missing = get(port, "/nowhere");
    let style = get(port, "/assets/style.css");
    let readme = get(port, "/README.md");
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("<title>Built with Pannier</title>"), "{page}");
    assert!(missing.starts_with("HTTP/1.1 404") && missing.contains("Not in this basket"), "{missing}");
    assert!(style.contains("content-type: text/css"), "{style}");
    assert!(readme.starts_with("HTTP/1.1 404"), "{readme}");
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

#[test]
fn the_sample_procfile_starts_a_program_that_was_built_before() {
    let machine = Machine::new();
    let app = machine.path("workspace");
    fs_err::copy(sample("procfile").join("Procfile"), app.join("Procfile")).unwrap();
    // Without the program the build says what is missing.
    let output = machine.call("procfile", "build", &app);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("error: Procfile line 2: ./server is not in the app"), "{said}");

    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let compiled = Command::new(rustc)
        .args(["--edition", "2024", "-o"])
        .arg(app.join("server"))
        .arg(sample("procfile").join("server.rs"))
        .status()
        .unwrap();
    assert!(compiled.success());
    let output = machine.call("procfile", "build", &app);
    assert!(output.status.success(), "{output:?}");
    let launch = fs_err::read_to_string(machine.path("layers/launch.toml")).unwrap();
    assert!(launch.contains(r#"command = ["./server", "--once", "it's a word"]"#), "{launch}");

    let runner = machine.path("layers/runner/bin/procfile-run");
    let line = r#"./server --once "${GREETING:-Hello}" --port $PORT"#;
    let output = Command::new(runner).arg(line).current_dir(&app).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "once: Hello\n");
}
