//! A run image after the Dockerfiles of extensions.

use oci::{Layer, RunConfig};

/// What extensions made of the run image.
#[derive(Clone, Debug)]
pub struct ExtendedRunImage {
    /// Its environment, labels, user and so on.
    pub config: RunConfig,
    /// Its new layers, lowest first.
    pub layers: Vec<ExtensionLayer>,
}

/// A layer that an instruction of a Dockerfile made.
#[derive(Clone, Debug)]
pub struct ExtensionLayer {
    /// The extension that the Dockerfile is of.
    pub extension: String,
    /// The instruction.
    pub created_by: String,
    /// The layer.
    pub layer: Layer,
    /// True when it was there before this build.
    pub reused: bool,
}

impl ExtensionLayer {
    /// What it is called among the layers of the image.
    pub(super) fn id(&self) -> String {
        let first = self.created_by.lines().next().unwrap_or_default();
        format!("{}:{first}", self.extension)
    }

    /// What the history says of it, in the words of the reference.
    pub(super) fn history(&self) -> String {
        format!("Layer: '{}', Created by extension: {}", self.created_by, self.extension)
    }
}
