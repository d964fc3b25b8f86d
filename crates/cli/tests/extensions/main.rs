//! End-to-end tests of image extensions: the real `pannier` binary, Dockerfiles applied to real base images, as root and
//! as ordinary users. What a test can't have on this machine it says, and is skipped.
//!
//! | file | theme |
//! |---|---|
//! | [`applying`] | Dockerfiles in the images of a build |
//! | [`builders`] | builders with extensions: made, inspected |
//! | [`generate`] | which extensions take part, what they are asked for, what they may write |
//! | [`packages`] | packages that the base images have, packages that extensions add |

mod applying;
mod builders;
mod fixture;
mod generate;
mod packages;
// Shared with the other end-to-end tests; not all of it is needed here.
#[allow(dead_code, unused_imports, unused_macros)]
#[path = "../e2e/support.rs"]
mod support;
