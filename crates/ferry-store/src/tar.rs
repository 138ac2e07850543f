//! Tar archives as streams: what layers, `docker save` files and `cp` are made of.
//!
//! Owns the format: ustar, GNU (long names, base-256 numbers, sparse files) and PAX (long names,
//! large numbers, nanoseconds, extended attributes, the three sparse encodings). Never touches a
//! file system. The reader takes untrusted bytes: every length is limited before memory is taken,
//! and an error names the entry or the offset, and what is wrong.

mod error;
mod header;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use error::TarError;
pub(crate) use error::printable as error_text;
pub use header::EntryKind;
pub use reader::{Entry, TarReader};
pub use sparse::Segment;
pub use writer::{EntryHeader, TarWriter};

/// Size of headers, and what data is padded to.
pub const BLOCK: usize = 512;
/// Largest extended header or GNU long name (what Go's reader takes).
pub const EXTENDED_HEADER_MAX: u64 = 1 << 20;
/// Longest path or link target in an entry: Linux's PATH_MAX.
pub const NAME_MAX: usize = 4096;
/// Most pieces of one sparse file. A file system's own fragments stay far below.
pub const SPARSE_SEGMENTS_MAX: usize = 1 << 20;
/// Largest file, ext4's limit; a header that says more is lying.
pub const FILE_SIZE_MAX: u64 = 16 << 40;

/// Bytes of padding after `size` bytes of data.
fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}
