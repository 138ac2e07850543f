//! What a writable layer changed: as a list, as a layer tar, as a layer.
//!
//! The tar is deterministic: the same tree gives the same bytes (names in byte order, no times but
//! those of the files, only the attributes that belong to an image). So a layer made here needs no
//! copy of its tar: [`Store::layer_tar`] writes the same bytes again.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use ferry_oci::image::Descriptor;
use ferry_oci::{Algorithm, Digest, Hasher};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use crate::blob::{BlobError, Ingest};
use crate::error::IoError;
use crate::layer::{
    Compression, LayerError, LayerOptions, LayerRecord, OVERLAY_OPAQUE, Source, Tree, is_whiteout,
};
use crate::snapshot::SnapshotError;
use crate::store::Store;
use crate::tar::{EntryHeader, EntryKind, TarWriter, error_text};
use crate::walk::{Node, Walk};

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
    /// Overlayfs moved a directory by reference, so the writable layer is not complete by itself.
    #[error("cannot make a layer of {entry:?}: overlayfs recorded it by reference ({attribute})")]
    Reference {
        /// The path.
        entry: String,
        /// The attribute that says so.
        attribute: &'static str,
    },
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

/// Attributes by which overlayfs makes a layer depend on those below; the runtime mounts without
/// these features, but a kernel may be built to use them unasked.
const REFERENCES: &[&str] = &["trusted.overlay.redirect", "trusted.overlay.metacopy"];
/// Largest attribute read, as in Linux (XATTR_SIZE_MAX).
const XATTR_MAX: usize = 64 << 10;

impl Store {
    /// What a container changed against its image, sorted by path.
    pub fn changes(&self, container_id: &str) -> Result<Vec<Change>, DiffError> {
        let snapshot = self.snapshots().get(container_id)?;
        let lowers = snapshot.lowers.iter().map(|lower| open_tree(lower)).collect::<Result<Vec<_>, _>>()?;
        let mut walk = Walk::new(&snapshot.upper)?;
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
        Ok(self.layers().import_from(Source::<io::Empty>::Spooled(spooled), &options)?)
    }

    /// Makes a layer of a writable directory by taking it over: nothing is copied. The directory
    /// must be on the data root's file system and no longer be mounted (a build step's).
    pub fn take_upper(&self, upper: &Path) -> Result<Arc<LayerRecord>, DiffError> {
        let mut hashed = HashWriter { hasher: Hasher::new(Algorithm::Sha256), count: 0 };
        let stats = write_tar(upper, &mut hashed)?;
        let diff_id = hashed.hasher.finish();
        Ok(self.layers().adopt(upper, diff_id, hashed.count, stats.size, stats.entries)?)
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

    /// The blob of a layer, made now when none was kept (gzip, as every registry takes it).
    pub fn layer_blob(&self, diff_id: &Digest) -> Result<Descriptor, DiffError> {
        let record = self.layers().get(diff_id).ok_or_else(|| LayerError::NotFound(diff_id.clone()))?;
        if let Some(blob) = &record.blob {
            return Ok(blob.clone());
        }
        let mut ingest = IngestWriter::start(self)?;
        let mut encoder = flate2::write::GzEncoder::new(&mut ingest, flate2::Compression::fast());
        self.layer_tar(diff_id, &mut encoder)?;
        let finished = encoder.finish().map(drop).map_err(DiffError::Write);
        ingest.fail_first()?;
        finished?;
        let spooled = ingest.ingest.finish();
        let media_type = Compression::Gzip.media_type();
        let descriptor = Descriptor::new(media_type, spooled.digest.clone(), spooled.size);
        crate::files::sync_path(spooled.path())?;
        spooled.publish(self.layout())?;
        self.layers().keep_blob(diff_id, descriptor.clone())?;
        Ok(descriptor)
    }
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

/// What a tar came to.
#[derive(Debug, Default)]
struct Written {
    entries: u64,
    size: u64,
}

fn write_tar(upper: &Path, writer: impl Write) -> Result<Written, DiffError> {
    let mut walk = Walk::new(upper)?;
    let mut layer = LayerWriter {
        archive: TarWriter::new(io::BufWriter::with_capacity(crate::blob::COPY_BUFFER, writer)),
        links: HashMap::new(),
        written: Written::default(),
    };
    while let Some(node) = walk.next()? {
        layer.node(&walk, &node)?;
    }
    let LayerWriter { archive, written, .. } = layer;
    archive.finish().map_err(DiffError::Write)?;
    Ok(written)
}

struct LayerWriter<W: Write> {
    archive: TarWriter<W>,
    /// Files with several names that were written, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    written: Written,
}

impl<W: Write> LayerWriter<W> {
    fn node(&mut self, walk: &Walk, node: &Node) -> Result<(), DiffError> {
        if is_whiteout(&node.stat) {
            return self.whiteout(&node.path);
        }
        let kind = match node.kind() {
            FileType::RegularFile => EntryKind::Regular,
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Symlink,
            FileType::CharacterDevice => EntryKind::CharDevice,
            FileType::BlockDevice => EntryKind::BlockDevice,
            FileType::Fifo => EntryKind::Fifo,
            // A socket means nothing without the process that listens on it.
            _ => return Ok(()),
        };
        let mut header = header_of(node);
        let identity = (node.stat.st_dev, node.stat.st_ino);
        if kind != EntryKind::Directory && node.stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&identity) {
                header.link = first.clone();
                header.size = 0;
                return self.append(&header, EntryKind::HardLink, io::empty());
            }
            self.links.insert(identity, node.path.clone());
        }
        match kind {
            EntryKind::Regular => self.regular(walk, header),
            EntryKind::Directory => self.directory(walk, node, header),
            EntryKind::Symlink => {
                header.link = walk.read_link(&node.path)?;
                self.append(&header, kind, io::empty())
            }
            EntryKind::CharDevice | EntryKind::BlockDevice => {
                let device = node.stat.st_rdev;
                header.device = (rustix::fs::major(device), rustix::fs::minor(device));
                self.append(&header, kind, io::empty())
            }
            _ => self.append(&header, kind, io::empty()),
        }
    }

