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
use crate::{ApiVersion, ParseError, error, table};

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
    /// the default; a type that is no file name; an entry of the old bill of materials with a version of its own.
    pub fn parse(
        file: &str,
        text: &str,
        api: ApiVersion,
        buildpack: &GroupElement,
    ) -> Result<Self, ParseError> {
        let raw: RawLaunch = error::from_toml(file, text)?;
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
        if name.is_empty() || name.chars().any(|character| "/><:|&\\".contains(character)) {
            return Err(format!("process type '{name}' is empty or has one of the characters /><:|&\\"));
        }
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
            command: command(self.command, api).map_err(|what| format!("process '{name}': {what}"))?,
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
                let name = arg.as_ref().name.as_str();
                let message = match name {
                    "" => "an argument needs a name".to_owned(),
                    _ if RESERVED_ARGS.contains(&name) => {
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
mod tests {
    use super::*;

    fn buildpack() -> GroupElement {
        GroupElement { id: "a".into(), version: "1".into(), homepage: "h".into(), ..GroupElement::default() }
    }

    fn launch(minor: u32, text: &str) -> Result<LaunchToml, ParseError> {
        LaunchToml::parse("launch.toml", text, ApiVersion::new(0, minor), &buildpack())
    }

    #[test]
    fn old_commands_are_texts_for_a_shell() {
        let text =
            "[[processes]]\ntype='web'\ncommand='run $X'\nargs=['a']\nworking-dir='/w'\ndefault=true\n";
        let process = &launch(8, text).unwrap().processes[0];
        assert_eq!(process.command, ["run $X"]);
        assert!(!process.direct && process.is_default);
        assert_eq!((process.working_dir.as_str(), process.buildpack_id.as_str()), ("/w", "a"));
        let old = launch(7, text).unwrap();
        assert_eq!((old.processes[0].working_dir.as_str(), old.warnings.len()), ("", 1));
        let direct = launch(8, "[[processes]]\ntype='web'\ncommand='c'\ndirect=true\n").unwrap();
        assert!(direct.processes[0].direct);
    }

    #[test]
    fn new_commands_are_lists_and_direct() {
        let process = &launch(9, "[[processes]]\ntype='web'\ncommand=['run', '-x']\n").unwrap().processes[0];
        assert_eq!(process.command, ["run", "-x"]);
        assert!(process.direct);
        assert_eq!(process.args, None);
    }

    #[test]
    fn what_a_process_can_not_have_is_refused_with_its_place() {
        for (minor, text, expected) in [
            (
                9,
                "[[processes]]\ntype='w'\ncommand='x'\n",
                "1:1: process 'w': the command is string, buildpack API 0.9 expects an array of strings",
            ),
            (
                8,
                "[[processes]]\ntype='w'\ncommand=['x']\n",
                "1:1: process 'w': the command is array, buildpack API 0.8 expects a string",
            ),
            (9, "[[processes]]\ntype='w'\n", "1:1: process 'w': missing field `command`"),
            (9, "[[processes]]\ntype='w'\ncommand=[1]\n", "1:1: process 'w': the command has integer in it"),
            (
                9,
                "[[processes]]\ntype='w'\ncommand=['x']\ndirect=false\n",
                "1:1: process 'w' has the key 'direct'",
            ),
            (9, "[[processes]]\ntype='a/b'\ncommand=['x']\n", "1:1: process type 'a/b' is empty or has"),
            (
                9,
                "[[processes]]\ntype='a'\ncommand=['x']\ndefault=true\n[[processes]]\ntype='b'\ncommand=['x']\ndefault=true\n",
                "5:1: more than one process is the default",
            ),
            (9, "[[bom]]\nname='n'\nversion='1'\n", " bom entry 'n' has the key 'version'"),
        ] {
            let error = launch(minor, text).unwrap_err().to_string();
            assert!(error.strip_prefix("launch.toml:").unwrap().starts_with(expected), "{error}");
        }
    }

    #[test]
    fn the_rest_of_launch_toml_is_read() {
        let text = "[[slices]]\npaths=['a/*']\n[[slices]]\n[[labels]]\nkey='k'\nvalue='v'\n[[bom]]\nname='n'\n[bom.metadata]\nx=1\n";
        let out = launch(9, text).unwrap();
        assert_eq!((out.slices[0].paths().len(), out.slices[1].paths.as_ref()), (1, None));
        assert_eq!(out.labels, [Label { key: "k".into(), value: "v".into() }]);
        assert_eq!(
            legacy_sbom(&out.bom),
            "[{\"name\":\"n\",\"metadata\":{\"x\":1},\"buildpack\":{\"id\":\"a\",\"version\":\"1\"}}]\n"
        );
        assert_eq!(legacy_sbom(&[]), "null\n");
    }

    #[test]
    fn only_what_was_asked_for_can_be_unmet() {
        let plan = BuildpackPlan { entries: vec![Require { name: "node".into(), ..Require::default() }] };
        let parse = |text: &str| BuildToml::parse("build.toml", text, &plan, &buildpack());
        assert_eq!(parse("[[unmet]]\nname='node'\n").unwrap().unmet, [Unmet { name: "node".into() }]);
        let error = parse("\n[[unmet]]\nname='x'\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "build.toml:2:1: unmet 'x' is nothing that the buildpack was asked for"
        );
        assert!(parse("[[unmet]]\n").is_err());
    }

    #[test]
    fn sbom_files_are_known_by_their_ending() {
        assert_eq!(SbomFormat::of_file("layer.sbom.cdx.json"), Some(SbomFormat::CycloneDx));
        assert_eq!(SbomFormat::of_file("a.b.sbom.spdx.json"), Some(SbomFormat::Spdx));
        assert_eq!(SbomFormat::of_file("sbom.cdx.json"), None);
        assert_eq!(SbomFormat::of_file("layer.sbom.x.json"), None);
        let declared = ["application/SPDX+json; version=2.3".to_owned()];
        assert!(SbomFormat::Spdx.is_in(&declared) && !SbomFormat::Syft.is_in(&declared));
    }

    #[test]
    fn extend_config_is_read() {
        let text = "[[build.args]]\nname='A'\nvalue='1'\n[[run.args]]\nname='B'\n";
        let config = ExtendConfig::parse("extend-config.toml", text).unwrap();
        assert_eq!(config.build.args[0], BuildArg { name: "A".into(), value: "1".into() });
        assert_eq!(config.run.args[0].value, "");
    }

    #[test]
    fn arguments_and_packages_of_both_dockerfiles_are_read() {
        let config = ExtendConfig::parse(
            "extend-config.toml",
            "[build]\npackages=['gcc']\n[[build.args]]\nname='a'\nvalue='1'\n[[run.args]]\nname='b'\n",
        )
        .unwrap();
        assert_eq!(config.build.packages, ["gcc"]);
        assert_eq!(config.build.args, [BuildArg { name: "a".into(), value: "1".into() }]);
        assert_eq!(config.run.args, [BuildArg { name: "b".into(), value: String::new() }]);
        assert_eq!(ExtendConfig::parse("", "").unwrap(), ExtendConfig::default());
    }

    #[test]
    fn arguments_of_the_lifecycle_are_not_for_extensions() {
        for (text, expected) in [
            (
                "[[build.args]]\nname='a'\n[[build.args]]\nname='build_id'\n",
                "x:3:1: the argument 'build_id' is",
            ),
            ("[[run.args]]\nname='user_id'\n", "x:1:1: the argument 'user_id' is"),
            ("[[run.args]]\nname=''\n", "x:1:1: an argument needs a name"),
            ("[run]\nargs='a'\n", "x:2:6: invalid type"),
        ] {
            let error = ExtendConfig::parse("x", text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
