//! Packages as values. Not here: where they are read from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use cnb::target::Distro;
use serde::{Deserialize, Serialize};

/// The package manager that a package is for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// Alpine's apk.
    Apk,
    /// Debian's dpkg.
    Deb,
    /// rpm.
    Rpm,
}

impl Manager {
    /// The type of its package URLs.
    pub fn purl_type(self) -> &'static str {
        match self {
            Self::Apk => "apk",
            Self::Deb => "deb",
            Self::Rpm => "rpm",
        }
    }

    /// The distribution to name where nothing says which it is.
    pub(crate) fn usual_distro(self) -> &'static str {
        match self {
            Self::Apk => "alpine",
            Self::Deb => "debian",
            Self::Rpm => "rpm",
        }
    }
}

impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.purl_type())
    }
}

/// The source package that a package was made from.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Its version, where it is not that of the package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// One installed package.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Whose package it is.
    pub manager: Manager,
    /// Its version as the package manager writes it; that of rpm is `[EPOCH:]VERSION-RELEASE`.
    pub version: String,
    /// The architecture, in the package manager's words; empty where it is not said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub arch: String,
    /// What it was made from, where that has another name or version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The licence as the database says it; empty where it does not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub license: String,
    /// Other names that it answers to: virtual packages, sonames; without versions.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub provides: BTreeSet<String>,
}

impl Package {
    /// A package of which no more than this is known.
    pub fn new(manager: Manager, name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            manager,
            version: version.into(),
            arch: String::new(),
            source: None,
            license: String::new(),
            provides: BTreeSet::new(),
        }
    }

    /// What makes it another package than one of the same name.
    fn identity(&self) -> (Manager, &str, &str, &str) {
        (self.manager, &self.name, &self.version, &self.arch)
    }

    /// True when it is for every architecture.
    fn any_arch(&self) -> bool {
        matches!(self.arch.as_str(), "" | "all" | "noarch")
    }
}

/// The packages of one root file system.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct PackageSet {
    /// The distribution they are of, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    distro: Option<Distro>,
    /// Sorted, without repetition.
    packages: Vec<Package>,
}

impl PackageSet {
    /// The set of these packages.
    pub fn new(distro: Option<Distro>, mut packages: Vec<Package>) -> Self {
        packages.sort_unstable();
        packages.dedup_by(|a, b| a.identity() == b.identity());
        Self { distro, packages }
    }

    /// The distribution that the packages are of.
    pub fn distro(&self) -> Option<&Distro> {
        self.distro.as_ref()
    }

    /// The packages, sorted by name.
    pub fn packages(&self) -> &[Package] {
        &self.packages
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty()
    }

    /// True when a package that was asked for by name is there. `wanted` is what a package manager is told:
    /// `NAME`, `NAME=VERSION`, and with dpkg `NAME:ARCHITECTURE`. A name that a package provides counts as long as no
    /// version is asked for. Without an architecture it is that of the file system: a library of another one is not
    /// what was meant.
    pub fn has(&self, wanted: &str) -> bool {
        let wanted = wanted.trim();
        let (name, version) = match wanted.split_once('=') {
            Some((name, version)) => (name.trim(), Some(version.trim())),
            None => (wanted, None),
        };
        if name.is_empty() {
            return false;
        }
        if self.matches(name, None, version) {
            return true;
        }
        // The last colon: names of rpm's capabilities have some of their own.
        match name.rsplit_once(':') {
            Some((name, arch)) => self.matches(name, Some(arch), version),
            None => false,
        }
    }

    fn matches(&self, name: &str, arch: Option<&str>, version: Option<&str>) -> bool {
        let native = self.native_archs();
        self.packages.iter().any(|package| {
            let named = package.name == name || version.is_none() && package.provides.contains(name);
            let fits = match arch {
                Some(arch) => package.arch == arch || package.any_arch(),
                None => package.any_arch() || native.get(&package.manager) == Some(&package.arch.as_str()),
            };
            named && fits && version.is_none_or(|version| version == package.version)
        })
    }

