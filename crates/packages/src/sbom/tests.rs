use proptest::prelude::*;

use super::*;
use crate::set::{Manager, Source};

fn names(set: &PackageSet) -> Vec<String> {
    set.packages().iter().map(|it| format!("{} {} {}", it.manager, it.name, it.version)).collect()
}

fn added() -> PackageSet {
    let distro = Distro { name: "debian".into(), version: "12".into() };
    let libpq = Package {
        arch: "amd64".into(),
        source: Some(Source { name: "postgresql-15".into(), version: None }),
        license: "PostgreSQL".into(),
        ..Package::new(Manager::Deb, "libpq5", "15.3-0+deb12u1")
    };
    PackageSet::new(Some(distro), vec![libpq, Package::new(Manager::Deb, "hello", "2.10")])
}

fn origin() -> Origin {
    Origin { id: "samples/apt".into(), version: "1.0.0".into() }
}

const CREATED: &str = "1980-01-01T00:00:01Z";

#[test]
fn reads_cyclonedx() {
    let text = br#"{"bomFormat": "CycloneDX", "specVersion": "1.5", "components": [
        {"type": "library", "name": "libpq5", "version": "15", "purl": "pkg:deb/debian/libpq5@15.3?arch=amd64&distro=debian-12"},
        {"type": "library", "name": "curl", "version": "1", "purl": "pkg:npm/curl@1"},
        {"type": "library", "name": "musl", "version": "1.2", "components": [{"type": "library", "name": "inner", "version": "1"}]},
        {"type": "operating-system", "name": "debian", "version": "12"}]}"#;
    let set = read(text).unwrap();
    assert_eq!(names(&set), ["deb inner 1", "deb libpq5 15.3", "deb musl 1.2"]);
    assert_eq!(set.distro().unwrap().version, "12");
    assert!(set.has("libpq5:amd64") && set.has("musl") && !set.has("curl"));
}

#[test]
fn reads_spdx() {
    let text = br#"{"spdxVersion": "SPDX-2.3", "packages": [
        {"name": "an/image", "versionInfo": "latest", "primaryPackagePurpose": "CONTAINER"},
        {"name": "plain", "versionInfo": "1"},
        {"name": "bash", "versionInfo": "5.1", "externalRefs": [
            {"referenceCategory": "SECURITY", "referenceType": "cpe23Type", "referenceLocator": "cpe:2.3:a:b"},
            {"referenceCategory": "PACKAGE_MANAGER", "referenceType": "purl", "referenceLocator": "pkg:rpm/fedora/bash@5.1-2?epoch=1"}]},
        {"name": "left-pad", "externalRefs": [{"referenceType": "purl", "referenceLocator": "pkg:npm/left-pad@1"}]}]}"#;
    assert_eq!(names(&read(text).unwrap()), ["rpm bash 1:5.1-2", "deb plain 1"]);
}

#[test]
fn reads_syft() {
    let text = br#"{"artifacts": [
        {"name": "musl", "version": "1.2.4-r2", "type": "apk", "purl": "pkg:apk/alpine/musl@1.2.4-r2?arch=x86_64"},
        {"name": "zlib", "version": "1.3-r2", "type": "apk"},
        {"name": "flask", "version": "1", "type": "python", "purl": "pkg:pypi/flask@1"}],
        "distro": {"id": "alpine", "versionID": "3.19.0"}, "schema": {"version": "16.0.0"}}"#;
    let set = read(text).unwrap();
    assert_eq!(names(&set), ["apk musl 1.2.4-r2", "apk zlib 1.3-r2"]);
    assert_eq!(set.distro().unwrap().name, "alpine");
}

