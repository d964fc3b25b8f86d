//! Images: references, manifests, the store, layouts, archives, registries.
//!
//! | module | what lives there |
//! |---|---|
//! | [`reference`] | `registry/repository:tag@digest` |
//! | [`model`] | descriptors, manifests, indexes, configurations |

pub mod model;
pub mod reference;

pub use layer::Digest;
pub use model::{Descriptor, History, ImageConfig, Index, Manifest, Platform, RootFs, RunConfig, media_type};
pub use reference::{InvalidReference, Reference};
