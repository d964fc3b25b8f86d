//! The result of a build: `config/metadata.toml` and the label `io.buildpacks.build.metadata` (platform.md).

use serde::{Deserialize, Serialize, Serializer};

use crate::encode::{Fields, Node, to_json};
use crate::group::GroupElement;
use crate::label::null_is_default;
use crate::launch::{Process, one_or_many};
use crate::output::{BomEntry, Label, Slice};
use crate::{ApiVersion, ParseError, error};

/// What a build made, beside layers.
///
/// Read from and written to `<layers>/config/metadata.toml`, and written as a label. How commands are written depends
/// on the Platform API: from 0.10 on a list, before one text, with the rest of the list moved to the arguments.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case", default)]
pub struct BuildMetadata {
    /// The old bill of materials; empty from Platform API 0.9 on.
    pub bom: Vec<BomEntry>,
    /// The buildpacks, in the order of the group.
    pub buildpacks: Vec<GroupElement>,
    /// The extensions, in the order of the group.
    pub extensions: Vec<GroupElement>,
    /// Labels, in the order of the group: of two with the same name the last one counts.
    pub labels: Vec<Label>,
    /// Processes, sorted by type.
    pub processes: Vec<Process>,
    /// Slices, in the order of the group.
    pub slices: Vec<Slice>,
    /// The process that the image starts by itself, if the buildpacks chose one.
    pub buildpack_default_process_type: String,
}

/// The program that starts processes, as the label names it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct LauncherMetadata {
    /// Its version.
    pub version: String,
    /// Its source.
    pub source: LauncherSource,
}

/// Where a launcher's source is.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct LauncherSource {
    /// In git.
    pub git: GitSource,
}

/// A place in git.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct GitSource {
    /// The repository.
    pub repository: String,
    /// The commit.
    pub commit: String,
}

impl BuildMetadata {
    /// Reads the text of `metadata.toml`.
    ///
    /// # Errors
    /// Text that is not TOML, or not of this shape.
    pub fn parse(file: &str, text: &str) -> Result<Self, ParseError> {
        error::from_toml(file, text)
    }

    /// The text of `metadata.toml`.
    pub fn to_toml(&self, platform: ApiVersion) -> String {
        let processes: Vec<Node> =
            self.processes.iter().map(|process| process_node(process, platform)).collect();
        Fields::new()
            .list("bom", &self.bom)
            .maybe("buildpacks", (!self.buildpacks.is_empty()).then(|| self.buildpacks.clone()))
            .list("extensions", &self.extensions)
            .maybe("labels", (!self.labels.is_empty()).then(|| self.labels.clone()))
            .with("processes", Node::Array(processes))
            .maybe("slices", (!self.slices.is_empty()).then(|| self.slices.clone()))
            .text("buildpack-default-process-type", &self.buildpack_default_process_type)
            .to_toml()
    }

    /// The label `io.buildpacks.build.metadata`, as the reference writes it.
    pub fn to_json(&self, launcher: &LauncherMetadata, platform: ApiVersion) -> String {
        to_json(&BuildLabelOut {
            bom: (!platform.at_least(9)).then(|| (!self.bom.is_empty()).then_some(self.bom.as_slice())),
            buildpacks: (!self.buildpacks.is_empty()).then_some(&self.buildpacks),
            extensions: &self.extensions,
            launcher,
            processes: self.processes.iter().map(|process| ProcessOut::new(process, platform)).collect(),
            default_process_type: &self.buildpack_default_process_type,
        })
    }
}

/// The command and arguments as this Platform API has them.
fn command_and_args(process: &Process, platform: ApiVersion) -> (&[String], Option<Vec<String>>) {
    match process.command.as_slice() {
        [first, rest @ ..] if !platform.at_least(10) => {
            let args = rest.iter().chain(process.args()).cloned().collect();
            (std::slice::from_ref(first), Some(args))
        }
        command => (command, process.args.clone()),
    }
}

fn process_node(process: &Process, platform: ApiVersion) -> Node {
    let (command, args) = command_and_args(process, platform);
    // The reference writes commands with its JSON writer, which escapes more than TOML asks for.
    let entries: Vec<_> = command.iter().map(to_json).collect();
    let command = if platform.at_least(10) {
        format!("[{}]", entries.join(", "))
    } else {
        entries.into_iter().next().unwrap_or_else(|| "\"\"".to_owned())
    };
    Fields::new()
        .with("type", process.r#type.as_str())
        .with("command", Node::Raw(command))
        .maybe("args", args)
        .with("direct", process.direct)
        .with("buildpack-id", process.buildpack_id.as_str())
        .text("working-dir", &process.working_dir)
        .list("exec-env", &process.exec_env)
        .into()
}

#[derive(Serialize)]
struct BuildLabelOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    bom: Option<Option<&'a [BomEntry]>>,
    buildpacks: Option<&'a Vec<GroupElement>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    extensions: &'a [GroupElement],
    launcher: &'a LauncherMetadata,
    processes: Vec<ProcessOut<'a>>,
    #[serde(rename = "buildpack-default-process-type", skip_serializing_if = "str::is_empty")]
    default_process_type: &'a str,
}

#[derive(Serialize)]
struct ProcessOut<'a> {
    r#type: &'a str,
    command: CommandOut<'a>,
    args: Option<Vec<String>>,
    direct: bool,
    #[serde(rename = "buildpackID")]
    buildpack_id: &'a str,
    #[serde(rename = "working-dir", skip_serializing_if = "str::is_empty")]
    working_dir: &'a str,
    #[serde(rename = "exec-env", skip_serializing_if = "<[_]>::is_empty")]
    exec_env: &'a [String],
}

