//! The store itself.
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use ferry_oci::{Digest, Platform, Reference};

use crate::archive::{LoadError, LoadProgress, Loaded};
use crate::blob::Blobs;
use crate::container::Containers;
use crate::database::{Batch, Table};
use crate::error::{DatabaseError, OpenError};
use crate::image::{Image, Images};
use crate::layer::{LayerError, LayerOptions, LayerRecord};
use crate::snapshot::Snapshots;
use crate::volume::Volumes;

/// The one owner of a data root.
pub struct Store {}

impl Store {
    /// Opens a data root (made where absent): takes the owner lock, checks the version, sweeps.
    pub fn open(_data_root: &Path) -> Result<Arc<Store>, OpenError> {
        unimplemented!()
    }
    /// The data root.
    pub fn data_root(&self) -> &Path {
        unimplemented!()
    }
    /// Images.
    pub fn images(&self) -> &Images {
        unimplemented!()
    }
    /// Blobs.
    pub fn blobs(&self) -> &Blobs {
        unimplemented!()
    }
    /// Snapshots.
    pub fn snapshots(&self) -> &Snapshots {
        unimplemented!()
    }
    /// Container directories.
    pub fn containers(&self) -> &Containers {
        unimplemented!()
    }
    /// Volumes.
    pub fn volumes(&self) -> &Volumes {
        unimplemented!()
    }
    /// A typed table; `name` is part of the disk format.
    pub fn kv<T>(&self, _name: &'static str) -> Table<T> {
        unimplemented!()
    }
    /// Makes a batch durable.
    pub fn commit(&self, _batch: Batch) -> Result<(), DatabaseError> {
        unimplemented!()
    }
    /// The record of a layer that is in the store.
    pub fn layer(&self, _diff_id: &Digest) -> Option<Arc<LayerRecord>> {
        unimplemented!()
    }
    /// Hash, inflate and unpack a layer in one pass. The layer may be used at once; it is made
    /// durable by the registration of an image that has it, or by [`Store::persist_layers`].
    pub fn import_layer(
        &self,
        _source: impl Read,
        _options: &LayerOptions,
    ) -> Result<Arc<LayerRecord>, LayerError> {
        unimplemented!()
    }
    /// Makes imported layers durable without an image.
    pub fn persist_layers(&self, _diff_ids: &[Digest]) -> Result<(), LayerError> {
        unimplemented!()
    }
    /// Makes a layer of a writable directory (overlay's whiteouts become tar's).
    pub fn commit_upper(&self, _upper: &Path) -> Result<Arc<LayerRecord>, LayerError> {
        unimplemented!()
    }
    /// Writes the deterministic layer tar of a writable directory.
    pub fn diff_tar(&self, _upper: &Path, _writer: impl Write) -> Result<(), LayerError> {
        unimplemented!()
    }
    /// Takes in the images of a docker-archive or OCI layout tar (plain, gzip or zstd).
    pub fn load(
        &self,
        _reader: impl Read,
        _platform: Option<&Platform>,
        _progress: &(dyn Fn(LoadProgress) + Sync),
    ) -> Result<Vec<Loaded>, LoadError> {
        unimplemented!()
    }
    /// Writes images as docker-archive and OCI layout in one tar.
    pub fn save(&self, _names: &[String], _writer: impl Write) -> Result<(), LoadError> {
        unimplemented!()
    }
    /// Makes an image of a root file system tar.
    pub fn import_rootfs(
        &self,
        _reader: impl Read,
        _changes: &[String],
        _message: &str,
        _reference: Option<&Reference>,
    ) -> Result<Arc<Image>, LoadError> {
        unimplemented!()
    }
}
