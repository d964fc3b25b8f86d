//! Extensions out of a few lines, and builders with them.

use testkit::{Base, Builder, Buildpack, Machine};

use crate::support::*;

/// An extension with what it generates in it: instructions for the build image, for the run image, both as root, with
/// the image's user put back. Empty text is no Dockerfile.
pub fn extension(id: &str, build: &str, run: &str) -> Buildpack {
    let extension = Buildpack::extension(id, "1.0.0");
    let extension = match build {
        "" => extension,
        text => extension.file("generate/build.Dockerfile", 0o644, as_root(text)),
    };
    match run {
        "" => extension,
        text => extension.file("generate/run.Dockerfile", 0o644, as_root(text)),
    }
}

/// A Dockerfile of these instructions as root, with the image's user put back.
pub fn as_root(instructions: &str) -> String {
    format!(
        "ARG base_image\nFROM ${{base_image}}\nARG user_id\nARG group_id\nUSER root\n{instructions}\nUSER \
         ${{user_id}}:${{group_id}}\n"
    )
}

/// An extension with exactly this file in what it generates.
pub fn exactly(name: &str, text: &str) -> Buildpack {
    Buildpack::extension("test/ext", "1.0.0").file(&format!("generate/{name}"), 0o644, text)
}

/// A builder on the small base whose group has these extensions and buildpacks.
pub fn extended_builder(extensions: &[Buildpack], buildpacks: &[Buildpack]) -> Builder {
    let ids: Vec<&str> = extensions.iter().map(Buildpack::id).collect();
    let builder = Builder::of(Base::Small, buildpacks).extension_group(&ids);
    extensions.iter().cloned().fold(builder, Builder::extension)
}

/// Writes such a builder where the machine's person can read it, and returns its name.
pub fn with_extensions(machine: &Machine, extensions: &[Buildpack], buildpacks: &[Buildpack]) -> String {
    builder(machine, &extended_builder(extensions, buildpacks))
}
