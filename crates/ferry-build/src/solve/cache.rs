//! The records of finished steps, in the store's database and mirrored in memory. A record that
//! cannot be read, or whose layers are gone, is a miss and never a failure.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use ferry_oci::Digest;
use ferry_store::{Batch, DatabaseError, LayerRecord, Store, Table};
use serde::{Deserialize, Serialize};

use super::key::{Prepared, StepKey};

/// Version of the records; others are misses.
const RECORD_VERSION: u32 = 1;

/// What is kept of a step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CacheRecord {
    version: u32,
    /// All layers of the resulting tree, lowest first.
    pub layers: Vec<Digest>,
    /// The layer that the step itself made, when it changed anything.
    pub added: Option<Digest>,
    /// The date of the tree, RFC 3339.
    pub created: String,
    /// When the step was done, RFC 3339.
    #[serde(default)]
    pub done: String,
    /// When it was last of use, seconds since 1970.
    pub last_used: i64,
    /// How often it was of use.
    pub uses: u64,
    /// Bytes of the layer that the step made.
    pub size: u64,
    /// The step's name.
    pub description: String,
    /// Digest of the operation alone.
    pub op: String,
    /// What went into the definition key.
    pub parts: Vec<(String, String)>,
    /// Content keys that lead here.
    pub aliases: Vec<String>,
    /// Digests of single files, as far as they are few.
    #[serde(default)]
    pub files: Vec<(String, String)>,
}

impl CacheRecord {
    /// Whether this version wrote it.
    pub(super) fn is_current(&self) -> bool {
        self.version == RECORD_VERSION
    }

    /// As it is when it is new to a machine.
    pub(super) fn unused(self) -> Self {
        Self { last_used: now(), uses: 0, ..self }
    }
}

/// A line of `builder du`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheUsage {
    /// The record's key.
    pub id: String,
    /// What made it.
    pub description: String,
    /// Bytes of its own layer.
    pub size: u64,
    /// When it was made.
    pub created: String,
    /// When it was last of use, seconds since 1970.
    pub last_used: i64,
    /// How often it was of use.
    pub uses: u64,
    /// An image has its layer too, so that removing the record frees nothing.
    pub shared: bool,
}

/// What `builder prune` removes.
#[derive(Debug, Clone, Default)]
pub struct PruneOptions {
    /// Records that images share too.
    pub all: bool,
    /// Only what was not of use since, seconds since 1970.
    pub unused_since: Option<i64>,
    /// Keep this many bytes of the youngest.
    pub keep_bytes: Option<u64>,
    /// Only these records; None means any.
    pub only: Option<HashSet<String>>,
}

/// The cache.
pub struct Cache {
    pub(super) store: Arc<Store>,
    table: Table<CacheRecord>,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) records: HashMap<String, CacheRecord>,
    /// Content key to definition key.
    aliases: HashMap<String, String>,
    /// Operations that have ever been done; an operation that has not needs no look by content.
    ops: HashSet<String>,
    /// Steps by name, newest key: what a miss is compared with.
    by_description: HashMap<String, String>,
    /// Layers that were made and not yet made durable; held so that they are not collected.
    pub(super) fresh: HashMap<Digest, Arc<LayerRecord>>,
    /// Records whose use is not written yet.
    pub(super) used: HashSet<String>,
}

