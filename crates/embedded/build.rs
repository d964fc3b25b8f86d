//! Builds what is embedded: static Linux programs of this workspace, by a second cargo with a target folder of its own.
//!
//! * One call builds all of them, so that they share their dependencies.
//! * Its target folder is beside the first one's profiles: builds, tests and clippy share it, and no cargo ever waits for
//!   a lock that is held by one that waits for it.
//! * The target is musl where this toolchain has it, otherwise glibc, linked statically (larger).
//! * `PANNIER_EMBEDDED_DIR` names a folder with the programs, for packagers who build them once for several targets.

use std::env;
use std::error::Error;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The programs, by the names that cargo gives them.
const PROGRAMS: [&str; 5] = [
    "pannier-launcher",
    "pannier-buildpack-static-site",
    "pannier-buildpack-procfile",
    "pannier-static-server",
    "pannier-procfile-run",
];

/// The packages that they are in.
const PACKAGES: [&str; 4] = [
    "pannier-launcher",
    "pannier-buildpack-static-site",
    "pannier-buildpack-procfile",
    "pannier-static-server",
];

/// What they are made of, seen from the root of the workspace.
const SOURCES: [&str; 13] = [
    "Cargo.toml",
    "Cargo.lock",
    "crates/cnb/Cargo.toml",
    "crates/cnb/src",
    "crates/launcher/Cargo.toml",
    "crates/launcher/src",
    "buildpacks/procfile/Cargo.toml",
    "buildpacks/procfile/src",
    "buildpacks/program-layer",
    "buildpacks/static-server/Cargo.toml",
    "buildpacks/static-server/src",
    "buildpacks/static-site/Cargo.toml",
    "buildpacks/static-site/src",
];

/// What else the default builder is made of, seen from this crate.
const OWN_SOURCES: [&str; 6] = [
    "Cargo.toml",
    "build.rs",
    "src/builder.rs",
    "src/tree.rs",
    "../../buildpacks/procfile/buildpack.toml",
    "../../buildpacks/static-site/buildpack.toml",
];

