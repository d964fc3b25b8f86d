//! Trees and layers: walk, normalised tar, hash, compress, unpack, diff, fingerprint.
//!
//! A *tree* is a folder on disk, a *layer* is a tar stream that makes it again. This crate turns one into the
//! other; it knows nothing of images, registries or buildpacks.

mod attributes;
mod compress;
mod copy;
mod digest;
mod error;
mod fingerprint;
mod flatten;
mod glob;
mod meta;
pub mod named;
pub mod overlay;
pub mod pack;
mod refused;
mod root;
mod space;
pub mod unpack;
mod walk;

pub use attributes::record_owner;
pub use compress::{Compression, InvalidCompression};
pub use copy::{Copied, CopyOptions, Keep, copy_root, copy_tree};
pub use digest::{Digest, Hasher, InvalidDigest};
pub use error::PathError;
pub use fingerprint::{Survey, fingerprint, shape, survey};
pub use flatten::flatten;
pub use glob::BadPattern;
pub use meta::{Kind, Meta};
pub use refused::Refused;
pub use root::{Entry, Root};
pub use space::{FullDisk, SpaceWatch, meaning as meaning_of_space};
