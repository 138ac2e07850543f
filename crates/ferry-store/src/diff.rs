//! What a writable layer changed: as a list, as a layer tar, as a layer.
//!
//! The tar is deterministic: the same tree gives the same bytes (names in byte order, no times but
//! those of the files, only the attributes that belong to an image). So a layer made here needs no
//! copy of its tar: [`Store::layer_tar`] writes the same bytes again.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use ferry_oci::{Algorithm, Digest, Hasher};
use rustix::io::Errno;

use crate::blob::{BlobError, Ingest};
use crate::error::IoError;
use crate::layer::{LayerError, LayerOptions, LayerRecord, Tree, is_whiteout};
use crate::pack::{PackError, PackOptions, Packed, pack};
use crate::snapshot::SnapshotError;
use crate::store::Store;
use crate::walk::{Root, Walk};

/// Kind of a change, with Docker's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Was there before, differs now.
    Modified = 0,
    /// Was not there before.
    Added = 1,
    /// Is gone.
    Deleted = 2,
}

/// One changed path, from the container's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute path in the container.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// Why a difference cannot be told or written.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// The container has no snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The tar cannot be written.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The receiver of the tar failed.
    #[error("cannot write the layer")]
    Write(#[source] io::Error),
    /// The tar written again is not the one that was recorded: the layer's files were changed.
    #[error("layer {diff_id} is damaged: its files now give {found}")]
    Damaged {
        /// The layer.
        diff_id: Digest,
        /// What its files give.
        found: Digest,
    },
    /// A layer cannot be made.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A blob cannot be made.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl Store {
    /// What a container changed against its image, sorted by path.
    pub fn changes(&self, container_id: &str) -> Result<Vec<Change>, DiffError> {
        let snapshot = self.snapshots().get(container_id)?;
        let lowers = snapshot.lowers.iter().map(|lower| open_tree(lower)).collect::<Result<Vec<_>, _>>()?;
        let mut walk = Walk::new(Root::open(&snapshot.upper)?)?;
        let mut changes = Vec::new();
        while let Some(node) = walk.next()? {
            let below = is_below(&lowers, &node.path).map_err(walk.failed("look below", &node.path))?;
            let kind = match (is_whiteout(&node.stat), below) {
                // Made and removed again: nothing changed.
                (true, false) => continue,
                (true, true) => ChangeKind::Deleted,
                (false, true) => ChangeKind::Modified,
                (false, false) => ChangeKind::Added,
            };
            changes.push(Change { path: format!("/{}", String::from_utf8_lossy(&node.path)), kind });
        }
        Ok(changes)
    }

    /// Writes the layer tar of a writable directory in overlayfs's form.
    pub fn diff_tar(&self, upper: &Path, writer: impl Write) -> Result<(), DiffError> {
        write_tar(upper, writer).map(drop)
    }

    /// Makes a layer of a copy of a writable directory, which stays as it is (a container's).
    pub fn commit_upper(&self, upper: &Path) -> Result<Arc<LayerRecord>, DiffError> {
        let mut ingest = IngestWriter::start(self)?;
        let written = write_tar(upper, &mut ingest);
        ingest.fail_first()?;
        written?;
        let spooled = ingest.ingest.finish();
        let options = LayerOptions { diff_id: Some(spooled.digest.clone()), ..LayerOptions::default() };
        Ok(self.layers().import_spooled(spooled, &options)?)
    }

    /// Makes a layer of a writable directory by taking it over: nothing is copied. The directory
    /// must be on the data root's file system and no longer be mounted (a build step's).
    pub fn take_upper(&self, upper: &Path) -> Result<Arc<LayerRecord>, DiffError> {
        let mut hashed = HashWriter { hasher: Hasher::new(Algorithm::Sha256), count: 0 };
        let stats = write_tar(upper, &mut hashed)?;
        let diff_id = hashed.hasher.finish();
        Ok(self.layers().adopt(upper, diff_id, hashed.count, stats.size, stats.entries)?)
    }

    /// Makes one layer of several (lowest first) that lie on a base. None where nothing is left of them.
    pub fn squash(&self, base: &[Digest], layers: &[Digest]) -> Result<Option<Arc<LayerRecord>>, DiffError> {
        let scratch = self.scratch()?;
        let merged = scratch.path().join("fs");
        crate::files::create_dir(&merged, 0o755)?;
        let trees: Vec<_> = layers.iter().map(|layer| self.layers().tree(layer)).collect();
        crate::copy::copy_stacked(&trees, &merged)?;
        let below = base.iter().rev().map(|layer| open_tree(&self.layers().tree(layer)));
        drop_needless_whiteouts(&merged, &below.collect::<Result<Vec<_>, _>>()?)?;
        match std::fs::read_dir(&merged).map_err(IoError::new("list", &merged))?.next() {
            None => Ok(None),
            Some(_) => self.take_upper(&merged).map(Some),
        }
    }

    /// Writes the uncompressed tar of a layer, whether it was kept or not.
    pub fn layer_tar(&self, diff_id: &Digest, mut writer: impl Write) -> Result<u64, DiffError> {
        let record = self.layers().get(diff_id).ok_or_else(|| LayerError::NotFound(diff_id.clone()))?;
        if let Some(blob) = &record.blob {
            let (file, _) = self.blobs().open(&blob.digest)?;
            let reader = io::BufReader::with_capacity(crate::blob::COPY_BUFFER, file);
            let (mut decoder, _) = crate::layer::Decoder::detect(reader)?;
            return io::copy(&mut decoder, &mut writer).map_err(DiffError::Write);
        }
        let mut hashing = Tee { hasher: Hasher::new(Algorithm::Sha256), count: 0, writer };
        write_tar(&self.layers().tree(diff_id), &mut hashing)?;
        match hashing.hasher.finish() {
            found if found == *diff_id => Ok(hashing.count),
            found => Err(DiffError::Damaged { diff_id: diff_id.clone(), found }),
        }
    }
}

