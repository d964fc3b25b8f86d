//! A run image after the Dockerfiles of extensions.

use oci::{Layer, RunConfig};

/// Characters of an instruction in the name of its layer.
const NAME: usize = 48;

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
    pub instruction: String,
    /// What the history says of the layer.
    pub created_by: String,
    /// The layer.
    pub layer: Layer,
    /// True when it was there before this build.
    pub reused: bool,
}

impl ExtensionLayer {
    /// What it is called among the layers of the image.
    pub(super) fn id(&self) -> String {
        let line = self.instruction.lines().next().unwrap_or_default();
        match line.char_indices().nth(NAME) {
            Some((end, _)) => format!("{}: {}…", self.extension, &line[..end]),
            None => format!("{}: {line}", self.extension),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use oci::{Blobs, Descriptor, Error, Origin};

    use super::*;

    #[derive(Debug)]
    struct Nowhere;

    impl Blobs for Nowhere {
        fn open(&self, blob: &Descriptor, _offset: u64) -> Result<Box<dyn std::io::Read + Send>, Error> {
            Err(Error::MissingBlob { digest: blob.digest, place: "nowhere".to_owned() })
        }

        fn origin(&self) -> Origin {
            Origin::Local("nowhere".to_owned())
        }
    }

    #[test]
    fn long_instructions_have_short_names() {
        let digest = layer::Digest::of(b"");
        let id = |instruction: &str| {
            let layer = ExtensionLayer {
                extension: "a/b".to_owned(),
                instruction: instruction.to_owned(),
                created_by: String::new(),
                layer: Layer {
                    descriptor: Descriptor::new("x", digest, 0),
                    diff_id: digest,
                    blobs: Arc::new(Nowhere),
                },
                reused: false,
            };
            layer.id()
        };
        assert_eq!(id("RUN a\nb"), "a/b: RUN a");
        assert_eq!(id(&format!("RUN {}", "ä".repeat(80))), format!("a/b: RUN {}…", "ä".repeat(44)));
    }
}
