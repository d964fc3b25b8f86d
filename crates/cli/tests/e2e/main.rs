//! End-to-end tests: the real `pannier` binary, as root and as ordinary users, on real base images with buildpacks
//! written for the purpose. What a test can't have on this machine it says, and is skipped.
//!
//! | file | theme |
//! |---|---|
//! | [`basics`] | one build and one run, the options of `pannier build` |
//! | [`order`] | which buildpacks take part: groups, plans, composites, targets |
//! | [`modules`] | buildpacks that are not on the builder, builders that are made |
//! | [`environment`] | what a buildpack finds around it |
//! | [`outputs`] | what a buildpack can write: layers, processes, slices, labels, SBOMs |
//! | [`launching`] | what the launcher does with it |
//! | [`caching`] | the second build: what comes back, what is reused, what is never harmed |
//! | [`renaming`] | restored folders that a buildpack renames |
//! | [`copies`] | machines where no overlay can be mounted |
//! | [`sources`] | where images come from and go to |
//! | [`faults`] | bad input: one clear line, nothing left behind |
//! | [`hostile`] | layers made to do harm |
//! | [`secrets`] | what nothing that is printed, reported or built may have in it |
//! | [`limits`] | too much of anything: one clear line that says whose it is, and no image that nobody can read |
//! | [`isolation`] | what a buildpack can't reach |
//! | [`interop`] | other programs read what was written |
//! | [`files`] | links, FIFOs, devices and more in the place of files |
//! | [`golden`] | a whole image, as the reference makes it |
//! | [`rust`] | a buildpack written with `libcnb` |

mod basics;
mod caching;
mod copies;
mod environment;
mod faults;
mod files;
mod golden;
mod hostile;
mod interop;
mod isolation;
mod launching;
mod limits;
mod modules;
mod order;
mod outputs;
mod renaming;
mod rust;
mod secrets;
mod sources;
mod support;
