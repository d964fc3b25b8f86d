//! `buildpack.toml` and `extension.toml` (buildpack.md and image_extension.md).

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Deserializer};
use toml::Value;

use crate::error::{self, UNSUPPORTED_API};
use crate::group::{Kind, ModuleId, OrderGroup};
use crate::plan::BuildpackPlan;
use crate::target::{Distro, Target};
use crate::{ApiVersion, ParseError, names};

/// A licence of a buildpack.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, serde::Serialize)]
#[serde(default)]
pub struct License {
    /// An SPDX expression or another name.
    #[serde(rename = "type")]
    pub r#type: String,
    /// Where its text is.
    pub uri: String,
}

/// The table `[buildpack]` or `[extension]`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub struct ModuleInfo {
    /// Globally unique id.
    pub id: String,
    /// Version: three numbers.
    pub version: String,
    /// Name for people.
    #[serde(default)]
    pub name: String,
    /// Where to read about it.
    #[serde(default)]
    pub homepage: String,
    /// What it does.
    #[serde(default)]
    pub description: String,
    /// Words to find it by.
    #[serde(default)]
    pub keywords: Vec<String>,
    /// Its licences.
    #[serde(default)]
    pub licenses: Vec<License>,
    /// True when it does not want the user's variables in its environment.
    #[serde(default)]
    pub clear_env: bool,
    /// Media types of the SBOM files that it writes.
    #[serde(default)]
    pub sbom_formats: Vec<String>,
    /// Execution environments that it is for; none or `*` for all. The specification has a list of tables with a
    /// `name`, the reference a list of texts: both are read.
    #[serde(default, deserialize_with = "exec_env")]
    pub exec_env: Vec<String>,
}

fn exec_env<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Entry {
        Text(String),
        Table { name: String },
    }
    Ok(Vec::<Entry>::deserialize(deserializer)?
        .into_iter()
        .map(|entry| match entry {
            Entry::Text(name) | Entry::Table { name } => name,
        })
        .collect())
}

/// An entry of `stacks`: what there was before targets.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, serde::Serialize)]
#[serde(default)]
pub struct Stack {
    /// Its id, or `*`.
    pub id: String,
    /// Packages that it has to have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mixins: Vec<String>,
}

/// `buildpack.toml` or `extension.toml`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ModuleDescriptor {
    /// Which of the two.
    pub kind: Kind,
    /// The Buildpack API that it was written for.
    pub api: ApiVersion,
    /// Its own table.
    pub info: ModuleInfo,
    /// The groups of a composite buildpack; empty for a component and for an extension.
    pub order: Vec<OrderGroup>,
    /// What it runs on, as written: [`ModuleDescriptor::targets`] has what is meant.
    pub declared_targets: Vec<Target>,
    /// What it ran on before targets.
    pub stacks: Vec<Stack>,
    /// The packages that an extension would install, by what it provides.
    pub packages: Vec<ProvidedPackages>,
}

/// An entry of `[[metadata.packages]]` in `extension.toml`: what an extension installs when somebody requires
/// `provides`. Not in the specification, which leaves `metadata` to the extension.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct ProvidedPackages {
    /// What the extension provides, as its build plan calls it.
    pub provides: String,
    /// The packages that the build image has to have for it.
    #[serde(default)]
    pub build: Vec<String>,
    /// The packages that the run image has to have for it.
    #[serde(default)]
    pub run: Vec<String>,
}

/// The packages that images have to have.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ImagePackages {
    /// The build image.
    pub build: Vec<String>,
    /// The run image.
    pub run: Vec<String>,
}

