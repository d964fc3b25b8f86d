//! What `bin/build` and `bin/generate` write beside layers: `launch.toml`, `build.toml`, `extend-config.toml` and SBOM
//! files (buildpack.md, "Data Format"; image_extension.md).

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::value::Table;

use crate::encode::{Fields, Node, to_json};
use crate::group::GroupElement;
use crate::launch::Process;
use crate::plan::{BuildpackPlan, Require, Unmet};
use crate::{ApiVersion, ParseError, error, names, table};

/// A label for the app image.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub struct Label {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

impl From<Label> for Node {
    fn from(label: Label) -> Self {
        Fields::new().with("key", label.key).with("value", label.value).into()
    }
}

/// Files of the app that get a layer of their own.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub struct Slice {
    /// Patterns, in the syntax of Go's `filepath.Match`; an empty list and no list differ in what is written.
    pub paths: Option<Vec<String>>,
}

impl Slice {
    /// The patterns, none when there is no list.
    pub fn paths(&self) -> &[String] {
        self.paths.as_deref().unwrap_or_default()
    }
}

impl From<Slice> for Node {
    fn from(slice: Slice) -> Self {
        Fields::new().maybe("paths", slice.paths).into()
    }
}

/// An entry of the old unstructured bill of materials.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct BomEntry {
    /// The name of the dependency.
    pub name: String,
    /// Not allowed any more; `metadata.version` has it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Anything about it.
    #[serde(default, deserialize_with = "table::deserialize", serialize_with = "table::serialize")]
    pub metadata: Option<Table>,
    /// The buildpack that wrote it.
    #[serde(default)]
    pub buildpack: GroupElement,
}

impl BomEntry {
    /// The entries of one buildpack, which they name.
    fn of(file: &str, entries: Vec<Self>, buildpack: &GroupElement) -> Result<Vec<Self>, ParseError> {
        let named = GroupElement {
            id: buildpack.id.clone(),
            version: buildpack.version.clone(),
            ..GroupElement::default()
        };
        entries
            .into_iter()
            .map(|entry| {
                if entry.version.is_empty() {
                    return Ok(Self { buildpack: named.clone(), ..entry });
                }
                let message = format!(
                    "bom entry '{}' has the key 'version': 'metadata.version' was expected",
                    entry.name
                );
                Err(ParseError::new(file, message))
            })
            .collect()
    }
}

impl From<BomEntry> for Node {
    fn from(entry: BomEntry) -> Self {
        let BomEntry { name, version, metadata, buildpack } = entry;
        Require { name, version, metadata }.fields().with("buildpack", buildpack).into()
    }
}

/// The text of `sbom.legacy.json`: `null` when no buildpack wrote an entry.
pub fn legacy_sbom(entries: &[BomEntry]) -> String {
    to_json(&(!entries.is_empty()).then_some(entries)) + "\n"
}

/// `launch.toml`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LaunchToml {
    /// Processes, each with the id of the buildpack.
    pub processes: Vec<Process>,
    /// Slices.
    pub slices: Vec<Slice>,
    /// Labels.
    pub labels: Vec<Label>,
    /// The old bill of materials for the app image.
    pub bom: Vec<BomEntry>,
    /// What is not as it should be, but no error: for a warning.
    pub warnings: Vec<String>,
}

impl LaunchToml {
    /// Reads the text of a buildpack's `launch.toml`, whose rules depend on the buildpack's API: before 0.9 a command
    /// is a text and `direct` says whether a shell runs it; from 0.9 on it is a list and never in a shell. Before 0.8
    /// there is no working directory.
    ///
    /// # Errors
    /// Text that is not TOML or not of this shape; a `direct` where there is none; two processes that both want to be
    /// the default; a type that is no file name; a text that no program could get; an entry of the old bill of materials
    /// with a version of its own.
    pub fn parse(
        file: &str,
        text: &str,
        api: ApiVersion,
        buildpack: &GroupElement,
    ) -> Result<Self, ParseError> {
        let raw: RawLaunch = error::from_toml(file, text)?;
        check_texts(&raw).map_err(|message| ParseError::new(file, message))?;
        let fail = |message: String, span| Err(ParseError::at(file, message, text, span));
        let mut out = Self {
            slices: raw.slices,
            labels: raw.labels,
            bom: BomEntry::of(file, raw.bom, buildpack)?,
            ..Self::default()
        };
        for process in raw.processes {
            let span = process.span();
            match process.into_inner().read(api, buildpack, &mut out.warnings) {
                Ok(process) if process.is_default && out.processes.iter().any(|it| it.is_default) => {
                    return fail("more than one process is the default".to_owned(), span);
                }
                Ok(process) => out.processes.push(process),
                Err(message) => return fail(message, span),
            }
        }
        Ok(out)
    }
}

