//! The one pass in which a layer comes in.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use ferry_oci::image::Descriptor;
use ferry_oci::{Algorithm, Digest, Hasher};

use super::compression::{Compression, Decoder};
use super::error::LayerError;
use super::index::{LayerRecord, Layers};
use super::limits::{Arrived, Limits};
use super::stage;
use super::tree::Tree;
use super::unpack::{Target, UnpackOptions, Unpacked, unpack};
use crate::blob::{COPY_BUFFER, Ingest, Spooled};
use crate::error::IoError;
use crate::files;
use crate::layout::Layout;
use crate::tar::TarReader;

/// How a layer comes in.
#[derive(Debug, Clone, Default)]
pub struct LayerOptions {
    /// Refuse any other uncompressed digest.
    pub diff_id: Option<Digest>,
    /// Refuse any other digest of the bytes as they arrive.
    pub blob_digest: Option<Digest>,
    /// Media type to record with the blob; worked out from the bytes when absent.
    pub media_type: Option<String>,
    /// Do not keep the arriving bytes.
    pub discard_blob: bool,
    /// The blob's announced size: where the source breaks off, what has come is kept, and the next import of the same
    /// blob goes on from there. Wants [`LayerOptions::blob_digest`].
    pub resume: Option<u64>,
}

impl Layers {
    /// Brings a layer in: hash, inflate and unpack in one pass.
    pub fn import(&self, source: impl Read, options: &LayerOptions) -> Result<Arc<LayerRecord>, LayerError> {
        self.import_by(|_| source, options, one_pass)
    }

    /// As [`Layers::import`]; `open` is told how many of the first bytes are here already and gives the others. A large
    /// one is inflated on a thread of its own.
    pub fn import_resuming<R: Read + Send>(
        &self,
        open: impl FnOnce(u64) -> R,
        options: &LayerOptions,
    ) -> Result<Arc<LayerRecord>, LayerError> {
        let is_large = options.resume.is_some_and(|size| size >= LARGE);
        self.import_by(open, options, if is_large { one_pass_by_two } else { one_pass })
    }

    fn import_by<R: Read>(
        &self,
        open: impl FnOnce(u64) -> R,
        options: &LayerOptions,
        pass: PassFn<Arrival<R>>,
    ) -> Result<Arc<LayerRecord>, LayerError> {
        if let Some(known) = self.known(options) {
            return Ok(known);
        }
        let directory = IngestDirectory::create(self.layout())?;
        let tree = directory.tree()?;
        let arrived = Arrived::default();
        let ingest = match (options.discard_blob, options.resume, &options.blob_digest) {
            (true, _, _) => None,
            (false, Some(size), Some(digest)) if digest.algorithm() == Algorithm::Sha256 => {
                Some(Ingest::resume(self.layout(), digest, size)?)
            }
            (false, _, _) => Some(Ingest::start(self.layout(), Hasher::new(Algorithm::Sha256))?),
        };
        let source = open(ingest.as_ref().map_or(0, Ingest::left));
        // Bytes that are kept are hashed there.
        let own = options
            .blob_digest
            .as_ref()
            .filter(|digest| ingest.is_none() || digest.algorithm() != Algorithm::Sha256);
        let hasher = own.map(|digest| Hasher::new(digest.algorithm()));
        let arrival = Arrival {
            source,
            ingest,
            hasher,
            arrived: arrived.clone(),
            layout: Some(Arc::clone(self.layout())),
        };
        let (arrival, pass) = pass(arrival, tree, arrived)?;
        let blob = arrival.finish(options)?;
        self.complete(pass, blob, directory, options)
    }

    fn known(&self, options: &LayerOptions) -> Option<Arc<LayerRecord>> {
        let known = options.diff_id.as_ref().and_then(|diff_id| self.get(diff_id))?;
        (known.blob.is_some() || options.discard_blob).then_some(known)
    }

    /// Brings in a layer from a file that was hashed when it was written.
    pub(crate) fn import_spooled(
        &self,
        spooled: Spooled,
        options: &LayerOptions,
    ) -> Result<Arc<LayerRecord>, LayerError> {
        if let Some(known) = self.known(options) {
            return Ok(known);
        }
        let directory = IngestDirectory::create(self.layout())?;
        let tree = directory.tree()?;
        let arrived = Arrived::default();
        let file = File::open(spooled.path()).map_err(IoError::new("open", spooled.path()))?;
        let (_, pass) = one_pass(Arrival::plain(file, &arrived), tree, arrived)?;
        self.complete(pass, Some(spooled), directory, options)
    }

