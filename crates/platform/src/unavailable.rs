//! An image that is needed and cannot be had, whatever it is needed for.

use std::fmt::Display;

/// An image cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("failed to get the {role} {name}")]
pub struct Unavailable {
    /// What it is for: `builder`, `run image`.
    pub role: &'static str,
    /// Its name.
    pub name: String,
    /// Why.
    #[source]
    pub source: oci::Error,
}

impl Unavailable {
    /// The image `name` cannot be had as this, for this reason.
    pub fn new(role: &'static str, name: &impl Display, source: oci::Error) -> Self {
        Self { role, name: name.to_string(), source }
    }
}
