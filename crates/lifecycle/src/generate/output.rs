//! What one extension left: Dockerfiles, arguments, contexts.

use std::path::Path;

use cnb::ApiVersion;
use cnb::group::GroupElement;
use cnb::output::{ExtendConfig, ExtendImage};
use dockerfile::{Base, Dockerfile, Kind};
use events::Events;
use layer::Root;

use super::{GenerateError, GeneratedDockerfile, GeneratedExtension};
use crate::files::read_optional;

/// The two Dockerfiles that an extension can have.
pub(super) const KINDS: [Kind; 2] = [Kind::Build, Kind::Run];

/// Reads the output folder `root` of an extension, which is at `path` on this machine.
pub(super) fn read(
    element: &GroupElement,
    root: &Root,
    path: &Path,
    platform_api: ApiVersion,
    events: &dyn Events,
) -> Result<GeneratedExtension, GenerateError> {
    let contexts = contexts(element, root, path)?;
    let config = config(element, root, "extend-config.toml")?;
    let mut left = GeneratedExtension { element: element.clone(), ..GeneratedExtension::default() };
    for kind in KINDS {
        let name = kind.file_name();
        let Some(text) = read_optional(root, name)? else { continue };
        let of_image = match kind {
            Kind::Build => &config.build,
            Kind::Run => &config.run,
        };
        let mut dockerfile = dockerfile(element, kind, &text, &path.join(name), of_image, events)?;
        if let Some(context) = contexts.of(kind) {
            if platform_api.at_least(13) {
                dockerfile.context = Some(path.join(context));
            } else {
                events.warning(&format!(
                    "extension {}: Platform API {platform_api} has no {context}, files come from the app",
                    element.id
                ));
            }
        }
        match kind {
            Kind::Build => left.build = Some(dockerfile),
            Kind::Run => left.run = Some(dockerfile),
        }
    }
    Ok(left)
}

/// Checks the text of a Dockerfile, and reports what is not recommended.
pub(super) fn dockerfile(
    element: &GroupElement,
    kind: Kind,
    text: &str,
    path: &Path,
    config: &ExtendImage,
    events: &dyn Events,
) -> Result<GeneratedDockerfile, GenerateError> {
    let file = format!("{}/{}", element.id, kind.file_name());
    let invalid = |source| GenerateError::Dockerfile { id: element.id.clone(), source };
    let args: Vec<_> = config.args.iter().map(|arg| (arg.name.clone(), arg.value.clone())).collect();
    let dockerfile = Dockerfile::parse(&file, text).map_err(invalid)?;
    let checked = dockerfile::check(kind, &dockerfile, &args).map_err(invalid)?;
    for warning in &checked.warnings {
        events.warning(&format!("extension {}: {}", element.id, warning.text));
    }
    let base = match checked.base {
        Base::Given => None,
        Base::Other(image) => Some(image),
    };
    Ok(GeneratedDockerfile {
        dockerfile,
        path: path.to_owned(),
        base,
        extends: checked.extends,
        args,
        context: None,
        packages: config.packages.clone(),
    })
}

/// Reads `extend-config.toml`; none is an empty one.
pub(super) fn config(element: &GroupElement, root: &Root, name: &str) -> Result<ExtendConfig, GenerateError> {
    let text = read_optional(root, name)?.unwrap_or_default();
    let shown = format!("{}/extend-config.toml", element.id);
    ExtendConfig::parse(&shown, &text)
        .map_err(|source| GenerateError::Parse { id: element.id.clone(), source })
}

/// The context folders of an extension.
pub(super) struct Contexts {
    shared: bool,
    build: bool,
    run: bool,
}

impl Contexts {
    /// The name of the folder for this image.
    pub fn of(&self, kind: Kind) -> Option<&'static str> {
        match kind {
            _ if self.shared => Some("context"),
            Kind::Build => self.build.then_some("context.build"),
            Kind::Run => self.run.then_some("context.run"),
        }
    }
}

/// Finds the context folders. A symlink is none: what it leads to need not be the extension's.
pub(super) fn contexts(element: &GroupElement, root: &Root, path: &Path) -> Result<Contexts, GenerateError> {
    let is_there = |name: &str| match root.lstat(name) {
        Ok(meta) if meta.is_dir() => Ok(true),
        Ok(_) => Err(GenerateError::NotAFolder { path: path.join(name) }),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    };
    let (shared, build, run) = (is_there("context")?, is_there("context.build")?, is_there("context.run")?);
    let other = match (build, run) {
        (true, true) => "context.build and context.run",
        (true, false) => "context.build",
        (false, true) => "context.run",
        (false, false) => return Ok(Contexts { shared, build, run }),
    };
    if shared {
        return Err(GenerateError::Contexts { id: element.id.clone(), other: other.to_owned() });
    }
    Ok(Contexts { shared, build, run })
}
