//! `pannier image remove`.

use std::process::ExitCode;

use clap::Args;
use oci::Reference;

use crate::context::Context;
use crate::error::CommandError;

/// Remove images from the local store
///
/// Takes their names away. What no other image needs is freed by `pannier prune`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pannier image remove my-app && pannier prune")]
pub struct RemoveArgs {
    /// Their names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Removes all that are there; a name that is not is an error in the end.
pub fn run(context: &Context<'_>, args: &RemoveArgs) -> Result<ExitCode, CommandError> {
    let names = args.names.iter().map(|name| name.parse()).collect::<Result<Vec<Reference>, _>>()?;
    let store = context.store()?;
    let mut missing = Vec::new();
    for name in &names {
        match store.untag(name)? {
            true => context.ui.result(&format!("removed {}", name.familiar())),
            false => missing.push(name.familiar()),
        }
    }
    match missing.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => {
            let text = format!("no image `{}` in the store {}", missing.join("`, `"), store.dir().display());
            Err(CommandError::new(text).hint("`pannier image list` names those there are"))
        }
    }
}
