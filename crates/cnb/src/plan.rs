//! What buildpacks provide and require: the build plan of `bin/detect`, `plan.toml`, and the buildpack plan of
//! `bin/build` (buildpack.md, "Build Plan", "Buildpack Plan"; platform.md, `plan.toml`).

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use toml::value::Table;

use crate::encode::{Fields, Node};
use crate::group::{GroupElement, Kind};
use crate::{ParseError, error, table};

/// Something that a buildpack or extension can provide.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Provide {
    /// Its name.
    pub name: String,
}

/// Something that a buildpack needs.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Require {
    /// Its name.
    pub name: String,
    /// Only in files of old buildpacks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// What the buildpack wants to say to the one that provides it.
    #[serde(default, deserialize_with = "table::deserialize", serialize_with = "table::serialize")]
    pub metadata: Option<Table>,
}

impl Require {
    pub(crate) fn fields(&self) -> Fields {
        Fields::new()
            .with("name", self.name.as_str())
            .text("version", &self.version)
            .maybe("metadata", self.metadata.as_ref())
    }
}

impl From<Require> for Node {
    fn from(require: Require) -> Self {
        require.fields().into()
    }
}

/// One alternative of a build plan.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct PlanSection {
    /// What is provided if someone wants it.
    pub provides: Vec<Provide>,
    /// What is needed.
    pub requires: Vec<Require>,
}

/// What `bin/detect` writes.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct BuildPlan {
    /// What is provided if someone wants it.
    pub provides: Vec<Provide>,
    /// What is needed.
    pub requires: Vec<Require>,
    /// Alternatives, tried in this order when the first does not fit.
    pub or: Vec<PlanSection>,
}

impl BuildPlan {
    /// Reads the build plan of a buildpack or an extension. An empty file is an empty plan.
    ///
    /// # Errors
    /// Text that is not TOML or not of this shape; a requirement with a version of its own; an extension that requires
    /// something.
    pub fn parse(kind: Kind, file: &str, text: &str) -> Result<Self, ParseError> {
        let plan: Self = error::from_toml(file, text)?;
        for require in plan.sections().flat_map(|(_, requires)| requires) {
            if !require.version.is_empty() {
                let message = format!(
                    "requirement '{}' has the key 'version', which is not supported: 'metadata.version' was expected",
                    require.name
                );
                return Err(ParseError::new(file, message));
            }
            if kind == Kind::Extension {
                let message =
                    format!("an extension can not require anything, but requires '{}'", require.name);
                return Err(ParseError::new(file, message));
            }
        }
        Ok(plan)
    }

    /// The alternatives in the order in which they are tried: provides and requires of each.
    pub fn sections(&self) -> impl Iterator<Item = (&[Provide], &[Require])> {
        let first = (self.provides.as_slice(), self.requires.as_slice());
        let others = self.or.iter().map(|section| (section.provides.as_slice(), section.requires.as_slice()));
        std::iter::once(first).chain(others)
    }
}

/// An entry of `plan.toml`: who may provide something, and for whom.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct PlanEntry {
    /// Who provides it, in the order of the group.
    pub providers: Vec<GroupElement>,
    /// Who needs it, and what for.
    pub requires: Vec<Require>,
}

impl From<PlanEntry> for Node {
    fn from(entry: PlanEntry) -> Self {
        Fields::new().list("providers", &entry.providers).list("requires", &entry.requires).into()
    }
}

/// `plan.toml`: what the detector found out.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Plan {
    /// One entry for each name.
    pub entries: Vec<PlanEntry>,
}

impl Plan {
    /// Reads the text of `plan.toml`.
    ///
    /// # Errors
    /// Text that is not TOML, or not of this shape.
    pub fn parse(file: &str, text: &str) -> Result<Self, ParseError> {
        error::from_toml(file, text)
    }

    /// The text of `plan.toml`.
    pub fn to_toml(&self) -> String {
        Fields::new().list("entries", &self.entries).to_toml()
    }

    /// What is asked of one buildpack or extension.
    pub fn of(&self, kind: Kind, id: &str) -> BuildpackPlan {
        let asked = |entry: &&PlanEntry| {
            entry
                .providers
                .iter()
                .any(|provider| provider.id == id && provider.extension == (kind == Kind::Extension))
        };
        BuildpackPlan {
            entries: self.entries.iter().filter(asked).flat_map(|entry| entry.requires.clone()).collect(),
        }
    }

