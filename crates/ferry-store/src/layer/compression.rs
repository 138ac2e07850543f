//! How layers are compressed, told from their first bytes, and the matching decoder.

use std::io::{self, BufRead, Read};

use ferry_oci::image::media_type;

use super::error::LayerError;

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, possibly of several members.
    Gzip,
    /// Zstandard, possibly of several frames.
    Zstd,
}

/// Largest window a zstd stream may ask for (128 MiB, what the zstd tool accepts by default).
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

impl Compression {
    /// Tells the compression from the first bytes.
    pub fn detect(start: &[u8]) -> Result<Compression, LayerError> {
        match start {
            [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Compression::Zstd),
            // A skippable frame may come first.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', ..] => Err(LayerError::UnsupportedCompression("xz")),
            [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', b'Y', ..] => {
                Err(LayerError::UnsupportedCompression("bzip2"))
            }
            _ => Ok(Compression::None),
        }
    }

    /// The OCI media type of a layer so compressed.
    pub fn media_type(self) -> &'static str {
        match self {
            Compression::None => media_type::OCI_LAYER,
            Compression::Gzip => media_type::OCI_LAYER_GZIP,
            Compression::Zstd => media_type::OCI_LAYER_ZSTD,
        }
    }
}

/// Inflates a stream.
pub enum Decoder<R: BufRead> {
    /// Passes through.
    Plain(R),
    /// gzip.
    Gzip(Box<flate2::bufread::MultiGzDecoder<R>>),
    /// Zstandard.
    Zstd(Box<zstd::Decoder<'static, R>>),
}

impl<R: BufRead> Decoder<R> {
    /// Looks at the first bytes of `source` and picks the decoder.
    pub fn detect(mut source: R) -> Result<(Decoder<R>, Compression), LayerError> {
        let start = source.fill_buf().map_err(LayerError::Source)?;
        let compression = Compression::detect(start)?;
        let decoder = match compression {
            Compression::None => Decoder::Plain(source),
            Compression::Gzip => Decoder::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(source))),
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(source).map_err(LayerError::Source)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(LayerError::Source)?;
                Decoder::Zstd(Box::new(decoder))
            }
        };
        Ok((decoder, compression))
    }

    /// The compressed stream, wherever the decoder stopped.
    pub fn into_inner(self) -> R {
        match self {
            Decoder::Plain(source) => source,
            Decoder::Gzip(decoder) => decoder.into_inner(),
            Decoder::Zstd(decoder) => decoder.finish(),
        }
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Plain(source) => source.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
        }
    }
}
