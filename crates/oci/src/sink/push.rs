//! Pushing an image to a registry, its layers on their way while the later ones are still being made.
//!
//! A blob the repository has is not sent; one in another repository of the same registry is mounted. The manifest
//! comes last, when all it refers to is there.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

use events::{Event, Events, Transfer};
use layer::Digest;

use crate::error::{Error, Result};
use crate::image::{Image, Layer, Origin};
use crate::image_set::ImageSet;
use crate::model::Descriptor;
use crate::publish;
use crate::reference::Reference;
use crate::registry::{Client, Stop};

/// Blobs that are sent at once.
const UPLOADS: usize = 4;

/// A push that has begun. Dropped before [`Push::finish`], it sends no manifest: the image stays as it was.
#[derive(Debug)]
pub struct Push<'scope> {
    client: Client,
    reference: &'scope Reference,
    queue: Option<Sender<Layer>>,
    workers: Vec<ScopedJoinHandle<'scope, ()>>,
    added: Mutex<BTreeSet<Digest>>,
    failed: Arc<Mutex<Option<Error>>>,
    stop: Stop,
}

impl Drop for Push<'_> {
    fn drop(&mut self) {
        // Not finished: what is on its way is for nobody.
        if self.queue.is_some() {
            self.stop.stop();
        }
    }
}

impl<'scope> Push<'scope> {
    /// Begins a push to the reference's repository. Nothing is sent yet.
    pub fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        client: &'env Client,
        reference: &'env Reference,
        events: &'env dyn Events,
    ) -> Self {
        let (queue, layers) = channel();
        let layers = Arc::new(Mutex::new(layers));
        let failed: Arc<Mutex<Option<Error>>> = Arc::default();
        // The first blob that cannot be sent ends the others: they would be sent for nothing.
        let stop = Stop::default();
        let client = client.until(&stop);
        let workers = (0..UPLOADS)
            .map(|_| {
                let (layers, failed) = (Arc::clone(&layers), Arc::clone(&failed));
                let (client, stop) = (client.clone(), stop.clone());
                scope.spawn(move || work(&client, reference, events, &layers, (&failed, &stop)))
            })
            .collect();
        Self { client, reference, queue: Some(queue), workers, added: Mutex::default(), failed, stop }
    }

    /// Sends a layer, as soon as its turn comes; one that was added before is not sent again. Errors come from
    /// [`Push::finish`].
    pub fn add(&self, layer: &Layer) {
        if lock(&self.added).insert(layer.descriptor.digest)
            && let Some(queue) = &self.queue
        {
            // It fails only when all workers are gone, and then `finish` says why.
            let _ = queue.send(layer.clone());
        }
    }

    /// Sends what is missing of the image, then its manifest, under each of the tags; `tags` are names in the same
    /// repository, and the reference that the push began with is not among them by itself.
    ///
    /// # Errors
    /// When a blob could not be read or sent, or the manifest not: then no tag points at this image unless an
    /// earlier of the tags was set.
    pub fn finish(mut self, image: &Image, tags: &[Reference]) -> Result<()> {
        self.add_all(image.layers())?;
        self.send_config(image)?;
        for tag in tags {
            publish::pass();
            self.client.put_manifest(tag, &image.manifest_bytes, &image.descriptor.media_type)?;
        }
        Ok(())
    }

    /// Sends what is missing of a set, as [`Push::finish`] does of one image: the tags point at the whole.
    ///
    /// # Errors
    /// As there.
    pub fn finish_set(mut self, set: &ImageSet, tags: &[Reference]) -> Result<()> {
        self.add_all(&set.blobs)?;
        for (document, bytes) in set.documents.iter().filter(|(document, _)| document.digest != set.digest())
        {
            publish::pass();
            self.client.put_manifest(
                &self.reference.with_digest(document.digest),
                bytes,
                &document.media_type,
            )?;
        }
        // Last, when all that it lists is there.
        let root = set.documents.last().map_or(&[][..], |(_, bytes)| bytes);
        tags.iter().try_for_each(|tag| {
            publish::pass();
            self.client.put_manifest(tag, root, &set.descriptor.media_type)?;
            Ok(())
        })
    }

    /// Adds what is not on its way yet, and waits until everything is there.
    fn add_all(&mut self, layers: &[Layer]) -> Result<()> {
        let distributed = layers.iter().filter(|layer| !stays_where_it_is(&layer.descriptor));
        distributed.for_each(|layer| self.add(layer));
        // The workers end when the queue is empty and nobody can add to it.
        self.queue = None;
        self.workers.drain(..).for_each(|worker| {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        });
        lock(&self.failed).take().map_or(Ok(()), Err)
    }

    fn send_config(&self, image: &Image) -> Result<()> {
        let config = &image.manifest.config;
        if self.client.has_blob(self.reference, config)? {
            return Ok(());
        }
        let bytes = Arc::new(image.config_bytes.clone());
        let open = || Ok(Box::new(std::io::Cursor::new(bytes.to_vec())) as Box<dyn std::io::Read + Send>);
        Ok(self.client.push_blob(self.reference, config, &open, &|_| {})?)
    }
}

