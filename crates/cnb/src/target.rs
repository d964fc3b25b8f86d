//! What a base image is and what a buildpack runs on (buildpack.md, "Targets"; platform.md, "Target data").

use serde::{Deserialize, Serialize};

use crate::encode::{Fields, Node};

/// A distribution of an operating system: `ID` and `VERSION_ID` of `/etc/os-release`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Distro {
    /// Its name, such as `ubuntu`.
    pub name: String,
    /// Its version, such as `24.04`.
    pub version: String,
}

impl From<Distro> for Node {
    fn from(distro: Distro) -> Self {
        Fields::new().with("name", distro.name).with("version", distro.version).into()
    }
}

impl Distro {
    /// The distribution that the text of `/etc/os-release` names, if it names one.
    pub fn from_os_release(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.lines()
                .filter_map(|line| line.trim().split_once('='))
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.trim().trim_matches(['"', '\'']).to_owned())
                .unwrap_or_default()
        };
        let distro = Self { name: field("ID"), version: field("VERSION_ID") };
        (distro != Self::default()).then_some(distro)
    }
}

/// What a buildpack says that it runs on. Empty fields match anything.
///
/// `variant` is the specification's name, `arch-variant` the one that the reference reads: both are taken.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Target {
    /// Operating system, as in an image's configuration.
    pub os: String,
    /// Architecture, as in an image's configuration.
    pub arch: String,
    /// Variant of the architecture.
    #[serde(alias = "arch-variant", skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Distributions, of which one has to match where there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub distros: Vec<Distro>,
}

impl Target {
    /// True when a base image is one of those that this means. What either side leaves out matches, but a list of
    /// distributions needs a base image whose distribution is known.
    pub fn matches(&self, base: &TargetMetadata) -> bool {
        let same = |left: &str, right: &str| left.is_empty() || right.is_empty() || left == right;
        let distro = || {
            base.distro.as_ref().is_some_and(|base| {
                self.distros
                    .iter()
                    .any(|distro| same(&distro.name, &base.name) && same(&distro.version, &base.version))
            })
        };
        same(&self.os, &base.os)
            && same(&self.arch, &base.arch)
            && same(&self.variant, &base.variant)
            && (self.distros.is_empty() || distro())
    }
}

/// What a base image says of itself: `run-image.target` of `analyzed.toml`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct TargetMetadata {
    /// The label `io.buildpacks.base.id`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Operating system.
    pub os: String,
    /// Architecture.
    pub arch: String,
    /// Variant of the architecture.
    #[serde(rename = "arch-variant", alias = "variant", skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Distribution, from the labels `io.buildpacks.base.distro.*` or else `/etc/os-release`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distro: Option<Distro>,
}

impl TargetMetadata {
    /// The variables `CNB_TARGET_*` for buildpacks (Buildpack API 0.10 and newer). What is not known is left out, but
    /// for the operating system and the architecture.
    pub fn variables(&self) -> Vec<(&'static str, &str)> {
        let (name, version) =
            self.distro.as_ref().map_or(("", ""), |distro| (distro.name.as_str(), distro.version.as_str()));
        let optional = [
            ("CNB_TARGET_ARCH_VARIANT", self.variant.as_str()),
            ("CNB_TARGET_DISTRO_NAME", name),
            ("CNB_TARGET_DISTRO_VERSION", version),
        ];
        let mut variables =
            vec![("CNB_TARGET_OS", self.os.as_str()), ("CNB_TARGET_ARCH", self.arch.as_str())];
        variables.extend(optional.into_iter().filter(|(_, value)| !value.is_empty()));
        variables
    }
}

impl From<TargetMetadata> for Node {
    fn from(target: TargetMetadata) -> Self {
        Fields::new()
            .text("id", &target.id)
            .with("os", target.os)
            .with("arch", target.arch)
            .text("arch-variant", &target.variant)
            .maybe("distro", target.distro)
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(os: &str, arch: &str, distro: Option<(&str, &str)>) -> TargetMetadata {
        TargetMetadata {
            os: os.into(),
            arch: arch.into(),
            distro: distro.map(|(name, version)| Distro { name: name.into(), version: version.into() }),
            ..TargetMetadata::default()
        }
    }

    fn target(os: &str, arch: &str, distros: &[(&str, &str)]) -> Target {
        Target {
            os: os.into(),
            arch: arch.into(),
            distros: distros
                .iter()
                .map(|(name, version)| Distro { name: (*name).into(), version: (*version).into() })
                .collect(),
            ..Target::default()
        }
    }

    #[test]
    fn what_is_left_out_matches() {
        let ubuntu = base("linux", "amd64", Some(("ubuntu", "24.04")));
        for (target, matches) in [
            (target("", "", &[]), true),
            (target("linux", "", &[]), true),
            (target("linux", "arm64", &[]), false),
            (target("windows", "", &[]), false),
            (target("linux", "amd64", &[("ubuntu", "22.04"), ("ubuntu", "24.04")]), true),
            (target("linux", "amd64", &[("ubuntu", "22.04")]), false),
            (target("linux", "amd64", &[("ubuntu", "")]), true),
            (target("linux", "amd64", &[("debian", "24.04")]), false),
        ] {
            assert_eq!(target.matches(&ubuntu), matches, "{target:?}");
        }
        assert!(!target("linux", "", &[("ubuntu", "")]).matches(&base("linux", "amd64", None)));
        assert!(target("linux", "amd64", &[]).matches(&base("linux", "", None)));
    }

    #[test]
    fn both_names_of_the_variant_are_read() {
        for text in ["variant = \"v7\"", "arch-variant = \"v7\""] {
            assert_eq!(toml::from_str::<Target>(text).unwrap().variant, "v7", "{text}");
            assert_eq!(toml::from_str::<TargetMetadata>(text).unwrap().variant, "v7", "{text}");
        }
    }

    #[test]
    fn buildpacks_are_told_what_is_known() {
        let known = base("linux", "amd64", Some(("debian", "")));
        assert_eq!(
            known.variables(),
            [("CNB_TARGET_OS", "linux"), ("CNB_TARGET_ARCH", "amd64"), ("CNB_TARGET_DISTRO_NAME", "debian")]
        );
    }

    #[test]
    fn os_release_names_the_distribution() {
        let text = "PRETTY_NAME=\"Debian 12\"\nVERSION_ID=\"12\"\nID=debian\nID_LIKE=x\n";
        assert_eq!(
            Distro::from_os_release(text),
            Some(Distro { name: "debian".into(), version: "12".into() })
        );
        assert_eq!(Distro::from_os_release("NAME=x\n"), None);
    }
}
