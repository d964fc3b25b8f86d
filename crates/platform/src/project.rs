//! `project.toml`: what an app's own folder says about how to build it (the project descriptor extension of the
//! specification, schemas 0.1 and 0.2, and 0.3, which adds `exec-env`).
//!
//! Here: the file becomes one checked [`Project`], whatever its schema. Not here: fetching the buildpacks it
//! names ([`crate::locator`]), or copying the app's files.

mod filter;
mod schema;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use layer::Root;
use toml::Spanned;
use toml::de::DeValue;

pub use filter::{Filter, InvalidPattern, Verdict};

use crate::document::{Document, DocumentError, UnknownKey};
use crate::env_file;
use schema::{About, Entry, Env, Text, Texts, V01, V02};

/// The name a descriptor has when no other is given.
pub const FILE_NAME: &str = "project.toml";
/// The schema versions that are understood.
pub const SCHEMA_VERSIONS: [&str; 3] = ["0.1", "0.2", "0.3"];
/// The shell of an inline buildpack that names none.
const DEFAULT_SHELL: &str = "/bin/sh";
/// The version of an inline buildpack that names none.
const DEFAULT_INLINE_VERSION: &str = "0.0.0";

/// A checked project descriptor.
#[derive(Clone, Debug, Default)]
pub struct Project {
    /// The descriptor's file. Relative `uri`s are relative to its folder.
    pub path: PathBuf,
    /// The machine-readable id of the project.
    pub id: Option<String>,
    /// The project's name for people.
    pub name: Option<String>,
    /// The project's own version.
    pub version: Option<String>,
    /// Where its source is.
    pub source_url: Option<String>,
    /// Who made it.
    pub authors: Vec<String>,
    /// Where its documentation is.
    pub documentation_url: Option<String>,
    /// Its licences.
    pub licenses: Vec<License>,
    /// Which of the app's files take part in the build.
    pub filter: Filter,
    /// The builder to use when none is chosen on the command line.
    pub builder: Option<String>,
    /// Buildpacks to use in place of the builder's order.
    pub group: Vec<Buildpack>,
    /// Buildpacks to put in front of every group of the builder's order.
    pub pre: Vec<Buildpack>,
    /// Buildpacks to put after every group of the builder's order.
    pub post: Vec<Buildpack>,
    /// Variables for the build, in order.
    pub env: Vec<EnvVar>,
    /// What is odd and does not stop the build: complete lines.
    pub warnings: Vec<String>,
}

/// A licence of the project. At least one of the two is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct License {
    /// SPDX expression, or any text.
    pub kind: Option<String>,
    /// Where it can be read.
    pub uri: Option<String>,
}

/// A buildpack that the descriptor names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buildpack {
    /// Where it comes from.
    pub source: BuildpackSource,
    /// The execution environments it is for; empty for all.
    pub exec_env: Vec<String>,
}

/// Where a buildpack that the descriptor names comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildpackSource {
    /// A locator: `uri`, or `id` with or without `@version`.
    Locator(String),
    /// A script in the descriptor itself.
    Inline(InlineBuildpack),
}

/// A buildpack that is one script in the descriptor: it always detects, and building runs the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineBuildpack {
    /// Its id.
    pub id: String,
    /// Its version, `0.0.0` when the descriptor gives none.
    pub version: String,
    /// The Buildpack API it is written for, as text.
    pub api: String,
    /// The interpreter, a path in the build image.
    pub shell: String,
    /// The text of the script.
    pub script: String,
}

/// A variable for the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// The execution environments it is for; empty for all.
    pub exec_env: Vec<String>,
}

/// A descriptor cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// The file that was asked for cannot be read.
    #[error("failed to read the project descriptor `{path}`: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What it says is wrong.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

