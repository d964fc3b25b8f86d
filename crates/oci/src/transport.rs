//! Names of images with a transport, as containers-transports(5): `docker://`, `oci:`, `oci-archive:`,
//! `docker-archive:`, and names without one.
//!
//! Not here: opening what they name (`source`, `sink`).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use layer::Digest;

use crate::reference::{InvalidReference, Reference};

/// Where an image is, or should go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ImageName {
    /// `NAME`: the local store first, then the registry.
    Plain(Reference),
    /// `docker://NAME`: the registry.
    Registry(Reference),
    /// `oci:DIR[:TAG][@DIGEST]`: an OCI layout.
    Layout {
        /// Its folder.
        dir: PathBuf,
        /// Which of its images.
        tag: Option<String>,
        /// The image must be this one: as a verb that wrote it names it.
        digest: Option<Digest>,
    },
    /// `oci-archive:FILE[:TAG][@DIGEST]`: a tar of an OCI layout.
    OciArchive {
        /// The tar.
        file: PathBuf,
        /// Which of its images.
        tag: Option<String>,
        /// As of a layout.
        digest: Option<Digest>,
    },
    /// `docker-archive:FILE[:NAME]`: what `docker save` writes.
    DockerArchive {
        /// The tar.
        file: PathBuf,
        /// Which of its images.
        name: Option<Reference>,
    },
}

/// A text does not name an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The reference in it is not one.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// A transport that exists elsewhere, but not here.
    #[error(
        "unsupported transport `{transport}:` in `{text}`: expected `docker://NAME`, `oci:DIR[:TAG]`, \
         `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:NAME]` or a name{hint}"
    )]
    Transport {
        /// The text that was given.
        text: String,
        /// Its transport.
        transport: String,
        /// A way to do it all the same, with its separator; may be empty.
        hint: &'static str,
    },
    /// A transport without the path it needs.
    #[error("invalid image name `{text}`: expected a path after `{transport}:`")]
    NoPath {
        /// The text that was given.
        text: String,
        /// Its transport.
        transport: String,
    },
}

impl ImageName {
    /// The reference, for names that are one.
    pub fn reference(&self) -> Option<&Reference> {
        match self {
            Self::Plain(reference) | Self::Registry(reference) => Some(reference),
            Self::DockerArchive { name, .. } => name.as_ref(),
            Self::Layout { .. } | Self::OciArchive { .. } => None,
        }
    }
}

impl FromStr for ImageName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let Some((transport, rest)) = text.split_once(':') else { return Ok(Self::Plain(text.parse()?)) };
        // Of a reference it is a part.
        let (rest, digest) = match transport {
            "oci" | "oci-archive" => split_digest(rest),
            _ => (rest, None),
        };
        let path = || match rest.split_once(':') {
            _ if rest.is_empty() || rest.starts_with(':') => {
                Err(InvalidName::NoPath { text: text.to_owned(), transport: transport.to_owned() })
            }
            Some((path, name)) => Ok((PathBuf::from(path), Some(name.to_owned()).filter(|n| !n.is_empty()))),
            None => Ok((PathBuf::from(rest), None)),
        };
        Ok(match transport {
            "docker" if rest.starts_with("//") => Self::Registry(rest[2..].parse()?),
            "oci" => {
                let (dir, tag) = path()?;
                Self::Layout { dir, tag, digest }
            }
            "oci-archive" => {
                let (file, tag) = path()?;
                Self::OciArchive { file, tag, digest }
            }
            "docker-archive" => {
                let (file, name) = path()?;
                Self::DockerArchive { file, name: name.map(|name| name.parse()).transpose()? }
            }
            _ if is_foreign(transport) || rest.starts_with("//") => {
                return Err(InvalidName::Transport {
                    text: text.to_owned(),
                    transport: transport.to_owned(),
                    hint: hint(transport),
                });
            }
            _ => Self::Plain(text.parse()?),
        })
    }
}

