//! Secrets and configs: named values kept for containers, encrypted at rest.
//!
//! Every value is sealed with ChaCha20-Poly1305 under one key per data root, which lies beside the database in
//! a file that root alone reads; id, kind and name are authenticated along with it, so that records cannot be
//! exchanged. A copy of the database without the key tells names and labels, no values.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

use crate::database::{Database, Table};
use crate::error::{DatabaseError, IoError};
use crate::files;
use crate::layout::Layout;

/// Largest value, as in Docker.
const MAX_SECRET: usize = 500 * 1024;
const MAX_CONFIG: usize = 1000 * 1024;
/// Longest name, as in Docker.
const MAX_NAME: usize = 64;
/// Bytes of the key.
const KEY_LENGTH: usize = 32;
/// Characters of an id, as Docker's swarm objects have.
const ID_LENGTH: usize = 25;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VaultKind {
    /// Never shown again.
    Secret,
    /// Shown by inspect.
    Config,
}

impl VaultKind {
    /// The word for messages and paths.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Config => "config",
        }
    }

    fn limit(self) -> usize {
        match self {
            Self::Secret => MAX_SECRET,
            Self::Config => MAX_CONFIG,
        }
    }
}

/// One value without its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultEntry {
    /// Its id.
    pub id: String,
    /// Secret or config.
    pub kind: VaultKind,
    /// Its name, one of a kind.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// When it was made, RFC 3339.
    pub created: String,
    /// When its labels last changed.
    pub updated: String,
    /// Counts changes.
    pub version: u64,
    nonce: String,
    sealed: String,
}

/// Why a value is not stored or not given.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// No such name or id.
    #[error("{} {text} not found", kind.as_str())]
    NotFound {
        /// What was looked for.
        kind: VaultKind,
        /// As given.
        text: String,
    },
    /// The beginning of several ids.
    #[error("{} {text} is ambiguous ({count} matches found)", kind.as_str())]
    Ambiguous {
        /// What was looked for.
        kind: VaultKind,
        /// As given.
        text: String,
        /// How many.
        count: usize,
    },
    /// The name is taken.
    #[error("rpc error: code = AlreadyExists desc = {} {name} already exists", kind.as_str())]
    Exists {
        /// What it is.
        kind: VaultKind,
        /// Its name.
        name: String,
    },
    /// A name that is not allowed.
    #[error("invalid {} name {name:?}, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]", kind.as_str())]
    Name {
        /// What was to be made.
        kind: VaultKind,
        /// As given.
        name: String,
    },
    /// Nothing, or too much.
    #[error("{} data must be larger than 0 and at most {limit} bytes, not {size}", kind.as_str())]
    Size {
        /// What was to be made.
        kind: VaultKind,
        /// Most bytes.
        limit: usize,
        /// Its bytes.
        size: usize,
    },
    /// The key is another one, or the record was tampered with.
    #[error("{} {name} cannot be decrypted: the key in {} is not the one it was stored with", kind.as_str(), key.display())]
    Sealed {
        /// What it is.
        kind: VaultKind,
        /// Its name.
        name: String,
        /// The key's file.
        key: PathBuf,
    },
    /// The key's file is damaged.
    #[error("{} is not a key of 32 bytes", .0.display())]
    Key(PathBuf),
    /// A file.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// The values of one data root.
pub struct Vault {
    table: Table<VaultEntry>,
    key_path: PathBuf,
    /// Read at first use; the lock also makes "is the name free" and "take it" one step.
    key: Mutex<Option<Arc<LessSafeKey>>>,
}

impl Vault {
    pub(crate) fn new(layout: &Layout, database: &Arc<Database>) -> Vault {
        let table = Table::new(database, "vault");
        Vault { table, key_path: layout.vault_key(), key: Mutex::new(None) }
    }

    /// Stores a value under a free name.
    pub fn create(
        &self,
        kind: VaultKind,
        name: &str,
        labels: BTreeMap<String, String>,
        data: &[u8],
    ) -> Result<VaultEntry, VaultError> {
        if !is_name(name) {
            return Err(VaultError::Name { kind, name: name.to_owned() });
        }
        if data.is_empty() || data.len() > kind.limit() {
            return Err(VaultError::Size { kind, limit: kind.limit(), size: data.len() });
        }
        let mut slot = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        let key = self.key_in(&mut slot)?;
        if self.list(kind)?.iter().any(|entry| entry.name == name) {
            return Err(VaultError::Exists { kind, name: name.to_owned() });
        }
        let now = jiff::Timestamp::now().to_string();
        let mut nonce = [0; NONCE_LEN];
        random(&mut nonce);
        let mut entry = VaultEntry {
            id: new_id(),
            kind,
            name: name.to_owned(),
            labels,
            created: now.clone(),
            updated: now,
            version: 1,
            nonce: hex::encode(nonce),
            sealed: String::new(),
        };
        let mut bytes = data.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(nonce, Aad::from(bound(&entry)), &mut bytes)
            .expect("a value below the limit can be sealed");
        entry.sealed = hex::encode(bytes);
        self.table.put(&entry.id, &entry)?;
        Ok(entry)
    }

    /// Every value of a kind, by name.
    pub fn list(&self, kind: VaultKind) -> Result<Vec<VaultEntry>, VaultError> {
        let mut entries = Vec::new();
        for (id, entry) in self.table.list_each()? {
            match entry {
                Ok(entry) if entry.kind == kind => entries.push(entry),
                Ok(_) => {}
                Err(error) => tracing::error!(%id, %error, "a secret or config is left out"),
            }
        }
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(entries)
    }

