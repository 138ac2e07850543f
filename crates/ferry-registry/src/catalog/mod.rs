//! The metadata: which repository has which blobs, manifests and tags, and what refers to what.
//!
//! Tables (parts of a key are joined by NUL, which no name can hold):
//!
//! ```text
//! blobs         digest                      size, and the object's place where it is in a bucket
//! loose         digest, place               an object that may be there and is no blob: since when, and who made it
//! links         repository, blob            since when the repository has it
//! holders       blob, repository            the same the other way round
//! uses          repository, blob, manifest  a manifest refers to the blob
//! candidates    repository, blob            since when nothing referred to it, or it was last asked for
//! manifests     repository, manifest        record
//! copies        manifest, repository        the same the other way round
//! contents      manifest                    its bytes
//! tags          repository, tag             record
//! referrers     repository, subject, manifest  descriptor
//! trash         repository, manifest        record and tags of a deleted manifest
//! repositories  repository                  when it was first pushed to
//! ```
//!
//! Garbage is found by reference, never by a walk: a blob is a candidate from its upload on and again from the
//! moment its last manifest goes; the sweep takes candidates that are older than the grace and still unused.

mod delete;
mod list;
mod loose;
mod put;
mod record;

use std::path::Path;

use ferry_oci::Digest;
use redb::{ReadableTable, TableDefinition};

use crate::database::{Database, DatabaseError, Definition, Journal};
use crate::name::{Name, Reference};

pub use delete::Swept;
pub use list::{Page, RepositorySummary, Totals, TrashEntry};
pub use loose::LooseObject;
pub use put::NewManifest;
pub use record::{ManifestRecord, TagRecord};
use record::{decode, time_of};

const BLOBS: Definition = TableDefinition::new("blobs");
const LOOSE: Definition = TableDefinition::new("loose");
const LINKS: Definition = TableDefinition::new("links");
const HOLDERS: Definition = TableDefinition::new("holders");
const USES: Definition = TableDefinition::new("uses");
const CANDIDATES: Definition = TableDefinition::new("candidates");
const MANIFESTS: Definition = TableDefinition::new("manifests");
const COPIES: Definition = TableDefinition::new("copies");
const CONTENTS: Definition = TableDefinition::new("contents");
const TAGS: Definition = TableDefinition::new("tags");
const REFERRERS: Definition = TableDefinition::new("referrers");
const TRASH: Definition = TableDefinition::new("trash");
const REPOSITORIES: Definition = TableDefinition::new("repositories");

const TABLES: &[Definition] = &[
    BLOBS,
    LOOSE,
    LINKS,
    HOLDERS,
    USES,
    CANDIDATES,
    MANIFESTS,
    COPIES,
    CONTENTS,
    TAGS,
    REFERRERS,
    TRASH,
    REPOSITORIES,
];

/// The open metadata.
#[derive(Debug)]
pub struct Catalog {
    database: Database,
}

/// A manifest as served.
#[derive(Debug)]
pub struct StoredManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its record.
    pub record: ManifestRecord,
    /// Its bytes, as they were pushed.
    pub bytes: Vec<u8>,
}

fn key2(first: &str, second: &str) -> String {
    format!("{first}\0{second}")
}

fn key3(first: &str, second: &str, third: &str) -> String {
    format!("{first}\0{second}\0{third}")
}

/// The bounds of all keys whose first parts are these.
fn below(parts: &str) -> (String, String) {
    (format!("{parts}\0"), format!("{parts}\u{1}"))
}

/// Whether any key stands below these parts.
fn any_below<T>(table: &T, parts: &str) -> Result<bool, DatabaseError>
where
    T: ReadableTable<&'static str, &'static [u8]>,
{
    let (low, high) = below(parts);
    Ok(table.range(low.as_str()..high.as_str())?.next().is_some())
}