/// Checks labels and slices: the texts that are no process's.
fn check_texts(raw: &RawLaunch) -> Result<(), String> {
    for Label { key, value } in &raw.labels {
        names::name("label", key)?;
        names::text(&format!("label '{key}': the value"), value)?;
    }
    raw.slices.iter().flat_map(Slice::paths).try_for_each(|path| names::text("slice: the path", path))
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct RawLaunch {
    processes: Vec<Spanned<RawProcess>>,
    slices: Vec<Slice>,
    labels: Vec<Label>,
    bom: Vec<BomEntry>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct RawProcess {
    r#type: String,
    command: Option<toml::Value>,
    args: Option<Vec<String>>,
    direct: Option<bool>,
    #[serde(rename = "default")]
    is_default: bool,
    working_dir: String,
    exec_env: Vec<String>,
}

impl RawProcess {
    fn read(
        self,
        api: ApiVersion,
        buildpack: &GroupElement,
        warnings: &mut Vec<String>,
    ) -> Result<Process, String> {
        let name = self.r#type;
        names::process_type(&name)?;
        let of = |what: &str| format!("process '{name}': the {what}");
        self.args.iter().flatten().try_for_each(|arg| names::text(&of("argument"), arg))?;
        names::text(&of("working directory"), &self.working_dir)?;
        self.exec_env.iter().try_for_each(|env| names::name(&of("execution environment"), env))?;
        let command = command(self.command, api).map_err(|what| format!("process '{name}': {what}"))?;
        command.iter().try_for_each(|word| names::text(&of("command"), word))?;
        let direct = match self.direct {
            Some(_) if api.at_least(9) => {
                return Err(format!(
                    "process '{name}' has the key 'direct', which buildpack API {api} does not have"
                ));
            }
            direct => direct.unwrap_or(api.at_least(9)),
        };
        let working_dir = if !self.working_dir.is_empty() && !api.at_least(8) {
            warnings.push(format!(
                "process working directory isn't supported in buildpack API {api}, ignoring it for process '{name}'"
            ));
            String::new()
        } else {
            self.working_dir
        };
        Ok(Process {
            command,
            r#type: name,
            args: self.args,
            direct,
            is_default: self.is_default,
            buildpack_id: buildpack.id.clone(),
            working_dir,
            exec_env: self.exec_env,
        })
    }
}

/// A command: a text before Buildpack API 0.9, a list of texts from then on.
fn command(value: Option<toml::Value>, api: ApiVersion) -> Result<Vec<String>, String> {
    let list = api.at_least(9);
    let expected = if list { "an array of strings" } else { "a string" };
    match value {
        None => Err("missing field `command`".to_owned()),
        Some(toml::Value::String(text)) if !list => Ok(vec![text]),
        Some(toml::Value::Array(entries)) if list => entries
            .into_iter()
            .map(|entry| match entry {
                toml::Value::String(text) => Ok(text),
                other => Err(format!("the command has {} in it, expected {expected}", other.type_str())),
            })
            .collect(),
        Some(other) => {
            Err(format!("the command is {}, buildpack API {api} expects {expected}", other.type_str()))
        }
    }
}

/// `build.toml`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BuildToml {
    /// Requirements that the buildpack leaves to the next one.
    pub unmet: Vec<Unmet>,
    /// The old bill of materials for the build.
    pub bom: Vec<BomEntry>,
}

impl BuildToml {
    /// Reads the text of a buildpack's `build.toml`; `plan` is what it was asked for.
    ///
    /// # Errors
    /// Text that is not TOML or not of this shape; something unmet that it was not asked for; an entry of the old bill
    /// of materials with a version of its own.
    pub fn parse(
        file: &str,
        text: &str,
        plan: &BuildpackPlan,
        buildpack: &GroupElement,
    ) -> Result<Self, ParseError> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Raw {
            unmet: Vec<Spanned<Unmet>>,
            bom: Vec<BomEntry>,
        }
        let raw: Raw = error::from_toml(file, text)?;
        let asked: HashSet<&str> = plan.entries.iter().map(|entry| entry.name.as_str()).collect();
        for unmet in &raw.unmet {
            let name = unmet.as_ref().name.as_str();
            if !asked.contains(name) {
                let message = format!("unmet '{name}' is nothing that the buildpack was asked for");
                return Err(ParseError::at(file, message, text, unmet.span()));
            }
        }
        Ok(Self {
            unmet: raw.unmet.into_iter().map(Spanned::into_inner).collect(),
            bom: BomEntry::of(file, raw.bom, buildpack)?,
        })
    }
}

