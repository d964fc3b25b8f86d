//! The two families of media types, OCI's and Docker's, and how layers go from one to the other.

use std::fmt;

use crate::error::{Error, Result};
use crate::model::media_type::{
    DOCKER_CONFIG, DOCKER_LAYER, DOCKER_LAYER_GZIP, DOCKER_MANIFEST, OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD, OCI_MANIFEST,
};

/// What the media types of an image's documents are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// The OCI image specification's.
    #[default]
    Oci,
    /// Docker's, schema 2.
    Docker,
}

impl Format {
    /// The format that a manifest of this media type has.
    pub fn of_manifest(media_type: &str) -> Self {
        if media_type == DOCKER_MANIFEST { Self::Docker } else { Self::Oci }
    }

    /// Media type of a manifest.
    pub fn manifest(self) -> &'static str {
        match self {
            Self::Oci => OCI_MANIFEST,
            Self::Docker => DOCKER_MANIFEST,
        }
    }

    /// Media type of an image configuration.
    pub fn config(self) -> &'static str {
        match self {
            Self::Oci => OCI_CONFIG,
            Self::Docker => DOCKER_CONFIG,
        }
    }

    /// Media type of a layer that Pannier writes.
    ///
    /// # Errors
    /// Docker's has none for zstd.
    pub fn layer(self, compression: Compression) -> Result<&'static str> {
        Ok(match (self, compression) {
            (Self::Oci, Compression::None) => OCI_LAYER,
            (Self::Oci, Compression::Gzip) => OCI_LAYER_GZIP,
            (Self::Oci, Compression::Zstd) => OCI_LAYER_ZSTD,
            (Self::Docker, Compression::None) => DOCKER_LAYER,
            (Self::Docker, Compression::Gzip) => DOCKER_LAYER_GZIP,
            (Self::Docker, Compression::Zstd) => {
                let reason = "Docker's format has no media type for zstd layers, expected gzip";
                return Err(Error::invalid("layer", reason));
            }
        })
    }

    /// The media type in this format of a layer that has `media_type` elsewhere. One that is in neither family
    /// (a foreign layer) stays as it is.
    ///
    /// # Errors
    /// As [`Format::layer`].
    pub fn layer_media_type(self, media_type: &str) -> Result<String> {
        let known = matches!(
            media_type,
            OCI_LAYER | OCI_LAYER_GZIP | OCI_LAYER_ZSTD | DOCKER_LAYER | DOCKER_LAYER_GZIP
        );
        match Compression::of_media_type(media_type) {
            Some(compression) if known => self.layer(compression).map(str::to_owned),
            _ => Ok(media_type.to_owned()),
        }
    }
}

/// How a layer's tar is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// What a layer's media type says, foreign layers included. Nothing for encrypted layers and what is no layer.
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        let (base, suffix) = match media_type.strip_prefix("application/vnd.docker.image.rootfs.") {
            Some(rest) => {
                rest.split_once("diff.tar").map(|(base, suffix)| (base, suffix.trim_start_matches('.')))?
            }
            None => {
                let rest = media_type.strip_prefix("application/vnd.oci.image.layer.")?;
                rest.split_once(".tar").map(|(base, suffix)| (base, suffix.trim_start_matches('+')))?
            }
        };
        let base_known = matches!(base, "" | "foreign." | "v1" | "nondistributable.v1");
        match suffix {
            _ if !base_known => None,
            "" => Some(Self::None),
            "gzip" => Some(Self::Gzip),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// What the first bytes of a blob say.
    pub fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_of_both_families() {
        for (media_type, expected) in [
            (OCI_LAYER, Some(Compression::None)),
            (OCI_LAYER_GZIP, Some(Compression::Gzip)),
            (OCI_LAYER_ZSTD, Some(Compression::Zstd)),
            (DOCKER_LAYER, Some(Compression::None)),
            (DOCKER_LAYER_GZIP, Some(Compression::Gzip)),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Some(Compression::Gzip)),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", Some(Compression::Zstd)),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", None),
            ("application/json", None),
            (OCI_CONFIG, None),
        ] {
            assert_eq!(Compression::of_media_type(media_type), expected, "{media_type}");
        }
    }

    #[test]
    fn layers_change_family_and_come_back() {
        for (oci, docker) in [(OCI_LAYER, DOCKER_LAYER), (OCI_LAYER_GZIP, DOCKER_LAYER_GZIP)] {
            assert_eq!(Format::Docker.layer_media_type(oci).unwrap(), docker);
            assert_eq!(Format::Oci.layer_media_type(docker).unwrap(), oci);
        }
        assert!(Format::Docker.layer_media_type(OCI_LAYER_ZSTD).is_err());
        assert_eq!(Format::Oci.layer_media_type("application/x-else").unwrap(), "application/x-else");
    }
}