impl ModuleDescriptor {
    /// Reads the text of `buildpack.toml` or `extension.toml`.
    ///
    /// # Errors
    /// Text that is not TOML or not of this shape; an API that we do not speak; an id that is reserved, an id or a
    /// version that leads out of its folder; an extension with an order.
    pub fn parse(kind: Kind, file: &str, text: &str) -> Result<Self, ParseError> {
        let raw: RawDescriptor = error::from_toml(file, text)?;
        let (own, other) = match kind {
            Kind::Buildpack => (raw.buildpack, "buildpack"),
            Kind::Extension => (raw.extension, "extension"),
        };
        let info = own.ok_or_else(|| ParseError::new(file, format!("missing table [{other}]")))?;
        let span = info.span();
        let info = info.into_inner();
        let named = check_id(&info.id).and_then(|()| names::version(&info.version));
        named.map_err(|message| ParseError::at(file, message, text, span))?;
        let api_span = raw.api.span();
        let api = raw.api.into_inner();
        if !api.is_supported_buildpack() {
            let message = format!(
                "buildpack API {api} {UNSUPPORTED_API}{} to {}",
                ApiVersion::BUILDPACK_OLDEST,
                ApiVersion::BUILDPACK_LATEST
            );
            return Err(ParseError::at(file, message, text, api_span));
        }
        if kind == Kind::Extension && !raw.order.is_empty() {
            return Err(ParseError::new(file, "an extension can not have an order"));
        }
        let packages = match kind {
            Kind::Buildpack => Vec::new(),
            Kind::Extension => {
                packages(raw.metadata.as_ref()).map_err(|message| ParseError::new(file, message))?
            }
        };
        let (order, declared_targets, stacks) = (raw.order, raw.targets, raw.stacks);
        Ok(Self { kind, api, info, order, declared_targets, stacks, packages })
    }

    /// Reads the descriptor of the module that is found under this name. The name becomes the name of folders, so it
    /// has to be the one that the descriptor gives, which is checked.
    ///
    /// # Errors
    /// As [`ModuleDescriptor::parse`]; a descriptor of another module.
    pub fn parse_named(module: &ModuleId, file: &str, text: &str) -> Result<Self, ParseError> {
        let descriptor = Self::parse(module.kind, file, text)?;
        let found = descriptor.module();
        if found == *module {
            return Ok(descriptor);
        }
        Err(ParseError::new(file, format!("describes {found}, expected {module}")))
    }

    /// The name of the module.
    pub fn module(&self) -> ModuleId {
        ModuleId { kind: self.kind, id: self.info.id.clone(), version: self.info.version.clone() }
    }

    /// True for a buildpack that stands for others.
    pub fn is_composite(&self) -> bool {
        !self.order.is_empty()
    }

    /// What it runs on. Where no targets are written they follow from the stacks, and else from its programs:
    /// `has_program` tells whether a file of this name (`build`, `detect`, `generate`) is in its `bin`. An empty list
    /// matches anything.
    pub fn targets(&self, has_program: impl Fn(&str) -> bool) -> Vec<Target> {
        if !self.declared_targets.is_empty() {
            return self.declared_targets.clone();
        }
        let mut targets = Vec::new();
        for stack in &self.stacks {
            if stack.id == "*" {
                targets.push(Target::default());
            } else if stack.id == "io.buildpacks.stacks.bionic"
                && (self.api.at_least(10) || self.stacks.len() == 1)
            {
                let distros = vec![Distro { name: "ubuntu".into(), version: "18.04".into() }];
                targets.push(Target {
                    os: "linux".into(),
                    arch: "amd64".into(),
                    distros,
                    ..Target::default()
                });
            }
        }
        let programs: &[&str] = match self.kind {
            Kind::Buildpack => &["build"],
            Kind::Extension => &["detect", "generate"],
        };
        if targets.is_empty() && programs.iter().any(|name| has_program(name)) {
            targets.push(Target { os: "linux".into(), ..Target::default() });
        }
        targets
    }

    /// The packages that would do instead of this extension: those that it declares for everything that it is asked
    /// for. None when it is asked for something that it declares no packages for, or for nothing at all.
    pub fn packages_for(&self, asked: &BuildpackPlan) -> Option<ImagePackages> {
        let mut declared: HashMap<&str, Vec<&ProvidedPackages>> = HashMap::new();
        for packages in &self.packages {
            declared.entry(&packages.provides).or_default().push(packages);
        }
        let mut all = ImagePackages::default();
        let (mut in_build, mut in_run) = (HashSet::new(), HashSet::new());
        for entry in &asked.entries {
            // Asked for again, it brings nothing new.
            let packages = declared.get_mut(entry.name.as_str())?;
            for ProvidedPackages { build, run, .. } in packages.drain(..) {
                all.build.extend(build.iter().filter(|name| in_build.insert(*name)).cloned());
                all.run.extend(run.iter().filter(|name| in_run.insert(*name)).cloned());
            }
        }
        (!asked.entries.is_empty()).then_some(all)
    }

