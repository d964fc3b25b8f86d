//! CycloneDX (<https://cyclonedx.org/docs/1.4/json/>).

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Gathered, ORIGIN_ID, ORIGIN_VERSION, Origin, SbomError};
use crate::set::{Manager, Package, PackageSet};

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    components: Vec<Component>,
}

#[derive(Deserialize)]
struct Component {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    version: String,
    purl: Option<String>,
    /// Components may have some of their own.
    #[serde(default)]
    components: Vec<Component>,
}

pub(super) fn read(bytes: &[u8]) -> Result<PackageSet, SbomError> {
    let document: Document = serde_json::from_slice(bytes)?;
    let mut gathered = Gathered::default();
    let mut todo = document.components;
    while let Some(component) = todo.pop() {
        match &component.purl {
            Some(purl) => gathered.purl(purl)?,
            // Only names are left: those of what a package manager would install.
            None if matches!(component.kind.as_str(), "library" | "application")
                && !component.name.is_empty() =>
            {
                gathered.add(Package::new(Manager::Deb, component.name, component.version))?;
            }
            None => {}
        }
        todo.extend(component.components);
    }
    Ok(gathered.finish())
}

pub(super) fn write(packages: &PackageSet, origin: &Origin) -> Vec<u8> {
    let components: Vec<Value> =
        packages.packages().iter().map(|package| component(packages, package, origin)).collect();
    let document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.4.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.4",
        "version": 1,
        "metadata": { "tools": [{ "vendor": "Pannier", "name": "pannier" }] },
        "components": components,
    });
    super::spdx::to_bytes(&document)
}

fn component(packages: &PackageSet, package: &Package, origin: &Origin) -> Value {
    let purl = packages.purl(package);
    let mut component = json!({
        "bom-ref": purl,
        "type": "library",
        "name": package.name,
        "version": package.version,
        "purl": purl,
        "properties": [
            { "name": ORIGIN_ID, "value": origin.id },
            { "name": ORIGIN_VERSION, "value": origin.version },
        ],
    });
    if !package.license.is_empty() {
        component["licenses"] = json!([{ "license": { "name": package.license } }]);
    }
    component
}
