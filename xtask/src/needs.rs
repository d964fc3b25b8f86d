//! What the tests need from the machine, how to see that it is there, and how to get it.

use anyhow::{Context as _, Result};
use fs_err as fs;
use std::path::{Path, PathBuf};
use xshell::{Shell, cmd};

/// A program the tests call, and the Debian package that has it.
#[derive(Debug)]
pub struct Need {
    /// Looked up in PATH and in the sbin folders (or, with a `/`, as this very path).
    program: &'static str,
    package: &'static str,
    /// Finishes "without it, … are skipped".
    serves: &'static str,
}

const NEEDS: &[Need] = &[
    need("docker-registry", "docker-registry", "tests against a real registry"),
    need("htpasswd", "apache2-utils", "registry tests with passwords"),
    need("openssl", "openssl", "registry tests with TLS"),
    need("skopeo", "skopeo", "tests where skopeo reads our images"),
    need("umoci", "umoci", "tests where umoci unpacks our images"),
    need("podman", "podman", "tests where podman runs our images"),
    need("runc", "runc", "tests where runc runs our images"),
    need("dockerd", "docker.io", "tests where docker loads and runs our images"),
    need("mmdebstrap", "mmdebstrap", "tests on a Debian base image"),
    need("dpkg-deb", "dpkg", "tests of Debian packages"),
    need(DEBIAN_KEYS, "debian-archive-keyring", "tests on a Debian base image"),
    need("busybox", "busybox-static", "tests on a small base image"),
    need("bash-static", "bash-static", "tests on a small base image"),
    need("newuidmap", "uidmap", "tests as a user with subordinate ids"),
    need("setpriv", "util-linux", "tests as an ordinary user"),
    need("musl-gcc", "musl-tools", "static binaries"),
    need("zip", "zip", "builds from a zip file"),
    need("zstd", "zstd", "tests that read zstd layers"),
];

const DEBIAN_KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The target of the static binaries.
pub const MUSL: &str = "x86_64-unknown-linux-musl";

const fn need(program: &'static str, package: &'static str, serves: &'static str) -> Need {
    Need { program, package, serves }
}

/// Installs what is missing, where that is possible: Debian packages as root (or with a `sudo` that asks nothing), Rust
/// parts with rustup. Returns one line for each thing that is still missing.
///
/// # Errors
///
/// When a tool that is there can't be started at all. That something can't be installed is no error: it is in the
/// returned lines.
pub fn install(shell: &Shell) -> Result<Vec<String>> {
    let packages = missing().map(|need| need.package).collect::<Vec<_>>();
    if !packages.is_empty() {
        install_packages(shell, &packages)?;
    }
    install_rust_parts(shell);
    still_missing(shell)
}

/// One line for each thing that is missing now.
///
/// # Errors
///
/// When `rustc` can't be run.
pub fn still_missing(shell: &Shell) -> Result<Vec<String>> {
    let mut lines = missing()
        .map(|need| {
            let Need { program, package, serves } = need;
            format!("{program} (Debian package {package}): without it, {serves} are skipped")
        })
        .collect::<Vec<_>>();
    let libraries = cmd!(shell, "rustc --print target-libdir --target {MUSL}").quiet().read()?;
    if !Path::new(&libraries).exists() {
        lines.push(format!(
            "Rust target {MUSL} (rustup target add {MUSL}): without it, static binaries are not built"
        ));
    }
    Ok(lines)
}

fn missing() -> impl Iterator<Item = &'static Need> {
    NEEDS.iter().filter(|need| find(need.program).is_none())
}

/// Where `program` is: PATH, then the folders that an ordinary user's PATH leaves out.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

fn install_packages(shell: &Shell, packages: &[&str]) -> Result<()> {
    if find("apt-get").is_none() {
        println!("no apt-get here: install these yourself: {}", packages.join(" "));
        return Ok(());
    }
    let root = cmd!(shell, "id -u").quiet().read()? == "0";
    let sudo = if root {
        None
    } else if cmd!(shell, "sudo -n true").quiet().ignore_stderr().run().is_ok() {
        Some(["sudo", "-n"].as_slice())
    } else {
        println!("not root, so not installed: apt-get install {}", packages.join(" "));
        return Ok(());
    };
    let sudo = sudo.unwrap_or_default();
    // The packages bring services that nobody asked for: the tests start their own, on loopback, and stop them.
    let _quiet = root.then(KeepServicesStopped::new).transpose()?.flatten();
    let apt =
        ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=600"];
    let updated = cmd!(shell, "env {sudo...} {apt...} update").run();
    // One after another when all at once fails, so that one missing name costs only itself.
    if cmd!(shell, "env {sudo...} {apt...} install --no-install-recommends {packages...}").run().is_err() {
        for package in packages {
            if cmd!(shell, "env {sudo...} {apt...} install --no-install-recommends {package}").run().is_err()
            {
                println!("could not install {package}");
            }
        }
    }
    if let Err(error) = updated {
        println!("package lists could not be brought up to date: {error}");
    }
    Ok(())
}

fn install_rust_parts(shell: &Shell) {
    if find("rustup").is_none() {
        return;
    }
    let has_musl =
        cmd!(shell, "rustup target list --installed").quiet().read().is_ok_and(|list| list.contains(MUSL));
    if !has_musl && cmd!(shell, "rustup target add {MUSL}").run().is_err() {
        println!("could not add the Rust target {MUSL}");
    }
    for (component, program) in [("rustfmt", "cargo-fmt"), ("clippy", "cargo-clippy")] {
        if find(program).is_none() && cmd!(shell, "rustup component add {component}").run().is_err() {
            println!("could not add the Rust component {component}");
        }
    }
}

/// While it lives, packages that are being installed start no service (Debian's `policy-rc.d`).
#[derive(Debug)]
struct KeepServicesStopped {
    policy: PathBuf,
}

impl KeepServicesStopped {
    /// `None` where the machine has a policy of its own.
    fn new() -> Result<Option<Self>> {
        use std::os::unix::fs::PermissionsExt as _;
        let policy = PathBuf::from("/usr/sbin/policy-rc.d");
        if policy.exists() {
            return Ok(None);
        }
        fs::write(&policy, "#!/bin/sh\nexit 101\n")?;
        fs::set_permissions(&policy, std::fs::Permissions::from_mode(0o755)).context("policy-rc.d")?;
        Ok(Some(Self { policy }))
    }
}

impl Drop for KeepServicesStopped {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.policy) {
            println!("{error}");
        }
    }
}
