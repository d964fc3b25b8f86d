//! Real parts for tests: people, machines, base images, buildpacks, builders, and readers of what came out.
//!
//! | module | what it gives |
//! |---|---|
//! | [`needs`] | which programs are there; a test without its needs says so and is skipped |
//! | [`person`] | who runs a command: the caller, or an ordinary user with or without subordinate ids |
//! | [`machine`] | a folder with a home, a store and the real `pannier` binary |
//! | [`tree`] | layer tars, entry by entry, hostile ones included |
//! | [`image`] | images out of layers, written as OCI layouts |
//! | [`base`] | base images: small ones (one each with records of apk and rpm), Debian, distroless |
//! | [`deb`] | Debian packages and a repository of them |
//! | [`disk`] | small disks, which fill up or cannot be written |
//! | [`stage`] | calling a buildpack's own programs without a lifecycle |
//! | [`buildpack`], [`builder`] | buildpacks out of shell scripts, builder images out of buildpacks |
//! | [`registry`] | registries: one in this process with faults, and Debian's `docker-registry` |
//! | [`corpus`] | inputs that fuzzing kept, with what comes of them |
//! | [`read`] | what an image in a layout or an archive contains |
//!
//! Nothing here uses the crates under test: a mistake there must not be able to hide behind the same mistake here.
//! What does not live here: assertions about Pannier.

pub mod base;
pub mod builder;
pub mod buildpack;
pub mod corpus;
pub mod deb;
pub mod disk;
pub mod image;
pub mod machine;
pub mod needs;
pub mod person;
pub mod read;
pub mod registry;
pub mod stage;
pub mod tree;

pub use base::Base;
pub use builder::Builder;
pub use buildpack::Buildpack;
pub use deb::Deb;
pub use disk::SmallDisk;
pub use image::{Image, Layout};
pub use machine::{Machine, Output};
pub use person::Person;
pub use read::ReadImage;
pub use registry::{DockerRegistry, Registry};
pub use stage::Stage;
pub use tree::Tree;
