//! Bringing an image into the store: several blobs at once, and layers unpacked while they come.
//!
//! Two groups of threads take one layer after another: those that download and those that unpack. A layer that
//! comes is read along from the file it is written to ([`super::follow`]). The first error stops everything.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use events::{Event, Events, Transfer};
use layer::Digest;

use super::Store;
use super::follow::Flow;
use super::rootfs::Unpacker;
use crate::error::{Error, Result};
use crate::image::{Blobs as _, Image, Layer};
use crate::image_set::ImageSet;
use crate::layout::copy_verified;
use crate::registry::Stop;

/// Blobs that come at once: enough to fill a line that one connection does not.
const DOWNLOADS: usize = 4;

impl Store {
    /// Brings all of an image into the store: what is missing of its layers, then its documents. Gives the same
    /// image with its blobs in the store; it has no name there yet.
    ///
    /// # Errors
    /// When a blob cannot be read, is not what its descriptor says, or cannot be written.
    pub fn fetch(&self, image: &Image, events: &dyn Events) -> Result<Image> {
        self.transfer(image.layers(), None, true, events)?;
        self.keep_documents(image)
    }

    /// Brings all of a set into the store, as [`Store::fetch`] does of one image.
    ///
    /// # Errors
    /// As there.
    pub fn fetch_set(&self, set: &ImageSet, events: &dyn Events) -> Result<()> {
        self.transfer(&set.blobs, None, true, events)?;
        set.documents.iter().try_for_each(|(document, bytes)| self.put(&document.media_type, bytes).map(drop))
    }

    /// As [`Store::fetch`], and unpacks the layers while they come: the trees too, highest layer first, as lowers
    /// of an overlay.
    ///
    /// # Errors
    /// As [`Store::fetch`], and when a layer cannot be unpacked or is not what the configuration says.
    pub fn fetch_unpacked(
        &self,
        image: &Image,
        unpacker: &Unpacker,
        events: &dyn Events,
    ) -> Result<(Image, Vec<PathBuf>)> {
        self.transfer(image.layers(), Some(unpacker), true, events)?;
        Ok((self.keep_documents(image)?, self.lowers(image, unpacker)))
    }

    /// The trees of the image's layers, highest first, as lowers of an overlay. Those that are not there yet are
    /// unpacked, and fetched first where the store has not got them.
    ///
    /// # Errors
    /// As [`Store::fetch_unpacked`].
    pub fn rootfs(&self, image: &Image, unpacker: &Unpacker, events: &dyn Events) -> Result<Vec<PathBuf>> {
        self.transfer(image.layers(), Some(unpacker), false, events)?;
        Ok(self.lowers(image, unpacker))
    }

    /// Whether all trees of the image's layers are there, so that [`Store::rootfs`] has nothing to do.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn is_unpacked(&self, image: &Image, unpacker: &Unpacker) -> Result<bool> {
        for layer in image.layers() {
            if !self.has_rootfs(&unpacker.kind, layer.diff_id)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn lowers(&self, image: &Image, unpacker: &Unpacker) -> Vec<PathBuf> {
        // An overlay takes each tree once. Of equal layers the highest says all that the others do.
        let mut seen = BTreeSet::new();
        let layers = image.layers().iter().rev().filter(|layer| seen.insert(layer.diff_id));
        layers.map(|layer| self.rootfs_path(&unpacker.kind, layer.diff_id)).collect()
    }

    fn keep_documents(&self, image: &Image) -> Result<Image> {
        self.put(&image.manifest.config.media_type, &image.config_bytes)?;
        self.put(&image.descriptor.media_type, &image.manifest_bytes)?;
        Ok(image.clone().with_blobs(&self.blobs()))
    }

    /// `blobs` asks for the blobs of layers whose trees are there already, too.
    fn transfer(
        &self,
        layers: &[Layer],
        unpacker: Option<&Unpacker>,
        blobs: bool,
        events: &dyn Events,
    ) -> Result<()> {
        let mut jobs: BTreeMap<Digest, Job<'_>> = BTreeMap::new();
        let mut order = Vec::new();
        for layer in layers {
            let (blob, digest) = (&layer.descriptor, layer.descriptor.digest);
            if let Some(job) = jobs.get(&digest) {
                same_content(job.layer, layer)?;
                continue;
            }
            let unpack = match unpacker {
                Some(unpacker) => !self.has_rootfs(&unpacker.kind, layer.diff_id)?,
                None => false,
            };
            let download = (blobs || unpack) && !self.has(blob);
            if blobs && !download {
                let id = digest.to_string();
                events.event(Event::TransferEnded { kind: layer.moving(), id: &id, reused: true });
            }
            jobs.insert(digest, Job { layer, download, unpack, flow: Flow::default() });
            order.push(digest);
        }
        let jobs = order.iter().filter_map(|digest| jobs.remove(digest)).collect();
        Run { store: self, jobs, unpacker, events, stop: Stop::default(), error: Mutex::default() }.run()
    }
}

/// An image may have one layer twice, but a blob uncompresses to one thing only.
fn same_content(one: &Layer, other: &Layer) -> Result<()> {
    match one.diff_id == other.diff_id {
        true => Ok(()),
        false => {
            Err(Error::DiffId { digest: one.descriptor.digest, expected: one.diff_id, found: other.diff_id })
        }
    }
}

/// What is to be done with one layer.
struct Job<'a> {
    layer: &'a Layer,
    download: bool,
    unpack: bool,
    flow: Flow,
}

