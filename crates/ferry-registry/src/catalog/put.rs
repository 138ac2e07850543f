//! What adds: blobs, mounts, manifests, tags.

use ferry_oci::Digest;
use redb::ReadableTable;

use super::record::{TrashRecord, decode, encode};
use super::{
    BLOBS, CANDIDATES, CONTENTS, COPIES, Catalog, HOLDERS, LINKS, MANIFESTS, ManifestRecord, REFERRERS,
    REPOSITORIES, TAGS, TRASH, TagRecord, USES, key2, key3,
};
use crate::database::DatabaseError;
use crate::name::Name;
use crate::transaction::Transaction;

/// A manifest to be put, checked and parsed.
#[derive(Debug)]
pub struct NewManifest {
    /// Where to.
    pub name: Name,
    /// Its digest.
    pub digest: Digest,
    /// Its record.
    pub record: ManifestRecord,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Tags that shall point to it.
    pub tags: Vec<String>,
    /// Its entry among its subject's referrers.
    pub descriptor: Option<serde_json::Value>,
    /// Whether its blobs may be missing, as they are while a cache fills.
    pub blobs_may_miss: bool,
}

fn ensure_repository(transaction: &Transaction, name: &str, now: u64) -> Result<(), DatabaseError> {
    let mut repositories = transaction.open_table(REPOSITORIES)?;
    if repositories.get(name)?.is_none() {
        repositories.insert(name, now.to_le_bytes().as_slice())?;
    }
    Ok(())
}

pub(super) fn link(
    transaction: &Transaction,
    name: &str,
    digest: &str,
    now: u64,
) -> Result<(), DatabaseError> {
    ensure_repository(transaction, name, now)?;
    let now = now.to_le_bytes();
    transaction.open_table(LINKS)?.insert(key2(name, digest).as_str(), now.as_slice())?;
    transaction.open_table(HOLDERS)?.insert(key2(digest, name).as_str(), [].as_slice())?;
    transaction.open_table(CANDIDATES)?.insert(key2(name, digest).as_str(), now.as_slice())?;
    Ok(())
}

impl Catalog {
    /// A repository has a blob, whose file is in place.
    pub async fn add_blob(
        &self,
        name: &Name,
        digest: &Digest,
        size: u64,
        now: u64,
    ) -> Result<(), DatabaseError> {
        let (name, digest) = (name.to_string(), digest.to_string());
        let write = move |transaction: &Transaction| {
            transaction.open_table(BLOBS)?.insert(digest.as_str(), size.to_le_bytes().as_slice())?;
            link(transaction, &name, &digest, now)
        };
        self.database.write(write).await
    }

    /// Gives a repository a blob that one of `sources` has; false where none of them has it.
    pub async fn mount(
        &self,
        name: &Name,
        digest: &Digest,
        sources: Vec<String>,
        now: u64,
    ) -> Result<bool, DatabaseError> {
        let (name, digest) = (name.to_string(), digest.to_string());
        let write = move |transaction: &Transaction| {
            let found = {
                let links = transaction.open_table(LINKS)?;
                let mut found = false;
                for source in &sources {
                    found = found || links.get(key2(source, &digest).as_str())?.is_some();
                }
                found && transaction.open_table(BLOBS)?.get(digest.as_str())?.is_some()
            };
            if found {
                link(transaction, &name, &digest, now)?;
            }
            Ok(found)
        };
        self.database.write(write).await
    }

    /// Somebody was told that a blob is there: where nothing refers to it, its grace starts anew. Costs a write
    /// only where a good part of the grace has gone.
    pub async fn touch(
        &self,
        name: &Name,
        digest: &Digest,
        now: u64,
        grace: u64,
    ) -> Result<(), DatabaseError> {
        let key = key2(name.as_str(), &digest.to_string());
        let since = {
            let transaction = self.database.read()?;
            let candidates = transaction.open_table(CANDIDATES)?;
            let since = candidates.get(key.as_str())?;
            since.map(|since| super::time_of(since.value()))
        };
        if since.is_none_or(|since| now.saturating_sub(since) * 4 < grace) {
            return Ok(());
        }
        let write = move |transaction: &Transaction| {
            let mut candidates = transaction.open_table(CANDIDATES)?;
            if candidates.get(key.as_str())?.is_some() {
                candidates.insert(key.as_str(), now.to_le_bytes().as_slice())?;
            }
            Ok(())
        };
        self.database.write(write).await
    }

