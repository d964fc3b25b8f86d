//! Reading a builder: what its labels and the files below `/cnb` say (pack's builder format; platform.md,
//! "Build Image").
//!
//! Files win over labels where both say the same thing, because the lifecycle reads the files. Making a builder is
//! in [`create`].

pub mod create;

use cnb::ParseError;
use cnb::builder::{BuilderMetadata, BuilderRunImage};
use cnb::group::{Order, System};
use cnb::image::{RunToml, StackToml};
use layer::{PathError, Root};
use oci::Image;

use crate::run_image::RunImage;

const METADATA: &str = "io.buildpacks.builder.metadata";
const LIMIT: u64 = 16 * 1024 * 1024;

/// What a builder says of itself.
#[derive(Clone, Debug)]
pub struct Builder {
    /// Who buildpacks run as: `CNB_USER_ID`.
    pub uid: u32,
    /// Their group: `CNB_GROUP_ID`.
    pub gid: u32,
    /// The groups of buildpacks to try. A builder may have none: then it is for those who name buildpacks.
    pub order: Order,
    /// Buildpacks before and after each group.
    pub system: System,
    /// The run images it goes with.
    pub run_images: Vec<RunImage>,
    /// Its stack, in builders of old.
    pub stack_id: Option<String>,
    /// The label `io.buildpacks.builder.metadata`.
    pub metadata: Option<BuilderMetadata>,
}

/// An image is not a builder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuilderError {
    /// The user that buildpacks run as is not known.
    #[error("the builder does not say who buildpacks run as: expected a number in the variable {variable}")]
    User {
        /// The variable.
        variable: &'static str,
    },
    /// It has no groups of buildpacks, and none was named.
    #[error("the builder has no order: expected groups of buildpacks in /cnb/order.toml")]
    NoOrder,
    /// Buildpacks would run as root.
    #[error("the builder runs buildpacks as root ({variable} is 0), which the specification forbids")]
    Root {
        /// The variable.
        variable: &'static str,
    },
    /// One of its files is invalid.
    #[error("the builder has an invalid file")]
    Parse(#[from] ParseError),
    /// One of its files cannot be read.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl Builder {
    /// Reads a builder; `root` is its root file system.
    ///
    /// # Errors
    /// When something that every builder has is missing or invalid.
    pub fn read(image: &Image, root: &Root) -> Result<Self, BuilderError> {
        let uid = id(image, "CNB_USER_ID")?;
        let gid = id(image, "CNB_GROUP_ID")?;
        if uid == 0 {
            return Err(BuilderError::Root { variable: "CNB_USER_ID" });
        }
        let metadata = match image.config.label(METADATA) {
            Some(text) => Some(cnb::builder::parse_label(METADATA, text)?),
            None => None,
        };
        let order = match text(root, "cnb/order.toml")? {
            Some(text) => Order::parse("/cnb/order.toml", &text)?,
            None => Order::default(),
        };
        let system = match text(root, "cnb/system.toml")? {
            Some(text) => System::parse("/cnb/system.toml", &text)?,
            None => System::default(),
        };
        let run_images = run_images(root, metadata.as_ref())?;
        let stack_id = image.config.label(cnb::label::STACK_ID).map(str::to_owned);
        Ok(Self { uid, gid, order, system, run_images, stack_id, metadata })
    }
}

fn id(image: &Image, variable: &'static str) -> Result<u32, BuilderError> {
    let value = image.config.config.env_var(variable).and_then(|value| value.parse().ok());
    value.ok_or(BuilderError::User { variable })
}

fn text(root: &Root, path: &str) -> Result<Option<String>, BuilderError> {
    if !root.exists(path) {
        return Ok(None);
    }
    Ok(Some(root.read_to_string(path, LIMIT)?))
}

/// `run.toml`, else `stack.toml`, else the label.
fn run_images(root: &Root, metadata: Option<&BuilderMetadata>) -> Result<Vec<RunImage>, BuilderError> {
    if let Some(text) = text(root, "cnb/run.toml")? {
        let images = RunToml::parse("/cnb/run.toml", &text)?.images;
        return Ok(images.into_iter().map(|it| RunImage { image: it.image, mirrors: it.mirrors }).collect());
    }
    if let Some(text) = text(root, "cnb/stack.toml")? {
        let it = StackToml::parse("/cnb/stack.toml", &text)?.run_image;
        if !it.image.is_empty() {
            return Ok(vec![RunImage { image: it.image, mirrors: it.mirrors }]);
        }
    }
    let Some(metadata) = metadata else { return Ok(Vec::new()) };
    let from = |it: &BuilderRunImage| RunImage {
        image: it.image.clone(),
        mirrors: it.mirrors.clone().unwrap_or_default(),
    };
    let listed = metadata.run_images.iter().flatten().map(from);
    let stack = Some(&metadata.stack.run_image).filter(|it| !it.image.is_empty()).map(from);
    let mut images: Vec<RunImage> = Vec::new();
    for image in listed.chain(stack) {
        if !images.iter().any(|known| known.image == image.image) {
            images.push(image);
        }
    }
    Ok(images)
}
