//! Trees and layers: walk, normalised tar, hash, compress, unpack, diff, fingerprint.
//!
//! A *tree* is a folder on disk, a *layer* is a tar stream that makes it again. This crate turns one into the
//! other; it knows nothing of images, registries or buildpacks.

mod digest;

pub use digest::{Digest, Hasher, InvalidDigest};
