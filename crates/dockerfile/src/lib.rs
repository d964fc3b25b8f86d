//! Parses, expands and applies Dockerfiles to images.
//!
//! Dockerfiles come from image extensions (image_extension.md, "Dockerfile Requirements"): one stage, one base. Each
//! instruction becomes a change of the image's configuration, a layer, or both; programs of `RUN` run in the sandbox.
//! Not here: who made the Dockerfile, and what happens to the image afterwards.
