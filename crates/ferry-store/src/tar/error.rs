//! What is wrong with an archive, and where.

use std::io;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream ends inside something.
    #[error("archive is truncated at byte {offset}, inside {inside}")]
    Truncated {
        /// Bytes read.
        offset: u64,
        /// `a header` or the entry.
        inside: String,
    },
    /// A header's checksum is wrong: no tar, or damaged.
    #[error("no tar header at byte {offset} (its checksum is wrong)")]
    Checksum {
        /// Where the header should start.
        offset: u64,
    },
    /// A number field holds something else.
    #[error("tar header at byte {offset}: {field} is not a number ({text:?})")]
    Number {
        /// Where the header starts.
        offset: u64,
        /// Which field.
        field: &'static str,
        /// Its text.
        text: String,
    },
    /// A number that is out of bounds.
    #[error("entry {entry:?}: {field} {value} is out of range (at most {limit})")]
    Range {
        /// The entry.
        entry: String,
        /// Which field.
        field: &'static str,
        /// Its value.
        value: String,
        /// The limit.
        limit: u64,
    },
    /// A PAX header is malformed.
    #[error("extended header at byte {offset}: {reason} ({record:?})")]
    Pax {
        /// Where its data starts.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
        /// The record.
        record: String,
    },
    /// A sparse map is malformed.
    #[error("entry {entry:?}: sparse map: {reason}")]
    Sparse {
        /// The entry.
        entry: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A name is too long or holds a NUL.
    #[error("entry {entry:?}: {field} {reason}")]
    Name {
        /// The entry (shortened).
        entry: String,
        /// `path` or `link target`.
        field: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// The stream itself failed (inflating, network, disk).
    #[error("cannot read the archive at byte {offset}")]
    Source {
        /// Bytes read.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Bytes of an archive as text for an error, shortened.
pub fn printable(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 160;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_MAX)]).into_owned();
    if bytes.len() > SHOWN_MAX { text + "..." } else { text }
}
