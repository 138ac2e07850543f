//! The store as a whole: opening, owning, and the parts.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;

use ferry_oci::Digest;

use crate::blob::Blobs;
use crate::container::Containers;
use crate::database::{Batch, Database, Table};
use crate::error::{DatabaseError, IoError, OpenError};
use crate::files;
use crate::gc::Collector;
use crate::image::Images;
use crate::layer::{LayerError, LayerOptions, LayerRecord, Layers};
use crate::layout::Layout;
use crate::snapshot::Snapshots;
use crate::vault::Vault;
use crate::volume::Volumes;

/// The one owner of a data root.
pub struct Store {
    layout: Arc<Layout>,
    database: Arc<Database>,
    blobs: Blobs,
    layers: Arc<Layers>,
    collector: Arc<Collector>,
    images: Images,
    snapshots: Snapshots,
    containers: Containers,
    volumes: Volumes,
    vault: Vault,
    /// Held until the store is dropped. Close-on-exec, so no child keeps it.
    _lock: File,
}

impl Store {
    /// Opens a data root (made where absent): takes the owner lock, checks the version, puts away
    /// what an interrupted process left. Damaged records are reported in the log by name and left
    /// out; the rest is usable.
    pub fn open(data_root: &Path) -> Result<Arc<Store>, OpenError> {
        let lock = take_lock(data_root)?;
        let layout = Arc::new(Layout::prepare(data_root)?);
        layout.sweep()?;
        let database = Arc::new(Database::open(&layout.database())?);
        let blobs = Blobs::new(&layout);
        let layers = Arc::new(Layers::open(&layout, &database, &blobs)?);
        let collector = Arc::new(Collector::default());
        let images = Images::open(&database, &layers, &blobs, &collector)?;
        let containers = Containers::new(&layout, &layers, &collector);
        let snapshots = Snapshots::open(&layout, &layers, &collector, &containers)?;
        let volumes = Volumes::open(&layout, &database)?;
        let vault = Vault::new(&layout, &database);
        Ok(Arc::new(Store {
            layout,
            database,
            blobs,
            layers,
            collector,
            images,
            snapshots,
            containers,
            volumes,
            vault,
            _lock: lock,
        }))
    }

    /// The data root.
    pub fn data_root(&self) -> &Path {
        self.layout.root()
    }

    /// Images.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// Blobs.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Layers.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Snapshots.
    pub fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    /// Container directories.
    pub fn containers(&self) -> &Containers {
        &self.containers
    }

    /// Volumes.
    pub fn volumes(&self) -> &Volumes {
        &self.volumes
    }

    /// Secrets and configs.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// A typed table for a part of the engine. The name is part of the disk format.
    pub fn kv<T>(&self, name: &'static str) -> Table<T> {
        Table::new(&self.database, &format!("kv:{name}"))
    }

    /// Makes a batch over such tables durable.
    pub fn commit(&self, batch: Batch) -> Result<(), DatabaseError> {
        self.database.commit(batch)
    }

    /// The record of a layer that is in the store.
    pub fn layer(&self, diff_id: &Digest) -> Option<Arc<LayerRecord>> {
        self.layers.get(diff_id)
    }

    /// Brings a layer in: hash, inflate and unpack in one pass. It may be used at once and stays
    /// while the record returned is held; it becomes durable with an image that has it, or by
    /// [`Layers::persist`].
    pub fn import_layer(
        &self,
        source: impl std::io::Read,
        options: &LayerOptions,
    ) -> Result<Arc<LayerRecord>, LayerError> {
        self.layers.import(source, options)
    }

    /// As [`Store::import_layer`]; `open` is told how many of the first bytes are here already, from an attempt that
    /// broke off, and gives the others (see [`LayerOptions::resume`]).
    pub fn resume_layer<R: std::io::Read + Send>(
        &self,
        open: impl FnOnce(u64) -> R,
        options: &LayerOptions,
    ) -> Result<Arc<LayerRecord>, LayerError> {
        self.layers.import_resuming(open, options)
    }

    pub(crate) fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Removes those of the layers that nothing refers to.
    pub fn collect_layers(&self, candidates: &[Digest]) -> Result<Vec<Digest>, LayerError> {
        self.collector.collect(&self.layers, candidates)
    }
}

fn take_lock(data_root: &Path) -> Result<File, OpenError> {
    std::fs::create_dir_all(data_root).map_err(IoError::new("create directory", data_root))?;
    let path = data_root.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(IoError::new("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(OpenError::Locked { data_root: data_root.to_owned(), lock: path })
        }
        Err(TryLockError::Error(error)) => Err(IoError::new("lock", &path)(error).into()),
    }
}

/// Names like container ids, for callers that need one.
pub fn random_id() -> String {
    files::random_id()
}
