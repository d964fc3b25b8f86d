//! The Cloud Native Buildpacks specification as types.
