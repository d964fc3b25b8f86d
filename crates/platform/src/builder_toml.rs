//! `builder.toml`: what `builder create` makes a builder from. The keys are those of `pack`; a key that is not
//! one of them is an error.
//!
//! Here: the file becomes one checked [`BuilderToml`]. Not here: fetching what it names, or the image.

mod schema;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;

use crate::document::{Document, DocumentError};
use crate::env_file;
use schema::{Reference, Text};

/// A checked `builder.toml`.
#[derive(Clone, Debug)]
pub struct BuilderToml {
    /// The file. Relative paths in it are relative to its folder.
    pub path: PathBuf,
    /// What the builder is for, in a sentence.
    pub description: String,
    /// The buildpacks to put in.
    pub buildpacks: Vec<ModuleEntry>,
    /// The image extensions to put in.
    pub extensions: Vec<ModuleEntry>,
    /// Groups of buildpacks, to be tried in this order.
    pub order: Vec<Vec<GroupEntry>>,
    /// Groups of extensions, to be tried in this order.
    pub order_extensions: Vec<Vec<GroupEntry>>,
    /// The stack that build and run images must be of, where the file names one.
    pub stack_id: Option<String>,
    /// The image to put all of it into.
    pub build_image: String,
    /// The images that apps can run on, the default one first. Never empty.
    pub run_images: Vec<RunImageEntry>,
    /// The lifecycle to put in, where the file names one.
    pub lifecycle: Option<LifecycleSource>,
    /// File names below `<build-config>/env` and what is in them.
    pub build_env: BTreeMap<String, String>,
    /// What the builder is to run on; empty for what its build image runs on.
    pub targets: Vec<Target>,
    /// Buildpacks that run before those of every group.
    pub system_pre: Vec<GroupEntry>,
    /// Buildpacks that run after those of every group.
    pub system_post: Vec<GroupEntry>,
    /// What is odd and does not stop the making: complete lines.
    pub warnings: Vec<String>,
}

/// A module to put into the builder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleEntry {
    /// The id it must turn out to have, where given.
    pub id: Option<String>,
    /// The version it must turn out to have, where given.
    pub version: Option<String>,
    /// Where it is: see [`crate::locator`].
    pub locator: String,
    /// Where the file names it, for messages: `<path>:<line>:<column>`.
    pub place: String,
}

/// A module in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEntry {
    /// Its id.
    pub id: String,
    /// Its version; none for the only one on the builder.
    pub version: Option<String>,
    /// Whether the group passes without it.
    pub optional: bool,
    /// The execution environments it is for; empty for all.
    pub exec_env: Vec<String>,
    /// Where the file names it, for messages: `<path>:<line>:<column>`.
    pub place: String,
}

/// An image that apps can run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunImageEntry {
    /// Its name.
    pub image: String,
    /// Names of the same image elsewhere.
    pub mirrors: Vec<String>,
}

/// Where the lifecycle is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LifecycleSource {
    /// A path, a URI or an image.
    Uri(String),
    /// A released version.
    Version(String),
}

/// What a builder runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Operating system, architecture and variant; an empty architecture for any.
    pub platform: oci::Platform,
    /// Distributions as name and version.
    pub distros: Vec<(String, String)>,
}

/// A `builder.toml` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BuilderTomlError {
    /// The file cannot be read.
    #[error("failed to read the builder configuration `{path}`: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What it says is wrong.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

impl BuilderToml {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// A file that cannot be read, or as [`BuilderToml::parse`].
    pub fn load(path: &Path) -> Result<Self, BuilderTomlError> {
        let document = Document::read(path)
            .map_err(|error| BuilderTomlError::Read { path: path.to_path_buf(), source: error.source })?;
        Ok(Self::parse(&document)?)
    }

    /// Parses and checks a document.
    ///
    /// # Errors
    /// Not TOML, an unknown key, a value of a wrong type, no build image or no run image, values that
    /// contradict each other; with the place.
    pub fn parse(document: &Document) -> Result<Self, DocumentError> {
        let (top, unknown) = document.parse::<schema::Top>()?;
        if let Some(key) = unknown.first() {
            return Err(document.error(key.span.clone(), format!("unknown key `{key}`")));
        }
        Reader { document, warnings: Vec::new() }.builder(top)
    }

    /// The folder that relative paths start from.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

/// Checks tables of one document.
struct Reader<'a> {
    document: &'a Document,
    warnings: Vec<String>,
}

type Checked<T> = Result<T, DocumentError>;

