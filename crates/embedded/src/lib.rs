//! What is inside the program: the launcher, which goes into every app image, and the parts of the default builder,
//! with which the first image needs neither a network nor a registry.
//!
//! Bytes and values only. Making images of them is the platform's work, building the programs the build script's.

/// The launcher: a static Linux program for the machine type that this crate was compiled for.
pub fn launcher() -> &'static [u8] {
    include_bytes!(concat!(env!("PANNIER_EMBEDDED"), "/pannier-launcher"))
}
