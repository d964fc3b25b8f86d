//! Processes, and what the launcher reads of `<layers>/config/metadata.toml` (platform.md, "launcher").
//!
//! The whole of that file, and writing it, is another module: the launcher, which is in every app image, reads
//! only this much.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::{ApiVersion, ParseError, error};

/// Environment variables of the lifecycle that a process never sees.
pub const HIDDEN_VARIABLES: [&str; 5] =
    ["CNB_LAYERS_DIR", "CNB_APP_DIR", "CNB_PROCESS_TYPE", "CNB_PLATFORM_API", "CNB_DEPRECATION_MODE"];

/// A process that an app image can start.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case", default)]
pub struct Process {
    /// Its name, `/cnb/process/<type>`.
    pub r#type: String,
    /// The program, and arguments that a user can not replace. Written as one text in old files: then one entry.
    #[serde(deserialize_with = "one_or_many")]
    pub command: Vec<String>,
    /// Arguments after those of the command. An empty list and no list differ in what is written.
    pub args: Option<Vec<String>>,
    /// True when no shell stands between.
    pub direct: bool,
    /// True when the buildpack wants this to be what an image starts by itself. Not in `metadata.toml`.
    #[serde(rename = "default")]
    pub is_default: bool,
    /// The buildpack that defined it.
    pub buildpack_id: String,
    /// Where it starts; empty for the app folder.
    pub working_dir: String,
    /// Execution environments that it is for; none or `*` for all.
    pub exec_env: Vec<String>,
}

impl Process {
    /// The arguments, none when there is no list.
    pub fn args(&self) -> &[String] {
        self.args.as_deref().unwrap_or_default()
    }

    /// True when it may start in this execution environment. Platforms before 0.15 do not know of them.
    pub fn is_eligible(&self, platform: ApiVersion, exec_env: &str) -> bool {
        !platform.at_least(15) || matches_exec_env(&self.exec_env, exec_env)
    }
}

/// True when a list of execution environments has this one: an empty list and `*` mean all of them.
pub fn matches_exec_env(list: &[String], exec_env: &str) -> bool {
    list.is_empty() || list.iter().any(|entry| entry == "*" || entry == exec_env)
}

/// The folder name of a buildpack's or extension's id: `/` becomes `_`.
pub fn escape_id(id: &str) -> String {
    id.replace('/', "_")
}

/// A buildpack as the launcher knows it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct LaunchBuildpack {
    /// Its id.
    pub id: String,
    /// The Buildpack API that it was written for.
    pub api: ApiVersion,
}

/// What the launcher reads of `metadata.toml`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case", default)]
pub struct LaunchMetadata {
    /// The buildpacks that built the app, in the order of the group.
    pub buildpacks: Vec<LaunchBuildpack>,
    /// The processes, sorted by type.
    pub processes: Vec<Process>,
}

impl LaunchMetadata {
    /// Reads the text of `metadata.toml`; `file` is how errors name it.
    ///
    /// # Errors
    /// Text that is not TOML, or not of this shape.
    pub fn parse(file: &str, text: &str) -> Result<Self, ParseError> {
        error::from_toml(file, text)
    }

    /// The process of this type.
    pub fn process(&self, r#type: &str) -> Option<&Process> {
        self.processes.iter().find(|process| process.r#type == r#type)
    }
}

/// Reads a text or a list of texts as a list.
pub(crate) fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct OneOrMany;

    impl<'de> Visitor<'de> for OneOrMany {
        type Value = Vec<String>;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("a string or an array of strings")
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(vec![text.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = list.next_element()? {
                entries.push(entry);
            }
            Ok(entries)
        }
    }

    deserializer.deserialize_any(OneOrMany)
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"
        buildpack-default-process-type = "web"
        [[buildpacks]]
          id = "some/buildpack"
          version = "0.0.1"
          api = "0.9"
        [[processes]]
          type = "old"
          command = "run me"
          direct = false
          buildpack-id = "some/buildpack"
        [[processes]]
          type = "web"
          command = ["serve", "--fast"]
          args = ["--port", "80"]
          direct = true
          buildpack-id = "some/buildpack"
          working-dir = "/srv"
          exec-env = ["production"]
        [[slices]]
          paths = ["a"]
    "#;

    #[test]
    fn a_command_is_a_text_or_a_list() {
        let metadata = LaunchMetadata::parse("metadata.toml", METADATA).unwrap();
        assert_eq!(
            metadata.buildpacks,
            [LaunchBuildpack { id: "some/buildpack".into(), api: ApiVersion::new(0, 9) }]
        );
        let old = metadata.process("old").unwrap();
        assert_eq!((old.command.as_slice(), old.args()), (["run me".to_owned()].as_slice(), [].as_slice()));
        let web = metadata.process("web").unwrap();
        assert_eq!(web.command, ["serve", "--fast"]);
        assert_eq!(web.args(), ["--port", "80"]);
        assert!(web.direct && !old.direct);
        assert_eq!(web.working_dir, "/srv");
        assert!(metadata.process("nope").is_none());
    }

    #[test]
    fn a_command_of_another_kind_is_an_error_with_its_place() {
        let error = LaunchMetadata::parse("m.toml", "[[processes]]\ncommand = 3\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "m.toml:2:11: invalid type: integer `3`, expected a string or an array of strings"
        );
    }

    #[test]
    fn execution_environments_filter_only_where_the_platform_knows_them() {
        let process = |list: &[&str]| Process {
            exec_env: list.iter().map(|text| (*text).to_owned()).collect(),
            ..Process::default()
        };
        let (new, old) = (ApiVersion::new(0, 15), ApiVersion::new(0, 14));
        assert!(process(&[]).is_eligible(new, "test"));
        assert!(process(&["*"]).is_eligible(new, "test"));
        assert!(process(&["test", "production"]).is_eligible(new, "test"));
        assert!(!process(&["production"]).is_eligible(new, "test"));
        assert!(process(&["production"]).is_eligible(old, "test"));
    }

    #[test]
    fn ids_become_folder_names() {
        assert_eq!(escape_id("a/b/c@1"), "a_b_c@1");
    }
}
