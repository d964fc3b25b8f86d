//! Makes one layer of the image, or finds that it is there already.

use events::{Event, Events, Transfer};
use layer::pack::{Options, PackError, Tar};
use layer::{Compression, Digest};
use oci::{Image, Layer, Store};

use super::ExportError;

/// What all layers of one export share.
pub(super) struct LayerMaker<'a> {
    /// Where new blobs go.
    pub store: &'a Store,
    /// How they are compressed.
    pub compression: Compression,
    /// The image whose layers may be used again.
    pub previous: Option<&'a Image>,
    /// Who is told.
    pub events: &'a dyn Events,
    /// Told of each layer as soon as it is there: uploads need not wait for the rest.
    pub ready: &'a (dyn Fn(&Layer) + Sync),
}

/// A layer, and whether the previous image had it.
pub(super) struct Made {
    /// It.
    pub layer: Layer,
    /// True when nothing was packed.
    pub reused: bool,
}

impl LayerMaker<'_> {
    /// Makes the layer of the entries that `fill` adds, unless its diffID is `previous_sha` and the previous
    /// image has such a layer. Reading twice is cheaper than compressing what is there already.
    pub fn make(
        &self,
        id: &str,
        previous_sha: Option<Digest>,
        fill: &dyn Fn(&mut Tar<'_, '_>) -> Result<(), PackError>,
    ) -> Result<Made, ExportError> {
        let failed = |source| ExportError::Pack { id: id.to_owned(), source };
        if let Some(layer) = previous_sha.and_then(|sha| self.find_previous(sha)) {
            self.started(id, None);
            let hashed = layer::pack::hash(&|done| self.progress(id, done), fill).map_err(failed)?;
            if hashed.diff_id == layer.diff_id {
                return Ok(self.reuse(id, layer));
            }
        }
        self.pack(id, fill)
    }

    /// Uses a layer that is known to be unchanged, when its blob can still be had.
    pub fn known(&self, id: &str, diff_id: Digest, blob: Option<&oci::Descriptor>) -> Option<Made> {
        if let Some(layer) = self.find_previous(diff_id) {
            return Some(self.reuse(id, layer));
        }
        let descriptor = blob.filter(|blob| self.store.has(blob))?.clone();
        let layer = Layer { descriptor, diff_id, blobs: self.store.blobs() };
        Some(self.reuse(id, layer))
    }

    /// The previous image's layer of that diffID, unless it is one of the store's that the store has lost.
    pub fn find_previous(&self, diff_id: Digest) -> Option<Layer> {
        let layer = self.previous?.layers().iter().find(|layer| layer.diff_id == diff_id)?;
        let lost = layer.blobs.origin() == self.store.blobs().origin() && !self.store.has(&layer.descriptor);
        (!lost).then(|| layer.clone())
    }

    /// Says that a layer is used again.
    pub fn reuse(&self, id: &str, layer: Layer) -> Made {
        self.tell(id, Some(layer.descriptor.size), true);
        (self.ready)(&layer);
        Made { layer, reused: true }
    }

    /// Takes a layer that somebody else made, and that is spoken of only if it was there before.
    pub fn there(&self, id: &str, layer: &Layer, reused: bool) {
        if reused {
            self.tell(id, Some(layer.descriptor.size), true);
        }
        (self.ready)(layer);
    }

    fn pack(
        &self,
        id: &str,
        fill: &dyn Fn(&mut Tar<'_, '_>) -> Result<(), PackError>,
    ) -> Result<Made, ExportError> {
        self.started(id, None);
        let progress = |done| self.progress(id, done);
        let options = Options { compression: self.compression, progress: &progress, ..Options::default() };
        let mut blob = self.store.unhashed_blob_writer()?;
        let packed = layer::pack::pack(&options, &mut blob, fill)
            .map_err(|source| ExportError::Pack { id: id.to_owned(), source })?;
        let descriptor = blob.commit_with(self.compression.media_type(), packed.digest)?;
        self.tell(id, Some(packed.size), false);
        let layer = Layer { descriptor, diff_id: packed.diff_id, blobs: self.store.blobs() };
        (self.ready)(&layer);
        Ok(Made { layer, reused: false })
    }

    fn tell(&self, id: &str, total: Option<u64>, reused: bool) {
        self.started(id, total);
        self.events.event(Event::TransferEnded { kind: Transfer::Pack, id, reused });
    }

    /// How large a layer is, is known when it is there: this is said twice then.
    fn started(&self, id: &str, total: Option<u64>) {
        self.events.event(Event::TransferStarted { kind: Transfer::Pack, id, total });
    }

    fn progress(&self, id: &str, done: u64) {
        self.events.event(Event::TransferProgress { kind: Transfer::Pack, id, done });
    }
}
