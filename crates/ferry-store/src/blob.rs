//! Blobs: bytes named by their digest, readable only once verified.
//!
//! Owns `blobs/`. A blob is written to `ingest/` while it is hashed and renamed into place when its
//! digest is right. Durability comes with the record that refers to it (see `layer`), except for
//! [`Blobs::put`] and [`Blobs::ingest`], which sync the file themselves.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferry_oci::image::DOCUMENT_SIZE_MAX;
use ferry_oci::{Algorithm, Digest, Hasher};

use crate::error::IoError;
use crate::files;
use crate::layout::Layout;

/// Bytes moved per read.
pub(crate) const COPY_BUFFER: usize = 128 << 10;

/// The verified blobs.
#[derive(Debug, Clone)]
pub struct Blobs {
    layout: Arc<Layout>,
}

/// Why a blob did not come in or out.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// It is not in the store.
    #[error("blob {0} is not in the store")]
    NotFound(Digest),
    /// The bytes are not those announced.
    #[error("blob has digest {found}, expected {expected}")]
    Digest {
        /// Announced.
        expected: Digest,
        /// Computed.
        found: Digest,
    },
    /// Reading the source failed.
    #[error("cannot read the blob's source")]
    Source(#[source] io::Error),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl Blobs {
    pub(crate) fn new(layout: &Arc<Layout>) -> Blobs {
        Blobs { layout: Arc::clone(layout) }
    }

    /// Whether a blob is there.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    /// Number of its bytes, when it is there.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.path(digest)).ok().map(|metadata| metadata.len())
    }

    /// Opens a blob and gives its size.
    pub fn open(&self, digest: &Digest) -> Result<(File, u64), BlobError> {
        let path = self.path(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(BlobError::NotFound(digest.clone()));
            }
            Err(error) => return Err(IoError::new("open", &path)(error).into()),
        };
        let size = file.metadata().map_err(IoError::new("stat", &path))?.len();
        Ok((file, size))
    }

    /// A small blob (a manifest or config) whole.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, BlobError> {
        match files::read_limited(&self.path(digest), DOCUMENT_SIZE_MAX) {
            Ok(bytes) => Ok(bytes),
            Err(error) if error.is_not_found() => Err(BlobError::NotFound(digest.clone())),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a blob in and gives its size. It is visible, and durable, once its digest is verified.
    pub fn ingest(&self, source: impl Read, expected: &Digest) -> Result<u64, BlobError> {
        let mut ingest = Ingest::start(&self.layout, Hasher::new(expected.algorithm()))?;
        ingest.copy_from(source)?;
        let spooled = ingest.finish();
        if spooled.digest != *expected {
            return Err(BlobError::Digest { expected: expected.clone(), found: spooled.digest.clone() });
        }
        files::sync_path(spooled.path())?;
        let size = spooled.size;
        spooled.publish(&self.layout)?;
        files::sync_parent(&self.path(expected))?;
        Ok(size)
    }

    /// Takes bytes in, durably, and gives their digest.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        let digest = Digest::sha256_of(bytes);
        if !self.contains(&digest) {
            files::write_atomic(&self.path(&digest), bytes, 0o600, true)?;
        }
        Ok(digest)
    }

    /// Moves a blob to the trash. Idempotent.
    pub(crate) fn discard(&self, digest: &Digest) -> Result<bool, IoError> {
        self.layout.discard(&self.path(digest))
    }

    /// Blobs whose file was last written before a time (in seconds since 1970).
    pub(crate) fn older_than(&self, seconds: i64) -> Result<Vec<Digest>, IoError> {
        let mut found = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let directory = self.layout.blobs(algorithm);
            for name in files::list_dir(&directory)? {
                let Ok(digest) = Digest::parse(&format!("{algorithm}:{name}")) else { continue };
                let path = directory.join(name);
                let metadata = fs::metadata(&path).map_err(IoError::new("stat", &path))?;
                if metadata.mtime() < seconds {
                    found.push(digest);
                }
            }
        }
        Ok(found)
    }

    /// Where a blob is.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.layout.blob(digest)
    }
}

/// A blob being written to `ingest/`, or one that can be gone on with to `partial/`; removed again unless published.
pub(crate) struct Ingest {
    file: File,
    hasher: Hasher,
    written: Unpublished,
    /// Bytes that an earlier attempt left. They are to be read again before anything is written.
    left: u64,
}

/// A whole blob in `ingest/`, hashed but not yet visible. Dropping it removes the file.
pub(crate) struct Spooled {
    /// Digest of the bytes.
    pub digest: Digest,
    /// How many.
    pub size: u64,
    file: Unpublished,
}

/// A file in `ingest/` or `partial/` that goes when it is dropped.
struct Unpublished {
    path: PathBuf,
    size: u64,
    /// Stays, for the next attempt.
    keep: bool,
}

impl Drop for Unpublished {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // A published file is renamed away already; what stays after an error is swept at start.
        let _ = fs::remove_file(&self.path);
    }
}

impl Ingest {
    pub(crate) fn start(layout: &Layout, hasher: Hasher) -> Result<Ingest, IoError> {
        let path = layout.ingest();
        let file = files::create_new(&path, 0o600)?;
        Ok(Ingest { file, hasher, written: Unpublished { path, size: 0, keep: false }, left: 0 })
    }

