//! rpm's database, as it is since rpm 4.16: `rpmdb.sqlite`, whose table `Packages` has one header a row.
//!
//! Not here: SQLite's file format. Berkeley DB and NDB, which older systems and SUSE have.

mod header;

use layer::Root;

use crate::read::{MAX_PACKAGES, ReadError};
use crate::set::{Manager, Package, Source};
use crate::sqlite::{Database, SqliteError, Value};
use header::{Header, tag};

/// In order: the usual place, and where the usual place is a link to.
const DATABASES: [&str; 2] = ["usr/lib/sysimage/rpm/rpmdb.sqlite", "var/lib/rpm/rpmdb.sqlite"];

/// The packages that rpm knows as installed; none when there is no database.
pub(crate) fn read(root: &Root) -> Result<Option<Vec<Package>>, ReadError> {
    let Some(database) = DATABASES.into_iter().find(|path| root.is_file(path)) else { return Ok(None) };
    let log = format!("{database}-wal");
    let log = if root.is_file(&log) { Some(root.open_file(&log)?) } else { None };
    let failed = |source| ReadError::Sqlite { database, source };
    let sqlite = Database::open(root.open_file(database)?, log).map_err(failed)?;
    let mut packages = Vec::new();
    let found = sqlite.table("Packages", |row| {
        if packages.len() >= MAX_PACKAGES {
            return Err(Fault::TooLarge);
        }
        // The number of the package, and its header.
        if let [_, Value::Blob(blob), ..] = row {
            packages.extend(package(&Header::parse(blob).map_err(Fault::Header)?));
        }
        Ok(())
    });
    match found {
        Ok(_) => Ok(Some(packages)),
        Err(Fault::TooLarge) => Err(ReadError::TooLarge { database }),
        Err(Fault::Sqlite(source)) => Err(failed(source)),
        Err(Fault::Header(reason)) => Err(ReadError::Header { database, reason }),
    }
}

/// Why a row cannot be used.
enum Fault {
    TooLarge,
    Sqlite(SqliteError),
    Header(&'static str),
}

impl From<SqliteError> for Fault {
    fn from(error: SqliteError) -> Self {
        Self::Sqlite(error)
    }
}

fn package(header: &Header<'_>) -> Option<Package> {
    let name = header.text(tag::NAME)?;
    // Keys that packages are checked with are kept as if they were packages.
    if name.is_empty() || name == "gpg-pubkey" {
        return None;
    }
    let mut version = header.text(tag::VERSION).unwrap_or_default();
    if let Some(release) = header.text(tag::RELEASE) {
        version += &format!("-{release}");
    }
    if let Some(epoch) = header.number(tag::EPOCH).filter(|epoch| *epoch != 0) {
        version = format!("{epoch}:{version}");
    }
    let provides = header.texts(tag::PROVIDE_NAME).into_iter().filter(|it| *it != name && !it.is_empty());
    Some(Package {
        arch: header.text(tag::ARCH).unwrap_or_default(),
        source: header.text(tag::SOURCE_RPM).and_then(|file| source(&file, &name)),
        license: header.text(tag::LICENSE).unwrap_or_default(),
        provides: provides.collect(),
        ..Package::new(Manager::Rpm, name, version)
    })
}

/// The source package that `NAME-VERSION-RELEASE.src.rpm` is the file of.
fn source(file: &str, package: &str) -> Option<Source> {
    let stem = file.strip_suffix(".src.rpm").or_else(|| file.strip_suffix(".nosrc.rpm"))?;
    let mut parts = stem.rsplitn(3, '-');
    let (_release, _version, name) = (parts.next()?, parts.next()?, parts.next()?);
    (name != package && !name.is_empty()).then(|| Source { name: name.to_owned(), version: None })
}

#[cfg(test)]
mod tests;
