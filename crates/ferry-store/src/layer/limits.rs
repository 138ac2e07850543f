//! Limits against archives made to fill a disk or a memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::LayerError;
use crate::tar::error_text;

/// Most entries of one layer. The largest images known have some 500,000 files; each costs an inode.
pub const ENTRIES_MAX: u64 = 4_000_000;
/// A layer may inflate to this much whatever its compressed size (images of zeros are legitimate).
pub const INFLATED_FREE: u64 = 8 << 30;
/// Beyond [`INFLATED_FREE`], how many times its compressed size a layer may have. Ordinary layers
/// have 2 to 10; gzip's worst is 1032.
pub const INFLATED_RATIO: u64 = 100;

/// Bytes that have arrived, shared between the reader at the bottom and the checks at the top.
#[derive(Clone, Debug, Default)]
pub struct Arrived(Arc<AtomicU64>);

impl Arrived {
    /// Counts further bytes.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Bytes so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The limits of one unpacking.
#[derive(Debug)]
pub struct Limits {
    arrived: Arrived,
    entries: u64,
}

impl Limits {
    /// Limits over a stream whose compressed bytes are counted by `arrived`.
    pub fn new(arrived: Arrived) -> Limits {
        Limits { arrived, entries: 0 }
    }

    /// Entries so far.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Counts an entry.
    pub fn entry(&mut self, path: &[u8]) -> Result<(), LayerError> {
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(exceeded(path, "number of entries", ENTRIES_MAX));
        }
        Ok(())
    }

    /// Checks how much the stream has inflated to.
    pub fn inflated(&self, path: &[u8], bytes: u64) -> Result<(), LayerError> {
        let limit = INFLATED_FREE.max(self.arrived.get().saturating_mul(INFLATED_RATIO));
        if bytes > limit {
            return Err(exceeded(path, "inflated size in bytes", limit));
        }
        Ok(())
    }
}

fn exceeded(path: &[u8], what: &'static str, limit: u64) -> LayerError {
    LayerError::Limit { entry: error_text(path), what, limit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_is_told_from_a_large_layer() {
        let arrived = Arrived::default();
        let limits = Limits::new(arrived.clone());
        assert!(limits.inflated(b"zeros", INFLATED_FREE).is_ok());
        let error = limits.inflated(b"zeros", INFLATED_FREE + 1).unwrap_err().to_string();
        assert!(
            error.contains("\"zeros\": inflated size in bytes exceeds the limit of 8589934592"),
            "{error}"
        );
        arrived.add(INFLATED_FREE);
        assert!(limits.inflated(b"large", INFLATED_FREE * INFLATED_RATIO).is_ok());
    }
}
