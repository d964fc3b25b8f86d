//! What the user and the project descriptor say of buildpacks and extensions, applied to the builder of a build.

use events::Events;
use layer::Root;

use super::request::BuildRequest;
use super::resolve::{self, Resolved};
use super::{BuildError, images};
use crate::builder::{Builder, BuilderError};
use crate::module::Loader;
use crate::selection::{self, Selected, Selection};

/// Changes the builder's order, and puts the modules that it does not have on top of its layers. What is given back
/// must live as long as the layers are used.
pub(super) fn select(
    request: &BuildRequest,
    resolved: &mut Resolved,
    builder: &mut Builder,
    root: &Root,
    events: &dyn Events,
) -> Result<Selected, BuildError> {
    let selection = Selection {
        buildpacks: &request.buildpacks,
        pre: &request.pre_buildpacks,
        post: &request.post_buildpacks,
        extensions: &request.extensions,
        project: &resolved.project,
    };
    let loader = Loader {
        store: &request.store,
        client: &request.client,
        open: &|name| images::open(request, name),
        platform: &request.platform,
        unpacker: &resolve::unpacker(request.ids),
        scratch: request.store.scratch_dir()?,
        pull_policy: request.pull_policy,
        events,
    };
    let mut selected = selection::select(&selection, &builder.order, root, &loader)?;
    for module in &selected.added {
        events.info(&format!("Adding {} {module}", module.kind));
    }
    builder.order = std::mem::take(&mut selected.order);
    if builder.order.order.is_empty() {
        return Err(BuilderError::NoOrder.into());
    }
    // A package can have a layer that the builder has too, and an overlay takes each tree once.
    resolved.lowers.retain(|lower| !selected.lowers.contains(lower));
    resolved.lowers.splice(0..0, selected.lowers.iter().cloned());
    Ok(selected)
}
