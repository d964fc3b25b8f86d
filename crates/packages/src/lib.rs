//! What packages a root file system has: package databases and SBOMs as values.
//!
//! | module | what lives there |
//! |---|---|
//! | `set` | [`Package`], [`PackageSet`]: the values, and what was added between two of them |
//! | `read` | [`read()`]: which databases a root file system has |
//! | `dpkg`, `apk`, `rpm` | one package manager's database each |
//! | `sqlite` | just enough of SQLite's file format for the database of rpm |
//! | `purl` | package URLs, written and read |
//! | [`sbom`] | CycloneDX, SPDX and Syft documents, read and written |
//!
//! Databases and documents come from images, so nothing in them is believed: sizes are bounded, and what makes no sense
//! is an error or is passed over. Not here: where a root file system or a document comes from.

mod apk;
mod dpkg;
mod purl;
mod read;
mod rpm;
pub mod sbom;
mod set;
mod sqlite;

pub use read::{DATABASES, ReadError, read};
pub use set::{Manager, Package, PackageSet, Source};
