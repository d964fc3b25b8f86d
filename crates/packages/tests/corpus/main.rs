//! Inputs that fuzzing kept: what comes of each is what came of it before.

mod package_databases;
mod rpm_database;

use std::path::Path;

#[test]
fn every_kept_list_of_packages_is_read_as_before() {
    testkit::corpus::check(&corpus("package_databases"), package_databases::outcome);
}

#[test]
fn every_kept_database_of_rpm_is_read_as_before() {
    testkit::corpus::check(&corpus("rpm_database"), rpm_database::outcome);
}

fn corpus(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}