    fn append(&mut self, header: &EntryHeader, kind: EntryKind, data: impl Read) -> Result<(), DiffError> {
        self.written.entries += 1;
        self.written.size += header.size;
        self.archive.append(header, kind, data).map_err(DiffError::Write)
    }

    fn regular(&mut self, walk: &Walk, mut header: EntryHeader) -> Result<(), DiffError> {
        let file = walk.open(&header.path, OFlags::RDONLY)?;
        let (xattrs, _) = read_xattrs(walk, &file, &header.path)?;
        header.xattrs = xattrs;
        self.append(&header, EntryKind::Regular, File::from(file))
    }

    fn directory(&mut self, walk: &Walk, node: &Node, mut header: EntryHeader) -> Result<(), DiffError> {
        let directory = walk.open(&node.path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let (xattrs, opaque) = read_xattrs(walk, &directory, &node.path)?;
        header.xattrs = xattrs;
        header.path.push(b'/');
        self.append(&header, EntryKind::Directory, io::empty())?;
        if opaque {
            let path = [&header.path[..], b".wh..wh..opq"].concat();
            return self.append(
                &EntryHeader { path, ..EntryHeader::default() },
                EntryKind::Regular,
                io::empty(),
            );
        }
        Ok(())
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<(), DiffError> {
        let split = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let path = [&path[..split], b".wh.", &path[split..]].concat();
        self.append(&EntryHeader { path, ..EntryHeader::default() }, EntryKind::Regular, io::empty())
    }
}

fn header_of(node: &Node) -> EntryHeader {
    let stat = &node.stat;
    let regular = node.kind() == FileType::RegularFile;
    EntryHeader {
        path: node.path.clone(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: if regular { stat.st_size.max(0) as u64 } else { 0 },
        mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
        ..EntryHeader::default()
    }
}

/// An extended attribute: name and value.
type Xattr = (Vec<u8>, Vec<u8>);

/// The attributes that belong to an image (file capabilities and `user.`), sorted, and whether
/// overlayfs calls the directory opaque.
fn read_xattrs(walk: &Walk, file: &OwnedFd, path: &[u8]) -> Result<(Vec<Xattr>, bool), DiffError> {
    let mut names = vec![0; XATTR_MAX];
    let length = match rustix::fs::flistxattr(file, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok((Vec::new(), false)),
        Err(errno) => return Err(walk.failed("list attributes of", path)(errno).into()),
    };
    let mut xattrs = Vec::new();
    let mut opaque = false;
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if let Some(attribute) = REFERENCES.iter().find(|reference| reference.as_bytes() == name) {
            return Err(DiffError::Reference { entry: error_text(path), attribute });
        }
        let belongs = name == b"security.capability"
            || name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
        if !belongs && name != OVERLAY_OPAQUE.as_bytes() {
            continue;
        }
        let mut value = vec![0; XATTR_MAX];
        let length = rustix::fs::fgetxattr(file, name, &mut value[..])
            .map_err(walk.failed("read an attribute of", path))?;
        value.truncate(length);
        match belongs {
            true => xattrs.push((name.to_vec(), value)),
            false => opaque = value == b"y",
        }
    }
    xattrs.sort();
    Ok((xattrs, opaque))
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