impl<'a> ProcessOut<'a> {
    fn new(process: &'a Process, platform: ApiVersion) -> Self {
        let (command, args) = command_and_args(process, platform);
        Self {
            r#type: &process.r#type,
            command: CommandOut { entries: command, as_list: platform.at_least(10) },
            args,
            direct: process.direct,
            buildpack_id: &process.buildpack_id,
            working_dir: &process.working_dir,
            exec_env: &process.exec_env,
        }
    }
}

struct CommandOut<'a> {
    entries: &'a [String],
    as_list: bool,
}

impl Serialize for CommandOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.as_list {
            self.entries.serialize(serializer)
        } else {
            serializer.serialize_str(self.entries.first().map_or("", String::as_str))
        }
    }
}

/// The label `io.buildpacks.build.metadata` as it is read.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case", default)]
pub struct BuildLabel {
    /// The old bill of materials, before Platform API 0.9.
    #[serde(deserialize_with = "null_is_default")]
    pub bom: Vec<BomEntry>,
    /// The buildpacks, in the order of the group.
    #[serde(deserialize_with = "null_is_default")]
    pub buildpacks: Vec<GroupElement>,
    /// The extensions, in the order of the group.
    #[serde(deserialize_with = "null_is_default")]
    pub extensions: Vec<GroupElement>,
    /// The launcher.
    pub launcher: LauncherMetadata,
    /// The processes.
    #[serde(deserialize_with = "processes")]
    pub processes: Vec<Process>,
    /// The default process of the buildpacks.
    pub buildpack_default_process_type: String,
}

impl BuildLabel {
    /// Reads the label; `label` is how errors name it.
    ///
    /// # Errors
    /// Text that is not JSON, or not of this shape.
    pub fn parse(label: &str, text: &str) -> Result<Self, ParseError> {
        error::from_json(label, text)
    }
}

/// Processes of a label, whose keys are not all those of the file.
fn processes<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Process>, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "kebab-case", default)]
    struct Raw {
        r#type: String,
        #[serde(deserialize_with = "one_or_many")]
        command: Vec<String>,
        args: Option<Vec<String>>,
        direct: bool,
        #[serde(rename = "default")]
        is_default: bool,
        #[serde(rename = "buildpackID")]
        buildpack_id: String,
        working_dir: String,
        #[serde(deserialize_with = "null_is_default")]
        exec_env: Vec<String>,
    }
    let raw: Vec<Raw> = null_is_default(deserializer)?;
    Ok(raw
        .into_iter()
        .map(|raw| Process {
            r#type: raw.r#type,
            command: raw.command,
            args: raw.args,
            direct: raw.direct,
            is_default: raw.is_default,
            buildpack_id: raw.buildpack_id,
            working_dir: raw.working_dir,
            exec_env: raw.exec_env,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: ApiVersion = ApiVersion::new(0, 15);
    const OLD: ApiVersion = ApiVersion::new(0, 8);

    fn metadata() -> BuildMetadata {
        BuildMetadata {
            buildpacks: vec![GroupElement {
                id: "a".into(),
                version: "1".into(),
                api: Some(ApiVersion::new(0, 9)),
                ..GroupElement::default()
            }],
            processes: vec![Process {
                r#type: "web".into(),
                command: vec!["run".into(), "a && b".into()],
                args: Some(vec!["<x>".into()]),
                direct: true,
                buildpack_id: "a".into(),
                working_dir: "/w".into(),
                exec_env: vec!["test".into()],
                ..Process::default()
            }],
            slices: vec![Slice { paths: Some(vec!["a".into()]) }, Slice::default()],
            labels: vec![Label { key: "k".into(), value: "v".into() }],
            buildpack_default_process_type: "web".into(),
            ..BuildMetadata::default()
        }
    }

    #[test]
    fn metadata_is_written_as_the_reference_writes_it() {
        let text = r#"buildpack-default-process-type = "web"

[[buildpacks]]
  id = "a"
  version = "1"
  api = "0.9"

[[labels]]
  key = "k"
  value = "v"

[[processes]]
  type = "web"
  command = ["run", "a \u0026\u0026 b"]
  args = ["<x>"]
  direct = true
  buildpack-id = "a"
  working-dir = "/w"
  exec-env = ["test"]

[[slices]]
  paths = ["a"]

[[slices]]
"#;
        assert_eq!(metadata().to_toml(NEW), text);
        assert_eq!(BuildMetadata::parse("metadata.toml", text).unwrap(), metadata());
    }

    #[test]
    fn old_platforms_get_a_command_of_one_text() {
        let text = metadata().to_toml(OLD);
        assert!(text.contains("  command = \"run\"\n  args = [\"a && b\", \"<x>\"]\n"), "{text}");
        let label = metadata().to_json(&LauncherMetadata::default(), OLD);
        assert!(label.contains(r#""command":"run","args":["a \u0026\u0026 b","\u003cx\u003e"]"#), "{label}");
        assert!(label.starts_with(r#"{"bom":null,"buildpacks":[{"id":"a","version":"1"}],"#), "{label}");
    }

    #[test]
    fn a_build_without_processes_says_so() {
        assert_eq!(BuildMetadata::default().to_toml(NEW), "processes = []\n");
    }

    #[test]
    fn a_label_is_read_back() {
        let label = metadata().to_json(&LauncherMetadata::default(), NEW);
        let read = BuildLabel::parse("label", &label).unwrap();
        assert_eq!(read.processes, metadata().processes);
        assert_eq!(read.buildpack_default_process_type, "web");
        let nothing = BuildLabel::parse("label", r#"{"bom":null,"buildpacks":null,"processes":null}"#);
        assert_eq!(nothing.unwrap(), BuildLabel::default());
    }
}
