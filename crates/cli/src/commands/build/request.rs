//! From what was typed to what the platform is asked for.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use events::Events as _;
use oci::{ImageName, Platform, Reference};
use platform::build::{BuildRequest, HostEnv, RestoreMode};
use platform::cache_spec::{CacheKind, CachePlace, CacheSpec};
use platform::volume::Volume;

use super::{BuildArgs, Network, Restore, extend};
use crate::context::Context;
use crate::error::CommandError;

/// What the program exits with when an argument cannot be used, as it does when clap finds one.
const USAGE: u8 = 2;

/// Checks the arguments.
pub fn from_args(context: &Context<'_>, args: &BuildArgs) -> Result<BuildRequest, CommandError> {
    let entered = context.enter()?;
    let config = context.config()?;
    let client = args.registry.client(context)?;
    let store = context.store()?;
    request(context, args, config, entered, client, store).map_err(|error| error.code(USAGE))
}

fn request(
    context: &Context<'_>,
    args: &BuildArgs,
    config: &platform::config::Config,
    entered: sandbox::Entered,
    client: oci::registry::Client,
    store: oci::Store,
) -> Result<BuildRequest, CommandError> {
    let destination = destination(&args.image, args.publish)?;
    let publish = matches!(destination, ImageName::Registry(_));
    let tags = args.tag.iter().map(|tag| self::destination(tag, publish));
    let workspace = args.workspace.clone().unwrap_or_else(|| "workspace".to_owned());
    if workspace.is_empty() || workspace.contains('/') || workspace == "." || workspace == ".." {
        return Err(CommandError::new(format!(
            "invalid workspace `{workspace}`: expected the name of a folder"
        )));
    }
    if !is_exec_env(&args.exec_env) {
        return Err(CommandError::new(format!(
            "invalid execution environment `{}`: expected letters, digits, `.` and `-`",
            args.exec_env
        )));
    }
    let volumes = volumes(args)?;
    let app = Path::new("/").join(&workspace);
    volumes.iter().filter_map(|volume| volume.warning(&app)).for_each(|text| context.ui.warning(&text));
    Ok(BuildRequest {
        store,
        ids: entered.ids,
        client: Arc::new(client),
        destination,
        tags: tags.collect::<Result<_, _>>()?,
        app: args.path.clone(),
        descriptor: args.descriptor.clone(),
        workspace,
        builder: args.builder.clone(),
        default_builder: config.default_builder_image.clone(),
        buildpacks: args.buildpack.clone(),
        pre_buildpacks: args.pre_buildpack.clone(),
        post_buildpacks: args.post_buildpack.clone(),
        extensions: args.extension.clone(),
        disable_system_buildpacks: args.disable_system_buildpacks,
        env: args.env.clone(),
        env_files: args.env_file.clone(),
        host_env: HostEnv(Arc::new(|name: &str| std::env::var_os(name))),
        exec_env: args.exec_env.clone(),
        volumes,
        network: args.network == Network::Host,
        uid: args.uid,
        gid: args.gid,
        extend_cache_ttl: Some(extend::ttl(&args.extend_cache_ttl)?),
        secrets: extend::secrets(&args.secret)?,
        run_image: args.run_image.clone(),
        run_image_sbom: args.run_image_sbom.clone(),
        base_packages: !args.no_base_packages,
        run_image_mirrors: config.run_images.clone(),
        default_process: args.default_process.clone(),
        created: created(args)?,
        previous_image: args
            .previous_image
            .as_deref()
            .map(|name| self::destination(name, args.publish))
            .transpose()?,
        compression: match &args.compression {
            Some(text) => text.parse()?,
            None => config.compression.unwrap_or_default(),
        },
        platform: args.platform.as_deref().map_or_else(|| Ok(Platform::host()), str::parse)?,
        sbom_output_dir: args.sbom_output_dir.clone(),
        report_output_dir: args.report_output_dir.clone(),
        cache: cache(context, args)?,
        clear_cache: args.clear_cache,
        restore: match args.restore {
            Restore::Auto => RestoreMode::Auto,
            Restore::Overlay => RestoreMode::Overlay,
            Restore::Copy => RestoreMode::Copy,
        },
        pull_policy: match args.pull_policy.as_ref().or(config.pull_policy.as_ref()) {
            Some(text) => text.parse()?,
            None => Default::default(),
        },
    })
}

/// A plain name with `--publish` is one in a registry.
pub fn destination(text: &str, publish: bool) -> Result<ImageName, CommandError> {
    match text.parse()? {
        ImageName::Plain(reference) | ImageName::Registry(reference) if reference.digest().is_some() => {
            Err(CommandError::new(format!(
                "invalid name `{text}`: an image that is yet to be made has no digest"
            ))
            .hint(format!("leave out `@…`: {}", reference.name())))
        }
        ImageName::Plain(reference) if publish => Ok(ImageName::Registry(reference)),
        name @ (ImageName::Plain(_) | ImageName::Registry(_)) => Ok(name),
        name if publish => {
            Err(CommandError::new(format!("--publish needs a name in a registry, not `{name}`"))
                .hint("leave out --publish to write to that place"))
        }
        name => has_a_place(name),
    }
}

/// A layout or an archive whose folder is there: said before the work, not after it.
pub fn has_a_place(name: ImageName) -> Result<ImageName, CommandError> {
    let (ImageName::OciArchive { file, .. } | ImageName::DockerArchive { file, .. }) = &name else {
        return Ok(name);
    };
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match folder.is_dir() && !file.is_dir() {
        true => Ok(name),
        false if file.is_dir() => {
            Err(CommandError::new(format!("cannot write {name}: {} is a folder", file.display())))
        }
        false => {
            Err(CommandError::new(format!("cannot write {name}: there is no folder {}", folder.display())))
        }
    }
}

fn volumes(args: &BuildArgs) -> Result<Vec<Volume>, CommandError> {
    args.volume.iter().map(|text| Ok(Volume::parse(text)?)).collect()
}

fn is_exec_env(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
}

fn created(args: &BuildArgs) -> Result<Option<u64>, CommandError> {
    match args.creation_time.as_deref() {
        None => Ok(std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok())),
        Some("now") => {
            Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok().map(|time| time.as_secs()))
        }
        Some(text) => match text.parse() {
            Ok(seconds) => Ok(Some(seconds)),
            Err(_) => Err(CommandError::new(format!(
                "invalid creation time `{text}`: expected seconds since 1970, or `now`"
            ))),
        },
    }
}

fn cache(context: &Context<'_>, args: &BuildArgs) -> Result<CachePlace, CommandError> {
    let mut place = None;
    for text in &args.cache {
        let spec: CacheSpec = text.parse()?;
        match spec.kind {
            CacheKind::Build => place = Some(spec.place),
            CacheKind::Launch => events::Events::warning(
                context.ui,
                "a launch cache is not needed: the store has the layers of images",
            ),
        }
    }
    match (&args.cache_image, place) {
        (Some(_), Some(_)) => Err(CommandError::new("--cache-image and --cache both name a build cache")
            .hint("leave out one of them")),
        (Some(image), None) => Ok(CachePlace::Image(image.clone())),
        (None, place) => Ok(place.unwrap_or(CachePlace::Store { name: None })),
    }
    .and_then(|place| match &place {
        CachePlace::Image(name) => name.parse::<Reference>().map(|_| place).map_err(CommandError::from),
        _ => Ok(place),
    })
}
