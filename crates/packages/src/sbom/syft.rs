//! Syft's own format (<https://github.com/anchore/syft/tree/main/schema/json>).

use cnb::target::Distro;
use serde::Deserialize;

use super::{Gathered, SbomError};
use crate::set::{Manager, Package, PackageSet};

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    artifacts: Vec<Artifact>,
    #[serde(default)]
    distro: Option<Release>,
}

#[derive(Deserialize)]
struct Artifact {
    #[serde(default)]
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    purl: String,
}

#[derive(Deserialize)]
struct Release {
    #[serde(default)]
    id: String,
    #[serde(default, rename = "versionID")]
    version_id: String,
    /// What older versions called the id.
    #[serde(default)]
    name: String,
    /// What older versions called the version.
    #[serde(default)]
    version: String,
}

pub(super) fn read(bytes: &[u8]) -> Result<PackageSet, SbomError> {
    let document: Document = serde_json::from_slice(bytes)?;
    let mut gathered = Gathered::default();
    for artifact in document.artifacts {
        let manager = match artifact.kind.as_str() {
            "apk" => Manager::Apk,
            "deb" => Manager::Deb,
            "rpm" => Manager::Rpm,
            _ => continue,
        };
        if artifact.purl.is_empty() && !artifact.name.is_empty() {
            gathered.add(Package::new(manager, artifact.name, artifact.version))?;
        } else {
            gathered.purl(&artifact.purl)?;
        }
    }
    if let Some(release) = document.distro {
        let first = |one: String, other: String| if one.is_empty() { other } else { one };
        let distro = Distro {
            name: first(release.id, release.name),
            version: first(release.version_id, release.version),
        };
        gathered.distro = Some(distro).filter(|distro| !distro.name.is_empty()).or(gathered.distro);
    }
    Ok(gathered.finish())
}