/// One worker: sends layers until there are no more, or one failed.
fn work(
    client: &Client,
    reference: &Reference,
    events: &dyn Events,
    layers: &Mutex<Receiver<Layer>>,
    (failed, stop): (&Mutex<Option<Error>>, &Stop),
) {
    loop {
        // The lock is held while waiting, by one worker for all.
        let Ok(layer) = lock(layers).recv() else { return };
        if stop.is_stopped() {
            continue;
        }
        if let Err(error) = send(client, reference, events, &layer) {
            // The first error is the cause; those that follow are its effects.
            lock(failed).get_or_insert(error);
            stop.stop();
        }
    }
}

fn send(client: &Client, reference: &Reference, events: &dyn Events, layer: &Layer) -> Result<()> {
    let blob = &layer.descriptor;
    let (kind, id) = (Transfer::Push, blob.digest.to_string());
    let ended = |reused| events.event(Event::TransferEnded { kind, id: &id, reused });
    if is_there(client, reference, layer)? {
        ended(true);
        return Ok(());
    }
    events.event(Event::TransferStarted { kind, id: &id, total: Some(blob.size) });
    let open = || layer.blobs.open(blob, 0).map_err(Error::into_io);
    let sent = client.push_blob(reference, blob, &open, &|done| {
        events.event(Event::TransferProgress { kind, id: &id, done });
    });
    if let Err(error) = sent {
        return Err(corrupt(layer).unwrap_or_else(|| error.into()));
    }
    ended(false);
    Ok(())
}

/// A registry refuses what is not what its digest says: whether it was our blob that was at fault. It is not looked at
/// before, because the registry does that anyway.
fn corrupt(layer: &Layer) -> Option<Error> {
    let digest = layer.descriptor.digest;
    let file = layer::named::open(layer.blobs.local_path(&layer.descriptor)?).ok()?;
    let found = Digest::of_reader(std::io::BufReader::with_capacity(256 << 10, file)).ok()?;
    let place = layer.blobs.origin().to_string();
    (found != digest).then_some(Error::CorruptBlob { digest, place, found })
}

/// True when the repository has the blob, or was given it from another one of the same registry.
fn is_there(client: &Client, reference: &Reference, layer: &Layer) -> Result<bool> {
    let digest = layer.descriptor.digest;
    if let Origin::Registry(origin) = layer.blobs.origin()
        && origin.registry() == reference.registry()
    {
        // Its own repository needs no mount, and any other is asked once: a mount finds what is there too.
        if origin.repository() != reference.repository()
            && client.mount_blob(reference, digest, origin.repository())?
        {
            return Ok(true);
        }
    }
    Ok(client.has_blob(reference, &layer.descriptor)?)
}

/// Layers that may not be distributed are fetched from where their descriptor says, by everybody.
fn stays_where_it_is(blob: &Descriptor) -> bool {
    blob.extra.contains_key("urls")
        && (blob.media_type.contains(".foreign.") || blob.media_type.contains(".nondistributable."))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
