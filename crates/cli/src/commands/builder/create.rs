//! `pannier builder create`.

use std::ffi::OsString;
use std::path::{Component, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use cnb::builder::CreatedBy;
use oci::{ImageName, Reference};
use platform::build::PullPolicy;
use platform::builder::create::{
    BUILD_CONFIG, BUILD_CONFIG_VARIABLE, CreateError, CreateRequest, Created, create,
};
use platform::builder_toml::{BuilderToml, BuilderTomlError};
use platform::module::ModuleError;

use crate::commands::build::{destination, document, module_hint, snippet, unavailable};
use crate::commands::{RegistryArgs, pinned};
use crate::context::Context;
use crate::error::CommandError;

/// Make a builder
///
/// A build image with buildpacks on top, and an order in which they are tried. It goes to the local store, or where
/// its name says: `oci:DIR[:TAG]`, `oci-archive:FILE`, `docker-archive:FILE`, `docker://NAME`. The configuration is
/// that of `pack builder create`. The same configuration always makes the same image.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pannier builder create my-builder --config builder.toml
  pannier builder create registry.example/team/builder:1 --config builder.toml --publish
  pannier builder create oci:layout:builder --config builder.toml")]
pub struct CreateArgs {
    /// Where the builder goes: a name, or `oci:DIR`, `oci-archive:FILE`, `docker-archive:FILE`, `docker://NAME`
    #[arg(value_name = "IMAGE")]
    image: String,
    /// What it is made from: a builder.toml
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Push to the registry that the name says
    #[arg(long)]
    publish: bool,
    /// Add a label; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Another name for it; may be repeated
    #[arg(short, long, value_name = "NAME")]
    tag: Vec<Reference>,
    /// What it runs on: os[/arch[/variant]] [default: the configuration's target, or this machine's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<oci::Platform>,
    /// Compress new layers: gzip[:0-12], zstd[:1-22] or none
    #[arg(long, value_name = "KIND[:LEVEL]", default_value = "gzip")]
    compression: layer::Compression,
    /// When to ask the registry: always, never, if-not-present [default: configuration, or if-not-present]
    #[arg(long, value_name = "POLICY", help_heading = "Registry")]
    pull_policy: Option<PullPolicy>,
    #[command(flatten)]
    registry: RegistryArgs,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

/// Makes it.
pub fn run(context: &Context<'_>, args: &CreateArgs) -> Result<ExitCode, CommandError> {
    let destination = destination(&args.image, args.publish)?;
    let config = BuilderToml::load(&args.config).map_err(|error| match &error {
        BuilderTomlError::Document(inner) => {
            let detail = document(inner);
            CommandError::new(error).detail(detail)
        }
        BuilderTomlError::Read { .. } => CommandError::new(error).hint("--config names a builder.toml"),
    })?;
    let entered = context.enter()?;
    let pull_policy = match args.pull_policy {
        Some(policy) => policy,
        None => context
            .config()?
            .pull_policy
            .as_ref()
            .map_or_else(|| Ok(PullPolicy::default()), |text| text.parse())?,
    };
    let request = CreateRequest {
        store: context.store()?,
        ids: entered.ids,
        client: Arc::new(args.registry.client(context)?),
        destination,
        tags: args.tag.clone(),
        config,
        labels: args.label.clone(),
        platform: args.platform.clone(),
        pull_policy,
        compression: args.compression,
        build_config_dir: build_config_dir(std::env::var_os(BUILD_CONFIG_VARIABLE))?,
        created_by: CreatedBy { name: "Pannier".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
    };
    let created = create(&request, context.ui).map_err(failure)?;
    context.ui.finish();
    context.ui.results(summary(context, &request, &created));
    Ok(ExitCode::SUCCESS)
}

/// The folder in the builder that the environment asks for, as it does of `pack`.
fn build_config_dir(variable: Option<OsString>) -> Result<PathBuf, CommandError> {
    let Some(dir) = variable.filter(|dir| !dir.is_empty()).map(PathBuf::from) else {
        return Ok(BUILD_CONFIG.into());
    };
    let is_plain = dir.is_absolute() && !dir.components().any(|part| part == Component::ParentDir);
    match is_plain && dir.to_str().is_some() {
        true => Ok(dir),
        false => {
            let text = format!("{BUILD_CONFIG_VARIABLE} is `{}`: expected an absolute path", dir.display());
            Err(CommandError::new(text))
        }
    }
}

fn summary(context: &Context<'_>, request: &CreateRequest, created: &Created) -> Vec<String> {
    let name = match &request.destination {
        ImageName::Plain(reference) | ImageName::Registry(reference) => reference.familiar(),
        name => name.to_string(),
    };
    if context.ui.is_quiet() {
        return vec![pinned(&request.destination, created.image.digest())];
    }
    let mut lines = vec!["Buildpacks".to_owned()];
    lines.extend(created.modules.iter().map(|module| format!("  {module}")));
    if let Some(version) = &created.lifecycle {
        lines.extend(["Lifecycle".to_owned(), format!("  {version}")]);
    }
    lines.extend(["Builder".to_owned(), format!("  {name}"), format!("  {}", created.image.digest())]);
    lines.push(format!("Build with it:  pannier build my-app --builder {name}"));
    lines
}

/// What a person needs to know of a builder that could not be made.
fn failure(error: CreateError) -> CommandError {
    let hint = hint(&error);
    let detail = match &error {
        CreateError::Module { source: ModuleError::Document(error), .. } => Some(document(error)),
        CreateError::Module { source: ModuleError::Descriptor(error), .. } => snippet(error),
        _ => None,
    };
    let mut error = hint.into_iter().fold(CommandError::new(error), CommandError::hint);
    error.detail = detail;
    error
}

/// True for what could be a path as well as an image.
fn is_bare_name(locator: &str) -> bool {
    !locator.contains(':')
}

fn hint(error: &CreateError) -> Option<String> {
    match error {
        CreateError::Image(error) => unavailable(error),
        CreateError::Write { source, .. } | CreateError::Sink { source, .. } | CreateError::Store(source) => {
            source.hint()
        }
        CreateError::Module { locator, source: ModuleError::Image { .. }, .. } if is_bare_name(locator) => {
            Some(format!(
                "there is no file or folder `{locator}` beside the configuration, so it is an image"
            ))
        }
        CreateError::Module { source, .. } => module_hint(source),
        CreateError::Targets { .. } => Some("choose one with --platform".to_owned()),
        CreateError::Platform { .. } => Some("ask for another platform with --platform".to_owned()),
        CreateError::Unknown { known, .. } => Some(match known.as_slice() {
            [] => "the configuration names none at all".to_owned(),
            known => format!("there will be: {}", known.join(", ")),
        }),
        CreateError::Versions { .. } => Some("add `version` to the entry".to_owned()),
        CreateError::Incomplete { .. } => Some("add it to the configuration's `[[buildpacks]]`".to_owned()),
        CreateError::User { .. } => {
            Some("a build image has CNB_USER_ID and CNB_GROUP_ID in its environment".to_owned())
        }
        _ => None,
    }
}
