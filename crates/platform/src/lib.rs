//! The platform side: builds, builders, project descriptors, configuration.