impl Cache {
    /// Reads the records.
    pub fn open(store: &Arc<Store>) -> Result<Self, DatabaseError> {
        let table = store.kv::<CacheRecord>("build.cache");
        let mut state = State::default();
        for (key, record) in table.list()? {
            if record.version == RECORD_VERSION {
                state.insert(key, record);
            }
        }
        Ok(Self { store: Arc::clone(store), table, state: Mutex::new(state) })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Finds a step by its definition or its content key.
    pub fn find(&self, key: &StepKey) -> Option<CacheRecord> {
        let mut state = self.state();
        let text = key.to_string();
        let id = state.aliases.get(&text).cloned().unwrap_or(text);
        let record = state.records.get(&id)?;
        if record.layers.iter().any(|layer| self.store.layer(layer).is_none()) {
            tracing::debug!(key = id, "cache record has lost a layer");
            state.remove(&id);
            return None;
        }
        let now = now();
        let record = state.records.get_mut(&id)?;
        record.last_used = now;
        record.uses += 1;
        let found = record.clone();
        state.used.insert(id);
        Some(found)
    }

    /// Whether a look by content could find anything.
    pub fn knows_op(&self, op: &StepKey) -> bool {
        self.state().ops.contains(&op.to_string())
    }

    /// Keeps a finished step. It is found at once, and durable after [`Cache::flush`].
    pub fn insert(&self, prepared: &Prepared, description: &str, step: FinishedStep) {
        let id = prepared.key.to_string();
        let record = CacheRecord {
            version: RECORD_VERSION,
            layers: step.layers,
            added: step.added.as_ref().map(|layer| layer.diff_id.clone()),
            created: step.created,
            done: jiff::Timestamp::now().to_string(),
            last_used: now(),
            uses: 0,
            size: step.added.as_ref().map_or(0, |layer| layer.size),
            description: description.to_owned(),
            op: prepared.op.to_string(),
            parts: prepared.parts.clone(),
            aliases: step.aliases,
            files: prepared.files.clone(),
        };
        let mut state = self.state();
        if let Some(layer) = step.added {
            state.fresh.insert(layer.diff_id.clone(), layer);
        }
        state.used.insert(id.clone());
        state.insert(id, record);
    }

    /// Lets a content key lead to a record that is there.
    pub fn add_alias(&self, prepared: &Prepared, alias: &StepKey) {
        let mut state = self.state();
        let id = prepared.key.to_string();
        let Some(record) = state.records.get_mut(&id) else { return };
        let alias = alias.to_string();
        if !record.aliases.contains(&alias) {
            record.aliases.push(alias.clone());
            state.used.insert(id.clone());
        }
        state.aliases.insert(alias, id);
    }

    /// Makes a definition key lead to the record that was found by content.
    pub fn adopt(&self, prepared: &Prepared, description: &str, found: &CacheRecord, alias: &StepKey) {
        let mut record = found.clone();
        record.parts.clone_from(&prepared.parts);
        record.op = prepared.op.to_string();
        record.files.clone_from(&prepared.files);
        record.description = description.to_owned();
        record.aliases = vec![alias.to_string()];
        let mut state = self.state();
        let id = prepared.key.to_string();
        state.used.insert(id.clone());
        state.insert(id, record);
    }

    /// The layer that the last step of the same name made, where it is still there.
    pub fn last_layer(&self, description: &str) -> Option<Arc<LayerRecord>> {
        let state = self.state();
        let id = state.by_description.get(subject(description))?;
        self.store.layer(state.records.get(id)?.added.as_ref()?)
    }

    /// What differs from the last step of the same name.
    pub fn why_missed(&self, prepared: &Prepared, description: &str) -> Vec<String> {
        let state = self.state();
        let last = state.by_description.get(subject(description)).and_then(|id| state.records.get(id));
        let Some(last) = last else { return vec!["never built before".to_owned()] };
        let mut reasons: Vec<String> = Vec::new();
        for (name, value) in &prepared.parts {
            match last.parts.iter().find(|(other, _)| other == name) {
                Some((_, other)) if other == value => {}
                Some(_) if name.contains("files of") && !last.files.is_empty() => {
                    reasons.extend(changed_files(&last.files, &prepared.files));
                }
                Some(_) => reasons.push(format!("{name} changed")),
                None => reasons.push(format!("{name} is new")),
            }
        }
        let lost =
            last.parts.iter().filter(|(name, _)| !prepared.parts.iter().any(|(other, _)| other == name));
        reasons.extend(lost.map(|(name, _)| format!("{name} is gone")));
        reasons.dedup();
        if reasons.is_empty() {
            reasons.push("its result is no longer in the store".to_owned());
        }
        reasons
    }

    /// Makes new layers, records and uses durable.
    pub fn flush(&self) -> Result<(), ferry_store::LayerError> {
        let (layers, used) = {
            let mut state = self.state();
            (state.fresh.keys().cloned().collect::<Vec<_>>(), std::mem::take(&mut state.used))
        };
        if !layers.is_empty() {
            self.store.layers().persist(&layers)?;
        }
        let mut batch = Batch::new();
        {
            let state = self.state();
            for id in &used {
                if let Some(record) = state.records.get(id) {
                    self.table.put_in(&mut batch, id, record)?;
                }
            }
        }
        self.store.commit(batch)?;
        self.state().fresh.retain(|layer, _| !layers.contains(layer));
        Ok(())
    }

    /// What the cache holds.
    pub fn usage(&self) -> Vec<CacheUsage> {
        let in_images = self.layers_of_images();
        let state = self.state();
        let mut usage: Vec<CacheUsage> = state
            .records
            .iter()
            .map(|(id, record)| CacheUsage {
                id: id.clone(),
                description: record.description.clone(),
                size: record.size,
                created: record.done.clone(),
                last_used: record.last_used,
                uses: record.uses,
                shared: record.added.as_ref().is_some_and(|layer| in_images.contains(layer)),
            })
            .collect();
        usage.sort_by(|a, b| b.last_used.cmp(&a.last_used).then_with(|| a.id.cmp(&b.id)));
        usage
    }

    fn layers_of_images(&self) -> HashSet<Digest> {
        self.store.images().list().iter().flat_map(|image| image.diff_ids()).collect()
    }

    /// Removes records, and layers that nothing else needs; gives their keys and the bytes freed.
    pub fn prune(&self, options: &PruneOptions) -> Result<(Vec<String>, u64), ferry_store::LayerError> {
        let mut kept_bytes = 0;
        let mut removed = Vec::new();
        let mut freed = 0;
        // The usage is sorted by last use, so the youngest are kept first.
        for usage in self.usage() {
            if options.only.as_ref().is_some_and(|only| !only.contains(&usage.id)) {
                continue;
            }
            let too_young = options.unused_since.is_some_and(|since| usage.last_used >= since);
            // What an image has too takes no room of its own.
            let own = if usage.shared { 0 } else { usage.size };
            let within = options.keep_bytes.is_some_and(|keep| kept_bytes + own <= keep);
            if too_young || within || (usage.shared && !options.all) {
                kept_bytes += own;
                continue;
            }
            freed += own;
            removed.push(usage.id);
        }
        self.remove(&removed)?;
        Ok((removed, freed))
    }

    fn remove(&self, ids: &[String]) -> Result<(), ferry_store::LayerError> {
        let mut batch = Batch::new();
        let released = {
            let mut state = self.state();
            let layers: HashSet<Digest> =
                ids.iter().filter_map(|id| state.records.get(id)?.added.clone()).collect();
            for id in ids {
                state.remove(id);
                self.table.remove_in(&mut batch, id);
            }
            let needed: HashSet<&Digest> = state.records.values().flat_map(|record| &record.layers).collect();
            let released: Vec<Digest> = layers.into_iter().filter(|layer| !needed.contains(layer)).collect();
            state.fresh.retain(|layer, _| !released.contains(layer));
            released
        };
        self.store.commit(batch)?;
        self.store.layers().release(&released)?;
        self.store.collect_layers(&released)?;
        Ok(())
    }
}

/// A step that was just done.
pub struct FinishedStep {
    /// All layers of the tree.
    pub layers: Vec<Digest>,
    /// The step's own.
    pub added: Option<Arc<LayerRecord>>,
    /// The date of the tree.
    pub created: String,
    /// Content keys.
    pub aliases: Vec<String>,
}

impl State {
    pub(super) fn insert(&mut self, id: String, record: CacheRecord) {
        self.ops.insert(record.op.clone());
        self.by_description.insert(subject(&record.description).to_owned(), id.clone());
        for alias in &record.aliases {
            self.aliases.insert(alias.clone(), id.clone());
        }
        self.records.insert(id, record);
    }