impl Project {
    /// Reads the descriptor of an app: `explicit` where one was asked for, else `project.toml` in the app's
    /// folder, which need not be there. In the app it may be anybody's: it must not lead to a file that is not.
    ///
    /// # Errors
    /// An explicit file that is missing; a file that cannot be read; a descriptor with an error.
    pub fn load(app: &Path, explicit: Option<&Path>) -> Result<Self, ProjectError> {
        let path = explicit.map_or_else(|| app.join(FILE_NAME), Path::to_path_buf);
        let read = match explicit {
            None => Some(PathBuf::from(FILE_NAME)),
            Some(path) => name_within(app, path),
        };
        let document = match read {
            Some(name) => Root::beneath(app).and_then(|app| Document::read_in(&app, name)),
            None => Document::read(&path),
        };
        match document {
            Ok(document) => Ok(Self::parse(&document)?),
            Err(error) if explicit.is_none() && error.is_not_found() && !path.is_symlink() => {
                Ok(Self::default())
            }
            Err(error) => Err(ProjectError::Read { path, source: error.source }),
        }
    }

    /// Parses and checks a descriptor.
    ///
    /// # Errors
    /// Not TOML, a schema version that is not understood, a value of a wrong type, or values that contradict
    /// each other; with the place.
    pub fn parse(document: &Document) -> Result<Self, DocumentError> {
        let mut warnings = Vec::new();
        let schema = match schema_version(document)? {
            Some(version) => version,
            None => {
                warnings.push(format!(
                    "{}: no `schema-version` in `[_]`, reading it as schema 0.1",
                    document.path().display()
                ));
                SCHEMA_VERSIONS[0]
            }
        };
        let (tables, unknown) = if schema == "0.1" {
            let (v01, unknown) = document.parse::<V01>()?;
            (Tables::from(v01), unknown)
        } else {
            let (v02, unknown) = document.parse::<V02>()?;
            (Tables::from(v02), unknown)
        };
        warnings.extend(unknown.iter().filter_map(|key| unknown_key(document, schema, key)));
        let reader = Reader { document, exec_env: schema == "0.3" };
        let mut project = reader.project(tables, &mut warnings)?;
        project.warnings = warnings;
        Ok(project)
    }

    /// Drops the buildpacks and variables that are for other execution environments (`CNB_EXEC_ENV`).
    pub fn select_exec_env(&mut self, exec_env: &str) {
        for group in [&mut self.group, &mut self.pre, &mut self.post] {
            group.retain(|buildpack| applies(&buildpack.exec_env, exec_env));
        }
        self.env.retain(|variable| applies(&variable.exec_env, exec_env));
    }

    /// The folder that relative `uri`s start from.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// The `source` of the label `io.buildpacks.project.metadata`, as JSON: what the descriptor says about where
    /// the app comes from, without a user or password in its URL: everybody can read an image's labels. `None` when it
    /// says nothing.
    pub fn source_metadata(&self) -> Option<serde_json::Value> {
        if self.version.is_none() && self.source_url.is_none() {
            return None;
        }
        Some(serde_json::json!({
            "type": "project",
            "version": { "declared": self.version.as_deref().unwrap_or_default() },
            "metadata": { "url": events::without_users(self.source_url.as_deref().unwrap_or_default()) },
        }))
    }
}

/// What `path` is called in the folder `app`; nothing when it is elsewhere. What it leads to is not looked at.
fn name_within(app: &Path, path: &Path) -> Option<PathBuf> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = fs_err::canonicalize(folder).ok()?;
    let within = folder.strip_prefix(fs_err::canonicalize(app).ok()?).ok()?;
    Some(within.join(path.file_name()?))
}

/// True when something for `environments` takes part in a build for `exec_env`.
fn applies(environments: &[String], exec_env: &str) -> bool {
    environments.is_empty() || environments.iter().any(|name| name == exec_env || name == "*")
}

/// The schema a document says it has, one of [`SCHEMA_VERSIONS`].
fn schema_version(document: &Document) -> Result<Option<&'static str>, DocumentError> {
    let table = document.table()?;
    let value = table.get("_").and_then(|about| match about.get_ref() {
        DeValue::Table(about) => about.get("schema-version"),
        _ => None,
    });
    let Some(value) = value else { return Ok(None) };
    let supported = format!("supported are {}", SCHEMA_VERSIONS.join(", "));
    let text = value.get_ref().as_str().ok_or_else(|| {
        document.error(value.span(), "`schema-version` must be a string").with_help(supported.clone())
    })?;
    let known = SCHEMA_VERSIONS.into_iter().find(|version| *version == text);
    known.map(Some).ok_or_else(|| {
        document.error(value.span(), format!("unsupported schema version `{text}`")).with_help(supported)
    })
}

