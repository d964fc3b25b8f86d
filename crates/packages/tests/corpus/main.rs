//! Inputs that fuzzing kept: what comes of each is what came of it before.

mod package_databases;
mod rpm_database;

#[test]
fn every_kept_list_of_packages_is_read_as_before() {
    testkit::corpus::check(env!("CARGO_MANIFEST_DIR"), "package_databases", package_databases::outcome);
}

#[test]
fn every_kept_database_of_rpm_is_read_as_before() {
    testkit::corpus::check(env!("CARGO_MANIFEST_DIR"), "rpm_database", rpm_database::outcome);
}
