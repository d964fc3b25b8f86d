//! Images: references, manifests, the store, layouts, archives, registries.
//!
//! | module | what lives there |
//! |---|---|
//! | [`auth`] | credentials and where they come from |
//! | [`registry`] | the client for registries |
//! | [`tls`] | certificates for it |
//! | [`reference`] | `registry/repository:tag@digest` |
//! | [`transport`] | names with a transport: `oci:DIR`, `docker://…` |
//! | [`model`] | descriptors, manifests, indexes, configurations |
//! | [`image`] | images and layers as values, whatever their source |
//! | [`image_set`] | an image for all its platforms, as it is copied |
//! | [`passwd`] | the users of an image |
//! | [`publish`] | the gate that all passes before others can see it |
//! | [`layout`] | OCI image layouts |
//! | [`archive`] | images in tar files |
//! | [`downloads`] | files of web servers that are kept |
//! | [`store`] | the local store: a layout, unpacked layers, caches |
//! | [`source`] | opening images by name |
//! | [`sink`] | writing images, pushing them while they are made |
//! | [`error`] | what can go wrong |

pub mod archive;
pub mod auth;
pub mod downloads;
pub mod error;
pub mod image;
pub mod image_set;
pub mod layout;
pub mod model;
mod new_file;
mod parallel;
pub mod passwd;
pub mod publish;
pub mod reference;
pub mod registry;
pub mod sink;
pub mod source;
pub mod store;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod transport;

pub use archive::{DockerArchive, OciArchive};
pub use error::{Error, Result};
pub use image::{Blobs, Compression, Format, Image, Layer, NewImage, Origin};
pub use image_set::ImageSet;
pub use layer::Digest;
pub use layer::unpack::Owners;
pub use layout::Layout;
pub use model::{
    Descriptor, EnvList, History, ImageConfig, Index, Manifest, Platform, RootFs, RunConfig, media_type,
};
pub use reference::{InvalidReference, Reference};
pub use sink::Sinks;
pub use source::Sources;
pub use store::{Store, Unpacker};
pub use transport::{ImageName, InvalidName};