    fn complete(
        &self,
        pass: Pass,
        blob: Option<Spooled>,
        directory: IngestDirectory,
        options: &LayerOptions,
    ) -> Result<Arc<LayerRecord>, LayerError> {
        if let (Some(expected), Some(blob)) = (&options.blob_digest, &blob)
            && blob.digest.algorithm() == expected.algorithm()
            && blob.digest != *expected
        {
            return Err(LayerError::BlobDigest { expected: expected.clone(), found: blob.digest.clone() });
        }
        if let Some(expected) = &options.diff_id
            && pass.diff_id != *expected
        {
            return Err(LayerError::DiffId { expected: expected.clone(), found: pass.diff_id });
        }
        let blob = match blob {
            Some(spooled) => {
                let media_type =
                    options.media_type.clone().unwrap_or_else(|| pass.compression.media_type().to_owned());
                let descriptor = Descriptor::new(media_type, spooled.digest.clone(), spooled.size);
                spooled.publish(self.layout())?;
                Some(descriptor)
            }
            None => None,
        };
        if let (Some(_), Some(blob)) = (self.get(&pass.diff_id).filter(|known| known.blob.is_none()), &blob) {
            return self.set_blob(&pass.diff_id, blob.clone());
        }
        let record = LayerRecord {
            diff_id: pass.diff_id,
            size: pass.unpacked.size,
            tar_size: pass.tar_size,
            entries: pass.unpacked.entries,
            blob,
            implicit_directories: implicit_names(pass.unpacked.implicit_directories),
            pinned: false,
            created: files::now(),
            lease: Arc::default(),
        };
        let record = self.publish(record, &directory.path)?;
        directory.published();
        Ok(record)
    }
}

/// Names that are not UTF-8 keep the made-up attributes; no tool that writes such tars is known.
fn implicit_names(paths: Vec<Vec<u8>>) -> Vec<String> {
    paths.into_iter().filter_map(|path| String::from_utf8(path).ok()).collect()
}

const LAYER: UnpackOptions = UnpackOptions { layer: true, owner: None, keep_kinds: false };

/// Unpacks an archive that is no layer (plain, gzip or zstd) below a target: files copied into a
/// container. Nothing is hashed or kept.
pub fn extract(
    source: impl Read,
    target: impl Target,
    options: UnpackOptions,
) -> Result<Unpacked, LayerError> {
    let arrived = Arrived::default();
    let arrival = Arrival::plain(source, &arrived);
    let (decoder, _) = Decoder::detect(BufReader::with_capacity(COPY_BUFFER, arrival))?;
    let mut archive = TarReader::new(decoder);
    let unpacked = unpack(&mut archive, target, options, Limits::new(arrived))?;
    drain(&mut archive.into_inner())?;
    Ok(unpacked)
}

/// What a pass over the bytes found.
struct Pass {
    diff_id: Digest,
    tar_size: u64,
    compression: Compression,
    unpacked: Unpacked,
}

/// A way to do the pass: gives the source back, for what it knows of the bytes.
type PassFn<R> = fn(R, OwnedFd, Arrived) -> Result<(R, Pass), LayerError>;

/// Blobs from this size on are worth a second thread.
const LARGE: u64 = 1 << 20;

fn one_pass<R: Read>(source: R, tree: OwnedFd, arrived: Arrived) -> Result<(R, Pass), LayerError> {
    let (decoder, compression) = Decoder::detect(BufReader::with_capacity(COPY_BUFFER, source))?;
    let (decoder, pass) = unpack_inflated(decoder, compression, tree, arrived)?;
    Ok((rest_of(decoder)?, pass))
}

fn one_pass_by_two<R: Read + Send>(
    source: R,
    tree: OwnedFd,
    arrived: Arrived,
) -> Result<(R, Pass), LayerError> {
    let (decoder, compression) = Decoder::detect(BufReader::with_capacity(COPY_BUFFER, source))?;
    thread::scope(|scope| {
        let (inflated, inflating) = stage::inflate(scope, decoder)?;
        let (_, pass) = unpack_inflated(inflated, compression, tree, arrived)?;
        let decoder = inflating.join().map_err(|_| {
            LayerError::Source(io::Error::other("the thread that inflates ended before its time"))
        })?;
        Ok((rest_of(decoder)?, pass))
    })
}

