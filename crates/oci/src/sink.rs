//! Writing images: to the store, a layout, an archive, a registry. Whatever the sink, nothing half-written has a
//! name when it fails.

use std::collections::{BTreeMap, BTreeSet};

use events::{Event, Events};

use crate::archive::write::{docker_archive, oci_archive, oci_archive_of_set};
use crate::error::{Error, Result};
use crate::image::{Blobs as _, Image, Layer};
use crate::image_set::ImageSet;
use crate::layout::Layout;
use crate::model::Descriptor;
use crate::parallel;
use crate::reference::Reference;
use crate::registry::Client;
use crate::store::Store;
use crate::transport::ImageName;

mod push;

pub use push::Push;

/// Layers that are copied at once.
const COPIES: usize = 4;

/// Where images can go.
#[derive(Clone, Debug)]
pub struct Sinks {
    /// The local store: where plain names go.
    pub store: Store,
    /// Registries.
    pub client: Client,
}

impl Sinks {
    /// Writes `image` to `to`. `names` are further names for it there: further tags of a registry or the store,
    /// further names in a layout or an archive. A blob of the store that turns out to be corrupt is removed, and comes
    /// again from the registry that the image is from, where it has one (see [`crate::Sources::open`]).
    ///
    /// # Errors
    /// When a layer cannot be read or is not what it should be, or the sink cannot be written.
    pub fn write(
        &self,
        image: &Image,
        to: &ImageName,
        names: &[Reference],
        events: &dyn Events,
    ) -> Result<()> {
        self.mended(events, || self.write_once(image, to, names, events))
    }

    /// Writes an image for all its platforms, as [`Sinks::write`] does one.
    ///
    /// # Errors
    /// As there, and when the place has no room for more than one platform (a `docker-archive`).
    pub fn write_all(
        &self,
        set: &ImageSet,
        to: &ImageName,
        names: &[Reference],
        events: &dyn Events,
    ) -> Result<()> {
        self.mended(events, || self.write_set(set, to, names, events))
    }

    /// Does it again without a blob of the store that was found to be corrupt.
    fn mended(&self, events: &dyn Events, write: impl Fn() -> Result<()>) -> Result<()> {
        let mut removed = BTreeMap::new();
        loop {
            match write() {
                Err(Error::CorruptBlob { digest, place, found })
                    if place == self.store.origin().to_string() && !removed.contains_key(&digest) =>
                {
                    events.warning(&format!("blob {digest} in {place} is corrupt and is removed"));
                    self.store.discard(digest)?;
                    removed.insert(digest, found);
                }
                // Only the store had it.
                Err(Error::MissingBlob { digest, .. }) if removed.contains_key(&digest) => {
                    let found = removed.get(&digest).copied().unwrap_or(digest);
                    let place = self.store.origin().to_string();
                    return Err(Error::CorruptBlob { digest, place, found });
                }
                result => return result,
            }
        }
    }

    fn write_once(
        &self,
        image: &Image,
        to: &ImageName,
        names: &[Reference],
        events: &dyn Events,
    ) -> Result<()> {
        match to {
            ImageName::Plain(reference) => {
                let kept = self.store.fetch(image, events)?;
                all(Some(reference), names).try_for_each(|name| self.store.tag_image(name, &kept))
            }
            ImageName::Registry(reference) => push_all(reference, names, &mut |first, tags| {
                let (client, first) = (&self.client, &first);
                std::thread::scope(|scope| Push::start(scope, client, first, events).finish(image, tags))
            }),
            ImageName::Layout { dir, tag, digest: None } => {
                let names = names.iter().map(Reference::to_string).collect();
                write_layout(&Layout::create(dir)?, image, tag.clone(), names, events)
            }
            ImageName::OciArchive { file, tag, digest: None } => {
                let shown = Shown { events, done: Default::default() };
                let refs: Vec<String> =
                    tag.iter().cloned().chain(names.iter().map(Reference::to_string)).collect();
                oci_archive(file, image, &refs, names, &|layer, bytes| shown.progress(layer, bytes))
            }
            ImageName::DockerArchive { file, name } => {
                let shown = Shown { events, done: Default::default() };
                let names: Vec<Reference> = all(name.as_ref(), names).cloned().collect();
                docker_archive(file, image, &names, &|layer, bytes| shown.progress(layer, bytes))
            }
            ImageName::Layout { .. } | ImageName::OciArchive { .. } => Err(has_digest(to)),
        }
    }
}

