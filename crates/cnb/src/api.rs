//! Platform and Buildpack API versions (platform.md and buildpack.md, "API Version").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A version of one of the two APIs: two numbers, compared as numbers (0.9 is older than 0.10).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ApiVersion {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl ApiVersion {
    /// The newest Platform API that we speak.
    pub const PLATFORM_LATEST: Self = Self::new(0, 15);
    /// The oldest Platform API that we speak.
    pub const PLATFORM_OLDEST: Self = Self::new(0, 7);
    /// The newest Buildpack API that we speak.
    pub const BUILDPACK_LATEST: Self = Self::new(0, 12);
    /// The oldest Buildpack API that we speak.
    pub const BUILDPACK_OLDEST: Self = Self::new(0, 7);

    /// `major.minor`.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// True when this is not older than 0.`minor`.
    pub const fn at_least(self, minor: u32) -> bool {
        self.major > 0 || self.minor >= minor
    }

    /// True when a platform may ask for this Platform API.
    pub fn is_supported_platform(self) -> bool {
        (Self::PLATFORM_OLDEST..=Self::PLATFORM_LATEST).contains(&self)
    }

    /// True when a buildpack or extension may be written for this Buildpack API.
    pub fn is_supported_buildpack(self) -> bool {
        (Self::BUILDPACK_OLDEST..=Self::BUILDPACK_LATEST).contains(&self)
    }

    /// All supported versions of the Platform API, oldest first.
    pub fn supported_platform() -> impl Iterator<Item = Self> {
        (Self::PLATFORM_OLDEST.minor..=Self::PLATFORM_LATEST.minor).map(|minor| Self::new(0, minor))
    }

    /// All supported versions of the Buildpack API, oldest first.
    pub fn supported_buildpack() -> impl Iterator<Item = Self> {
        (Self::BUILDPACK_OLDEST.minor..=Self::BUILDPACK_LATEST.minor).map(|minor| Self::new(0, minor))
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.major, self.minor)
    }
}

/// A text that is no API version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidApiVersion(String);

impl fmt::Display for InvalidApiVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "'{}' is not an API version like \"0.10\"", self.0)
    }
}

impl std::error::Error for InvalidApiVersion {}

impl FromStr for ApiVersion {
    type Err = InvalidApiVersion;

    /// Reads `0.10`; a leading `v` and a missing minor number are taken too, as the reference takes them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |digits: &str| {
            (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| digits.parse().ok())
                .flatten()
        };
        let bare = text.strip_prefix('v').unwrap_or(text);
        let (major, minor) = bare.split_once('.').unwrap_or((bare, ""));
        let minor = if minor.is_empty() { Some(0) } else { number(minor) };
        match (number(major), minor) {
            (Some(major), Some(minor)) => Ok(Self { major, minor }),
            _ => Err(InvalidApiVersion(text.to_owned())),
        }
    }
}

impl Serialize for ApiVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ApiVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_as_numbers() {
        let version = |text: &str| text.parse::<ApiVersion>().unwrap();
        assert!(version("0.9") < version("0.10"));
        assert!(version("0.10").at_least(9) && !version("0.8").at_least(9) && version("1.0").at_least(9));
    }

    #[test]
    fn the_forms_of_the_reference_are_read() {
        for (text, major, minor) in [("0.7", 0, 7), ("v0.7", 0, 7), ("1", 1, 0), ("1.", 1, 0)] {
            assert_eq!(text.parse(), Ok(ApiVersion::new(major, minor)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "v", ".", ".7", "0.7.1", "0.-7", "0.+7", " 0.7", "0.7 ", "x", "99999999999.1"] {
            assert!(text.parse::<ApiVersion>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn supported_is_what_is_listed() {
        assert_eq!(ApiVersion::supported_platform().count(), 9);
        assert_eq!(ApiVersion::supported_buildpack().count(), 6);
        assert!(ApiVersion::supported_platform().all(ApiVersion::is_supported_platform));
        assert!(ApiVersion::supported_buildpack().all(ApiVersion::is_supported_buildpack));
        for (text, supported) in
            [("0.6", false), ("0.7", true), ("0.12", true), ("0.13", false), ("1.0", false)]
        {
            assert_eq!(text.parse::<ApiVersion>().unwrap().is_supported_buildpack(), supported, "{text}");
        }
    }
}
