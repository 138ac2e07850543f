//! Layers as registries are given them: the blob that was kept, or one packed now, told about while it grows so that
//! sending need not wait for its end.

use std::fs::File;
use std::io::{self, Write};

use ferry_oci::Digest;
use ferry_oci::image::Descriptor;

use crate::archive::{SaveError, manifest_of, stored_manifest};
use crate::diff::{DiffError, IngestWriter};
use crate::error::IoError;
use crate::image::Image;
use crate::layer::{Compression, LayerError, ParallelGzip};
use crate::store::Store;

/// Level of gzip where nobody says otherwise: the fastest makes noise larger by a twentieth, this one costs little more
/// and does not.
const GZIP_LEVEL: u32 = 3;
/// Level of zstd where nobody says otherwise, as its own tool has it.
const ZSTD_LEVEL: i32 = 3;

/// How somebody wants layers to be packed. Without a wish they are gzip, and what was packed is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackAs {
    /// gzip or zstd.
    pub compression: Compression,
    /// Its level; a middling one when absent.
    pub level: Option<u32>,
}

impl PackAs {
    /// The level that the compression has; out of range is the nearest one.
    fn gzip_level(self) -> flate2::Compression {
        flate2::Compression::new(self.level.unwrap_or(GZIP_LEVEL).clamp(1, 9))
    }

    fn zstd_level(self) -> i32 {
        self.level.and_then(|level| i32::try_from(level).ok()).unwrap_or(ZSTD_LEVEL).clamp(1, 22)
    }
}

/// What is told while a layer is packed.
pub enum Packing {
    /// The file that its bytes come into; it may be read while it grows.
    Begun(File),
    /// It has so many bytes now.
    Grown(u64),
}

impl Store {
    /// The blob of a layer that can be given away as it is: compressed as wanted, or, without a wish, compressed at all
    /// or named by some image's manifest.
    pub fn ready_blob(
        &self,
        diff_id: &Digest,
        wanted: Option<PackAs>,
    ) -> Result<Option<Descriptor>, DiffError> {
        let record = self.layers().get(diff_id).ok_or_else(|| LayerError::NotFound(diff_id.clone()))?;
        let Some(blob) = record.blob.as_ref().filter(|blob| self.blobs().contains(&blob.digest)) else {
            return Ok(None);
        };
        let fits = match wanted {
            None => blob.digest != *diff_id || self.is_named_by_manifest(&blob.digest),
            Some(wanted) => compression_of(blob) == wanted.compression,
        };
        Ok(fits.then(|| blob.clone()))
    }

    /// The blob of a layer as registries are given it, made now where there is none.
    pub fn layer_blob(&self, diff_id: &Digest) -> Result<Descriptor, DiffError> {
        match self.ready_blob(diff_id, None)? {
            Some(blob) => Ok(blob),
            None => self.pack_layer(diff_id, None, |_| Ok(())),
        }
    }

    /// Packs a layer. Packed by nobody's wish it is kept; else it is gone with the file that [`Packing::Begun`] gave.
    /// The same layer packed the same way always gives the same bytes.
    ///
    /// # Errors
    /// Where the layer cannot be read or the file not be written; and what `told` returns, which ends it.
    pub fn pack_layer(
        &self,
        diff_id: &Digest,
        wanted: Option<PackAs>,
        told: impl FnMut(Packing) -> io::Result<()>,
    ) -> Result<Descriptor, DiffError> {
        let how = wanted.unwrap_or(PackAs { compression: Compression::Gzip, level: None });
        let mut target = Telling { ingest: IngestWriter::start(self)?, told, written: 0 };
        let path = target.ingest.path();
        let file = File::open(&path).map_err(IoError::new("open", &path))?;
        (target.told)(Packing::Begun(file)).map_err(DiffError::Write)?;
        let written = self.write_packed(diff_id, how, &mut target);
        target.ingest.fail_first()?;
        written?;
        let spooled = target.ingest.finish();
        let descriptor = Descriptor::new(how.compression.media_type(), spooled.digest.clone(), spooled.size);
        if wanted.is_none() {
            crate::files::sync_path(spooled.path())?;
            spooled.publish(self.layout())?;
            self.layers().keep_blob(diff_id, descriptor.clone())?;
        }
        Ok(descriptor)
    }

    fn write_packed(&self, diff_id: &Digest, how: PackAs, target: &mut impl Write) -> Result<(), DiffError> {
        if how.compression == Compression::Zstd {
            let mut zstd = zstd::Encoder::new(target, how.zstd_level()).map_err(DiffError::Write)?;
            self.layer_tar(diff_id, &mut zstd)?;
            return zstd.finish().map(drop).map_err(DiffError::Write);
        }
        let mut gzip = ParallelGzip::new(target, how.gzip_level()).map_err(DiffError::Write)?;
        self.layer_tar(diff_id, &mut gzip)?;
        gzip.finish().map(drop).map_err(DiffError::Write)
    }

    /// Whether an image came with a manifest that names this blob: then its digest must stay.
    fn is_named_by_manifest(&self, digest: &Digest) -> bool {
        let names = |bytes: &[u8]| {
            let parsed = serde_json::from_slice::<ferry_oci::image::Manifest>(bytes);
            parsed.is_ok_and(|manifest| manifest.layers.iter().any(|layer| layer.digest == *digest))
        };
        let images = self.images().list();
        images.iter().any(|image| image.manifest.as_ref().is_some_and(|manifest| names(&manifest.bytes)))
    }

    /// The manifest that an image came with, and its media type, where it describes blobs that are all here and
    /// compressed as wanted.
    pub fn kept_manifest(
        &self,
        image: &Image,
        wanted: Option<PackAs>,
    ) -> Result<Option<(String, Vec<u8>)>, SaveError> {
        let kept = self.layer_descriptors(image)?;
        let usable = |layer: &Descriptor| {
            self.blobs().contains(&layer.digest)
                && wanted.is_none_or(|wanted| compression_of(layer) == wanted.compression)
        };
        Ok(stored_manifest(image, &kept).filter(|_| kept.iter().all(usable)))
    }

    /// A manifest for an image whose layers have these blobs.
    pub fn manifest_for(&self, image: &Image, layers: &[Descriptor]) -> Result<(String, Vec<u8>), SaveError> {
        manifest_of(image, layers)
    }

    /// The manifest under which an image can be given away, with its media type: the one it came with where that
    /// describes the blobs kept, else a new one. The same image always gives the same bytes.
    pub fn publishable_manifest(&self, image: &Image) -> Result<(String, Vec<u8>), SaveError> {
        if let Some(stored) = self.kept_manifest(image, None)? {
            return Ok(stored);
        }
        let packed = image.layers.iter().map(|layer| self.layer_blob(&layer.diff_id));
        manifest_of(image, &packed.collect::<Result<Vec<_>, _>>()?)
    }
}

fn compression_of(blob: &Descriptor) -> Compression {
    match blob.media_type.as_str() {
        kind if kind.ends_with("zstd") => Compression::Zstd,
        kind if kind.ends_with("gzip") => Compression::Gzip,
        _ => Compression::None,
    }
}

/// Tells how far the writing is.
struct Telling<F> {
    ingest: IngestWriter,
    told: F,
    written: u64,
}

impl<F: FnMut(Packing) -> io::Result<()>> Write for Telling<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.ingest.write(bytes)?;
        self.written += count as u64;
        (self.told)(Packing::Grown(self.written))?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.ingest.flush()
    }
}