/// The last parts of all keys below these.
fn names_below<T>(table: &T, parts: &str) -> Result<Vec<String>, DatabaseError>
where
    T: ReadableTable<&'static str, &'static [u8]>,
{
    let (low, high) = below(parts);
    let mut names = Vec::new();
    for entry in table.range(low.as_str()..high.as_str())? {
        let (key, _) = entry?;
        names.push(key.value()[low.len()..].to_owned());
    }
    Ok(names)
}

impl Catalog {
    /// Opens or makes the metadata; as a cache of a journal where there is one.
    pub fn open(path: &Path, journal: Option<Box<dyn Journal>>) -> Result<Catalog, DatabaseError> {
        Ok(Catalog { database: Database::open(path, TABLES, journal)? })
    }

    /// Makes sure that all is known that other instances over the same bucket acknowledged before now.
    pub async fn refresh(&self) -> Result<(), DatabaseError> {
        self.database.refresh().await
    }

    /// Removes what a kill left of the changes in the bucket.
    pub async fn tidy(&self, now: u64) -> Result<usize, DatabaseError> {
        self.database.tidy(now).await
    }

    /// The size of a blob that a repository has.
    pub fn blob(&self, name: &Name, digest: &Digest) -> Result<Option<u64>, DatabaseError> {
        let transaction = self.database.read()?;
        let digest = digest.to_string();
        if transaction.open_table(LINKS)?.get(key2(name.as_str(), &digest).as_str())?.is_none() {
            return Ok(None);
        }
        let blobs = transaction.open_table(BLOBS)?;
        let size = blobs.get(digest.as_str())?;
        Ok(size.map(|size| time_of(size.value())))
    }

    /// Whether any repository has a blob, and its size.
    pub fn blob_anywhere(&self, digest: &Digest) -> Result<Option<u64>, DatabaseError> {
        let transaction = self.database.read()?;
        let blobs = transaction.open_table(BLOBS)?;
        let size = blobs.get(digest.to_string().as_str())?;
        Ok(size.map(|size| time_of(size.value())))
    }

    /// Repositories that have a blob.
    pub fn holders(&self, digest: &Digest) -> Result<Vec<String>, DatabaseError> {
        let transaction = self.database.read()?;
        names_below(&transaction.open_table(HOLDERS)?, &digest.to_string())
    }

    /// Whether anything was ever pushed to a repository, and not all of it was removed.
    pub fn has_repository(&self, name: &Name) -> Result<bool, DatabaseError> {
        let transaction = self.database.read()?;
        Ok(transaction.open_table(REPOSITORIES)?.get(name.as_str())?.is_some())
    }

    /// The digest that a reference means now.
    pub fn resolve(
        &self,
        name: &Name,
        reference: &Reference,
    ) -> Result<Option<(Digest, Option<TagRecord>)>, DatabaseError> {
        match reference {
            Reference::Digest(digest) => Ok(Some((digest.clone(), None))),
            Reference::Tag(tag) => {
                let transaction = self.database.read()?;
                let key = key2(name.as_str(), tag);
                let tags = transaction.open_table(TAGS)?;
                let Some(record) = tags.get(key.as_str())? else { return Ok(None) };
                let record: TagRecord = decode(&key, record.value())?;
                Ok(Some((record.digest.clone(), Some(record))))
            }
        }
    }

    /// A manifest by reference.
    pub fn manifest(
        &self,
        name: &Name,
        reference: &Reference,
    ) -> Result<Option<StoredManifest>, DatabaseError> {
        let Some((digest, _)) = self.resolve(name, reference)? else { return Ok(None) };
        let transaction = self.database.read()?;
        let text = digest.to_string();
        let key = key2(name.as_str(), &text);
        let manifests = transaction.open_table(MANIFESTS)?;
        let Some(record) = manifests.get(key.as_str())? else { return Ok(None) };
        let record = decode(&key, record.value())?;
        let contents = transaction.open_table(CONTENTS)?;
        let Some(bytes) = contents.get(text.as_str())? else { return Ok(None) };
        Ok(Some(StoredManifest { digest, record, bytes: bytes.value().to_vec() }))
    }
}

#[cfg(test)]
mod tests;
