//! The buildpack `pannier/procfile`: a `Procfile` over executables that are in the app already. Each line is a process
//! type; `web`, or the only one, is the default.
//!
//! The default run image has no shell, so a line is split into words the way a shell would, and a line that needs more
//! of a shell than that is refused where it can be explained: at build time.
//!
//! | module | what lives there |
//! |---|---|
//! | [`words`] | a command line to words: quotes, escapes, variables |
//! | [`file`](mod@file) | the Procfile |
//! | [`program`] | whether the executable of a line can run |
//! | [`source`] | what is read as the Procfile |
//!
//! `pannier-buildpack-procfile` is the buildpack, `pannier-procfile-run` what starts a line with variables in it.

pub mod file;
pub mod program;
pub mod source;
pub mod words;
