//! Images as the phases know them: `run.toml`, `stack.toml`, `analyzed.toml`, `report.toml` (platform.md, "Data
//! Format").

use serde::{Deserialize, Serialize};

use crate::encode::{Fields, Node};
use crate::label::LayersMetadata;
use crate::output::BomEntry;
use crate::target::TargetMetadata;
use crate::{ParseError, error};

/// A run image and other places where it is.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct RunImageMirrors {
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Its other names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
}

impl RunImageMirrors {
    fn fields(&self) -> Fields {
        Fields::new().text("image", &self.image).list("mirrors", &self.mirrors)
    }
}

impl From<RunImageMirrors> for Node {
    fn from(image: RunImageMirrors) -> Self {
        image.fields().into()
    }
}

/// `run.toml`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub struct RunToml {
    /// The run images, the default one first.
    pub images: Vec<RunImageMirrors>,
}

impl RunToml {
    /// Reads the text of `run.toml`.
    ///
    /// # Errors
    /// Text that is not TOML, or not of this shape.
    pub fn parse(file: &str, text: &str) -> Result<Self, ParseError> {
        error::from_toml(file, text)
    }

    /// The text of `run.toml`.
    pub fn to_toml(&self) -> String {
        Fields::new().list("images", &self.images).to_toml()
    }
}

/// `stack.toml`, before Platform API 0.12.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct StackToml {
    /// The run image.
    #[serde(default, rename = "runImage", alias = "run-image")]
    pub run_image: RunImageMirrors,
}

impl StackToml {
    /// Reads the text of `stack.toml`.
    ///
    /// # Errors
    /// Text that is not TOML, or not of this shape.
    pub fn parse(file: &str, text: &str) -> Result<Self, ParseError> {
        error::from_toml(file, text)
    }

    /// The text of `stack.toml`.
    pub fn to_toml(&self) -> String {
        self.fields().to_toml()
    }

    fn fields(&self) -> Fields {
        Fields::new().with("run-image", self.run_image.fields())
    }
}

impl From<StackToml> for Node {
    fn from(stack: StackToml) -> Self {
        stack.fields().into()
    }
}

/// An image that is named by what it is.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub struct ImageIdentifier {
    /// A reference with a digest, an image id, or a path.
    pub reference: String,
}

impl From<ImageIdentifier> for Node {
    fn from(image: ImageIdentifier) -> Self {
        Fields::new().with("reference", image.reference).into()
    }
}

/// The build image, where there are extensions.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub struct BuildImage {
    /// A reference with a digest, an image id, or a path.
    pub reference: String,
    /// True when extensions change it.
    pub extend: bool,
}

impl From<BuildImage> for Node {
    fn from(image: BuildImage) -> Self {
        Fields::new().with("reference", image.reference).flag("extend", image.extend).into()
    }
}

/// The run image of a build.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub struct RunImage {
    /// A reference with a digest, an image id, or a path.
    pub reference: String,
    /// The name that the platform or an extension gave.
    pub image: String,
    /// True when extensions change it.
    pub extend: bool,
    /// What it is.
    pub target: Option<TargetMetadata>,
}

impl From<RunImage> for Node {
    fn from(image: RunImage) -> Self {
        Fields::new()
            .with("reference", image.reference)
            .text("image", &image.image)
            .flag("extend", image.extend)
            .maybe("target", image.target)
            .into()
    }
}

/// `analyzed.toml`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case", default)]
pub struct Analyzed {
    /// The previous image, if there is one.
    #[serde(rename = "image")]
    pub previous_image: Option<ImageIdentifier>,
    /// The build image, where extensions may change it.
    pub build_image: Option<BuildImage>,
    /// The layers of the previous image.
    pub metadata: LayersMetadata,
    /// The run image.
    pub run_image: Option<RunImage>,
}

impl Analyzed {
    /// Reads the text of `analyzed.toml`.
    ///
    /// # Errors
    /// Text that is not TOML, or not of this shape.
    pub fn parse(file: &str, text: &str) -> Result<Self, ParseError> {
        error::from_toml(file, text)
    }

