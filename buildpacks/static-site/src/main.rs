//! The buildpack `pannier/static-site`: an app with an `index.html`, or with a folder `public`, becomes an image that
//! serves those files on `$PORT`.
//!
//! `bin/detect` and `bin/build` are both this program; the name it is called by decides.

use std::io::Write;
use std::path::Path;

use libcnb::build::{BuildContext, BuildResult, BuildResultBuilder};
use libcnb::data::launch::{LaunchBuilder, ProcessBuilder};
use libcnb::data::{layer_name, process_type};
use libcnb::detect::{DetectContext, DetectResult, DetectResultBuilder};
use libcnb::generic::{GenericMetadata, GenericPlatform};
use libcnb::{Buildpack, buildpack_main};

/// The server, in the buildpack's folder.
const SERVER: &str = "bin/static-server";

/// The folder that is served when there is one.
const PUBLIC: &str = "public";

struct StaticSite;

impl Buildpack for StaticSite {
    type Platform = GenericPlatform;
    type Metadata = GenericMetadata;
    type Error = std::io::Error;

    fn detect(&self, context: DetectContext<Self>) -> libcnb::Result<DetectResult, Self::Error> {
        if root_of(&context.app_dir).is_some() {
            return DetectResultBuilder::pass().build();
        }
        say("no index.html and no folder 'public'");
        DetectResultBuilder::fail().build()
    }

    fn build(&self, context: BuildContext<Self>) -> libcnb::Result<BuildResult, Self::Error> {
        let root = root_of(&context.app_dir).unwrap_or(".");
        let shown = if root == "." { "the app folder" } else { root };
        say(&format!("serving {shown} on $PORT (8080 when not set)"));
        program_layer::contribute(&context, layer_name!("server"), SERVER)?;
        let web =
            ProcessBuilder::new(process_type!("web"), ["static-server"]).arg(root).default(true).build();
        BuildResultBuilder::new().launch(LaunchBuilder::new().process(web).build()).build()
    }

    fn on_error(&self, error: libcnb::Error<Self::Error>) {
        say(&format!("error: {error}"));
    }
}

/// The folder to serve, relative to the app.
fn root_of(app: &Path) -> Option<&'static str> {
    if app.join(PUBLIC).is_dir() {
        Some(PUBLIC)
    } else if app.join("index.html").is_file() {
        Some(".")
    } else {
        None
    }
}

fn say(line: &str) {
    // Nobody is left to tell when the stream is gone.
    let _ = std::io::stdout().write_all(format!("{line}\n").as_bytes());
}

buildpack_main!(StaticSite);
