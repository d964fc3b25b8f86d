//! The reference, side by side: only where its programs are given. Nothing here builds or fetches it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fs_err as fs;
use tempfile::TempDir;
use testkit::registry::{DockerRegistry, Setup};
use testkit::{Base, Buildpack};

use super::measure::{Figures, Run, ms, watched};

/// The programs of the reference that there are.
#[derive(Debug)]
pub struct Peers {
    pack: Option<PathBuf>,
    lifecycle: Option<PathBuf>,
}

/// What the lifecycle archive says of itself.
const LIFECYCLE: &str = r#"
[apis.buildpack]
deprecated = []
supported = ["0.7", "0.8", "0.9", "0.10", "0.11", "0.12"]
[apis.platform]
deprecated = []
supported = ["0.7", "0.8", "0.9", "0.10", "0.11", "0.12", "0.13", "0.14", "0.15"]
[api]
platform = "0.7"
buildpack = "0.7"
[lifecycle]
version = "0.21.17"
"#;

const PHASES: &[&str] =
    &["detector", "analyzer", "restorer", "builder", "exporter", "creator", "extender", "rebaser"];

impl Peers {
    /// # Errors
    ///
    /// When a path that was given is not there, or `pack` was given without a lifecycle.
    pub fn new(pack: Option<PathBuf>, lifecycle: Option<PathBuf>) -> Result<Self> {
        let lifecycle = lifecycle.map(fs::canonicalize).transpose()?;
        if let Some(folder) = &lifecycle {
            for program in ["lifecycle", "launcher"] {
                ensure!(folder.join(program).is_file(), "no {program} in {}", folder.display());
            }
        }
        let pack = pack.map(fs::canonicalize).transpose()?;
        ensure!(
            pack.is_none() || lifecycle.is_some(),
            "--peer-pack needs --peer-lifecycle, to make a builder with"
        );
        Ok(Self { pack, lifecycle })
    }

    /// The reference's launcher.
    pub fn launcher(&self) -> Option<PathBuf> {
        self.lifecycle.as_ref().map(|folder| folder.join("launcher"))
    }

    /// Builds of the hello app.
    pub fn hello(&self, buildpacks: &[Buildpack], figures: &mut Figures) -> Result<()> {
        let Some(side) = self.side(buildpacks)? else { return Ok(()) };
        println!("\n== hello, by the reference");
        for (how, trust) in [("trusted", true), ("untrusted", false)] {
            let image = format!("{}/peer/{how}:1", side.registry.host());
            for when in ["first build", "nothing changed"] {
                let run = match side.build(&image, trust, &[]) {
                    Ok(run) => run,
                    // Its phases run in an image of the lifecycle then, which only a public registry may have.
                    Err(error) if !trust => {
                        println!("  the reference, {how}, is not measured: {error:#}");
                        break;
                    }
                    Err(error) => return Err(error),
                };
                figures.plain(
                    format!("  the reference, {how}, {when}, whole"),
                    ms(run.time),
                    "ms",
                    String::new(),
                );
            }
        }
        Ok(())
    }

    /// Builds of the big tree.
    pub fn big(
        &self,
        buildpack: &Buildpack,
        tree: &Path,
        plain: Duration,
        figures: &mut Figures,
    ) -> Result<()> {
        let Some(side) = self.side(std::slice::from_ref(buildpack))? else { return Ok(()) };
        println!("\n== the big tree, by the reference");
        let image = format!("{}/peer/big:1", side.registry.host());
        let volume = format!("{}:/mnt/big:ro", tree.display());
        for when in ["first build to a fresh registry", "nothing changed"] {
            let run = side.build(&image, true, &["--volume", &volume])?;
            let over = super::big::over(&run)?;
            let detail = format!("{:.1} s", over.as_secs_f64());
            figures.plain(
                format!("  the reference, big, {when}"),
                over.as_secs_f64() / plain.as_secs_f64(),
                "T",
                detail,
            );
        }
        Ok(())
    }