/// The warning about a key that the schema does not have, unless the key is in a table that is the user's own.
fn unknown_key(document: &Document, schema: &str, key: &UnknownKey) -> Option<String> {
    let path: Vec<&str> = key.path.iter().map(String::as_str).collect();
    let place = document.place(key.span.as_ref());
    let reason = match (schema, path.as_slice()) {
        ("0.1", ["_"]) => return None,
        ("0.1", ["io"]) => "needs `schema-version = \"0.2\"` in `[_]`",
        ("0.1", ["project" | "build", ..]) => "unknown key",
        ("0.1", _) => return None,
        (_, ["_", "metadata", ..]) => return None,
        (_, ["project" | "build"]) => "belongs to schema 0.1: use `[_]` and `[io.buildpacks]`",
        (_, ["_", ..] | ["io", "buildpacks", ..]) => "unknown key",
        _ => return None,
    };
    Some(format!("{place}: `{key}` is ignored: {reason}"))
}

/// What all schemas have, in one shape.
struct Tables {
    about: About,
    include: Option<Texts>,
    exclude: Option<Texts>,
    builder: Option<Text>,
    group: Vec<Spanned<Entry>>,
    pre: Vec<Spanned<Entry>>,
    post: Vec<Spanned<Entry>>,
    env: Vec<Env>,
}

impl From<V01> for Tables {
    fn from(V01 { project, build }: V01) -> Self {
        Self {
            about: project,
            include: build.include,
            exclude: build.exclude,
            builder: build.builder,
            group: build.buildpacks,
            pre: Vec::new(),
            post: Vec::new(),
            env: build.env,
        }
    }
}

impl From<V02> for Tables {
    fn from(V02 { about, io }: V02) -> Self {
        let cnb = io.buildpacks;
        Self {
            about,
            include: cnb.include,
            exclude: cnb.exclude,
            builder: cnb.builder,
            group: cnb.group,
            pre: cnb.pre.group,
            post: cnb.post.group,
            env: if cnb.build.env.is_empty() { cnb.env.build } else { cnb.build.env },
        }
    }
}

/// Checks tables of one document.
struct Reader<'a> {
    document: &'a Document,
    /// Whether the schema has `exec-env`.
    exec_env: bool,
}