/// Takes `@sha256:…` off the end.
fn split_digest(text: &str) -> (&str, Option<Digest>) {
    match text.rsplit_once('@').map(|(rest, digest)| (rest, digest.parse())) {
        Some((rest, Ok(digest))) => (rest, Some(digest)),
        _ => (text, None),
    }
}

/// Transports of containers-transports(5) that Pannier does not speak. Any of them could be a repository too
/// (`dir:latest`), but who writes that means the transport.
fn is_foreign(transport: &str) -> bool {
    matches!(
        transport,
        "dir" | "docker-daemon" | "containers-storage" | "ostree" | "sif" | "tarball" | "atomic"
    )
}

fn hint(transport: &str) -> &'static str {
    match transport {
        "docker-daemon" => {
            "; `docker save NAME -o FILE` and `docker load -i FILE` read and write `docker-archive:FILE`"
        }
        "containers-storage" => {
            "; `podman save NAME -o FILE` and `podman load -i FILE` read and write `docker-archive:FILE`"
        }
        _ => "",
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, path, name, digest) = match self {
            Self::Plain(reference) => return write!(f, "{reference}"),
            Self::Registry(reference) => return write!(f, "docker://{reference}"),
            Self::Layout { dir, tag, digest } => ("oci", dir, tag.clone(), digest),
            Self::OciArchive { file, tag, digest } => ("oci-archive", file, tag.clone(), digest),
            Self::DockerArchive { file, name } => {
                ("docker-archive", file, name.as_ref().map(Reference::to_string), &None)
            }
        };
        write!(f, "{transport}:{}", path.display())?;
        name.iter().try_for_each(|name| write!(f, ":{name}"))?;
        digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        text.parse::<ImageName>().map_or_else(|e| e.to_string(), |name| name.to_string())
    }

    #[test]
    fn every_transport() {
        for (text, expected) in [
            ("debian", "docker.io/library/debian:latest"),
            ("debian:12", "docker.io/library/debian:12"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest"),
            ("docker:27", "docker.io/library/docker:27"),
            ("docker://debian", "docker://docker.io/library/debian:latest"),
            ("oci:/a/b", "oci:/a/b"),
            ("oci:a:v1", "oci:a:v1"),
            ("oci:a:127.0.0.1:5000/x:y", "oci:a:127.0.0.1:5000/x:y"),
            ("oci-archive:x.tar", "oci-archive:x.tar"),
            ("oci:a@home:v1", "oci:a@home:v1"),
            ("docker-archive:x.tar:me/app", "docker-archive:x.tar:docker.io/me/app:latest"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn a_digest_of_a_layout() {
        let digest = Digest::of(b"x");
        for text in
            [format!("oci:a@{digest}"), format!("oci:a:v1@{digest}"), format!("oci-archive:a:v1@{digest}")]
        {
            let name: ImageName = text.parse().unwrap();
            let (ImageName::Layout { digest: found, .. } | ImageName::OciArchive { digest: found, .. }) =
                &name
            else {
                panic!("{name:?}")
            };
            assert_eq!((*found, name.to_string()), (Some(digest), text));
        }
    }

    #[test]
    fn refuses_what_it_cannot_do() {
        assert!(shown("docker-daemon:x:y").starts_with("unsupported transport `docker-daemon:`"));
        assert!(shown("docker-daemon:x:y").contains("docker load"));
        assert!(shown("https://x/y").starts_with("unsupported transport `https:`"));
        assert_eq!(shown("oci:"), "invalid image name `oci:`: expected a path after `oci:`");
        assert!(shown("docker-archive::x").contains("expected a path"));
        assert!(shown("docker-archive:x:UPPER").contains("lower case"));
        assert!(shown("").contains("invalid image reference"));
    }

    proptest! {
        #[test]
        fn what_is_shown_parses_to_the_same(text in "(oci:|docker://|oci-archive:|docker-archive:|)[a-z0-9/._-]{1,12}(:[a-z0-9.]{1,6})?") {
            if let Ok(name) = text.parse::<ImageName>() {
                prop_assert_eq!(name.to_string().parse::<ImageName>().unwrap(), name);
            }
        }

        #[test]
        fn never_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<ImageName>();
        }
    }
}