    /// True when it may run in this execution environment. Only Buildpack API 0.12 and newer can say.
    pub fn matches_exec_env(&self, exec_env: &str) -> bool {
        !self.api.at_least(12) || crate::launch::matches_exec_env(&self.info.exec_env, exec_env)
    }
}

/// The id becomes a folder name: it must not lead out of its folder, nor be one of the lifecycle's own.
fn check_id(id: &str) -> Result<(), String> {
    let named = !id.is_empty() && !id.chars().any(|character| character.is_control() || character == '\\');
    if !named || id.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(format!("'{id}' is not an id: letters, digits, '.', '/' and '-' were expected"));
    }
    if ["app", "config", "generated", "sbom"].contains(&id) {
        return Err(format!("the id '{id}' is reserved"));
    }
    Ok(())
}

/// Reads `metadata.packages`. Metadata is the extension's own: what is no list of tables with `provides` is somebody
/// else's idea of `packages`, and ignored.
fn packages(metadata: Option<&Value>) -> Result<Vec<ProvidedPackages>, String> {
    let entries = metadata.and_then(|table| table.get("packages")).and_then(Value::as_array);
    entries
        .into_iter()
        .flatten()
        .filter(|entry| entry.get("provides").is_some())
        .map(|entry| {
            let message = |error: toml::de::Error| format!("metadata.packages: {}", error.message());
            entry.clone().try_into().map_err(message)
        })
        .collect()
}

#[derive(Deserialize)]
struct RawDescriptor {
    api: toml::Spanned<ApiVersion>,
    buildpack: Option<toml::Spanned<ModuleInfo>>,
    extension: Option<toml::Spanned<ModuleInfo>>,
    #[serde(default)]
    order: Vec<OrderGroup>,
    #[serde(default)]
    targets: Vec<Target>,
    #[serde(default)]
    stacks: Vec<Stack>,
    #[serde(default)]
    metadata: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ModuleDescriptor, ParseError> {
        ModuleDescriptor::parse(Kind::Buildpack, "buildpack.toml", text)
    }

    const HEAD: &str = "api = \"0.12\"\n[buildpack]\nid = \"a/b\"\nversion = \"1.2.3\"\n";

    #[test]
    fn everything_in_a_descriptor_is_read() {
        let text = r#"
            api = "0.12"
            [buildpack]
            id = "a/b"
            version = "1.2.3"
            name = "A"
            homepage = "https://a"
            description = "does"
            keywords = ["x"]
            clear-env = true
            sbom-formats = ["application/spdx+json"]
            [[buildpack.exec-env]]
            name = "test"
            [[buildpack.licenses]]
            type = "MIT"
            [[targets]]
            os = "linux"
            arch = "arm"
            variant = "v7"
            [[targets.distros]]
            name = "ubuntu"
            version = "24.04"
            [metadata]
            anything = 1
        "#;
        let descriptor = parse(text).unwrap();
        assert_eq!(descriptor.module(), ModuleId::buildpack("a/b", "1.2.3"));
        assert_eq!(descriptor.info.exec_env, ["test"]);
        assert!(descriptor.info.clear_env && !descriptor.is_composite());
        assert_eq!(descriptor.targets(|_| false)[0].variant, "v7");
        assert!(descriptor.matches_exec_env("test") && !descriptor.matches_exec_env("production"));
    }

    #[test]
    fn a_composite_has_an_order() {
        let descriptor =
            parse(&format!("{HEAD}[[order]]\n[[order.group]]\nid=\"c\"\nversion=\"1\"\noptional=true\n"))
                .unwrap();
        assert!(descriptor.is_composite());
        assert!(descriptor.order[0].group[0].optional);
    }