    fn remove(&mut self, id: &str) {
        let Some(record) = self.records.remove(id) else { return };
        for alias in record.aliases {
            if self.aliases.get(&alias).is_some_and(|target| target == id) {
                self.aliases.remove(&alias);
            }
        }
        let subject = subject(&record.description);
        if self.by_description.get(subject).is_some_and(|newest| newest == id) {
            self.by_description.remove(subject);
        }
    }
}

/// A step's name without its place, which changes with every step added in front of it.
fn subject(description: &str) -> &str {
    description.split_once("] ").map_or(description, |(_, subject)| subject)
}

/// Which files differ; the first few of them.
fn changed_files(before: &[(String, String)], now: &[(String, String)]) -> Vec<String> {
    const SHOWN: usize = 8;
    let before: HashMap<_, _> = before.iter().cloned().collect();
    let mut told: Vec<String> = now
        .iter()
        .filter_map(|(path, key)| match before.get(path) {
            Some(other) if other == key => None,
            Some(_) => Some(format!("file {path} changed")),
            None => Some(format!("file {path} is new")),
        })
        .collect();
    let now: HashSet<&String> = now.iter().map(|(path, _)| path).collect();
    let mut gone: Vec<&String> = before.keys().filter(|path| !now.contains(path)).collect();
    gone.sort();
    told.extend(gone.into_iter().map(|path| format!("file {path} is gone")));
    if told.len() > SHOWN {
        let more = told.len() - SHOWN;
        told.truncate(SHOWN);
        told.push(format!("and {more} more files"));
    }
    if told.is_empty() {
        told.push("the folder itself changed".to_owned());
    }
    told
}

/// Seconds since 1970.
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
