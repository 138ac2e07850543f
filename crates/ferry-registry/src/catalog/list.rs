//! What lists: repositories, tags, referrers, totals.

use std::ops::Bound;

use ferry_oci::Digest;
use redb::{ReadableTable, ReadableTableMetadata};
use serde::Serialize;

use super::record::{TrashRecord, decode};
use super::{
    BLOBS, Catalog, LINKS, MANIFESTS, ManifestRecord, REFERRERS, REPOSITORIES, TAGS, TRASH, TagRecord,
    any_below, below, key2,
};
use crate::database::DatabaseError;
use crate::name::Name;

/// A part of a list.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// The names, in order of their bytes.
    pub names: Vec<String>,
    /// There are more behind them.
    pub more: bool,
}

/// A repository as the web page shows it.
#[derive(Debug, Serialize)]
pub struct RepositorySummary {
    /// Its name.
    pub name: String,
    /// How many tags it has.
    pub tags: usize,
    /// How many manifests.
    pub manifests: usize,
    /// Bytes of its blobs.
    pub size: u64,
}

/// A deleted manifest that can be had back.
#[derive(Debug, Serialize)]
pub struct TrashEntry {
    /// Its repository.
    pub repository: String,
    /// Its digest.
    pub digest: String,
    /// Tags that it had.
    pub tags: Vec<String>,
    /// When it was deleted, in Unix seconds.
    pub deleted: u64,
}

/// What the whole registry holds.
#[derive(Debug, Default, Serialize)]
pub struct Totals {
    /// Repositories.
    pub repositories: u64,
    /// Manifests, one per repository that has it.
    pub manifests: u64,
    /// Tags.
    pub tags: u64,
    /// Blobs, each once.
    pub blobs: u64,
}

impl Catalog {
    /// Repositories that have manifests, behind `last`.
    pub fn repositories(&self, last: Option<&str>, limit: usize) -> Result<Page, DatabaseError> {
        let transaction = self.database.read()?;
        let repositories = transaction.open_table(REPOSITORIES)?;
        let manifests = transaction.open_table(MANIFESTS)?;
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut page = Page { names: Vec::new(), more: false };
        for entry in repositories.range::<&str>((from, Bound::Unbounded))? {
            let (key, _) = entry?;
            if !any_below(&manifests, key.value())? {
                continue;
            }
            if page.names.len() >= limit {
                page.more = true;
                break;
            }
            page.names.push(key.value().to_owned());
        }
        Ok(page)
    }

    /// Tags of a repository, behind `last`.
    pub fn tags(&self, name: &Name, last: Option<&str>, limit: usize) -> Result<Page, DatabaseError> {
        let transaction = self.database.read()?;
        let (low, high) = below(name.as_str());
        let behind = last.map(|last| key2(name.as_str(), last));
        let from = behind.as_deref().map_or(Bound::Included(low.as_str()), Bound::Excluded);
        let mut page = Page { names: Vec::new(), more: false };
        // A `last` from outside may stand behind all that is ours.
        if behind.as_deref().is_some_and(|behind| behind >= high.as_str()) {
            return Ok(page);
        }
        for entry in transaction.open_table(TAGS)?.range::<&str>((from, Bound::Excluded(high.as_str())))? {
            if page.names.len() >= limit {
                page.more = true;
                break;
            }
            let (key, _) = entry?;
            page.names.push(key.value()[low.len()..].to_owned());
        }
        Ok(page)
    }

    /// Every tag of a repository with what it points to.
    pub fn tag_records(&self, name: &str) -> Result<Vec<(String, TagRecord)>, DatabaseError> {
        let transaction = self.database.read()?;
        let (low, high) = below(name);
        let mut records = Vec::new();
        for entry in transaction.open_table(TAGS)?.range(low.as_str()..high.as_str())? {
            let (key, value) = entry?;
            records.push((key.value()[low.len()..].to_owned(), decode(key.value(), value.value())?));
        }
        Ok(records)
    }

    /// The record of a manifest.
    pub fn manifest_record(
        &self,
        name: &str,
        digest: &Digest,
    ) -> Result<Option<ManifestRecord>, DatabaseError> {
        let transaction = self.database.read()?;
        let key = key2(name, &digest.to_string());
        let manifests = transaction.open_table(MANIFESTS)?;
        let record = manifests.get(key.as_str())?;
        record.map(|record| decode(&key, record.value())).transpose()
    }

    /// Descriptors of the manifests that are about `subject`.
    pub fn referrers(&self, name: &Name, subject: &Digest) -> Result<Vec<serde_json::Value>, DatabaseError> {
        let transaction = self.database.read()?;
        let (low, high) = below(&key2(name.as_str(), &subject.to_string()));
        let mut descriptors = Vec::new();
        for entry in transaction.open_table(REFERRERS)?.range(low.as_str()..high.as_str())? {
            let (key, value) = entry?;
            descriptors.push(decode(key.value(), value.value())?);
        }
        Ok(descriptors)
    }

    /// Bytes of all blobs of a repository.
    pub fn repository_size(&self, name: &str) -> Result<u64, DatabaseError> {
        let transaction = self.database.read()?;
        let blobs = transaction.open_table(BLOBS)?;
        let mut size = 0;
        for digest in super::names_below(&transaction.open_table(LINKS)?, name)? {
            size += blobs.get(digest.as_str())?.map_or(0, |size| super::time_of(size.value()));
        }
        Ok(size)
    }

    /// A repository in numbers.
    pub fn summary(&self, name: &str) -> Result<RepositorySummary, DatabaseError> {
        let size = self.repository_size(name)?;
        let transaction = self.database.read()?;
        let (low, high) = below(name);
        let (low, high) = (low.as_str(), high.as_str());
        Ok(RepositorySummary {
            name: name.to_owned(),
            tags: transaction.open_table(TAGS)?.range(low..high)?.count(),
            manifests: transaction.open_table(MANIFESTS)?.range(low..high)?.count(),
            size,
        })
    }

    /// All that is in the trash.
    pub fn trash(&self) -> Result<Vec<TrashEntry>, DatabaseError> {
        let transaction = self.database.read()?;
        let mut entries = Vec::new();
        for entry in transaction.open_table(TRASH)?.iter()? {
            let (key, value) = entry?;
            let record: TrashRecord = decode(key.value(), value.value())?;
            if let Some((repository, digest)) = key.value().split_once('\0') {
                entries.push(TrashEntry {
                    repository: repository.to_owned(),
                    digest: digest.to_owned(),
                    tags: record.tags,
                    deleted: record.deleted,
                });
            }
        }
        Ok(entries)
    }

    /// The registry in numbers.
    pub fn totals(&self) -> Result<Totals, DatabaseError> {
        let transaction = self.database.read()?;
        Ok(Totals {
            repositories: transaction.open_table(REPOSITORIES)?.len()?,
            manifests: transaction.open_table(MANIFESTS)?.len()?,
            tags: transaction.open_table(TAGS)?.len()?,
            blobs: transaction.open_table(BLOBS)?.len()?,
        })
    }

    /// Digests and sizes of all blobs behind `last`, for checks of the files.
    pub fn blobs(&self, last: Option<&str>, limit: usize) -> Result<Vec<(String, u64)>, DatabaseError> {
        let transaction = self.database.read()?;
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = Vec::new();
        for entry in transaction.open_table(BLOBS)?.range::<&str>((from, Bound::Unbounded))?.take(limit) {
            let (key, value) = entry?;
            found.push((key.value().to_owned(), super::time_of(value.value())));
        }
        Ok(found)
    }
}