    /// Goes on with what an earlier attempt at this blob left; starts anew where it left nothing, or more than the
    /// blob can have. While another import writes the same blob, this one writes to a file of its own.
    pub(crate) fn resume(layout: &Layout, digest: &Digest, size: u64) -> Result<Ingest, IoError> {
        let path = layout.partial(digest);
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(IoError::new("open", &path))?;
        // The lock goes with the file, however this process ends.
        if file.try_lock().is_err() || !same_file(&file, &path)? {
            return Ingest::start(layout, Hasher::new(digest.algorithm()));
        }
        let mut left = file.metadata().map_err(IoError::new("stat", &path))?.len();
        if left > size {
            file.set_len(0).map_err(IoError::new("truncate", &path))?;
            left = 0;
        }
        (&file).seek(io::SeekFrom::Start(left)).map_err(IoError::new("seek", &path))?;
        let written = Unpublished { path, size: 0, keep: false };
        Ok(Ingest { file, hasher: Hasher::new(digest.algorithm()), written, left })
    }

    /// Where the bytes come to be.
    pub(crate) fn path(&self) -> &Path {
        &self.written.path
    }

    /// Bytes that an earlier attempt left.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// The next of the bytes that an earlier attempt left, hashed again; 0 when all have been read.
    pub(crate) fn read_left(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left.saturating_sub(self.written.size)).unwrap_or(usize::MAX);
        let wanted = wanted.min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.file.read_at(&mut buffer[..wanted], self.written.size)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.hasher.update(&buffer[..count]);
        self.written.size += count as u64;
        Ok(count)
    }

    /// The source broke off: what has come stays for the next attempt, where there can be one.
    pub(crate) fn keep_for_later(&mut self, layout: &Layout) {
        self.written.keep = self.written.path.starts_with(layout.partial_dir());
    }

    /// Takes the next bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), IoError> {
        self.file.write_all(bytes).map_err(IoError::new("write", &self.written.path))?;
        self.hasher.update(bytes);
        self.written.size += bytes.len() as u64;
        Ok(())
    }

    /// Takes all bytes of a stream.
    pub(crate) fn copy_from(&mut self, mut source: impl Read) -> Result<(), BlobError> {
        let mut buffer = vec![0; COPY_BUFFER];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => self.write(&buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(BlobError::Source(error)),
            }
        }
    }

    /// All bytes have come.
    pub(crate) fn finish(self) -> Spooled {
        let Ingest { hasher, written, .. } = self;
        Spooled { digest: hasher.finish(), size: written.size, file: written }
    }
}

/// Whether the path still leads to the open file: who had it before may have published or removed it meanwhile.
fn same_file(file: &File, path: &Path) -> Result<bool, IoError> {
    let open = file.metadata().map_err(IoError::new("stat", path))?;
    match fs::metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(IoError::new("stat", path)(error)),
    }
}

/// Removes what came of blobs whose transfer broke off before a time (in seconds since 1970) and was not gone on with.
pub(crate) fn discard_partial(layout: &Layout, seconds: i64) -> Result<(), IoError> {
    for name in files::list_dir(&layout.partial_dir())? {
        let path = layout.partial_dir().join(name);
        let metadata = fs::metadata(&path).map_err(IoError::new("stat", &path))?;
        if metadata.mtime() < seconds {
            layout.discard(&path)?;
        }
    }
    Ok(())
}

impl Spooled {
    /// Where the bytes are until they are published.
    pub(crate) fn path(&self) -> &Path {
        &self.file.path
    }

    /// Makes the blob visible under its digest.
    pub(crate) fn publish(self, layout: &Layout) -> Result<(), IoError> {
        let target = layout.blob(&self.digest);
        if target.exists() {
            return Ok(());
        }
        files::rename(self.path(), &target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let directory = tempfile::tempdir().unwrap();
        let layout = Arc::new(Layout::prepare(directory.path()).unwrap());
        (directory, Blobs::new(&layout))
    }

    #[test]
    fn a_blob_is_there_only_when_verified() {
        let (directory, blobs) = blobs();
        let right = Digest::sha256_of(b"bytes");
        let wrong = Digest::sha256_of(b"other");
        let error = blobs.ingest(&b"bytes"[..], &wrong).unwrap_err();
        assert!(matches!(error, BlobError::Digest { found, .. } if found == right));
        assert!(!blobs.contains(&wrong) && !blobs.contains(&right));
        assert_eq!(blobs.ingest(&b"bytes"[..], &right).unwrap(), 5);
        assert_eq!(blobs.read(&right).unwrap(), b"bytes");
        assert_eq!(files::list_dir(&directory.path().join("ingest")).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_has_come_is_gone_on_with() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::prepare(directory.path()).unwrap();
        let digest = Digest::sha256_of(b"whole");
        let mut first = Ingest::resume(&layout, &digest, 5).unwrap();
        first.write(b"wh").unwrap();
        // While one writes, another keeps to itself.
        assert_eq!(Ingest::resume(&layout, &digest, 5).unwrap().left(), 0);
        first.keep_for_later(&layout);
        drop(first);
        let mut second = Ingest::resume(&layout, &digest, 5).unwrap();
        assert_eq!(second.left(), 2);
        let mut buffer = [0; 8];
        assert_eq!(second.read_left(&mut buffer).unwrap(), 2);
        assert_eq!(second.read_left(&mut buffer).unwrap(), 0);
        second.write(b"ole").unwrap();
        let spooled = second.finish();
        assert_eq!((&spooled.digest, spooled.size), (&digest, 5));
        drop(spooled);
        assert_eq!(Ingest::resume(&layout, &digest, 5).unwrap().left(), 0);
        // More than the blob can have is somebody else's bytes.
        fs::write(layout.partial(&digest), b"far too much").unwrap();
        assert_eq!(Ingest::resume(&layout, &digest, 5).unwrap().left(), 0);
    }

    #[test]
    fn missing_blobs_are_named() {
        let (_directory, blobs) = blobs();
        let digest = Digest::sha256_of(b"");
        assert_eq!(
            blobs.open(&digest).unwrap_err().to_string(),
            format!("blob {digest} is not in the store")
        );
    }
}