#[test]
fn reads_a_statement_with_one_in_it() {
    let inner = String::from_utf8(cyclonedx(&added(), &origin())).unwrap();
    let text =
        format!(r#"{{"_type": "x", "predicateType": "https://cyclonedx.org/bom", "predicate": {inner}}}"#);
    assert!(read(text.as_bytes()).unwrap().has("libpq5"));
    let nested = format!(r#"{{"predicateType": "x", "predicate": {text}}}"#);
    assert!(matches!(read(nested.as_bytes()), Err(SbomError::Unknown)));
}

#[test]
fn says_what_is_no_sbom() {
    assert!(matches!(read(b"{}"), Err(SbomError::Unknown)));
    assert!(matches!(read(b"[]"), Err(SbomError::Json(_))));
    assert!(matches!(read(b"bomFormat"), Err(SbomError::Json(_))));
    assert!(matches!(read(br#"{"bomFormat": "Other"}"#), Err(SbomError::Unknown)));
}

#[test]
fn what_is_written_can_be_read() {
    for bytes in [cyclonedx(&added(), &origin()), spdx(&added(), &origin(), CREATED)] {
        let set = read(&bytes).unwrap();
        assert_eq!(names(&set), ["deb hello 2.10", "deb libpq5 15.3-0+deb12u1"]);
        assert_eq!(set.distro(), added().distro());
    }
}

#[test]
fn cyclonedx_is_what_its_schema_wants() {
    let text = String::from_utf8(cyclonedx(&added(), &origin())).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["specVersion"], "1.4");
    let libpq = &json["components"][1];
    let purl = "pkg:deb/debian/libpq5@15.3-0%2Bdeb12u1?arch=amd64&distro=debian-12&upstream=postgresql-15";
    assert_eq!(
        *libpq,
        serde_json::json!({
            "bom-ref": purl, "type": "library", "name": "libpq5", "version": "15.3-0+deb12u1", "purl": purl,
            "licenses": [{"license": {"name": "PostgreSQL"}}],
            "properties": [
                {"name": "io.buildpacks.extension.id", "value": "samples/apt"},
                {"name": "io.buildpacks.extension.version", "value": "1.0.0"}],
        })
    );
    assert_eq!(text, String::from_utf8(cyclonedx(&added(), &origin())).unwrap());
}

#[test]
fn spdx_is_what_its_schema_wants() {
    let json: serde_json::Value = serde_json::from_slice(&spdx(&added(), &origin(), CREATED)).unwrap();
    assert_eq!(json["spdxVersion"], "SPDX-2.3");
    assert_eq!(json["creationInfo"]["created"], CREATED);
    assert_eq!(json["relationships"][1]["relatedSpdxElement"], json["packages"][1]["SPDXID"]);
    let libpq = &json["packages"][1];
    assert_eq!(libpq["annotations"][0]["comment"], "io.buildpacks.extension: samples/apt@1.0.0");
    assert_eq!(libpq["sourceInfo"], "built from the source package postgresql-15");
    let namespace = |origin: &Origin| {
        let json: serde_json::Value = serde_json::from_slice(&spdx(&added(), origin, CREATED)).unwrap();
        json["documentNamespace"].as_str().unwrap().to_owned()
    };
    assert_eq!(namespace(&origin()), namespace(&origin()));
    assert_ne!(namespace(&origin()), namespace(&Origin { version: "2".into(), ..origin() }));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(
        format in prop::sample::select(vec![r#""bomFormat":"CycloneDX""#, r#""spdxVersion":"SPDX-2.3""#, r#""x":1"#]),
        list in prop::sample::select(vec!["components", "packages", "artifacts"]),
        purl in "(pkg:|deb|apk|rpm|/|@|%|\\?|=|&|[a-z0-9]|\\PC){0,30}",
    ) {
        let purl = serde_json::Value::String(purl);
        let text = format!(
            r#"{{{format}, "{list}": [{{"type": "deb", "name": "n", "purl": {purl},
            "externalRefs": [{{"referenceType": "purl", "referenceLocator": {purl}}}]}}]}}"#
        );
        let _ = read(text.as_bytes());
        let _ = read(&text.as_bytes()[..text.len() / 2]);
    }
}