    /// A registry with a builder of these buildpacks in it, made by the reference itself.
    fn side(&self, buildpacks: &[Buildpack]) -> Result<Option<Side>> {
        let (Some(pack), Some(lifecycle)) = (&self.pack, &self.lifecycle) else { return Ok(None) };
        let folder = tempfile::tempdir()?;
        let registry = DockerRegistry::start(&Setup::default());
        let host = registry.host().to_owned();
        for tag in ["build", "run"] {
            let from = Base::Debian.layout().reference(tag);
            let to = format!("docker://{host}/peer/{tag}:1");
            let status = Command::new("skopeo")
                .args(["copy", "--quiet", "--dest-tls-verify=false", &from, &to])
                .status()?;
            ensure!(status.success(), "skopeo can't copy {from}");
        }
        let archive = lifecycle_archive(folder.path(), lifecycle)?;
        let mut toml = String::new();
        let mut group = String::from("[[order]]\n");
        for buildpack in buildpacks {
            let place = folder.path().join(buildpack.id().replace('/', "_"));
            buildpack.write(&place);
            toml.push_str(&format!("[[buildpacks]]\nuri = \"{}\"\n", place.display()));
            group.push_str(&format!(
                "[[order.group]]\nid = \"{}\"\nversion = \"{}\"\n",
                buildpack.id(),
                buildpack.version()
            ));
        }
        toml.push_str(&format!(
            "{group}[build]\nimage = \"{host}/peer/build:1\"\n[[run.images]]\nimage = \"{host}/peer/run:1\"\n\
             [lifecycle]\nuri = \"file://{}\"\n",
            archive.display()
        ));
        fs::write(folder.path().join("builder.toml"), toml)?;
        let side = Side { pack: pack.clone(), builder: format!("{host}/peer/builder:1"), registry, folder };
        let config = side.folder.path().join("builder.toml");
        let mut command = side.command(&["builder", "create", &side.builder, "--publish", "--config"]);
        command.arg(config);
        watched(command, "pack").context("the reference makes a builder")?;
        fs::create_dir(side.folder.path().join("app"))?;
        fs::write(side.folder.path().join("app/app.sh"), "#!/bin/sh\necho app\n")?;
        Ok(Some(side))
    }
}

/// The reference with a builder of its own.
struct Side {
    pack: PathBuf,
    builder: String,
    registry: DockerRegistry,
    folder: TempDir,
}

impl Side {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.pack);
        command.args(arguments).env("PACK_HOME", self.folder.path().join("home"));
        command
    }

    fn build(&self, image: &str, trust: bool, more: &[&str]) -> Result<Run> {
        let mut command = self.command(&["build", image, "--publish", "--builder", &self.builder, "--path"]);
        command.arg(self.folder.path().join("app"));
        command.args(["--network", "host", "--pull-policy", "if-not-present"]).args(more);
        if trust {
            command.arg("--trust-builder");
        }
        watched(command, "lifecycle")
    }
}

/// The archive that `pack builder create` wants, out of the programs.
fn lifecycle_archive(folder: &Path, lifecycle: &Path) -> Result<PathBuf> {
    let root = folder.join("archive");
    let programs = root.join("lifecycle");
    fs::create_dir_all(&programs)?;
    fs::write(root.join("lifecycle.toml"), LIFECYCLE)?;
    for program in ["lifecycle", "launcher"] {
        fs::copy(lifecycle.join(program), programs.join(program))?;
    }
    for phase in PHASES {
        fs_err::os::unix::fs::symlink("lifecycle", programs.join(phase))?;
    }
    let archive = folder.join("lifecycle.tgz");
    let status = Command::new("tar")
        .arg("-C")
        .arg(&root)
        .arg("-czf")
        .arg(&archive)
        .args(["lifecycle.toml", "lifecycle"])
        .status()?;
    ensure!(status.success(), "tar can't make the lifecycle archive");
    Ok(archive)
}
