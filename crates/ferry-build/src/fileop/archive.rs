//! Telling archives by their first bytes, and reading them uncompressed.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

/// How a tar is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip
    Gzip,
    /// bzip2
    Bzip2,
    /// xz
    Xz,
    /// Zstandard
    Zstd,
}

/// Where `ustar` stands in a tar's first header.
const TAR_MAGIC_OFFSET: usize = 257;

/// Length of a tar header.
const TAR_BLOCK: usize = 512;

impl Compression {
    /// By the first bytes; `None` of the option when they begin neither a tar nor a compressed file.
    pub fn detect(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [b'B', b'Z', b'h', ..] => Some(Self::Bzip2),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            _ if head.get(TAR_MAGIC_OFFSET..TAR_MAGIC_OFFSET + 5) == Some(b"ustar") => Some(Self::None),
            _ => None,
        }
    }

    /// The uncompressed bytes.
    pub fn reader<'a>(self, source: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::None => Box::new(source),
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(source))),
            Self::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(BufReader::new(source))),
            Self::Xz => Box::new(lzma_rust2::XzReader::new(BufReader::new(source), true)),
            Self::Zstd => Box::new(zstd::stream::read::Decoder::new(source)?),
        })
    }
}

/// Tells whether a file is an archive: a tar, or something compressed that begins as a tar. A
/// compressed file that holds no tar is none. The file is rewound.
pub fn detect_compression(file: &mut File) -> io::Result<Option<Compression>> {
    let head = read_head(file)?;
    file.seek(SeekFrom::Start(0))?;
    let Some(compression) = Compression::detect(&head) else { return Ok(None) };
    if compression == Compression::None {
        return Ok(Some(compression));
    }
    let inner = compression.reader(&mut *file).and_then(|mut reader| read_head(&mut reader));
    file.seek(SeekFrom::Start(0))?;
    let is_tar = inner.is_ok_and(|head| Compression::detect(&head) == Some(Compression::None));
    Ok(is_tar.then_some(compression))
}

fn read_head(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(TAR_BLOCK);
    source.take(TAR_BLOCK as u64).read_to_end(&mut head)?;
    Ok(head)
}
