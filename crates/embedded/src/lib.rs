//! What is inside the program: the launcher, which goes into every app image, and the parts of the default builder,
//! with which the first image needs neither a network nor a registry.
//!
//! Bytes and values only. Making images of them is the platform's work, building the programs the build script's.
//!
//! | module | what lives there |
//! |---|---|
//! | [`builder`] | the default builder: its two images as layers and settings |
//! | [`tree`] | files in memory |

pub mod builder;
pub mod tree;

pub use builder::{DefaultBuilder, ImageParts, LayerParts, default_builder};
pub use tree::{Content, Entry, Tree};

/// The launcher: a static Linux program for the machine type that this crate was compiled for.
pub fn launcher() -> &'static [u8] {
    include_bytes!(concat!(env!("PANNIER_EMBEDDED"), "/pannier-launcher"))
}

/// A text that changes whenever anything of the default builder changes: hexadecimal, fit for a tag.
///
/// An image under a tag with this text in it need not be made again.
pub fn fingerprint() -> &'static str {
    env!("PANNIER_EMBEDDED_FINGERPRINT")
}

/// The machine type of everything embedded, in OCI's terms (`amd64`, `arm64`, …).
pub const fn architecture() -> &'static str {
    if cfg!(target_arch = "x86_64") {
        "amd64"
    } else if cfg!(target_arch = "aarch64") {
        "arm64"
    } else if cfg!(target_arch = "x86") {
        "386"
    } else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
        "ppc64le"
    } else if cfg!(target_arch = "powerpc64") {
        "ppc64"
    } else {
        // arm, riscv64, s390x, loongarch64: the same name.
        std::env::consts::ARCH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_launcher_is_a_small_static_program() {
        let launcher = launcher();
        assert!(launcher.starts_with(b"\x7fELF"));
        assert!(!has_loader(launcher), "a static program asks for no loader");
        // Linked with glibc, because the toolchain has no musl, it is larger; the build has warned.
        let limit = if env!("PANNIER_EMBEDDED_LIBC") == "gnu" { 1792 } else { 1024 };
        assert!(launcher.len() <= limit << 10, "{} bytes", launcher.len());
    }

    #[test]
    fn nothing_embedded_names_a_folder_of_this_machine() {
        let workspace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let workspace = workspace.to_str().unwrap().as_bytes();
        let builder = default_builder();
        let files = builder.build_image.layers.iter().flat_map(|layer| &layer.tree.entries);
        let contents = files.filter_map(|entry| match &entry.content {
            Content::File(content) => Some(&**content),
            _ => None,
        });
        for content in contents.chain([launcher()]) {
            assert!(!content.windows(workspace.len()).any(|window| window == workspace));
        }
    }

    #[test]
    fn the_fingerprint_is_fit_for_a_tag() {
        assert!(fingerprint().len() == 16 && fingerprint().bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    /// True when an ELF file has a PT_INTERP header: its name begins with a slash and has `ld` in it.
    fn has_loader(program: &[u8]) -> bool {
        [b"/ld-linux".as_slice(), b"/ld-musl", b"/ld64.so"]
            .iter()
            .any(|name| program[..8192].windows(name.len()).any(|window| window == *name))
    }
}