/// Removes whiteouts of what no lower layer has.
fn drop_needless_whiteouts(upper: &Path, lowers: &[Tree]) -> Result<(), DiffError> {
    let mut walk = Walk::new(Root::open(upper)?)?;
    let mut needless = Vec::new();
    while let Some(node) = walk.next()? {
        if is_whiteout(&node.stat)
            && !is_below(lowers, &node.path).map_err(walk.failed("look below", &node.path))?
        {
            needless.push(upper.join(std::ffi::OsStr::from_bytes(&node.path)));
        }
    }
    for path in needless {
        let parent = path.parent().unwrap_or(upper);
        let time = std::fs::metadata(parent)
            .and_then(|data| data.modified())
            .map_err(IoError::new("stat", parent))?;
        std::fs::remove_file(&path).map_err(IoError::new("remove", &path))?;
        // The same layers give the same layer, whenever that is done.
        let opened = File::open(parent).map_err(IoError::new("open", parent))?;
        opened.set_modified(time).map_err(IoError::new("set the time of", parent))?;
    }
    Ok(())
}

fn open_tree(path: &Path) -> Result<Tree, IoError> {
    Ok(Tree::new(File::open(path).map_err(IoError::new("open", path))?.into()))
}

/// Whether the merged lower layers (topmost first) have a path.
fn is_below(lowers: &[Tree], path: &[u8]) -> Result<bool, Errno> {
    for lower in lowers {
        match lower.stat(path) {
            Ok(stat) => return Ok(!is_whiteout(&stat)),
            Err(Errno::NOENT) => {}
            // A parent is a file or link here: what lies further below is hidden.
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(false),
            Err(errno) => return Err(errno),
        }
        if lower.hides_below(path)? {
            return Ok(false);
        }
    }
    Ok(false)
}

fn write_tar(upper: &Path, writer: impl Write) -> Result<Packed, DiffError> {
    Ok(pack(Root::open(upper)?, &PackOptions { layer: true, ..PackOptions::default() }, writer)?)
}

/// Hashes what is written.
struct HashWriter {
    hasher: Hasher,
    count: u64,
}

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.count += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hashes what is written and passes it on.
struct Tee<W> {
    hasher: Hasher,
    count: u64,
    writer: W,
}

impl<W: Write> Write for Tee<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.writer.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// An ingest as a `Write`; its own error is kept, since `io::Error` would hide the path.
pub(crate) struct IngestWriter {
    pub(crate) ingest: Ingest,
    error: Option<IoError>,
}

impl IngestWriter {
    pub(crate) fn start(store: &Store) -> Result<IngestWriter, IoError> {
        Ok(IngestWriter {
            ingest: Ingest::start(store.layout(), Hasher::new(Algorithm::Sha256))?,
            error: None,
        })
    }

    /// Where the bytes come to be.
    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.ingest.path().to_owned()
    }

    /// All bytes have come.
    pub(crate) fn finish(self) -> crate::blob::Spooled {
        self.ingest.finish()
    }

    pub(crate) fn fail_first(&mut self) -> Result<(), IoError> {
        self.error.take().map_or(Ok(()), Err)
    }
}

impl Write for IngestWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.ingest.write(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                let kind = error.source.kind();
                self.error = Some(error);
                Err(kind.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
