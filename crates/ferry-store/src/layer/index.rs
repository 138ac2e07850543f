//! Which layers there are: in memory for look-ups, in the database for the next start.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use ferry_oci::Digest;
use ferry_oci::image::Descriptor;
use serde::{Deserialize, Serialize};

use super::error::LayerError;
use super::implicit;
use crate::blob::Blobs;
use crate::database::{Batch, Database, Table};
use crate::error::{DatabaseError, IoError, OpenError};
use crate::files;
use crate::layout::Layout;

/// What is known of an unpacked layer (also its `meta.json`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Sum of the file sizes in bytes, what Docker calls the layer's size.
    pub size: u64,
    /// Bytes of the uncompressed tar.
    pub tar_size: u64,
    /// Number of entries in the tar.
    pub entries: u64,
    /// The blob as it arrived, when it was kept.
    pub blob: Option<Descriptor>,
    /// Directories that the tar implied and that took no attributes from a lower layer yet; the
    /// layer's root is the empty path.
    #[serde(default)]
    pub implicit_directories: Vec<String>,
    /// Kept even when no image has it (a build's cache).
    #[serde(default)]
    pub pinned: bool,
    /// When it came in, RFC 3339.
    pub created: String,
    /// Shared by all versions of the record that somebody still holds.
    #[serde(skip)]
    pub(super) lease: Arc<()>,
}

impl LayerRecord {
    /// Whether anybody but the index holds this record or an older version of it.
    fn is_held(self: &Arc<LayerRecord>) -> bool {
        Arc::strong_count(self) > 1 || Arc::strong_count(&self.lease) > 1
    }
}

/// The layers of a store.
pub struct Layers {
    layout: Arc<Layout>,
    database: Arc<Database>,
    table: Table<LayerRecord>,
    blobs: Blobs,
    index: RwLock<HashMap<Digest, Arc<LayerRecord>>>,
    /// Layers that are usable but not durable yet.
    pending: Mutex<HashSet<Digest>>,
    /// Bytes on disk of the trees that were measured.
    measured: Mutex<HashMap<Digest, u64>>,
}

