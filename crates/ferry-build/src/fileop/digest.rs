//! The digest of a selection: names, kinds, permissions, owners, bytes, links, attributes; never times.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use super::FileError;
use super::index::{HashIndex, Known};
use super::select::Selection;
use super::tree::{Entry, EntryKind, Stamp, Tree, stamp};

/// A digest for cache keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentKey(pub [u8; 32]);

impl std::fmt::Display for ContentKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

/// A file younger than this when it was read may change again without a new time stamp: file systems
/// count time in ticks of up to 10 ms.
const RACY_NANOSECONDS: i128 = 50_000_000;

/// Most files whose digests are remembered: some 100 bytes each.
const MAX_REMEMBERED: usize = 2_000_000;

/// Bytes read at once.
const READ_BUFFER: usize = 256 << 10;

/// Where digests of files come from.
pub trait HashCache {
    /// The digest of a file's bytes and attributes.
    fn file(&self, tree: &Tree, entry: &Entry) -> Result<[u8; 32], FileError>;
}

/// The result of reading a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashed {
    /// Digest of bytes and attributes.
    pub digest: [u8; 32],
    /// The file when it was opened.
    pub stamp: Stamp,
}

/// Digests of files by inode, change time and size: what did not change is not read again. A change
/// is never missed, because the kernel sets the change time and a file that is too young to be told
/// apart from its next change is not remembered.
#[derive(Debug, Default)]
pub struct FileHashes {
    known: Mutex<HashMap<Stamp, [u8; 32]>>,
    /// Learned and not yet in the index.
    learned: Mutex<Vec<Known>>,
    index: Option<HashIndex>,
}

impl HashCache for FileHashes {
    fn file(&self, tree: &Tree, entry: &Entry) -> Result<[u8; 32], FileError> {
        let known = self.lock().get(&entry.stamp).copied();
        if let Some(digest) = known {
            if tree.has_rights() {
                // Who may not read a file may not use what is known of it either.
                tree.open_file(&entry.path).map_err(|errno| FileError::errno("open", &entry.path, errno))?;
            }
            return Ok(digest);
        }
        let hashed = hash_file(tree, entry)?;
        let mut known = self.lock();
        if is_settled(&hashed.stamp) {
            if known.len() >= MAX_REMEMBERED {
                known.clear();
            }
            known.insert(hashed.stamp, hashed.digest);
            drop(known);
            if self.index.is_some() && tree.is_context() {
                self.learned().push((hashed.stamp, hashed.digest));
            }
        }
        Ok(hashed.digest)
    }
}

impl FileHashes {
    /// With what an index knows. An index that cannot be read costs time and nothing else.
    pub fn open(index: HashIndex) -> Self {
        let known = index.load().unwrap_or_else(|error| {
            tracing::warn!(%error, "digests of context files cannot be read");
            Vec::new()
        });
        Self { known: Mutex::new(known.into_iter().collect()), learned: Mutex::default(), index: Some(index) }
    }

    /// Writes what was learned to the index.
    pub fn save(&self) {
        let Some(index) = &self.index else { return };
        // Held while writing, so that two builds do not write into each other's batch.
        let mut learned = self.learned();
        if let Err(error) = index.append(&learned) {
            tracing::warn!(%error, "digests of context files cannot be written");
        }
        learned.clear();
    }

    /// The digest of a file with this stamp, where one was read or copied.
    pub fn known(&self, stamp: &Stamp) -> Option<[u8; 32]> {
        self.lock().get(stamp).copied()
    }

    /// Remembers what is in a file that nobody will change.
    pub fn remember(&self, stamp: Stamp, digest: [u8; 32]) {
        if self.lock().insert(stamp, digest) != Some(digest) && self.index.is_some() {
            self.learned().push((stamp, digest));
        }
    }