impl Reader<'_> {
    fn project(&self, tables: Tables, warnings: &mut Vec<String>) -> Result<Project, DocumentError> {
        let filter = self.filter(tables.include, tables.exclude)?;
        let mut buildpacks = |entries: Vec<Spanned<Entry>>| {
            entries.into_iter().map(|entry| self.buildpack(entry, warnings)).collect::<Result<Vec<_>, _>>()
        };
        let (group, pre, post) =
            (buildpacks(tables.group)?, buildpacks(tables.pre)?, buildpacks(tables.post)?);
        let env = tables.env.into_iter().map(|env| self.env(env, warnings)).collect::<Result<Vec<_>, _>>()?;
        let licenses = tables.about.licenses.into_iter().map(|license| self.license(license));
        Ok(Project {
            path: self.document.path().to_path_buf(),
            licenses: licenses.collect::<Result<Vec<_>, _>>()?,
            id: tables.about.id,
            name: tables.about.name,
            version: tables.about.version,
            source_url: tables.about.source_url,
            authors: tables.about.authors,
            documentation_url: tables.about.documentation_url,
            filter,
            builder: tables.builder.map(|builder| self.not_empty("builder", builder)).transpose()?,
            group,
            pre,
            post,
            env,
            warnings: Vec::new(),
        })
    }

    fn filter(&self, include: Option<Texts>, exclude: Option<Texts>) -> Result<Filter, DocumentError> {
        if let (Some(_), Some(exclude)) = (&include, &exclude) {
            return Err(self
                .document
                .error(exclude.span(), "`include` and `exclude` are both there")
                .with_help("keep one of them: `include` alone leaves out everything else"));
        }
        let included = include.is_some();
        let Some(patterns) = include.or(exclude).map(Spanned::into_inner) else {
            return Ok(Filter::default());
        };
        let texts: Vec<&str> = patterns.iter().map(|pattern| pattern.get_ref().as_str()).collect();
        let filter = if included { Filter::include(&texts) } else { Filter::exclude(&texts) };
        filter.map_err(|error| {
            let place = patterns.iter().find(|pattern| *pattern.get_ref() == error.pattern);
            self.document.error(place.map(Spanned::span), error.to_string())
        })
    }

    fn buildpack(
        &self,
        entry: Spanned<Entry>,
        warnings: &mut Vec<String>,
    ) -> Result<Buildpack, DocumentError> {
        let span = entry.span();
        let entry = entry.into_inner();
        let exec_env = self.exec_env(entry.exec_env, warnings);
        let wrong = |place: Range<usize>, message: &str| Err(self.document.error(place, message));
        let source = match (entry.id, entry.uri, entry.script) {
            (_, Some(uri), Some(_)) => {
                return wrong(uri.span(), "a buildpack cannot have both `uri` and `script`");
            }
            (None, None, Some(_)) => return wrong(span, "a buildpack with a `script` must have an `id`"),
            (Some(id), None, Some(script)) => {
                BuildpackSource::Inline(self.inline(id, entry.version, script)?)
            }
            (_, Some(uri), None) => {
                if let Some(version) = entry.version {
                    return wrong(version.span(), "a buildpack cannot have both `uri` and `version`");
                }
                BuildpackSource::Locator(self.not_empty("uri", uri)?)
            }
            (Some(id), None, None) => {
                let id = self.not_empty("id", id)?;
                BuildpackSource::Locator(match entry.version {
                    Some(version) => format!("{id}@{}", self.not_empty("version", version)?),
                    None => id,
                })
            }
            (None, None, None) => return wrong(span, "a buildpack must have an `id` or a `uri`"),
        };
        Ok(Buildpack { source, exec_env })
    }

    fn inline(
        &self,
        id: Text,
        version: Option<Text>,
        script: Spanned<schema::Script>,
    ) -> Result<InlineBuildpack, DocumentError> {
        let span = script.span();
        let script = script.into_inner();
        let missing = |key: &str| {
            self.document.error(span.clone(), format!("the `script` of a buildpack must have `{key}`"))
        };
        Ok(InlineBuildpack {
            id: self.not_empty("id", id)?,
            version: match version {
                Some(version) => self.not_empty("version", version)?,
                None => DEFAULT_INLINE_VERSION.to_owned(),
            },
            api: self.not_empty("api", script.api.ok_or_else(|| missing("api"))?)?,
            script: script.inline.ok_or_else(|| missing("inline"))?.into_inner(),
            shell: match script.shell {
                Some(shell) => self.not_empty("shell", shell)?,
                None => DEFAULT_SHELL.to_owned(),
            },
        })
    }

    fn env(&self, env: Env, warnings: &mut Vec<String>) -> Result<EnvVar, DocumentError> {
        env_file::check_name(env.name.get_ref())
            .map_err(|reason| self.document.error(env.name.span(), format!("invalid variable: {reason}")))?;
        if env.value.get_ref().contains('\0') {
            return Err(self
                .document
                .error(env.value.span(), "the value of a variable must not contain NUL"));
        }
        Ok(EnvVar {
            name: env.name.into_inner(),
            value: env.value.into_inner(),
            exec_env: self.exec_env(env.exec_env, warnings),
        })
    }

    fn exec_env(&self, names: Option<Texts>, warnings: &mut Vec<String>) -> Vec<String> {
        match names {
            Some(names) if !self.exec_env => {
                let place = self.document.place(Some(&names.span()));
                warnings.push(format!("{place}: `exec-env` is ignored: it needs `schema-version = \"0.3\"`"));
                Vec::new()
            }
            Some(names) => names.into_inner().into_iter().map(Spanned::into_inner).collect(),
            None => Vec::new(),
        }
    }

    fn license(&self, license: Spanned<schema::License>) -> Result<License, DocumentError> {
        let span = license.span();
        let schema::License { kind, uri } = license.into_inner();
        if kind.is_none() && uri.is_none() {
            return Err(self.document.error(span, "a licence must have a `type` or a `uri`"));
        }
        Ok(License { kind, uri })
    }

    fn not_empty(&self, key: &str, text: Text) -> Result<String, DocumentError> {
        if text.get_ref().trim().is_empty() {
            return Err(self.document.error(text.span(), format!("`{key}` must not be empty")));
        }
        Ok(text.into_inner())
    }
}

#[cfg(test)]
mod tests;
