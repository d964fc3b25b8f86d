//! `pannier prune`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use events::Events as _;
use oci::store::{PruneOptions, Usage};

use crate::context::Context;
use crate::error::CommandError;
use crate::ui::bytes;

/// Free the disk space that nothing needs
///
/// Removes blobs and unpacked layers that no image in `pannier image list` needs, steps of extensions' Dockerfiles that
/// no build used for two weeks, default builders of other versions of pannier, and what interrupted builds left. Says
/// what is kept, and how to free that. No build may be running.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pannier prune                                   what no image needs
  pannier prune --caches                          the layers kept between builds, too
  pannier image remove my-app && pannier prune    an image, and what only it needs")]
pub struct PruneArgs {
    /// Also remove what was kept of earlier builds, and all steps of Dockerfiles: the next build of every app starts
    /// from nothing
    #[arg(long)]
    caches: bool,
}

/// Steps of Dockerfiles that nobody used for so long go.
const UNUSED_STEPS: Duration = Duration::from_secs(14 * 24 * 3600);

/// Prunes.
pub fn run(context: &Context<'_>, args: &PruneArgs) -> Result<ExitCode, CommandError> {
    // Unpacked layers belong to ids of the namespace.
    let _entered = context.enter()?;
    let store = context.store()?;
    platform::default_builder::forget_others(&store)?;
    let options = PruneOptions {
        keep_cache: &|_cache| !args.caches,
        keep_steps: (!args.caches).then_some(UNUSED_STEPS),
    };
    let pruned = store.prune(&options)?;
    let mut parts = vec![count(pruned.blobs, "blob"), count(pruned.rootfs, "unpacked layer")];
    if args.caches {
        parts.push(count(pruned.caches + pruned.mounts, "cache"));
    } else if pruned.mounts > 0 {
        parts.push(count(pruned.mounts, "cache mount"));
    }
    if args.caches || pruned.steps > 0 {
        parts.push(count(pruned.steps, "step"));
    }
    context.ui.finish();
    context.ui.result(&format!("freed {} ({})", bytes(pruned.bytes), parts.join(", ")));
    if pruned.foreign > 0 {
        let what = count(pruned.foreign, "entry").replace("entrys", "entries");
        context.ui.warning(&format!("{what} of another user stay: that user, or root, can prune them"));
    }
    if !context.ui.is_quiet() {
        kept(&store.usage()?).iter().for_each(|line| context.ui.result(line));
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for each kind of thing that is still there, and how to free it.
fn kept(usage: &Usage) -> Vec<String> {
    let (images, caches) = (count(usage.images, "image"), count(usage.caches, "build cache"));
    let mut lines = Vec::new();
    if usage.images > 0 {
        let size = bytes(usage.image_bytes);
        lines.push(format!("kept  {size} of {images} (`pannier image remove NAME`, then prune again)"));
    }
    if usage.caches > 0 {
        lines.push(format!("kept  {} in {caches} (`pannier prune --caches`)", bytes(usage.cache_bytes)));
    }
    if usage.step_bytes > 0 {
        let size = bytes(usage.step_bytes);
        lines.push(format!("kept  {size} of steps of Dockerfiles (`pannier prune --caches`)"));
    }
    lines
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