    fn learned(&self) -> std::sync::MutexGuard<'_, Vec<Known>> {
        self.learned.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Stamp, [u8; 32]>> {
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How many files are remembered.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn is_settled(stamp: &Stamp) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    i128::try_from(now).is_ok_and(|now| stamp.changed + RACY_NANOSECONDS < now)
}

/// Reads a file; its stamp must be the same before and after.
fn hash_file(tree: &Tree, entry: &Entry) -> Result<Hashed, FileError> {
    let refuse = |errno| FileError::errno("open", &entry.path, errno);
    let descriptor = tree.open_file(&entry.path).map_err(refuse)?;
    let before = rustix::fs::fstat(&descriptor).map_err(refuse)?;
    let mut hasher = blake3::Hasher::new();
    attributes(&descriptor, &mut hasher, &entry.path)?;
    let mut file = std::fs::File::from(descriptor);
    let mut buffer = vec![0; READ_BUFFER.min(usize::try_from(before.st_size).unwrap_or(READ_BUFFER) + 1)];
    loop {
        let length = file.read(&mut buffer).map_err(FileError::io("read", &entry.path))?;
        if length == 0 {
            break;
        }
        hasher.update(&buffer[..length]);
    }
    let after = rustix::fs::fstat(&file).map_err(refuse)?;
    if stamp(&before) != stamp(&after) {
        return Err(FileError::Changed(entry.path.clone()));
    }
    Ok(Hashed { digest: *hasher.finalize().as_bytes(), stamp: stamp(&after) })
}

/// Extended attributes that are copied, as part of the digest.
fn attributes(
    descriptor: &OwnedFd,
    hasher: &mut blake3::Hasher,
    path: &std::path::Path,
) -> Result<(), FileError> {
    for (name, value) in super::copy::read_attributes(descriptor, path)? {
        for field in [&name, &value] {
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
    }
    hasher.update(b"\0");
    Ok(())
}

/// What goes into a digest, gathered: many small pieces one by one take several times as long.
#[derive(Default)]
struct Gathered {
    hasher: blake3::Hasher,
    bytes: Vec<u8>,
}

/// Bytes gathered before they are hashed.
const GATHERED: usize = 32 << 10;

impl Gathered {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() >= GATHERED {
            self.hasher.update(&self.bytes);
            self.bytes.clear();
        }
    }

    /// A length before the bytes keeps neighbouring fields apart.
    fn field(&mut self, bytes: &[u8]) {
        self.add(&(bytes.len() as u64).to_le_bytes());
        self.add(bytes);
    }

    fn finish(mut self) -> [u8; 32] {
        self.hasher.update(&self.bytes);
        *self.hasher.finalize().as_bytes()
    }
}

/// The digest of what a copy takes. Names below a directory are relative to it; the directory's own
/// name does not matter, the name of a single file does.
pub fn selection_key(
    tree: &Tree,
    selection: &Selection,
    hashes: &dyn HashCache,
) -> Result<ContentKey, FileError> {
    let mut hasher = Gathered::default();
    let mut names = HashMap::new();
    for root in &selection.roots {
        let is_directory = root.entry.kind == EntryKind::Directory;
        hasher.field(if is_directory { b"directory" } else { &root.name });
        add_entry(&mut hasher, tree, &root.entry, b"", hashes, &mut names)?;
        for entry in &root.below {
            let relative = root.relative(entry).as_os_str().as_bytes();
            add_entry(&mut hasher, tree, entry, relative, hashes, &mut names)?;
        }
    }
    Ok(ContentKey(hasher.finish()))
}

/// The digest of each file of a selection by its path, to say later on which of them changed; empty where
/// there are more than `limit`.
pub fn file_keys(
    tree: &Tree,
    selection: &Selection,
    hashes: &dyn HashCache,
    limit: usize,
) -> Result<Vec<(String, String)>, FileError> {
    let entries = || selection.roots.iter().flat_map(|root| std::iter::once(&root.entry).chain(&root.below));
    if entries().take(limit + 1).count() > limit {
        return Ok(Vec::new());
    }
    let mut keys = Vec::new();
    for entry in entries().filter(|entry| entry.kind != EntryKind::Directory) {
        let mut hasher = Gathered::default();
        add_entry(&mut hasher, tree, entry, b"", hashes, &mut HashMap::new())?;
        let short = hex::encode(&hasher.finish()[..8]);
        keys.push((entry.path.to_string_lossy().into_owned(), short));
    }
    Ok(keys)
}

/// The digest of a whole tree.
pub fn tree_key(tree: &Tree, hashes: &dyn HashCache, limit: usize) -> Result<ContentKey, FileError> {
    let mut hasher = Gathered::default();
    let mut names = HashMap::new();
    for entry in tree.walk(std::path::Path::new(""), limit)? {
        let path = entry.path.as_os_str().as_bytes().to_vec();
        add_entry(&mut hasher, tree, &entry, &path, hashes, &mut names)?;
    }
    Ok(ContentKey(hasher.finish()))
}

fn add_entry(
    hasher: &mut Gathered,
    tree: &Tree,
    entry: &Entry,
    name: &[u8],
    hashes: &dyn HashCache,
    names: &mut HashMap<(u64, u64), Vec<u8>>,
) -> Result<(), FileError> {
    hasher.field(name);
    hasher.add(&entry.mode.to_le_bytes());
    hasher.add(&entry.uid.to_le_bytes());
    hasher.add(&entry.gid.to_le_bytes());
    match &entry.kind {
        EntryKind::Directory => {
            hasher.add(b"d");
        }
        EntryKind::Link(target) => {
            hasher.add(b"l");
            hasher.field(target);
        }
        EntryKind::Special { file_type, device } => {
            hasher.add(b"s");
            hasher.add(&file_type.to_le_bytes());
            hasher.add(&device.to_le_bytes());
        }
        EntryKind::File => {
            // A second name of a file already seen is another result than a copy of it. Names elsewhere
            // do not matter.
            let first = match entry.links > 1 {
                true => names.entry(entry.stamp.inode).or_insert_with(|| name.to_vec()).as_slice(),
                false => name,
            };
            if first == name {
                hasher.add(b"f");
            } else {
                hasher.add(b"n");
                hasher.field(first);
            }
            hasher.add(&hashes.file(tree, entry)?);
        }
    }
    Ok(())
}