impl Layers {
    pub(crate) fn open(
        layout: &Arc<Layout>,
        database: &Arc<Database>,
        blobs: &Blobs,
    ) -> Result<Layers, OpenError> {
        let table: Table<LayerRecord> = Table::new(database, "layers");
        let mut on_disk: HashSet<String> = files::list_dir(&layout.layers())?.into_iter().collect();
        let mut index = HashMap::new();
        for (key, record) in table.list_each()? {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    tracing::error!(
                        layer = key,
                        error = &error as &dyn std::error::Error,
                        "layer is unusable"
                    );
                    continue;
                }
            };
            if on_disk.remove(record.diff_id.hex()) {
                index.insert(record.diff_id.clone(), Arc::new(record));
            } else {
                tracing::error!(layer = key, "layer is unusable: its directory is missing");
            }
        }
        // Without a record: unpacked by a process that ended before it was made durable.
        for hex in on_disk {
            layout.discard(&layout.layers().join(hex))?;
        }
        Ok(Layers {
            layout: Arc::clone(layout),
            database: Arc::clone(database),
            table,
            blobs: blobs.clone(),
            index: RwLock::new(index),
            pending: Mutex::new(HashSet::new()),
            measured: Mutex::new(HashMap::new()),
        })
    }

    pub(crate) fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    pub(crate) fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// The record of a layer that is in the store.
    pub fn get(&self, diff_id: &Digest) -> Option<Arc<LayerRecord>> {
        self.index.read().expect(POISONED).get(diff_id).cloned()
    }

    /// All layers, in no order.
    pub fn list(&self) -> Vec<Arc<LayerRecord>> {
        self.index.read().expect(POISONED).values().cloned().collect()
    }

    /// The layer's unpacked tree.
    pub fn tree(&self, diff_id: &Digest) -> PathBuf {
        self.layout.layer_tree(diff_id)
    }

    pub(crate) fn measured(&self, diff_id: &Digest) -> Option<u64> {
        self.measured.lock().expect(POISONED).get(diff_id).copied()
    }

    pub(crate) fn set_measured(&self, diff_id: &Digest, size: u64) {
        self.measured.lock().expect(POISONED).insert(diff_id.clone(), size);
    }

    /// Makes an unpacked layer usable. `directory` holds `fs/`; it is taken over or discarded.
    pub(super) fn publish(
        &self,
        record: LayerRecord,
        directory: &Path,
    ) -> Result<Arc<LayerRecord>, LayerError> {
        let meta = serde_json::to_vec_pretty(&record).map_err(|source| DatabaseError::Encode {
            table: "meta.json".to_owned(),
            key: record.diff_id.to_string(),
            source,
        })?;
        files::write_atomic(&directory.join("meta.json"), &meta, 0o600, false)?;
        let mut index = self.index.write().expect(POISONED);
        if let Some(known) = index.get(&record.diff_id) {
            // The same layer came in twice at once; the first one stays.
            self.layout.discard(directory)?;
            return Ok(Arc::clone(known));
        }
        let target = self.layout.layer(&record.diff_id);
        // A directory without a usable record (damaged earlier) makes place.
        self.layout.discard(&target)?;
        files::rename(directory, &target)?;
        let record = Arc::new(record);
        index.insert(record.diff_id.clone(), Arc::clone(&record));
        self.pending().insert(record.diff_id.clone());
        Ok(record)
    }

    /// Makes a layer of a directory in overlayfs's form by moving it. Its tar is not kept: it can be
    /// written again at any time.
    pub(crate) fn adopt(
        &self,
        upper: &Path,
        diff_id: Digest,
        tar_size: u64,
        size: u64,
        entries: u64,
    ) -> Result<Arc<LayerRecord>, LayerError> {
        if let Some(known) = self.get(&diff_id) {
            self.layout.discard(upper)?;
            return Ok(known);
        }
        let directory = self.layout.ingest();
        files::create_dir(&directory, 0o700)?;
        files::rename(upper, &directory.join("fs"))?;
        let record = LayerRecord {
            diff_id,
            size,
            tar_size,
            entries,
            blob: None,
            implicit_directories: Vec::new(),
            pinned: false,
            created: files::now(),
            lease: Arc::default(),
        };
        self.publish(record, &directory)
    }

    /// Notes, durably if the layer is, that a blob was made of a layer.
    pub(crate) fn keep_blob(&self, diff_id: &Digest, blob: Descriptor) -> Result<(), LayerError> {
        let durable = !self.pending().contains(diff_id);
        self.set_blob(diff_id, blob)?;
        if durable {
            self.write_pending(std::slice::from_ref(diff_id))?;
        }
        Ok(())
    }

    /// Notes that the blob of a known layer came in.
    pub(super) fn set_blob(
        &self,
        diff_id: &Digest,
        blob: Descriptor,
    ) -> Result<Arc<LayerRecord>, LayerError> {
        self.change(diff_id, |record| record.blob = Some(blob))
            .ok_or_else(|| LayerError::NotFound(diff_id.clone()))
    }

    fn change(&self, diff_id: &Digest, change: impl FnOnce(&mut LayerRecord)) -> Option<Arc<LayerRecord>> {
        let mut index = self.index.write().expect(POISONED);
        let mut record = LayerRecord::clone(index.get(diff_id)?);
        change(&mut record);
        let record = Arc::new(record);
        index.insert(diff_id.clone(), Arc::clone(&record));
        self.pending().insert(diff_id.clone());
        Some(record)
    }

    fn pending(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.pending.lock().expect(POISONED)
    }

    /// Lets directories that layers only imply take their attributes from the layers below.
    pub(crate) fn inherit(&self, diff_ids: &[Digest]) -> Result<(), LayerError> {
        for (position, diff_id) in diff_ids.iter().enumerate() {
            let Some(record) = self.get(diff_id) else { continue };
            if record.implicit_directories.is_empty() || position == 0 {
                continue;
            }
            let below: Vec<PathBuf> = diff_ids[..position].iter().rev().map(|id| self.tree(id)).collect();
            let left = implicit::inherit(&self.tree(diff_id), &below, &record.implicit_directories)?;
            if left.len() != record.implicit_directories.len() {
                self.change(diff_id, |record| record.implicit_directories = left);
            }
        }
        Ok(())
    }

    /// Syncs those of the layers that are not durable and adds their records to a batch. After the
    /// batch is committed, call [`Layers::made_durable`] with what this returns.
    pub(crate) fn make_durable(
        &self,
        diff_ids: &[Digest],
        batch: &mut Batch,
    ) -> Result<Vec<Digest>, LayerError> {
        let pending: Vec<Digest> = {
            let pending = self.pending();
            diff_ids.iter().filter(|diff_id| pending.contains(*diff_id)).cloned().collect()
        };
        if pending.is_empty() {
            return Ok(pending);
        }
        // One call for thousands of small files, blobs and names; a file-wise fsync would take minutes.
        files::sync_file_system(self.layout.root())?;
        for diff_id in &pending {
            let record = self.get(diff_id).ok_or_else(|| LayerError::NotFound(diff_id.clone()))?;
            self.table.put_in(batch, &diff_id.to_string(), &record)?;
        }
        Ok(pending)
    }

    /// Notes that the records that [`Layers::make_durable`] put into a batch are committed.
    pub(crate) fn made_durable(&self, diff_ids: &[Digest]) {
        let mut pending = self.pending();
        for diff_id in diff_ids {
            pending.remove(diff_id);
        }
    }

    /// Makes layers durable without an image and keeps them until [`Layers::release`].
    pub fn persist(&self, diff_ids: &[Digest]) -> Result<(), LayerError> {
        for diff_id in diff_ids {
            let record = self.get(diff_id).ok_or_else(|| LayerError::NotFound(diff_id.clone()))?;
            if !record.pinned {
                self.change(diff_id, |record| record.pinned = true);
            }
        }
        self.write_pending(diff_ids)
    }

    /// Takes back [`Layers::persist`]. The layers go with the next collection if nothing has them.
    pub fn release(&self, diff_ids: &[Digest]) -> Result<(), LayerError> {
        for diff_id in diff_ids {
            if self.get(diff_id).is_some_and(|record| record.pinned) {
                self.change(diff_id, |record| record.pinned = false);
            }
        }
        self.write_pending(diff_ids)
    }

    fn write_pending(&self, diff_ids: &[Digest]) -> Result<(), LayerError> {
        let mut batch = Batch::new();
        let written = self.make_durable(diff_ids, &mut batch)?;
        self.database.commit(batch)?;
        self.made_durable(&written);
        Ok(())
    }

    /// Takes those of the layers out of the index that are neither pinned nor held by an import
    /// under way. Whoever imports or registers holds the record, so a record that only the index
    /// (and the look at it here) holds is free.
    pub(crate) fn take_unused(&self, diff_ids: &[Digest]) -> Vec<Arc<LayerRecord>> {
        let mut index = self.index.write().expect(POISONED);
        let mut taken = Vec::new();
        for diff_id in diff_ids {
            let unused = index.get(diff_id).is_some_and(|record| !record.is_held() && !record.pinned);
            if unused {
                taken.extend(index.remove(diff_id));
                self.pending().remove(diff_id);
                self.measured.lock().expect(POISONED).remove(diff_id);
            }
        }
        taken
    }

    /// Removes what [`Layers::take_unused`] took, blobs included.
    pub(crate) fn discard_taken(&self, taken: &[Arc<LayerRecord>]) -> Result<(), LayerError> {
        let mut batch = Batch::new();
        for record in taken {
            self.table.remove_in(&mut batch, &record.diff_id.to_string());
        }
        // Records first: a crash between the two leaves directories that the next start sweeps.
        self.database.commit(batch)?;
        for record in taken {
            // The same layer may have come in again meanwhile; while the index is held, it cannot.
            let index = self.index.read().expect(POISONED);
            if !index.contains_key(&record.diff_id) {
                self.discard_files(record)?;
            }
        }
        Ok(())
    }

    fn discard_files(&self, record: &LayerRecord) -> Result<(), IoError> {
        self.layout.discard(&self.layout.layer(&record.diff_id))?;
        if let Some(blob) = &record.blob {
            self.blobs.discard(&blob.digest)?;
        }
        Ok(())
    }
}

/// A thread that panicked while it held a lock has broken the index; going on would spread that.
const POISONED: &str = "no thread panics while it holds the layer index";