    /// The text of `analyzed.toml`.
    pub fn to_toml(&self) -> String {
        Fields::new()
            .maybe("image", self.previous_image.clone())
            .maybe("build-image", self.build_image.clone())
            .with("metadata", self.metadata.clone())
            .maybe("run-image", self.run_image.clone())
            .to_toml()
    }

    /// What the run image is, as far as that is known.
    pub fn target(&self) -> Option<&TargetMetadata> {
        self.run_image.as_ref()?.target.as_ref()
    }
}

/// `report.toml`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Report {
    /// Before Platform API 0.9, the old bill of materials.
    pub build: BuildReport,
    /// The image that was made.
    pub image: ImageReport,
}

/// The table `[build]` of a report.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct BuildReport {
    /// The old bill of materials for the build.
    pub bom: Vec<BomEntry>,
}

/// The table `[image]` of a report.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", default)]
pub struct ImageReport {
    /// All names of the image.
    pub tags: Vec<String>,
    /// Its id, in a daemon.
    pub image_id: String,
    /// The digest of its manifest, in a registry.
    pub digest: String,
    /// The size of its manifest in bytes, in a registry; 0 when not known.
    pub manifest_size: i64,
}

impl Report {
    /// Reads the text of `report.toml`.
    ///
    /// # Errors
    /// Text that is not TOML, or not of this shape.
    pub fn parse(file: &str, text: &str) -> Result<Self, ParseError> {
        error::from_toml(file, text)
    }

    /// The text of `report.toml`.
    pub fn to_toml(&self) -> String {
        let build = (!self.build.bom.is_empty()).then(|| Fields::new().list("bom", &self.build.bom));
        let size = (self.image.manifest_size != 0).then_some(self.image.manifest_size);
        let image = Fields::new()
            .with("tags", self.image.tags.clone())
            .text("image-id", &self.image.image_id)
            .text("digest", &self.image.digest)
            .maybe("manifest-size", size);
        Fields::new().maybe("build", build).with("image", image).to_toml()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_images_are_read_and_written() {
        let text = "[[images]]\n  image = \"a\"\n  mirrors = [\"b\", \"c\"]\n\n[[images]]\n  image = \"d\"\n";
        assert_eq!(RunToml::parse("run.toml", text).unwrap().to_toml(), text);
        let text = "[run-image]\n  image = \"a\"\n";
        assert_eq!(StackToml::parse("stack.toml", text).unwrap().to_toml(), text);
    }

    const ANALYZED: &str = r#"[image]
  reference = "app@sha256:1"

[metadata]

  [[metadata.app]]
    sha = "sha256:2"

  [[metadata.buildpacks]]
    key = "a"
    version = "1"
    [metadata.buildpacks.layers]
      [metadata.buildpacks.layers."l.x"]
        sha = "sha256:3"
        build = false
        launch = true
        cache = false
        [metadata.buildpacks.layers."l.x".metadata]
          n = 3
  [metadata.config]
    sha = ""
  [metadata.launcher]
    sha = ""
  [metadata.process-types]
    sha = ""
  [metadata.run-image]
    top-layer = "sha256:4"
    reference = "run@sha256:5"
    image = "run"

[run-image]
  reference = "run@sha256:5"
  image = "run"
  [run-image.target]
    os = "linux"
    arch = "amd64"
    [run-image.target.distro]
      name = "debian"
      version = "12"
"#;

    #[test]
    fn analyzed_is_read_and_written() {
        let analyzed = Analyzed::parse("analyzed.toml", ANALYZED).unwrap();
        assert_eq!(analyzed.target().unwrap().os, "linux");
        assert_eq!(analyzed.to_toml(), ANALYZED);
    }

    #[test]
    fn a_report_says_what_was_made() {
        let report = Report {
            image: ImageReport {
                tags: vec!["a:latest".into()],
                digest: "sha256:1".into(),
                manifest_size: 123,
                ..ImageReport::default()
            },
            ..Report::default()
        };
        let text = "[image]\n  tags = [\"a:latest\"]\n  digest = \"sha256:1\"\n  manifest-size = 123\n";
        assert_eq!(report.to_toml(), text);
        assert_eq!(Report::parse("report.toml", text).unwrap(), report);
    }
}
