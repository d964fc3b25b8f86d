//! End-to-end tests of image extensions: the real `pannier` binary, Dockerfiles applied to real base images, as root and
//! as ordinary users. What a test can't have on this machine it says, and is skipped.
//!
//! | file | theme |
//! |---|---|
//! | [`applying`] | Dockerfiles in the images of a build |
//! | [`bad`] | extensions that are at fault |
//! | [`bad_lines`] | each instruction with an error, and where that is said to be |
//! | [`builders`] | builders with extensions: made, inspected |
//! | [`copies`] | no overlays |
//! | [`dry_run`] | `--dry-run` |
//! | [`generate`] | which extensions take part, what they are asked for, what they may write |
//! | [`offline`] | no network |
//! | [`packages`] | packages that the base images have, packages that extensions add |
//! | [`same`] | the same image whoever builds it |
//! | [`samples`] | the extensions and apps in `samples/` |
//! | [`sinks`] | where images go to and come from |
//! | [`unchanged`] | Dockerfiles that change nothing |

mod applying;
mod bad;
mod bad_lines;
mod builders;
mod copies;
mod dry_run;
mod fixture;
mod generate;
mod homes;
mod offline;
mod packages;
mod reach;
mod same;
mod samples;
mod sinks;
// Shared with the other end-to-end tests; not all of it is needed here.
#[allow(dead_code, unused_imports, unused_macros)]
#[path = "../e2e/support.rs"]
mod support;
mod unchanged;
