//! `cargo xtask bench`: how fast, how much memory, against plain commands on the same data in the same run.
//!
//! What counts is the ratio: absolute times are the machine's. Nothing here fails for being slow.
//!
//! | module | figures |
//! |---|---|
//! | [`small`] | one sandboxed `/bin/true`; the launcher over a bare `execve` |
//! | [`hello`] | a hello app on a warm store, first and again |
//! | [`big`] | 1.3 GiB in 15,000 files: to a registry, and again |
//! | [`extend`] | Dockerfiles of extensions, against buildah |
//! | [`pull`] | an image of 500 MB, pulled and unpacked |
//! | [`peers`] | the reference, side by side, where its programs are given |

mod big;
mod extend;
mod hello;
mod measure;
mod peers;
mod pull;
mod small;
mod tree;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use xshell::{Shell, cmd};

use crate::needs::MUSL;
use measure::Figures;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Measure only these
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,
    /// The reference's `pack`, to be run side by side; needs a Docker daemon and --peer-lifecycle
    #[arg(long, value_name = "PATH")]
    peer_pack: Option<PathBuf>,
    /// A folder with the reference's `lifecycle` and `launcher`, to be run side by side
    #[arg(long, value_name = "DIR")]
    peer_lifecycle: Option<PathBuf>,
    /// Measure this binary instead of building one
    #[arg(long, value_name = "PATH")]
    pannier: Option<PathBuf>,
    /// The size of the big tree, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1330)]
    size: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Small,
    Hello,
    Big,
    Pull,
    Extend,
}

/// What every part is given.
#[derive(Debug)]
struct Bench<'a> {
    shell: &'a Shell,
    pannier: String,
    launcher: PathBuf,
    peers: peers::Peers,
    size: u64,
}

/// # Errors
///
/// When something can't be built or run. A figure that is over its limit is shown as that, and is no error.
pub fn run(shell: &Shell, arguments: &Arguments) -> Result<()> {
    let pannier = match &arguments.pannier {
        Some(pannier) => fs_err::canonicalize(pannier)?,
        None => {
            cmd!(shell, "cargo build --release --target {MUSL} --package pannier").run()?;
            crate::target_folder(shell)?.join(MUSL).join("release/pannier")
        }
    };
    cmd!(shell, "cargo build --profile launcher --target {MUSL} --package pannier-launcher").run()?;
    let launcher = crate::target_folder(shell)?.join(MUSL).join("launcher/pannier-launcher");
    let peers = peers::Peers::new(arguments.peer_pack.clone(), arguments.peer_lifecycle.clone())?;
    let pannier = pannier.into_os_string().into_string().ok().context("a path that is text")?;
    let bench = Bench { shell, pannier, launcher, peers, size: arguments.size };

    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    ensure!(testkit::Base::Debian.available(), "the Debian base image can't be had");
    let mut figures = Figures::default();
    if wanted(Part::Small) {
        small::measure(&bench, &mut figures)?;
    }
    if wanted(Part::Hello) {
        hello::measure(&bench, &mut figures)?;
    }
    if wanted(Part::Big) {
        big::measure(&bench, &mut figures)?;
    }
    if wanted(Part::Pull) {
        pull::measure(&bench, &mut figures)?;
    }
    if wanted(Part::Extend) {
        extend::measure(&bench, &mut figures)?;
    }
    figures.print();
    Ok(())
}
