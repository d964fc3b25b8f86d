//! SPDX 2 in JSON (<https://spdx.github.io/spdx-spec/v2.3/>).

use layer::Digest;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Gathered, Origin, SbomError};
use crate::set::{Manager, Package, PackageSet};

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    packages: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    #[serde(default)]
    name: String,
    #[serde(default)]
    version_info: String,
    #[serde(default)]
    primary_package_purpose: Option<String>,
    #[serde(default)]
    external_refs: Vec<Reference>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    #[serde(default)]
    reference_type: String,
    #[serde(default)]
    reference_locator: String,
}

pub(super) fn read(bytes: &[u8]) -> Result<PackageSet, SbomError> {
    let document: Document = serde_json::from_slice(bytes)?;
    let mut gathered = Gathered::default();
    for listed in document.packages {
        let mut purls = listed.external_refs.iter().filter(|it| it.reference_type == "purl").peekable();
        // What the document is about is in the list too.
        let other = ["CONTAINER", "OPERATING-SYSTEM", "OPERATING_SYSTEM", "FILE", "SOURCE", "ARCHIVE"];
        let other = listed.primary_package_purpose.is_some_and(|purpose| other.contains(&purpose.as_str()));
        if purls.peek().is_none() && !other && !listed.name.is_empty() {
            gathered.add(Package::new(Manager::Deb, listed.name, listed.version_info))?;
            continue;
        }
        for purl in purls {
            gathered.purl(&purl.reference_locator)?;
        }
    }
    Ok(gathered.finish())
}

/// The one who speaks in what is written.
const TOOL: &str = "Tool: pannier";

pub(super) fn write(packages: &PackageSet, origin: &Origin, created: &str) -> Vec<u8> {
    let purls: Vec<String> = packages.packages().iter().map(|package| packages.purl(package)).collect();
    // The namespace has to be another for each document: it is one of what is in it.
    let digest =
        Digest::of(format!("{}@{}\n{created}\n{}", origin.id, origin.version, purls.join("\n")).as_bytes());
    let ids: Vec<String> = (1..=purls.len()).map(|number| format!("SPDXRef-Package-{number}")).collect();
    let listed: Vec<Value> = packages
        .packages()
        .iter()
        .zip(ids.iter().zip(&purls))
        .map(|(package, (id, purl))| entry(package, id, purl, origin, created))
        .collect();
    let relationships: Vec<Value> = ids
        .iter()
        .map(|id| {
            json!({
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": id,
            })
        })
        .collect();
    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": origin.id,
        "documentNamespace": format!("https://buildpacks.io/spdx/{}-{}", origin.id, digest.hex()),
        "creationInfo": { "created": created, "creators": [TOOL] },
        "packages": listed,
        "relationships": relationships,
    });
    to_bytes(&document)
}

fn entry(package: &Package, id: &str, purl: &str, origin: &Origin, created: &str) -> Value {
    let mut entry = json!({
        "SPDXID": id,
        "name": package.name,
        "versionInfo": package.version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        // Databases have licences in words of their own, which need not be SPDX's.
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": purl,
        }],
        "annotations": [{
            "annotationDate": created,
            "annotationType": "OTHER",
            "annotator": TOOL,
            "comment": format!("io.buildpacks.extension: {}@{}", origin.id, origin.version),
        }],
    });
    if !package.license.is_empty() {
        entry["licenseComments"] = json!(package.license);
    }
    if let Some(source) = &package.source {
        let version = source.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
        entry["sourceInfo"] = json!(format!("built from the source package {}{version}", source.name));
    }
    entry
}

/// A document as it is written: for people too.
pub(super) fn to_bytes(document: &Value) -> Vec<u8> {
    format!("{document:#}\n").into_bytes()
}
