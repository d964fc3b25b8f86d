//! What packages the images of a build have: so that no extension installs what is there, and that the app's SBOM says
//! what an extension has installed.
//!
//! For the run image the answer is, in this order, what `--run-image-sbom` says, an SBOM that refers to the image in its
//! registry, the SBOM layer that the label `io.buildpacks.base.sbom` names, the package databases in its layers; for
//! others the same without the first. Where none of these is to be had, nothing is known, and every extension runs.

mod added;
mod attached;
mod databases;
mod known;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use cnb::descriptor::ImagePackages;
use cnb::group::GroupElement;
use events::Events;
use lifecycle::generate::{Generated, GeneratedDockerfile};
use oci::{Image, ImageName};
use packages::PackageSet;

use super::request::BuildRequest;
use super::{BuildError, images};
use databases::Databases;

pub(super) use added::Sboms;

/// More than any SBOM has.
const SBOM_LIMIT: u64 = 128 << 20;

/// Answers which packages the images of a build have. Nothing is looked up before it is asked for.
pub(super) struct BasePackages<'a> {
    request: &'a BuildRequest,
    builder: (&'a ImageName, &'a Image),
    run_image: (&'a ImageName, &'a Image),
    /// What the user says of the run image.
    given: Option<Rc<PackageSet>>,
    events: &'a dyn Events,
    found: RefCell<BTreeMap<String, Option<Rc<PackageSet>>>>,
}

/// `--run-image-sbom` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {} as the SBOM of the run image", path.display())]
pub struct RunImageSbomError {
    /// The file.
    path: PathBuf,
    /// Why.
    #[source]
    source: RunImageSbomCause,
}

/// Why.
#[derive(Debug, thiserror::Error)]
pub enum RunImageSbomCause {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] layer::PathError),
    /// It is none.
    #[error(transparent)]
    Sbom(#[from] packages::sbom::SbomError),
}

impl<'a> BasePackages<'a> {
    /// For a build with these images.
    pub fn new(
        request: &'a BuildRequest,
        builder: (&'a ImageName, &'a Image),
        run_image: (&'a ImageName, &'a Image),
        events: &'a dyn Events,
    ) -> Result<Self, BuildError> {
        let given = match &request.run_image_sbom {
            Some(path) => Some(Rc::new(
                read_sbom(path).map_err(|source| RunImageSbomError { path: path.clone(), source })?,
            )),
            None => None,
        };
        Ok(Self { request, builder, run_image, given, events, found: RefCell::default() })
    }

    /// The line that says that the images have all that the extension declares; none when something is missing or
    /// nothing is known. For [`lifecycle::generate::GenerateInputs::covered`].
    pub fn covered(
        &self,
        element: &GroupElement,
        wanted: &ImagePackages,
        switched: Option<&str>,
    ) -> Option<String> {
        // An extension that installs nothing has another reason to be there.
        if !self.request.base_packages || (wanted.build.is_empty() && wanted.run.is_empty()) {
            return None;
        }
        let there = (wanted.build.is_empty() || has_all(self.of_builder().as_deref(), &wanted.build))
            && (wanted.run.is_empty() || has_all(self.of_run_image(switched).as_deref(), &wanted.run));
        there.then(|| {
            let images = usize::from(!wanted.build.is_empty()) + usize::from(!wanted.run.is_empty());
            let mut names: Vec<&str> = Vec::new();
            for name in wanted.build.iter().chain(&wanted.run) {
                if !names.contains(&name.as_str()) {
                    names.push(name);
                }
            }
            format!("{}: extension {} is not needed", already(images, &names), element.id)
        })
    }

