//! Which package databases a root file system has. Not here: what is in them.

use cnb::target::Distro;
use layer::{PathError, Root};

use crate::set::PackageSet;
use crate::sqlite::SqliteError;
use crate::{apk, dpkg, rpm};

/// More than any text database has.
pub(crate) const FILE_LIMIT: u64 = 64 << 20;
/// More than all files of one database have.
pub(crate) const TOTAL_LIMIT: u64 = 128 << 20;
/// More packages than any distribution has.
pub(crate) const MAX_PACKAGES: usize = 200_000;

/// Everything that [`read()`] looks at: files, and folders with all that is in them. Who takes these out of an image,
/// with the symlinks on the way to them, has all that is needed.
pub const DATABASES: [&str; 10] = [
    "var/lib/dpkg/status",
    "var/lib/dpkg/status.d",
    "lib/apk/db/installed",
    "usr/lib/apk/db/installed",
    "var/lib/rpm/rpmdb.sqlite",
    "var/lib/rpm/rpmdb.sqlite-wal",
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "usr/lib/sysimage/rpm/rpmdb.sqlite-wal",
    "etc/os-release",
    "usr/lib/os-release",
];

/// A package database cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A file cannot be read.
    #[error(transparent)]
    Path(#[from] PathError),
    /// More than any system has.
    #[error("the package database {database} is larger than any that is expected")]
    TooLarge {
        /// Where it is.
        database: &'static str,
    },
    /// It is not what such a database looks like.
    #[error("the package database {database} cannot be read")]
    Sqlite {
        /// Where it is.
        database: &'static str,
        /// What is wrong.
        #[source]
        source: SqliteError,
    },
    /// A package's header makes no sense.
    #[error("the package database {database} has a header that is not valid: {reason}")]
    Header {
        /// Where it is.
        database: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
}

/// The packages of the root file system: all databases of dpkg, apk and rpm that it has. None when it has no
/// database, or one in a format that is not read here (rpm's Berkeley DB and NDB), so that nothing is known.
///
/// # Errors
/// When a database is there and cannot be read.
pub fn read(root: &Root) -> Result<Option<PackageSet>, ReadError> {
    let mut packages = Vec::new();
    let mut known = false;
    for found in [dpkg::read(root)?, apk::read(root)?, rpm::read(root)?].into_iter().flatten() {
        known = true;
        packages.extend(found);
    }
    Ok(known.then(|| PackageSet::new(distro(root), packages)))
}

fn distro(root: &Root) -> Option<Distro> {
    ["etc/os-release", "usr/lib/os-release"].iter().find_map(|path| {
        let text = root.read(path, 1 << 20).ok()?;
        Distro::from_os_release(&String::from_utf8_lossy(&text))
    })
}

#[cfg(test)]
mod tests {
    use fs_err as fs;

    use super::*;

    fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn a_distroless_image_has_files_of_its_own() {
        let (_dir, root) = root(&[
            ("var/lib/dpkg/status.d/tzdata", "Package: tzdata\nVersion: 2024a\nArchitecture: all\n"),
            ("var/lib/dpkg/status.d/tzdata.md5sums", "Package: not-one\n"),
            ("var/lib/dpkg/status.d/base", "Package: base-files\nVersion: 12\nArchitecture: amd64\n"),
            ("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n"),
        ]);
        let set = read(&root).unwrap().unwrap();
        assert!(set.has("tzdata") && set.has("base-files") && !set.has("not-one"));
        assert_eq!(set.packages().len(), 2);
        assert_eq!(set.purl(&set.packages()[0]), "pkg:deb/debian/base-files@12?arch=amd64&distro=debian-12");
    }

    #[test]
    fn one_file_by_two_names_counts_once() {
        let (dir, root) = root(&[("usr/lib/apk/db/installed", "P:musl\nV:1\nA:x86_64\n")]);
        std::os::unix::fs::symlink("usr/lib", dir.path().join("lib")).unwrap();
        assert_eq!(read(&root).unwrap().unwrap().packages().len(), 1);
    }

    #[test]
    fn without_a_database_nothing_is_known() {
        let (_dir, empty) = root(&[("etc/os-release", "ID=debian\n")]);
        assert_eq!(read(&empty).unwrap(), None);
        // Berkeley DB.
        let (_dir, foreign) = root(&[("var/lib/rpm/Packages", "x")]);
        assert_eq!(read(&foreign).unwrap(), None);
        let (_dir, none_installed) = root(&[("var/lib/dpkg/status", "")]);
        assert!(read(&none_installed).unwrap().unwrap().is_empty());
    }

    #[test]
    fn links_stay_in_the_root() {
        let (dir, root) = root(&[("inside", "x")]);
        fs::create_dir_all(dir.path().join("var/lib/dpkg")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("var/lib/dpkg/status")).unwrap();
        assert_eq!(read(&root).unwrap(), None);
    }
}