impl Reader<'_> {
    fn builder(mut self, top: schema::Top) -> Checked<BuilderToml> {
        let (stack, build) = (top.stack, top.build);
        let (build_from_table, env) = build.map_or((None, Vec::new()), |build| (build.image, build.env));
        let (stack_id, stack_build, stack_run, stack_mirrors) = match stack {
            Some(stack) => (stack.id, stack.build_image, stack.run_image, stack.run_image_mirrors),
            None => (None, None, None, Vec::new()),
        };
        let run = top.run.map(|run| run.images).unwrap_or_default();
        if top.order.is_empty() {
            self.warnings.push(format!("{}: the builder has no `order`", self.document.path().display()));
        }
        let builder = BuilderToml {
            path: self.document.path().to_path_buf(),
            description: top.description,
            buildpacks: self.modules(top.buildpacks, "buildpack")?,
            extensions: self.modules(top.extensions, "extension")?,
            order: self.order(top.order)?,
            order_extensions: self.order(top.order_extensions)?,
            stack_id: stack_id.map(|id| self.not_empty("id", id)).transpose()?,
            build_image: self.build_image(build_from_table, stack_build)?,
            run_images: self.run_images(run, stack_run, stack_mirrors)?,
            lifecycle: top.lifecycle.map(|lifecycle| self.lifecycle(lifecycle)).transpose()?,
            build_env: self.build_env(env)?,
            targets: top.targets.into_iter().map(|target| self.target(target)).collect::<Checked<_>>()?,
            system_pre: self.references(top.system.pre.buildpacks)?,
            system_post: self.references(top.system.post.buildpacks)?,
            warnings: Vec::new(),
        };
        Ok(BuilderToml { warnings: self.warnings, ..builder })
    }

    fn modules(&self, modules: Vec<Spanned<schema::Module>>, kind: &str) -> Checked<Vec<ModuleEntry>> {
        let module = |module: Spanned<schema::Module>| {
            let (span, module) = (module.span(), module.into_inner());
            let place = self.document.place(Some(&span));
            let locator = match (module.uri, module.image) {
                (Some(_), Some(image)) => {
                    let message = format!("the {kind} has both `uri` and `image`");
                    return Err(self.document.error(image.span(), message));
                }
                (Some(uri), None) => self.not_empty("uri", uri)?,
                (None, Some(image)) => format!("docker://{}", self.not_empty("image", image)?),
                (None, None) => {
                    let message = format!("the {kind} must have a `uri` or an `image`");
                    return Err(self.document.error(span, message));
                }
            };
            let locator = locator.replacen("docker://docker://", "docker://", 1);
            let id = module.id.map(|id| self.not_empty("id", id)).transpose()?;
            let version = module.version.map(|version| self.not_empty("version", version)).transpose()?;
            Ok(ModuleEntry { id, version, locator, place })
        };
        modules.into_iter().map(module).collect()
    }

    fn order(&self, order: Vec<Spanned<schema::Group>>) -> Checked<Vec<Vec<GroupEntry>>> {
        let group = |group: Spanned<schema::Group>| {
            if group.get_ref().group.is_empty() {
                return Err(self.document.error(group.span(), "the `group` is empty"));
            }
            self.references(group.into_inner().group)
        };
        order.into_iter().map(group).collect()
    }

    fn references(&self, references: Vec<Spanned<Reference>>) -> Checked<Vec<GroupEntry>> {
        let reference = |reference: Spanned<Reference>| {
            let place = self.document.place(Some(&reference.span()));
            let reference = reference.into_inner();
            Ok(GroupEntry {
                id: self.not_empty("id", reference.id)?,
                version: reference.version.map(|version| self.not_empty("version", version)).transpose()?,
                optional: reference.optional,
                exec_env: reference.exec_env,
                place,
            })
        };
        references.into_iter().map(reference).collect()
    }

    fn build_image(&self, build: Option<Text>, stack: Option<Text>) -> Checked<String> {
        match (build, stack) {
            (Some(build), Some(stack)) if build.get_ref() != stack.get_ref() => {
                Err(self.document.error(stack.span(), "`stack.build-image` is not the same as `build.image`"))
            }
            (Some(image), _) | (None, Some(image)) => self.not_empty("image", image),
            (None, None) => Err(self
                .document
                .error(None, "no build image")
                .with_help("add `[build]` with `image = \"…\"`: the image that the buildpacks run in")),
        }
    }

    fn run_images(
        &self,
        images: Vec<schema::RunImage>,
        stack: Option<Text>,
        mirrors: Vec<String>,
    ) -> Checked<Vec<RunImageEntry>> {
        match (images.first(), stack) {
            (Some(first), Some(stack)) if first.image.get_ref() != stack.get_ref() => Err(self
                .document
                .error(stack.span(), "`stack.run-image` is not the same as the first of `run.images`")),
            (Some(_), _) => images
                .into_iter()
                .map(|run| {
                    let image = self.not_empty("image", run.image)?;
                    Ok(RunImageEntry { image, mirrors: run.mirrors })
                })
                .collect(),
            (None, Some(stack)) => {
                Ok(vec![RunImageEntry { image: self.not_empty("run-image", stack)?, mirrors }])
            }
            (None, None) => Err(self
                .document
                .error(None, "no run image")
                .with_help("add `[[run.images]]` with `image = \"…\"`: the image that apps run on")),
        }
    }

    fn lifecycle(&self, lifecycle: Spanned<schema::Lifecycle>) -> Checked<LifecycleSource> {
        let (span, lifecycle) = (lifecycle.span(), lifecycle.into_inner());
        match (lifecycle.uri, lifecycle.version) {
            (Some(_), Some(version)) => {
                Err(self.document.error(version.span(), "`lifecycle` has both `uri` and `version`"))
            }
            (Some(uri), None) => Ok(LifecycleSource::Uri(self.not_empty("uri", uri)?)),
            (None, Some(version)) => {
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
                if !version.get_ref().starts_with(|c: char| c.is_ascii_digit())
                    || !version.get_ref().chars().all(plain)
                {
                    return Err(self.document.error(version.span(), "expected a version such as `0.20.0`"));
                }
                Ok(LifecycleSource::Version(version.into_inner()))
            }
            (None, None) => Err(self.document.error(span, "`lifecycle` must have a `uri` or a `version`")),
        }
    }

    /// The files of `<build-config>/env`: `NAME[.suffix]`, and `NAME.delim` (buildpack.md, "Environment
    /// Variable Modification Rules").
    fn build_env(&mut self, env: Vec<schema::Env>) -> Checked<BTreeMap<String, String>> {
        let mut files = BTreeMap::new();
        let mut joined: Vec<(String, Range<usize>)> = Vec::new();
        for schema::Env { name, value, suffix, delim, exec_env } in env {
            let span = name.span();
            env_file::check_name(name.get_ref())
                .map_err(|reason| self.document.error(span.clone(), format!("invalid variable: {reason}")))?;
            let name = name.into_inner();
            let file = match suffix.as_ref().map(|suffix| (suffix.get_ref().as_str(), suffix.span())) {
                None | Some(("", _)) => name.clone(),
                Some((suffix @ ("default" | "override"), _)) => format!("{name}.{suffix}"),
                Some((suffix @ ("append" | "prepend"), _)) => {
                    joined.push((name.clone(), span.clone()));
                    format!("{name}.{suffix}")
                }
                Some((other, place)) => {
                    let message = format!("unknown suffix `{other}`");
                    let help = "expected `default`, `override`, `append` or `prepend`";
                    return Err(self.document.error(place, message).with_help(help));
                }
            };
            if let Some(exec_env) = exec_env {
                let place = self.document.place(Some(&exec_env.span()));
                self.warnings
                    .push(format!("{place}: `exec-env` is ignored: a builder's variables are for all"));
            }
            if let Some(delim) = delim.map(Spanned::into_inner).filter(|delim| !delim.is_empty()) {
                self.put(&mut files, format!("{name}.delim"), delim, &span);
            }
            self.put(&mut files, file, value.into_inner(), &span);
        }
        match joined.into_iter().find(|(name, _)| !files.contains_key(&format!("{name}.delim"))) {
            Some((name, span)) => Err(self
                .document
                .error(span, format!("`{name}` is appended or prepended to, and has no `delim`"))
                .with_help("add `delim = \":\"`, or what else separates the values")),
            None => Ok(files),
        }
    }

    fn put(
        &mut self,
        files: &mut BTreeMap<String, String>,
        file: String,
        value: String,
        span: &Range<usize>,
    ) {
        let place = self.document.place(Some(span));
        if value.is_empty() {
            self.warnings.push(format!("{place}: the value of `{file}` is empty"));
        }
        if files.get(&file).is_some_and(|before| *before != value) {
            self.warnings.push(format!("{place}: `{file}` is set again, to another value"));
        }
        files.insert(file, value);
    }

    fn target(&self, target: Spanned<schema::Target>) -> Checked<Target> {
        let (span, target) = (target.span(), target.into_inner());
        let os = target.os.ok_or_else(|| self.document.error(span, "the target must have an `os`"))?;
        if os.get_ref() != "linux" {
            let message = format!("unsupported operating system `{}`, expected `linux`", os.get_ref());
            return Err(self.document.error(os.span(), message));
        }
        let platform = oci::Platform {
            os: os.into_inner(),
            architecture: target.arch.unwrap_or_default(),
            variant: target.variant.filter(|variant| !variant.is_empty()),
        };
        let distro =
            |distro: schema::Distro| (distro.name.unwrap_or_default(), distro.version.unwrap_or_default());
        Ok(Target { platform, distros: target.distros.into_iter().map(distro).collect() })
    }

    fn not_empty(&self, key: &str, text: Text) -> Checked<String> {
        if text.get_ref().trim().is_empty() {
            return Err(self.document.error(text.span(), format!("`{key}` must not be empty")));
        }
        Ok(text.into_inner())
    }
}

#[cfg(test)]
mod tests;