impl Sinks {
    fn write_set(
        &self,
        set: &ImageSet,
        to: &ImageName,
        names: &[Reference],
        events: &dyn Events,
    ) -> Result<()> {
        match to {
            ImageName::Plain(reference) => {
                self.store.fetch_set(set, events)?;
                all(Some(reference), names).try_for_each(|name| self.store.tag_set(name, set))
            }
            ImageName::Registry(reference) => push_all(reference, names, &mut |first, tags| {
                let (client, first) = (&self.client, &first);
                std::thread::scope(|scope| Push::start(scope, client, first, events).finish_set(set, tags))
            }),
            ImageName::Layout { dir, tag, digest: None } => {
                let layout = Layout::create(dir)?;
                copy_blobs(&layout, &set.blobs, events)?;
                for (document, bytes) in &set.documents {
                    layout.put(&document.media_type, bytes)?;
                }
                let names = names.iter().map(Reference::to_string).collect();
                tag_layout(&layout, tag.clone(), names, &set.descriptor)
            }
            ImageName::OciArchive { file, tag, digest: None } => {
                let shown = Shown { events, done: Default::default() };
                let refs: Vec<String> =
                    tag.iter().cloned().chain(names.iter().map(Reference::to_string)).collect();
                oci_archive_of_set(file, set, &refs, &|layer, bytes| shown.progress(layer, bytes))
            }
            ImageName::DockerArchive { .. } => Err(Error::OnePlatform { place: to.to_string() }),
            ImageName::Layout { .. } | ImageName::OciArchive { .. } => Err(has_digest(to)),
        }
    }
}

/// What an image's digest is, its content says.
fn has_digest(to: &ImageName) -> Error {
    Error::invalid(format!("destination `{to}`"), "it has a digest; expected a name without one")
}

fn all<'a>(first: Option<&'a Reference>, names: &'a [Reference]) -> impl Iterator<Item = &'a Reference> {
    first.into_iter().chain(names.iter().filter(move |name| Some(*name) != first))
}

fn write_layout(
    layout: &Layout,
    image: &Image,
    tag: Option<String>,
    names: Vec<String>,
    events: &dyn Events,
) -> Result<()> {
    copy_blobs(layout, image.layers(), events)?;
    layout.put(&image.manifest.config.media_type, &image.config_bytes)?;
    layout.put(&image.descriptor.media_type, &image.manifest_bytes)?;
    let entry = Descriptor { platform: Some(image.platform()), ..image.descriptor.clone() };
    tag_layout(layout, tag, names, &entry)
}

/// Gives `entry` its names in a layout, or none.
fn tag_layout(layout: &Layout, tag: Option<String>, names: Vec<String>, entry: &Descriptor) -> Result<()> {
    let entry = Descriptor { annotations: Default::default(), ..entry.clone() };
    let names: Vec<Option<String>> = match (tag, names) {
        (None, names) if names.is_empty() => vec![None],
        (tag, names) => tag.into_iter().chain(names).map(Some).collect(),
    };
    names.iter().try_for_each(|name| layout.tag(name.as_deref(), &entry))
}

fn copy_blobs(layout: &Layout, layers: &[Layer], events: &dyn Events) -> Result<()> {
    layout.sweep_blobs();
    let mut seen = BTreeSet::new();
    let layers: Vec<&Layer> = layers.iter().filter(|layer| seen.insert(layer.descriptor.digest)).collect();
    parallel::for_each(&layers, COPIES, |layer| {
        let blob = &layer.descriptor;
        let (kind, id) = (layer.moving(), blob.digest.to_string());
        if layout.has(blob) {
            events.event(Event::TransferEnded { kind, id: &id, reused: true });
            return Ok(());
        }
        events.event(Event::TransferStarted { kind, id: &id, total: Some(blob.size) });
        let mut done = 0;
        let copied = layout.copy_blob(blob, layer.blobs.open(blob, 0)?, |bytes| {
            done += bytes;
            events.event(Event::TransferProgress { kind, id: &id, done });
        });
        // Not the layout is at fault.
        copied.map_err(|error| error.in_place(layer.blobs.origin().to_string()))?;
        events.event(Event::TransferEnded { kind, id: &id, reused: false });
        Ok(())
    })
}

/// Pushes to each repository among the names once, with all its tags.
fn push_all(
    first: &Reference,
    names: &[Reference],
    push: &mut dyn FnMut(Reference, &[Reference]) -> Result<()>,
) -> Result<()> {
    let mut rest: Vec<&Reference> = all(Some(first), names).collect();
    while let Some(first) = rest.first().copied() {
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|name| name.name() == first.name());
        let tags: Vec<Reference> = here.into_iter().cloned().collect();
        push(first.clone(), &tags)?;
        rest = elsewhere;
    }
    Ok(())
}

/// The layers of an archive that is being written, as events.
struct Shown<'a> {
    events: &'a dyn Events,
    done: std::sync::Mutex<std::collections::BTreeMap<layer::Digest, u64>>,
}

impl Shown<'_> {
    fn progress(&self, layer: &Layer, bytes: u64) {
        let blob = &layer.descriptor;
        let (kind, id) = (layer.moving(), blob.digest.to_string());
        let mut all = self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let done = all.entry(blob.digest).or_insert_with(|| {
            self.events.event(Event::TransferStarted { kind, id: &id, total: Some(blob.size) });
            0
        });
        if bytes > 0 {
            *done += bytes;
            self.events.event(Event::TransferProgress { kind, id: &id, done: *done });
        } else {
            // A read of nothing is the end.
            self.events.event(Event::TransferEnded { kind, id: &id, reused: false });
        }
    }
}

#[cfg(test)]
mod tests;