/// Variables of cargo that the second cargo is to see, by how they begin. The others describe the first one's target,
/// flags and wrappers (clippy is one), which are not for it.
const PASSED_ON: [&str; 9] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_MAKEFLAGS",
    "CARGO_NET_",
    "CARGO_PROFILE_LAUNCHER_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Cargo shows this when the script fails. If it cannot be written, the exit code still says so.
            let _ = std::io::stderr().write_all(format!("{error}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    tell("rerun-if-env-changed=PANNIER_EMBEDDED_DIR");
    tell("rustc-env=PANNIER_EMBEDDED_LIBC=musl");
    let dir = match env::var_os("PANNIER_EMBEDDED_DIR") {
        Some(dir) if !dir.is_empty() => prebuilt(Path::new(&dir))?,
        _ => build()?,
    };
    tell(&format!("rustc-env=PANNIER_EMBEDDED={}", dir.display()));
    tell(&format!("rustc-env=PANNIER_EMBEDDED_FINGERPRINT={}", fingerprint(&dir)?));
    Ok(())
}

/// A number that changes with anything that the default builder is made of.
fn fingerprint(programs: &Path) -> Result<String, Box<dyn Error>> {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let mut hasher = std::hash::DefaultHasher::new();
    for program in PROGRAMS {
        fs_err::read(programs.join(program))?.hash(&mut hasher);
    }
    for source in OWN_SOURCES {
        let path = here.join(source);
        tell(&format!("rerun-if-changed={}", path.display()));
        fs_err::read(path)?.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn tell(line: &str) {
    println!("cargo::{line}");
}

/// Checks a folder of programs that somebody else built.
fn prebuilt(dir: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let dir =
        dir.canonicalize().map_err(|error| format!("PANNIER_EMBEDDED_DIR {}: {error}", dir.display()))?;
    for program in PROGRAMS {
        let path = dir.join(program);
        if !path.is_file() {
            return Err(format!("PANNIER_EMBEDDED_DIR: expected the program {}", path.display()).into());
        }
        tell(&format!("rerun-if-changed={}", path.display()));
    }
    Ok(dir)
}

fn build() -> Result<PathBuf, Box<dyn Error>> {
    let manifest_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let workspace = manifest_dir.ancestors().nth(2).ok_or("crates/embedded is not in a workspace")?;
    for source in SOURCES {
        tell(&format!("rerun-if-changed={}", workspace.join(source).display()));
    }
    tell("rerun-if-env-changed=CARGO_PROFILE_LAUNCHER_LTO");
    tell("rerun-if-env-changed=CARGO_PROFILE_LAUNCHER_CODEGEN_UNITS");
    let target = choose_target()?;
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    let target_dir = shared_target_dir(&out_dir);

    let mut cargo = Command::new(variable("CARGO")?);
    forget_outer_build(&mut cargo);
    cargo.current_dir(workspace).args(["build", "--locked", "--profile", "launcher", "--bins"]);
    cargo.args(["--target", &target.triple]).arg("--target-dir").arg(&target_dir);
    for package in PACKAGES {
        cargo.args(["--package", package]);
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", rustflags(workspace, &target));
    if let Some((name, linker)) = linker_for(&target)? {
        cargo.env(name, linker);
    }
    let status = cargo.status()?;
    if !status.success() {
        let help = match target.is_musl {
            true => "",
            // Debian's libc6-dev has it, other systems keep it in a package of its own.
            false => {
                "; they need a static glibc (libc.a), or the musl target of Rust, which needs nothing else"
            }
        };
        return Err(
            format!("building the embedded programs for {} failed: {status}{help}", target.triple).into()
        );
    }
    let built = target_dir.join(target.triple).join("launcher");
    // What is compiled in must not change under a compiler that runs for another profile.
    for program in PROGRAMS {
        copy_if_different(&built.join(program), &out_dir.join(program))?;
    }
    Ok(out_dir)
}

/// `<target>/embedded`, where OUT_DIR is `<target>/<profile>/build/<package>/out` as usual.
fn shared_target_dir(out_dir: &Path) -> PathBuf {
    let mut parents = out_dir.ancestors().skip(2);
    match (parents.next(), parents.nth(1)) {
        (Some(build), Some(target)) if build.ends_with("build") => target.join("embedded"),
        _ => out_dir.join("target"),
    }
}

fn copy_if_different(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    let content = fs_err::read(from)?;
    if fs_err::read(to).is_ok_and(|old| old == content) {
        return Ok(());
    }
    Ok(fs_err::write(to, content)?)
}

fn variable(name: &str) -> Result<String, Box<dyn Error>> {
    env::var(name).map_err(|error| format!("{name}: {error}").into())
}

/// Removes what cargo sets for this build script, and what steers the first cargo's compiler.
fn forget_outer_build(cargo: &mut Command) {
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let linker = text.starts_with("CARGO_TARGET_") && text.ends_with("_LINKER");
        let passed_on = linker || PASSED_ON.iter().any(|prefix| text.starts_with(prefix));
        let steers = text.starts_with("CARGO")
            || matches!(
                text,
                "HOST"
                    | "OPT_LEVEL"
                    | "OUT_DIR"
                    | "PROFILE"
                    | "RUSTC_WORKSPACE_WRAPPER"
                    | "RUSTFLAGS"
                    | "TARGET"
            );
        if steers && !passed_on {
            cargo.env_remove(&name);
        }
    }
}

struct Target {
    triple: String,
    is_musl: bool,
}

/// The Linux target of the same machine type that this toolchain can build for.
fn choose_target() -> Result<Target, Box<dyn Error>> {
    let target = variable("TARGET")?;
    let arch = target.split('-').next().unwrap_or_default();
    // gnu, gnueabihf, …: the musl targets are named alike.
    let suffix = match target.split_once("-linux-") {
        Some((_, suffix)) => suffix.trim_start_matches("gnu").trim_start_matches("musl"),
        None => "",
    };
    let triple = |libc: &str| format!("{arch}-unknown-linux-{libc}{suffix}");
    let output = Command::new(variable("RUSTC")?).args(["--print", "sysroot"]).output()?;
    let sysroot = String::from_utf8(output.stdout)?;
    let rustlib = Path::new(sysroot.trim()).join("lib/rustlib");
    let installed = |triple: &str| rustlib.join(triple).join("lib").is_dir();
    // Rustup writes it anew when a target is added: then the choice is made again.
    let components = rustlib.join("components");
    if components.exists() {
        tell(&format!("rerun-if-changed={}", components.display()));
    }
    let (musl, gnu) = (triple("musl"), triple("gnu"));
    if installed(&musl) {
        return Ok(Target { triple: musl, is_musl: true });
    }
    if !installed(&gnu) {
        return Err(
            format!("this toolchain builds for neither {musl} nor {gnu}: rustup target add {musl}").into()
        );
    }
    // Smaller is not possible: the standard library over a static glibc has more than 1 MiB before a line of ours.
    tell(&format!(
        "warning=the launcher in every image will have 1.6 MB in place of 0.9 MB, because this toolchain has no musl: \
         `rustup target add {musl}`, and build again"
    ));
    tell("rustc-env=PANNIER_EMBEDDED_LIBC=gnu");
    Ok(Target { triple: gnu, is_musl: false })
}

/// Flags for the programs. Folders of this machine do not get into them, so that the same sources give the same bytes.
fn rustflags(workspace: &Path, target: &Target) -> String {
    let mut flags = vec![format!("--remap-path-prefix={}=/pannier", workspace.display())];
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    if let Some(home) = home.or_else(|| env::home_dir().map(|home| home.join(".cargo"))) {
        flags.push(format!("--remap-path-prefix={}=/cargo", home.display()));
    }
    if !target.is_musl {
        flags.push("-Ctarget-feature=+crt-static".to_owned());
    }
    flags.join("\x1f")
}

/// The linker that comes with Rust, for other machines than this one: musl needs nothing beside it.
fn linker_for(target: &Target) -> Result<Option<(String, &'static str)>, Box<dyn Error>> {
    let name = format!("CARGO_TARGET_{}_LINKER", target.triple.replace('-', "_").to_uppercase());
    let host = variable("HOST")?;
    let same = host.split('-').next() == target.triple.split('-').next() && host.contains("-linux-");
    if same || !target.is_musl || env::var_os(&name).is_some() {
        return Ok(None);
    }
    Ok(Some((name, "rust-lld")))
}
