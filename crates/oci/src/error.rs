//! What can go wrong with images and the places they live in.
//!
//! The registry client has errors of its own, which arrive here as [`Error::Registry`].

use std::io;

use layer::Digest;

use crate::model::Platform;
use crate::registry;

/// The result of working with images.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An image, or the place it lives in, is not as it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written; the message has its path.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A blob stopped in the middle, or its bytes could not be had.
    #[error("failed to read blob {digest} of {place}: {source}")]
    ReadBlob {
        /// Which blob.
        digest: Digest,
        /// Where it was read from.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// A blob that a manifest names is not there.
    #[error("blob {digest} is missing in {place}")]
    MissingBlob {
        /// Which blob.
        digest: Digest,
        /// Where it should be.
        place: String,
    },
    /// The bytes of a blob are not those its digest names.
    #[error("blob {digest} in {place} is corrupt: its content has the digest {found}")]
    CorruptBlob {
        /// Which blob.
        digest: Digest,
        /// Where it is.
        place: String,
        /// The digest of what is there.
        found: Digest,
    },
    /// A blob is shorter or longer than its descriptor says.
    #[error("blob {digest} in {place} has {found} bytes, expected {expected}")]
    BlobSize {
        /// Which blob.
        digest: Digest,
        /// Where it is.
        place: String,
        /// How many bytes the descriptor names.
        expected: u64,
        /// How many there are.
        found: u64,
    },
    /// A layer does not uncompress to what the image configuration says.
    #[error("layer {digest} uncompresses to {found}, but the image's configuration says {expected}")]
    DiffId {
        /// The layer's blob.
        digest: Digest,
        /// The diffID in the configuration.
        expected: Digest,
        /// The diffID of the content.
        found: Digest,
    },
    /// No image of this name.
    #[error("no image `{name}` in {place}")]
    NoSuchImage {
        /// The name that was asked for.
        name: String,
        /// Where it was looked for.
        place: String,
    },
    /// The image of a name is not the one with the digest in that name.
    #[error("no image `{name}`: what is there now is {found}")]
    OtherDigest {
        /// The name that was asked for.
        name: String,
        /// The digest of what has the name.
        found: Digest,
    },
    /// An index has nothing for the platform that is wanted.
    #[error("no image for {wanted}{} in {place}: it has {}", variant_note(.wanted), list(.available))]
    NoSuchPlatform {
        /// Where the index is from.
        place: String,
        /// What is wanted.
        wanted: Platform,
        /// What there is.
        available: Vec<String>,
    },
    /// An image for several platforms goes to a place that holds one of each name.
    #[error("{place} cannot hold an image for several platforms")]
    OnePlatform {
        /// The place.
        place: String,
    },
    /// A place has several images and no name says which is meant.
    #[error("{place} has several images and none was named: expected one of {}", list(.names))]
    Ambiguous {
        /// The layout or archive.
        place: String,
        /// The names of those that have one.
        names: Vec<String>,
    },
    /// A manifest, configuration, index or archive breaks the rules of its format.
    #[error("invalid {what}: {reason}")]
    Invalid {
        /// What is invalid, with the place it is from.
        what: String,
        /// The rule it breaks, and what was expected.
        reason: String,
    },
    /// A document of a new image is larger than anybody reads.
    #[error("the image's {what} has {size} bytes, expected at most {limit}{}", most(.largest))]
    TooLarge {
        /// Which document.
        what: &'static str,
        /// Its size in bytes.
        size: u64,
        /// The most that is read.
        limit: u64,
        /// The largest label and its size in bytes.
        largest: Option<(String, u64)>,
    },
    /// Text that should be JSON of a certain shape is not.
    #[error("invalid {what}: {source}")]
    Json {
        /// What was parsed, with the place it is from.
        what: String,
        /// Where and why parsing stopped.
        source: serde_json::Error,
    },
    /// Somebody else is using what was asked for.
    #[error("{what} is in use by another process")]
    Busy {
        /// What is locked.
        what: String,
    },
    /// The store may only be read.
    #[error("the store {} cannot be written", dir.display())]
    ReadOnly {
        /// The store's directory.
        dir: std::path::PathBuf,
    },
    /// There is no store yet, and none can be made.
    #[error("cannot create the store {}: {source}", dir.display())]
    NoStore {
        /// The store's directory.
        dir: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store is another user's.
    #[error("the store {} belongs to {owner}, and only its owner may use it", dir.display())]
    NotYours {
        /// The store's directory.
        dir: std::path::PathBuf,
        /// Who owns it, or the directory that it is in: `uid 0`.
        owner: String,
    },
    /// A layer could not be unpacked.
    #[error("failed to unpack layer {digest}")]
    Unpack {
        /// The layer's blob.
        digest: Digest,
        /// Why.
        source: layer::unpack::UnpackError,
    },
    /// A registry.
    #[error(transparent)]
    Registry(#[from] registry::Error),
}

impl From<layer::PathError> for Error {
    fn from(error: layer::PathError) -> Self {
        Self::Io(error.into())
    }
}

impl Error {
    pub(crate) fn invalid(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), reason: reason.into() }
    }

    /// The error inside a reader's error, where [`Error::into_io`] put one.
    pub(crate) fn from_io(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => error,
            Err(error) => match error.downcast::<registry::Error>() {
                Ok(error) => Self::Registry(error),
                Err(error) => Self::Io(error),
            },
        }
    }

    /// The same corrupt blob, in this place.
    pub(crate) fn in_place(self, place: String) -> Self {
        match self {
            Self::CorruptBlob { digest, found, .. } => Self::CorruptBlob { digest, place, found },
            other => other,
        }
    }

    /// For readers, whose errors must be [`io::Error`]s.
    pub(crate) fn into_io(self) -> io::Error {
        match self {
            Self::Io(error) => error,
            other => io::Error::new(io::ErrorKind::InvalidData, other),
        }
    }

    /// What the user can do, where something can be said.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::OnePlatform { .. } => Some("`oci-archive:` can, or choose one with --platform".to_owned()),
            Self::ReadOnly { .. } | Self::NotYours { .. } | Self::NoStore { .. } => {
                Some("choose another place with --home or PANNIER_HOME".to_owned())
            }
            Self::Busy { .. } => Some("wait until other builds are done".to_owned()),
            _ => None,
        }
    }

    /// True when there is no such image, or none for the platform, or nothing at all in its place.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::NoSuchImage { .. } | Self::NoSuchPlatform { .. } | Self::OtherDigest { .. } => true,
            Self::Io(error) => error.kind() == io::ErrorKind::NotFound,
            Self::Registry(error) => error.is_not_found(),
            _ => false,
        }
    }

    /// True when a registry does not let us look.
    pub fn is_denied(&self) -> bool {
        match self {
            Self::Registry(error) => matches!(
                *error.kind,
                registry::ErrorKind::Unauthorized { .. } | registry::ErrorKind::Denied { .. }
            ),
            _ => false,
        }
    }

    /// True when the bytes of a blob are at fault, so that fetching it again can help.
    pub fn is_corrupt_blob(&self) -> bool {
        matches!(self, Self::CorruptBlob { .. } | Self::BlobSize { .. } | Self::DiffId { .. })
    }
}

fn variant_note(platform: &Platform) -> &'static str {
    // A bare `linux/arm` is ambiguous to people; say that any variant would have done.
    if platform.architecture == "arm" && platform.variant.is_none() { " (any variant)" } else { "" }
}

fn most(label: &Option<(String, u64)>) -> String {
    label.as_ref().map_or_else(String::new, |(name, size)| format!("; its label `{name}` has {size}"))
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "nothing with a name".to_owned() } else { items.join(", ") }
}
