//! The text databases of dpkg and apk, and SBOMs.

use std::collections::BTreeSet;
use std::path::Path;

use fs_err as fs;
use layer::Root;
use pannier_packages::sbom::{self, Origin};
use pannier_packages::{PackageSet, read};

/// What comes of reading `input` as each of the files in which packages are listed.
pub fn outcome(input: &[u8]) -> String {
    let dpkg = database("var/lib/dpkg/status", input);
    let distroless = database("var/lib/dpkg/status.d/one", input);
    let apk = database("lib/apk/db/installed", input);
    let sbom = match sbom::read(input) {
        Ok(set) => checked(&set).to_string(),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            "none".to_owned()
        }
    };
    format!("dpkg: {dpkg}; distroless: {distroless}; apk: {apk}; sbom: {sbom}")
}

/// How many packages are in a database of this content.
fn database(path: &str, content: &[u8]) -> usize {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    write(&dir.path().join(path), content);
    // Text like any other: what it says must not matter to what is found.
    write(&dir.path().join("etc/os-release"), content);
    let set = read(&Root::open(dir.path()).unwrap()).unwrap().unwrap();
    checked(&set)
}

fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Checks what holds for every set: what is written of it is read as the same packages.
fn checked(set: &PackageSet) -> usize {
    let origin = Origin { id: "a/b".to_owned(), version: "1".to_owned() };
    // An epoch of 0 is none.
    let version = |version: &str| version.strip_prefix("0:").unwrap_or(version).to_owned();
    let names = |set: &PackageSet| -> BTreeSet<_> {
        set.packages().iter().map(|it| (it.manager, it.name.clone(), version(&it.version))).collect()
    };
    let written = [sbom::cyclonedx(set, &origin), sbom::spdx(set, &origin, "1980-01-01T00:00:01Z")];
    for again in written.map(|bytes| sbom::read(&bytes).unwrap()) {
        assert_eq!(names(&again), names(set));
    }
    for package in set.packages() {
        assert!(set.purl(package).starts_with("pkg:"), "{package:?}");
        let is_plain = package.name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        assert!(!is_plain || !package.arch.is_empty() || set.has(&package.name), "{package:?}");
    }
    assert!(PackageSet::added(set, set).is_empty());
    set.packages().len()
}
