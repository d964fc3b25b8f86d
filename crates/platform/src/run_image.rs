//! Which image the app will run on: the user's choice, or the builder's, or one of its mirrors.
//!
//! Not here: reading that image.

/// A run image that a builder knows, with the other places it can be had from (platform.md, "run.toml").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunImage {
    /// Its name.
    pub image: String,
    /// Names of the same image elsewhere.
    pub mirrors: Vec<String>,
}

/// The names to try, best first.
///
/// Mirrors that the user configured come before the builder's. Where the image will be pushed to a registry,
/// names in that registry come first, because layers then never travel.
pub fn candidates(run_images: &[RunImage], user_mirrors: &[RunImage], registry: Option<&str>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for run_image in run_images {
        let configured = user_mirrors.iter().filter(|mirror| mirror.image == run_image.image);
        let all = configured
            .flat_map(|mirror| &mirror.mirrors)
            .chain(std::iter::once(&run_image.image))
            .chain(&run_image.mirrors);
        for name in all {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    if let Some(registry) = registry {
        // Stable: the order within each half stays.
        names.sort_by_key(|name| registry_of(name).as_deref() != Some(registry));
    }
    names
}

/// The builder's entry that `name` is the image or a mirror of: what the image's metadata says it runs on.
pub fn entry_of<'a>(run_images: &'a [RunImage], name: &str) -> Option<&'a RunImage> {
    let same = |other: &str| normal(other) == normal(name);
    run_images.iter().find(|run_image| same(&run_image.image) || run_image.mirrors.iter().any(|m| same(m)))
}

/// The builder's entry whose image itself is called `name`.
pub fn named<'a>(run_images: &'a [RunImage], name: &str) -> Option<&'a RunImage> {
    run_images.iter().find(|run_image| normal(&run_image.image) == normal(name))
}

fn registry_of(name: &str) -> Option<String> {
    name.parse::<oci::Reference>().ok().map(|reference| reference.registry().to_owned())
}

fn normal(name: &str) -> String {
    name.parse::<oci::Reference>().map_or_else(|_| name.to_owned(), |reference| reference.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_image(image: &str, mirrors: &[&str]) -> RunImage {
        RunImage { image: image.to_owned(), mirrors: mirrors.iter().map(|m| (*m).to_owned()).collect() }
    }

    #[test]
    fn configured_mirrors_come_first() {
        let builder = [run_image("a/run", &["m.io/run"])];
        let user = [run_image("a/run", &["mine.io/run"])];
        assert_eq!(candidates(&builder, &user, None), ["mine.io/run", "a/run", "m.io/run"]);
    }

    #[test]
    fn the_registry_of_the_image_comes_before_all() {
        let builder = [run_image("a/run", &["m.io/run"]), run_image("x.io/other", &[])];
        assert_eq!(candidates(&builder, &[], Some("m.io")), ["m.io/run", "a/run", "x.io/other"]);
    }

    #[test]
    fn a_mirror_belongs_to_its_image() {
        let builder = [run_image("a/run", &["m.io/run"])];
        assert_eq!(entry_of(&builder, "m.io/run:latest").unwrap().image, "a/run");
        assert_eq!(entry_of(&builder, "docker.io/a/run").unwrap().image, "a/run");
        assert_eq!(entry_of(&builder, "b/run"), None);
        assert_eq!(named(&builder, "docker.io/a/run:latest").unwrap().mirrors, ["m.io/run"]);
        assert_eq!(named(&builder, "m.io/run"), None);
    }
}