    /// Finds by id, then by name, then by the beginning of an id.
    pub fn find(&self, kind: VaultKind, text: &str) -> Result<VaultEntry, VaultError> {
        let entries = self.list(kind)?;
        let exact = entries.iter().find(|e| e.id == text).or_else(|| entries.iter().find(|e| e.name == text));
        if let Some(entry) = exact {
            return Ok(entry.clone());
        }
        let by_prefix: Vec<&VaultEntry> =
            entries.iter().filter(|entry| !text.is_empty() && entry.id.starts_with(text)).collect();
        match by_prefix.as_slice() {
            [entry] => Ok((*entry).clone()),
            [] => Err(VaultError::NotFound { kind, text: text.to_owned() }),
            several => Err(VaultError::Ambiguous { kind, text: text.to_owned(), count: several.len() }),
        }
    }

    /// The bytes of a value.
    pub fn open(&self, entry: &VaultEntry) -> Result<Vec<u8>, VaultError> {
        let key = self.key_in(&mut self.key.lock().unwrap_or_else(PoisonError::into_inner))?;
        let refuse =
            || VaultError::Sealed { kind: entry.kind, name: entry.name.clone(), key: self.key_path.clone() };
        let nonce: [u8; NONCE_LEN] =
            hex::decode(&entry.nonce).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(refuse)?;
        let mut bytes = hex::decode(&entry.sealed).map_err(|_| refuse())?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = key.open_in_place(nonce, Aad::from(bound(entry)), &mut bytes).map_err(|_| refuse())?;
        Ok(opened.to_vec())
    }

    /// Replaces the labels; nothing else of a value ever changes.
    pub fn set_labels(&self, entry: &VaultEntry, labels: BTreeMap<String, String>) -> Result<(), VaultError> {
        let updated = jiff::Timestamp::now().to_string();
        let entry = VaultEntry { labels, updated, version: entry.version + 1, ..entry.clone() };
        Ok(self.table.put(&entry.id, &entry)?)
    }

    /// Removes a value.
    pub fn remove(&self, entry: &VaultEntry) -> Result<(), VaultError> {
        Ok(self.table.remove(&entry.id)?)
    }

    /// The key, made at first use.
    fn key_in(&self, slot: &mut Option<Arc<LessSafeKey>>) -> Result<Arc<LessSafeKey>, VaultError> {
        if let Some(key) = slot {
            return Ok(Arc::clone(key));
        }
        let bytes = match fs::read(&self.key_path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut bytes = vec![0; KEY_LENGTH];
                random(&mut bytes);
                files::write_atomic(&self.key_path, &bytes, 0o600, true)?;
                bytes
            }
            Err(error) => return Err(IoError::new("read", &self.key_path)(error).into()),
        };
        let unbound = UnboundKey::new(&CHACHA20_POLY1305, &bytes)
            .map_err(|_| VaultError::Key(self.key_path.clone()))?;
        let key = Arc::new(LessSafeKey::new(unbound));
        *slot = Some(Arc::clone(&key));
        Ok(key)
    }
}

/// What a sealed value belongs to.
fn bound(entry: &VaultEntry) -> String {
    format!("{}\n{}\n{}", entry.kind.as_str(), entry.id, entry.name)
}

fn random(bytes: &mut [u8]) {
    getrandom(bytes, GetRandomFlags::empty()).expect("getrandom cannot fail once the pool is seeded");
}

/// An id in the form of swarm objects: base 36.
fn new_id() -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut bytes = [0; ID_LENGTH];
    random(&mut bytes);
    bytes.iter().map(|byte| char::from(DIGITS[usize::from(*byte) % DIGITS.len()])).collect()
}

fn is_name(name: &str) -> bool {
    let outer = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    name.len() <= MAX_NAME
        && outer(name.chars().next())
        && outer(name.chars().last())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    const NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

    #[test]
    fn values_are_sealed_and_survive() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let vault = store.vault();
        let made = vault.create(VaultKind::Secret, "token", NO_LABELS, b"do not tell").unwrap();
        assert!(!serde_json::to_string(&made).unwrap().contains(&hex::encode("do not tell")));
        let again = vault.create(VaultKind::Secret, "token", NO_LABELS, b"x");
        assert!(matches!(again, Err(VaultError::Exists { .. })));
        // A config may have the name of a secret.
        vault.create(VaultKind::Config, "token", NO_LABELS, b"open").unwrap();
        drop(store);
        let store = Store::open(root.path()).unwrap();
        let found = store.vault().find(VaultKind::Secret, &made.id[..10]).unwrap();
        assert_eq!(store.vault().open(&found).unwrap(), b"do not tell");
        let renamed = VaultEntry { name: "other".to_owned(), ..found.clone() };
        assert!(matches!(store.vault().open(&renamed), Err(VaultError::Sealed { .. })), "names are bound");
        store.vault().remove(&found).unwrap();
        let gone = store.vault().find(VaultKind::Secret, "token");
        assert_eq!(gone.unwrap_err().to_string(), "secret token not found");
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(root.path().join("vault.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn bad_names_and_sizes() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        for name in ["", "-a", "a-", "a b", &"x".repeat(65)] {
            let made = store.vault().create(VaultKind::Secret, name, NO_LABELS, b"x");
            assert!(matches!(made, Err(VaultError::Name { .. })), "{name:?}");
        }
        for size in [0, MAX_SECRET + 1] {
            let made = store.vault().create(VaultKind::Secret, "a", NO_LABELS, &vec![0; size]);
            assert!(matches!(made, Err(VaultError::Size { .. })), "{size}");
        }
        fs::write(root.path().join("vault.key"), "short").unwrap();
        let made = store.vault().create(VaultKind::Config, "a.b_c-1", NO_LABELS, b"x");
        assert!(matches!(made, Err(VaultError::Key(_))));
    }
}