    /// Leaves out Dockerfiles that say which packages they install (`extend-config.toml`), where the images have all.
    pub fn leave_out(&self, generated: &mut Generated) {
        if !self.request.base_packages {
            return;
        }
        let switched = generated.run_image.clone();
        for extension in &mut generated.extensions {
            let id = extension.element.id.clone();
            if let Some(dockerfile) = &mut extension.build
                && declares(dockerfile)
                && has_all(self.of_builder().as_deref(), &dockerfile.packages)
            {
                self.say(dockerfile, &format!("build.Dockerfile of extension {id}"));
                extension.build = None;
            }
            if let Some(dockerfile) = &mut extension.run
                && declares(dockerfile)
                && has_all(self.of_run_image(switched.as_deref()).as_deref(), &dockerfile.packages)
            {
                self.say(dockerfile, &format!("run.Dockerfile of extension {id}"));
                match dockerfile.base {
                    // It is still what chooses the run image.
                    Some(_) => dockerfile.extends = false,
                    None => extension.run = None,
                }
            }
        }
        let extends = |it: &Option<GeneratedDockerfile>| it.as_ref().is_some_and(|it| it.extends);
        generated.extend_build = generated.extensions.iter().any(|it| extends(&it.build));
        generated.extend_run = generated.extensions.iter().any(|it| extends(&it.run));
    }

    fn say(&self, dockerfile: &GeneratedDockerfile, what: &str) {
        let names: Vec<&str> = dockerfile.packages.iter().map(String::as_str).collect();
        self.events.info(&format!("{}: {what} is not needed", already(1, &names)));
    }

    fn of_builder(&self) -> Option<Rc<PackageSet>> {
        let (name, image) = self.builder;
        self.look_up("builder", || Ok(self.of_image(name, image)))
    }

    /// `switched` is what an extension wants instead of the run image.
    fn of_run_image(&self, switched: Option<&str>) -> Option<Rc<PackageSet>> {
        let (name, image) = self.run_image;
        match switched {
            None if self.given.is_some() => self.given.clone(),
            None => self.look_up("run image", || Ok(self.of_image(name, image))),
            Some(other) => self.look_up(&format!("run image {other}"), || {
                let name: ImageName = other.parse()?;
                let image = images::open(self.request, &name)?;
                Ok(self.of_image(&name, &image))
            }),
        }
    }

    fn look_up(
        &self,
        what: &str,
        find: impl FnOnce() -> Result<Option<PackageSet>, BuildError>,
    ) -> Option<Rc<PackageSet>> {
        if let Some(found) = self.found.borrow().get(what) {
            return found.clone();
        }
        // An image that cannot be had is an error when it is used, not when somebody asks what may be in it.
        let found = find().ok().flatten().map(Rc::new);
        self.found.borrow_mut().insert(what.to_owned(), found.clone());
        found
    }

    fn of_image(&self, name: &ImageName, image: &Image) -> Option<PackageSet> {
        let store = &self.request.store;
        if let Some(set) = known::read(store, &known::of_sbom(image)) {
            return set;
        }
        if let Some(set) = attached::find(self.request, name, image, self.events) {
            let set = Some(set);
            known::write(store, &known::of_sbom(image), &set);
            return set;
        }
        let databases = Databases::new(self.request, self.events);
        databases.of_image(image).unwrap_or_else(|error| {
            let error = chain(&error);
            self.events.warning(&format!("it is not known which packages {name} has: {error}"));
            None
        })
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn read_sbom(path: &std::path::Path) -> Result<PackageSet, RunImageSbomCause> {
    Ok(packages::sbom::read(&layer::named::read_input(path, SBOM_LIMIT)?)?)
}

fn declares(dockerfile: &GeneratedDockerfile) -> bool {
    dockerfile.extends && !dockerfile.packages.is_empty()
}

fn has_all(set: Option<&PackageSet>, wanted: &[String]) -> bool {
    set.is_some_and(|set| wanted.iter().all(|name| set.has(name)))
}

fn already(images: usize, names: &[&str]) -> String {
    let (noun, verb) = if images == 1 { ("image", "has") } else { ("images", "have") };
    format!("Base {noun} already {verb} {}", names.join(", "))
}

impl std::fmt::Debug for BasePackages<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BasePackages").field("found", &self.found).finish_non_exhaustive()
    }
}