/// Hashes and unpacks; gives the stream back at its end.
fn unpack_inflated<S: Read>(
    source: S,
    compression: Compression,
    tree: OwnedFd,
    arrived: Arrived,
) -> Result<(S, Pass), LayerError> {
    let hashing = Hashing { source, hasher: Hasher::new(Algorithm::Sha256), count: 0 };
    let mut archive = TarReader::new(hashing);
    let unpacked = unpack(&mut archive, Tree::new(tree), LAYER, Limits::new(arrived))?;
    // Whatever follows the archive's end mark belongs to the digests.
    let mut hashing = archive.into_inner();
    drain(&mut hashing)?;
    let Hashing { source, hasher, count } = hashing;
    Ok((source, Pass { diff_id: hasher.finish(), tar_size: count, compression, unpacked }))
}

/// The source, read to its end: what follows the compressed stream belongs to the blob's digest.
fn rest_of<R: Read>(decoder: Decoder<BufReader<R>>) -> Result<R, LayerError> {
    let mut rest = decoder.into_inner();
    drain(&mut rest)?;
    Ok(rest.into_inner())
}

/// Longest tail read after an archive's end mark (tar pads to 10 KiB; some writers to a megabyte).
const TAIL_MAX: u64 = 64 << 20;

fn drain(source: &mut impl Read) -> Result<(), LayerError> {
    let count = io::copy(&mut source.take(TAIL_MAX + 1), &mut io::sink()).map_err(LayerError::Source)?;
    if count > TAIL_MAX {
        let entry = "(after the end of the archive)".to_owned();
        return Err(LayerError::Limit { entry, what: "size in bytes", limit: TAIL_MAX });
    }
    Ok(())
}

/// The bytes as they arrive: counted, hashed, kept.
struct Arrival<R> {
    source: R,
    ingest: Option<Ingest>,
    /// Only when another digest than the ingest's own is wanted, or nothing is kept.
    hasher: Option<Hasher>,
    arrived: Arrived,
    layout: Option<Arc<Layout>>,
}

impl<R> Arrival<R> {
    /// Bytes that are only counted.
    fn plain(source: R, arrived: &Arrived) -> Self {
        Arrival { source, ingest: None, hasher: None, arrived: arrived.clone(), layout: None }
    }
}

impl<R: Read> Arrival<R> {
    /// Reads on at the source, and keeps what has come where it breaks off.
    fn read_source(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.source.read(buffer);
        if let (Err(error), Some(ingest), Some(layout)) = (&result, &mut self.ingest, &self.layout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            ingest.keep_for_later(layout);
        }
        result
    }
}

impl<R: Read> Read for Arrival<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(ingest) = &mut self.ingest {
            let count = ingest.read_left(buffer)?;
            if count > 0 {
                self.arrived.add(count as u64);
                return Ok(count);
            }
        }
        let count = self.read_source(buffer)?;
        self.arrived.add(count as u64);
        if let Some(ingest) = &mut self.ingest {
            ingest.write(&buffer[..count]).map_err(io::Error::other)?;
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        Ok(count)
    }
}

impl<R> Arrival<R> {
    fn finish(self, options: &LayerOptions) -> Result<Option<Spooled>, LayerError> {
        if let (Some(hasher), Some(expected)) = (self.hasher, &options.blob_digest) {
            let found = hasher.finish();
            if found != *expected {
                return Err(LayerError::BlobDigest { expected: expected.clone(), found });
            }
        }
        Ok(self.ingest.map(Ingest::finish))
    }
}

/// The inflated bytes: hashed and counted.
struct Hashing<S> {
    source: S,
    hasher: Hasher,
    count: u64,
}

impl<S: Read> Read for Hashing<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.count += count as u64;
        Ok(count)
    }
}

/// A layer's directory while it is unpacked; discarded unless published.
struct IngestDirectory {
    path: PathBuf,
    layout: Arc<Layout>,
    keep: bool,
}

impl IngestDirectory {
    fn create(layout: &Arc<Layout>) -> Result<IngestDirectory, IoError> {
        let path = layout.ingest();
        files::create_dir(&path, 0o700)?;
        let directory = IngestDirectory { path, layout: Arc::clone(layout), keep: false };
        files::create_dir(&directory.path.join("fs"), 0o755)?;
        Ok(directory)
    }

    fn tree(&self) -> Result<OwnedFd, IoError> {
        let path = self.path.join("fs");
        Ok(fs::File::open(&path).map_err(IoError::new("open", &path))?.into())
    }

    fn published(mut self) {
        self.keep = true;
    }
}

impl Drop for IngestDirectory {
    fn drop(&mut self) {
        if !self.keep {
            // After an error; what cannot be moved now is swept at the next start.
            let _ = self.layout.discard(&self.path);
        }
    }
}
