//! Real parts for tests: registries, base images, users.
