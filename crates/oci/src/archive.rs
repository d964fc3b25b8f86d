//! Images in tar files: `oci-archive` (a tar of an OCI layout) and `docker-archive` (what `docker save` writes).
//!
//! Neither is unpacked to be read: its members are listed once with their offsets ([`members`]), and blobs are
//! read from the file where they are. What we write is streamed to a temporary file and renamed ([`write`]).

pub mod docker;
pub mod members;
pub mod oci;
pub mod write;

pub use docker::DockerArchive;
pub use oci::OciArchive;
