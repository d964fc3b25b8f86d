//! SBOMs in JSON: CycloneDX, SPDX and Syft's own are read as sets of packages, the first two are written.
//!
//! Only packages of operating systems are taken out of a document: a Node.js module called `curl` is no `curl`. What is
//! written has no time and no random number in it, so the same packages give the same bytes.

mod cyclonedx;
mod spdx;
mod syft;

use cnb::target::Distro;
use serde::Deserialize;

use crate::purl;
use crate::read::MAX_PACKAGES;
use crate::set::{Package, PackageSet};

/// The property of a CycloneDX component that names the extension it came with.
pub const ORIGIN_ID: &str = "io.buildpacks.extension.id";
/// The property of a CycloneDX component with that extension's version.
pub const ORIGIN_VERSION: &str = "io.buildpacks.extension.version";

/// What packages came with: an image extension.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
}

/// A document is no SBOM that can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SbomError {
    /// It is not JSON, or members have values of the wrong kind.
    #[error("not a valid SBOM in JSON")]
    Json(#[from] serde_json::Error),
    /// It has none of the members that tell the three formats.
    #[error("not an SBOM: expected a JSON document of CycloneDX, SPDX 2 or Syft")]
    Unknown,
    /// More than any system has.
    #[error("the SBOM lists more than {MAX_PACKAGES} packages")]
    TooMany,
}

/// The members that tell the formats.
#[derive(Deserialize)]
struct Probe {
    #[serde(rename = "bomFormat")]
    bom_format: Option<String>,
    #[serde(rename = "spdxVersion")]
    spdx_version: Option<String>,
    artifacts: Option<serde::de::IgnoredAny>,
    /// An in-toto statement, as SBOMs are attached to images in.
    #[serde(rename = "predicateType")]
    predicate_type: Option<String>,
}

#[derive(Deserialize)]
struct Statement {
    predicate: Box<serde_json::value::RawValue>,
}

/// The operating system packages that an SBOM lists, by their package URLs, and by name where one has none. Its format
/// is told by what is in it. An in-toto statement with an SBOM in it is one too.
///
/// # Errors
/// When it is no SBOM.
pub fn read(bytes: &[u8]) -> Result<PackageSet, SbomError> {
    let probe: Probe = serde_json::from_slice(bytes)?;
    if probe.bom_format.as_deref() == Some("CycloneDX") {
        return cyclonedx::read(bytes);
    }
    if probe.spdx_version.is_some() {
        return spdx::read(bytes);
    }
    if probe.predicate_type.is_some() {
        let statement: Statement = serde_json::from_slice(bytes)?;
        return read_predicate(statement.predicate.get().as_bytes());
    }
    if probe.artifacts.is_some() {
        return syft::read(bytes);
    }
    Err(SbomError::Unknown)
}

/// What is in a statement, which is no other statement: documents do not nest without end.
fn read_predicate(bytes: &[u8]) -> Result<PackageSet, SbomError> {
    let probe: Probe = serde_json::from_slice(bytes)?;
    match (probe.bom_format.as_deref(), probe.spdx_version, probe.artifacts) {
        (Some("CycloneDX"), ..) => cyclonedx::read(bytes),
        (_, Some(_), _) => spdx::read(bytes),
        (.., Some(_)) => syft::read(bytes),
        _ => Err(SbomError::Unknown),
    }
}

/// The packages as a CycloneDX 1.4 document. Each component has the properties [`ORIGIN_ID`] and [`ORIGIN_VERSION`].
pub fn cyclonedx(packages: &PackageSet, origin: &Origin) -> Vec<u8> {
    cyclonedx::write(packages, origin)
}

/// The packages as an SPDX 2.3 document made at `created` (RFC 3339, in UTC). Each package has an annotation
/// `io.buildpacks.extension: ID@VERSION`.
pub fn spdx(packages: &PackageSet, origin: &Origin, created: &str) -> Vec<u8> {
    spdx::write(packages, origin, created)
}

/// Gathers what a document lists.
#[derive(Default)]
struct Gathered {
    packages: Vec<Package>,
    distro: Option<Distro>,
}

impl Gathered {
    /// Takes a package by its package URL. One of another kind is passed over.
    fn purl(&mut self, text: &str) -> Result<(), SbomError> {
        if let Some((package, distro)) = purl::read(text) {
            self.distro = self.distro.take().or(distro);
            self.add(package)?;
        }
        Ok(())
    }

    fn add(&mut self, package: Package) -> Result<(), SbomError> {
        if self.packages.len() >= MAX_PACKAGES {
            return Err(SbomError::TooMany);
        }
        self.packages.push(package);
        Ok(())
    }

    fn finish(self) -> PackageSet {
        PackageSet::new(self.distro, self.packages)
    }
}

#[cfg(test)]
mod tests;