struct Run<'a> {
    store: &'a Store,
    jobs: Vec<Job<'a>>,
    unpacker: Option<&'a Unpacker>,
    events: &'a dyn Events,
    stop: Stop,
    error: Mutex<Option<Error>>,
}

impl Run<'_> {
    fn run(self) -> Result<()> {
        let wanted = |wants: fn(&Job<'_>) -> bool| self.jobs.iter().filter(|job| wants(job)).count();
        let unpackers = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4);
        let (next_download, next_unpack) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..wanted(|job| job.download).min(DOWNLOADS) {
                scope.spawn(|| self.work(&next_download, |job| job.download, Self::download));
            }
            for _ in 0..wanted(|job| job.unpack).min(unpackers) {
                scope.spawn(|| self.work(&next_unpack, |job| job.unpack, Self::unpack));
            }
        });
        match self.error.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// One thread: takes the next job that is wanted until there is none, or something failed.
    fn work(&self, next: &AtomicUsize, wanted: fn(&Job<'_>) -> bool, run: fn(&Self, &Job<'_>) -> Result<()>) {
        let _watch = OnPanic(|| self.fail());
        while let Some(job) = self.jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if self.stop.is_stopped() {
                return;
            }
            if let Err(error) = if wanted(job) { run(self, job) } else { Ok(()) } {
                // The first error is the cause; those that follow are its effects.
                self.error.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(error);
                self.fail();
            }
        }
    }

    fn fail(&self) {
        self.stop.stop();
        self.jobs.iter().for_each(|job| job.flow.fail());
    }

    fn download(&self, job: &Job<'_>) -> Result<()> {
        let blob = &job.layer.descriptor;
        let id = blob.digest.to_string();
        let kind = job.layer.moving();
        self.events.event(Event::TransferStarted { kind, id: &id, total: Some(blob.size) });
        let mut writer = self.store.unhashed_blob_writer()?;
        job.flow.begin(fs_err::File::open(writer.path())?.into_file());
        let reader = Stoppable { inner: job.layer.blobs.open_until(blob, 0, &self.stop)?, stop: &self.stop };
        let place = job.layer.blobs.origin().to_string();
        let mut done = 0;
        copy_verified(blob, reader, &mut writer, &place, |bytes| {
            job.flow.advance(bytes);
            done += bytes;
            self.events.event(Event::TransferProgress { kind, id: &id, done });
        })?;
        job.flow.complete();
        writer.commit_with(&blob.media_type, blob.digest)?;
        self.events.event(Event::TransferEnded { kind, id: &id, reused: false });
        Ok(())
    }

    fn unpack(&self, job: &Job<'_>) -> Result<()> {
        match job.download {
            true => self.unpack_from(job, &mut job.flow.follow()),
            false => self.unpack_stored(job).or_else(|error| self.fetch_again(job, error)),
        }
    }

    fn unpack_stored(&self, job: &Job<'_>) -> Result<()> {
        let file = self.store.open_blob(&job.layer.descriptor)?;
        self.unpack_from(job, &mut file.into_file())
    }

    fn unpack_from(&self, job: &Job<'_>, source: &mut (dyn Read + Send)) -> Result<()> {
        let Some(unpacker) = self.unpacker else { return Ok(()) };
        let (blob, kind) = (&job.layer.descriptor, Transfer::Unpack);
        let id = blob.digest.to_string();
        self.events.event(Event::TransferStarted { kind, id: &id, total: Some(blob.size) });
        let mut reader = Told {
            inner: Stoppable { inner: source, stop: &self.stop },
            id: &id,
            done: 0,
            events: self.events,
        };
        self.store.unpack_layer(unpacker, blob.digest, job.layer.diff_id, &mut reader)?;
        self.events.event(Event::TransferEnded { kind, id: &id, reused: false });
        Ok(())
    }

    /// A blob of the store could not be unpacked: when it is corrupt, it goes, and comes again from where the
    /// image is from.
    fn fetch_again(&self, job: &Job<'_>, error: Error) -> Result<()> {
        let blob = &job.layer.descriptor;
        let file = self.store.open_blob(blob)?;
        let found = Digest::of_reader(io::BufReader::with_capacity(256 << 10, file))?;
        if found == blob.digest {
            return Err(error);
        }
        self.store.discard(blob.digest)?;
        let place = self.store.origin();
        match self.download(job) {
            Ok(()) => {
                self.events.warning(&format!("blob {} in {place} was corrupt: fetched again", blob.digest));
                self.unpack_stored(job)
            }
            // Only the store had it.
            Err(Error::MissingBlob { .. }) => {
                Err(Error::CorruptBlob { digest: blob.digest, place: place.to_string(), found })
            }
            Err(error) => Err(error),
        }
    }
}

/// Does something when its thread panics: who follows a download of that thread would wait for ever.
struct OnPanic<F: Fn()>(F);

impl<F: Fn()> Drop for OnPanic<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}

/// Fails once the whole run has.
struct Stoppable<'a, R> {
    inner: R,
    stop: &'a Stop,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stop.is_stopped() {
            true => Err(io::Error::other("stopped because of another error")),
            false => self.inner.read(buffer),
        }
    }
}

/// Reports how much of a layer was unpacked.
struct Told<'a, R> {
    inner: R,
    id: &'a str,
    done: u64,
    events: &'a dyn Events,
}

impl<R: Read> Read for Told<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.done += count as u64;
        let (kind, id, done) = (Transfer::Unpack, self.id, self.done);
        self.events.event(Event::TransferProgress { kind, id, done });
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
