//! dpkg's database: `/var/lib/dpkg/status`, and `status.d/` of distroless images with a file for each package.

use std::path::Path;

use layer::{Kind, PathError, Root};

use crate::read::{FILE_LIMIT, MAX_PACKAGES, ReadError, TOTAL_LIMIT};
use crate::set::{Manager, Package, Source};

const STATUS: &str = "var/lib/dpkg/status";
const STATUS_DIR: &str = "var/lib/dpkg/status.d";

/// The packages that dpkg knows as installed; none when there is no database.
pub(crate) fn read(root: &Root) -> Result<Option<Vec<Package>>, ReadError> {
    let mut found = None;
    if root.is_file(STATUS) {
        let text = text(root, Path::new(STATUS))?;
        found = Some(parse(&text, Listed::ByStatus));
    }
    if root.is_dir(STATUS_DIR) {
        let packages = found.get_or_insert_default();
        let mut total = 0;
        // Besides, there are lists of files: `NAME.md5sums`.
        let files = root.read_dir(STATUS_DIR)?.into_iter().filter(|entry| {
            matches!(entry.kind, Kind::File | Kind::Symlink)
                && !entry.name.to_string_lossy().ends_with(".md5sums")
        });
        for file in files {
            let text = text(root, &Path::new(STATUS_DIR).join(file.name))?;
            total += text.len() as u64;
            packages.extend(parse(&text, Listed::All));
            if total > TOTAL_LIMIT || packages.len() > MAX_PACKAGES {
                return Err(ReadError::TooLarge { database: STATUS_DIR });
            }
        }
    }
    Ok(found)
}

fn text(root: &Root, path: &Path) -> Result<String, PathError> {
    Ok(String::from_utf8_lossy(&root.read(path, FILE_LIMIT)?).into_owned())
}

/// Which paragraphs are of installed packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listed {
    /// Those whose `Status` says so.
    ByStatus,
    /// All but those whose `Status` says otherwise.
    All,
}

/// The installed packages of a status file (deb822: paragraphs of `Name: value`, continued by indented lines).
pub(crate) fn parse(text: &str, listed: Listed) -> Vec<Package> {
    let mut packages = Vec::new();
    let mut paragraph = Paragraph::default();
    for line in text.lines().chain([""]) {
        if line.trim().is_empty() {
            packages.extend(std::mem::take(&mut paragraph).package(listed));
            if packages.len() > MAX_PACKAGES {
                break;
            }
        } else if !line.starts_with([' ', '\t'])
            && let Some((name, value)) = line.split_once(':')
        {
            paragraph.field(name, value.trim());
        }
    }
    packages
}

#[derive(Debug, Default)]
struct Paragraph<'a> {
    name: &'a str,
    version: &'a str,
    arch: &'a str,
    status: Option<&'a str>,
    source: &'a str,
    provides: &'a str,
}

impl<'a> Paragraph<'a> {
    fn field(&mut self, name: &str, value: &'a str) {
        match name.to_ascii_lowercase().as_str() {
            "package" => self.name = value,
            "version" => self.version = value,
            "architecture" => self.arch = value,
            "status" => self.status = Some(value),
            "source" => self.source = value,
            "provides" => self.provides = value,
            _ => {}
        }
    }

    fn package(self, listed: Listed) -> Option<Package> {
        // `want flag state`: a package that was removed but for its configuration is still listed, and one that is
        // half unpacked is none that works.
        let installed = match self.status {
            Some(status) => {
                let mut words = status.split_whitespace().skip(1);
                words.next() == Some("ok") && words.next() == Some("installed")
            }
            None => listed == Listed::All,
        };
        if !installed || self.name.is_empty() {
            return None;
        }
        let (source, source_version) = match self.source.split_once('(') {
            Some((name, version)) => (name.trim(), Some(version.trim_end_matches(')').trim())),
            None => (self.source, None),
        };
        let differs = !source.is_empty()
            && (source != self.name || source_version.is_some_and(|it| it != self.version));
        let provides = self.provides.split(',').map(|one| one.split('(').next().unwrap_or(one).trim());
        Some(Package {
            arch: self.arch.to_owned(),
            source: differs.then(|| Source {
                name: source.to_owned(),
                version: source_version.filter(|it| *it != self.version).map(str::to_owned),
            }),
            provides: provides.filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            ..Package::new(Manager::Deb, self.name, self.version)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
Package: libpq5
Status: install ok installed
Priority: optional
Architecture: amd64
Multi-Arch: same
Source: postgresql-15
Version: 15.3-0+deb12u1
Description: PostgreSQL C client library
 Package: not-a-field
 .
 libpq is a C library.

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: half
Status: install reinstreq half-installed
Version: 1

Package: held
Status: hold ok installed
Architecture: all
Source: held-src (2.0)
Version: 1
Provides: virtual (= 1), other-virtual,

Package: no-status
Version: 1
";

    #[test]
    fn reads_installed_packages_only() {
        let packages = parse(TEXT, Listed::ByStatus);
        let names: Vec<_> = packages.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["libpq5", "held"]);
        assert_eq!((packages[0].version.as_str(), packages[0].arch.as_str()), ("15.3-0+deb12u1", "amd64"));
        assert_eq!(packages[0].source, Some(Source { name: "postgresql-15".into(), version: None }));
        assert_eq!(packages[1].source, Some(Source { name: "held-src".into(), version: Some("2.0".into()) }));
        assert!(packages[1].provides.iter().eq(["other-virtual", "virtual"]));
    }

    #[test]
    fn files_of_distroless_images_need_no_status() {
        let names: Vec<_> = parse(TEXT, Listed::All).into_iter().map(|package| package.name).collect();
        assert_eq!(names, ["libpq5", "held", "no-status"]);
    }

    #[test]
    fn reads_this_or_that_line_end() {
        let packages = parse("Package: a\r\nVersion: 1\r\n\r\nPackage: b\r\nVersion: 2", Listed::All);
        let versions: Vec<_> = packages.into_iter().map(|package| package.version).collect();
        assert_eq!(versions, ["1", "2"]);
    }

    proptest! {
        #[test]
        fn takes_any_text(text in "(Package|Status|Source|Provides|[ :(),=\n]|[a-z]|\\PC){0,60}") {
            for package in parse(&text, Listed::All) {
                prop_assert!(!package.name.is_empty());
            }
        }
    }
}