    #[test]
    fn errors_say_where() {
        for (text, expected) in [
            ("api = 3\n[buildpack]\nid='a'\nversion='1'\n", "buildpack.toml:1:7: invalid type: integer `3`"),
            (
                "api = '0.2'\n[buildpack]\nid='a'\nversion='1'\n",
                "buildpack.toml:1:7: buildpack API 0.2 is not supported",
            ),
            (
                "api = 'x'\n[buildpack]\nid='a'\nversion='1'\n",
                "buildpack.toml:1:7: 'x' is not an API version",
            ),
            ("api = '0.12'\n[buildpack]\nid='a'\n", "buildpack.toml:2:1: missing field `version`"),
            ("api = '0.12'\n", "buildpack.toml: missing table [buildpack]"),
            (
                "api = '0.12'\n[buildpack]\nid='../a'\nversion='1'\n",
                "buildpack.toml:2:1: '../a' is not an id",
            ),
            (
                "api = '0.12'\n[buildpack]\nid='sbom'\nversion='1'\n",
                "buildpack.toml:2:1: the id 'sbom' is reserved",
            ),
            ("api = '0.12'\n[buildpack\n", "buildpack.toml:2:11:"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_descriptor_of_another_module_is_refused() {
        let parse =
            |id: &str| ModuleDescriptor::parse_named(&ModuleId::buildpack(id, "1.2.3"), "b.toml", HEAD);
        assert_eq!(parse("a/b").unwrap().info.version, "1.2.3");
        assert_eq!(parse("..").unwrap_err().to_string(), "b.toml: describes a/b@1.2.3, expected ..@1.2.3");
    }

    #[test]
    fn targets_follow_from_stacks_and_programs() {
        let with = |tail: &str| parse(&format!("{HEAD}{tail}")).unwrap();
        let bionic = with("[[stacks]]\nid = \"io.buildpacks.stacks.bionic\"\n").targets(|_| true);
        assert_eq!((bionic[0].arch.as_str(), bionic[0].distros[0].version.as_str()), ("amd64", "18.04"));
        assert_eq!(with("[[stacks]]\nid = \"*\"\n").targets(|_| true), [Target::default()]);
        assert_eq!(with("").targets(|name| name == "build")[0].os, "linux");
        assert_eq!(with("").targets(|_| false), []);
    }

    #[test]
    fn an_extension_has_its_own_table_and_no_order() {
        let text = "api = '0.9'\n[extension]\nid = 'e'\nversion = '1'\n";
        let parse = |text: &str| ModuleDescriptor::parse(Kind::Extension, "extension.toml", text);
        assert_eq!(parse(text).unwrap().module(), ModuleId::extension("e", "1"));
        assert_eq!(parse(text).unwrap().targets(|name| name == "generate")[0].os, "linux");
        let error = parse(&format!("{text}[[order]]\n[[order.group]]\nid='a'\n")).unwrap_err();
        assert_eq!(error.to_string(), "extension.toml: an extension can not have an order");
    }

    #[test]
    fn packages_stand_for_what_an_extension_provides() {
        let head = "api = '0.10'\n[extension]\nid = 'e'\nversion = '1'\n";
        let parse =
            |tail: &str| ModuleDescriptor::parse(Kind::Extension, "extension.toml", &format!("{head}{tail}"));
        let descriptor = parse(
            "[[metadata.packages]]\nprovides='pq'\nbuild=['libpq-dev']\nrun=['libpq5']\n\
             [[metadata.packages]]\nprovides='ssl'\nrun=['libpq5', 'libssl3']\n",
        )
        .unwrap();
        let asked = |names: &[&str]| {
            let entry = |name: &&str| crate::plan::Require { name: (*name).into(), ..Default::default() };
            descriptor.packages_for(&BuildpackPlan { entries: names.iter().map(entry).collect() })
        };
        let both = asked(&["pq", "ssl", "pq"]).unwrap();
        assert_eq!(
            (both.build, both.run),
            (vec!["libpq-dev".into()], vec!["libpq5".into(), "libssl3".into()])
        );
        assert_eq!(asked(&["ssl"]).unwrap().build, Vec::<String>::new());
        assert_eq!((asked(&["pq", "other"]), asked(&[])), (None, None));
        // Metadata is anybody's.
        for text in
            ["[metadata]\npackages='x'\n", "[[metadata.packages]]\nname=1\n", "[metadata]\npackages=['a']\n"]
        {
            assert_eq!(parse(text).unwrap().packages, []);
        }
        let error = parse("[[metadata.packages]]\nprovides='x'\nrun='y'\n").unwrap_err().to_string();
        assert!(error.starts_with("extension.toml: metadata.packages: invalid type"), "{error}");
    }

    #[test]
    fn older_buildpacks_can_not_name_execution_environments() {
        let old = "api = '0.11'\n[buildpack]\nid = 'a'\nversion = '1'\nexec-env = ['test']\n";
        assert!(parse(old).unwrap().matches_exec_env("production"));
    }
}
