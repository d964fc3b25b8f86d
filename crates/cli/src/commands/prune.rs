//! `pannier prune`.

use std::process::ExitCode;

use clap::Args;

use crate::context::Context;
use crate::error::CommandError;
use crate::ui::bytes;

/// Free the disk space that nothing needs
///
/// Removes blobs and unpacked layers that no image in `pannier image list` needs, and what interrupted builds left.
/// No build may be running.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pannier prune              what no image needs
  pannier prune --caches     the layers kept between builds, too")]
pub struct PruneArgs {
    /// Also remove what was kept of earlier builds: the next build of every app starts from nothing
    #[arg(long)]
    caches: bool,
}

/// Prunes.
pub fn run(context: &Context<'_>, args: &PruneArgs) -> Result<ExitCode, CommandError> {
    // Unpacked layers belong to ids of the namespace.
    let _entered = context.enter()?;
    let pruned = context.store()?.prune(|_cache| !args.caches)?;
    let mut parts = vec![count(pruned.blobs, "blob"), count(pruned.rootfs, "unpacked layer")];
    if args.caches {
        parts.push(count(pruned.caches, "cache"));
    }
    context.ui.finish();
    context.ui.result(&format!("freed {} ({})", bytes(pruned.bytes), parts.join(", ")));
    Ok(ExitCode::SUCCESS)
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
