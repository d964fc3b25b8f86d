//! What `<generated>` looks like: from Platform API 0.13 on a folder for each extension with all that it left, before
//! that a folder for each image, with a Dockerfile for each extension in it.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use cnb::ApiVersion;
use cnb::group::GroupElement;
use cnb::launch::escape_id;
use dockerfile::Kind;
use events::Events;
use fs_err as fs;
use layer::Root;

use super::output::{self, KINDS};
use super::{GenerateError, GenerateInputs, Generated, GeneratedDockerfile, GeneratedExtension};
use crate::executor::Place;
use crate::files::{create_new, read_optional};

/// Where extensions write before Platform API 0.13, in `<generated>`.
const OUTPUT: &str = "output";
const CONFIG: &str = "extend-config.toml";

/// The first Platform API in which each extension has a folder of its own.
fn has_folders(platform_api: ApiVersion) -> bool {
    platform_api.at_least(13)
}

/// The name of an image's folder before that.
fn folder(kind: Kind) -> &'static str {
    match kind {
        Kind::Build => "build",
        Kind::Run => "run",
    }
}

/// The folders that extensions write to while they run.
pub(super) struct Work<'a> {
    generated: &'a Place,
    /// What is in it are the extensions' folders.
    outputs: Place,
    platform_api: ApiVersion,
}

impl<'a> Work<'a> {
    pub fn new(inputs: &GenerateInputs<'a>) -> Result<Self, GenerateError> {
        let (generated, platform_api) = (inputs.generated, inputs.platform_api);
        let outputs = match has_folders(platform_api) {
            true => generated.clone(),
            false => generated.join(OUTPUT),
        };
        if !has_folders(platform_api) {
            make_empty(&outputs.host)?;
        }
        Ok(Self { generated, outputs, platform_api })
    }

    /// Makes an extension's folder, empty. What an earlier build left there is none of this one's.
    pub fn output(&self, element: &GroupElement) -> Result<Place, GenerateError> {
        let place = self.outputs.join(escape_id(&element.id));
        make_empty(&place.host)?;
        Ok(place)
    }

    /// An extension's folder, after it ran.
    pub fn open(&self, element: &GroupElement) -> Result<Root, GenerateError> {
        open(&Root::beneath(&self.outputs.host)?, &escape_id(&element.id))
    }

    /// Leaves in `<generated>` what the Platform API says, when no program of an extension runs any more.
    pub fn finish(self, generated: &mut Generated) -> Result<(), GenerateError> {
        for extension in &mut generated.extensions {
            if extension.covered.is_some() {
                continue;
            }
            // A later extension can have written here, where it has the same user.
            let root = self.open(&extension.element)?;
            let dir = self.outputs.join(escape_id(&extension.element.id)).host;
            output::contexts(&extension.element, &root, &dir)?;
            if has_folders(self.platform_api) {
                if let Some(ignored) = &mut extension.ignored_run {
                    ignore(ignored)?;
                }
            } else {
                self.copy(extension, &root)?;
            }
        }
        Ok(())
    }

    /// Writes the Dockerfiles of an extension where older platforms look for them.
    fn copy(&self, extension: &mut GeneratedExtension, output: &Root) -> Result<(), GenerateError> {
        let escaped = escape_id(&extension.element.id);
        let GeneratedExtension { build, run, ignored_run, .. } = extension;
        let files = [(Kind::Build, build, ""), (Kind::Run, run, ""), (Kind::Run, ignored_run, ".ignore")];
        let config = read_optional(output, CONFIG)?;
        for (kind, dockerfile, ending) in files {
            let Some(dockerfile) = dockerfile else { continue };
            let images = self.generated.host.join(folder(kind));
            make_folder(&images)?;
            let dir = images.join(&escaped);
            make_empty(&dir)?;
            dockerfile.path = dir.join(format!("Dockerfile{ending}"));
            create_new(&dockerfile.path)?.write_all(dockerfile.dockerfile.text().as_bytes())?;
            if let Some(config) = &config {
                create_new(&dir.join(CONFIG))?.write_all(config.as_bytes())?;
            }
        }
        Ok(())
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        if !has_folders(self.platform_api) {
            // Nobody reads it; where it cannot be removed it is in nobody's way.
            let _ = sandbox::remove_tree(&self.outputs.host);
        }
    }
}

/// Renames a Dockerfile, so that who applies all that are there does not apply it.
fn ignore(dockerfile: &mut GeneratedDockerfile) -> io::Result<()> {
    let mut name = dockerfile.path.clone().into_os_string();
    name.push(".ignore");
    let ignored = PathBuf::from(name);
    fs::rename(&dockerfile.path, &ignored)?;
    dockerfile.path = ignored;
    Ok(())
}

/// Makes an empty folder, in place of whatever is there.
fn make_empty(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => sandbox::remove_tree(path)?,
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::create_dir(path)
}

/// Makes a folder that may be there already; a symlink to one is none.
fn make_folder(path: &Path) -> Result<(), GenerateError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            match fs::symlink_metadata(path)?.is_dir() {
                true => Ok(()),
                false => Err(GenerateError::NotAFolder { path: path.to_owned() }),
            }
        }
        result => Ok(result?),
    }
}

/// Opens the folder `name` of `root`, which must not be a symlink.
fn open(root: &Root, name: &str) -> Result<Root, GenerateError> {
    if !root.lstat(name)?.is_dir() {
        return Err(GenerateError::NotAFolder { path: root.path().join(name) });
    }
    Ok(root.subdir(name)?)
}

/// Reads what an earlier run of this phase left in `<generated>` for these extensions. Which run image is used was
/// decided then.
///
/// # Errors
/// When what is there is not as it should be.
pub fn read(
    generated: &Root,
    group_extensions: &[GroupElement],
    platform_api: ApiVersion,
    events: &dyn Events,
) -> Result<Vec<GeneratedExtension>, GenerateError> {
    let read = |element: &GroupElement| {
        let escaped = escape_id(&element.id);
        if !has_folders(platform_api) {
            return read_older(generated, element, events);
        }
        if generated.lstat(&escaped).is_err_and(|error| error.is_not_found()) {
            return Ok(GeneratedExtension { element: element.clone(), ..GeneratedExtension::default() });
        }
        let path = generated.path().join(&escaped);
        output::read(element, &open(generated, &escaped)?, &path, platform_api, events)
    };
    group_extensions.iter().map(read).collect()
}

fn read_older(
    generated: &Root,
    element: &GroupElement,
    events: &dyn Events,
) -> Result<GeneratedExtension, GenerateError> {
    let mut extension = GeneratedExtension { element: element.clone(), ..GeneratedExtension::default() };
    for kind in KINDS {
        let dir = Path::new(folder(kind)).join(escape_id(&element.id));
        let file = dir.join("Dockerfile");
        if !generated.exists(&file) {
            continue;
        }
        let root = generated.subdir(&dir)?;
        let Some(text) = read_optional(&root, "Dockerfile")? else { continue };
        let config = output::config(element, &root, CONFIG)?;
        let path = generated.path().join(&file);
        let (config, place) = match kind {
            Kind::Build => (&config.build, &mut extension.build),
            Kind::Run => (&config.run, &mut extension.run),
        };
        *place = Some(output::dockerfile(element, kind, &text, &path, config, events)?);
    }
    Ok(extension)
}
