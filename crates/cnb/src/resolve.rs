//! From an order and what was detected to a group and a plan (buildpack.md, "Phase #1: Detection").
//!
//! Pure rules in two steps, so that whoever runs `bin/detect` stands between them:
//!
//! | module | what lives there |
//! |---|---|
//! | [`candidates`] | an order, with composites and extensions, becomes groups of components, one after the other |
//! | [`trial`] | one such group and what its members said becomes a group with a plan, or the reasons why not |

pub mod candidates;
mod chain;
pub mod trial;

pub use candidates::{Candidate, Candidates, Catalog, Context, Element, Exclusion, OrderError};
pub use trial::{Outcome, Resolution, Resolved, Verdict, resolve};