    /// The architecture that most packages of each manager are for.
    fn native_archs(&self) -> BTreeMap<Manager, &str> {
        let mut counts: BTreeMap<(Manager, &str), usize> = BTreeMap::new();
        for package in self.packages.iter().filter(|package| !package.any_arch()) {
            *counts.entry((package.manager, &package.arch)).or_default() += 1;
        }
        let mut most: BTreeMap<Manager, (usize, &str)> = BTreeMap::new();
        for ((manager, arch), count) in counts {
            let best = most.entry(manager).or_insert((count, arch));
            if count > best.0 {
                *best = (count, arch);
            }
        }
        most.into_iter().map(|(manager, (_, arch))| (manager, arch)).collect()
    }

    /// The packages that `after` has and `before` has not: new ones, and those of another version.
    pub fn added(before: &Self, after: &Self) -> Self {
        let old: BTreeSet<_> = before.packages.iter().map(Package::identity).collect();
        let packages = after.packages.iter().filter(|package| !old.contains(&package.identity())).cloned();
        Self { distro: after.distro.clone(), packages: packages.collect() }
    }

    /// The packages of this set that `other` has too.
    #[must_use]
    pub fn retained_in(&self, other: &Self) -> Self {
        let there: BTreeSet<_> = other.packages.iter().map(Package::identity).collect();
        let packages = self.packages.iter().filter(|package| there.contains(&package.identity())).cloned();
        Self { distro: self.distro.clone(), packages: packages.collect() }
    }

    /// The package URL of one of the packages.
    pub fn purl(&self, package: &Package) -> String {
        crate::purl::write(package, self.distro.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deb(name: &str, version: &str, arch: &str) -> Package {
        Package { arch: arch.to_owned(), ..Package::new(Manager::Deb, name, version) }
    }

    fn set(packages: Vec<Package>) -> PackageSet {
        PackageSet::new(None, packages)
    }

    #[test]
    fn finds_packages_as_package_managers_name_them() {
        let mail =
            Package { provides: ["mail-transport-agent".to_owned()].into(), ..deb("exim4", "4", "amd64") };
        let set = set(vec![
            deb("libpq5", "15.3-0+deb12u1", "amd64"),
            deb("libc6", "2.36", "amd64"),
            deb("libc6", "2.36", "i386"),
            deb("wine32", "8", "i386"),
            deb("tzdata", "2024a", "all"),
            mail,
        ]);
        for there in [
            "libpq5",
            " libpq5 ",
            "libpq5:amd64",
            "libpq5=15.3-0+deb12u1",
            "libpq5:amd64=15.3-0+deb12u1",
            "libc6",
            "libc6:i386",
            "wine32:i386",
            "tzdata",
            "tzdata:amd64",
            "mail-transport-agent",
        ] {
            assert!(set.has(there), "{there}");
        }
        for absent in [
            "libpq",
            "libpq5:i386",
            "libpq5=15.3",
            "wine32",
            "mail-transport-agent=4",
            "",
            "=1",
            ":amd64",
            ":",
        ] {
            assert!(!set.has(absent), "{absent}");
        }
    }

    #[test]
    fn capabilities_of_rpm_have_colons() {
        let provides = ["libpq.so.5()(64bit)".to_owned(), "perl(Foo::Bar)".to_owned()].into();
        let package =
            Package { provides, arch: "x86_64".into(), ..Package::new(Manager::Rpm, "libpq", "15.3-1") };
        let set = set(vec![package]);
        assert!(set.has("libpq.so.5()(64bit)") && set.has("perl(Foo::Bar)") && set.has("libpq"));
        assert!(!set.has("perl(Foo::Baz)"));
    }

    #[test]
    fn added_are_new_ones_and_new_versions() {
        let before = set(vec![deb("a", "1", "amd64"), deb("b", "1", "amd64"), deb("gone", "1", "amd64")]);
        let after = set(vec![
            deb("c", "1", "amd64"),
            deb("a", "1", "amd64"),
            deb("b", "2", "amd64"),
            deb("a", "1", "i386"),
        ]);
        let added = PackageSet::added(&before, &after);
        let names: Vec<_> =
            added.packages().iter().map(|it| format!("{} {} {}", it.name, it.version, it.arch)).collect();
        assert_eq!(names, ["a 1 i386", "b 2 amd64", "c 1 amd64"]);
        assert!(PackageSet::added(&after, &after).is_empty());
        let left = added.retained_in(&set(vec![deb("c", "1", "amd64")]));
        assert_eq!(left.packages(), [deb("c", "1", "amd64")]);
    }
}