/// A build argument for the Dockerfiles of an extension.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct BuildArg {
    /// Its name.
    pub name: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
}

/// What is said of one kind of Dockerfile.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ExtendImage {
    /// Its arguments, in the order in which they were written.
    pub args: Vec<BuildArg>,
    /// The packages that it would install. Where the image has all of them there is nothing to do. Not in the
    /// specification.
    pub packages: Vec<String>,
}

/// `extend-config.toml`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ExtendConfig {
    /// For `build.Dockerfile`.
    pub build: ExtendImage,
    /// For `run.Dockerfile`.
    pub run: ExtendImage,
}

/// Arguments that the lifecycle gives to each Dockerfile, so that nobody else can.
const RESERVED_ARGS: [&str; 4] = ["base_image", "build_id", "user_id", "group_id"];

impl ExtendConfig {
    /// Reads the text of `extend-config.toml`.
    ///
    /// # Errors
    /// Text that is not TOML, or not of this shape; an argument that has no name, or one of the lifecycle's own.
    pub fn parse(file: &str, text: &str) -> Result<Self, ParseError> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Raw {
            build: RawImage,
            run: RawImage,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct RawImage {
            args: Vec<Spanned<BuildArg>>,
            packages: Vec<String>,
        }
        let image = |raw: RawImage| {
            for arg in &raw.args {
                let BuildArg { name, value } = arg.as_ref();
                let message = match name.as_str() {
                    "" => "an argument needs a name".to_owned(),
                    _ if name.contains(|ch: char| ch == '=' || ch.is_whitespace() || ch.is_control()) => {
                        format!(
                            "the argument '{}' has a '=', a space or a control character",
                            name.escape_debug()
                        )
                    }
                    _ if value.contains('\0') => {
                        format!("the value of the argument '{name}' has a zero byte")
                    }
                    _ if RESERVED_ARGS.contains(&name.as_str()) => {
                        format!("the argument '{name}' is the lifecycle's to give, expected another name")
                    }
                    _ => continue,
                };
                return Err(ParseError::at(file, message, text, arg.span()));
            }
            let args = raw.args.into_iter().map(Spanned::into_inner).collect();
            Ok(ExtendImage { args, packages: raw.packages })
        };
        let raw: Raw = error::from_toml(file, text)?;
        Ok(Self { build: image(raw.build)?, run: image(raw.run)? })
    }
}

/// A format of SBOM files (buildpack.md, "Software-Bill-of-Materials").
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SbomFormat {
    /// CycloneDX.
    CycloneDx,
    /// SPDX.
    Spdx,
    /// Syft.
    Syft,
}

impl SbomFormat {
    const ALL: [Self; 3] = [Self::CycloneDx, Self::Spdx, Self::Syft];

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::CycloneDx => "application/vnd.cyclonedx+json",
            Self::Spdx => "application/spdx+json",
            Self::Syft => "application/vnd.syft+json",
        }
    }

    /// How its files are called below `<layers>/sbom`.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::CycloneDx => "sbom.cdx.json",
            Self::Spdx => "sbom.spdx.json",
            Self::Syft => "sbom.syft.json",
        }
    }

    /// The format that this ending of a file name means.
    pub fn of_file(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|format| name.strip_suffix(format.file_name()).is_some_and(|stem| stem.ends_with('.')))
    }

    /// True when a descriptor's `sbom-formats` has it, whatever parameters its media types have.
    pub fn is_in(self, declared: &[String]) -> bool {
        declared.iter().any(|entry| {
            let media_type = entry.split(';').next().unwrap_or_default().trim();
            media_type.eq_ignore_ascii_case(self.media_type())
        })
    }
}

#[cfg(test)]
mod tests;