    /// Puts a manifest and its tags. Gives the first blob that the repository lacks instead, where one is.
    pub async fn put_manifest(&self, new: NewManifest) -> Result<Result<(), Digest>, DatabaseError> {
        self.database.write(move |transaction| put_manifest(transaction, &new)).await
    }

    /// A tag was found to be right at its upstream.
    pub async fn set_tag(&self, name: &Name, tag: &str, record: TagRecord) -> Result<(), DatabaseError> {
        let key = key2(name.as_str(), tag);
        let write = move |transaction: &Transaction| {
            let value = encode(&key, &record)?;
            transaction.open_table(TAGS)?.insert(key.as_str(), value.as_slice())?;
            Ok(())
        };
        self.database.write(write).await
    }

    /// Takes a manifest out of the trash again, with those of its tags that nothing else has taken since.
    pub async fn undelete(&self, name: &Name, digest: &Digest, now: u64) -> Result<bool, DatabaseError> {
        let (name, digest) = (name.to_string(), digest.clone());
        let write = move |transaction: &Transaction| {
            let text = digest.to_string();
            let key = key2(&name, &text);
            let entry = {
                let trash = transaction.open_table(TRASH)?;
                let entry = trash.get(key.as_str())?;
                entry.map(|entry| decode::<TrashRecord>(&key, entry.value())).transpose()?
            };
            let Some(entry) = entry else { return Ok(false) };
            let value = encode(&key, &entry.record)?;
            ensure_repository(transaction, &name, now)?;
            transaction.open_table(TRASH)?.remove(key.as_str())?;
            transaction.open_table(MANIFESTS)?.insert(key.as_str(), value.as_slice())?;
            put_descriptor(
                transaction,
                &name,
                &text,
                entry.record.subject.as_ref(),
                entry.descriptor.as_ref(),
            )?;
            let mut tags = transaction.open_table(TAGS)?;
            for tag in &entry.tags {
                let key = key2(&name, tag);
                if tags.get(key.as_str())?.is_none() {
                    let value = encode(&key, &TagRecord { digest: digest.clone(), set: now })?;
                    tags.insert(key.as_str(), value.as_slice())?;
                }
            }
            Ok(true)
        };
        self.database.write(write).await
    }
}

fn put_manifest(transaction: &Transaction, new: &NewManifest) -> Result<Result<(), Digest>, DatabaseError> {
    let name = new.name.as_str();
    let digest = new.digest.to_string();
    let key = key2(name, &digest);
    if !new.blobs_may_miss {
        let links = transaction.open_table(LINKS)?;
        let blobs = transaction.open_table(BLOBS)?;
        for blob in &new.record.blobs {
            let text = blob.to_string();
            if links.get(key2(name, &text).as_str())?.is_none() || blobs.get(text.as_str())?.is_none() {
                return Ok(Err(blob.clone()));
            }
        }
    }
    let value = encode(&key, &new.record)?;
    ensure_repository(transaction, name, new.record.pushed)?;
    transaction.open_table(MANIFESTS)?.insert(key.as_str(), value.as_slice())?;
    transaction.open_table(COPIES)?.insert(key2(&digest, name).as_str(), [].as_slice())?;
    transaction.open_table(CONTENTS)?.insert(digest.as_str(), new.bytes.as_slice())?;
    transaction.open_table(TRASH)?.remove(key.as_str())?;
    let mut uses = transaction.open_table(USES)?;
    for blob in &new.record.blobs {
        uses.insert(key3(name, &blob.to_string(), &digest).as_str(), [].as_slice())?;
    }
    let mut tags = transaction.open_table(TAGS)?;
    for tag in &new.tags {
        let key = key2(name, tag);
        let value = encode(&key, &TagRecord { digest: new.digest.clone(), set: new.record.pushed })?;
        tags.insert(key.as_str(), value.as_slice())?;
    }
    put_descriptor(transaction, name, &digest, new.record.subject.as_ref(), new.descriptor.as_ref())?;
    Ok(Ok(()))
}

fn put_descriptor(
    transaction: &Transaction,
    name: &str,
    digest: &str,
    subject: Option<&Digest>,
    descriptor: Option<&serde_json::Value>,
) -> Result<(), DatabaseError> {
    if let (Some(subject), Some(descriptor)) = (subject, descriptor) {
        let key = key3(name, &subject.to_string(), digest);
        let value = encode(&key, descriptor)?;
        transaction.open_table(REFERRERS)?.insert(key.as_str(), value.as_slice())?;
    }
    Ok(())
}
