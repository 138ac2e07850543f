//! How much disk something takes: what `du` says (blocks, a hard-linked file once).

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ferry_oci::Digest;

use crate::error::IoError;
use crate::store::Store;
use crate::walk::{Root, Walk};

/// Size of a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes on disk.
    pub allocated: u64,
    /// Sum of the file sizes.
    pub apparent: u64,
    /// Files, directories and the rest.
    pub inodes: u64,
}

impl Usage {
    fn add(&mut self, blocks: i64, size: i64) {
        self.allocated += blocks.max(0) as u64 * 512;
        self.apparent += size.max(0) as u64;
        self.inodes += 1;
    }
}

/// Measures a file or a tree, itself included. Something that is not there has no size.
pub fn measure(path: &Path) -> Result<Usage, IoError> {
    let mut usage = Usage::default();
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(usage),
        Err(error) => return Err(IoError::new("stat", path)(error)),
    };
    usage.add(metadata.blocks() as i64, metadata.size() as i64);
    if !metadata.is_dir() {
        return Ok(usage);
    }
    let mut seen = HashSet::new();
    let mut walk = Walk::new(Root::open(path)?)?;
    while let Some(node) = walk.next()? {
        let stat = &node.stat;
        let several = stat.st_nlink > 1 && node.kind() != rustix::fs::FileType::Directory;
        if !several || seen.insert((stat.st_dev, stat.st_ino)) {
            usage.add(stat.st_blocks, stat.st_size);
        }
    }
    Ok(usage)
}

/// What the parts of the store take.
#[derive(Debug, Clone, Default)]
pub struct DiskUsage {
    /// Each layer: its tree and the blob kept beside it.
    pub layers: BTreeMap<Digest, u64>,
    /// Blobs that belong to no layer (configs, manifests, a registry's own).
    pub other_blobs: u64,
    /// Each container: its whole directory, logs included.
    pub containers: BTreeMap<String, Usage>,
    /// Each volume's data.
    pub volumes: BTreeMap<String, Usage>,
}

impl Store {
    /// Bytes on disk of a layer: its tree and the blob kept beside it. A layer never changes, so it
    /// is measured once per process.
    pub fn layer_on_disk(&self, diff_id: &Digest) -> Result<u64, IoError> {
        let Some(record) = self.layers().get(diff_id) else { return Ok(0) };
        let blob = match &record.blob {
            Some(blob) => measure(&self.layout().blob(&blob.digest))?.allocated,
            None => 0,
        };
        let tree = match self.layers().measured(diff_id) {
            Some(known) => known,
            None => {
                let tree = measure(&self.layout().layer(diff_id))?.allocated;
                self.layers().set_measured(diff_id, tree);
                tree
            }
        };
        Ok(tree + blob)
    }

    /// Bytes on disk of all images' layers, each once, and of those that used images have.
    pub fn layers_on_disk(&self, is_used: &dyn Fn(&Digest) -> bool) -> Result<(u64, u64), IoError> {
        let mut layers: BTreeMap<Digest, bool> = BTreeMap::new();
        for image in self.images().list() {
            let used = is_used(&image.id);
            for diff_id in image.diff_ids() {
                *layers.entry(diff_id).or_default() |= used;
            }
        }
        let (mut total, mut in_use) = (0, 0);
        for (diff_id, used) in layers {
            let size = self.layer_on_disk(&diff_id)?;
            total += size;
            in_use += if used { size } else { 0 };
        }
        Ok((total, in_use))
    }

    /// Measures everything. Walks the trees, so it takes a while on a large store.
    pub fn disk_usage(&self) -> Result<DiskUsage, IoError> {
        let mut usage = DiskUsage::default();
        let mut layer_blobs = 0;
        for record in self.layers().list() {
            if let Some(blob) = &record.blob {
                layer_blobs += measure(&self.layout().blob(&blob.digest))?.allocated;
            }
            usage.layers.insert(record.diff_id.clone(), self.layer_on_disk(&record.diff_id)?);
        }
        let partial = measure(&self.layout().partial_dir())?.allocated;
        let blobs = measure(&self.data_root().join("blobs"))?.allocated + partial;
        usage.other_blobs = blobs.saturating_sub(layer_blobs);
        for (id, _) in self.containers().read_all()? {
            let measured = measure(self.containers().dir(&id).dir())?;
            usage.containers.insert(id, measured);
        }
        for volume in self.volumes().list() {
            usage.volumes.insert(volume.name.clone(), measure(&volume.mountpoint)?);
        }
        Ok(usage)
    }

    /// Size of a container's writable layer: file sizes, as Docker's `SizeRw` tells it.
    pub fn writable_size(&self, container_id: &str) -> Result<u64, IoError> {
        let mut size = 0;
        let upper = self.containers().dir(container_id).upper();
        if !upper.exists() {
            return Ok(0);
        }
        let mut walk = Walk::new(Root::open(&upper)?)?;
        let mut seen = HashSet::new();
        while let Some(node) = walk.next()? {
            let regular = node.kind() == rustix::fs::FileType::RegularFile;
            if regular && (node.stat.st_nlink == 1 || seen.insert(node.stat.st_ino)) {
                size += node.stat.st_size.max(0) as u64;
            }
        }
        Ok(size)
    }
}
