//! Cache records that travel: with an image, or with a set of layers that is kept elsewhere.
//! Records are found again by their keys, which hold nothing of the machine that made them.

use std::collections::HashSet;

use ferry_oci::Digest;
use serde::{Deserialize, Serialize};

use super::cache::{Cache, CacheRecord};

/// The field of an image's configuration that holds records.
pub const CONFIG_FIELD: &str = "ferry.build.cache";

/// Most records taken from one place: many times the steps of the largest Dockerfiles.
const MAX_RECORDS: usize = 100_000;

/// A record with its key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PortableRecord {
    /// Under which it is found.
    key: String,
    /// What is found.
    record: CacheRecord,
}

impl PortableRecord {
    /// The layers it needs, lowest first.
    pub fn layers(&self) -> &[Digest] {
        &self.record.layers
    }
}

impl Cache {
    /// The records of keys, those that are there.
    pub fn portable(&self, keys: &[String]) -> Vec<PortableRecord> {
        let state = self.state();
        let mut seen = HashSet::new();
        keys.iter()
            .filter(|key| seen.insert(*key))
            .filter_map(|key| {
                let record = state.records.get(key)?.clone();
                Some(PortableRecord { key: key.clone(), record })
            })
            .collect()
    }

    /// Takes records whose layers are in the store; gives how many were new. What cannot be read is left out:
    /// a cache may be missing, never wrong.
    pub fn import(&self, value: &serde_json::Value) -> usize {
        let entries = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let mut count = 0;
        for entry in entries.iter().take(MAX_RECORDS) {
            let Ok(portable) = serde_json::from_value::<PortableRecord>(entry.clone()) else { continue };
            count += usize::from(self.import_one(portable));
        }
        count
    }

    fn import_one(&self, portable: PortableRecord) -> bool {
        let PortableRecord { key, record } = portable;
        let whole = record.layers.iter().all(|layer| self.store.layer(layer).is_some());
        if !record.is_current() || !whole {
            return false;
        }
        let mut state = self.state();
        if state.records.contains_key(&key) {
            return false;
        }
        if let Some(layer) = record.added.as_ref().and_then(|layer| self.store.layer(layer)) {
            state.fresh.insert(layer.diff_id.clone(), layer);
        }
        state.used.insert(key.clone());
        state.insert(key, record.unused());
        true
    }
}