    /// Takes away what a buildpack was asked for and did not say to be unmet: later buildpacks are not asked again.
    pub fn remove_met(&mut self, plan: &BuildpackPlan, unmet: &[Unmet]) {
        let mut met: HashSet<&str> = plan.entries.iter().map(|entry| entry.name.as_str()).collect();
        for unmet in unmet {
            met.remove(unmet.name.as_str());
        }
        let is_met = |name: &str| met.contains(name);
        self.entries.retain(|entry| !entry.requires.iter().any(|require| is_met(&require.name)));
    }
}

/// What one buildpack is asked for: the file at `CNB_BP_PLAN_PATH`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct BuildpackPlan {
    /// The requirements.
    pub entries: Vec<Require>,
}

impl BuildpackPlan {
    /// The text of the file.
    pub fn to_toml(&self) -> String {
        Fields::new().list("entries", &self.entries).to_toml()
    }
}

/// An entry of `build.toml`: a requirement that the buildpack left to the next one.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub struct Unmet {
    /// Its name.
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternatives_are_read_in_their_order() {
        let plan = BuildPlan::parse(
            Kind::Buildpack,
            "plan.toml",
            r#"
            [[provides]]
            name = "a"
            [[requires]]
            name = "b"
            [requires.metadata]
            version = 3
            since = 1979-05-27
            [[or]]
            [[or.requires]]
            name = "c"
            [[or]]
            "#,
        )
        .unwrap();
        let names: Vec<_> = plan
            .sections()
            .map(|(provides, requires)| {
                (
                    provides.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(),
                    requires.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(),
                )
            })
            .collect();
        assert_eq!(names, [(vec!["a"], vec!["b"]), (vec![], vec!["c"]), (vec![], vec![])]);
        assert_eq!(plan.requires[0].metadata.as_ref().unwrap()["version"].as_integer(), Some(3));
        assert!(plan.requires[0].metadata.as_ref().unwrap()["since"].is_datetime());
        assert_eq!(BuildPlan::parse(Kind::Buildpack, "plan.toml", "").unwrap(), BuildPlan::default());
    }

    #[test]
    fn what_is_not_allowed_is_refused() {
        let text = "[[or]]\n[[or.requires]]\nname = \"x\"\nversion = \"1\"\n";
        let error = BuildPlan::parse(Kind::Buildpack, "plan.toml", text).unwrap_err();
        assert!(error.message.contains("'metadata.version' was expected"), "{error}");
        let error =
            BuildPlan::parse(Kind::Extension, "plan.toml", "[[requires]]\nname = \"x\"\n").unwrap_err();
        assert!(error.message.contains("requires 'x'"), "{error}");
    }

    const PLAN: &str = r#"[[entries]]

  [[entries.providers]]
    id = "a"
    version = "1"

  [[entries.providers]]
    id = "b"
    version = "1"

  [[entries.requires]]
    name = "node"
    [entries.requires.metadata]
      version = 18

  [[entries.requires]]
    name = "node"

[[entries]]

  [[entries.providers]]
    id = "a"
    version = "1"
    extension = true

  [[entries.requires]]
    name = "curl"
"#;

    #[test]
    fn a_plan_is_read_and_written() {
        assert_eq!(Plan::parse("plan.toml", PLAN).unwrap().to_toml(), PLAN);
        assert_eq!(Plan::default().to_toml(), "");
    }

    #[test]
    fn a_buildpack_is_asked_for_what_it_provides_until_it_is_met() {
        let mut plan = Plan::parse("plan.toml", PLAN).unwrap();
        let asked = plan.of(Kind::Buildpack, "a");
        assert_eq!(
            asked.to_toml(),
            "[[entries]]\n  name = \"node\"\n  [entries.metadata]\n    version = 18\n\n[[entries]]\n  name = \"node\"\n"
        );
        assert_eq!(plan.of(Kind::Extension, "a").entries[0].name, "curl");
        let unmet = [Unmet { name: "node".into() }];
        plan.remove_met(&asked, &unmet);
        assert_eq!(plan.of(Kind::Buildpack, "b").entries.len(), 2);
        plan.remove_met(&asked, &[]);
        assert_eq!(plan.of(Kind::Buildpack, "b").entries.len(), 0);
        assert_eq!(plan.entries.len(), 1);
    }
}
